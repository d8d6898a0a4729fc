package notify_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// rig is a real store and the topics of a node; the notifiers' slots belong to one host or the other.
type rig struct {
	t      *testing.T
	store  *storage.Store
	topics *topic.Host

	mu        sync.Mutex
	own       *cluster.Ownership
	owner     *notify.Host
	now       time.Time // zero: the machine's clock
	log       bytes.Buffer
	published []string
	twins     []string
	series    func(context.Context, *pb.QuerySeriesRequest) (*pb.QuerySeriesResponse, error)
}

func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	r := &rig{t: t, store: storagetest.OpenSingle(t, "data", vfs.NewMem())}
	all := &cluster.Ownership{Table: "slot", Key: "topics", Value: []byte("n1"), Since: 1}
	r.commit(storage.Write{Table: "slot", Key: "topics", Value: all.Value})
	r.topics = topic.New(topic.Options{Store: r.store, Node: "n1", Logger: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		Call:       func(env *cluster.Envelope, done func(cluster.Reply)) { r.topics.Handle(env, all, done) },
		LeaseValid: func() bool { return true }, Owned: func(cluster.Slot) *cluster.Ownership { return all }})
	t.Cleanup(r.topics.Close)
	return r
}

// Write takes what the hosts log.
func (r *rig) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(b)
}

func (r *rig) logged() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.String()
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now.IsZero() {
		return time.Now()
	}
	return r.now
}

func (r *rig) at(text string) {
	r.t.Helper()
	now, err := time.Parse(time.RFC3339, text)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = now
}

// host makes the notifiers of a node that owns nothing.
func (r *rig) host(name string) *notify.Host {
	r.t.Helper()
	var h *notify.Host
	h, err := notify.New(notify.Options{Store: r.store, Topics: r.topics, Node: name, Logger: slog.New(slog.NewTextHandler(r, nil)), Metrics: metrics.NewSet(),
		LeaseValid: func() bool { return true }, Secret: func(m *pb.Notifier) (string, error) { return m.Secret, nil }, Now: r.clock,
		Selected: func(string, *pb.Selection) ([]string, error) { return r.twins, nil }, Series: r.series,
		Publish: func(_, topic string, payload []byte, _ byte, _ bool) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if topic == "down" {
				return errors.New("the broker is down")
			}
			r.published = append(r.published, topic+" "+string(payload))
			return nil
		},
		Owned: func(cluster.Slot) *cluster.Ownership {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.owner == h {
				return r.own
			}
			return nil
		}})
	if err != nil {
		r.t.Fatal(err)
	}
	h.Start()
	r.t.Cleanup(h.Close)
	return h
}

// give makes a host the owner; the one before is told, as it is when its slots are released.
func (r *rig) give(h *notify.Host) *notify.Host {
	r.t.Helper()
	r.mu.Lock()
	old, since := r.owner, uint64(1)
	if r.own != nil {
		since = r.own.Since + 1
	}
	r.owner = nil
	r.mu.Unlock()
	if old != nil {
		done := make(chan struct{})
		old.Release(func(cluster.Slot) bool { return true }, func() { close(done) })
		<-done
	}
	own := &cluster.Ownership{Table: "slot", Key: "notifiers", Value: fmt.Appendf(nil, "owner %d", since), Since: since}
	r.commit(storage.Write{Table: "slot", Key: "notifiers", Value: own.Value})
	r.mu.Lock()
	r.owner, r.own = h, own
	r.mu.Unlock()
	h.Wake()
	return h
}

func (r *rig) commit(writes ...storage.Write) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := r.store.Commit(ctx, &storage.Txn{Writes: writes}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) write(table storage.Table, key string, m proto.Message) storage.Write {
	r.t.Helper()
	value, err := proto.Marshal(m)
	if err != nil {
		r.t.Fatal(err)
	}
	return storage.Write{Table: table, Key: key, Value: value}
}

// notifier configures one as the registry does: checked, with its outbox. Its tries follow each other at once.
func (r *rig) notifier(m *pb.Notifier) {
	r.t.Helper()
	if m.RetryMin == nil {
		m.RetryMin, m.RetryMax = durationpb.New(10*time.Millisecond), durationpb.New(40*time.Millisecond)
	}
	r.mu.Lock()
	h := r.owner
	r.mu.Unlock()
	if err := h.Check(m, m.Secret != ""); err != nil {
		r.t.Fatal(err)
	}
	r.commit(r.write(notify.TableNotifiers, m.Id, m), r.write(topic.TableTopics, notify.OutboxOf(m.Id), notify.Outbox(m)))
	h.Wake()
}

func (r *rig) send(h *notify.Host, all ...*pb.Notification) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, n := range all {
		if _, err := h.Send(ctx, n); err != nil {
			r.t.Fatal(err)
		}
	}
}

// texts sends n messages, whose bodies count from first on, and whose ids are by them.
func (r *rig) texts(h *notify.Host, id string, first, n int) {
	r.t.Helper()
	for i := range n {
		r.send(h, &pb.Notification{Notifier: id, Id: fmt.Sprintf("k.%d", first+i), Subject: "Alarm", Body: fmt.Sprint(first + i)})
	}
}

// outbox gives what is there, the oldest first, as `BODY STATE`.
func (r *rig) outbox(h *notify.Host, id string) []*pb.Notification {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var all []*pb.Notification
	for token := ""; ; {
		res, err := h.List(ctx, &pb.ListNotificationsRequest{Notifier: id, PageSize: 3, PageToken: token})
		if err != nil {
			r.t.Fatal(err)
		}
		all = append(res.Notifications, all...)
		for i, n := 0, len(res.Notifications); i < n/2; i++ {
			all[i], all[n-1-i] = all[n-1-i], all[i]
		}
		if token = res.NextPageToken; token == "" {
			return all
		}
	}
}

// until waits for a state of a notifier.
func (r *rig) until(h *notify.Host, id, what string, holds func(*pb.NotifierState) bool) *pb.NotifierState {
	r.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		s, err := h.State(id)
		if err != nil {
			r.t.Fatal(err)
		}
		if holds(s) {
			return s
		}
		if time.Now().After(end) {
			r.t.Fatalf("never: %s; the notifier is at %v", what, s)
		}
	}
}

func (r *rig) states(h *notify.Host, id string) string {
	r.t.Helper()
	var all []string
	for _, n := range r.outbox(h, id) {
		all = append(all, n.Body+" "+strings.ToLower(strings.TrimPrefix(n.Outcome.State.String(), "NOTIFICATION_STATE_")))
	}
	return strings.Join(all, ", ")
}
