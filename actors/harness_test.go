package actors_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// records is the store as the cluster wants it.
type records struct{ store *storage.Store }

func (r records) Get(table, key string) ([]byte, error) {
	rec, ok, err := r.store.Get(storage.Table(table), key)
	if err != nil || !ok {
		return nil, err
	}
	return rec.Value, nil
}

func (r records) Scan(table string) ([]cluster.Record, error) {
	var all []cluster.Record
	for rec, err := range r.store.Scan(storage.Table(table), "", "") {
		if err != nil {
			return nil, err
		}
		all = append(all, cluster.Record{Key: rec.Key, Value: rec.Value})
	}
	return all, nil
}

func (r records) Commit(txn cluster.Txn, done func(error)) {
	t := &storage.Txn{}
	for _, g := range txn.Guards {
		t.Guards = append(t.Guards, storage.Guard{Table: storage.Table(g.Table), Key: g.Key, Equal: g.Value})
	}
	for _, w := range txn.Writes {
		t.Writes = append(t.Writes, storage.Write{Table: storage.Table(w.Table), Key: w.Key, Value: w.Value, Quiet: txn.Quiet})
	}
	go func() {
		_, err := r.store.Commit(context.Background(), t)
		if errors.Is(err, storage.ErrGuard) {
			err = fmt.Errorf("%w: %w", cluster.ErrConflict, err)
		}
		done(err)
	}()
}

