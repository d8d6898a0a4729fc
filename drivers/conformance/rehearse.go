package conformance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
	"github.com/polluxhq/pollux/drivers/transport"
)

// mostAnswers bounds what rules answer to one step, where a driver and a rule answer each other for ever.
const mostAnswers = 100

// rehearsal plays one test of a script: what the device says, what is answered to the driver, commands and settings. What the
// test expects is `pollux driver test`'s to check; here it is only looked at what the driver makes of it.
type rehearsal struct {
	t    *twin
	test *script.Test
	// steps that are still to come, the one that is played first.
	steps   []script.Step
	rules   []script.Rule
	cut     *transport.Tokenizer // nil: what the device sends is a frame
	pending bool
	said    []string // frames that wait
	// seen counts reports and events that are in the model; wrong says what was not, or crashed, first.
	seen  int
	wrong string
}

// rehearse plays a test. It returns how many reports and events were in the model, and what was not, or crashed; "": nothing.
func (p *prober) rehearse(f *script.File, test *script.Test) (seen int, wrong string) {
	t := p.twin()
	t.settings = p.settingsFor(test.Settings)
	r := &rehearsal{t: t, test: test, steps: append(append([]script.Step(nil), f.Before...), test.Steps...), rules: test.Rules}
	t.host.played = r
	r.open()
	if was := test.Was; was != nil {
		if len(was.Memory) > 0 {
			t.memory = was.Memory
		}
		maps.Copy(t.properties, was.Properties)
		r.do(drivers.EventMigrate, object("from", was.Version, "reason", `"version"`))
	}
	r.do(drivers.EventLoad, `{"reason":"start"}`)
	if !test.Away {
		r.do(drivers.EventConnected, `{}`)
	}
	for len(r.steps) > 0 && r.wrong == "" {
		step := r.steps[0]
		r.steps = r.steps[1:]
		r.play(&step)
	}
	if r.wrong != "" {
		r.wrong = fmt.Sprintf("%s:%d: %s: %s", filepath.Base(f.Path), test.Line, test.Name, r.wrong)
	}
	return r.seen, r.wrong
}

// settingsFor gives a test's settings with defaults; the probes' own where the driver does not take them.
func (p *prober) settingsFor(given map[string]any) []byte {
	text, err := json.Marshal(given)
	if err != nil || given == nil {
		text = []byte("{}")
	}
	full, err := p.model.ValidateSettings(text)
	if err != nil {
		return p.sample
	}
	return full
}

// open finds out how the transport cuts what the device sends.
func (r *rehearsal) open() {
	m := r.t.p.runner.Manifest()
	if len(m.Transports) == 0 {
		return
	}
	how := &m.Transports[0]
	if r.test.HasURI {
		if how = m.TransportOf(r.test.URI); how == nil {
			return
		}
	}
	if how.Tokenizer != nil {
		r.cut, _ = transport.NewTokenizer(how.Tokenizer) // was checked with the manifest
	}
}

// play does what a step does; what steps expect is passed over.
func (r *rehearsal) play(s *script.Step) {
	switch s.Kind {
	case script.Send:
		r.hears(s.Message)
		r.drain()
	case script.Respond:
		r.rules = append([]script.Rule{*s.Rule}, r.rules...)
	case script.Disconnect:
		r.do(drivers.EventDisconnected, `{"error":"the device is gone"}`)
	case script.Connect:
		r.do(drivers.EventConnected, `{}`)
	case script.Quiet, script.Advance, script.At:
		r.fire()
	case script.Call:
		r.do(drivers.EventCommand, object("action", s.Text, "input", script.JSON(s.Input)))
	case script.Set:
		for _, name := range sortedKeys(s.Values) {
			r.do(drivers.EventCommand, object("property", name, "value", script.JSON(s.Values[name])))
		}
	case script.Settings:
		merged := maps.Clone(r.test.Settings)
		if merged == nil {
			merged = map[string]any{}
		}
		maps.Copy(merged, s.Values)
		maps.DeleteFunc(merged, func(_ string, v any) bool { return v == nil })
		r.t.settings = r.t.p.settingsFor(merged)
		r.do(drivers.EventLoad, `{"reason":"settings"}`)
	case script.Webhook:
		r.do(drivers.EventWebhook, webhookInput(s.Request))
	case script.Report:
		r.reported(s)
	}
}

