package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/mqtt"
	"github.com/polluxhq/pollux/drivers/script"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// twinName is the twin under test.
const twinName = "twin"

// caller is the principal of the script's calls.
const caller = "script"

// rig is one test as it runs.
type rig struct {
	b       *Bench
	file    *script.File
	test    *script.Test
	clock   *clock
	began   time.Time // by that clock
	node    *node
	project string
	id      string // of the twin under test
	peer    *peer
	out     *outside
	watch   *actors.Subscription
	faults  *faults
	calls   []*openCall
	events  []*pb.TwinEvent
	logs    []*pb.LogLine
	mqttErr error
	played  int
	line    int // of the step that runs
	made    []string

	mu      sync.Mutex
	trail   []string
	crash   string // of the driver, the last one
	greeted int    // events connected that it handled
	// stopped says why the test may not go on; nil before its steps.
	stopped func() error
}

// openCall is a command whose result was not looked at yet.
type openCall struct {
	step     *script.Step
	answered atomic.Bool
	done     chan struct{}
	res      *pb.InvokeResponse
	err      error
}

// begin makes the twin of a test on the bench's node.
func (b *Bench) begin(ctx context.Context, f *script.File, t *script.Test, faults *faults) (*rig, error) {
	n, err := b.nodeAt(t.Start)
	if err != nil {
		return nil, err
	}
	b.serial++
	r := &rig{b: b, file: f, test: t, clock: n.clock, began: n.clock.Now(), node: n, faults: faults, project: fmt.Sprintf("test%d", b.serial)}
	r.id = r.project + "/" + twinName
	r.peer = &peer{clock: r.clock, deliver: r.deliver, presence: r.presence, away: t.Away, faults: faults, note: r.note, client: r.client}
	r.out = &outside{clock: r.clock, note: r.note, park: n.engine.Park}
	for i := range t.Rules {
		r.rule(&t.Rules[i])
	}
	b.rig.Store(r)
	if err := r.furnish(ctx); err != nil {
		return nil, errors.Join(err, r.end())
	}
	return r, nil
}

// furnish makes the twins of the test.
func (r *rig) furnish(ctx context.Context) error {
	for _, name := range slices.Sorted(maps.Keys(r.test.Twins)) {
		file, d, err := newMock(name, r.test.Twins[name], r.b)
		if err != nil {
			return err
		}
		if err := r.install(ctx, d, file); err != nil {
			return err
		}
		if err := r.make(ctx, &pb.Twin{Id: r.project + "/" + name, Driver: d.manifest.Name}); err != nil {
			return fmt.Errorf("twin %s: %w", name, err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(r.test.Systems)) {
		s := &pb.System{Id: r.project + "/" + id}
		for _, name := range slices.Sorted(maps.Keys(r.test.Systems[id])) {
			s.Members = append(s.Members, &pb.System_Member{Name: name, Twin: r.project + "/" + r.test.Systems[id][name]})
		}
		if _, err := r.node.engine.Registry().PutSystem(ctx, s); err != nil {
			return fmt.Errorf("system %s: %w", id, err)
		}
	}
	var err error
	r.watch, err = r.node.engine.Client().Watch(ctx, &pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{r.id}}, Events: true, Logs: true}, nil)
	if err != nil {
		return err
	}
	return r.create(ctx)
}

// install puts a driver that is no module.
func (r *rig) install(ctx context.Context, d drivers.Runner, file []byte) error {
	sum := sha256.Sum256(file)
	r.node.mu.Lock()
	r.node.native[hex.EncodeToString(sum[:])] = d
	r.node.mu.Unlock()
	_, _, err := r.node.engine.Registry().PutDriver(ctx, d.Manifest(), file, caller)
	return err
}

// make creates a twin and has it come to life.
func (r *rig) make(ctx context.Context, t *pb.Twin) error {
	if err := r.node.owns(t.Id); err != nil {
		return err
	}
	r.made = append(r.made, t.Id)
	if _, err := r.node.engine.Registry().CreateTwin(ctx, t); err != nil {
		return err
	}
	if _, err := r.node.engine.Client().State(ctx, t.Id, false); err != nil {
		return err
	}
	return r.rest()
}

