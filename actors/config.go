package actors

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unique"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"google.golang.org/protobuf/proto"
)

// config is what a running twin keeps of its configuration record.
type config struct {
	revision uint64
	driver   string // as asked for: interned
	uri      string
	given    []byte // settings as given, JSON, with those of others that the twin has
	broken   error  // why they cannot be had
	// zone and systems are where it has settings from.
	zone    string // interned
	systems []string
	// system is what `.` stands for.
	system   string
	settings []byte // with defaults; nil until the driver's schema was applied
	secrets  []string
	publish  []string      // MQTT filters that the driver may publish to
	will     *drivers.Will // how its presence is told; nil: it is not
	// binding is the transport with the settings filled in; nil: the driver needs no device.
	binding *drivers.TransportOptions
	// http is what the capability http reaches besides; web makes the requests.
	http    *drivers.HTTPReach
	web     *web
	stopped bool
}

var noSettings = []byte(`{}`)

// readTwin reads a twin's record; nil where there is none.
func (e *Engine) readTwin(id string) (*pb.Twin, error) {
	rec, ok, err := e.store.Get(tableTwins, id)
	if err != nil || !ok {
		return nil, err
	}
	t := &pb.Twin{}
	if err := proto.Unmarshal(rec.Value, t); err != nil {
		return nil, fmt.Errorf("twin record %s: %w", id, err)
	}
	t.Revision = rec.Revision
	return t, nil
}

func (e *Engine) readConfig(id string) (*config, error) {
	r, err := e.readTwin(id)
	if err != nil || r == nil {
		return nil, err
	}
	return e.configOf(r)
}

// configOf is the configuration of a twin's record, its id included.
func (e *Engine) configOf(r *pb.Twin) (*config, error) {
	ref, err := e.catalog.refOf(r)
	if err != nil {
		ref = r.Driver // resolving it tells what is wrong
	}
	c := &config{revision: r.Revision, driver: unique.Make(ref).Value(), uri: r.Uri, given: noSettings, stopped: r.Stopped, system: r.System}
	if r.Zone != "" {
		c.zone = unique.Make(r.Zone).Value()
	}
	if c.systems, err = e.layers.systemsOf(r.Id); err != nil {
		return nil, err
	}
	s, err := e.catalog.resolve(ref)
	if err != nil {
		return c, nil //nolint:nilerr // resolving it tells what is wrong
	}
	c.given, c.broken = e.layers.givenJSON(r, s)
	return c, nil
}

// apply completes the configuration by what the driver says of it.
func (c *config) apply(s *spec) error {
	if c.broken != nil {
		return c.broken
	}
	full, text, err := s.apply(c.given)
	if err != nil {
		return err
	}
	if bytes.Equal(text, c.given) {
		text = c.given
	}
	c.settings = text
	c.secrets = secretsOf(s.model, full)
	if err := c.resolve(s, full, text); err != nil || !s.ownBroker(c.uri) {
		return err
	}
	var will string
	if _, c.publish, will, err = s.bindings(c.uri, full); err != nil {
		return err
	}
	if will != "" {
		w := *s.via(c.uri).Will
		w.Topic = will
		c.will = &w
	}
	return nil
}

// adopt resolves the driver and has it loaded; then the twin goes on.
func (t *twin) adopt() {
	s, err := t.e.catalog.resolve(t.cfg.driver)
	if err == nil {
		err = t.cfg.apply(s)
	}
	if err == nil {
		t.e.outfit(t.en.id, t.cfg, nil)
	}
	if err != nil {
		if s != nil {
			s.tally.trapped(t.en.id, "configuration: "+err.Error())
		}
		t.fault("configuration: "+err.Error(), 0)
		t.unready()
		return
	}
	if t.st.Fault != "" && t.faultFrom == 0 {
		t.fault("", 0)
	}
	t.spec = s
	t.confined()
	t.remodel()
	t.e.tracers.secrets(t.en.id, t.cfg.secrets, s.traceSecrets)
	if t.sleeping() && !t.cfg.stopped {
		// It sleeps on, whoever is its owner.
	} else if s.via(t.cfg.uri) == nil {
		t.connection(pb.Connection_CONNECTION_NONE)
	} else if t.cfg.stopped {
		t.connection(pb.Connection_CONNECTION_STOPPED)
	} else if c := pb.Connection(t.st.Connection); c == pb.Connection_CONNECTION_NONE || c == pb.Connection_CONNECTION_STOPPED ||
		c == pb.Connection_CONNECTION_UNSPECIFIED || s.dials(t.cfg.uri) && t.link == nil {
		t.connection(pb.Connection_CONNECTION_CONNECTING)
	}
	t.obtain()
}

