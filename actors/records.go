package actors

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/simulation"
	"github.com/polluxhq/pollux/actors/sink"
	inflow "github.com/polluxhq/pollux/actors/source"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
)

// watchRecords follows the records that matter to running actors, from a revision on.
func (e *Engine) watchRecords(after uint64) error {
	for _, w := range []struct {
		table storage.Table
		fn    func(storage.Change)
		lost  func()
	}{
		{tableTwins, e.twinChanged, e.twinsLost},
		{tableDrivers, e.driverChanged, e.driversLost},
		{tableThings, e.modelChanged, e.driversLost},
		{tablePlace, e.placeChanged, e.placesLost},
		{tableReleases, e.releaseChanged, e.releasesLost},
		{tableRoutes, e.routeChanged, e.routesLost},
		{inflow.TableSources, func(storage.Change) { e.sources.Wake() }, e.sources.Wake},
		{notify.TableNotifiers, func(storage.Change) { e.notifiers.Wake() }, e.notifiers.Wake},
		{tableReadings, func(storage.Change) { e.readers.Wake() }, e.readers.Wake},
		{simulation.TableSimulations, func(storage.Change) { e.simulations.Wake() }, e.simulations.Wake},
		{sink.TableSinks, func(storage.Change) { e.sinks.Wake() }, e.sinks.Wake},
		{cluster.TableMember, e.memberChanged, func() { e.automation.NodesChanged(e.rules) }},
		{automation.TableAlarms, func(c storage.Change) { e.automation.Changed(automation.KindAlarm, c.Key) }, func() {}},
		{automation.TableSchedules, e.scheduleChanged, func() {}},
		{automation.TableRules, e.ruleChanged, e.rulesLost},
		{tableDetectors, e.detectors.changed, e.detectors.lost},
		{tableSettings, e.settingsChanged, e.layersLost},
		{tableZones, e.zoneChanged, e.layersLost},
		{tableSystems, e.membersChanged, e.layersLost},
		{tableFollows, e.followChanged, e.followsLost},
		{tableSystems, e.systemChanged, e.followsLost},
		{tableAliases, func(c storage.Change) { e.intake.aliases.changed(c.Key) }, e.intake.aliases.lost},
		{tableRelations, e.derivations.relationChanged, e.derivations.load},
		{tableTopics, func(c storage.Change) { e.topics.changed(c.Key) }, e.topicsLost},
		{tableProjects, e.projects.changed, e.projects.lost},
		{tableTwins, e.projects.changed, e.projects.lost},
		{tableThings, e.projects.changed, e.projects.lost},
		{tableInbox, e.projects.changed, e.projects.lost},
		{tableShapes, func(c storage.Change) { e.topics.addShape(c.Key) }, func() { _ = e.topics.load() }},
	} {
		if _, err := e.watchOne(w.table, after); err != nil {
			return err
		}
		f := e.waits.follows(w.table, after)
		e.goFunc(func() { e.follow(f, w.fn, w.lost) })
	}
	return nil
}

// watchOne tells whether the table can be watched at all.
func (e *Engine) watchOne(table storage.Table, after uint64) (<-chan []storage.Change, error) {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	ch, err := e.store.Watch(ctx, table, "", after)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", table, err)
	}
	return ch, nil
}

// follow calls fn with each change, and lost where changes may have been missed.
func (e *Engine) follow(f *followed, fn func(storage.Change), lost func()) {
	for e.ctx.Err() == nil {
		ch, err := e.store.Watch(e.ctx, f.table, "", f.seen.Load())
		if err != nil {
			// What is no longer kept cannot be told one by one.
			f.seen.Store(e.store.Revision())
			if e.pause(100 * time.Millisecond) {
				lost()
			}
			continue
		}
		for batch := range ch {
			for _, c := range batch {
				fn(c)
				f.seen.Store(c.Revision)
			}
		}
		e.pause(10 * time.Millisecond)
	}
}

