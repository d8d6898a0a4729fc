package automation

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Due times are of the wall clock, which may be set. What is due at a time of day goes by the new time. What waits for so long goes on for as long as
// it has left: its time is moved by as much as the clock was. A record says which clock its times are of, and how far that had been set.

// ClockSet has all units of this node look at the clock, which was set.
func (h *Host) ClockSet() {
	h.mu.Lock()
	all := make([]*unit, 0, len(h.units))
	for _, u := range h.units {
		all = append(all, u)
	}
	h.mu.Unlock()
	for _, u := range all {
		u.post(func(*turn) {})
	}
}

// Waits says whether what an address has to wait for is an elapsed time, not a time of day.
func Waits(address string) bool {
	kind, _, ok := cutAddress(address)
	return ok && kind != KindSchedule
}

// follow moves what the unit waits for with the clock, if that was set since the unit looked last.
func (u *unit) follow(t *turn) {
	set := u.h.o.Stepped()
	d := set - u.rec.Stepped
	same := u.rec.Clock == u.h.clock
	u.rec.Clock, u.rec.Stepped = u.h.clock, set
	if !same || d == 0 || !u.known {
		return
	}
	t.dirty = true
	u.logic.stepped(t, d)
	for _, n := range u.rec.Open {
		if !u.under[n] {
			u.moveRun(t, n, d)
		}
	}
}

// moveRun moves the times that the steps of a run wait for. Nobody carries it out now.
func (u *unit) moveRun(t *turn, n uint64, d int64) {
	rec, ok, err := u.h.o.Store.Get(TableRuns, runKey(u.address, n))
	run := &pb.Run{}
	if err != nil || !ok || proto.Unmarshal(rec.Value, run) != nil {
		return
	}
	first := int64(0)
	for _, s := range run.Steps {
		if isOpenStep(s) && s.Until != nil {
			s.Until = timestamppb.New(s.Until.AsTime().Add(time.Duration(d) * time.Millisecond))
			if at := s.Until.AsTime().UnixMilli(); first == 0 || at < first {
				first = at
			}
		}
	}
	if first == 0 {
		return
	}
	value, err := proto.Marshal(run)
	if err != nil {
		return
	}
	t.write(TableRuns, runKey(u.address, n), value)
	u.parked[n] = max(first, t.ms+1) // behind this turn's commit
}

func (s *schedule) stepped(*turn, int64) {} // tick sees it

func (a *alarm) stepped(_ *turn, d int64) { a.u.rec.Shifted += d }

func (r *rule) stepped(t *turn, d int64) {
	move := func(at *int64) {
		if *at > 0 {
			*at += d
		}
	}
	for subject, m := range r.instances {
		timed := m.Until > 0 || m.Repeat > 0 || m.Settle > 0 && r.conf.Settle != nil || m.Fired > 0 && r.conf.OncePer != nil
		if !timed {
			continue
		}
		move(&m.Since)
		move(&m.Until)
		move(&m.Repeat)
		move(&m.Fired)
		if r.conf.Settle != nil { // else it waits for its window to open, at a time of day
			move(&m.Settle)
		}
		r.put(t, subject)
	}
	move(&r.u.rec.Storming)
	move(&r.u.rec.Stormed)
	for i := range r.fires {
		r.fires[i] += d
	}
	// Who was silent is waited for anew: twins' times are as they were.
	r.u.rec.Last, r.absentDue = t.ms, t.ms
	if r.u.rec.SteppedFrom = 0; d < 0 {
		r.u.rec.SteppedFrom = t.ms - d
	}
}

// heardAt is when a twin counts as heard that says it was at a time: what it said before the clock was set back has times that are yet to come.
func (r *rule) heardAt(t *turn, seen int64) int64 {
	if seen > t.ms && seen <= r.u.rec.SteppedFrom {
		return r.u.rec.Last
	}
	return max(seen, r.u.rec.Last) // before the rule there was nobody to wait
}

// madeAt is when a twin counts as made: who waits for it waits from then on. In a rehearsal it was there always.
func (r *rule) madeAt(t *turn, made int64) int64 {
	if r.replay {
		return 0
	}
	return r.heardAt(t, made)
}

// widest is the longest time between the next firings of a plan after one.
func (s *schedule) widest(after int64) (ms int64) {
	at := time.UnixMilli(after)
	for range 8 {
		next := s.plan.Next(at)
		if next.IsZero() {
			break
		}
		ms = max(ms, next.Sub(at).Milliseconds())
		at = next
	}
	return ms
}

// ahead says whether the clock was ahead when the next firing was worked out, by so much that the schedule would rest for long: what it did at times that
// come again it does not do again, but it goes on.
func (s *schedule) ahead(t *turn) bool {
	rec := s.u.rec
	if rec.Next <= t.ms || rec.Planned <= t.ms+1000 {
		return false
	}
	gap := s.widest(rec.Next)
	return gap > 0 && rec.Next-t.ms > 2*gap
}
