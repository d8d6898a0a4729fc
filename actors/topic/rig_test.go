package topic_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// patience is how long a test waits for what must come.
const patience = time.Minute

// rig is a real store with hosts that own all slots in turn. Calls go to the one that owns them now; while nobody does they
// wait, as the router has them wait.
type rig struct {
	t     testing.TB
	store *storage.Store
	// metrics are those of the last host.
	metrics *metrics.Set
	// gather is Options.Gather of the hosts.
	gather time.Duration
	// between is asked about each call before it goes to the owner; yes: it has the call, and sees to its answer.
	between atomic.Pointer[func(env *cluster.Envelope, done func(cluster.Reply)) bool]

	mu    sync.Mutex
	owner *topic.Host
	own   *cluster.Ownership
	since uint64
}

func newRig(t testing.TB, opts ...storagetest.Option) *rig {
	t.Helper()
	if t, ok := t.(*testing.T); ok {
		t.Parallel()
	}
	return &rig{t: t, store: storagetest.OpenSingle(t, "data", vfs.NewMem(), opts...)}
}

func (r *rig) host(name string) *topic.Host {
	var h *topic.Host
	r.metrics = metrics.NewSet()
	h = topic.New(topic.Options{Store: r.store, Node: name, Logger: slog.New(slog.DiscardHandler), Metrics: r.metrics, Gather: r.gather,
		Call: r.call, LeaseValid: func() bool { return true },
		Owned: func(cluster.Slot) *cluster.Ownership {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.owner == h {
				return r.own
			}
			return nil
		}})
	r.t.Cleanup(h.Close)
	return h
}

// start gives a host that owns everything.
func (r *rig) start() *topic.Host {
	h := r.host("n1")
	r.give(h)
	return h
}

// give makes a host the owner.
func (r *rig) give(h *topic.Host) {
	r.t.Helper()
	r.mu.Lock()
	r.since++
	value := fmt.Appendf(nil, "owner %d", r.since)
	own := &cluster.Ownership{Table: "slot", Key: "all", Value: value, Since: r.since}
	r.mu.Unlock()
	r.commit(storage.Write{Table: "slot", Key: "all", Value: value})
	r.mu.Lock()
	r.owner, r.own = h, own
	r.mu.Unlock()
}

// take has nobody own anything; lost: without a word to who did.
func (r *rig) take(lost bool) {
	r.mu.Lock()
	h := r.owner
	r.owner = nil
	r.mu.Unlock()
	done := make(chan struct{})
	h.Release(func(cluster.Slot) bool { return true }, lost, func() { close(done) })
	<-done
}

func (r *rig) call(env *cluster.Envelope, done func(cluster.Reply)) {
	if f := r.between.Load(); f == nil || !(*f)(env, done) {
		r.pass(env, done)
	}
}

// pass brings a call to the owner.
func (r *rig) pass(env *cluster.Envelope, done func(cluster.Reply)) {
	r.mu.Lock()
	h, own := r.owner, r.own
	r.mu.Unlock()
	again := func() {
		if !env.Deadline.IsZero() && time.Now().After(env.Deadline) {
			done(cluster.Reply{Err: fmt.Errorf("nobody owns it: %w", cluster.ErrUnavailable)})
			return
		}
		time.AfterFunc(5*time.Millisecond, func() { r.pass(env, done) })
	}
	if h == nil {
		again()
		return
	}
	h.Handle(env, own, func(reply cluster.Reply) {
		if reply.Err != nil && isNotOwner(reply.Err) {
			again()
			return
		}
		done(reply)
	})
}

func (r *rig) commit(writes ...storage.Write) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := r.store.Commit(ctx, &storage.Txn{Writes: writes}); err != nil {
		r.t.Fatal(err)
	}
}

// create writes a topic's record.
func (r *rig) create(conf *pb.Topic) {
	r.t.Helper()
	value, err := proto.Marshal(conf)
	if err != nil {
		r.t.Fatal(err)
	}
	r.commit(storage.Write{Table: topic.TableTopics, Key: conf.Id, Value: value})
}

// drop removes a topic.
func (r *rig) drop(h *topic.Host, id string) {
	r.t.Helper()
	r.create(&pb.Topic{Id: id, Deleting: true})
	rec, _, err := r.store.Get(topic.TableTopics, id)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := h.Drop(limited(r.t), id, rec.Revision); err != nil && !errors.Is(err, topic.ErrNotFound) {
		r.t.Fatal(err)
	}
}

func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

func message(key, payload string) *pb.TopicMessage {
	return &pb.TopicMessage{Key: key, Payload: []byte(payload)}
}

func publish(t testing.TB, h *topic.Host, id string, messages ...*pb.TopicMessage) *pb.PublishResponse {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := h.Publish(ctx, &pb.PublishRequest{Topic: id, Messages: messages})
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	return r
}

func (r *rig) count(table string) (int, error) { return r.store.Count(storage.Table(table), "") }
