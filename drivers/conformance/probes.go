package conformance

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// probes of a driver that starts, in order.
var probes = []struct {
	name, demand string
	run          func(p *prober) (Outcome, string)
}{
	{"life", "load, connected, timers, commands, disconnected and unload never crash it", (*prober).life},
	{"model", "what it reports and emits is in its model", (*prober).inModel},
	{"unknown events", "it answers 0 to events that it does not know, and does nothing", (*prober).unknownEvents},
	{"unknown commands", "it refuses an action and a property that it does not know", (*prober).unknownCommands},
	{"garbage input", "what is no JSON, or of another shape, never crashes it", (*prober).garbageInput},
	{"garbage frames", "whatever a device sends never crashes it", (*prober).garbageFrames},
	{"garbage answers", "whatever is answered over HTTP, and whatever comes by webhook, never crashes it", (*prober).garbageAnswers},
	{"large frames", "a frame of the largest size never crashes it", (*prober).largeFrames},
	{"refusals", "it lives with every refusal of every capability", (*prober).refusals},
	{"repeated load", "to be loaded again asks for the same timers and subscriptions", (*prober).repeatedLoad},
	{"shared instance", "an instance remembers nothing from call to call, of this twin or another", (*prober).sharedInstance},
	{"deadline", "a call that waits for the outside ends at its deadline", (*prober).deadline},
	{"webhook", "the output of a webhook is an answer", (*prober).webhook},
	{"memory", "its memory does not grow from call to call", (*prober).memory},
}

// life is a twin's: everything that happens to it, once. It returns what the calls came to, by what they were.
func (t *twin) life() (what []string, results []result) {
	do := func(event drivers.Event, input string) {
		what = append(what, fmt.Sprintf("event %d %.60q", event, input))
		results = append(results, t.call(event, input))
	}
	do(drivers.EventMigrate, `{"from":"0.0.1"}`)
	do(drivers.EventLoad, `{"reason":"start"}`)
	do(drivers.EventConnected, `{}`)
	do(drivers.EventReceived, "OK")
	inputs, _ := commands(t.model)
	for _, input := range inputs {
		do(drivers.EventCommand, input)
		for i := 0; i < 3 && results[len(results)-1].effects.Pending; i++ {
			do(drivers.EventAnswer, "OK")
		}
	}
	for _, name := range sortedKeys(t.timers) {
		data := string(t.timers[name].Data)
		if data == "" {
			data = "null"
		}
		do(drivers.EventTimer, object("name", name, "data", data))
	}
	for _, s := range t.listens {
		b, _ := json.Marshal(drivers.SubscriptionInput{Twin: "t1", Name: s.Twin, System: s.System, Property: s.Property,
			Value: json.RawMessage("1"), Quality: "good", Time: 1})
		do(drivers.EventSubscription, string(b))
	}
	do(drivers.EventLoad, `{"reason":"settings"}`)
	do(drivers.EventDisconnected, `{"error":"reset by peer"}`)
	do(drivers.EventScan, `{"timeout":100,"options":{}}`)
	do(drivers.EventUnload, `{}`)
	return what, results
}

func (p *prober) life() (Outcome, string) {
	what, results := p.twin().life()
	refused := 0
	for i, r := range results {
		if r.crash != "" {
			return Failed, what[i] + ": " + r.crash
		}
		if r.refusal != nil {
			refused++
		}
	}
	_, without := commands(p.model)
	detail := fmt.Sprintf("%d calls, %d refused by the driver", len(results), refused)
	if len(without) > 0 {
		return Warned, detail + "; no input was found for " + strings.Join(without, ", ")
	}
	return Passed, detail
}

func (p *prober) inModel() (Outcome, string) {
	t := p.twin()
	what, results := t.life()
	seen, tests := 0, 0
	for i, r := range results {
		n, wrong := t.fits(what[i], r)
		if wrong != "" {
			return Failed, wrong
		}
		seen += n
	}
	for _, f := range p.scripts {
		for i := range f.Tests {
			n, wrong := p.rehearse(f, &f.Tests[i])
			if wrong != "" {
				return Failed, wrong
			}
			seen += n
			tests++
		}
	}
	p.report.Reports, p.report.Rehearsed = seen, tests
	switch {
	case tests > 0:
		return Passed, fmt.Sprintf("%d reports and events; %d tests of its scripts played", seen, tests)
	case seen == 0:
		return Passed, "nothing was reported: a device that answers is in the driver's own tests, which were not given"
	}
	return Passed, fmt.Sprintf("%d reports and events", seen)
}

