package script_test

import (
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/script"
)

const full = `
settings: {poll_s: 10, password: secret}
start: 2026-01-05T08:00:00Z
respond:
  - to: "PING\r\n"
    with: "PONG\r\n"
twins:
  lamp: {properties: {on: false}, actions: [flash]}
systems:
  room: {Display_1: lamp}
before:
  - expect: "HELLO\r\n"
tests:
  - name: everything
    settings: {poll_s: 5}
    steps:
      - expect: {match: 'GET (\w+)\r\n'}
        within: 5s
      - send: ["temp=", {hex: "32 31"}, "\r\n"]
      - send: {topic: stat/x, json: {a: 1}, retain: true}
      - respond: "GET temp\r\n"
        with: "temp=20\r\n"
        after: 50ms
        times: 2
      - respond: {http: {method: GET, url: /a}}
        with: {status: 404, json: {no: true}}
      - respond: {twin: lamp, action: flash}
        with: {error: {code: 2, message: broken}}
      - disconnect
      - connect
      - refuse: no route
      - quiet: 3s
      - advance: 1h30m
      - at: 2026-01-05T10:00:00Z
      - call: boost
        input: {minutes: 5}
        priority: 70
        retries: 0
        output: {until: 2026-01-05}
      - call: boost
      - result: boost
        error: {message: busy}
      - set: {setpoint: 21.5}
      - state: {temperature: null}
      - event: alarm
        data: {level: 2}
      - log: hello
        level: warn
      - http: {method: POST, url: "http://x/y", headers: {a: b}, json: [1]}
        fail: refused
      - webhook: {method: GET, path: /z, query: {a: "1"}}
        answer: {status: 204}
      - report: {lamp: {on: true}}
      - called: lamp
        action: flash
        input: 3
        with: {output: yes}
`

func TestParse(t *testing.T) {
	f, err := script.Parse("a.test.yaml", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	test := f.Tests[0]
	if len(f.Before) != 1 || len(test.Twins) != 1 || f.Systems["room"]["Display_1"] != "lamp" {
		t.Errorf("head: %+v", f)
	}
	if test.Settings["poll_s"] != 5.0 || test.Settings["password"] != "secret" || len(test.Rules) != 1 {
		t.Errorf("settings %v and rules %v are not joined with the file's", test.Settings, test.Rules)
	}
	s := test.Steps
	if groups, ok := s[0].Frame.Matches("", []byte("GET temp\r\n")); !ok || string(groups[1]) != "temp" || s[0].Wait != 5*time.Second {
		t.Errorf("expect: %+v", s[0])
	}
	if string(s[1].Message.Data) != "temp=21\r\n" || s[1].Line != s[0].Line+2 {
		t.Errorf("send: %q on line %d", s[1].Message.Data, s[1].Line)
	}
	if m := s[2].Message; m.Topic != "stat/x" || string(m.Data) != `{"a":1}` || !m.Retain {
		t.Errorf("message: %+v", m)
	}
	if r := s[3].Rule; r.After != 50*time.Millisecond || r.Times != 2 || string(r.With[0].Data) != "temp=20\r\n" {
		t.Errorf("respond: %+v", r)
	}
	if r := s[4].Rule; r.Request.URL != "/a" || r.Answer.Status != 404 {
		t.Errorf("respond http: %+v", r)
	}
	if r := s[5].Rule; r.Called.Action != "flash" || r.Reply.Code != 2 {
		t.Errorf("respond of a twin: %+v", r)
	}
	if c := s[12]; !c.Outcome.HasOutput || script.JSON(c.Outcome.Output) != `{"until":"2026-01-05"}` || *c.Command.Retries != 0 {
		t.Errorf("call: %+v", c)
	}
}

func TestFaultsNameTheLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "a:1: the script is empty"},
		{"tests: []", "has no tests"},
		{"tests:\n  - name: a\n    steps:\n      - expekt: x\n", "a:4: no step has the keys expekt; steps are advance, at, call"},
		{"tests:\n  - name: a\n    steps:\n      - expect: x\n        wihtin: 5s\n", `a:5: expect: unknown key "wihtin"; known are within`},
		{"tests:\n  - name: a\n    steps:\n      - advance: 5\n", `a:4: "5" is no duration; write 500ms, 10s or 1h30m`},
		{"tests:\n  - name: a\n    steps:\n      - send: {hex: 0g}\n", `a:4: hex "0g"`},
		{"tests:\n  - name: a\n    steps:\n      - send: x\n        call: y\n", "a:4: a step is one thing"},
		{"tests:\n  - name: a\n    steps: [restart]\n", `a:3: "restart" is no step by itself`},
		{"tests:\n  - name: a\n    steps: []\n  - name: a\n    steps: []\n", `a:4: two tests are called "a"`},
		{"a: &x 1\ntests: *x\n", "aliases are not taken"},
		{"tests: [", "a:1: yaml"},
	} {
		_, err := script.Parse("a", []byte(c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestFrames(t *testing.T) {
	for _, c := range []struct {
		bytes []byte
		want  string
	}{
		{[]byte("a\r\n"), `"a\r\n"`}, {[]byte{2, 3, 0xff}, "hex 02 03 ff"}, {[]byte{1, 2, 3, 4}, "hex 01 02 03 04"}, {nil, `""`},
		{[]byte("\x02power on\x03"), `"\x02power on\x03"`},
	} {
		if got := script.Show(c.bytes); got != c.want {
			t.Errorf("%v shows as %s, want %s", c.bytes, got, c.want)
		}
	}
}

func TestDiff(t *testing.T) {
	want := map[string]any{"a": 1, "b": map[string]any{"c": "x", "d": 2.0}, "gone": nil}
	got := map[string]any{"a": 1.0, "b": map[string]any{"c": "y", "d": 2, "e": 3}}
	if d := strings.Join(script.Diff(want, got, true), "\n"); d != "- b.c: \"x\"\n+ b.c: \"y\"" {
		t.Errorf("subset:\n%s", d)
	}
	if d := strings.Join(script.Diff(want, got, false), "\n"); d != "- b.c: \"x\"\n+ b.c: \"y\"\n+ b.e: 3" {
		t.Errorf("whole:\n%s", d)
	}
	if script.Within(want, got) || !script.Within(map[string]any{"b": map[string]any{"d": 2}}, got) {
		t.Error("within")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(full)
	f.Add("tests: [{name: a, steps: [{send: {hex: 00}}]}]")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := script.Parse("x", []byte(text))
		if (file == nil) == (err == nil) {
			t.Errorf("%v and %v", file, err)
		}
	})
}
