package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/actors/pool"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// maxRunBytes bounds a message that a run gives back: it goes to up to eight topics in one transaction.
	maxRunBytes = 32 << 10
	// maxRunTime ends a batch of messages, between two of them: what they keep is committed then.
	maxRunTime = 100 * time.Millisecond
	// messageBytes are what a message has besides its payload, about, with its key in the transaction.
	messageBytes = 400
	// maxRunLines bounds the lines that a batch gives to the logic's log.
	maxRunLines = 128
	// fileLook is how long a message waits for a logic's file between two looks.
	fileLook = 250 * time.Millisecond
)

// logics are the logics whose run was called on this node: twins of the kind logic, whose run is called wherever a message is. Their
// other events are those of the twin, on its owner. Safe for concurrent use.
type logics struct {
	e  *Engine
	mu sync.Mutex
	by map[string]*logic
	// deaf says by logic and topic why a logic does not read a topic that this node reads for it.
	deaf map[string]map[string]string
}

// logic is one of them: its configuration as it was read last, and how it behaves here.
type logic struct {
	id      string
	created int64

	mu       sync.Mutex
	cfg      *config
	spec     *spec
	failures int
	until    int64 // by nowMS: it is left alone until then
	why      string
	missing  int64  // by nowMS: since when its file is awaited here; 0: it is here
	last     string // what its run failed at last here, since it has this version

	passed, replaced, stopped, failed atomic.Uint64 // what its run said here
}

// judged is a message that a run is given, and what it says of it.
type judged struct {
	message []byte // JSON
	twin    string
	by      string
	at      int64 // milliseconds since 1970
	copies  int   // that go on
	last    bool  // nobody is behind the logic, for whom it could replace the message
	// id tells a repetition; key, headers and attempt are a topic's. All may be missing.
	id, key string
	headers map[string]string
	attempt uint32

	verdict pb.Verdict
	// out is the message as it goes on: its own, or another.
	out []byte
	// err: the run said nothing. It is the message's, not the batch's.
	err error
}

// notReadyError says that a logic cannot be asked now, whatever the message.
type notReadyError struct{ err error }

func (e *notReadyError) Error() string { return e.err.Error() }
func (e *notReadyError) Unwrap() error { return e.err }

// errAwaited: the file of a logic has not arrived at this node yet.
var errAwaited = errors.New("its file has not arrived here yet")

func newLogics(e *Engine) *logics {
	return &logics{e: e, by: map[string]*logic{}, deaf: map[string]map[string]string{}}
}

// of reads a logic's configuration. The errors are sentences about the logic.
func (l *logics) of(id string) (*logic, *config, *spec, error) {
	t, err := l.e.readTwin(id)
	switch {
	case err != nil:
		return nil, nil, nil, err
	case t == nil:
		return nil, nil, nil, fmt.Errorf("logic %s: %w", id, ErrNotFound)
	case t.Stopped:
		return nil, nil, nil, fmt.Errorf("logic %s: %w", id, ErrStopped)
	}
	cfg, err := l.e.readConfig(id)
	if err != nil {
		return nil, nil, nil, err
	}
	if cfg == nil {
		return nil, nil, nil, fmt.Errorf("logic %s: %w", id, ErrNotFound)
	}
	s, err := l.e.catalog.resolve(cfg.driver)
	switch {
	case err != nil:
		return nil, nil, nil, fmt.Errorf("logic %s: %w", id, err)
	case s.manifest.Kind != drivers.KindLogic:
		return nil, nil, nil, invalid("/id", "%s is no logic: its driver %s is not of that kind", id, s.name)
	}
	l.mu.Lock()
	x := l.by[id]
	if created := t.CreateTime.AsTime().UnixMilli(); x == nil || x.created != created {
		x = &logic{id: id, created: created}
		l.by[id] = x
	}
	l.mu.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.spec == s && x.cfg.revision == cfg.revision && string(x.cfg.given) == string(cfg.given) && x.cfg.broken == nil && cfg.broken == nil {
		return x, x.cfg, s, nil
	}
	if err := cfg.apply(s); err != nil {
		return nil, nil, nil, fmt.Errorf("logic %s: configuration: %w", id, err)
	}
	l.e.outfit(id, cfg, x.cfg)
	if x.spec != s {
		x.failures, x.until, x.why, x.missing, x.last = 0, 0, "", 0, "" // another version is another chance
	}
	x.cfg, x.spec = cfg, s
	return x, cfg, s, nil
}

