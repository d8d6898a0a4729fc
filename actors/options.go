package actors

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/sockets"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Cluster is what the engine needs of package cluster.
type Cluster interface {
	// Call brings an envelope to its owner. It does not block; done is called exactly once, from any goroutine.
	Call(env *cluster.Envelope, done func(cluster.Reply))
	// Owned gives the record of a slot that this node owns.
	Owned(s cluster.Slot) (cluster.Ownership, bool)
	// Where gives the owner of an id's slot as last seen here; ok is false where it has none.
	Where(id string) (l cluster.Location, ok bool)
	// SlotOf gives the slot in which an id lives, as applied here.
	SlotOf(id string) cluster.Slot
	// Class gives the number of a selector, and records it where it is new.
	Class(ctx context.Context, s cluster.Selector) (cluster.Class, error)
	// Unmet gives the selector of a slot's class where no member satisfies it, else "".
	Unmet(s cluster.Slot) string
	// JournalRead says whether all members read the journal's entries in the log. Cheap.
	JournalRead() bool
	// LeaseValid says whether this node may act now. Cheap.
	LeaseValid() bool
}

// Trace hears what a connection does while somebody watches. data is copied before it returns.
type Trace func(direction pb.TraceTwinResponse_Direction, data []byte)

// Dialer opens a twin's connection. It must not block: the connection dials, and dials again, on its own.
type Dialer func(b drivers.Binding, sink drivers.Sink, trace Trace) (drivers.Conn, error)

// Publish sends an MQTT message to the node's clients. It may be called concurrently, and must not block for long.
type Publish func(topic string, payload []byte, qos byte, retain bool) error

// Options of an engine. Zero values of the limits mean the defaults beside them.
type Options struct {
	Store *storage.Store
	// Cluster may be set later, but before Start, with SetCluster: the engine is the cluster's handler, and so comes first.
	Cluster Cluster
	// Drivers loads a driver's version by the digest of its file. It may block; it is called off the actors' turns, and
	// once for all twins that use the version. The engine closes what it returns.
	Drivers func(ctx context.Context, digest string) (drivers.Runner, error)
	// Dialers by scheme of the URI, such as tcp.
	Dialers map[string]Dialer
	// Clock of the twins; nil: the machine's. Who sets it moves it, and calls Engine.Tick after each move.
	Clock Clock
	// HTTP makes the client of a twin that uses the capability http; nil: it is denied. It must not block.
	HTTP func(b drivers.Binding) (drivers.HTTPClient, error)
	// Publish may be nil, or set later with SetPublish.
	Publish Publish
	Logger  *slog.Logger
	Metrics *metrics.Set
	// Node is this node's id, shown in the twins' status.
	Node string
	// ClusterID is the cluster's: records that name another one came out of a backup.
	ClusterID string
	// Full says why this node takes nothing in that can wait, such as the messages of devices; nil: it takes all. It is asked for each
	// message.
	Full func() error
	// SinkFiles is the directory in which sinks keep files; empty: they cannot here.
	SinkFiles string
	// Outgoing is told of the connections that sinks make to this machine by MQTT; nil: nobody is.
	Outgoing *sockets.Outgoing

	// IdleTimeout after which a twin that nobody needs is passivated: 5 minutes.
	IdleTimeout time.Duration
	// Running is how many driver calls run guest code at a time: twice GOMAXPROCS, at least 4. One driver gets half.
	Running int
	// Waiting is how many calls of one driver may wait for devices at a time: 32, each holds an instance of the guest.
	Waiting int
	// CallTimeout bounds what an event's call waits for: 10 s.
	CallTimeout time.Duration
	// CommandTimeout is a command's where it names none: 5 s.
	CommandTimeout time.Duration
	// ComputeTimeout bounds how long one call's guest may compute: 1 s, far above what an honest driver needs. Neither
	// waiting for an instance nor for the device counts.
	ComputeTimeout time.Duration
	// CheckpointMin and CheckpointMax bound the interval between checkpoints of written-behind values: 1 s and 30 s.
	CheckpointMin, CheckpointMax time.Duration
	// StartRate is how many connected twins are started per second after the slots were gained: 1,000.
	StartRate int
	// TwinQueue bounds what a twin has to do: messages on their way to it, frames and events that wait, answers that wait for
	// their commit: 256. CommandQueue bounds the commands that wait: 64.
	TwinQueue, CommandQueue int
	// TwinBytes bounds the frames that wait inside of a twin: 4 MiB.
	TwinBytes int
	// ShardQueue bounds the messages waiting in a shard: 65,536.
	ShardQueue int
	// OfflineValidity is how long a named command waits for its device where its caller sets no deadline: 1 minute.
	OfflineValidity time.Duration
	// FileWait is how long messages wait for a logic whose file has not arrived at this node: 5 min. Those of topics wait longer.
	FileWait time.Duration
	// BackoffMin and BackoffMax bound the wait after a driver trapped or overran: 1 s doubling to 5 minutes.
	BackoffMin, BackoffMax time.Duration
	// QuarantineAfter is after how many failures in a row a twin's driver is left alone for QuarantineRetry: 8 and an hour.
	QuarantineAfter int
	QuarantineRetry time.Duration
	// TwinQuotas and DriverQuotas bound over time what the driver of one twin may do, and those of all twins of a version on
	// the node. The defaults are in quota.go.
	TwinQuotas, DriverQuotas Quotas
	// WatchQueue bounds the changes waiting for one watcher: 4,096.
	WatchQueue int
	// TopicCache bounds the topics whose twins are remembered: 65,536, about 150 B each.
	TopicCache int
	// Inbox bounds the devices that a project's inbox holds: 10,000.
	Inbox int
}

func (o *Options) check() error {
	switch {
	case o.Store == nil:
		return errors.New("actors: no store")
	case o.Drivers == nil:
		return errors.New("actors: no drivers")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Full == nil {
		o.Full = func() error { return nil }
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	def(&o.IdleTimeout, 5*time.Minute)
	def(&o.Running, max(4, 2*runtime.GOMAXPROCS(0)))
	def(&o.Waiting, 32)
	def(&o.CallTimeout, 10*time.Second)
	def(&o.CommandTimeout, 5*time.Second)
	def(&o.ComputeTimeout, time.Second)
	def(&o.CheckpointMin, time.Second)
	def(&o.CheckpointMax, max(30*time.Second, o.CheckpointMin))
	def(&o.StartRate, 1000)
	def(&o.TwinQueue, 256)
	def(&o.CommandQueue, 64)
	def(&o.TwinBytes, 4<<20)
	def(&o.ShardQueue, 65536)
	def(&o.OfflineValidity, time.Minute)
	def(&o.BackoffMin, time.Second)
	def(&o.FileWait, 5*time.Minute)
	def(&o.BackoffMax, max(5*time.Minute, o.BackoffMin))
	def(&o.QuarantineAfter, 8)
	def(&o.QuarantineRetry, time.Hour)
	for q := range o.TwinQuotas {
		def(&o.TwinQuotas[q].PerSecond, twinQuotas[q].PerSecond)
		def(&o.TwinQuotas[q].Burst, twinQuotas[q].Burst)
		def(&o.DriverQuotas[q].PerSecond, driverQuotas[q].PerSecond)
		def(&o.DriverQuotas[q].Burst, driverQuotas[q].Burst)
	}
	def(&o.WatchQueue, 4096)
	def(&o.TopicCache, 65536)
	def(&o.Inbox, 10_000)
	return nil
}

func def[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}
