package sink

import (
	"fmt"
	"log/slog"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/perslot"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/sockets"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// TableSinks: id → pb.Sink, what was configured.
	TableSinks storage.Table = "sink"
	// TableCursors: id → pb.SinkState, how far it is.
	TableCursors storage.Table = "sinkat"
)

// Options of a Host.
type Options struct {
	Store  *storage.Store
	Topics *topic.Host
	// Owned gives the record of a slot that this node owns, or nil.
	Owned func(cluster.Slot) *cluster.Ownership
	// LeaseValid says whether this node may act now.
	LeaseValid func() bool
	// Secret opens a sink's secret.
	Secret func(m *pb.Sink) (string, error)
	// Files is the directory of `file:` sinks; empty: there are none on this node.
	Files string
	// Outgoing is told of MQTT connections to this machine; nil: nobody is.
	Outgoing *sockets.Outgoing
	// Node is this node's id.
	Node    string
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// Host runs the sinks of the slots that this node owns. Safe for concurrent use.
type Host struct {
	*perslot.Host
	o Options

	delivered, missed, refused, failures *metrics.Counter
}

// New makes a host. Close it.
func New(o Options) *Host {
	h := &Host{o: o}
	count := func(name string) *metrics.Counter { return o.Metrics.GetOrCreateCounter("pollux_sink_" + name) }
	h.delivered, h.missed = count("delivered_total"), count("missed_total")
	h.refused, h.failures = count("refused_total"), count("failures_total")
	h.Host = perslot.New(perslot.Options{Store: o.Store, Kind: "sink", Table: TableSinks, Owned: o.Owned, Logger: o.Logger, Run: h.run,
		Wanted: func(rec storage.Record) (bool, error) {
			m := &pb.Sink{}
			err := proto.Unmarshal(rec.Value, m)
			return !m.Paused, err
		}})
	return h
}

// run is the life of one sink.
func (h *Host) run(life *perslot.Run) error {
	m := &pb.Sink{}
	if err := proto.Unmarshal(life.Record.Value, m); err != nil {
		return fmt.Errorf("sink %s: %w", life.Record.Key, err)
	}
	m.Id = life.Record.Key
	r := &run{h: h, m: m, life: life, ctx: life.Ctx}
	err := r.work()
	if r.target != nil {
		r.target.Close()
	}
	return err
}
