package bench_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/polluxhq/pollux/actors/bench"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/script"
)

// probeSource does what its device and its callers say.
const probeSource = `let kept = 0;
export default driver({
  name: 'probe', version: '2.0.0',
  transports: [{ scheme: 'tcp', default_port: 4000, tokenizer: { delimiter: '\n' } }, { scheme: 'mqtt', subscribe: ['dev/{topic}/+'], publish: ['cmd/{topic}/+'] }],
  http: { hosts: ['api.example'] }, capabilities: ['call'],
  settings: { topic: { type: 'string', default: 'x' } },
  properties: { level: 'number', name: 'string', kept: 'integer', was: 'integer' },
  events: { bell: {} },
  actions: {
    async ask(twin) { return await twin.request('ask\n', { timeout: '2s' }); },
    fetch: { input: 'string', async run(twin, url) { const r = await twin.fetch(url, { timeout: '3s' }); return r.status; } },
    refuse() { throw new Refusal('no', { code: 7 }); },
    keep(twin) { twin.report('kept', ++kept); },
    say: { input: 'string', run: (twin, text) => twin.send(text) },
    publish: { input: 'string', run: (twin, text) => twin.publish('cmd/x/go', text) },
  },
  timers: { tick: (twin) => twin.send('tick\n') },
  migrate(twin, from) { twin.report('was', twin.memory.n); },
  received(twin, line) {
    if (line === 'crash') return twin.memory.nothing.here;
    if (line === 'bell') return twin.emit('bell', 1);
    if (line === 'tick') return twin.every('tick', '1m');
    const [, level] = /^level (\d+)$/.exec(line) ?? [];
    if (level) twin.report('level', Number(level));
  },
  message(twin, topic, payload) { twin.report({ name: topic + ' ' + payload }); },
});
`

func probe(t *testing.T, shuffle bool) *bench.Bench {
	t.Helper()
	drivertest.NeedEngine(t)
	return open(t, []byte(probeSource), shuffle)
}

// one makes a script of one test.
func one(steps string) string {
	return "tests:\n  - name: a\n    settings: {topic: x}\n    steps:\n" + steps
}

// Each failure names its step, what was expected and what there was.
func TestFailures(t *testing.T) {
	b := probe(t, false)
	for _, c := range []struct{ steps, text, expected, got string }{
		{"      - expect: hello\n", "did not send", `"hello"`, "nothing"},
		{"      - expect: hello\n        within: 1h\n", "within 1h0m0s", `"hello"`, "nothing"},
		{"      - call: say\n        input: bye\n      - expect: hello\n", "something else", `"hello"`, `"bye"`},
		{"      - call: say\n        input: bye\n      - quiet: 1s\n", "sent something", "nothing for 1s", `"bye"`},
		{"      - state: {level: 3}\n", "the state", `{"level":3}`, "{}"},
		{"      - send: \"level 4\\n\"\n      - state: {level: 3}\n", "the state", `{"level":3}`, `{"level":4}`},
		{"      - event: bell\n", "did not emit", "bell", "no event"},
		{"      - send: \"bell\\n\"\n      - event: bell\n        data: 2\n", "something else", "bell 2", "bell 1"},
		{"      - call: ask\n        output: x\n", "has not ended", "done", ""},
		{"      - call: refuse\n        output: x\n", "ended otherwise", "done", "code 7"},
		{"      - call: refuse\n        error: {code: 8}\n", "ended otherwise", "code 8", "code 7"},
		{"      - call: refuse\n", "no step expects it", "", "no"},
		{"      - call: ask\n", "no result yet", "", ""},
		{"      - result\n", "no call", "", ""},
		{"      - disconnect\n      - send: x\n", "not connected", "", ""},
		{"      - http: {url: /a}\n", "no HTTP request", "/a", "none"},
		{"      - call: fetch\n        input: http://api.example/b\n      - http: {url: /a}\n", "another HTTP request", "/a", "/b"},
		{"      - settings: {unknown: 1}\n", "not taken", "", "unknown"},
		{"      - log: hello\n", "log does not say", "hello", "nothing"},
		{"      - status: {fault: broken}\n", "the status", "broken", ""},
		{"      - at: 2020-01-01\n", "past that", "", "2026"},
	} {
		r := run(t, b, one(c.steps))[0]
		f := r.Failure
		if f == nil {
			t.Errorf("this passed:\n%s", c.steps)
			continue
		}
		if !strings.Contains(f.Text, c.text) || !strings.Contains(f.Expected, c.expected) || !strings.Contains(f.Got, c.got) || f.Line < 5 {
			t.Errorf("of\n%s\nline %d: %s; expected %s, got %s", c.steps, f.Line, f.Text, f.Expected, f.Got)
		}
	}
}