// judge gives messages to a logic's run, on behalf of scope, one after the other, and says how many of them it came to: as many as fit into maxRunTime and laneBytes. It
// blocks meanwhile. An error is none of the logic's: the same may go well in a moment. Messages whose error is a notReadyError were not given to it.
func (l *logics) judge(ctx context.Context, id, scope string, all []*judged) (*cells, int, error) {
	kept := &cells{e: l.e}
	x, cfg, s, err := l.of(id)
	fail := func(err error) (*cells, int, error) {
		for _, m := range all {
			if m.err = err; x != nil {
				x.said(m)
			}
		}
		return kept, len(all), nil
	}
	if err != nil {
		return fail(&notReadyError{err})
	}
	kept.logic, kept.created, kept.scope = id, x.created, scope
	if err := x.resting(l.e); err != nil {
		return fail(&notReadyError{err})
	}
	run, err := l.e.registry.runner(ctx, s.digest)
	switch {
	case err != nil && (ctx.Err() != nil || x.awaits(l.e, err)):
		return nil, 0, fmt.Errorf("logic %s: %w", id, err)
	case err != nil:
		return fail(&notReadyError{fmt.Errorf("logic %s: %w", id, err)})
	}
	defer l.e.runners.release(run)
	x.arrived()
	j := &runs{e: l.e, logic: x, cfg: cfg, spec: s, run: run.Runner, all: all, cells: kept, done: make(chan struct{})}
	h := &j.host.host
	h.e, h.en, h.spec, h.cfg = l.e, &entry{id: id}, s, cfg // no chain: its own twin does not wait for a run, and may be called
	j.host.ticket.Kind = pool.Kind{Event: int32(drivers.EventRun)}
	if !l.e.pool.Submit(&s.key, j) {
		return nil, 0, ErrClosed
	}
	<-j.done
	l.tell(id, j.host.told)
	if j.n == 0 {
		return nil, 0, ErrClosed
	}
	return kept, j.n, nil
}

// resting says why a logic is left alone now, or nil.
func (x *logic) resting(e *Engine) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.until == 0 {
		return nil
	}
	now := e.nowMS()
	if x.until <= now {
		return nil
	}
	return fmt.Errorf("logic %s: it is left alone for %s: %s: %w", x.id, (time.Duration(x.until-now) * time.Millisecond).Round(time.Second), x.why, ErrFault)
}

