package actors_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/records"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/clustertest"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// patience is how long a test waits for what must come: a busy machine is slow, and compiling a driver under the race
// detector takes ten seconds.
const patience = time.Minute

// many is what a node of two has at least.
const many = clustertest.Slots * 2 / 5

func TestMain(m *testing.M) {
	clustertest.FewSlots()
	os.Exit(m.Run())
}

// theSandbox is shared by all tests of the process: taking a driver's code from the cache costs time, too.
var theSandbox struct {
	once sync.Once
	box  *drivers.Sandbox
	err  error
}

func sandbox(t testing.TB) *drivers.Sandbox {
	t.Helper()
	s := &theSandbox
	s.once.Do(func() {
		s.box, s.err = drivers.NewSandbox(drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)})
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.box
}

// loaded drivers are shared, too: under the race detector even the cache costs a second per driver.
var (
	loadedMu sync.Mutex
	loaded   = map[string]drivers.Runner{}
)

// kept is a runner that outlives the engine that closes it.
type kept struct{ drivers.Runner }

func (kept) Close() error { return nil }

// Row implements drivers.Rower, as every runner of a sandbox does.
func (k kept) Row() *drivers.Row { return k.Runner.(drivers.Rower).Row() }

func load(ctx context.Context, box *drivers.Sandbox, file []byte) (drivers.Runner, error) {
	loadedMu.Lock()
	defer loadedMu.Unlock()
	if r := loaded[string(file)]; r != nil {
		return r, nil
	}
	r, err := box.Load(ctx, file)
	if err != nil {
		return nil, err
	}
	loaded[string(file)] = kept{r}
	return kept{r}, nil
}

// node is an engine on a real store, cluster and sandbox.
type node struct {
	t       testing.TB
	store   *storage.Store
	storage *storagetest.Node
	cluster *cluster.Node
	engine  *actors.Engine
	reg     *actors.Registry
	client  *actors.Client
	once    sync.Once
	o       cluster.Options

	mu        sync.Mutex
	published []string
}

type option func(*actors.Options)

// open starts a node on fs (nil: the disk); incarnation rises with each start on the same one.
func open(t testing.TB, fs vfs.FS, incarnation uint64, opts ...option) *node {
	t.Helper()
	return openOn(t, fs, incarnation, nil, opts...)
}

func openOn(t testing.TB, fs vfs.FS, incarnation uint64, edit func(*storage.Options), opts ...option) *node {
	t.Helper()
	if edit == nil {
		edit = func(*storage.Options) {}
	}
	dir := "data"
	if fs == nil {
		dir = t.TempDir()
	}
	st, err := storagetest.Open(dir, fs, storagetest.WithStore(edit))
	if err != nil {
		t.Fatal(err)
	}
	n := assemble(t, st, st.Store, cluster.Options{Self: cluster.Member{ID: "n1", Incarnation: incarnation}}, opts...)
	n.settled()
	return n
}

// assemble starts an engine and its part in the cluster on a store. Drivers' files come from blobs.
func assemble(t testing.TB, st *storagetest.Node, blobs *storage.Store, c cluster.Options, opts ...option) *node {
	t.Helper()
	n := prepare(t, st, blobs, c, opts...)
	n.begin()
	return n
}

// begin starts the engine of a node that was prepared.
func (n *node) begin() {
	n.t.Helper()
	if err := n.engine.Start(context.Background()); err != nil {
		n.t.Fatal(err)
	}
}

// prepare is assemble but for the engine's start: the node is a member, and has slots.
func prepare(t testing.TB, st *storagetest.Node, blobs *storage.Store, c cluster.Options, opts ...option) *node {
	t.Helper()
	box := sandbox(t)
	n := &node{t: t, store: st.Store, storage: st, o: c}
	o := actors.Options{
		Store: st.Store, Node: c.Self.ID, Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Metrics: metrics.NewSet(),
		Drivers: func(ctx context.Context, digest string) (drivers.Runner, error) {
			file, err := blobs.Blob(digest)
			if err != nil {
				return nil, err
			}
			return load(ctx, box, file)
		},
		Dialers: map[string]actors.Dialer{"tcp": func(b drivers.Binding, sink drivers.Sink, trace actors.Trace) (drivers.Conn, error) {
			return tcp.Open(transport.Options{Binding: b, Sink: sink, Trace: func(d transport.Direction, data []byte) {
				dir := pb.TraceTwinResponse_DIRECTION_RECEIVED
				if d == transport.Sent {
					dir = pb.TraceTwinResponse_DIRECTION_SENT
				}
				trace(dir, data)
			}, Backoff: transport.Backoff{Min: 10 * time.Millisecond, Max: 50 * time.Millisecond}})
		}},
		Publish: n.publish,
		// The race detector and busy machines slow guests down tenfold.
		ComputeTimeout: 10 * time.Second, CommandTimeout: patience, CallTimeout: patience,
	}
	for _, opt := range opts {
		opt(&o)
	}
	var err error
	if n.engine, err = actors.New(o); err != nil {
		t.Fatal(err)
	}
	c.Logger = slog.New(slog.DiscardHandler)
	c.Records, c.Handler = records.Of(st.Store, c.Logger), n.engine
	c.Shift, c.Self.AvailabilityZone = n.engine.Shift, c.Self.ID
	n.cluster, err = cluster.Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	n.engine.SetCluster(n.cluster)
	n.reg, n.client = n.engine.Registry(), n.engine.Client()
	atEnd(t, n.close)
	return n
}

// settled waits until the node has all slots.
func (n *node) settled() {
	n.t.Helper()
	until(n.t, "the node has its slots", func() bool { return n.cluster.SlotsByNode()["n1"] >= clustertest.Slots })
}

// newNode opens a node of its own for a test that may run beside others.
// atEnd is t.Cleanup, and lets go of f afterwards: what a parallel test leaves to its end is held until the last test's, and so would
// each node be.
func atEnd(t testing.TB, f func()) {
	t.Cleanup(func() {
		f()
		f = nil
	})
}

func newNode(t testing.TB, opts ...option) *node {
	t.Helper()
	if t, ok := t.(*testing.T); ok {
		t.Parallel()
	}
	return open(t, vfs.NewMem(), 1, opts...)
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	if os.Getenv("POLLUX_TEST_LOG") != "" {
		fmt.Fprint(os.Stderr, string(b))
	}
	return len(b), nil
}

// close stops the node without draining, as far as a process can do that to itself.
func (n *node) close() {
	n.once.Do(func() {
		if err := n.engine.Close(); err != nil {
			n.t.Errorf("close engine: %v", err)
		}
		if err := n.cluster.Close(); err != nil {
			n.t.Errorf("close cluster: %v", err)
		}
		if err := n.storage.Close(); err != nil {
			n.t.Errorf("close store: %v", err)
		}
	})
}

func (n *node) publish(topic string, payload []byte, _ byte, _ bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.published = append(n.published, topic+" "+string(payload))
	return nil
}
