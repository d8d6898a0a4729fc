package actors_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

func (n *node) update(id string, edit func(*pb.Twin)) {
	n.t.Helper()
	tw, err := n.reg.GetTwin(id)
	if err != nil {
		n.t.Fatal(err)
	}
	edit(tw)
	if _, err := n.reg.UpdateTwin(ctx(n.t), tw); err != nil {
		n.t.Fatal(err)
	}
}

// New settings reach the driver without a reconnect; a new address reconnects.
func TestSettingsChange(t *testing.T) {
	n := newNode(t)
	one, two := newDevice(t, nil), newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q,"settings":{"secret":"s"}}`, one.uri()))
	n.wait("a", "ups", "1")
	n.update("a", func(tw *pb.Twin) {
		if got := text(tw.Settings.Fields["secret"]); got != `"***"` {
			t.Errorf("the secret reads %s", got)
		}
		tw.Settings.Fields["topic"] = value(t, `"north"`)
	})
	n.wait("a", "topic", `"north"`)
	n.wait("a", "reason", `"settings"`)
	if got := n.prop("a", "ups"); got != "1" {
		t.Errorf("settings reconnected: %s", got)
	}
	n.update("a", func(tw *pb.Twin) { tw.Uri = two.uri() })
	n.wait("a", "ups", "2")
	n.must("a", "send", `{"text":"x"}`)
	until(t, "the new device has it", func() bool { return two.heard("x") == 1 })
}

func TestStopped(t *testing.T) {
	n := newNode(t)
	d := newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, d.uri()))
	n.wait("a", "ups", "1")
	n.update("a", func(tw *pb.Twin) { tw.Stopped = true })
	until(t, "it is stopped", func() bool { return n.state("a").Status.Connection == pb.Connection_CONNECTION_STOPPED })
	if _, err := n.invoke("a", "send", `{"text":"x"}`); !errors.Is(err, actors.ErrStopped) {
		t.Errorf("a command to a stopped twin: %v", err)
	}
	if got := n.prop("a", "ups"); got != "1" {
		t.Errorf("a stopped twin keeps its state: ups %s", got)
	}
	n.update("a", func(tw *pb.Twin) { tw.Stopped = false })
	n.wait("a", "ups", "2")
	n.must("a", "send", `{"text":"y"}`)
}

// A new version takes over at a message boundary, with the old one's state; the old way back is the same.
func TestVersions(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"newest","driver":"probe"}`)
	n.twin(`{"id":"pinned","driver":"probe@1.0.0"}`)
	n.must("newest", "count", "")
	n.must("pinned", "count", "")
	two := n.driverWith("probe", "1.10.0", "", func(m map[string]any) { m["title"] = "Probe two" })
	n.wait("newest", "migrated", `"1.0.0"`)
	n.wait("newest", "reason", `"version"`)
	if got := n.must("newest", "count", ""); got != "2" {
		t.Errorf("the new version remembers %s, want 2", got)
	}
	if tw, _ := n.reg.GetTwin("newest"); tw.DriverDigest != two.Digest {
		t.Errorf("it uses %s, want %s", tw.DriverDigest, two.Digest)
	}
	if got := n.prop("pinned", "migrated"); got != "" {
		t.Errorf("the pinned twin went over: %s", got)
	}
	n.driverWith("probe", "1.9.0", "", func(m map[string]any) { m["title"] = "an older one" })
	until(t, "the newest is 1.10.0, with one twin", func() bool {
		d, err := n.reg.GetDriver("probe", "")
		return err == nil && d.Version == "1.10.0" && d.Twins == 1
	})
	n.update("newest", func(tw *pb.Twin) { tw.Driver = "probe@1.0.0" })
	n.wait("newest", "migrated", `"1.10.0"`)
	var used *actors.InUseError
	if err := n.reg.DeleteDriver(ctx(t), "probe", "1.0.0"); !errors.As(err, &used) || len(used.Users) != 2 {
		t.Errorf("delete of a version in use: %v", err)
	}
	if err := n.reg.DeleteDriver(ctx(t), "probe", "1.10.0"); err != nil {
		t.Errorf("delete of a version that nobody uses: %v", err)
	}
}

