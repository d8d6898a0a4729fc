package conformance

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
)

const (
	// spoiled answers and webhooks that each driver of such devices hears.
	spoiled = 2000
	// hugeBytes is the longest body that the host lets through; webhooks have a quarter of it. hugeLimit is for a call that hears some.
	hugeBytes = 1 << 20
	hugeLimit = 20 * time.Second
)

// strangeBodies are what no device of any protocol should answer, and beginnings of what many do.
var strangeBodies = []string{"", "null", "[]", "{}", "0", `""`, "<html><body>404</body></html>", "<?xml version=\"1.0\"?><a><b/></a>",
	"<!DOCTYPE a [<!ENTITY b \"bb\">]><a>&b;</a>", "\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "\xef\xbb\xbf{}", "\xff\xfe{\x00}\x00",
	`{"__proto__":{"toString":1},"constructor":null}`, `{"a":1e400,"b":-0,"c":"\ud800"}`, strings.Repeat("[", 5000)}

var strangeStatus = []int{100, 199, 200, 201, 204, 206, 301, 304, 400, 401, 403, 404, 418, 429, 500, 503, 599}

var strangeTypes = []string{"", "text/html", "application/octet-stream", "application/json; charset=utf-16", "multipart/form-data", ";", "\xff",
	strings.Repeat("x", 4096)}

// hugeUnits fill answers of the largest size.
var hugeUnits = []string{"[", `{"a":`, "x", "\x00", "<a>", "9", `"\u0000`, "[1,"}

// spoiler says over HTTP what no device should.
type spoiler struct {
	m     *mutator
	count int
	// huge fills the next bodies, in place of mutations; empty: none.
	huge string
	last string // what was said last
}

func (s *spoiler) one(n int) int { return s.m.r.IntN(n) }

func (s *spoiler) body(most int) []byte {
	s.count++
	if s.last = s.m.next(); s.huge != "" {
		s.last = strings.Repeat(s.huge, most/len(s.huge))
	}
	return []byte(s.last)
}

// answer to a request: its body is always wrong, and what else is said of it half of the times.
func (s *spoiler) answer() drivers.HTTPResponse {
	out := drivers.HTTPResponse{Status: http.StatusOK, Headers: http.Header{"Content-Type": {"application/json"}}, Body: s.body(hugeBytes)}
	switch s.one(8) {
	case 0:
		out.Status = strangeStatus[s.one(len(strangeStatus))]
	case 1:
		out.Headers.Set("Content-Type", strangeTypes[s.one(len(strangeTypes))])
	case 2:
		out.Headers = http.Header{}
	case 3:
		for n := range 1 + s.one(200) {
			out.Headers.Add(fmt.Sprintf("X-%d", n%100), tokens[s.one(len(tokens))])
		}
		out.Headers["Retry-After"], out.Headers["Location"] = []string{"-1", "soon"}, []string{"http://["}
	}
	return out
}

// webhook makes of a request that comes in another: its body is wrong, and one of its other parts half of the times.
func (s *spoiler) webhook(was drivers.WebhookInput) string {
	in := was
	in.Query, in.Headers = maps.Clone(was.Query), maps.Clone(was.Headers)
	body := s.body(hugeBytes / 4)
	in.Body, in.BodyBase64 = string(body), nil
	switch s.one(10) {
	case 0:
		in.Body, in.BodyBase64 = "", body
	case 1:
		in.Headers["content-type"] = strangeTypes[s.one(len(strangeTypes))]
	case 2:
		in.Headers = map[string]string{}
	case 3:
		in.Method = []string{"", "GET", "PUT", "TRACE", "\x00"}[s.one(5)]
	case 4:
		in.Path = "/" + string(s.m.change([]byte(in.Path)))
	}
	for _, name := range sortedKeys(in.Query) { // in the same order each time
		if s.one(4) == 0 {
			in.Query[name] = tokens[s.one(len(tokens))]
		}
	}
	b, _ := json.Marshal(in)
	return string(b)
}