func (r records) Watch(table string, fn func([]cluster.Record)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ch, err := r.store.Watch(ctx, storage.Table(table), "", 0)
	if err != nil {
		panic(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		listed := false
		for batch := range ch {
			if len(batch) == 0 && !listed {
				listed = true
				fn(nil)
				continue
			}
			var out []cluster.Record
			for _, c := range batch {
				out = append(out, cluster.Record{Key: c.Key, Value: c.Value})
			}
			if out != nil {
				fn(out)
			}
		}
	}()
	return func() { cancel(); <-done }
}

// patience is how long a test waits for what must come: a busy machine is slow, and compiling a driver under the race
// detector takes ten seconds.
const patience = time.Minute

// sandbox is shared by all tests of the process: compiling a driver takes seconds.
var sandbox = sync.OnceValues(func() (*drivers.Sandbox, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("pollux-test-wasm-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return drivers.NewSandbox(drivers.SandboxOptions{CacheDir: dir})
})

// loaded drivers are shared, too: under the race detector even the cache costs a second per driver.
var (
	loadedMu sync.Mutex
	loaded   = map[string]drivers.Runner{}
)

// kept is a runner that outlives the engine that closes it.
type kept struct{ drivers.Runner }

func (kept) Close() error { return nil }

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
	return assemble(t, st, st.Store, cluster.Options{Self: cluster.Member{ID: "n1", Incarnation: incarnation}}, opts...)
}

// assemble starts an engine and its part in the cluster on a store. Drivers' files come from blobs.
func assemble(t testing.TB, st *storagetest.Node, blobs *storage.Store, c cluster.Options, opts ...option) *node {
	t.Helper()
	box, err := sandbox()
	if err != nil {
		t.Fatal(err)
	}
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
	if n.engine, err = actors.New(o); err != nil {
		t.Fatal(err)
	}
	c.Records, c.Handler, c.Logger = records{st.Store}, n.engine, slog.New(slog.DiscardHandler)
	n.cluster, err = cluster.Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	n.engine.SetCluster(n.cluster)
	if err := n.engine.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	n.reg, n.client = n.engine.Registry(), n.engine.Client()
	t.Cleanup(n.close)
	return n
}

// newNode opens a node of its own for a test that may run beside others.
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

// probe is the module of the test driver; its manifest decides what it is.
var probe = sync.OnceValues(func() ([]byte, error) { return drivertest.Module(filepath.Join("testdata", "probe")) })

const (
	tcpTransport  = `{"scheme":"tcp","tokenizer":{"delimiter":"\n"}}`
	mqttTransport = `{"scheme":"mqtt","subscribe":["dev/{topic}/+"],"publish":["cmd/{topic}/+"],"will":{"topic":"dev/{topic}/lwt","online":"Online","offline":"Offline"}}`
)

// driver uploads the test driver under a name and version, with a transport or none.
func (n *node) driver(name, version, transport string) *pb.Driver {
	n.t.Helper()
	return n.driverWith(name, version, transport, nil)
}

func (n *node) driverWith(name, version, transport string, edit func(m map[string]any)) *pb.Driver {
	n.t.Helper()
	m, file := n.driverFile(name, version, transport, edit)
	d, _, err := n.reg.PutDriver(context.Background(), m, file, "test")
	if err != nil {
		n.t.Fatal(err)
	}
	return d
}

// driverFile makes a version of the test driver.
func (n *node) driverFile(name, version, transport string, edit func(m map[string]any)) (*drivers.Manifest, []byte) {
	n.t.Helper()
	module, err := probe()
	if err != nil {
		n.t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join("testdata", "probe", "driver.json"))
	if err != nil {
		n.t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		n.t.Fatal(err)
	}
	m["name"], m["version"] = name, version
	if transport != "" {
		m["transport"] = json.RawMessage(transport)
	}
	if edit != nil {
		edit(m)
	}
	manifest, err := json.Marshal(m)
	if err != nil {
		n.t.Fatal(err)
	}
	file, err := drivers.AppendManifest(module, manifest)
	if err != nil {
		n.t.Fatal(err)
	}
	checked, err := drivers.Check(file)
	if err != nil {
		n.t.Fatal(err)
	}
	return checked, file
}

// twin creates a twin from JSON, such as {"id":"a","driver":"probe"}.
func (n *node) twin(doc string) *pb.Twin {
	n.t.Helper()
	t := &pb.Twin{}
	if err := protojson.Unmarshal([]byte(doc), t); err != nil {
		n.t.Fatal(err)
	}
	made, err := n.reg.CreateTwin(ctx(n.t), t)
	if err != nil {
		n.t.Fatal(err)
	}
	return made
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return c
}

func value(t testing.TB, text string) *structpb.Value {
	t.Helper()
	v := &structpb.Value{}
	if err := protojson.Unmarshal([]byte(text), v); err != nil {
		t.Fatal(err)
	}
	return v
}

func text(v *structpb.Value) string {
	b, _ := json.Marshal(v.AsInterface())
	return string(b)
}

// invoke runs an action and gives its output as JSON.
func (n *node) invoke(id, action, input string) (string, error) {
	req := &pb.InvokeRequest{Id: id, Action: action}
	if input != "" {
		req.Input = value(n.t, input)
	}
	r, err := n.client.Invoke(ctx(n.t), req, "tester")
	if err != nil {
		return "", err
	}
	return text(r.Output), nil
}

func (n *node) must(id, action, input string) string {
	n.t.Helper()
	out, err := n.invoke(id, action, input)
	if err != nil {
		n.t.Fatalf("%s on %s: %v", action, id, err)
	}
	return out
}

func (n *node) state(id string) *pb.TwinState {
	n.t.Helper()
	s, err := n.client.State(ctx(n.t), id, false)
	if err != nil {
		n.t.Fatalf("state of %s: %v", id, err)
	}
	return s
}

// prop gives a property as JSON, or "".
func (n *node) prop(id, name string) string {
	n.t.Helper()
	p := n.state(id).Properties[name]
	if p == nil {
		return ""
	}
	return text(p.Value)
}

// until polls until the condition holds.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func (n *node) wait(id, name, want string) {
	n.t.Helper()
	var got string
	for deadline := time.Now().Add(patience); ; time.Sleep(2 * time.Millisecond) {
		if got = n.prop(id, name); got == want {
			return
		}
		if time.Now().After(deadline) {
			n.t.Fatalf("%s of %s is %q after %s, want %q; status %v", name, id, got, patience, want, n.state(id).Status)
		}
	}
}

