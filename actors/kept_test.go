package actors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// queue sends a command for which nobody waits, and gives its id.
func (n *node) queue(id, action, input string, o *pb.CommandOptions) string {
	n.t.Helper()
	if o == nil {
		o = &pb.CommandOptions{}
	}
	o.NoWait = true
	req := &pb.InvokeRequest{Id: id, Action: action, Options: o}
	if input != "" {
		req.Input = value(n.t, input)
	}
	r, err := n.client.Invoke(ctx(n.t), req, "tester")
	if err != nil {
		n.t.Fatalf("%s on %s: %v", action, id, err)
	}
	if r.Outcome != pb.Outcome_OUTCOME_QUEUED || r.CommandId == "" {
		n.t.Fatalf("%s on %s: %v", action, id, r)
	}
	return r.CommandId
}

// command finds a command that nobody waits for.
func (n *node) command(id, command string) *pb.CommandStatus {
	n.t.Helper()
	for _, c := range n.state(id).Commands {
		if c.Id == command {
			return c
		}
	}
	return nil
}

// ended waits until a command has ended.
func (n *node) ended(id, command string) *pb.CommandStatus {
	n.t.Helper()
	var c *pb.CommandStatus
	until(n.t, "command "+command+" has ended", func() bool {
		c = n.command(id, command)
		return c.GetPhase() == pb.CommandPhase_COMMAND_PHASE_ENDED
	})
	return c
}

func TestNoWait(t *testing.T) {
	n, g, blocked := busy(t)
	watch := n.watch(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{"a"}}, Properties: []string{"order"}})
	good := n.queue("a", "note", `{"text":"x"}`, nil)
	bad := n.queue("a", "fail", `{"text":"no"}`, nil)
	first := n.queue("a", "note", `{"text":"y"}`, &pb.CommandOptions{Name: "n"})
	second := n.queue("a", "echo", `{"deep":[1]}`, &pb.CommandOptions{Name: "n"})
	s := n.state("a")
	if len(s.Commands) != 4 || s.Queued != 3 {
		t.Errorf("%d commands shown, %d queued", len(s.Commands), s.Queued)
	}
	if c := n.command("a", good); c.Phase != pb.CommandPhase_COMMAND_PHASE_QUEUED || c.Action != "note" || c.By != "tester" || c.Time == nil {
		t.Errorf("while it waits: %v", c)
	}
	if c := n.ended("a", first); c.Outcome != pb.Outcome_OUTCOME_REJECTED || !strings.Contains(c.Message, "replaced") {
		t.Errorf("the one that was replaced: %v", c)
	}
	close(g.open)
	if err := <-blocked; err != nil {
		t.Error(err)
	}
	if c := n.ended("a", good); c.Outcome != pb.Outcome_OUTCOME_DONE || c.EndTime == nil || c.Message != "" {
		t.Errorf("done: %v", c)
	}
	var phases []pb.CommandPhase
	for len(phases) == 0 || phases[len(phases)-1] != pb.CommandPhase_COMMAND_PHASE_ENDED {
		for _, c := range next(t, watch).GetDelta().GetCommands() {
			if c.Id == good {
				phases = append(phases, c.Phase)
			}
		}
	}
	if len(phases) < 2 || phases[len(phases)-2] != pb.CommandPhase_COMMAND_PHASE_STARTED { // the first may be in the whole state
		t.Errorf("watchers saw the phases %v", phases)
	}
	if c := n.ended("a", bad); c.Outcome != pb.Outcome_OUTCOME_REJECTED || c.Code != 7 || c.Message != "no" {
		t.Errorf("refused: %v", c)
	}
	if c := n.ended("a", second); text(c.Output) != `{"deep":[1]}` {
		t.Errorf("its output: %v", c)
	}
	for range 40 {
		n.ended("a", n.queue("a", "echo", `1`, nil))
	}
	if got := len(n.state("a").Commands); got != 16 {
		t.Errorf("%d commands are remembered, want 16", got)
	}
	list, err := n.reg.ListTwins(&pb.ListTwinsRequest{State: true}, nil)
	if err != nil || list.Twins[0].State.DriverVersion != "1.0.0" || list.Twins[0].DriverVersion != "1.0.0" {
		t.Errorf("the driver's version: %v, %v", list, err)
	}
	// The same key again is the same command.
	key := &pb.InvokeRequest{Id: "a", Action: "note", Input: value(t, `{"text":"k"}`), IdempotencyKey: "once", Options: &pb.CommandOptions{NoWait: true,
		Delay: durationpb.New(100 * time.Millisecond)}}
	one, err := n.client.Invoke(ctx(t), key, "x")
	if err != nil {
		t.Fatal(err)
	}
	two, err := n.client.Invoke(ctx(t), key, "x")
	if err != nil || one.CommandId != two.CommandId {
		t.Errorf("%v and %v, %v", one, two, err)
	}
	n.ended("a", one.CommandId)
	if got := n.prop("a", "order"); got != `"xk"` {
		t.Errorf("order %s", got)
	}
}

