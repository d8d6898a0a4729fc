package topic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/perslot"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Kind of the actors of this package.
const Kind = "topic"

// Tables of this package.
const (
	// TableTopics: id → pb.Topic, what was configured.
	TableTopics storage.Table = "stream"
	// TableTails: id → actorv1.TopicRecord.
	TableTails storage.Table = "tail"
	// TableMessages: id, zero, offset (16 hexadecimal digits) → pb.TopicMessage.
	TableMessages storage.Table = "message"
	// TableChannels: id, zero, name → actorv1.ChannelRecord.
	TableChannels storage.Table = "channel"
)

var (
	// ErrNotFound: no such topic or channel.
	ErrNotFound = errors.New("no such topic")
	// ErrDeleting: the topic is being deleted.
	ErrDeleting = errors.New("the topic is being deleted")
	// ErrTooLarge: more bytes than one publication may have.
	ErrTooLarge = errors.New("too large a publication")
	// ErrTooMany: a bound on channels or readers is reached.
	ErrTooMany = errors.New("too many")
	// ErrReaderLost: the topic's owner could not be asked for so long that it counts the reader as gone.
	ErrReaderLost = errors.New("the topic's owner could not be reached")
)

const (
	// maxQueue bounds the calls that wait for a topic's turn, and maxQueueBytes what they carry.
	maxQueue      = 4096
	maxQueueBytes = 8 << 20
	// maxPublish bounds one publication, in bytes as stored.
	maxPublish = 300 << 10
	// letterRoom is what a dead letter, or a message that is replayed, may have more, in bytes: where it comes from and why.
	letterRoom = 8 << 10
	// idleAfter is when a topic that nobody uses leaves memory.
	idleAfter = 5 * time.Minute
	// sweepEvery is how often topics that nobody uses are looked at for messages that are too old.
	sweepEvery = time.Minute
)

// Options of a Host.
type Options struct {
	Store *storage.Store
	// Call brings an envelope to its owner; see cluster.Node.Call.
	Call func(env *cluster.Envelope, done func(cluster.Reply))
	// Owned gives the record of a slot that this node owns, or nil.
	Owned func(cluster.Slot) *cluster.Ownership
	// LeaseValid says whether this node may act now.
	LeaseValid func() bool
	// Full is optional: why nothing may be published now. Cheap.
	Full func() error
	// Share is optional: how many bytes a topic may hold beside its own limits. Cheap.
	Share func(id string) uint64
	// Gather is how long messages are gathered for a reader that has yet to settle others; 0: 10 ms.
	Gather time.Duration
	// Node is this node's id.
	Node    string
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// Host runs the topics of the slots that this node owns, and is the way to topics wherever they are. Safe for concurrent use.
type Host struct {
	o Options

	mu     sync.Mutex
	topics map[string]*topic
	closed bool
	wg     sync.WaitGroup
	stop   chan struct{}

	subs subscriptions

	published, duplicates, delivered, redelivered, acknowledged, trimmed, dead, refused *metrics.Counter
}

// New makes a host. Close it.
func New(o Options) *Host {
	h := &Host{o: o, topics: map[string]*topic{}, stop: make(chan struct{})}
	if h.o.Gather == 0 {
		h.o.Gather = gatherFor
	}
	h.subs.byReader = map[string]*subscription{}
	count := func(name string) *metrics.Counter { return o.Metrics.GetOrCreateCounter("pollux_topic_" + name) }
	h.published, h.duplicates = count("published_total"), count("duplicates_total")
	h.delivered, h.redelivered = count("delivered_total"), count("redelivered_total")
	h.acknowledged, h.trimmed, h.dead = count("acknowledged_total"), count("trimmed_total"), count("dead_total")
	h.refused = count("refused_total")
	o.Metrics.GetOrCreateGauge("pollux_topic_active", func() float64 {
		h.mu.Lock()
		defer h.mu.Unlock()
		return float64(len(h.topics))
	})
	return h
}

// Start begins to look after topics that nobody uses.
func (h *Host) Start() {
	h.wg.Add(1)
	go func() {
		defer h.wg.Done()
		t := time.NewTicker(sweepEvery)
		defer t.Stop()
		for {
			select {
			case <-h.stop:
				return
			case <-t.C:
				h.sweep()
			}
		}
	}()
}

// Close stops everything without effect. Release the slots before.
func (h *Host) Close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	close(h.stop)
	for _, t := range h.topics {
		t.end(true)
	}
	h.mu.Unlock()
	h.wg.Wait()
}

// Target is the address of a topic's actor. It is no twin's id, so a twin of the same name has a slot of its own.
func Target(id string) cluster.Target { return cluster.Target{Kind: Kind, ID: Kind + "/" + id} }