// create makes the twin under test. Where the script says what an earlier version left behind, that version goes before.
func (r *rig) create(ctx context.Context) error {
	m, reg := r.b.manifest, r.node.engine.Registry()
	settings, err := structpb.NewStruct(r.test.Settings)
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if _, _, err := reg.PutDriver(ctx, m, r.b.o.File, caller); err != nil {
		return err
	}
	twin := &pb.Twin{Id: r.id, Driver: m.Name + "@" + m.Version, Uri: r.uri(), Settings: settings}
	if r.test.Was == nil {
		return r.make(ctx, twin)
	}
	if err := r.inherit(ctx, twin); err != nil {
		return fmt.Errorf("was %s: %w", r.test.Was.Version, err)
	}
	if twin, err = reg.GetTwin(r.id); err != nil {
		return err
	}
	twin.Driver = m.Name + "@" + m.Version
	if _, err := reg.UpdateTwin(ctx, twin); err != nil {
		return err
	}
	if _, err := r.node.engine.Client().State(ctx, r.id, false); err != nil {
		return err
	}
	return r.rest()
}

// inherit has the twin live with an earlier version.
func (r *rig) inherit(ctx context.Context, twin *pb.Twin) error {
	m := *r.b.manifest
	m.Version = r.test.Was.Version
	raw, err := json.Marshal(&m)
	if err != nil {
		return err
	}
	file, err := drivers.AppendManifest(stub, raw)
	if err != nil {
		return err
	}
	if err := r.install(ctx, &ancestor{manifest: &m, b: r.b}, file); err != nil {
		return err
	}
	twin.Driver = m.Name + "@" + m.Version
	return r.make(ctx, twin)
}

// uri is the twin's address: the script's, or one that fits the driver's first transport.
func (r *rig) uri() string {
	if r.test.HasURI || len(r.b.manifest.Transports) == 0 {
		return r.test.URI
	}
	t := &r.b.manifest.Transports[0]
	switch t.Scheme {
	case drivers.SchemeMQTT, drivers.SchemeWebhook:
		return ""
	case drivers.SchemeSerial:
		return "serial:///dev/ttyUSB0"
	case drivers.SchemeTCPIn, drivers.SchemeUDPIn:
		return t.Scheme + "://:5000?from=192.0.2.1"
	}
	if t.DefaultPort > 0 {
		return t.Scheme + "://192.0.2.1"
	}
	return t.Scheme + "://192.0.2.1:4000"
}

func (r *rig) rule(s *script.Rule) {
	if s.Frame != nil {
		r.peer.mu.Lock()
		r.peer.rules = append([]*rule{{Rule: s}}, r.peer.rules...)
		r.peer.mu.Unlock()
		return
	}
	r.out.mu.Lock()
	r.out.rules = append([]*rule{{Rule: s}}, r.out.rules...)
	r.out.mu.Unlock()
}

// deliver brings a message of the device to the node, as its broker would.
func (r *rig) deliver(m script.Message) {
	r.peer.mu.Lock()
	r.peer.busy++
	r.peer.mu.Unlock()
	r.note("<- " + script.ShowMessage(m.Topic, m.Data))
	r.node.engine.Deliver(&mqtt.Message{Topic: m.Topic, Payload: m.Data, QoS: byte(m.QoS), Retain: m.Retain}, func(err error) {
		r.peer.mu.Lock()
		r.peer.busy--
		if err != nil && r.mqttErr == nil {
			r.mqttErr = err
		}
		r.peer.mu.Unlock()
	})
}

// presence tells of an MQTT device whether it is there.
func (r *rig) presence(online bool) {
	publishes, err := r.will()
	if err != nil || publishes == nil {
		return
	}
	payload := publishes.Offline
	if online {
		payload = publishes.Online
	}
	r.deliver(script.Message{Topic: publishes.Topic, Data: []byte(payload)})
}

