package journal

import (
	"strings"
	"testing"
	"time"
)

var zero = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func at(ms int) time.Time { return zero.Add(time.Duration(ms) * time.Millisecond) }

func writes(pairs ...any) []Write {
	var w []Write
	for i := 0; i < len(pairs); i += 2 {
		w = append(w, Write{at(pairs[i].(int)), pairs[i+1].(string)})
	}
	return w
}

// conn is a connection; closed 0 means still open.
func conn(node string, opened, closed int, w ...any) Conn {
	c := Conn{Device: "lamp", Node: node, Remote: "127.0.0.1:1", Opened: at(opened), Writes: writes(w...)}
	if closed > 0 {
		c.Closed = at(closed)
	}
	return c
}

func pause(node string, began, ended int) []Span { return []Span{{node, at(began), at(ended)}} }

// expect holds a verdict against the words of its only violation; "" means none.
func expect(t *testing.T, v Verdict, want string) {
	t.Helper()
	switch {
	case v.Checked == 0 && want == "":
		t.Errorf("nothing was checked: %v", v)
	case want == "" && len(v.Violations) > 0:
		t.Errorf("violations in a good journal: %q", v.Violations)
	case want != "" && (len(v.Violations) == 0 || !strings.Contains(strings.Join(v.Violations, "\n"), want)):
		t.Errorf("violations %q, want one with %q", v.Violations, want)
	}
}

func TestOneOwner(t *testing.T) {
	tests := []struct {
		name   string
		conns  []Conn
		pauses []Span
		want   string
		leaked string
	}{
		{name: "one after another", conns: []Conn{conn("a", 0, 100, 10, "x", 90, "y"), conn("b", 200, 0, 210, "x")}, leaked: "0 of them"},
		{name: "there and back", conns: []Conn{conn("a", 0, 100, 10, "x"), conn("b", 200, 300, 210, "x"), conn("a", 400, 0, 410, "x")}, leaked: "0 of them"},
		{name: "a node twice at once is no second owner", conns: []Conn{conn("a", 0, 500, 10, "x"), conn("a", 200, 0, 210, "x")}, leaked: "0 of them"},
		{name: "open together", conns: []Conn{conn("a", 0, 400, 10, "x"), conn("b", 200, 0)}, want: "a was still connected when b connected"},
		{name: "open together, for ever", conns: []Conn{conn("a", 0, 0, 10, "x"), conn("b", 200, 0)}, want: "a was still connected"},
		{name: "open together, but the older is paused", conns: []Conn{conn("a", 0, 400, 10, "x"), conn("b", 200, 0, 210, "x")},
			pauses: pause("a", 50, 390), leaked: "0 of them"},
		{name: "the other was paused", conns: []Conn{conn("a", 0, 400, 10, "x"), conn("b", 200, 0)}, pauses: pause("b", 50, 390), want: "a was still connected"},
		{name: "the pause was long over", conns: []Conn{conn("a", 100, 4000, 110, "x"), conn("b", 2000, 0)},
			pauses: pause("a", 200, 900), want: "a was still connected"},
		{name: "one write leaks after a pause", conns: []Conn{conn("a", 0, 400, 10, "x", 391, "y"), conn("b", 200, 0, 210, "x")},
			pauses: pause("a", 50, 390), leaked: "1 of them"},
		{name: "two leak", conns: []Conn{conn("a", 0, 400, 10, "x", 391, "y", 392, "z"), conn("b", 200, 0, 210, "x")},
			pauses: pause("a", 50, 390), want: `wrote "z"`},
		{name: "one leaks without a pause", conns: []Conn{conn("a", 0, 400, 10, "x", 391, "y"), conn("b", 200, 0, 210, "x")}, want: "had not been paused"},
		{name: "one leaks long after a pause", conns: []Conn{conn("a", 0, 0, 10, "x", 4000, "y"), conn("b", 2000, 0, 2010, "x")},
			pauses: pause("a", 50, 390), want: "had not been paused"},
		{name: "it writes before the newer owner does", conns: []Conn{conn("a", 0, 400, 10, "x", 205, "y", 206, "z"), conn("b", 200, 0, 210, "x")},
			pauses: pause("a", 50, 190), leaked: "0 of them"},
		{name: "two leak, past a third node", conns: []Conn{conn("a", 0, 900, 10, "x", 600, "y", 601, "z"), conn("b", 200, 300, 210, "x"), conn("c", 400, 0, 410, "x")},
			pauses: pause("a", 50, 590), want: `wrote "z"`},
		{name: "nobody's", conns: []Conn{conn("", 0, 100, 10, "x")}, want: "nobody known"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			v := OneOwner(tt.conns, tt.pauses, 0)
			expect(t, v, tt.want)
			if tt.want == "" && !strings.Contains(v.Note, tt.leaked) {
				t.Errorf("the note %q lacks %q", v.Note, tt.leaked)
			}
		})
	}
}

func call(number int64, o Outcome) Call {
	return Call{Twin: "lamp", Number: number, Node: "a", Sent: at(int(number)), Outcome: o, Error: "no quorum"}
}