// Handle takes a call for a topic of a slot that this node owns. It does not block; done is called exactly once.
func (h *Host) Handle(env *cluster.Envelope, own *cluster.Ownership, done func(cluster.Reply)) {
	id, ok := cutTarget(env.Target.ID)
	if !ok {
		done(cluster.Reply{Err: fmt.Errorf("topic %q: %w", env.Target.ID, ErrNotFound)})
		return
	}
	r := &request{env: env, done: done, bytes: proto.Size(env.Message)}
	h.mu.Lock()
	err := h.pass(id, own, r)
	h.mu.Unlock()
	if err != nil {
		h.refused.Inc()
		done(cluster.Reply{Err: fmt.Errorf("topic %s: %w", id, err)})
	}
}

func cutTarget(target string) (id string, ok bool) {
	if len(target) <= len(Kind)+1 || target[:len(Kind)+1] != Kind+"/" {
		return "", false
	}
	return target[len(Kind)+1:], true
}

// pass gives a request to a topic, which is activated if need be. The caller has the lock.
func (h *Host) pass(id string, own *cluster.Ownership, r *request) error {
	if h.closed {
		return fmt.Errorf("this node is stopping: %w", cluster.ErrUnavailable)
	}
	t := h.topics[id]
	if t != nil && t.own.Since < own.Since {
		t.end(true) // it was woken for an ownership that had just ended
	}
	if t != nil && (t.leaving || t.own.Since != own.Since) {
		// Its last life is about to end; whoever calls comes again.
		return fmt.Errorf("it is moving: %w", cluster.ErrOverloaded)
	}
	if t == nil {
		t = newTopic(h, id, own)
		h.topics[id] = t
		h.wg.Add(1)
		go t.run()
	}
	return t.take(r)
}

// gone takes a topic out that has stopped. It says no where something came meanwhile and the topic may go on.
func (h *Host) gone(t *topic, idle bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if idle && t.queued.Load() > 0 {
		return false
	}
	if h.topics[t.id] == t {
		delete(h.topics, t.id)
	}
	return true
}

// Release lets go of the topics of some slots: what was taken is committed, what waits is sent to the next owner; lost: they
// stop without effect. done is called when none of them is left, after 8 s at the latest.
func (h *Host) Release(mine func(cluster.Slot) bool, lost bool, done func()) {
	h.mu.Lock()
	var ends []chan struct{}
	for _, t := range h.topics {
		if mine(cluster.SlotOf(Target(t.id).ID)) {
			t.end(lost)
			ends = append(ends, t.ended)
		}
	}
	h.mu.Unlock()
	perslot.WhenEnded(ends, h.o.Logger, "topics", done)
}

// sweep activates topics of this node whose oldest message is too old.
func (h *Host) sweep() {
	for rec, err := range h.o.Store.Scan(TableTopics, "", "") {
		if err != nil {
			h.o.Logger.Warn("look at topics", "err", err)
			return
		}
		own := h.o.Owned(cluster.SlotOf(Target(rec.Key).ID))
		if own == nil || !h.o.LeaseValid() {
			continue
		}
		conf := &pb.Topic{}
		if err := proto.Unmarshal(rec.Value, conf); err != nil {
			continue
		}
		for m, err := range h.o.Store.Scan(TableMessages, rec.Key+"\x00", "") {
			if err == nil && tooOld(conf, m.Value, time.Now()) {
				h.mu.Lock()
				_ = h.pass(rec.Key, own, &request{env: &cluster.Envelope{}, done: func(cluster.Reply) {}})
				h.mu.Unlock()
			}
			break
		}
	}
}

// call brings a message to a topic's owner and waits for the answer, or for ctx.
func (h *Host) call(ctx context.Context, id string, m proto.Message) (proto.Message, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute)
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	env := &cluster.Envelope{ID: newCallID(), Target: Target(id), Message: m, Deadline: deadline}
	for wait, began := 2*time.Millisecond, time.Now(); ; wait = min(2*wait, 100*time.Millisecond) {
		got := make(chan cluster.Reply, 1)
		h.o.Call(env, func(r cluster.Reply) { got <- r })
		select {
		case r := <-got:
			switch {
			case !h.ahead(id, r.Err):
				return r.Message, r.Err
			case time.Since(began) > 5*time.Second:
				return nil, fmt.Errorf("call topic %s: %w: its node has not heard of it yet", id, cluster.ErrUnavailable)
			}
		case <-ctx.Done():
			return nil, fmt.Errorf("call topic %s: %w: %w", id, cluster.ErrUnknown, ctx.Err())
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, fmt.Errorf("call topic %s: %w: its node has not heard of it yet: %w", id, cluster.ErrUnavailable, ctx.Err())
		}
	}
}

// ahead says whether a topic's owner did not find what this node knows: one of them has not applied the log as far as the other.
func (h *Host) ahead(id string, err error) bool {
	if !errors.Is(err, ErrNotFound) {
		return false
	}
	_, ok, err := h.o.Store.Get(TableTopics, id)
	return err == nil && ok
}

// ask is call with a typed answer.
func ask[M proto.Message](ctx context.Context, h *Host, id string, m proto.Message) (M, error) {
	var none M
	r, err := h.call(ctx, id, m)
	if err != nil {
		return none, err
	}
	answer, ok := r.(M)
	if !ok {
		return none, fmt.Errorf("topic %s: unexpected reply %T", id, r)
	}
	return answer, nil
}
