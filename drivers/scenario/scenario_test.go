package scenario_test

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/scenario"
)

const day = `
project: hotel
name: room-{n}
count: 3
every: 1h
length: 24h
seed: 7
values:
  temperature: {path: /env/temp, keys: {0s: 18, 6h: 18, 9h: 21, 18h: 21, 24h: 18}, interpolate: smooth}
  occupied: {keys: {0s: false, 8h: true, 18h: false}}
  mode: {keys: {0s: night, 7h: day}}
`

func parse(t *testing.T, text string) *scenario.Scenario {
	t.Helper()
	s, err := scenario.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func message(t *testing.T, p *scenario.Player, twin int, at time.Duration) map[string]any {
	t.Helper()
	text, err := p.Message(twin, at)
	if err != nil {
		t.Fatal(err)
	}
	if text == nil {
		return nil
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestKeyFrames(t *testing.T) {
	s := parse(t, day)
	if !reflect.DeepEqual(s.Twins, []string{"room-1", "room-2", "room-3"}) || s.Project != "hotel" || s.Every != time.Hour || !s.Repeat {
		t.Errorf("%+v", s)
	}
	p := scenario.NewPlayer(s)
	if p.Steps() != 25 {
		t.Errorf("%d steps", p.Steps())
	}
	for at, want := range map[time.Duration]string{
		0:                               `{"env":{"temp":18},"mode":"night","occupied":false}`,
		7*time.Hour + 30*time.Minute:    `{"env":{"temp":19.5},"mode":"day","occupied":false}`, // half way, as smooth is too
		12 * time.Hour:                  `{"env":{"temp":21},"mode":"day","occupied":true}`,
		24*time.Hour + 0:                `{"env":{"temp":18},"mode":"night","occupied":false}`, // it begins again
		36*time.Hour + 10*time.Second*0: `{"env":{"temp":21},"mode":"day","occupied":true}`,
	} {
		if text, err := p.Message(1, at); err != nil || string(text) != want {
			t.Errorf("%s: %s %v, want %s", at, text, err, want)
		}
	}
}

func TestInterpolation(t *testing.T) {
	for _, c := range []struct {
		how  scenario.Interpolation
		want [5]float64
	}{
		{scenario.Step, [5]float64{0, 0, 0, 0, 8}},
		{scenario.Linear, [5]float64{0, 2, 4, 6, 8}},
		{scenario.Smooth, [5]float64{0, 1.25, 4, 6.75, 8}},
	} {
		v := &scenario.Value{Interpolate: c.how, Keys: []scenario.Key{{At: 0, Value: 0.0}, {At: 4 * time.Second, Value: 8.0}}}
		for i, want := range c.want {
			if got := v.At(time.Duration(i) * time.Second); got != want {
				t.Errorf("%s at %d s: %v, want %v", c.how, i, got, want)
			}
		}
	}
}

// One seed gives the same messages, also after a reset; another gives others. Twins differ by their spread.
func TestNoiseIsSeeded(t *testing.T) {
	text := "name: t-{n}\ncount: 2\nevery: 1s\nlength: 1000s\nseed: %d\nvalues: {x: {keys: {0s: 100}, noise: 2, spread: 10}}"
	run := func(p *scenario.Player, twin int) (all []float64) {
		for i := range 500 {
			all = append(all, message(t, p, twin, time.Duration(i)*time.Second)["x"].(float64))
		}
		return all
	}
	p := scenario.NewPlayer(parse(t, fmt.Sprintf(text, 1)))
	first, other := run(p, 0), run(p, 1)
	p.Reset()
	if !reflect.DeepEqual(run(p, 0), first) {
		t.Error("a reset gives other values")
	}
	if !reflect.DeepEqual(run(scenario.NewPlayer(parse(t, fmt.Sprintf(text, 1))), 0), first) {
		t.Error("the same seed gives other values")
	}
	if reflect.DeepEqual(run(scenario.NewPlayer(parse(t, fmt.Sprintf(text, 2))), 0), first) {
		t.Error("another seed gives the same values")
	}
	late := scenario.NewPlayer(parse(t, fmt.Sprintf(text, 1)))
	if got := message(t, late, 0, 250*time.Second)["x"]; got != first[250] {
		t.Errorf("a player that begins in the middle gives %v, and not %v", got, first[250])
	}
	mean := func(all []float64) (m float64) {
		for _, x := range all {
			m += x / float64(len(all))
		}
		return m
	}
	a, b := mean(first), mean(other)
	variance := 0.0
	for _, x := range first {
		variance += (x - a) * (x - a) / float64(len(first))
	}
	if math.Abs(a-b) < 0.5 || math.Abs(a-100) > 11 || math.Abs(math.Sqrt(variance)-2) > 0.3 {
		t.Errorf("means %v and %v, deviation %v", a, b, math.Sqrt(variance))
	}
}

func TestFaults(t *testing.T) {
	p := scenario.NewPlayer(parse(t, `
twins: [a]
every: 1s
length: 100s
values:
  x:
    keys: {0s: 0, 100s: 100}
    round: 1
    faults:
      - {kind: dropout, from: 10s, to: 12s}
      - {kind: stuck, from: 20s, to: 23s}
      - {kind: spike, from: 30s, to: 31s, by: 500}
`))
	for i := range 40 {
		got, want := message(t, p, 0, time.Duration(i)*time.Second), map[string]any{"x": float64(i)}
		switch {
		case i == 10 || i == 11:
			want = nil
		case i >= 20 && i < 23:
			want["x"] = 19.0
		case i == 30:
			want["x"] = 530.0
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%d s: %v, want %v", i, got, want)
		}
	}
}

// A player that begins while a value is stuck says what one from the begin says.
func TestStuckFromTheMiddle(t *testing.T) {
	s := parse(t, "twins: [a]\nevery: 1s\nlength: 20s\nseed: 3\nvalues: {x: {keys: {0s: 0, 20s: 100}, noise: 1, faults: [{kind: stuck, from: 5s, to: 9s}, {kind: stuck, from: 12500ms, to: 15s}]}, "+
		"y: {keys: {0s: 0}, noise: 1, faults: [{kind: stuck, from: 8s, to: 14s}]}}")
	whole := scenario.NewPlayer(s)
	for begin := range time.Duration(50) {
		want := message(t, whole, 0, begin*time.Second)
		if got := message(t, scenario.NewPlayer(s), 0, begin*time.Second); !reflect.DeepEqual(got, want) {
			t.Errorf("at %ds %v, want %v", begin, got, want)
		}
	}
}

// Faults at random come as often as is said, and stay as long.
func TestFaultsAtRandom(t *testing.T) {
	p := scenario.NewPlayer(parse(t, "twins: [a]\nevery: 1s\nlength: 20000s\nvalues: {x: {keys: {0s: 1}, faults: [{kind: dropout, share: 0.01, for: 5s}]}}"))
	gaps, missing, run := 0, 0, 0
	for i := range 20_000 {
		if message(t, p, 0, time.Duration(i)*time.Second) == nil {
			missing++
			run++
			continue
		}
		if run > 0 {
			if gaps++; run < 5 {
				t.Fatalf("a gap of %d messages before %d", run, i)
			}
		}
		run = 0
	}
	if gaps < 120 || gaps > 260 || missing < 5*gaps {
		t.Errorf("%d gaps, %d missing", gaps, missing)
	}
}

func TestRounding(t *testing.T) {
	p := scenario.NewPlayer(parse(t, "twins: [a]\nevery: 1s\nvalues: {x: {keys: {0s: 0, 100s: 7}, round: 0.1}}"))
	if text, err := p.Message(0, 33*time.Second); err != nil || string(text) != `{"x":2.3}` {
		t.Errorf("%s %v", text, err)
	}
}

// Neither a whole number nor a part of one leaves digits behind.
func TestRoundingToWholeNumbers(t *testing.T) {
	p := scenario.NewPlayer(parse(t, "twins: [a]\nevery: 1s\nvalues: {x: {keys: {0s: 0, 100s: 4900}, round: 49}, y: {keys: {0s: 0, 100s: 100}, round: 0.05}}"))
	for i := range 100 {
		text, err := p.Message(0, time.Duration(i)*time.Second)
		if want := fmt.Sprintf(`{"x":%d,"y":%d}`, 49*i, i); err != nil || string(text) != want {
			t.Errorf("%s %v, want %s", text, err, want)
		}
	}
}

// Seconds are what they say, since 1970 too, so that the last line of a recording is played.
func TestSecondsAreExact(t *testing.T) {
	for _, begin := range []int{0, 1_700_000_000} {
		var text strings.Builder
		text.WriteString("time,x\n")
		for i := range 3000 {
			fmt.Fprintf(&text, "%d.%03d,%d\n", begin+i/1000, i%1000, i)
		}
		keys, err := scenario.ReadCSV(strings.NewReader(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		for i, k := range keys["x"] {
			if want := time.Duration(i) * time.Millisecond; k.At != want {
				t.Fatalf("line %d since %d is at %d ns, want %d", i, begin, k.At, want)
			}
		}
	}
}

func TestRecorded(t *testing.T) {
	keys, err := scenario.ReadCSV(strings.NewReader("time,temp,on,note\n2026-01-01T00:00:00Z,20,true,\n2026-01-01T00:00:10Z,,false,door open\n2026-01-01T00:00:20Z,30,,\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]scenario.Key{
		"temp": {{At: 0, Value: 20.0, Text: "20"}, {At: 20 * time.Second, Value: 30.0, Text: "30"}},
		"on":   {{At: 0, Value: true, Text: "true"}, {At: 10 * time.Second, Value: false, Text: "false"}},
		"note": {{At: 10 * time.Second, Value: "door open", Text: "door open"}},
	}
	if !reflect.DeepEqual(keys, want) {
		t.Errorf("%v", keys)
	}
	s := parse(t, "twins: [a]\nevery: 5s\nrecord: {csv: readings.csv}\nvalues: {temp: {path: t, round: 1}, fixed: {keys: {0s: 4}}}")
	if err := s.Recorded(keys); err != nil {
		t.Fatal(err)
	}
	if got, want := message(t, scenario.NewPlayer(s), 0, 15*time.Second), (map[string]any{"t": 28.0, "on": false, "note": "door open", "fixed": 4.0}); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	if s.Length != 20*time.Second {
		t.Errorf("length %s", s.Length)
	}
	if err := parse(t, "twins: [a]\nrecord: {csv: x}\nvalues: {none: {}}").Recorded(keys); err == nil || !strings.Contains(err.Error(), "/values/none/keys") {
		t.Errorf("%v", err)
	}
}

// What was recorded of a property that is text is played as text, whatever it looks like and wherever it goes.
func TestRecordedTextsStayTexts(t *testing.T) {
	keys, err := scenario.ReadCSV(strings.NewReader("time,code,level,state\n0,007,007,true\n1,1e3,2,12\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := parse(t, "twins: [a]\nevery: 1s\nrepeat: false\nrecord: {csv: x}\nvalues: {code: {path: c}}")
	if err := s.Recorded(keys); err != nil {
		t.Fatal(err)
	}
	p := scenario.NewPlayer(s)
	p.Fit(0, s.Fit(func(name string) (scenario.Place, bool) {
		return scenario.Place{Path: []string{"of", name}, Text: name != "level", Convert: func(x float64) float64 { return 2 * x }}, true
	}))
	for i, want := range []string{`{"c":"007","of":{"level":14,"state":"true"}}`, `{"c":"1e3","of":{"level":4,"state":"12"}}`} {
		if got, err := p.Message(0, time.Duration(i)*time.Second); err != nil || string(got) != want {
			t.Errorf("%s, %v, want %s", got, err, want)
		}
	}
}

// Each twin says the same values as its own model has them, also after a reset; what a model does not know stays as the file has it.
func TestEachTwinIsFitted(t *testing.T) {
	keys, err := scenario.ReadCSV(strings.NewReader("time,level\n0,5\n1,6\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := parse(t, "twins: [a, b, c]\nevery: 1s\nrecord: {csv: x}\nvalues: {on: {keys: {0s: true}}}")
	if err := s.Recorded(keys); err != nil {
		t.Fatal(err)
	}
	p := scenario.NewPlayer(s)
	for i, factor := range []float64{1000, 10} {
		p.Fit(i, s.Fit(func(name string) (scenario.Place, bool) {
			return scenario.Place{Path: []string{fmt.Sprint("of", i), name}, Convert: func(x float64) float64 { return factor * x }}, i == 0 || name == "level"
		}))
	}
	for range 2 {
		for i, want := range []string{`{"of0":{"level":5000,"on":true}}`, `{"of1":{"level":50},"on":true}`, `{"level":5,"on":true}`} {
			if got, err := p.Message(i, 0); err != nil || string(got) != want {
				t.Errorf("%s, %v, want %s", got, err, want)
			}
		}
		p.Reset()
	}
}

func TestReadCSVSaysWhatIsWrong(t *testing.T) {
	for text, want := range map[string]string{
		"":                         "empty",
		"when,x\n":                 "line 1: want time",
		"time\n":                   "line 1: want time",
		"time,x,x\n":               "line 1: the name \"x\"",
		"time,x\nsoon,1\n":         "line 2: \"soon\" is no time",
		"time,x\n5,1\n5s,2\n":      "line 3: time 5s is not after",
		"time,x\n1,1,1\n":          "wrong number of fields",
		"time,x\n1,\n":             "no value",
		"time,x\n1,\"unclosed\n\n": "extraneous or missing",
	} {
		if _, err := scenario.ReadCSV(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestParseSaysWhatIsWrong(t *testing.T) {
	x := "values: {x: {keys: {0s: 1}}}\n"
	for text, want := range map[string]string{
		"":                                    "/: is empty",
		"twins: [a]":                          "/values: is missing",
		x:                                     "/twins: is missing",
		x + "twins: [a]\nname: b":             "/twins: is there beside",
		x + "twins: [A]":                      "/twins/0: \"A\"",
		x + "twins: [a, a]":                   "/twins/1: \"a\" is there twice",
		x + "name: a\ncount: 2":               "/name: \"a\" has no {n}",
		x + "name: a{n}\ncount: 200000":       "/count: 200000",
		x + "twins: [a]\nevery: 1us":          "/every: 1µs",
		x + "twins: [a]\nevery: 0s":           "/every: 0s",
		x + "twins: [a]\nevery: soon":         "soon",
		x + "twins: [a]\ncolour: red":         "line 3: colour is unknown",
		x + "twins: [a]\ncolour: red\nb: 1":   "line 3: colour is unknown; line 4: b is unknown",
		"twins: [a]\nvalues: {x: {}}":         "/values/x/keys: is missing",
		"twins: [a]\nvalues: {x: }":           "/values/x: is empty",
		"twins: [a]\nvalues: {x: {keys: {}}}": "/values/x/keys: want times",
		"twins: [a]\nvalues: {x: {keys: {9h: 1, 8h: 2}}}":                                     "/values/x/keys: 8h0m0s does not come after 9h0m0s",
		"twins: [a]\nvalues: {x: {keys: {0s: [1]}}}":                                          "/values/x/keys: line 2",
		"twins: [a]\nvalues: {x: {keys: {0s: .nan}}}":                                         "is no value",
		"twins: [a]\nvalues: {x: {path: a//b, keys: {0s: 1}}}":                                "/values/x/path",
		"twins: [a]\nvalues: {x: {keys: {0s: 1}, interpolate: jump}}":                         "/values/x/interpolate",
		"twins: [a]\nvalues: {x: {keys: {0s: 1}, noise: -1}}":                                 "/values/x/noise",
		"twins: [a]\nvalues: {x: {keys: {0s: 1}, faults: [{kind: fire}]}}":                    "/values/x/faults/0/kind",
		"twins: [a]\nvalues: {x: {keys: {0s: 1}, faults: [{kind: stuck}]}}":                   "/values/x/faults/0: needs share",
		"twins: [a]\nvalues: {x: {keys: {0s: 1}, faults: [{kind: stuck, share: 2}]}}":         "/values/x/faults/0/share",
		"twins: [a]\nvalues: {x: {keys: {0s: 1}, faults: [{kind: stuck, from: 2s, to: 1s}]}}": "/values/x/faults/0/to",
		"twins: [a]\nvalues: {x: {keys: {0s: 1}, faults: [{kind: spike, from: 1s, to: 2s}]}}": "/values/x/faults/0/by",
		"twins: [a]\nrecord: {}":                                          "/record: needs either",
		"twins: [a]\nrecord: {twin: a/b}":                                 "/record/properties",
		"twins: [a]\nevery: 1h\nlength: 1m\nvalues: {x: {keys: {0s: 1}}}": "/length: 1m0s is less",
	} {
		if _, err := scenario.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestClock(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	after := func(d time.Duration) time.Time { return now.Add(d) }
	c := scenario.NewClock(60)
	at := func(d, want time.Duration) {
		t.Helper()
		if got := c.At(after(d)); got != want {
			t.Errorf("after %s: %s, want %s", d, got, want)
		}
	}
	at(time.Second, 0)
	c.Start(after(time.Second))
	at(2*time.Second, time.Minute)
	if got := c.Until(after(2*time.Second), 3*time.Minute); got != 2*time.Second {
		t.Errorf("until: %s", got)
	}
	c.Pause(after(3 * time.Second))
	at(9*time.Second, 2*time.Minute)
	c.Start(after(10 * time.Second))
	c.SetSpeed(after(11*time.Second), 1)
	at(12*time.Second, 3*time.Minute+time.Second)
	c.Reset(after(20 * time.Second))
	at(21*time.Second, time.Second)
	if !c.Running() {
		t.Error("a reset stopped it")
	}
}

// A course keeps to its clock, leaves out what it is late for, and can begin in the middle.
func TestCourse(t *testing.T) {
	s := parse(t, "twins: [a]\nevery: 10s\nlength: 60s\nrepeat: false\nvalues: {x: {keys: {0s: 1}}}")
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	after := func(d time.Duration) time.Time { return now.Add(d) }
	c := scenario.NewCourse(s, 2, 10) // before 20 s
	c.Start(now)
	if c.Wait(now) != 0 || c.At() != 20*time.Second || c.Took(now) != 0 || c.At() != 30*time.Second {
		t.Errorf("begins at %s", c.At())
	}
	if w := c.Wait(after(400 * time.Millisecond)); w < 600*time.Millisecond || w > 602*time.Millisecond {
		t.Errorf("waits %s", w)
	}
	if n := c.Took(after(2500 * time.Millisecond)); n != 0 || c.At() != 40*time.Second { // the clock is at 45 s
		t.Errorf("left out %d, at %s", n, c.At())
	}
	if n := c.Took(after(time.Hour)); n != 2 || !c.Over() { // those of 50 s and 60 s
		t.Errorf("left out %d, at %s", n, c.At())
	}
	c.Reset(after(time.Hour))
	c.SetSpeed(after(time.Hour), 0)
	for range 7 {
		if c.Over() || c.Wait(after(time.Hour)) != 0 || c.Took(after(time.Hour)) != 0 {
			t.Errorf("at %s as fast as may be", c.At())
		}
	}
	if !c.Over() {
		t.Errorf("not over at %s", c.At())
	}
}

// A course that goes on behind a step waits for what is left of the time to the next one.
func TestCourseGoesOn(t *testing.T) {
	s := parse(t, "twins: [a]\nevery: 10s\nvalues: {x: {keys: {0s: 1}}}")
	made := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, x := range []struct {
		step        int
		speed       float64
		later, want time.Duration
	}{{3, 1, 4 * time.Second, 6 * time.Second}, {3, 10, 400 * time.Millisecond, 600 * time.Millisecond}, {3, 1, time.Hour, 0}, {3, 1e6, 1e4 * time.Hour, 0},
		{3, 1, -time.Hour, 10 * time.Second}, {0, 1, time.Second, 0}, {3, 0, time.Second, 0}} {
		c, now := scenario.NewCourse(s, x.step, x.speed), made.Add(x.later)
		c.Start(now)
		c.GoOn(now, made)
		if w := c.Wait(now); w < x.want || w > x.want+2*time.Millisecond {
			t.Errorf("%+v: waits %s", x, w)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(day))
	f.Add([]byte("twins: [a]\nrecord: {csv: x}\nvalues: {x: {faults: [{kind: spike, share: .5, by: 1}]}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := scenario.Parse(text)
		if err != nil || s.Record != nil {
			return
		}
		p := scenario.NewPlayer(s)
		for i := range time.Duration(3) {
			if _, err := p.Message(0, i*s.Every); err != nil {
				t.Errorf("%v", err)
			}
		}
	})
}