func TestOnceInOrder(t *testing.T) {
	done := []Call{call(1, Done), call(2, Done), call(3, Unknown), call(4, Refused), call(5, Unknown), call(6, Done)}
	tests := []struct {
		name  string
		calls []Call
		conns []Conn
		want  string
	}{
		{"good", done, []Conn{conn("a", 0, 100, 10, "do 1", 20, "do 2", 25, "ping", 30, "do 3"), conn("b", 200, 0, 210, "do 6")}, ""},
		{"an unknown one late", done, []Conn{conn("a", 0, 0, 10, "do 1", 20, "do 2", 30, "do 6", 40, "do 5")}, ""},
		{"one is lost", done, []Conn{conn("a", 0, 0, 10, "do 1", 30, "do 6")}, "command 2 was acknowledged and told 0 times"},
		{"one comes twice", done, []Conn{conn("a", 0, 100, 10, "do 1", 20, "do 2"), conn("b", 200, 0, 210, "do 2", 220, "do 6")}, "command 2 was acknowledged and told 2 times"},
		{"an unknown one twice", done, []Conn{conn("a", 0, 0, 10, "do 1", 20, "do 2", 30, "do 3", 40, "do 3", 50, "do 6")}, "command 3 was told 2 times"},
		{"a refused one runs", done, []Conn{conn("a", 0, 0, 10, "do 1", 20, "do 2", 30, "do 4", 50, "do 6")}, "command 4 was refused (no quorum) and told 1 times"},
		{"out of order", done, []Conn{conn("a", 0, 0, 10, "do 2", 20, "do 1", 30, "do 6")}, "command 2 was told before"},
		{"never sent", done, []Conn{conn("a", 0, 0, 10, "do 1", 20, "do 2", 30, "do 6", 40, "do 7")}, "command 7 was told and never sent"},
		{"no number", done, []Conn{conn("a", 0, 0, 10, "do 1", 20, "do 2", 30, "do 6", 40, "do x")}, `was told "do x"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { expect(t, OnceInOrder(tt.calls, tt.conns), tt.want) })
	}
}

func TestKept(t *testing.T) {
	var r Rising
	for v := range 10 {
		r.Sending(float64(v))
		if v < 8 {
			r.Acknowledged(float64(v))
		}
	}
	want := map[string]Range{"lamp": r.Range(), "never": {}}
	tests := []struct {
		name string
		got  map[string]map[string]float64
		want string
	}{
		{"the last", map[string]map[string]float64{"a": {"lamp": 7}, "b": {"lamp": 9}}, ""},
		{"an older one on one node", map[string]map[string]float64{"a": {"lamp": 7}, "b": {"lamp": 6}}, "b: lamp is 6; 7 was acknowledged"},
		{"none", map[string]map[string]float64{"a": {"lamp": 7}, "b": {}}, "b: lamp is not there"},
		{"one that was never sent", map[string]map[string]float64{"a": {"lamp": 10}}, "a: lamp is 10"},
		{"nobody was asked", nil, "no node was read"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { expect(t, Kept("desired values", want, tt.got), tt.want) })
	}
}

func TestThere(t *testing.T) {
	created := []string{"x", "y"}
	all := map[string]bool{"x": true, "y": true, "z": true}
	expect(t, There(created, map[string]map[string]bool{"a": all, "b": all}), "")
	expect(t, There(created, map[string]map[string]bool{"a": all, "b": {"x": true}}), "b: y was created and is not there")
	expect(t, There(created, nil), "no node was read")
}

func TestInHistory(t *testing.T) {
	acked := map[string][]float64{"lamp": {1, 2, 3}}
	expect(t, InHistory(acked, map[string]map[string][]float64{"a": {"lamp": {1, 2, 2, 3, 4}}}), "")
	expect(t, InHistory(acked, map[string]map[string][]float64{"a": {"lamp": {1, 3}}}), "lacks 1 of 3 acknowledged values, 2 the first")
	expect(t, InHistory(acked, map[string]map[string][]float64{"a": {}}), "lacks 3 of 3")
	expect(t, InHistory(acked, nil), "no node was read")
}

func TestAlike(t *testing.T) {
	expect(t, Alike("checksums", map[string]string{"a": "1", "b": "1", "c": "1"}), "")
	expect(t, Alike("checksums", map[string]string{"a": "1", "b": "1", "c": "2"}), "c has 2, a has 1")
	expect(t, Alike("checksums", map[string]string{"a": "", "b": ""}), "a says nothing")
	expect(t, Alike("checksums", map[string]string{"a": "1"}), "compares with nothing")
}

func TestRecovered(t *testing.T) {
	all := []Recovery{{"kill a", 2 * time.Second, 5 * time.Second, "x"}, {"kill b", 4 * time.Second, 5 * time.Second, "y"}, {"drain", time.Minute, 0, "z"}}
	expect(t, Recovered(all), "")
	if p50, longest := Quantiles(all[:2]); p50 != 4*time.Second || longest != 4*time.Second {
		t.Errorf("p50 %v, longest %v", p50, longest)
	}
	all[1].Took = 6 * time.Second
	expect(t, Recovered(all), "kill b: the last twin (y) answered after 6s, want 5s")
}

func TestNoneFailed(t *testing.T) {
	expect(t, NoneFailed("drain", []Call{call(1, Done)}), "")
	expect(t, NoneFailed("drain", []Call{call(1, Done), call(2, Refused)}), "call 2 by a")
	expect(t, NoneFailed("drain", []Call{call(1, Unknown)}), "unknown: no quorum")
}
