package sink_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/sink"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// changes is the topic of all tests.
const changes = "default/changes"

// rig is a real store and the topics of a node; the sinks' slots belong to one host or the other.
type rig struct {
	t      *testing.T
	store  *storage.Store
	topics *topic.Host
	files  string

	mu    sync.Mutex
	own   *cluster.Ownership
	owner *sink.Host
}

func newRig(t *testing.T) *rig {
	t.Helper()
	t.Parallel()
	r := emptyRig(t)
	r.create(&pb.Topic{Id: changes})
	return r
}

// emptyRig has no topic.
func emptyRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, store: storagetest.OpenSingle(t, "data", vfs.NewMem()), files: t.TempDir()}
	all := &cluster.Ownership{Table: "slot", Key: "topics", Value: []byte("n1"), Since: 1}
	r.commit(storage.Write{Table: "slot", Key: "topics", Value: all.Value})
	r.topics = topic.New(topic.Options{Store: r.store, Node: "n1", Logger: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		Call:       func(env *cluster.Envelope, done func(cluster.Reply)) { r.topics.Handle(env, all, done) },
		LeaseValid: func() bool { return true }, Owned: func(cluster.Slot) *cluster.Ownership { return all }})
	t.Cleanup(r.topics.Close)
	return r
}

// host makes the sinks of a node that owns nothing.
func (r *rig) host(name string) *sink.Host {
	var h *sink.Host
	h = sink.New(sink.Options{Store: r.store, Topics: r.topics, Node: name, Files: r.files, Logger: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet(),
		LeaseValid: func() bool { return true }, Secret: func(m *pb.Sink) (string, error) { return m.Secret, nil },
		Owned: func(cluster.Slot) *cluster.Ownership {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.owner == h {
				return r.own
			}
			return nil
		}})
	h.Start()
	r.t.Cleanup(h.Close)
	return h
}

// give makes a host the owner; the one before is told, as it is when its slots are released.
func (r *rig) give(h *sink.Host) {
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
	own := &cluster.Ownership{Table: "slot", Key: "sinks", Value: fmt.Appendf(nil, "owner %d", since), Since: since}
	r.commit(storage.Write{Table: "slot", Key: "sinks", Value: own.Value})
	r.mu.Lock()
	r.owner, r.own = h, own
	r.mu.Unlock()
	h.Wake()
}

func (r *rig) commit(writes ...storage.Write) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := r.store.Commit(ctx, &storage.Txn{Writes: writes}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) record(table storage.Table, id string, m proto.Message) {
	r.t.Helper()
	value, err := proto.Marshal(m)
	if err != nil {
		r.t.Fatal(err)
	}
	r.commit(storage.Write{Table: table, Key: id, Value: value})
}

func (r *rig) create(conf *pb.Topic) { r.record(topic.TableTopics, conf.Id, conf) }

// drop deletes the topic that sinks read.
func (r *rig) drop() {
	r.t.Helper()
	r.create(&pb.Topic{Id: changes, Deleting: true})
	rec, _, err := r.store.Get(topic.TableTopics, changes)
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.topics.Drop(ctx, changes, rec.Revision); err != nil && !errors.Is(err, topic.ErrNotFound) {
		r.t.Fatal(err)
	}
}

// sink configures one that reads the topic from its oldest message.
func (r *rig) sink(m *pb.Sink) {
	r.t.Helper()
	if err := sink.Check(m.Url); err != nil {
		r.t.Fatal(err)
	}
	m.Topic, m.Oldest = changes, true
	r.record(sink.TableSinks, m.Id, m)
	r.wake()
}

// wake has the owner look at the records.
func (r *rig) wake() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.owner != nil {
		r.owner.Wake()
	}
}

// state of a sink, as committed.
func (r *rig) state(id string) *pb.SinkState {
	r.t.Helper()
	s := &pb.SinkState{}
	rec, ok, err := r.store.Get(sink.TableCursors, id)
	if err == nil && ok {
		err = proto.Unmarshal(rec.Value, s)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// until waits for a sink's state.
func (r *rig) until(id, what string, holds func(*pb.SinkState) bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !holds(r.state(id)); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("never: %s; the sink is at %v", what, r.state(id))
		}
	}
}

// changed is a message as a route makes it.
func changed(twin int, value string) *pb.TopicMessage {
	return &pb.TopicMessage{Key: fmt.Sprintf("default/t%d", twin), ContentType: "application/json", Headers: map[string]string{"pollux-route": "default/all"},
		Payload: fmt.Appendf(nil, `{"twin":"default/t%d","kind":"property","name":"temperature","value":%s,"time":"2026-01-31T12:00:00.000Z"}`, twin, value)}
}

func (r *rig) publish(all ...*pb.TopicMessage) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := r.topics.Publish(ctx, &pb.PublishRequest{Topic: changes, Messages: all}); err != nil {
		r.t.Fatal(err)
	}
}

// rounds publishes n messages, of ten twins in turn, with values that rise.
func (r *rig) rounds(from, n int) {
	r.t.Helper()
	all := make([]*pb.TopicMessage, n)
	for i := range all {
		all[i] = changed((from+i)%10, fmt.Sprint(from+i))
	}
	r.publish(all...)
}

// tree lists the files below a directory.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			name, rel := filepath.Rel(dir, path)
			names = append(names, filepath.ToSlash(name))
			return rel
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// freePort is one that nobody has now. Whoever connects out is given others.
func freePort(t *testing.T) int {
	t.Helper()
	for range 50 {
		port := 20_000 + rand.IntN(10_000)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}
