package automation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxRehearsed bounds the twins whose past a rehearsal looks at, and maxRecords what is recorded of them.
	maxRehearsed = 1000
	maxRecords   = 2_000_000
	// defaultFirings is how many firings are given where nobody says.
	defaultFirings = 1000
)

// ErrTooMuch is in the error of a rehearsal that would have to read more than it may.
var ErrTooMuch = errors.New("too much is recorded")

// Recorded is something that a twin said, as history has it.
type Recorded struct {
	// Time is in milliseconds since 1970.
	Time int64
	// Kind is SaidProperty, SaidEvent or SaidFailure.
	Kind, Name string
	Value      state.Value
}

// Tape gives what is recorded of a twin from start to end in the order of time, before that the last value that each property had at start, as far
// as it is known; limit is how much there may be (ErrTooMuch). It may block until ctx ends.
type Tape func(ctx context.Context, twin string, start, end time.Time, limit int) ([]Recorded, error)

// Rehearsal is a rule and the time that it is to live through.
type Rehearsal struct {
	Rule       *pb.Rule
	Start, End time.Time
	// Limit is how many firings are given; 0: 1,000.
	Limit int
	Tape  Tape
}

// Rehearse has a rule live through what was recorded: the evaluator is that of real rules, the clock is the record's, and nothing is done. It blocks until
// that is over, or ctx ends. Errors wrap ErrTooMuch, or are the tape's.
func (h *Host) Rehearse(ctx context.Context, x Rehearsal) (*pb.DryRunRuleResponse, error) {
	if x.Limit == 0 {
		x.Limit = defaultFirings
	}
	p := &replay{World: h.o.World, ctx: ctx, x: x, now: x.Start, tapes: map[string]*tape{}, left: maxRecords}
	out := &pb.DryRunRuleResponse{Start: timestamppb.New(x.Start), End: timestamppb.New(x.End), Notes: notRecorded(x.Rule)}
	rule, err := p.stage(h)
	if err != nil {
		return nil, err
	}
	events, err := p.events(rule)
	if err != nil {
		return nil, err
	}
	for _, e := range events {
		if err := p.until(rule, e.Time, out); err != nil {
			return nil, err
		}
		p.play(rule, e, out)
	}
	if err := p.until(rule, x.End.UnixMilli(), out); err != nil {
		return nil, err
	}
	out.State = rule.describe(nil, &actorv1.UnitQuery{}).Rule
	out.State.Node = ""
	out.Twins, out.Records = uint32(len(p.tapes)), uint64(maxRecords-p.left)
	return out, p.err
}

// notRecorded says of which triggers nothing is recorded.
func notRecorded(m *pb.Rule) (all []string) {
	for _, t := range m.When {
		switch {
		case t.GetAbsent() != nil:
			all = append(all, "that a device said the same again is not recorded: a silence may be shown that was none")
		case t.GetNode() != nil:
			all = append(all, "what becomes of nodes is not recorded")
		case t.GetWebhook() != nil:
			all = append(all, "what is posted to the rule is not recorded")
		case t.GetTopic() != nil:
			all = append(all, "messages of topic "+t.GetTopic().Topic+" are not looked at")
		}
	}
	return all
}

// replay is the world as it was: twins say what their tapes have, everything else is as it is now.
type replay struct {
	World
	ctx   context.Context
	x     Rehearsal
	now   time.Time
	tapes map[string]*tape
	left  int // records that may be read
	err   error
}

// tape is what is recorded of a twin, and how far it has been played.
type tape struct {
	all  []Recorded
	next int
	st   *state.Record
}

// event is a record of a twin that triggers.
type event struct {
	Recorded
	twin string
	tape *tape
	at   int
	// wanted: the rule hears of it.
	wanted bool
}

// stage makes the rule, alone on a host of its own.
func (p *replay) stage(h *Host) (*rule, error) {
	own := &Host{o: Options{World: p, Now: func() time.Time { return p.now }, Stepped: func() int64 { return 0 }, Node: h.o.Node, Logger: h.o.Logger, Metrics: metrics.NewSet()}, programs: h.programs,
		units: map[string]*unit{}}
	own.count()
	u := &unit{h: own, address: Address(KindRule, p.x.Rule.Id), kind: KindRule, id: p.x.Rule.Id, rec: &actorv1.Unit{}, known: true, ctx: p.ctx,
		under: map[uint64]bool{}, parked: map[uint64]int64{}}
	u.slot = cluster.SlotOf(u.address)
	r := newRule(u)
	u.logic = r
	r.conf, r.loaded, r.replay = p.x.Rule, true, true
	r.arrange()
	if r.fault != "" {
		return nil, errors.New(r.fault)
	}
	u.rec.Last, r.absentDue = p.x.Start.UnixMilli(), p.x.Start.UnixMilli()
	r.planNext(&turn{u: u}, p.x.Start)
	return r, nil
}