// garbageAnswers has twins that are at work ask over HTTP, by their timers and commands, and be called by webhooks; what they are
// told is what no device should say.
func (p *prober) garbageAnswers() (Outcome, string) {
	say := saidOverHTTP(p.scripts)
	if len(say.bodies) == 0 {
		return Skipped, "no test of it asks over HTTP, or is called by a webhook"
	}
	s := &spoiler{m: newMutator(append(sortedKeys(say.bodies), strangeBodies...), p.report.Seed)}
	twins := p.spoiledTwins(s)
	inputs, _ := commands(p.model)
	inputs = append(inputs, say.commands...)
	calls := 0
	once := func(limit time.Duration) string {
		calls++
		t := twins[calls/2%len(twins)]
		var r result
		switch names := sortedKeys(t.timers); {
		case calls%2 == 0 && len(say.webhooks) > 0:
			r = t.callFor(drivers.EventWebhook, s.webhook(say.webhooks[s.one(len(say.webhooks))]), limit)
		case s.one(2) == 0 && len(names) > 0:
			name := names[s.one(len(names))]
			r = t.callFor(drivers.EventTimer, object("name", name, "data", cmp.Or(string(t.timers[name].Data), "null")), limit)
		case len(inputs) > 0:
			r = t.callFor(drivers.EventCommand, inputs[s.one(len(inputs))], limit)
		default:
			r = t.callFor(drivers.EventConnected, "{}", limit)
		}
		return r.crash
	}
	failed := func(crash string) (Outcome, string) {
		return Failed, fmt.Sprintf("answer %d of seed %d: %.300s; it was %.100q", s.count, p.report.Seed, crash, s.last)
	}
	for s.count < spoiled && calls < 2*spoiled {
		if crash := once(CallLimit); crash != "" {
			return failed(crash)
		}
	}
	for _, s.huge = range hugeUnits {
		for enough, tries := s.count+2, 0; s.count < enough && tries < 20; tries++ { // not each call asks
			if crash := once(hugeLimit); crash != "" {
				return failed(crash)
			}
		}
	}
	return Passed, fmt.Sprintf("%d answers and webhooks, mutations of %d of its device and %d others, seed %d", s.count, len(say.bodies),
		len(strangeBodies), p.report.Seed)
}

// spoiledTwins are twins at work, one for each settings of the driver's tests.
func (p *prober) spoiledTwins(s *spoiler) (all []*twin) {
	for _, settings := range p.fuzzedSettings() {
		t := p.twin()
		t.settings, t.host.spoil = settings, s
		t.call(drivers.EventLoad, `{"reason":"start"}`)
		t.call(drivers.EventConnected, `{}`)
		all = append(all, t)
	}
	return all
}

// overHTTP is what is said over HTTP in a driver's tests: what devices answer and bring, the webhooks, and the commands by which the
// driver is made to ask.
type overHTTP struct {
	bodies   map[string]bool
	webhooks []drivers.WebhookInput
	commands []string
}

func saidOverHTTP(files []*script.File) *overHTTP {
	say := &overHTTP{bodies: map[string]bool{}}
	for _, f := range files {
		say.steps(f.Before)
		for i := range f.Tests {
			say.steps(f.Tests[i].Steps)
			for k := range f.Tests[i].Rules {
				say.answer(f.Tests[i].Rules[k].Answer)
			}
		}
	}
	return say
}

func (o *overHTTP) steps(all []script.Step) {
	for i := range all {
		s := &all[i]
		o.answer(s.Answer)
		switch {
		case s.Kind == script.Webhook:
			var in drivers.WebhookInput
			_ = json.Unmarshal([]byte(webhookInput(s.Request)), &in) // was made from one
			o.webhooks, o.bodies[in.Body] = append(o.webhooks, in), true
		case s.Kind == script.Call:
			o.commands = append(o.commands, object("action", s.Text, "input", script.JSON(s.Input)))
		case s.Rule != nil:
			o.answer(s.Rule.Answer)
		}
	}
}

func (o *overHTTP) answer(a *script.Answer) {
	if a != nil && a.Fail == "" {
		o.bodies[string(response(a).Body)] = true
	}
}
