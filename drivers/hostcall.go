package drivers

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers/js"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
	"github.com/polluxhq/pollux/wasm"
)

// refusals count what calls were refused for going over a limit.
type refusals struct {
	limit *metrics.Counter
	size  *metrics.Counter
}

func newRefusals(set *metrics.Set) *refusals {
	if set == nil {
		set = metrics.NewSet()
	}
	return &refusals{
		limit: set.GetOrCreateCounter(`pollux_driver_capabilities_refused_total{reason="limit"}`),
		size:  set.GetOrCreateCounter(`pollux_driver_capabilities_refused_total{reason="size"}`),
	}
}

// hostCall is one running call: what the guest asks is answered here, and its effects are gathered.
type hostCall struct {
	sandbox *Sandbox
	limits  *CallLimits
	in      *wasm.Instance
	model   *Model
	call    Call
	host    Host
	denied  denySet
	watch   js.Watch

	effects     Effects
	reply       []byte
	hostCalls   int
	logLines    int
	logBytes    int
	sends       int
	https       int
	twinCalls   int
	connections int
	effectBytes int
}

func (h *hostCall) begin(r *runner, in *wasm.Instance, call Call, host Host) {
	*h = hostCall{sandbox: r.sandbox, limits: &r.sandbox.options.Limits, model: r.model, in: in, call: call, host: host,
		denied: r.denied}
}

// end forgets what belongs to others.
func (h *hostCall) end() { *h = hostCall{} }

// Watching implements js.Watched.
func (h *hostCall) Watching() *js.Watch { return &h.watch }

// over counts an excess.
func (h *hostCall) over() code {
	h.sandbox.refused.limit.Inc()
	return codeRateLimited
}

func (h *hostCall) tooLarge() code {
	h.sandbox.refused.size.Inc()
	return codeTooLarge
}

// hostModule is the contract's module of imports.
func hostModule() wasm.HostModule {
	m := wasm.HostModule{Name: Contract, Functions: []wasm.HostFunction{
		{Name: "input", Signature: sigPull, Call: func(in *wasm.Instance, stack []uint64) {
			h := callOf(in)
			put(in, stack[0], h.call.Input)
		}},
		{Name: "reply", Signature: sigPull, Call: func(in *wasm.Instance, stack []uint64) {
			h := callOf(in)
			put(in, stack[0], h.reply)
		}},
		{Name: "output", Signature: sigPush, Call: func(in *wasm.Instance, stack []uint64) {
			h := callOf(in)
			h.output(get(in, stack))
		}},
	}}
	for name, fn := range map[string]func(*hostCall, []byte) code{
		"send": (*hostCall).send, "request": (*hostCall).request, "publish": (*hostCall).publish,
		"state_get": (*hostCall).stateGet, "state_set": (*hostCall).stateSet, "schedule": (*hostCall).schedule,
		"emit": (*hostCall).emit, "log": (*hostCall).log, "setting": (*hostCall).setting,
		"describe": (*hostCall).describe, "discover": (*hostCall).discover,
		"http": (*hostCall).http, "call": (*hostCall).twinCall, "connection": (*hostCall).connection,
		"subscribe": (*hostCall).subscribe,
	} {
		bit := denySet(1) << slices.Index(offered, name)
		m.Functions = append(m.Functions, wasm.HostFunction{Name: name, Signature: sigCap,
			Call: func(in *wasm.Instance, stack []uint64) {
				h := callOf(in)
				if h.denied&bit != 0 {
					stack[0] = uint64(^uint32(0)) // denied
					return
				}
				h.hostCalls++
				if h.hostCalls > h.limits.HostCalls || !h.call.Budget.take(QuotaCalls) {
					stack[0] = uint64(uint32(h.over()))
					return
				}
				stack[0] = uint64(uint32(fn(h, get(in, stack))))
			}})
	}
	return m
}

func callOf(in *wasm.Instance) *hostCall {
	h, ok := in.Data.(*hostCall)
	if !ok {
		panic(errors.New("a capability was used outside of a call"))
	}
	return h
}

// get reads what the guest points to. The bytes are the guest's memory itself.
func get(in *wasm.Instance, stack []uint64) []byte {
	b, ok := in.Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		panic(fmt.Errorf("%d bytes at %d are not in the memory", uint32(stack[1]), uint32(stack[0])))
	}
	return b
}

func put(in *wasm.Instance, ptr uint64, b []byte) {
	if !in.Write(uint32(ptr), b) {
		panic(fmt.Errorf("%d bytes at %d are not in the memory", len(b), uint32(ptr)))
	}
}

// answer sets the reply that the guest pulls.
func (h *hostCall) answer(b []byte) code {
	h.reply = b
	return code(len(b))
}

