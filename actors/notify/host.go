package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/perslot"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// TableNotifiers: id → pb.Notifier, what was configured.
	TableNotifiers storage.Table = "notifier"
	// TableStates: id → pb.NotifierState, how far it is.
	TableStates storage.Table = "notifierat"
	// TableOutcomes: id, zero, offset (16 hexadecimal digits) → pb.NotificationOutcome, of messages that were tried.
	TableOutcomes storage.Table = "notice"
)

// ErrNotFound: there is no such notifier.
var ErrNotFound = errors.New("no such notifier")

// Options of a Host.
type Options struct {
	Store  *storage.Store
	Topics *topic.Host
	// Owned gives the record of a slot that this node owns, or nil.
	Owned func(cluster.Slot) *cluster.Ownership
	// LeaseValid says whether this node may act now.
	LeaseValid func() bool
	// Secret opens a notifier's secret.
	Secret func(m *pb.Notifier) (string, error)
	// Publish sends a project's MQTT message by the cluster's broker; drivers.ErrDenied where the topic is another project's.
	Publish func(project, topic string, payload []byte, qos byte, retain bool) error
	// Selected gives the ids of the twins of a selection, and Series what they were: for tables of history. Series blocks until ctx ends.
	Selected func(project string, of *pb.Selection) ([]string, error)
	Series   func(ctx context.Context, q *pb.QuerySeriesRequest) (*pb.QuerySeriesResponse, error)
	// Ask gives a message to the run of a logic, and blocks until it has answered. An error says that it could not be asked, or crashed.
	Ask func(ctx context.Context, a *Asked) (Answered, error)
	// Now is the present, by which quiet hours and limits go.
	Now func() time.Time
	// Node is this node's id.
	Node    string
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// Host runs the notifiers of the slots that this node owns, and is the way to the outbox of any. Safe for concurrent use.
type Host struct {
	*perslot.Host
	o     Options
	words *words

	queued, sent, failed, dropped, failures *metrics.Counter
}

// New makes a host. Close it.
func New(o Options) (*Host, error) {
	w, err := newWords()
	if err != nil {
		return nil, err
	}
	h := &Host{o: o, words: w}
	count := func(name string) *metrics.Counter { return o.Metrics.GetOrCreateCounter("pollux_notifier_" + name) }
	h.queued, h.sent, h.failed = count("queued_total"), count("sent_total"), count("failed_total")
	h.dropped, h.failures = count("dropped_total"), count("failures_total")
	h.Host = perslot.New(perslot.Options{Store: o.Store, Kind: "notifier", Table: TableNotifiers, Owned: o.Owned, Logger: o.Logger, Run: h.run,
		Wanted: func(rec storage.Record) (bool, error) {
			m := &pb.Notifier{}
			err := proto.Unmarshal(rec.Value, m)
			return !m.Paused, err
		}})
	return h, nil
}

// run is the life of one notifier.
func (h *Host) run(life *perslot.Run) error {
	m := &pb.Notifier{}
	if err := proto.Unmarshal(life.Record.Value, m); err != nil {
		return fmt.Errorf("notifier %s: %w", life.Record.Key, err)
	}
	m.Id = life.Record.Key
	r := &run{h: h, m: m, outbox: OutboxOf(m.Id), life: life, ctx: life.Ctx}
	err := r.work()
	if r.way != nil {
		r.way.close()
	}
	return err
}

// Try sends a message past the outbox, once and at once; m's secret is sealed as it is stored. It blocks until the provider has answered,
// or ctx ends.
func (h *Host) Try(ctx context.Context, m *pb.Notifier, n *pb.Notification) (*pb.NotificationOutcome, error) {
	w, err := h.open(m)
	if err != nil {
		return nil, err
	}
	defer w.close()
	out := &pb.NotificationOutcome{State: pb.NotificationState_NOTIFICATION_STATE_QUEUED, Tries: 1, Start: stamp(h.o.Now())}
	all, err := w.recipients(n)
	for _, to := range all {
		if err = w.send(ctx, n, to, out); err != nil {
			break
		}
	}
	if w.through(out); err != nil {
		out.State, out.Error = pb.NotificationState_NOTIFICATION_STATE_FAILED, perslot.Short(w.hide(err))
	}
	out.End = stamp(h.o.Now())
	return out, nil
}