// Between migrate and load a twin's state is the new version's: the way back leads through migrate too.
func TestBackBeforeLoad(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe","settings":{"fragile":true}}`)
	n.must("a", "count", "")
	n.driverWith("probe", "2.0.0", "", func(m map[string]any) { m["title"] = "Probe two" })
	n.wait("a", "migrated", `"1.0.0"`)
	until(t, "its load has crashed", func() bool { return strings.Contains(n.state("a").Status.Fault, "fragile") })
	n.update("a", func(tw *pb.Twin) { tw.Driver = "probe@1.0.0" })
	n.wait("a", "migrated", `"2.0.0"`)
}

// A pre-release is nobody's newest version beside a release. Where the newest goes, its twins go over to the next.
func TestNewestVersionGoes(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	n.deliver("dev/a/x", `{"level":0}`, 1)
	titled := func(title string) func(map[string]any) { return func(m map[string]any) { m["title"] = title } }
	n.driverWith("bus", "1.0.2-rc1", mqttTransport, titled("to try"))
	until(t, "the newest is 1.0.0, with one twin", func() bool {
		d, err := n.reg.GetDriver("bus", "")
		return err == nil && d.Version == "1.0.0" && d.Twins == 1
	})
	other := strings.ReplaceAll(mqttTransport, "dev/{topic}/+", "new/{topic}/+")
	n.driverWith("bus", "1.0.1", other, titled("with other topics"))
	n.deliver("new/a/x", `{"level":1}`, 1)
	n.wait("a", "migrated", `"1.0.0"`)
	n.twin(`{"id":"pinned","driver":"bus@1.0.1","settings":{"topic":"p"}}`)
	var used *actors.InUseError
	if err := n.reg.DeleteDriver(ctx(t), "bus", "1.0.1"); !errors.As(err, &used) || len(used.Users) != 1 || used.Users[0] != "default/pinned" {
		t.Errorf("delete of a version to which a twin is pinned: %v", err)
	}
	if err := n.reg.DeleteTwin(ctx(t), "pinned", 0); err != nil {
		t.Fatal(err)
	}
	if err := n.reg.DeleteDriver(ctx(t), "bus", "1.0.1"); err != nil {
		t.Fatalf("delete of the newest version: %v", err)
	}
	n.wait("a", "migrated", `"1.0.1"`)
	n.deliver("dev/a/x", `{"level":2}`, 1)
	n.wait("a", "level", "2")
	if err := n.reg.DeleteDriver(ctx(t), "bus", "1.0.0"); err != nil {
		t.Errorf("delete beside a pre-release: %v", err)
	}
	n.wait("a", "migrated", `"1.0.0"`)
	if err := n.reg.DeleteDriver(ctx(t), "bus", "1.0.2-rc1"); !errors.As(err, &used) || len(used.Users) != 1 {
		t.Errorf("delete of the last version: %v", err)
	}
}

