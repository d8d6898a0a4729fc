package actors

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/polluxhq/pollux/actors/analytics"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Trial judges recorded readings, oldest first, as a detector would that begins with them. One goroutine uses it, and closes it.
type Trial interface {
	// Due is when it would judge that nothing came, in milliseconds since 1970; 0: never.
	Due() int64
	// Elapse judges that nothing has come until now.
	Elapse(now int64) analytics.Verdict
	// Observe judges a reading. It blocks while a logic judges.
	Observe(at int64, value float64) analytics.Verdict
	// Most is how many readings it may be given; 0: any number.
	Most() int
	// Close says why it has stopped judging, if it has.
	Close() error
}

// TryDetector begins a trial of a detector on a twin. Where a logic judges, it begins with nothing kept of the twin and keeps nothing; what
// it would do besides judging is not done. It ends with ctx.
func (r *Registry) TryDetector(ctx context.Context, m *pb.Detector, twin string) (Trial, error) {
	d, err := compileDetector(m)
	if err != nil {
		return nil, detectorError(err)
	}
	if d.settings.Kind == analytics.Module {
		return r.rehearse(ctx, d, twin)
	}
	return seriesTrial{analytics.New(d.settings)}, nil
}

type seriesTrial struct{ *analytics.Series }

func (seriesTrial) Most() int    { return 0 }
func (seriesTrial) Close() error { return nil }

// maxRehearsed is how many readings a logic is given in a rehearsal: a second of computing, where one takes 50 µs.
const maxRehearsed = 20_000

// rehearsal has a logic judge what is recorded of a twin. What it keeps of the twin stays here; what it does besides is noted and not done.
type rehearsal struct {
	ctx   context.Context
	r     *Registry
	d     *detector
	twin  string
	run   *runner
	row   *drivers.Row
	call  drivers.Call
	host  *trial
	cells *cells

	last analytics.Verdict // that was ready
	seen uint64
	err  error
}

func (r *Registry) rehearse(ctx context.Context, d *detector, twin string) (*rehearsal, error) {
	x, cfg, s, err := r.e.logics.of(d.Logic)
	if err != nil {
		return nil, err
	}
	if err := x.resting(r.e); err != nil {
		return nil, err
	}
	run, err := r.runner(ctx, s.digest)
	if err != nil {
		return nil, fmt.Errorf("logic %s: %w", d.Logic, err)
	}
	h := &rehearsal{ctx: ctx, r: r, d: d, twin: twin, run: run, host: &trial{e: r.e, project: ProjectOf(d.Id), system: cfg.system, out: &pb.TryLogicResponse{}},
		cells: &cells{e: r.e, logic: d.Logic, created: x.created, scope: d.scope()}}
	if x, ok := run.Runner.(drivers.Rower); ok {
		h.row = x.Row()
	}
	h.cells.of(twin).now = emptyCell
	h.call = drivers.Call{Event: drivers.EventRun, Tenant: ProjectOf(d.Id), Settings: withoutSecrets(s.model, cfg.settings),
		State: func() []byte { return h.cells.json(twin) }, Clock: &h.host.ctx}
	return h, nil
}

// Due implements Trial.
func (*rehearsal) Due() int64 { return 0 }

// Elapse implements Trial.
func (*rehearsal) Elapse(int64) analytics.Verdict { return analytics.Verdict{} }

// Most implements Trial.
func (*rehearsal) Most() int { return maxRehearsed }

// Observe implements Trial.
func (h *rehearsal) Observe(at int64, value float64) analytics.Verdict {
	v := analytics.Verdict{Expected: math.NaN()}
	if h.err == nil {
		h.err = h.ctx.Err()
	}
	if h.err != nil {
		return v
	}
	m := &judged{message: appendReading(nil, h.d, at, value), twin: h.twin, by: h.cells.scope, at: at}
	said, err := h.ask(m)
	if err != nil {
		if _, refused := errors.AsType[*drivers.DriverError](err); !refused { // which says nothing of this reading
			h.err = fmt.Errorf("logic %s, at the reading of %s: %w", h.d.Logic, msTime(at).UTC().Format("2006-01-02T15:04:05Z"), err)
		}
		return v
	}
	if said == nil {
		return v
	}
	v.Ready, v.Score, v.Anomaly = true, said.Score, said.Anomaly
	if said.Expected != nil {
		v.Expected = *said.Expected
	}
	h.last = v
	h.seen++
	return v
}

// ask gives the logic a reading; nil: it says nothing of it.
func (h *rehearsal) ask(m *judged) (*actorv1.Judged, error) {
	h.host.out.Reset() // nobody reads what it would have done
	h.host.ctx.reset(h.r.e, time.Now(), h.r.e.now().Add(maxTryWait))
	h.call.Input = appendRun(h.call.Input[:0], m)
	handle := h.run.Handle
	if h.row != nil {
		handle = h.row.Handle
	}
	eff, err := handle(&h.host.ctx, h.call, h.host)
	if err != nil {
		return nil, err
	}
	if err := m.read(&eff); err != nil {
		return nil, err
	}
	if err := h.cells.keep(h.twin, eff.Memory); err != nil {
		return nil, err
	}
	return h.d.verdict(m)
}

// Close implements Trial.
func (h *rehearsal) Close() error {
	if h.row != nil {
		h.row.Release()
	}
	h.r.e.runners.release(h.run)
	return h.err
}

// learned commits what the logic keeps of the twin; ErrGuard: it keeps something else by now.
func (h *rehearsal) learned(ctx context.Context) error {
	delete(h.cells.by, "") // what it keeps of all is not for the past to change
	txn := h.cells.txn(nil)
	if txn == nil {
		return nil
	}
	_, err := h.r.e.store.Commit(ctx, txn)
	return err
}

// rehearsed has a detector's logic learn of the past, as often as it keeps something else of the twin meanwhile.
func (p *primer) rehearsed(ctx context.Context, d *detector, m *primed) error {
	for try := 0; ; try++ {
		all, err := p.past(ctx, m)
		if err != nil || len(all) == 0 {
			return err
		}
		h, err := p.e.registry.rehearse(ctx, d, m.twin)
		for errors.Is(err, storage.ErrNoSuchBlob) && p.e.pause(fileLook) && ctx.Err() == nil { // it is on its way
			h, err = p.e.registry.rehearse(ctx, d, m.twin)
		}
		if err != nil {
			return err
		}
		for _, r := range all {
			h.Observe(r.Time, r.Value)
		}
		if err := h.Close(); err != nil {
			return err
		}
		err = h.learned(ctx)
		if isGuard(err) && try < 4 {
			continue
		}
		if err != nil {
			return fmt.Errorf("keep what it has learned: %w", err)
		}
		m.last, m.seen, m.learned = h.last, h.seen, true
		p.e.activate(m.twin, m)
		return nil
	}
}