const good = `tests:
  - name: a request waits by the clock
    steps:
      - call: ask
      - expect: "ask\n"
      - advance: 1900ms
      - send: "late\n"
      - result: ask
        output: late
  - name: a request times out by the clock
    steps:
      - call: ask
        retries: 0
      - expect: "ask\n"
      - advance: 2s
      - result: ask
        error: {}
  - name: rules answer, with groups, later, and so many times
    respond: [{to: {match: "(.)sk\n"}, with: "level \\1\n", after: 1s, times: 1}]
    steps:
      - call: ask
      - advance: 1s
      - result: ask
        output: level a
      - call: ask
        retries: 0
      - expect: "ask\n"
      - send: "x\n"
      - result
  - name: HTTP, allowed and not
    steps:
      - call: fetch
        input: http://api.example/x?y=1
      - http: {method: GET, url: /x, query: {y: "1"}}
        with: {status: 418}
      - result
      - call: fetch
        retries: 0
        input: http://elsewhere.example/
        error: {}
      - call: fetch
        retries: 0
        input: http://api.example/slow
      - advance: 3s
      - result: fetch
        error: {}
  - name: the node's own broker
    uri: ""
    steps:
      - send: {topic: dev/x/state, text: "on"}
      - state: {name: dev/x/state on}
      - call: publish
        input: hello
        output: null
      - expect: {topic: cmd/x/go, text: hello}
  - name: a broker of its own
    uri: mqtt://broker.example
    steps:
      - send: {topic: dev/x/state, text: "on"}
      - state: {name: dev/x/state on}
  - name: an hour of ticks
    steps:
      - send: "tick\n"
      - quiet: 59s
      - respond: "tick\n"
      - advance: 59m1s
      - expect: "tick\n"
  - name: a life before
    was: {version: 1.0.0, memory: {n: 5}, properties: {level: 2}}
    steps:
      - state: {was: 5, level: 2}
  - name: a crash shows
    steps:
      - send: "crash\n"
      - status: {fault: "TypeError"}
      - advance: 10s
      - send: "level 1\n"
      - status: {fault: ""}
`

func TestWhatAScriptCanSay(t *testing.T) {
	passes(t, run(t, probe(t, false), good))
}

// What a driver keeps in a variable is lost with --shuffle.
func TestShuffle(t *testing.T) {
	text := one("      - call: keep\n        output: null\n      - call: keep\n        output: null\n      - state: {kept: 2}\n")
	passes(t, run(t, probe(t, false), text))
	if r := run(t, probe(t, true), text)[0]; r.Failure == nil || !strings.Contains(r.Failure.Got, `"kept":1`) {
		t.Errorf("with a fresh instance for each event: %+v", r.Failure)
	}
}

// A driver that garbage crashes does not pass the faults; one that it does not crash does.
func TestFaults(t *testing.T) {
	drivertest.NeedEngine(t)
	fragile := strings.Replace(probeSource, "if (line === 'crash')", "if (!/^[a-z]+ ?[0-9]*$/.test(line))", 1)
	f, err := script.Parse("x", []byte(one("      - send: \"level 1\\n\"\n      - state: {level: 1}\n      - send: \"level 2\\n\"\n")))
	if err != nil {
		t.Fatal(err)
	}
	for source, fails := range map[string]bool{probeSource: false, fragile: true} {
		s := bench.Suite{Options: bench.Options{File: []byte(source), CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)}, Files: []*script.File{f}, Faults: 3, Seed: 1}
		rep, err := s.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if (rep.Failed > 0) != fails || len(rep.Tests) != 1+3*5 {
			t.Errorf("%d of %d failed, want some: %v", rep.Failed, len(rep.Tests), fails)
			for _, r := range rep.Tests {
				if r.Failure != nil {
					t.Logf("%s: %+v", r.Mode, r.Failure)
				}
			}
		}
	}
}

// soon is a context that ends when it was asked some times whether it has.
type soon struct {
	context.Context
	asked atomic.Int32
}

func (c *soon) Err() error {
	if c.asked.Add(1) > 200 {
		return context.Canceled
	}
	return nil
}

// A test that would take years of the twin's time ends with its context.
func TestALongTestIsStopped(t *testing.T) {
	f, err := script.Parse("x", []byte(one(strings.Repeat("      - advance: 1h\n", 300))))
	if err != nil {
		t.Fatal(err)
	}
	if r := probe(t, false).Run(&soon{Context: t.Context()}, f, &f.Tests[0]); r.Failure == nil || !strings.Contains(r.Failure.Text, "stopped") {
		t.Errorf("got %+v", r.Failure)
	}
}