// fire has all timers due, once each.
func (r *rehearsal) fire() {
	for _, name := range sortedKeys(r.t.timers) {
		x, set := r.t.timers[name]
		if !set {
			continue
		}
		if x.Every == 0 && x.Cron == "" {
			delete(r.t.timers, name)
		}
		data := string(x.Data)
		if data == "" {
			data = "null"
		}
		r.do(drivers.EventTimer, object("name", name, "data", data))
	}
}

// reported tells those of the twin's subscriptions that another twin's values are for.
func (r *rehearsal) reported(s *script.Step) {
	for _, l := range r.t.listens {
		v, told := s.Values[l.Property]
		name := l.Twin
		if other := r.test.Systems[l.System][l.Twin]; l.System != "" {
			name = other
		}
		if !told || name != s.Twin {
			continue
		}
		b, _ := json.Marshal(drivers.SubscriptionInput{Twin: s.Twin, Name: l.Twin, System: l.System, Property: l.Property,
			Value: json.RawMessage(script.JSON(v)), Quality: "good", Time: 1})
		r.do(drivers.EventSubscription, string(b))
	}
}

func webhookInput(q *script.Request) string {
	in := drivers.WebhookInput{Method: q.Method, Path: q.URL, Query: q.Query, Headers: q.Headers}
	if in.Query == nil {
		in.Query = map[string]string{}
	}
	if in.Headers == nil {
		in.Headers = map[string]string{}
	}
	switch {
	case q.HasJSON:
		in.Body = script.JSON(q.JSON)
	case q.Body != nil:
		in.Body = string(q.Body.Data)
	}
	b, _ := json.Marshal(in)
	return string(b)
}

// do makes a call, and then those by which the driver gets what was answered to it.
func (r *rehearsal) do(event drivers.Event, input string) {
	r.once(event, input)
	r.drain()
}

func (r *rehearsal) once(event drivers.Event, input string) {
	out := r.t.call(event, input)
	if event == drivers.EventCommand || event == drivers.EventAnswer {
		r.pending = out.effects.Pending
	}
	what := fmt.Sprintf("event %d %.60q", event, input)
	seen, wrong := r.t.fits(what, out)
	if out.crash != "" {
		wrong = what + ": " + out.crash
	}
	r.seen += seen
	r.wrong = cmp.Or(r.wrong, wrong)
}

func (r *rehearsal) drain() {
	for n := 0; len(r.said) > 0 && n < mostAnswers; n++ {
		frame := r.said[0]
		r.said = r.said[1:]
		event := drivers.EventReceived
		if r.pending {
			event = drivers.EventAnswer
		}
		r.once(event, frame)
	}
	r.said = nil
}

// hears queues what the device says, cut as the transport cuts it.
func (r *rehearsal) hears(m script.Message) {
	for _, frame := range r.frames(m) {
		r.said = append(r.said, frame)
		r.t.p.heard[frame] = true
	}
}

func (r *rehearsal) frames(m script.Message) (frames []string) {
	switch {
	case m.Topic != "":
		return []string{m.Topic + "\x00" + string(m.Data)}
	case r.cut == nil:
		return []string{string(m.Data)}
	}
	r.cut.Push(m.Data)
	for {
		frame, ok, err := r.cut.Next()
		if err != nil {
			r.cut.Reset()
		}
		if err != nil || !ok {
			return frames
		}
		frames = append(frames, string(frame))
	}
}