// What was acknowledged as queued is run after a crash; what had begun is unknown, and is not run again.
func TestNoWaitSurvivesACrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n, g := open(t, fs, 1), newGate(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, g.uri()))
	n.wait("a", "ups", "1")
	begun := n.queue("a", "ask", `{"text":"block","timeout_ms":60000}`, nil)
	until(t, "the device has it", func() bool { return g.heard("block") == 1 })
	waits := n.queue("a", "note", `{"text":"w"}`, nil)
	later := n.queue("a", "note", `{"text":"l"}`, &pb.CommandOptions{Delay: durationpb.New(3 * time.Second)})
	if c := n.command("a", begun); c.Phase != pb.CommandPhase_COMMAND_PHASE_STARTED {
		t.Errorf("while it runs: %v", c)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{}) // as after a loss of power
	n.close()
	n = open(t, crashed, 2)
	if c := n.ended("a", waits); c.Outcome != pb.Outcome_OUTCOME_DONE {
		t.Errorf("what waited: %v", c)
	}
	if c := n.ended("a", begun); c.Outcome != pb.Outcome_OUTCOME_UNKNOWN || !strings.Contains(c.Message, "earlier life") {
		t.Errorf("what had begun: %v", c)
	}
	n.ended("a", later)
	if got := n.prop("a", "order"); got != `"wl"` || g.heard("block") != 1 {
		t.Errorf("order %s, the device heard it %d times", got, g.heard("block"))
	}
}

// A passive twin with a queued command is woken after a restart, without a message.
func TestNoWaitWakes(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n := open(t, fs, 1)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.queue("a", "note", `{"text":"w"}`, &pb.CommandOptions{Delay: durationpb.New(time.Second)})
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	n.close()
	n = open(t, crashed, 2)
	until(t, "it has run", func() bool { return n.engine.Stats().Commands["done"] == 1 })
	n.wait("a", "order", `"w"`)
}

// held is a driver that gets no command while it is on.
type held struct {
	drivers.Runner
	gate chan struct{}
}

func (r held) Handle(ctx context.Context, c drivers.Call, h drivers.Host) (drivers.Effects, error) {
	if c.Event == drivers.EventCommand {
		<-r.gate
	}
	return r.Runner.Handle(ctx, c, h)
}

// What was asked of a property is done after a crash, though nobody asks again and the twin holds no connection.
func TestDesiredWakes(t *testing.T) {
	fs, gate := vfs.NewCrashableMem(), make(chan struct{})
	n := open(t, fs, 1, func(o *actors.Options) {
		load := o.Drivers
		o.Drivers = func(ctx context.Context, digest string) (drivers.Runner, error) {
			r, err := load(ctx, digest)
			return held{r, gate}, err
		}
	})
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	if _, err := n.set("a", "level", "5", time.Hour); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	close(gate)
	n.close()
	n = open(t, crashed, 2)
	until(t, "the device has it", func() bool { return n.committed("a", "level") == "5" })
	n.wait("a", "level", "5")
	until(t, "it is confirmed", func() bool { return n.state("a").Desired["level"].Progress == pb.Progress_PROGRESS_CONFIRMED })
}

// A twin whose driver cannot be found any more does not run with half a configuration.
func TestRestartWithoutADriver(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe","stopped":true}`)
	n.state("a")
	n.rewrite("a", func(t *pb.Twin) { t.Stopped, t.Driver = false, "lost@9.9.9" })
	until(t, "the fault shows", func() bool { return strings.Contains(n.state("a").Status.Fault, "lost") })
	if _, err := n.invoke("a", "count", ""); !errors.Is(err, actors.ErrFault) {
		t.Errorf("without a driver: %v", err)
	}
	n.rewrite("a", func(t *pb.Twin) { t.Driver = "probe" })
	until(t, "it works again", func() bool { _, err := n.invoke("a", "count", ""); return err == nil })
	n.rewrite("a", func(t *pb.Twin) { t.Stopped, t.Driver = true, "lost@9.9.9" })
	until(t, "it is stopped", func() bool { _, err := n.invoke("a", "count", ""); return errors.Is(err, actors.ErrStopped) })
	n.rewrite("a", func(t *pb.Twin) { t.Stopped = false })
	until(t, "the fault shows again", func() bool { _, err := n.invoke("a", "count", ""); return errors.Is(err, actors.ErrFault) })
	n.rewrite("a", func(t *pb.Twin) { t.Driver = "probe" })
	until(t, "it works at last", func() bool { _, err := n.invoke("a", "count", ""); return err == nil })
	if s := n.engine.Stats(); s.Dropped["twin_panic"] != 0 {
		t.Errorf("dropped %v", s.Dropped)
	}
}

// TestStrayWake: a wake record that its twin does not know of, as a transaction of unknown outcome leaves one, is removed.
func TestStrayWake(t *testing.T) {
	n := newNode(t)
	n.sensors("a")
	if r := n.ingest(&actors.Ingest{Twin: "a", Payload: []byte(`{"level":1}`)}); r.Outcome != stored {
		t.Fatal(r)
	}
	if _, err := n.store.Commit(ctx(t), &storage.Txn{Writes: []storage.Write{actors.TwinWake("default/a", time.Now().UnixMilli())}}); err != nil {
		t.Fatal(err)
	}
	n.engine.LookAtSlots()
	until(t, "the record is gone", func() bool { return n.records("wake", "") == 0 })
}
