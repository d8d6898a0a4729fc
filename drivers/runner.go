package drivers

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers/js"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
	"github.com/polluxhq/pollux/wasm"
)

// runner runs one driver.
type runner struct {
	sandbox  *Sandbox
	manifest *Manifest
	model    *Model
	module   *wasm.Module // nil where it is shared: the JavaScript engine
	pool     *wasm.Pool
	denied   denySet
	calls    sync.Pool // of *hostCall
	close    sync.Once
	closeErr error
}

// Modeler is a Runner that has its driver's model compiled already; every Runner of a Sandbox is one.
type Modeler interface {
	Model() *Model
}

func (r *runner) Manifest() *Manifest { return r.manifest }

// Model implements Modeler.
func (r *runner) Model() *Model { return r.model }

// Handle implements Runner.
func (r *runner) Handle(ctx context.Context, call Call, host Host) (Effects, error) {
	row := Row{r: r}
	defer row.Release()
	return row.Handle(ctx, call, host)
}

// Rower is a Runner that serves calls in a row faster than one by one; every Runner of a Sandbox is one.
type Rower interface {
	Row() *Row
}

// Row implements Rower.
func (r *runner) Row() *Row { return &Row{r: r, most: rowTime} }

// maxAfter bounds how far off a driver may put the next try.
const maxAfter = 24 * time.Hour

// rowTime is for how long a row has one instance: then those that wait for one have their turn.
const rowTime = time.Millisecond

// Row serves calls that follow each other as Handle does. It keeps an instance between those of one tenant for a moment, so that
// not every call has to take one, give it back and have its memory counted. One goroutine uses it, and releases it.
type Row struct {
	r      *runner
	most   time.Duration
	in     *wasm.Instance
	tenant string
	till   time.Time
}

// Release gives the instance back. More calls may follow.
func (w *Row) Release() {
	if w.in != nil {
		w.r.pool.Release(w.in)
		w.in = nil
	}
}

// Handle is Runner's.
func (w *Row) Handle(ctx context.Context, call Call, host Host) (Effects, error) {
	r := w.r
	if w.in != nil && w.tenant != call.Tenant {
		w.Release()
	}
	if w.in == nil {
		in, err := r.pool.Acquire(ctx, call.Tenant)
		if err != nil {
			return Effects{}, fmt.Errorf("driver %s: %w", r.manifest.Name, err)
		}
		w.in, w.tenant = in, call.Tenant
		if w.most > 0 {
			w.till = time.Now().Add(w.most)
		}
	}
	h, result, err := r.call(ctx, w.in, call, host)
	if err != nil || w.most == 0 || !w.in.Sound() || time.Now().After(w.till) {
		w.Release()
	}
	effects, err := r.result(h, call.Event, result, err)
	h.end()
	r.calls.Put(h)
	return effects, err
}

// call has an instance do it. The effects are in what it returns.
func (r *runner) call(ctx context.Context, in *wasm.Instance, call Call, host Host) (*hostCall, int32, error) {
	h, _ := r.calls.Get().(*hostCall)
	if h == nil {
		h = &hostCall{}
	}
	h.begin(r, in, call, host)
	in.Data = h
	h.clock(true)
	result, err := in.Call(ctx, 0, uint64(uint32(call.Event)), uint64(uint32(len(call.Input))))
	h.clock(false)
	var trap *wasm.Trap
	if errors.As(err, &trap) && r.module == nil {
		inScript(trap, &h.watch)
	}
	if trap != nil && len(trap.Functions) > 0 { // before the output, which may use up what a call may log
		h.logLine("error", []byte(trap.Reason+", in "+strings.Join(trap.Functions, ", called by ")))
	}
	if output := in.Output(); len(output) > 0 {
		h.logOutput(output)
	}
	in.Data = nil
	return h, int32(uint32(result)), err
}

// inScript has a trap of the engine name the author's functions instead of the engine's own.
func inScript(trap *wasm.Trap, watch *js.Watch) {
	trap.Functions = watch.Frames
	if len(trap.Functions) == 0 && (trap.Kind == wasm.TrapDeadline || trap.Kind == wasm.TrapCancelled) {
		trap.Functions = []string{"a function of the engine, such as sort or repeat"}
	}
}

// StoppedIn names the function that the call of an error of Handle was in as it was stopped or crashed, with the author's
// line as far as the file tells; empty where that is not known.
func StoppedIn(err error) string {
	var trap *wasm.Trap
	if !errors.As(err, &trap) || len(trap.Functions) == 0 {
		return ""
	}
	return trap.Functions[0]
}

// result reads what a call came to.
func (r *runner) result(h *hostCall, event Event, code int32, err error) (Effects, error) {
	switch {
	case err != nil:
		return Effects{}, fmt.Errorf("driver %s: %w", r.manifest.Name, err)
	case code == 0:
		if err := h.checkOutput(); err != nil {
			return Effects{}, &wasm.Trap{Reason: err.Error()}
		}
		return h.effects, nil
	case code > 0:
		return Effects{}, driverError(code, h.effects.Output)
	case code == -1 && (event == EventCommand || event == EventAnswer):
		h.effects.Output = nil
		h.effects.Pending = true
		return h.effects, nil
	case code == -1:
		return Effects{}, &wasm.Trap{Reason: fmt.Sprintf("%s answered pending to event %d; only commands and answers may be", entryHandle, event)}
	}
	if code == -2 && len(h.effects.Output) > 0 {
		return Effects{}, &wasm.Trap{Reason: strings.ToValidUTF8(string(h.effects.Output), "\uFFFD")}
	}
	return Effects{}, &wasm.Trap{Reason: fmt.Sprintf("%s returned %d", entryHandle, code)}
}

// driverError reads a driver's refusal.
func driverError(code int32, output []byte) *DriverError {
	e := &DriverError{Code: code, Message: fmt.Sprintf("the driver refused with code %d", code)}
	doc, err := wire.Parse(output)
	if err != nil {
		return e
	}
	if n, ok := doc.Get("code").Int(); ok && n > 0 && n <= 1<<30 {
		e.Code = int32(n)
	}
	if text, ok := doc.Get("message").Text(); ok && text != "" {
		e.Message = text
	}
	e.Retryable, _ = doc.Get("retryable").Bool()
	if ms, ok := doc.Get("after").Int(); ok && ms > 0 && ms <= maxAfter.Milliseconds() {
		e.After = time.Duration(ms) * time.Millisecond
	}
	return e
}

var errOutput = errors.New("the output is no valid JSON")

// Close implements Runner.
func (r *runner) Close() error {
	r.close.Do(func() {
		r.closeErr = r.pool.Close()
		if r.module != nil {
			r.closeErr = errors.Join(r.closeErr, r.module.Close())
		}
	})
	return r.closeErr
}