// sent is told what the driver sends; the first rule that fits answers.
func (r *rehearsal) sent(topic string, data []byte) {
	for i := range r.rules {
		rule := &r.rules[i]
		if rule.Frame == nil {
			continue
		}
		if groups, ok := rule.Frame.Matches(topic, data); ok {
			for _, m := range rule.With {
				m.Data = script.Expand(m.Data, groups)
				r.hears(m)
			}
			return
		}
	}
}

// request answers what the driver waits for in the middle of a call: by a rule, or by what the device sends next.
func (r *rehearsal) request(data []byte) ([]byte, error) {
	r.sent("", data)
	for len(r.said) == 0 && len(r.steps) > 0 && (r.steps[0].Kind == script.Expect || r.steps[0].Kind == script.Send) {
		if r.steps[0].Kind == script.Send {
			r.hears(r.steps[0].Message)
		}
		r.steps = r.steps[1:]
	}
	if len(r.said) == 0 {
		return nil, drivers.ErrTimeout
	}
	frame := r.said[0]
	r.said = r.said[1:]
	return []byte(frame), nil
}

// http answers a request by a rule for its path, or as the next step of that kind does.
func (r *rehearsal) http(q drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	for i := range r.rules {
		if rule := &r.rules[i]; rule.Request != nil && rule.Answer != nil && strings.Contains(q.URL, rule.Request.URL) {
			return answered(rule.Answer)
		}
	}
	for i := range r.steps {
		if s := &r.steps[i]; s.Kind == script.HTTP && s.Answer != nil {
			answer := s.Answer
			r.steps = append(r.steps[:i:i], r.steps[i+1:]...)
			return answered(answer)
		}
	}
	return drivers.HTTPResponse{Status: http.StatusServiceUnavailable}, nil
}

func answered(a *script.Answer) (drivers.HTTPResponse, error) {
	if a.Fail != "" {
		return drivers.HTTPResponse{}, drivers.ErrTimeout
	}
	return response(a), nil
}

func response(a *script.Answer) drivers.HTTPResponse {
	out := drivers.HTTPResponse{Status: a.Status, Headers: http.Header{}, Body: a.Body}
	if out.Status == 0 {
		out.Status = http.StatusOK
	}
	if a.HasJSON {
		out.Body = []byte(script.JSON(a.JSON))
	}
	for name, v := range a.Headers {
		out.Headers.Set(name, v)
	}
	return out
}

// called answers for other twins, as a rule or the next step of that kind does; those whose values are asked for tell them.
func (r *rehearsal) called(c drivers.TwinCall) drivers.TwinAnswer {
	name := c.Twin
	if c.System != "" {
		name = r.test.Systems[c.System][c.Twin]
	}
	if c.Get {
		if mock, there := r.test.Twins[name]; there {
			b, _ := json.Marshal(map[string]any{"properties": mock.Properties, "connected": true})
			return drivers.TwinAnswer{Output: b}
		}
	}
	for i := range r.rules {
		if rule := &r.rules[i]; rule.Called != nil && rule.Called.Twin == name && rule.Reply != nil {
			return replied(rule.Reply)
		}
	}
	for i := range r.steps {
		if s := &r.steps[i]; s.Kind == script.Called && s.Outcome != nil {
			outcome := s.Outcome
			r.steps = append(r.steps[:i:i], r.steps[i+1:]...)
			return replied(outcome)
		}
	}
	return drivers.TwinAnswer{Error: &drivers.TwinError{Code: drivers.CallNotFound, Message: "there is no such twin"}}
}

func replied(o *script.Outcome) drivers.TwinAnswer {
	if o.Name != "" && o.Name != "done" {
		return drivers.TwinAnswer{Error: &drivers.TwinError{Code: drivers.CallRefused, Message: o.Message}}
	}
	return drivers.TwinAnswer{Output: json.RawMessage(script.JSON(o.Output))}
}

// seeds are the frames that the device says in the scripts that were given with the driver, as the driver gets them.
func (p *prober) seeds() []string { return sortedKeys(p.heard) }