// fits says what of a call's result is not in the twin's model, and counts what is.
func (t *twin) fits(what string, r result) (seen int, wrong string) {
	for _, c := range r.effects.Changes {
		property := t.model.Property(c.Property)
		if property == nil && string(c.Value) == "null" && t.before.Property(c.Property) != nil {
			continue // it is no more, as the same call describes
		}
		if property == nil {
			return seen, fmt.Sprintf("%s reports %q, which is no property of the model", what, c.Property)
		}
		if string(c.Value) != "null" && !property.Fits(c.Value) {
			return seen, fmt.Sprintf("%s reports %s as %.40s, which is no %s", what, c.Property, c.Value, property.Type)
		}
		seen++
	}
	for _, e := range r.effects.Events {
		if t.model.Event(e.Name) == nil {
			return seen, fmt.Sprintf("%s emits %q, which is no event of the model", what, e.Name)
		}
		seen++
	}
	if r.effects.Describe != nil {
		if _, err := t.p.model.Patch(r.effects.Describe); err != nil {
			return seen, fmt.Sprintf("%s describes what is no model: %v", what, err)
		}
	}
	return seen, ""
}

func (p *prober) unknownEvents() (Outcome, string) {
	for _, event := range []drivers.Event{drivers.EventRun + 1, drivers.EventRun + 2, 99, 1000, 1 << 30} {
		for _, input := range []string{"", "{}", `{"a":[1,2,3]}`} {
			r := p.twin().call(event, input)
			switch {
			case r.crash != "":
				return Failed, fmt.Sprintf("event %d %q: %s", event, input, r.crash)
			case r.refusal != nil:
				return Failed, fmt.Sprintf("event %d %q is refused: %s", event, input, r.refusal.Message)
			case len(r.effects.Changes)+len(r.effects.Timers)+len(r.effects.Events) > 0:
				return Failed, fmt.Sprintf("event %d %q changes something", event, input)
			}
		}
	}
	return Passed, ""
}

func (p *prober) unknownCommands() (Outcome, string) {
	for _, input := range []string{`{"action":"no such action","input":null}`, `{"property":"no such property","value":1}`} {
		switch r := p.twin().call(drivers.EventCommand, input); {
		case r.crash != "":
			return Failed, input + ": " + r.crash
		case r.refusal == nil:
			return Failed, input + " is taken"
		case r.refusal.Message == "":
			return Failed, input + " is refused without a message"
		}
	}
	return Passed, ""
}