// will is what the twin's device says of itself, with its settings filled in.
func (r *rig) will() (*drivers.Will, error) {
	t := r.b.manifest.TransportOf(r.uri())
	if t == nil || t.Will == nil {
		return nil, nil
	}
	twin, err := r.node.engine.Registry().GetTwin(r.id)
	if err != nil {
		return nil, err
	}
	w := *t.Will
	for k, v := range twin.Settings.AsMap() {
		w.Topic = strings.ReplaceAll(w.Topic, "{"+k+"}", fmt.Sprint(v))
	}
	return &w, nil
}

// note adds to what the report shows.
func (r *rig) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	since := r.clock.Now().Sub(r.began)
	r.trail = append(r.trail, fmt.Sprintf("%9s  %s", since, text))
	if len(r.trail) > maxTrail {
		r.trail = r.trail[1:]
	}
}

// rest waits until nothing runs any more but what waits for the clock, or for the script.
func (r *rig) rest() error {
	began := time.Now()
	for i := 0; ; i++ {
		if r.peer.quiet() && r.node.engine.Quiet() && r.peer.quiet() {
			return r.hear()
		}
		if time.Since(began) > patience {
			return fmt.Errorf("the twin did not come to rest within %s", patience)
		}
		if i < 100 {
			runtime.Gosched()
		} else {
			time.Sleep(50 * time.Microsecond)
		}
	}
}

// hear takes what the twin announced.
func (r *rig) hear() error {
	// With a context that is over a watcher gives what it has.
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for r.watch != nil {
		m, err := r.watch.Next(over)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			return err
		}
		switch c := m.Change.(type) {
		case *pb.WatchTwinsResponse_Event:
			r.events = append(r.events, c.Event)
			r.note("event " + c.Event.Name + " " + script.JSON(c.Event.Data.AsInterface()))
		case *pb.WatchTwinsResponse_Log:
			r.logs = append(r.logs, c.Log)
			r.note("log " + c.Log.Level + ": " + c.Log.Text)
		}
	}
	return nil
}

// pass lets time go by up to a moment, or until something holds. It stops at each moment at which something is due.
func (r *rig) pass(to time.Time, until func() (bool, error)) error {
	for stuck := 0; stuck < 10_000; stuck++ {
		if r.stopped != nil && r.stopped() != nil { // years may be asked for, with a timer each 100 ms
			return fmt.Errorf("the test was stopped at %s of its clock: %w", r.clock.Now().Format(time.DateTime), r.stopped())
		}
		if err := r.rest(); err != nil {
			return err
		}
		if until != nil {
			if ok, err := until(); ok || err != nil {
				return err
			}
		}
		now := r.clock.Now()
		next, due := r.next()
		if !due || next.After(to) {
			if !now.Before(to) {
				return nil
			}
			next = to
		}
		if next.After(now) {
			stuck = 0
		}
		r.clock.move(next)
		r.node.engine.Tick()
	}
	return errors.New("the twin is busy without end: the clock does not get on")
}

// next is when something is due next.
func (r *rig) next() (at time.Time, ok bool) {
	at, ok = r.clock.next()
	if due, some := r.node.engine.NextDue(); some && (!ok || due.Before(at)) {
		return due, true
	}
	return at, ok
}

// end removes the test's twins. Where that fails the node is given up.
func (r *rig) end() error {
	r.out.end()
	if r.watch != nil {
		r.watch.Close()
		r.watch = nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, id := range slices.Backward(r.made) {
		if err := r.node.engine.Registry().DeleteTwin(ctx, id, 0); err != nil && !errors.Is(err, actors.ErrNotFound) {
			return errors.Join(fmt.Errorf("the test's twin does not go: %w", err), r.b.drop())
		}
	}
	if err := r.rest(); err != nil {
		return errors.Join(err, r.b.drop())
	}
	return nil
}

// listen has the door tell when the next call of the script's arrives, and when it is answered.
func (r *rig) listen(c *openCall) (came <-chan struct{}) {
	arrived := make(chan struct{})
	d := r.node.door
	d.mu.Lock()
	defer d.mu.Unlock()
	d.came = func(env *cluster.Envelope) *arrival {
		if env.Principal != caller {
			return nil
		}
		d.mu.Lock()
		d.came = nil
		d.mu.Unlock()
		return &arrival{taken: func() { close(arrived) }, answered: func() { c.answered.Store(true) }}
	}
	return arrived
}