// awaits says whether a logic's messages wait because its file is not here: for Options.FileWait, then they fail.
func (x *logic) awaits(e *Engine, err error) bool {
	if !errors.Is(err, storage.ErrNoSuchBlob) {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	now := e.nowMS()
	if x.missing == 0 {
		x.missing = now
	}
	return now-x.missing < e.o.FileWait.Milliseconds()
}

func (x *logic) arrived() {
	x.mu.Lock()
	x.missing = 0
	x.mu.Unlock()
}

// said counts what the run said of a message.
func (x *logic) said(m *judged) {
	if _, not := errors.AsType[*notReadyError](m.err); not {
		return
	}
	switch {
	case m.err != nil:
		x.failed.Add(1)
		x.mu.Lock()
		x.last = clip(m.err.Error(), 300)
		spec := x.spec
		x.mu.Unlock()
		spec.tally.failed(x.id, m.err.Error())
	case m.verdict == pb.Verdict_VERDICT_REPLACE:
		x.replaced.Add(1)
	case m.verdict == pb.Verdict_VERDICT_STOP:
		x.stopped.Add(1)
	default:
		x.passed.Add(1)
	}
}

// crashed has a logic left alone, ever longer.
func (x *logic) crashed(e *Engine, why string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	wait := min(e.o.BackoffMin<<min(x.failures, 16), e.o.BackoffMax)
	x.failures++
	x.until, x.why = e.nowMS()+wait.Milliseconds(), why
}

func (x *logic) recovered() {
	x.mu.Lock()
	x.failures, x.until, x.why = 0, 0, ""
	x.mu.Unlock()
}

// tell brings lines to the log of a logic's twin, wherever that is. Those that nobody takes are dropped and counted.
func (l *logics) tell(id string, lines []*pb.LogLine) {
	if len(lines) == 0 {
		return
	}
	env := &cluster.Envelope{ID: newCallID(), Target: cluster.Target{Kind: "twin", ID: id}, Message: &actorv1.Told{Lines: lines},
		Deadline: time.Now().Add(10 * time.Second)}
	l.e.cluster.Call(env, func(r cluster.Reply) {
		if r.Err != nil {
			l.e.stats.dropped[dropLog].Add(uint64(len(lines)))
		}
	})
}

// told takes lines that the twin's driver wrote elsewhere.
func (t *twin) told(m *actorv1.Told, c *call) {
	for _, line := range m.Lines {
		t.line(line.Level, line.Text, line.Time.AsTime().UnixMilli())
	}
	c.answer(takenReply)
}

// runs is a batch of messages for one logic: a job of the pool, like a call of a driver.
type runs struct {
	e     *Engine
	logic *logic
	cfg   *config
	spec  *spec
	run   drivers.Runner
	row   *drivers.Row // of calls to run, where it serves some
	all   []*judged
	cells *cells
	host  runHost
	n     int
	done  chan struct{}
	// of the message that is judged
	call   drivers.Call
	budget drivers.Budget
	twin   string
}

// runHost is what a run reaches: other twins and HTTP, as the logic's twin.
type runHost struct {
	host
	told []*pb.LogLine
}

// Log keeps a line for the logic's log.
func (h *runHost) Log(level, text string) {
	if len(h.told) >= maxRunLines {
		h.e.stats.drop(dropLog)
		return
	}
	h.told = append(h.told, &pb.LogLine{Time: state.Timestamp(h.e.stamp()), Level: level, Text: clip(text, 1024)})
}

// Ticket implements pool.Job.
func (j *runs) Ticket() *pool.Ticket { return &j.host.ticket }

// Run gives the messages to the run. It runs on a worker.
func (j *runs) Run() {
	defer close(j.done)
	began, now := time.Now(), time.Now()
	j.call = drivers.Call{Event: drivers.EventRun, Tenant: ProjectOf(j.logic.id), Settings: j.cfg.settings,
		State: func() []byte { return j.cells.json(j.twin) }, Clock: &j.host.ctx, Budget: &j.budget}
	if x, ok := j.run.(drivers.Rower); ok {
		j.row = x.Row()
		defer j.row.Release()
	}
	for bytes := 0; j.n < len(j.all) && (j.n == 0 || bytes < laneBytes && now.Sub(began) < maxRunTime); now = time.Now() {
		m := j.all[j.n]
		j.n++
		if err := j.logic.resting(j.e); err != nil {
			m.err = &notReadyError{err}
		} else {
			m.err = j.one(m, now)
		}
		if errors.Is(m.err, ErrClosed) { // that says nothing of the message
			j.n--
			break
		}
		j.logic.said(m)
		bytes += m.copies*(max(len(m.out), len(m.message))+messageBytes) + j.cells.kept
		j.cells.kept = 0
	}
	j.e.stats.called(now.Sub(began))
}

// one gives one message to the run, at a time of time.Now.
func (j *runs) one(m *judged, now time.Time) error {
	at := now
	if j.e.o.Clock != nil {
		at = j.e.o.Clock.Now()
	}
	j.budget = drivers.Budget{}
	for q := range drivers.Quotas {
		j.budget.Left[q] = min(j.e.o.TwinQuotas[q].Burst, j.spec.meter.left(q, at.UnixNano(), j.e.o.DriverQuotas[q]))
	}
	j.host.ctx.reset(j.e, now, at.Add(j.e.o.CallTimeout))
	j.twin, j.call.Input = m.twin, appendRun(j.call.Input[:0], m)
	eff, err := j.handle()
	j.spec.tally.called()
	for q, n := range j.budget.Used {
		if n > 0 {
			j.spec.meter.spend(drivers.Quota(q), n, at.UnixNano(), j.e.o.DriverQuotas[q])
		}
	}
	if err != nil {
		return j.failure(err)
	}
	j.logic.recovered()
	if err := m.read(&eff); err != nil {
		return fmt.Errorf("logic %s: %w", j.logic.id, err)
	}
	if err := j.cells.keep(m.twin, eff.Memory); err != nil {
		return fmt.Errorf("logic %s: %w", j.logic.id, err)
	}
	return nil
}

// handle keeps a panic of the host's own code to this message.
func (j *runs) handle() (eff drivers.Effects, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("call logic: panic: %v", p)
		}
	}()
	if j.row != nil {
		return j.row.Handle(&j.host.ctx, j.call, &j.host)
	}
	return j.run.Handle(&j.host.ctx, j.call, &j.host)
}