// broken inputs, of events whose input is JSON.
var broken = []string{"", "{", "null", "[]", "5", `"text"`, "\x00\xff\xfe", `{"action":5}`, `{"property":[]}`, `{"name":{}}`,
	`{"reason":null}`, `{"action":"x","input":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}",
	`{"twin":1,"property":2,"value":` + strings.Repeat("9", 400) + `}`, `{"method":1,"path":null,"query":[],"headers":"x"}`,
	`{"from":[]}`, `{"error":{}}`, `{"timeout":"soon","options":5}`, `{"value":"\ud800"}`}

func (p *prober) garbageInput() (Outcome, string) {
	t, n := p.twin(), 0
	for event := drivers.Event(-1); event <= drivers.EventScan; event++ {
		for _, input := range broken {
			n++
			if r := t.call(event, input); r.crash != "" {
				return Failed, fmt.Sprintf("event %d with %.60q: %s", event, input, r.crash)
			}
		}
	}
	inputs, _ := commands(p.model)
	for _, input := range inputs {
		for _, cut := range []string{input[:len(input)/2], strings.Replace(input, ":", ":{}", 1), input[:len(input)-2]} {
			n++
			if r := t.call(drivers.EventCommand, cut); r.crash != "" {
				return Failed, fmt.Sprintf("command %.60q: %s", cut, r.crash)
			}
		}
	}
	return Passed, fmt.Sprintf("%d inputs", n)
}

func (p *prober) largeFrames() (Outcome, string) {
	size := 64 << 10
	for _, t := range p.runner.Manifest().Transports {
		if t.Tokenizer != nil && t.Tokenizer.MaxFrame > 0 {
			size = t.Tokenizer.MaxFrame
		}
	}
	t := p.twin()
	for _, unit := range []string{"x", "\x00", "\xff", "[", `{"a":`, "a=1 "} {
		frame := strings.Repeat(unit, size/len(unit))
		for _, event := range []drivers.Event{drivers.EventReceived, drivers.EventAnswer} {
			if r := t.call(event, frame); r.crash != "" {
				return Failed, fmt.Sprintf("event %d with %d bytes of %q: %s", event, len(frame), unit, r.crash)
			}
		}
	}
	return Passed, fmt.Sprintf("%d bytes", size)
}

func (p *prober) refusals() (Outcome, string) {
	refuse := []error{drivers.ErrDenied, drivers.ErrTimeout, drivers.ErrDisconnected, drivers.ErrTooLarge, drivers.ErrRateLimited, drivers.ErrInvalid}
	for _, err := range refuse {
		t := p.twin()
		t.host.refuse = err
		what, results := t.life()
		for i, r := range results {
			if r.crash != "" {
				return Failed, fmt.Sprintf("%s, where everything is refused as %s: %s", what[i], err, r.crash)
			}
		}
	}
	return Passed, ""
}

func (p *prober) repeatedLoad() (Outcome, string) {
	t := p.twin()
	var before string
	for i := range 3 {
		r := t.call(drivers.EventLoad, `{"reason":"start"}`)
		if r.crash != "" {
			return Failed, r.crash
		}
		b, _ := json.Marshal([]any{r.effects.Timers, r.effects.Subscriptions})
		if i > 0 && string(b) != before {
			return Failed, fmt.Sprintf("first %.200s, then %.200s", before, b)
		}
		before = string(b)
	}
	return Passed, fmt.Sprintf("%d timers, %d subscriptions", len(t.timers), len(t.listens)/3)
}

// sharedInstance compares a life on one instance, with another twin's calls in between, to lives with a fresh instance
// for each call.
func (p *prober) sharedInstance() (Outcome, string) {
	lives := make([][]result, 3)
	var what []string
	for i := range lives {
		t := p.twin()
		t.fresh = i < 2
		if !t.fresh {
			other := p.twin()
			other.tenant = t.tenant
			other.call(drivers.EventLoad, `{"reason":"start"}`)
			other.life()
		}
		what, lives[i] = t.life()
	}
	for i := range lives[0] {
		one, again, shared := lives[0][i].text(), lives[1][i].text(), lives[2][i].text()
		switch {
		case one != again:
			return Skipped, what[i] + ": two fresh instances do not do the same; the driver goes by the clock or by chance"
		case one != shared:
			return Failed, fmt.Sprintf("%s: an instance that served other calls does %.300s; a fresh one does %.300s", what[i], shared, one)
		}
	}
	return Passed, fmt.Sprintf("%d calls, three times", len(what))
}

// waitLimit is the deadline of the calls of the probe deadline.
const waitLimit = 100 * time.Millisecond

func (p *prober) deadline() (Outcome, string) {
	t := p.twin()
	t.host.stuck = true
	waited := 0
	inputs, _ := commands(p.model)
	calls := append([]string{""}, inputs...)
	for i, input := range calls {
		event := drivers.EventCommand
		if i == 0 {
			event, input = drivers.EventConnected, "{}"
		}
		began := time.Now()
		r, late := t.callWithin(event, input, waitLimit)
		if late {
			return Failed, fmt.Sprintf("event %d %.60q went on for %s after its deadline", event, input, time.Since(began)-waitLimit)
		}
		if len(r.heard) > 0 {
			waited++
		}
	}
	if waited == 0 {
		return Skipped, "no call waits for anything"
	}
	return Passed, fmt.Sprintf("%d calls", waited)
}

func (p *prober) webhook() (Outcome, string) {
	body, _ := json.Marshal(drivers.WebhookInput{Method: "GET", Path: "/", Query: map[string]string{}, Headers: map[string]string{}})
	r := p.twin().call(drivers.EventWebhook, string(body))
	switch {
	case r.crash != "":
		return Failed, r.crash
	case r.refusal != nil:
		return Passed, "refused: " + r.refusal.Message
	case r.effects.Output == nil || string(r.effects.Output) == "null":
		return Passed, "no answer: 204"
	}
	var answer drivers.WebhookOutput
	if err := json.Unmarshal(r.effects.Output, &answer); err != nil {
		return Failed, fmt.Sprintf("%.80s: %v", r.effects.Output, err)
	}
	if answer.Status != 0 && (answer.Status < 200 || answer.Status > 599) {
		return Failed, fmt.Sprintf("status %d is none", answer.Status)
	}
	return Passed, fmt.Sprintf("status %d", answer.Status)
}

func (p *prober) memory() (Outcome, string) {
	t := p.twin()
	t.life()
	t.life()
	before := p.box.GuestBytes()
	const times = 200
	for range times {
		t.call(drivers.EventReceived, "OK")
		t.call(drivers.EventLoad, `{"reason":"start"}`)
	}
	after := p.box.GuestBytes()
	detail := fmt.Sprintf("%.1f MB, and %.1f MB %d calls later", float64(before)/(1<<20), float64(after)/(1<<20), 2*times)
	if after > before*2 && after-before > 8<<20 {
		return Warned, detail + ": an instance that grows is replaced often"
	}
	return Passed, detail
}