func TestDelete(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.CheckpointMin = 10 * time.Millisecond })
	d := newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.driver("probe", "1.0.0", "")
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q,"aliases":[{"network":"x","key":"k","value":"1"}],"labels":{"l":"1"}}`, d.uri()))
	n.twin(`{"id":"never-active","driver":"probe@1.0.0"}`)
	n.wait("a", "ups", "1")
	n.must("a", "timer", `{"name":"one","after_ms":100000}`)
	if _, err := n.set("a", "level", "3", time.Minute); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "never-active"} {
		if err := n.reg.DeleteTwin(ctx(t), id, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := n.invoke(id, "send", `{"text":"x"}`); !errors.Is(err, actors.ErrNotFound) {
			t.Errorf("a deleted twin: %v", err)
		}
	}
	for _, table := range []storage.Table{"twin", "state", "model", "wake", "start", "gone", "alias", "use"} {
		until(t, "table "+string(table)+" is empty", func() bool {
			c, err := n.store.Count(table, "")
			return err == nil && c == 0
		})
	}
	until(t, "nothing is active", func() bool { return n.engine.Stats().Active == 0 })
	// The same name again is a new twin.
	n.twin(`{"id":"a","driver":"probe"}`)
	if got := n.must("a", "count", ""); got != "1" {
		t.Errorf("a new twin remembers %s", got)
	}
	if d := n.state("a").Desired; len(d) != 0 {
		t.Errorf("a new twin desires %v", d)
	}
}

// A call that comes after a twin was deleted finds none, also where the shard has a call at hand that came before.
func TestCallAfterDelete(t *testing.T) {
	n := newNode(t)
	n.driver("wire", "1.0.0", tcpTransport)
	d := newDevice(t, nil)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, d.uri()))
	n.wait("a", "ups", "1")
	goOn := n.engine.Hold("default/a")
	before := make(chan error, 1)
	go func() {
		_, err := n.client.State(t.Context(), "default/a", false)
		before <- err
	}()
	until(t, "the shard has a call at hand", func() bool { return n.engine.Tray("default/a") > 0 })
	if err := n.reg.DeleteTwin(ctx(t), "a", 0); err != nil {
		t.Fatal(err)
	}
	after := make(chan error, 1)
	go func() {
		_, err := n.client.Invoke(t.Context(), &pb.InvokeRequest{Id: "default/a", Action: "send", Input: value(t, `{"text":"x"}`)}, "tester")
		after <- err
	}()
	until(t, "both calls and the deletion are at hand", func() bool { return n.engine.Tray("default/a") >= 2 })
	goOn()
	if err := <-before; err != nil && !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("a call from before: %v", err)
	}
	if err := <-after; !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("a call after the deletion: %v", err)
	}
}

// A driver that loops and one that grows are stopped, shown, and left alone; others do not notice.
func TestBadDriversHarmNobodyElse(t *testing.T) {
	n := newNode(t, func(o *actors.Options) {
		o.ComputeTimeout = time.Second
		o.BackoffMin = 500 * time.Millisecond
	})
	n.driver("probe", "1.0.0", "")
	n.driver("other", "1.0.0", "")
	const healthy = 100
	for i := range healthy {
		n.twin(fmt.Sprintf(`{"id":"h%d","driver":"probe"}`, i))
	}
	for _, id := range []string{"loops", "grows", "traps"} {
		n.twin(fmt.Sprintf(`{"id":%q,"driver":"other"}`, id))
		n.must(id, "echo", "1")
	}
	load := func(d time.Duration) (p99 time.Duration) {
		var mu sync.Mutex
		var all []time.Duration
		var wg sync.WaitGroup
		end := time.Now().Add(d)
		for w := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for i := w; time.Now().Before(end); i += 4 {
					began := time.Now()
					if _, err := n.invoke(fmt.Sprintf("h%d", i%healthy), "echo", "1"); err != nil {
						t.Errorf("a healthy twin: %v", err)
						return
					}
					mu.Lock()
					all = append(all, time.Since(began))
					mu.Unlock()
				}
			}()
		}
		wg.Wait()
		slices.Sort(all)
		return all[len(all)*99/100]
	}
	load(500 * time.Millisecond)
	calm := load(time.Second)
	for id, action := range map[string]string{"loops": "loop", "grows": "grow", "traps": "panic"} {
		go func() {
			if _, err := n.invoke(id, action, ""); outcome(err) != pb.Outcome_OUTCOME_REJECTED {
				t.Errorf("%s: %v", id, err)
			}
		}()
	}
	attacked := load(2 * time.Second)
	t.Logf("p99 calm %s, under attack %s", calm, attacked)
	for _, id := range []string{"loops", "grows", "traps"} {
		until(t, id+" shows its fault", func() bool { return n.state(id).Status.Fault != "" || crashes(n) == 3 })
		until(t, id+" is tried again", func() bool { _, err := n.invoke(id, "echo", "1"); return err == nil })
		if f := n.state(id).Status.Fault; f != "" {
			t.Errorf("%s still shows %s", id, f)
		}
		if got := n.prop(id, "level"); got != "" {
			t.Errorf("%s: a crashed call had the effect level = %s", id, got)
		}
	}
	until(t, "none counts as faulty", func() bool { return n.engine.Stats().Faulty == 0 })
	if s := n.engine.Stats(); s.Dropped["driver_trap"] != 2 || s.Dropped["driver_stopped"] != 1 {
		t.Errorf("traps %d, stopped %d", s.Dropped["driver_trap"], s.Dropped["driver_stopped"])
	}
}

func crashes(n *node) uint64 {
	d := n.engine.Stats().Dropped
	return d["driver_trap"] + d["driver_stopped"]
}

// While it is left alone a faulty twin refuses at once, and says why.
func TestFaultIsShown(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.BackoffMin = time.Hour; o.BackoffMax = time.Hour })
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	// Refused, not left without an answer: it would crash the driver for ever.
	if err := n.offer("dev/a/x", "panic", 1); !errors.Is(err, mqtt.ErrRefused) {
		t.Errorf("a message that crashes the driver: %v", err)
	}
	until(t, "the fault is shown", func() bool { return strings.Contains(n.state("a").Status.Fault, "received") })
	if _, err := n.invoke("a", "echo", "1"); !errors.Is(err, actors.ErrFault) {
		t.Errorf("a command: %v", err)
	}
	if err := n.offer("dev/a/x", `{"level":1}`, 1); !errors.Is(err, actors.ErrFault) {
		t.Errorf("a message: %v", err)
	}
	until(t, "it counts as faulty", func() bool { return n.engine.Stats().Faulty == 1 })
	list, err := n.reg.ListTwins(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Faulty: true}}, nil)
	until(t, "the list has it", func() bool {
		list, err = n.reg.ListTwins(&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Faulty: true}}, nil)
		return err == nil && len(list.Twins) == 1
	})
}

// An owner whose slot's record was changed has no effect any more.
func TestStaleOwnerHasNoEffect(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.CheckpointMin = time.Hour; o.CheckpointMax = time.Hour })
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	if _, err := n.set("a", "level", "1", time.Minute); err != nil {
		t.Fatal(err)
	}
	n.wait("a", "level", "1")
	own, ok := n.cluster.Owned(cluster.SlotOf("default/a"))
	if !ok {
		t.Fatal("the slot is not owned")
	}
	// Quietly, so that only the guard can tell.
	if _, err := n.store.Commit(ctx(t), &storage.Txn{Writes: []storage.Write{
		{Table: storage.Table(own.Table), Key: own.Key, Value: []byte("somebody else"), Quiet: true}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.set("a", "level", "2", time.Minute); !errors.Is(err, cluster.ErrNotOwner) {
		t.Errorf("set by a stale owner: %v", err)
	}
	list, err := n.reg.ListTwins(&pb.ListTwinsRequest{State: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := text(list.Twins[0].State.Desired["level"].Value); got != "1" {
		t.Errorf("the store has %s, want 1", got)
	}
	if n.engine.Stats().Dropped["stale_owner"] == 0 {
		t.Error("it is not counted")
	}
}

// Drain ends what runs, and commits all that is known.
func TestDrain(t *testing.T) {
	n, g := newNode(t, func(o *actors.Options) { o.CheckpointMin = time.Hour; o.CheckpointMax = time.Hour }), newGate(t)
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, g.uri()))
	n.must("a", "report", `{"level":9}`)
	running := n.start(&pb.InvokeRequest{Id: "a", Action: "ask", Input: value(t, `{"text":"block","timeout_ms":4000}`)})
	until(t, "the device has it", func() bool { return g.heard("block") == 1 })
	waiting := n.start(n.note("w", nil))
	drained := make(chan error, 1)
	n.cluster.TurnAway() // as a node does that ends
	go func() { drained <- n.engine.Drain(ctx(t)) }()
	if err := <-waiting; !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("the waiting command: %v, want one that says that it did not run", err)
	}
	close(g.open) // the device answers while the node drains
	if err := <-running; err != nil {
		t.Errorf("the running command: %v", err)
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	if got := n.committed("default/a", "level"); got != "9" {
		t.Errorf("committed level %s, want 9", got)
	}
	if a := n.engine.Stats().Active; a != 0 {
		t.Errorf("%d twins still active", a)
	}
}