// failure tells a refusal, which is the message's, from a crash, after which the logic is left alone.
func (j *runs) failure(err error) error {
	var refusal *drivers.DriverError
	ctx := &j.host.ctx
	why := j.cfg.veil(err.Error())
	switch {
	case errors.As(err, &refusal) && !ctx.late.Load():
		return fmt.Errorf("logic %s refused it: %w", j.logic.id, &drivers.DriverError{Code: refusal.Code, Message: j.cfg.veil(refusal.Message),
			Retryable: refusal.Retryable, After: refusal.After})
	case j.e.calls.Err() != nil:
		return fmt.Errorf("logic %s: %w", j.logic.id, ErrClosed)
	case refusal != nil, errors.Is(err, context.DeadlineExceeded) && !ctx.over():
		j.host.Log("warn", fmt.Sprintf("run took longer than %s", j.e.o.CallTimeout))
		return fmt.Errorf("logic %s: run took longer than %s", j.logic.id, j.e.o.CallTimeout)
	case ctx.over():
		why = tooLong(j.e.o.ComputeTimeout).Error()
		if in := drivers.StoppedIn(err); in != "" {
			why += ", in " + clip(j.cfg.veil(in), 256)
		}
		j.e.stats.drop(dropStopped)
	default:
		j.e.stats.drop(dropTrap)
	}
	j.logic.crashed(j.e, why)
	j.spec.tally.trapped(j.logic.id, "run: "+why)
	j.host.Log("error", "run: "+why)
	if more, ok := j.spec.complaints.due(time.Now()); ok {
		j.e.log.Warn("logic failed", "twin", j.logic.id, "driver", j.spec.name+"@"+j.spec.version, "reason", why, "not_told", more)
	}
	return fmt.Errorf("logic %s: run: %s", j.logic.id, why)
}

// appendRun is the event's input, drivers.RunInput.
func appendRun(b []byte, m *judged) []byte {
	b = append(append(b, `{"message":`...), m.message...)
	b = append(b, `,"context":{`...)
	if m.twin != "" {
		b = append(wire.AppendString(append(b, `"twin":`...), m.twin), ',')
	}
	b = wire.AppendString(append(b, `"by":`...), m.by)
	b = strconv.AppendInt(append(b, `,"time":`...), m.at, 10)
	if m.id != "" {
		b = wire.AppendString(append(b, `,"id":`...), m.id)
	}
	if m.attempt == 0 {
		return append(b, '}', '}')
	}
	b = wire.AppendString(append(b, `,"key":`...), m.key)
	b = strconv.AppendUint(append(b, `,"attempt":`...), uint64(m.attempt), 10)
	b = append(b, `,"headers":{`...)
	for i, name := range slices.Sorted(maps.Keys(m.headers)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = wire.AppendString(append(wire.AppendString(b, name), ':'), m.headers[name])
	}
	return append(b, '}', '}', '}')
}

// read takes what a run said.
func (m *judged) read(eff *drivers.Effects) error {
	switch {
	case len(eff.Changes) > 0, len(eff.Events) > 0, len(eff.Timers) > 0, len(eff.Subscriptions) > 0, eff.Describe != nil, len(eff.Discovered) > 0:
		return errors.New("a run reports nothing, announces nothing and sets no timers: it is no event of the logic's twin")
	}
	m.verdict, m.out = pb.Verdict_VERDICT_PASS, m.message
	doc := wire.Value(eff.Output)
	if len(doc) == 0 || string(doc) == "null" {
		return nil
	}
	if stop, _ := doc.Get("stop").Bool(); stop {
		m.verdict, m.out = pb.Verdict_VERDICT_STOP, nil
		return nil
	}
	v := doc.Get("replace")
	switch {
	case v.Exists() && m.last:
		return fmt.Errorf("run replaced a message of %s, which goes nowhere from here: answer pass or stop, and have a route ask the logic where something is to go on", m.by)
	case len(v) == 0:
		return errors.New(`run answered neither null, {"replace":…} nor {"stop":true}`)
	case len(v) > maxRunBytes:
		return fmt.Errorf("run answered a message of %d bytes, %d are allowed", len(v), maxRunBytes)
	}
	m.verdict, m.out = pb.Verdict_VERDICT_REPLACE, v
	return nil
}