// unready: there is no driver with which the twin could work. A call that runs goes on to its end.
func (t *twin) unready() {
	t.spec, t.ready, t.loaded = nil, false, false
	if t.run != nil && t.work.running() == nil {
		t.e.runners.release(t.run)
		t.run = nil
	}
	if t.work != nil {
		err := fmt.Errorf("twin %s: %s: %w", t.en.id, t.st.Fault, ErrFault)
		t.work.dropEvents(err, nil)
		t.work.dropCommands(t, err, true)
	}
	t.unlink()
}

// obtain has the driver loaded. Of a twin without one nothing is ever ready, nor loaded.
func (t *twin) obtain() {
	if t.spec.bare() {
		return
	}
	if t.run != nil && t.run.digest == t.spec.digest && t.ready {
		return
	}
	if t.run != nil {
		t.e.runners.release(t.run)
	}
	t.run, t.ready = nil, false
	// By way of the shard: a twin that leaves does not wait for a driver that takes seconds to be compiled.
	e, id, digest := t.e, t.en.id, t.spec.digest
	done := e.busy()
	run, loaded := e.runners.acquire(digest, func(err error) {
		e.send(&shardTurn{id: id, turn: &obtained{digest, err}})
		done()
	})
	t.run = run
	if loaded {
		done()
		t.obtained()
	}
}

// obtaining: the driver is being loaded, maybe compiled. That is this node's doing, so no command's time to connect passes meanwhile.
func (t *twin) obtaining() bool { return t.run != nil && !t.ready }

// obtained: the driver is loaded, or failed to.
type obtained struct {
	digest string
	err    error
}

func (m *obtained) run(t *twin) {
	if t.mode != modeLive && t.mode != modeDeleting || t.spec == nil || t.spec.digest != m.digest || t.ready || t.run == nil {
		return
	}
	if m.err != nil {
		t.e.runners.release(t.run)
		t.run = nil
		t.spec.tally.trapped(t.en.id, "load driver: "+m.err.Error())
		t.stumble(t.spec, "load driver: "+m.err.Error(), 0)
		return
	}
	t.obtained()
}

func (t *twin) obtained() {
	t.ready = true
	w := t.working()
	w.connectFrom(t.nowMS())
	if t.mode != modeLive || t.cfg.stopped {
		return
	}
	if t.st.Version != "" && t.st.Version != t.spec.version {
		w.front(event{kind: drivers.EventLoad, input: []byte(`{"reason":"version"}`)})
		from, _ := json.Marshal(map[string]string{"from": t.st.Version})
		w.front(event{kind: drivers.EventMigrate, input: from})
	} else {
		w.front(event{kind: drivers.EventLoad, input: []byte(`{"reason":"start"}`)})
	}
}

// remodel builds the model from the driver's and the patch.
func (t *twin) remodel() {
	t.model = t.spec.model
	if len(t.patch) == 0 || t.spec.bare() {
		return
	}
	m, err := t.e.catalog.patched(t.spec, t.patch)
	if err != nil {
		t.note("warn", "the model as described cannot be used: "+err.Error())
		return
	}
	t.model = m
}

// reconfigure: the twin's record, or its driver's, changed.
type reconfigure struct {
	// driver is the name of the driver, or the reference of the model, that changed; "" where the twin's own record did.
	driver string
	// touches, where not nil, says whether the change concerns a twin.
	touches func(*config) bool
	// moved: the zones around the twin may be others, by which it is watched.
	moved bool
}

func (m *reconfigure) run(t *twin) {
	if t.mode != modeLive {
		return
	}
	if m.driver != "" {
		if name, _, err := parseRef(t.cfg.driver); (err != nil || name != m.driver) && t.cfg.driver != m.driver {
			return
		}
	}
	if m.touches != nil && !m.touches(t.cfg) {
		return
	}
	m.take(t)
	if t.mode == modeLive {
		if m.moved {
			t.e.hub.reconfigured(t)
		}
		t.detectors() // silence is to be judged although nothing is read
	}
}

// take has the twin go over to what its record says now.
func (m *reconfigure) take(t *twin) {
	cfg, err := t.e.readConfig(t.en.id)
	switch {
	case err != nil:
		t.e.log.Error("twin's configuration", "twin", t.en.id, "err", err)
		return
	case cfg == nil:
		t.remove()
		return
	}
	if m.driver == "" && cfg.revision == t.cfg.revision && cfg.driver == t.cfg.driver && cfg.broken == nil && bytes.Equal(cfg.given, t.cfg.given) {
		return
	}
	old, oldSpec := t.cfg, t.spec
	t.cfg = cfg
	if old.stopped && !cfg.stopped || oldSpec == nil || cfg.stopped {
		t.restart(old)
		return
	}
	s, err := t.e.catalog.resolve(cfg.driver)
	if err == nil {
		err = cfg.apply(s)
	}
	if err != nil {
		// What runs goes on with what it has; the fault says why.
		if s != nil && s != oldSpec {
			s.tally.trapped(t.en.id, "configuration: "+err.Error())
		}
		t.cfg = old
		t.fault("configuration: "+err.Error(), 0)
		return
	}
	t.e.outfit(t.en.id, cfg, old)
	t.reload(old, s)
	t.e.hub.reconfigured(t)
}