// pause waits, and reports whether the engine still lives.
func (e *Engine) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-e.ctx.Done():
		return false
	}
}

// twinChanged: a twin's record was written or removed.
func (e *Engine) twinChanged(c storage.Change) {
	if c.Deleted {
		// The twin removes its state, whether it was active or not.
		e.activate(c.Key, &reconfigure{})
		e.unfollowed(c.Key)
		e.logics.forget(c.Key)
		e.derivations.twinChanged(c, nil)
		return
	}
	t := &pb.Twin{}
	if err := proto.Unmarshal(c.Value, t); err != nil {
		e.log.Error("twin record", "twin", c.Key, "err", err)
		return
	}
	id := c.Key
	e.send(&shardTurn{id: id, turn: &reconfigure{}, activate: e.startsAlone(t) || e.followers.names(id) || e.detectors.trained(id)})
	e.hub.recorded(t)
	e.derivations.twinChanged(c, t)
}

// noticed has a twin look at its record at once, before calls that come from now on; other nodes learn of the change by the watch.
func (e *Engine) noticed(id string) {
	e.shardOf(slotOf(id)).post(letter{to: &shardTurn{id: id, turn: &reconfigure{}}})
}

func (e *Engine) send(m *shardTurn) { e.system.Root.Send(e.shardOf(slotOf(m.id)).pid, m) }

// startsAlone says whether a twin has to be activated without a message: it holds a connection, or sets timers.
func (e *Engine) startsAlone(t *pb.Twin) bool {
	if t.Stopped {
		return false
	}
	s, err := e.catalog.forTwin(t)
	if err != nil {
		return false
	}
	if s.dials(t.Uri) {
		return true
	}
	if s.via(t.Uri) != nil {
		return false
	}
	return s.manifest.Kind == drivers.KindLogic || slices.Contains(s.manifest.Capabilities, "schedule")
}

// twinsLost has every active twin look at its record again.
func (e *Engine) twinsLost() {
	e.derivations.load()
	e.each(func(*entry) turn { return &reconfigure{} })
}

func (e *Engine) each(make func(*entry) turn) {
	for _, s := range e.shards {
		e.system.Root.Send(s.pid, &shardEach{make})
	}
}

// driverChanged: a driver's version came or went.
func (e *Engine) driverChanged(c storage.Change) {
	e.catalog.changed()
	name, _, _ := strings.Cut(c.Key, "/")
	e.each(func(*entry) turn { return &reconfigure{driver: name} })
}

// modelChanged: a model came, was changed, or went.
func (e *Engine) modelChanged(c storage.Change) {
	e.catalog.changed()
	e.each(func(*entry) turn { return &reconfigure{driver: modelRef + c.Key} })
	e.derivations.modelChanged(c)
}

// releaseChanged: what those twins get that ask for no version is another one, for all of them or for some.
func (e *Engine) releaseChanged(c storage.Change) {
	rel := &pb.Release{Driver: c.Key}
	if err := proto.Unmarshal(c.Value, rel); err != nil {
		e.log.Error("release record", "driver", c.Key, "err", err)
		return
	}
	e.catalog.changed()
	e.rollouts.changed(rel)
	e.each(func(*entry) turn { return &reconfigure{driver: c.Key} })
}

func (e *Engine) releasesLost() {
	if err := e.rollouts.load(); err != nil {
		e.log.Error("releases", "err", err)
	}
	e.driversLost()
}

func (e *Engine) driversLost() {
	e.catalog.changed()
	e.twinsLost()
}

// wrote notes this node's own changes at once; others come by the watch.
func (e *Engine) wrote(writes []storage.Write) {
	e.topics.wrote(writes)
	e.intake.aliases.wrote(writes)
	e.projects.wrote(writes)
}

func (e *Engine) topicsLost() {
	e.topics.mu.Lock()
	e.topics.forget()
	e.topics.mu.Unlock()
}
