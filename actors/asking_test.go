package actors_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

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
	return n.checked(string(manifest), file), file
}

// manifests has those of the test driver's versions by their text: the module is the same, and costs much to read.
var manifests sync.Map

func (n *node) checked(manifest string, file []byte) *drivers.Manifest {
	n.t.Helper()
	if m, ok := manifests.Load(manifest); ok {
		return m.(*drivers.Manifest)
	}
	m, err := drivers.Check(file)
	if err != nil {
		n.t.Fatal(err)
	}
	manifests.Store(manifest, m)
	return m
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

// contexts has the newest context of each test: one for each call would be held until the test ends.
var contexts sync.Map // testing.TB to context.Context

// ctx gives a context that ends when nobody should have to wait any more.
func ctx(t testing.TB) context.Context {
	if last, ok := contexts.Load(t); ok {
		c, _ := last.(context.Context)
		if deadline, ok := c.Deadline(); ok && time.Until(deadline) > patience*3/4 {
			return c
		}
	}
	c, cancel := context.WithTimeout(context.Background(), patience)
	contexts.Store(t, c)
	atEnd(t, func() {
		cancel()
		contexts.CompareAndDelete(t, c)
	})
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

// leased asks again while the node has no lease, which a machine that is away for seconds takes from it.
func (n *node) leased(ask func() error) (err error) {
	n.t.Helper()
	until(n.t, "the node has a lease", func() bool {
		err = ask()
		return err == nil || !strings.Contains(err.Error(), "no lease")
	})
	return err
}

func (n *node) must(id, action, input string) string {
	n.t.Helper()
	var out string
	err := n.leased(func() (err error) { out, err = n.invoke(id, action, input); return err })
	if err != nil {
		n.t.Fatalf("%s on %s: %v", action, id, err)
	}
	return out
}

func (n *node) state(id string) *pb.TwinState {
	n.t.Helper()
	var s *pb.TwinState
	err := n.leased(func() (err error) { s, err = n.client.State(ctx(n.t), id, false); return err })
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