// device is a TCP server that a twin connects to. It answers lines by fn; "" is no answer.
type device struct {
	t    testing.TB
	l    net.Listener
	fn   func(line string) string
	mu   sync.Mutex
	got  []string
	conn []net.Conn
	wg   sync.WaitGroup
}

func newDevice(t testing.TB, fn func(line string) string) *device {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &device{t: t, l: l, fn: fn}
	d.wg.Add(1)
	go d.accept()
	t.Cleanup(d.close)
	return d
}

func (d *device) uri() string { return "tcp://" + d.l.Addr().String() }

func (d *device) accept() {
	defer d.wg.Done()
	for {
		c, err := d.l.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		d.conn = append(d.conn, c)
		d.mu.Unlock()
		d.wg.Add(1)
		go d.serve(c)
	}
}

func (d *device) serve(c net.Conn) {
	defer d.wg.Done()
	for r := bufio.NewScanner(c); r.Scan(); {
		d.mu.Lock()
		d.got = append(d.got, r.Text())
		d.mu.Unlock()
		if d.fn == nil {
			continue
		}
		if a := d.fn(r.Text()); a != "" {
			fmt.Fprint(c, a+"\n")
		}
	}
}

// say sends a line to everybody who is connected.
func (d *device) say(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conn {
		fmt.Fprint(c, line+"\n")
	}
}

// write sends bytes to everybody who is connected.
func (d *device) write(text string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conn {
		fmt.Fprint(c, text)
	}
}

// hangUp closes the connections; the device goes on listening.
func (d *device) hangUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conn {
		_ = c.Close()
	}
	d.conn = nil
}

func (d *device) lines() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.got...)
}

func (d *device) heard(line string) int {
	n := 0
	for _, l := range d.lines() {
		if strings.TrimSpace(l) == line {
			n++
		}
	}
	return n
}

func (d *device) close() {
	_ = d.l.Close()
	d.hangUp()
	d.wg.Wait()
}

// samples reads the committed points of a property.
func (n *node) samples(twin, property string) []float64 {
	n.t.Helper()
	var out []float64
	_, err := n.store.ReadSamples(0, func(_ uint64, all []storage.TwinSamples) error {
		for _, s := range all {
			for _, p := range s.Samples {
				if s.Project+"/"+s.Twin == twin && p.Property == property {
					out = append(out, p.Value)
				}
			}
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// relisten opens a device on the address of one that was closed.
func relisten(t testing.TB, addr string) *device {
	t.Helper()
	var l net.Listener
	until(t, "the address is free", func() bool {
		var err error
		l, err = net.Listen("tcp", addr)
		return err == nil
	})
	d := &device{t: t, l: l}
	d.wg.Add(1)
	go d.accept()
	t.Cleanup(d.close)
	return d
}

// committed gives a property as the store has it, without waking the twin.
func (n *node) committed(id, name string) string {
	n.t.Helper()
	list, err := n.reg.ListTwins(&pb.ListTwinsRequest{State: true, Filter: &pb.TwinFilter{Ids: []string{id}}}, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if len(list.Twins) != 1 || list.Twins[0].State.Properties[name] == nil {
		return ""
	}
	return text(list.Twins[0].State.Properties[name].Value)
}

// rewrite changes a twin's record without the registry's checks.
func (n *node) rewrite(id string, edit func(*pb.Twin)) {
	n.t.Helper()
	tw := &pb.Twin{}
	rec, ok, err := n.store.Get("twin", "default/"+id)
	if err != nil || !ok {
		n.t.Fatal("no record of "+id, err)
	}
	if err := proto.Unmarshal(rec.Value, tw); err != nil {
		n.t.Fatal(err)
	}
	edit(tw)
	raw, err := proto.Marshal(tw)
	if err != nil {
		n.t.Fatal(err)
	}
	if _, err := n.store.Commit(ctx(n.t), &storage.Txn{Writes: []storage.Write{{Table: "twin", Key: "default/" + id, Value: raw}}}); err != nil {
		n.t.Fatal(err)
	}
}

func settings(t testing.TB, doc string) *structpb.Struct {
	t.Helper()
	return value(t, doc).GetStructValue()
}
