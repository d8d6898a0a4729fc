package rpc_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/records"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// pair is two nodes in one process: stores of one raft group, clusters, engines and doors. Only the network between them is
// the test's.
type pair struct {
	t     *testing.T
	a, b  *wing
	admin string

	mu sync.Mutex
	// cut nodes are reached by nobody.
	cut map[string]bool
}

// wing is one node of a pair.
type wing struct {
	p       *pair
	id      string
	store   *storage.Store
	cluster *cluster.Node
	engine  *actors.Engine
	server  *rpc.Server
	public  *httptest.Server
	peer    *httptest.Server
	metrics *metrics.Set
	// history says which nodes answer queries; nil: this one.
	history []string
	// unready is what Ready says.
	unready atomic.Pointer[error]
}

func openPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{t: t, cut: map[string]bool{}}
	one, err := storagetest.Open("data", vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close() })
	key := filepath.Join(t.TempDir(), "admin.key")
	if _, err := rpc.EnsureAdminKey(t.Context(), one.Store, key); err != nil {
		t.Fatal(err)
	}
	if p.admin, err = rpc.ReadKeyFile(key); err != nil {
		t.Fatal(err)
	}
	p.a = p.open("a", one.Store, one.Store, true)
	two := storagetest.Join(t, one, "b", "data", vfs.NewMem())
	p.b = p.open("b", two.Store, one.Store, false)
	p.until("b has slots", func() bool { return p.a.cluster.SlotsByNode()["b"] > cluster.SlotCount/4 })
	return p
}

func (p *pair) open(id string, store, blobs *storage.Store, leads bool) *wing {
	t := p.t
	w := &wing{p: p, id: id, store: store, metrics: metrics.NewSet()}
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)})
	if err != nil {
		t.Fatal(err)
	}
	w.engine, err = actors.New(actors.Options{Store: store, Node: id, ComputeTimeout: 10 * time.Second,
		Drivers: func(ctx context.Context, digest string) (drivers.Runner, error) {
			file, err := blobs.Blob(digest)
			if err != nil {
				return nil, err
			}
			return box.Load(ctx, file)
		}})
	if err != nil {
		t.Fatal(err)
	}
	w.cluster, err = cluster.Start(t.Context(), cluster.Options{Self: cluster.Member{ID: id, Name: "node-" + id, Incarnation: 1},
		Records: records.Of(store, slog.New(slog.DiscardHandler)), Handler: w.engine, Transport: p, Leader: func() bool { return leads }, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.engine.Close(), w.cluster.Close()); err != nil {
			t.Errorf("close %s: %v", id, err)
		}
	})
	w.engine.SetCluster(w.cluster)
	if err := w.engine.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	keys := rpc.NewKeyring(store, nil, nil)
	t.Cleanup(func() { _ = keys.Close() })
	w.server, err = rpc.New(rpc.Options{Store: store, Keys: keys, Registry: w.engine.Registry(), Client: w.engine.Client(),
		History: past{id}, Journal: openJournal(t, store), Cluster: &wingCluster{wing: w}, Peers: wingPeers{w}, Verify: box.Verify, Metrics: w.metrics})
	if err != nil {
		t.Fatal(err)
	}
	w.public = httptest.NewServer(w.server)
	t.Cleanup(func() { w.public.CloseClientConnections(); w.public.Close() })
	w.peer = httptest.NewUnstartedServer(w.server.PeerHandler())
	w.peer.EnableHTTP2 = true
	w.peer.StartTLS()
	t.Cleanup(func() { w.peer.CloseClientConnections(); w.peer.Close() })
	return w
}