// reload goes over to a new configuration at the next message boundary.
func (t *twin) reload(old *config, s *spec) {
	oldSpec := t.spec
	t.spec = s
	if old.system != t.cfg.system {
		t.unbind(old.system)
	}
	if t.st.Fault != "" && t.faultFrom == 0 {
		t.fault("", 0)
	}
	t.e.tracers.secrets(t.en.id, t.cfg.secrets, s.traceSecrets)
	if s.digest != oldSpec.digest {
		t.remodel()
		t.loaded = false
		t.forgive()
		t.obtain()
	} else if !bytes.Equal(old.settings, t.cfg.settings) || old.system != t.cfg.system {
		t.forgive()
		t.working().push(event{kind: drivers.EventLoad, input: []byte(`{"reason":"settings"}`)})
	}
	// With other settings a device that could not be reached is tried at once.
	again := !bytes.Equal(old.settings, t.cfg.settings) && s.dials(t.cfg.uri) && !t.reachable()
	if again || old.uri != t.cfg.uri || !t.cfg.binding.Equal(old.binding) || !t.cfg.http.Equal(old.http) && t.link.asksHTTP() || s.digest != oldSpec.digest && s.dials(t.cfg.uri) {
		t.unlink()
		if s.dials(t.cfg.uri) {
			t.connection(pb.Connection_CONNECTION_CONNECTING)
		}
	}
}

// restart goes over between stopped and running.
func (t *twin) restart(old *config) {
	if t.cfg.stopped {
		t.halt(old)
	} else {
		t.loaded = false
		busy := t.run != nil && t.ready && t.work.running() != nil
		if t.run != nil && !busy {
			t.e.runners.release(t.run)
			t.run, t.ready = nil, false
		}
		was := t.run
		if t.adopt(); busy && t.ready && t.run == was {
			t.obtained()
		}
	}
	t.emitStatus()
	t.e.hub.reconfigured(t)
}

// halt stops the twin. The driver that runs hears of it, with the settings that it has.
func (t *twin) halt(old *config) {
	if t.spec == nil {
		t.adopt()
		return
	}
	if !old.stopped && t.ready {
		t.working().dropWaiting(t, fmt.Errorf("twin %s: %w", t.en.id, ErrStopped))
		t.work.push(event{kind: drivers.EventUnload, input: noSettings}) // the connection is closed after it
		t.cfg.settings, t.cfg.secrets, t.cfg.publish, t.cfg.will = old.settings, old.secrets, old.publish, old.will
	} else {
		t.work.dropWaiting(t, fmt.Errorf("twin %s: %w", t.en.id, ErrStopped))
		t.unlink()
	}
	if t.st.Fault != "" && t.faultFrom == 0 {
		t.fault("", 0)
	}
	if t.spec.via(t.cfg.uri) != nil {
		t.connection(pb.Connection_CONNECTION_STOPPED)
	}
}

// remove begins to delete the twin: no more work is taken, the driver is unloaded, then the state goes.
func (t *twin) remove() {
	t.mode = modeDeleting
	t.work.dropWaiting(t, fmt.Errorf("twin %s: deleted: %w", t.en.id, ErrNotFound))
	if t.work != nil {
		t.work.asking, t.work.ending = nil, nil // nothing of it will be committed any more
	}
	if s := t.save; s != nil {
		waiting := s.waiting
		if s.waiting = nil; len(waiting) > 0 { // what they are refused is among it
			s.unload()
			if s.outgoing, s.outgoingBytes = nil, 0; s.unsure {
				t.e.outbox.gained(func() {}) // what is committed of it is read
			}
		}
		s.unhold(fmt.Errorf("twin %s: deleted: %w", t.en.id, ErrNotFound))
		for i := range waiting {
			t.uncount(&waiting[i])
			waiting[i].tell(fmt.Errorf("twin %s: deleted: %w", t.en.id, ErrNotFound))
		}
	}
	if t.ready && t.loaded && t.backoff == 0 {
		t.working().push(event{kind: drivers.EventUnload, input: noSettings})
	}
}

// finishRemoval removes what the twin left in the store, once nothing runs any more.
func (t *twin) finishRemoval(now int64) {
	if !t.work.empty() || t.link != nil || t.save != nil && t.save.removed || t.waits(now) {
		return
	}
	t.commitRemoval()
}

// unavailable gives the error with which messages are refused in this mode, or nil.
func (t *twin) unavailable() error {
	switch t.mode {
	case modeLive:
		return nil
	case modeAbsent, modeDeleting:
		return fmt.Errorf("twin %s: %w", t.en.id, ErrNotFound)
	}
	return fmt.Errorf("twin %s: %w", t.en.id, cluster.ErrNotOwner)
}
