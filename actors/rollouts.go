package actors

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
)

const (
	// tableTallies: driver, number of the rollout, node → pb.Tally.
	tableTallies storage.Table = "tally"
	// rolloutEvery is how often nodes report what they counted, and the owner looks at it.
	rolloutEvery = 500 * time.Millisecond
	// What a version may do worse than the one before, beside the factor: traps per call, failures per command.
	trapMargin    = 0.01
	failureMargin = 0.05
)

// rollouts watches the rollouts that go on. Every node reports what its twins of the two versions do; the owner of the
// driver's slot decides. While none goes on, it sleeps.
type rollouts struct {
	e    *Engine
	wake chan struct{}

	mu sync.Mutex
	// seen are the rollouts that go on, by driver.
	seen map[string]*counting
}

// counting is what this node contributes to a rollout.
type counting struct {
	number uint64
	// base is what the versions' tallies were when the rollout was first seen; saved, what an earlier life of this node
	// had reported then; told, what is reported.
	base, saved, told *pb.Tally
}

func newRollouts(e *Engine) *rollouts {
	return &rollouts{e: e, wake: make(chan struct{}, 1), seen: map[string]*counting{}}
}

func rolloutKey(driver string) string { return "rollout/" + driver }
func tallyPrefix(o *pb.Rollout) string {
	return fmt.Sprintf("%s/%08d/", o.Driver, o.Number)
}

// changed takes note of a release before the twins hear of it, so that what they do with the new version counts.
func (w *rollouts) changed(rel *pb.Release) {
	o := active(rel)
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.seen[rel.GetDriver()]
	switch {
	case o == nil:
		delete(w.seen, rel.GetDriver())
		return
	case c != nil && c.number == o.Number:
	default:
		w.seen[o.Driver] = w.count(o)
	}
	signal(w.wake)
}

func (w *rollouts) count(o *pb.Rollout) *counting {
	c := &counting{number: o.Number, base: w.counted(o), saved: &pb.Tally{}}
	if t, err := get(w.e.store, tableTallies, tallyPrefix(o)+w.e.o.Node, &pb.Tally{}); err == nil {
		c.saved = t
	}
	c.told = c.saved
	return c
}

// counted gives the tallies of both versions since the engine's start.
func (w *rollouts) counted(o *pb.Rollout) *pb.Tally {
	c := w.e.catalog
	return &pb.Tally{Now: c.tally(o.Driver, o.Version).proto(), Before: c.tally(o.Driver, o.FromVersion).proto()}
}

// load takes note of what goes on already.
func (w *rollouts) load() error {
	for rec, err := range w.e.store.Scan(tableReleases, "", "") {
		if err != nil {
			return fmt.Errorf("read releases: %w", err)
		}
		rel, err := decode(rec, &pb.Release{})
		if err != nil {
			return err
		}
		w.changed(rel)
	}
	return nil
}

func (w *rollouts) run() {
	timer := time.NewTicker(rolloutEvery)
	defer timer.Stop()
	for {
		if w.idle() {
			select {
			case <-w.e.ctx.Done():
				return
			case <-w.wake:
			}
		}
		w.look()
		select {
		case <-w.e.ctx.Done():
			return
		case <-timer.C:
		}
	}
}

func (w *rollouts) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen) == 0
}

// look reports, and decides where that is this node's.
func (w *rollouts) look() {
	w.mu.Lock()
	names := make([]string, 0, len(w.seen))
	for name := range w.seen {
		names = append(names, name)
	}
	w.mu.Unlock()
	for _, name := range names {
		rel, err := readRelease(w.e.store, name)
		if err == nil && active(rel) != nil {
			if err = w.report(rel); err == nil {
				err = w.decide(rel)
			}
		}
		if err != nil && w.e.ctx.Err() == nil {
			w.e.log.Warn("rollout", "driver", name, "err", err)
		}
	}
}

// report commits what this node counted, where it is more than before, as long as the release is the one that was read: another driver of the
// name begins to count anew.
func (w *rollouts) report(rel *pb.Release) error {
	o := active(rel)
	w.mu.Lock()
	c := w.seen[o.Driver]
	w.mu.Unlock()
	if c == nil || c.number != o.Number {
		return nil
	}
	counted := w.counted(o)
	t := proto.Clone(c.saved).(*pb.Tally)
	t.Revision = 0
	if t.Now == nil {
		t.Now = &pb.RolloutTally{}
	}
	if t.Before == nil {
		t.Before = &pb.RolloutTally{}
	}
	addTally(t.Now, since(counted.Now, c.base.Now))
	addTally(t.Before, since(counted.Before, c.base.Before))
	if proto.Equal(t, c.told) || !w.e.cluster.LeaseValid() {
		return nil
	}
	value, err := encode(t)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(w.e.ctx, 10*rolloutEvery)
	defer cancel()
	_, err = w.e.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: tableReleases, Key: rel.Driver, Revision: rel.Revision}},
		Writes: []storage.Write{{Table: tableTallies, Key: tallyPrefix(o) + w.e.o.Node, Value: value, Quiet: true}}})
	switch {
	case err == nil:
		c.told = t
	case errors.Is(err, storage.ErrGuard):
		return nil // it is looked at again
	}
	return err
}

// tallies sums what the nodes reported.
func (r *Registry) tallies(o *pb.Rollout) (now, before *pb.RolloutTally, err error) {
	now, before = &pb.RolloutTally{}, &pb.RolloutTally{}
	for rec, err := range r.store.Scan(tableTallies, tallyPrefix(o), "") {
		if err != nil {
			return nil, nil, err
		}
		t, err := decode(rec, &pb.Tally{})
		if err != nil {
			return nil, nil, err
		}
		addTally(now, t.Now)
		addTally(before, t.Before)
	}
	return now, before, nil
}