// forget removes what the runs of a deleted logic remembered. The owner of its slot does so.
func (l *logics) forget(id string) {
	l.mu.Lock()
	delete(l.by, id)
	delete(l.deaf, id)
	l.mu.Unlock()
	if l.e.owned[l.e.slotOf(id)].Load() == nil {
		return
	}
	l.e.goFunc(func() {
		forgetCells(l.e, id)
		if l.e.known(id) {
			return // it was made anew, and forgets what topics it does not read as it begins
		}
		if err := l.e.pruneSettled(l.e.ctx, id, nil); err != nil {
			l.e.log.Warn("forget what logic settled", "twin", id, "err", err)
		}
	})
}

// RunLogic gives one message to a logic's run and commits what it keeps. It blocks until that is done; while the logic's file is on its way
// here, for Options.FileWait at most.
func (e *Engine) RunLogic(ctx context.Context, id string, m *judged) error {
	id, err := CanonicalID(id)
	if err != nil {
		return err
	}
	for try := 0; ; try++ {
		kept, _, err := e.logics.judge(ctx, id, "", []*judged{m})
		if errors.Is(err, storage.ErrNoSuchBlob) {
			select {
			case <-time.After(fileLook):
				try--
				continue
			case <-ctx.Done():
				return fmt.Errorf("logic %s: %w: %w", id, errAwaited, ctx.Err())
			}
		}
		if err != nil {
			return err
		}
		if m.err != nil {
			return m.err
		}
		txn := kept.txn(nil)
		if txn == nil {
			return nil
		}
		if _, err = e.store.Commit(ctx, txn); err == nil {
			return nil
		}
		if try == 4 || !isGuard(err) {
			return fmt.Errorf("logic %s: keep its state: %w", id, err)
		}
	}
}

// Logic gives the run of a logic a message, as a route does; it blocks until that is done. The error is the logic's own words where it
// refused.
func (c *Client) Logic(ctx context.Context, req *pb.RunLogicRequest, by string) (*pb.RunLogicResponse, error) {
	id, err := CanonicalID(req.Id)
	if err != nil {
		return nil, err
	}
	v, err := state.FromProto(req.Message)
	if err != nil {
		return nil, invalid("/message", "%v", err)
	}
	m := &judged{message: v.AppendJSON(nil), by: by, at: c.e.stamp()}
	if req.Twin != "" {
		if m.twin, err = CanonicalID(within(ProjectOf(id), req.Twin)); err != nil || ProjectOf(m.twin) != ProjectOf(id) {
			return nil, invalid("/twin", "%q is no twin of the logic's project", req.Twin)
		}
	}
	if err := c.e.RunLogic(ctx, id, m); err != nil {
		return nil, err
	}
	out := &pb.RunLogicResponse{Verdict: m.verdict}
	if m.verdict == pb.Verdict_VERDICT_STOP {
		return out, nil
	}
	got, err := state.ParseValue(m.out)
	if err != nil {
		return nil, fmt.Errorf("logic %s: its message: %w", id, err)
	}
	out.Message = got.Proto()
	return out, nil
}

// RunLogic implements automation.World.
func (w *world) RunLogic(ctx context.Context, project, id, twin string, message state.Value, by string) (stop bool, err error) {
	if id, err = w.own(project, id); err != nil {
		return false, err
	}
	m := &judged{message: message.AppendJSON(nil), twin: twin, by: by, at: w.e.stamp()}
	if err := w.e.RunLogic(ctx, id, m); err != nil {
		return false, err
	}
	return m.verdict == pb.Verdict_VERDICT_STOP, nil
}