// events gives what the twins of the rule's triggers said, in the order of time.
func (p *replay) events(r *rule) ([]event, error) {
	project, _, _ := strings.Cut(p.x.Rule.Id, "/")
	wants := map[string]*Listener{}
	for _, t := range p.x.Rule.When {
		kind, of, names := triggerOf(t)
		if a := t.GetAbsent(); a != nil {
			of = a.Of
		} else if kind == "" {
			continue
		}
		ids, err := p.Selected(project, of)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			if wants[id] == nil {
				wants[id] = &Listener{}
			}
			if kind != "" {
				wants[id].says = append(wants[id].says, saying{kind, names})
			}
		}
		if len(wants) > maxRehearsed {
			return nil, fmt.Errorf("%w: the rule is about %d twins, %d are the most; name fewer", ErrTooMuch, len(wants), maxRehearsed)
		}
	}
	var all []event
	for id, l := range wants {
		t := p.tape(id)
		if p.err != nil {
			return nil, p.err
		}
		for i, rec := range t.all {
			if rec.Time >= p.x.Start.UnixMilli() {
				all = append(all, event{rec, id, t, i, l.Wants(rec.Kind, rec.Name)})
			}
		}
	}
	slices.SortStableFunc(all, func(a, b event) int {
		if a.Time != b.Time {
			return int(min(1, max(-1, a.Time-b.Time)))
		}
		return strings.Compare(a.twin, b.twin)
	})
	return all, p.ctx.Err()
}

// tape gives a twin's, read when it is first asked for.
func (p *replay) tape(id string) *tape {
	if t := p.tapes[id]; t != nil {
		return t
	}
	t := &tape{st: &state.Record{}}
	p.tapes[id] = t
	if p.err != nil {
		return t
	}
	all, err := p.x.Tape(p.ctx, id, p.x.Start, p.x.End, p.left)
	if err == nil && len(all) > p.left {
		err = ErrTooMuch
	}
	if err != nil {
		p.err = fmt.Errorf("what is recorded of %s: %w", id, err)
		return t
	}
	p.left -= len(all)
	t.all = all
	return t
}

// play has a tape go on up to a time.
func (t *tape) play(until int64) {
	for t.next < len(t.all) && t.all[t.next].Time <= until {
		t.one()
	}
}

func (t *tape) one() (was state.Value) {
	rec := t.all[t.next]
	t.next++
	if rec.Kind == SaidProperty {
		if p := t.st.Property(state.Intern(rec.Name)); p != nil {
			was = p.Value
		}
		t.st = override(t.st, rec.Name, rec.Value, rec.Time)
	}
	t.st.LastSeen = rec.Time
	return was
}

// play tells the rule of an event.
func (p *replay) play(r *rule, e event, out *pb.DryRunRuleResponse) {
	p.now = time.UnixMilli(e.Time)
	for e.tape.next < e.at {
		e.tape.one() // nothing, where its twin was looked at meanwhile
	}
	if e.tape.next > e.at {
		return
	}
	was := e.tape.one()
	if !e.wanted {
		return
	}
	s := Said{Twin: e.twin, Kind: e.Kind, Name: e.Name, Now: e.Value.AppendJSON(nil), Was: was.AppendJSON(nil), Time: e.Time}
	p.turn(r, out, func(t *turn) { r.consider(t, s, encodeSaid(s)) })
}

// until does what is due by time before the next event.
func (p *replay) until(r *rule, end int64, out *pb.DryRunRuleResponse) error {
	for {
		due := r.due()
		if due == 0 || due > end || p.err != nil {
			return errors.Join(p.err, p.ctx.Err())
		}
		p.now = time.UnixMilli(max(due, p.now.UnixMilli()))
		p.turn(r, out, func(*turn) {})
		if again := r.due(); again != 0 && again <= due && again <= p.now.UnixMilli() {
			return fmt.Errorf("the rule does not come to rest at %s", p.now.UTC().Format(time.RFC3339))
		}
	}
}

// turn is one of the rule's, with what is due; what it would do is noted.
func (p *replay) turn(r *rule, out *pb.DryRunRuleResponse, fn func(*turn)) {
	t := &turn{u: r.u, now: p.now, ms: p.now.UnixMilli()}
	fn(t)
	r.tick(t)
	r.u.rec.Open = nil
	for _, run := range t.begun {
		if len(out.Firings) >= p.x.Limit {
			continue
		}
		f := &pb.DryFiring{Time: run.Time, Subject: run.Subject, Cause: run.Cause, Values: run.Values, Otherwise: run.Otherwise}
		if sc, err := r.u.scopeOf(run); err == nil {
			for _, l := range flatten(r.actions(run)) {
				f.Actions = append(f.Actions, r.u.h.wouldDo(l.action, sc))
			}
		}
		out.Firings = append(out.Firings, f)
	}
}

// Past implements World: the history is asked as of the record's time.
func (p *replay) Past(ctx context.Context, twin, property, aggregate string, span time.Duration, at time.Time) (float64, bool, error) {
	if p.ctx.Err() != nil {
		return 0, false, p.ctx.Err()
	}
	return p.World.Past(ctx, twin, property, aggregate, span, at)
}

// LastSeen implements World.
func (p *replay) LastSeen(_ context.Context, twin, property string) (time.Time, error) {
	v, ok := p.View(twin)
	if !ok {
		return time.Time{}, ErrNotFound
	}
	return time.UnixMilli(seenOf(v, property)), nil
}

// View implements World: a twin as it was.
func (p *replay) View(id string) (*expr.Twin, bool) {
	v, ok := p.World.View(id)
	if !ok {
		return nil, false
	}
	t := p.tape(id)
	// Events of this very time come one after the other.
	t.play(p.now.UnixMilli() - 1)
	was := *v
	was.State = t.st
	return &was, true
}