// decide takes the next step of a rollout, or returns it, where this node owns the driver's slot.
func (w *rollouts) decide(rel *pb.Release) error {
	own := w.e.owned[slotOf(rolloutKey(rel.Driver))].Load()
	if own == nil || !w.e.cluster.LeaseValid() {
		return nil
	}
	reg := w.e.registry
	now, before, err := reg.tallies(active(rel))
	if err != nil {
		return err
	}
	was := proto.Clone(rel).(*pb.Release)
	if !w.e.next(rel, now, before) {
		return nil
	}
	guard, write, err := releaseWrite(rel)
	if err != nil {
		return err
	}
	mine := storage.Guard{Table: storage.Table(own.Table), Key: own.Key, Equal: own.Value}
	ctx, cancel := context.WithTimeout(w.e.ctx, 20*rolloutEvery)
	defer cancel()
	if _, err := w.e.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{mine, guard}, Writes: []storage.Write{write}}); err != nil {
		if errors.Is(err, storage.ErrGuard) {
			return nil // somebody else was first
		}
		return err
	}
	o := rel.Rollouts[len(rel.Rollouts)-1]
	w.e.log.Info("rollout", "driver", o.Driver, "version", o.Version, "phase", phaseName(o.Phase), "share", o.Share, "reason", o.Reason)
	w.e.catalog.changed()
	if !goesOn(o) {
		err = w.forget(ctx, o)
	}
	return errors.Join(err, reg.moveTopics(ctx, was, rel))
}

// forget removes the nodes' reports of a rollout that has ended; its record has the sums.
func (w *rollouts) forget(ctx context.Context, o *pb.Rollout) error {
	txn := &storage.Txn{}
	for rec, err := range w.e.store.Scan(tableTallies, tallyPrefix(o), "") {
		if err != nil {
			return err
		}
		txn.Writes = append(txn.Writes, storage.Write{Table: tableTallies, Key: rec.Key, Quiet: true})
	}
	if len(txn.Writes) == 0 {
		return nil
	}
	_, err := w.e.store.Commit(ctx, txn)
	return err
}

func phaseName(p pb.RolloutPhase) string {
	return map[pb.RolloutPhase]string{pb.RolloutPhase_ROLLOUT_PHASE_RUNNING: "running", pb.RolloutPhase_ROLLOUT_PHASE_PAUSED: "paused",
		pb.RolloutPhase_ROLLOUT_PHASE_DONE: "done", pb.RolloutPhase_ROLLOUT_PHASE_RETURNED: "returned"}[p]
}

// next changes a release to what its rollout's figures and the time say; it says whether anything changed.
func (e *Engine) next(rel *pb.Release, now, before *pb.RolloutTally) bool {
	o := active(rel)
	if why := worse(o, now, before); why != "" {
		e.registry.end(o, pb.RolloutPhase_ROLLOUT_PHASE_RETURNED, why, "")
		return true
	}
	if o.Phase != pb.RolloutPhase_ROLLOUT_PHASE_RUNNING || e.now().Before(o.StepTime.AsTime().Add(o.Soak.AsDuration())) {
		return false
	}
	for _, share := range o.Steps {
		if share > o.Share {
			o.Share, o.StepTime = share, e.timestamp()
			return true
		}
	}
	if o.Selector == nil && o.Share == 100 {
		e.registry.end(o, pb.RolloutPhase_ROLLOUT_PHASE_DONE, "", "")
		rel.Previous, rel.Version = rel.Version, o.Version
		return true
	}
	o.Phase, o.Reason = pb.RolloutPhase_ROLLOUT_PHASE_PAUSED, "the last step was watched to its end"
	return true
}

// RolloutLast stands in a rollout's reason before the last trap or failure, with its twin.
const RolloutLast = "; the last: "

// worse says in what a version does worse than the one before it, or "".
func worse(o *pb.Rollout, now, before *pb.RolloutTally) string {
	l := o.Limits
	tell := func(what string, n, of, wasN, wasOf uint64, unit string) string {
		return fmt.Sprintf("%d %s in %d %s with %s, %d in %d with %s", n, what, of, unit, o.Version, wasN, wasOf, o.FromVersion) + RolloutLast + now.Last
	}
	rises := func(n, of, wasN, wasOf uint64, margin float64) bool {
		return rate(n, of) > rate(wasN, wasOf)*l.GetFactor()+margin
	}
	traps := tell("traps", now.Traps, now.Calls, before.Traps, before.Calls, "calls")
	failures := tell("failures", now.Failures, now.Commands, before.Failures, before.Commands, "commands")
	switch {
	case l.GetMaxTraps() > 0 && now.Traps >= uint64(l.MaxTraps):
		return fmt.Sprintf("%s; %d are too many in any case", traps, l.MaxTraps)
	case l.GetMaxFailures() > 0 && now.Failures >= uint64(l.MaxFailures):
		return fmt.Sprintf("%s; %d are too many in any case", failures, l.MaxFailures)
	case now.Traps >= uint64(l.GetMinTraps()) && rises(now.Traps, now.Calls, before.Traps, before.Calls, trapMargin):
		return traps
	case now.Failures >= uint64(l.GetMinFailures()) && rises(now.Failures, now.Commands, before.Failures, before.Commands, failureMargin):
		return failures
	}
	return ""
}

// rate of n in so many; where there were none, each counts whole.
func rate(n, of uint64) float64 {
	if n == 0 {
		return 0
	}
	return float64(n) / float64(max(of, n))
}
