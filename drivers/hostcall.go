package drivers

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/VictoriaMetrics/metrics"

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

	effects     Effects
	reply       []byte
	hostCalls   int
	logLines    int
	logBytes    int
	sends       int
	effectBytes int
}

func (h *hostCall) begin(r *runner, in *wasm.Instance, call Call, host Host) {
	*h = hostCall{sandbox: r.sandbox, limits: &r.sandbox.options.Limits, model: r.model, in: in, call: call, host: host}
}

// end forgets what belongs to others.
func (h *hostCall) end() { *h = hostCall{} }

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
	} {
		m.Functions = append(m.Functions, wasm.HostFunction{Name: name, Signature: sigCap,
			Call: func(in *wasm.Instance, stack []uint64) {
				h := callOf(in)
				h.hostCalls++
				if h.hostCalls > h.limits.HostCalls {
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
	if h.sends > h.limits.Sends {
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
	if err := h.in.Park(ctx); err != nil {
		return codeTimeout
	}
	err := h.host.Send(ctx, frame)
	h.in.Unpark(ctx)
	return codeOf(err)
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
	if h.logLines > h.limits.LogLines || h.logBytes > h.limits.LogBytes {
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

// room counts bytes of effects.
func (h *hostCall) room(n int) bool {
	h.effectBytes += n
	return h.effectBytes <= h.limits.EffectBytes
}

// document checks a request that is an object, and copies it: effects outlive the guest's memory.
func (h *hostCall) document(b []byte) (wire.Value, code) {
	if !h.room(len(b)) {
		return nil, h.tooLarge()
	}
	doc, err := wire.Parse(bytes.Clone(b))
	if err != nil || doc.Kind() != wire.Object {
		return nil, codeInvalid
	}
	return doc, 0
}

func (h *hostCall) schedule(b []byte) code {
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	if len(h.effects.Timers) >= h.limits.Timers {
		return h.over()
	}
	t := Timer{}
	var ok bool
	if t.Name, ok = shortText(doc.Get("name")); !ok {
		return codeInvalid
	}
	t.Cancel, _ = doc.Get("cancel").Bool()
	for member, field := range map[string]*time.Duration{"after": &t.After, "every": &t.Every} {
		v := doc.Get(member)
		if v == nil {
			continue
		}
		ms, ok := v.Int()
		if !ok || ms < 0 || ms > int64(maxTimer/time.Millisecond) {
			return codeInvalid
		}
		*field = time.Duration(ms) * time.Millisecond
	}
	if t.Every > 0 && t.Every < minEvery {
		t.Every = minEvery
	}
	if data := doc.Get("data"); data != nil {
		if len(data) > h.limits.ValueBytes {
			return h.tooLarge()
		}
		t.Data = json.RawMessage(data)
	}
	h.effects.Timers = append(h.effects.Timers, t)
	return 0
}

const (
	// maxTimer is the farthest a timer may be set: ten years.
	maxTimer = 10 * 365 * 24 * time.Hour
	// minEvery is the shortest period of a timer that repeats; a shorter one becomes it.
	minEvery = 100 * time.Millisecond
)

// shortText reads a name of 1 to 128 bytes.
func shortText(v wire.Value) (string, bool) {
	text, ok := v.Text()
	return text, ok && text != "" && len(text) <= 128
}

func (h *hostCall) emit(b []byte) code {
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	if len(h.effects.Events) >= h.limits.Events {
		return h.over()
	}
	name, ok := shortText(doc.Get("name"))
	if !ok {
		return codeInvalid
	}
	data := doc.Get("data")
	if len(data) > h.limits.ValueBytes {
		return h.tooLarge()
	}
	h.effects.Events = append(h.effects.Events, Emitted{Name: name, Data: json.RawMessage(data)})
	return 0
}

func (h *hostCall) describe(b []byte) code {
	if len(b) > h.limits.OutputBytes {
		return h.tooLarge()
	}
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	h.effects.Describe = doc
	return 0
}

func (h *hostCall) discover(b []byte) code {
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	if len(h.effects.Discovered) >= h.limits.Discoveries {
		return h.over()
	}
	var d Discovery
	for _, f := range []struct {
		name  string
		field *string
		need  bool
	}{{"network", &d.Network, true}, {"key", &d.Key, true}, {"value", &d.Value, true}, {"name", &d.Name, false}, {"driver", &d.Driver, false}} {
		v := doc.Get(f.name)
		text, ok := v.Text()
		if v != nil && !ok || f.need && text == "" || len(text) > 512 {
			return codeInvalid
		}
		*f.field = text
	}
	if settings := doc.Get("settings"); settings.Exists() {
		if settings.Kind() != wire.Object {
			return codeInvalid
		}
		d.Settings = json.RawMessage(settings)
	}
	h.effects.Discovered = append(h.effects.Discovered, d)
	return 0
}

// stateSet takes {"set":{NAME:VALUE},"time":ms,"quality":"good|stale|bad","memory":ANY}, all optional.
func (h *hostCall) stateSet(b []byte) code {
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	var set, memory wire.Value
	at, quality, valid := int64(0), QualityGood, true
	doc.Members(func(name []byte, v wire.Value) bool {
		switch string(name) {
		case "set":
			set, valid = v, v.Kind() == wire.Object
		case "memory":
			memory = v
		case "time":
			at, valid = v.Int()
			valid = valid && at >= 0
		case "quality":
			quality, valid = qualityOf(v)
		default:
			valid = false
		}
		return valid
	})
	if !valid {
		return codeInvalid
	}
	if len(memory) > h.limits.MemoryBytes {
		return h.tooLarge()
	}
	if c := h.change(set, at, quality); c < 0 {
		return c
	}
	if memory != nil {
		h.effects.Memory = memory
	}
	return 0
}

// change takes all members of set, or none.
func (h *hostCall) change(set wire.Value, at int64, quality Quality) code {
	before := len(h.effects.Changes)
	refused := code(0)
	set.Members(func(key []byte, v wire.Value) bool {
		switch {
		case len(key) == 0 || len(key) > 128:
			refused = codeInvalid
		case len(v) > h.limits.ValueBytes:
			refused = h.tooLarge()
		case len(h.effects.Changes) >= h.limits.Changes:
			refused = h.over()
		}
		if refused == 0 {
			h.effects.Changes = append(h.effects.Changes, Change{Property: h.propertyName(key),
				Value: json.RawMessage(v), Time: at, Quality: quality})
		}
		return refused == 0
	})
	if refused < 0 {
		h.effects.Changes = h.effects.Changes[:before]
	}
	return refused
}

// propertyName is the key as a string, the model's own where it knows it.
func (h *hostCall) propertyName(key []byte) string {
	if p := h.model.properties[string(key)]; p != nil {
		return p.Name
	}
	return string(key)
}

func qualityOf(v wire.Value) (Quality, bool) {
	text, _ := v.Text()
	switch text {
	case "good":
		return QualityGood, true
	case "stale":
		return QualityStale, true
	case "bad":
		return QualityBad, true
	}
	return 0, false
}

// String names the quality.
func (q Quality) String() string {
	switch q {
	case QualityGood:
		return "good"
	case QualityStale:
		return "stale"
	case QualityBad:
		return "bad"
	}
	return strconv.Itoa(int(q))
}