// openJournal follows the store until the test ends.
func openJournal(t *testing.T, store *storage.Store) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { j.Follow(ctx, store) })
	t.Cleanup(func() {
		cancel()
		following.Wait()
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func (p *pair) wings() []*wing {
	var all []*wing
	for _, w := range []*wing{p.a, p.b} {
		if w != nil {
			all = append(all, w)
		}
	}
	return all
}

func (p *pair) wing(id string) *wing {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, w := range p.wings() {
		if w.id == id && !p.cut[id] {
			return w
		}
	}
	return nil
}

// lose cuts a node off: its streams break, and it is no member any more for the others' doors.
func (p *pair) lose(w *wing, lost bool) {
	p.mu.Lock()
	p.cut[w.id] = lost
	p.mu.Unlock()
	if lost {
		w.peer.CloseClientConnections()
	}
}

// Send implements cluster.Transport.
func (p *pair) Send(node string, env *cluster.Envelope, done func(cluster.Reply)) {
	w := p.wing(node)
	if w == nil {
		go done(cluster.Reply{Err: cluster.ErrUnavailable})
		return
	}
	out := *env
	out.Message = proto.Clone(env.Message)
	go w.cluster.Receive(&out, done)
}

func (p *pair) until(what string, check func() bool) {
	p.t.Helper()
	for end := time.Now().Add(patience); !check(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("not in time: %s", what)
		}
	}
}

func (w *wing) twins(key string) rpcv1.TwinServiceClient {
	return rpcv1.NewTwinServiceClient(&http.Client{Transport: keyed{key, http.DefaultTransport}}, w.public.URL)
}

func (w *wing) ops(key string) rpcv1.ClusterServiceClient {
	return rpcv1.NewClusterServiceClient(&http.Client{Transport: keyed{key, http.DefaultTransport}}, w.public.URL)
}

// twinOn creates a twin that lives on the node.
func (p *pair) twinOn(w *wing, name string) string {
	p.t.Helper()
	d := rpcv1.NewDriverServiceClient(&http.Client{Transport: keyed{p.admin, http.DefaultTransport}}, p.a.public.URL)
	if _, err := d.UploadDriver(p.t.Context(), req(&pb.UploadDriverRequest{File: drivertest.Echo(p.t)})); err != nil {
		p.t.Fatalf("upload driver: %v", err)
	}
	for i := 0; ; i++ {
		id := fmt.Sprintf("default/%s%d", name, i)
		if at, _ := p.a.cluster.Where(id); at.Node != w.id {
			continue
		}
		twin := &pb.Twin{Id: id, Driver: "echo", Settings: mustValue(p.t, map[string]any{"topic": fmt.Sprintf("%s%d", name, i)}).GetStructValue()}
		if _, err := p.a.twins(p.admin).CreateTwin(p.t.Context(), req(&pb.CreateTwinRequest{Twin: twin})); err != nil {
			p.t.Fatalf("create twin: %v", err)
		}
		p.until("b knows "+id, func() bool { _, err := p.b.engine.Registry().GetTwin(id); return err == nil })
		return id
	}
}

// wingPeers is the wing as rpc.Peers.
type wingPeers struct{ *wing }

func (w wingPeers) Self() string { return w.id }

func (w wingPeers) Nodes() []string {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	var ids []string
	for _, o := range w.p.wings() {
		if !w.p.cut[o.id] {
			ids = append(ids, o.id)
		}
	}
	return ids
}

func (w wingPeers) Owner(twin string) string {
	at, _ := w.cluster.Where(twin)
	return at.Node
}

func (w wingPeers) HTTP(node string) (connect.HTTPClient, string, error) {
	o := w.p.wing(node)
	if o == nil {
		return nil, "", cluster.ErrUnavailable
	}
	return o.peer.Client(), o.peer.URL, nil
}

// wingCluster is the wing as rpc.Cluster, joined as package pollux does; what is not needed here is nil.
type wingCluster struct {
	rpc.Cluster
	*wing
}

func (w *wingCluster) Ready() error {
	if err := w.unready.Load(); err != nil {
		return *err
	}
	return nil
}
func (w *wingCluster) Name(node string) string { return "node-" + node }
func (w *wingCluster) HistoryNodes() []string  { return w.history }
func (w *wingCluster) Moves() []*pb.Move       { return nil }
func (w *wingCluster) JoinTokens(context.Context) ([]*pb.JoinToken, error) {
	return nil, rpc.ErrNoQuorum
}

func (w *wingCluster) Drain(ctx context.Context, node string) error {
	return w.cluster.Drain(ctx, node)
}
func (w *wingCluster) Undrain(ctx context.Context, node string) error {
	return w.cluster.Undrain(ctx, node)
}

func (w *wingCluster) Status(context.Context) (*pb.GetStatusResponse, error) {
	return &pb.GetStatusResponse{Node: w.id, Leader: "a", ActiveTwins: uint64(w.engine.Stats().Active), Refused: map[string]uint64{"x": 1}}, nil
}

func (w *wingCluster) Nodes(context.Context) ([]*pb.Node, error) {
	var out []*pb.Node
	for _, m := range w.cluster.Members() {
		n := &pb.Node{Id: m.ID, Name: m.Name, State: "alive", Role: "voter"}
		if m.State != cluster.StateActive {
			n.State = m.State.String()
		}
		if m.ID == w.id {
			n.Goroutines, n.LeaseMs = 7, w.cluster.LeaseLeft().Milliseconds()
		}
		out = append(out, n)
	}
	return out, nil
}

func (w *wingCluster) Slots() []rpc.SlotState {
	out := make([]rpc.SlotState, cluster.SlotCount)
	for i := range out {
		out[i].Target = w.cluster.Target(cluster.Slot(i))
	}
	for _, at := range w.cluster.Slots() {
		o := &out[at.Slot]
		o.Node, o.Incarnation, o.Since = at.Node, at.Incarnation, at.Since
	}
	return out
}

func (w *wingCluster) Where(id string) *pb.Placement {
	at, _ := w.cluster.Where(id)
	return &pb.Placement{Slot: uint32(at.Slot), Node: at.Node, Incarnation: at.Incarnation, Since: at.Since, Target: w.cluster.Target(at.Slot),
		Active: at.Node == w.id && w.engine.Active(cluster.Target{Kind: "twin", ID: id})}
}

func (w *wingCluster) Check(context.Context) (*pb.CheckClusterResponse, error) {
	return &pb.CheckClusterResponse{Checksums: []*pb.NodeChecksum{{Node: w.id, AppliedIndex: w.store.AppliedIndex(),
		Sums: []*pb.Checksum{{Index: 1024, Sum: "same"}}}}}, nil
}

// Backup writes what only this node would.
func (w *wingCluster) Backup(_ context.Context, out io.Writer, _ bool) (*pb.BackupSummary, error) {
	for range 300 {
		if _, err := out.Write(bytes.Repeat([]byte(w.id), 1000)); err != nil {
			return nil, err
		}
	}
	return &pb.BackupSummary{ClusterId: w.id}, nil
}

// Restore counts what it reads.
func (w *wingCluster) Restore(_ context.Context, in io.Reader) (*pb.BackupSummary, error) {
	n, err := io.Copy(io.Discard, in)
	return &pb.BackupSummary{Records: uint64(n)}, err
}

// past is a history of one point, whose value tells the node.
type past struct{ node string }

func (h past) Query(context.Context, history.Query) (history.Result, error) {
	return history.Result{Points: []history.Point{{Time: 1000, Value: float64(h.node[0])}}}, nil
}
func (h past) Series(context.Context, history.SeriesQuery) ([]history.Series, error) { return nil, nil }
func (h past) Walk(context.Context, history.WalkQuery, func(storage.TwinSamples) error) error {
	return nil
}
func (h past) Handler() http.Handler { return http.NotFoundHandler() }
func (h past) Close() error          { return nil }