func (h *hostCall) output(b []byte) {
	if len(b) > h.limits.OutputBytes {
		h.sandbox.refused.size.Inc()
		panic(fmt.Errorf("the output has %d bytes; the limit is %d", len(b), h.limits.OutputBytes))
	}
	h.effects.Output = bytes.Clone(b)
}

func (h *hostCall) checkOutput() error {
	if len(h.effects.Output) == 0 {
		h.effects.Output = nil
		return nil
	}
	if !wire.Valid(h.effects.Output) {
		return errOutput
	}
	return nil
}

// sending counts a frame.
func (h *hostCall) sending(n int) code {
	if n > h.limits.SendBytes {
		return h.tooLarge()
	}
	h.sends++
	if h.sends > h.limits.Sends || !h.call.Budget.take(QuotaSends) {
		return h.over()
	}
	return 0
}

func (h *hostCall) send(b []byte) code {
	if c := h.sending(len(b)); c < 0 {
		return c
	}
	ctx := h.in.Context()
	frame := bytes.Clone(b)
	h.clock(false)
	defer h.clock(true)
	if err := h.in.Park(ctx); err != nil {
		return codeTimeout
	}
	err := h.host.Send(ctx, frame)
	h.in.Unpark(ctx)
	return codeOf(err)
}

// clock tells whoever measures the call whether the guest's code runs.
func (h *hostCall) clock(runs bool) {
	switch {
	case h.call.Clock == nil:
	case runs:
		h.call.Clock.Run()
	default:
		h.call.Clock.Pause()
	}
}

// requestTimeout is the wait of a request that names none.
const requestTimeout = 5 * time.Second

func (h *hostCall) request(b []byte) code {
	if len(b) < 4 {
		return codeInvalid
	}
	if c := h.sending(len(b) - 4); c < 0 {
		return c
	}
	timeout := time.Duration(binary.LittleEndian.Uint32(b)) * time.Millisecond
	if timeout == 0 {
		timeout = requestTimeout
	}
	ctx := h.in.Context()
	frame := bytes.Clone(b[4:])
	h.clock(false)
	defer h.clock(true)
	if err := h.in.Park(ctx); err != nil {
		return codeTimeout
	}
	reply, err := h.host.Request(ctx, frame, timeout)
	h.in.Unpark(ctx)
	if err != nil {
		return codeOf(err)
	}
	return h.answer(reply)
}

func (h *hostCall) publish(b []byte) code {
	if c := h.sending(len(b)); c < 0 {
		return c
	}
	if len(b) == 0 || b[0]&3 > 2 || b[0] > 7 {
		return codeInvalid
	}
	zero := bytes.IndexByte(b[1:], 0)
	if zero <= 0 || !utf8.Valid(b[1:1+zero]) || bytes.ContainsAny(b[1:1+zero], "+#") {
		return codeInvalid
	}
	topic, payload := string(b[1:1+zero]), bytes.Clone(b[2+zero:])
	h.clock(false)
	defer h.clock(true)
	return codeOf(h.host.Publish(h.in.Context(), topic, payload, b[0]&3, b[0]&4 != 0))
}

func (h *hostCall) log(b []byte) code {
	if len(b) == 0 || b[0] > 3 {
		return codeInvalid
	}
	levels := [...]string{"debug", "info", "warn", "error"}
	return h.logLine(levels[b[0]], b[1:])
}

func (h *hostCall) logLine(level string, text []byte) code {
	text = text[:min(len(text), h.limits.LogLineBytes)]
	h.logLines++
	h.logBytes += len(text)
	if h.logLines > h.limits.LogLines || h.logBytes > h.limits.LogBytes || !h.call.Budget.take(QuotaLogs) {
		return h.over()
	}
	h.host.Log(level, string(bytes.ToValidUTF8(text, []byte("\uFFFD"))))
	return 0
}

// logOutput puts what the guest wrote to its standard output into the twin's log.
func (h *hostCall) logOutput(output []byte) {
	for line := range bytes.Lines(output) {
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			h.logLine("debug", line)
		}
	}
}

func (h *hostCall) stateGet([]byte) code {
	if h.call.State == nil {
		return h.answer([]byte(`{"properties":{},"memory":null}`))
	}
	return h.answer(h.call.State())
}

func (h *hostCall) setting(name []byte) code {
	if len(name) == 0 {
		if len(h.call.Settings) == 0 {
			return h.answer([]byte("{}"))
		}
		return h.answer(h.call.Settings)
	}
	v := wire.Value(h.call.Settings).Get(string(name))
	if v == nil {
		return h.answer([]byte("null"))
	}
	return h.answer(v)
}
