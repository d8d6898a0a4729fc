package model

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// usual bounds of times.
var usual = Times{Ahead: 10 * time.Minute.Milliseconds(), Age: 30 * 24 * time.Hour.Milliseconds(), History: 13 * 31 * 24 * time.Hour.Milliseconds()}

// thing makes a Thing Model's text of its properties and of more members.
func thing(properties, more string) []byte {
	return []byte(`{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"pollux":"https://pollux.dev/ns#"}],"@type":"tm:ThingModel","title":"Room",
		"properties":{` + properties + `}` + more + `}`)
}

func parse(t testing.TB, properties, more string) *Model {
	t.Helper()
	m, err := Parse(thing(properties, more))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const (
	now  = int64(1_760_000_000_000)
	room = `"temperature":{"type":"number","unit":"Cel","minimum":-40,"maximum":85,"pollux:path":"/data/temp","pollux:unit":"[degF]"},
		"humidity":{"type":"number","unit":"%","pollux:path":"data.rh","pollux:time":"data.rh_time"},
		"co2":{"type":"integer","unit":"[ppm]","pollux:path":"$.gases[0].v","pollux:unitPath":"$.gases[0].u","pollux:quality":"$.gases[0].q"},
		"door":{"type":"boolean"},"a.b":{"type":"string"},
		"where":{"type":"object","pollux:path":"pos"},"at":{"type":"array","items":[{"type":"number","maximum":90},{"type":"string"}]}`
)

// text is what a message comes to, in words.
func (m Message) text() string {
	var b strings.Builder
	for _, r := range m.Readings {
		fmt.Fprintf(&b, "%s=%s", r.Property.Name, r.Value.AppendJSON(nil))
		if r.Time != 0 {
			fmt.Fprintf(&b, "@%d", r.Time-now)
		}
		if r.Quality != drivers.QualityGood {
			fmt.Fprintf(&b, "!%d", r.Quality)
		}
		b.WriteByte(' ')
	}
	for _, r := range m.Refused {
		fmt.Fprintf(&b, "%s:%s ", r.Code, r.Property)
	}
	if m.Ignored > 0 {
		fmt.Fprintf(&b, "ignored:%d", m.Ignored)
	}
	return strings.TrimSpace(b.String())
}

func TestRead(t *testing.T) {
	for _, c := range []struct{ payload, want string }{
		{`{"data":{"temp":68,"rh":40},"door":true}`, "temperature=20 humidity=40 door=true"},
		{`{"data":{"temp":68}, "gases":[{"v":400,"u":"[ppb]"}]}`, "temperature=20 co2=0"},
		{`{"gases":[{"v":0.1,"u":"%","q":"uncertain"}]}`, "co2=1000!4"},
		{`{"gases":[{"v":1234567890123,"u":"[ppm]"}]}`, "co2=1234567890123"}, {`{"gases":[{"v":123456789012.3,"u":"%"}]}`, "co2=1.234567890123e+15"},
		{`{"gases":[{"v":5,"u":"Cel"}],"door":false}`, "door=false wrong_unit:co2"},
		{`{"gases":[{"v":5,"u":7}]}`, "wrong_unit:co2"},
		{`{"gases":[{"v":5,"q":"nonsense"}]}`, "co2=5!3"},
		{`{"gases":[{"v":5,"q":true}]}`, "co2=5"},
		{`{"gases":[{"v":5,"q":false}]}`, "co2=5!3"},
		{`{"data":{"temp":"68"},"door":1,"a.b":"x"}`, `a.b="x" wrong_type:temperature wrong_type:door`},
		{`{"data":{"temp":200}}`, "temperature=93.3333333333!4"},
		{`{"data":{"rh":40,"rh_time":1760000000.5}}`, "humidity=40@500"},
		{`{"data":{"rh":40,"rh_time":"2025-10-09T08:53:20+00:00"}}`, "humidity=40@0"},
		{`{"data":{"rh":40,"rh_time":"now"},"door":true}`, "door=true wrong_type:humidity"},
		{`{"data":{"rh":40,"rh_time":1770000000},"door":true}`, "door=true time_future:humidity"},
		{`{"data":{"rh":40,"rh_time":1}}`, "time_ancient:humidity"},
		{`{"data":{"rh":40,"rh_time":0}}`, "time_ancient:humidity"},
		{`{"data":{"rh":40,"rh_time":1760000000000000000}}`, "humidity=40@0"},
		{`{"pos":{"lat":1,"lon":[2]},"x":1,"data":{"y":2,"z":{"a":[1,2]}}}`, `where={"lat":1,"lon":[2]} ignored:3`},
		{`{"door":null}`, "door=null"},
		{`{"at":[48.1,"N",{}]}`, `at=[48.1,"N",{}]`}, {`{"at":[91,"N"]}`, `at=[91,"N"]!4`}, {`{"at":[48.1,11]}`, `at=[48.1,11]!4`}, {`{"at":5}`, "wrong_type:at"},
		{`{"data":5,"gases":{"0":{"v":7}}}`, "co2=7 ignored:1"},
		{`[1,2]`, "ignored:2"}, {`7`, "ignored:1"}, {`{"door":tru}`, "malformed:"}, {``, "malformed:"}, {"{\"a.b\":\"\xff\"}", "malformed:"},
		{`{"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "too_deep:"},
		{`{"pos":` + strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40) + `}`, "too_deep:"},
		{strings.Repeat("[", 100) + strings.Repeat("]", 100), "too_deep:"},
		{`{"a.b":"` + strings.Repeat("[", 100) + `\"["}`, `a.b="` + strings.Repeat("[", 100) + `\"["`},
	} {
		m := parse(t, room, "")
		got := m.Read([]byte(c.payload), 0, now, usual)
		if sortedWords(got.text()) != sortedWords(c.want) {
			t.Errorf("%.100s is read as %s, want %s", c.payload, got.text(), c.want)
		}
	}
}

// A number that cannot be kept is refused in plain words, with the number and where it was.
func TestNumbersThatCannotBeKept(t *testing.T) {
	m := parse(t, `"a":{"type":"number"},"n":{"type":"integer"},"o":{"type":"object"},"u":{"type":"number","unit":"Cel","pollux:unit":"[degF]"}`, "")
	got := m.Read([]byte(`{"a":1e400,"n":9007199254740993,"o":{"x":[-1e999]},"u":1e400}`), 0, now, usual)
	var all []string
	for _, r := range got.Refused {
		all = append(all, r.Code+" "+r.Why())
	}
	said := strings.Join(all, "\n")
	for _, want := range []string{"a: 1e400 is beyond what a number can be", "n: 9007199254740993 is a whole number beyond ±9007199254740991",
		"the number -1e999 is beyond what a number can be", "u: 1e400 is beyond what a number can be"} {
		if strings.Count(said, want) != 1 {
			t.Errorf("%q is not once in\n%s", want, said)
		}
	}
	if strings.Contains(said, "strconv") || strings.Contains(said, "float64") || len(got.Readings) != 0 {
		t.Errorf("%d readings and\n%s", len(got.Readings), said)
	}
}

func sortedWords(s string) string {
	w := strings.Fields(s)
	for i := range w {
		for j := i + 1; j < len(w); j++ {
			if w[j] < w[i] {
				w[i], w[j] = w[j], w[i]
			}
		}
	}
	return strings.Join(w, " ")
}

func TestTimeOfTheMessage(t *testing.T) {
	m := parse(t, `"a":{"type":"number"}`, `,"pollux:time":"ts"`)
	for _, c := range []struct {
		payload string
		sent    int64
		want    string
	}{
		{`{"a":1,"ts":1759999990}`, now, "a=1@-10000"}, {`{"a":1}`, now - 7, "a=1@-7"}, {`{"a":1}`, 0, "a=1"},
		{`{"ts":"x","a":1}`, 0, "wrong_type:"}, {`{"a":1}`, now + time.Hour.Milliseconds(), "time_future:a"},
		{`{"a":1}`, now - 500*24*time.Hour.Milliseconds(), "time_ancient:a"},
	} {
		got := m.Read([]byte(c.payload), c.sent, now, usual)
		if got.text() != c.want {
			t.Errorf("%s is read as %s, want %s", c.payload, got.text(), c.want)
		}
	}
}

func TestUnknownPathsAreRefusedWhereTheModelSaysSo(t *testing.T) {
	m := parse(t, `"a":{"type":"number"}`, `,"pollux:unknown":"refuse"`)
	if got := m.Read([]byte(`{"a":1,"b":2}`), 0, now, usual).text(); got != "a=1 unknown_path:" {
		t.Error(got)
	}
	var many strings.Builder
	for i := range 50 {
		fmt.Fprintf(&many, `"x%d":1,`, i)
	}
	got := m.Read([]byte(`{`+many.String()+`"a":1}`), 0, now, usual)
	if len(got.Refused) != maxRefusals || got.Beyond != 50-maxRefusals || len(got.Readings) != 1 {
		t.Errorf("%d refusals, %d beyond, %d readings", len(got.Refused), got.Beyond, len(got.Readings))
	}
}

func TestWholeMessage(t *testing.T) {
	m := parse(t, `"level":{"type":"number","pollux:path":"$"}`, "")
	if got := m.Read([]byte(` 12.5 `), 0, now, usual).text(); got != "level=12.5" {
		t.Error(got)
	}
	if got := m.Read([]byte(`{"x":1}`), 0, now, usual).text(); got != "wrong_type:level" {
		t.Error(got)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ properties, more, path string }{
		{`"a":{"type":"number","unit":"flibbles"}`, "", "/properties/a/unit"},
		{`"a":{"type":"number","unit":"Cel","pollux:unit":"%"}`, "", "/properties/a/pollux:unit"},
		{`"a":{"type":"number","unit":"Cel","pollux:unit":"x"}`, "", "/properties/a/pollux:unit"},
		{`"a":{"type":"string","unit":"Cel","pollux:unit":"K"}`, "", "/properties/a/pollux:unit"},
		{`"a":{"type":"number","pollux:unit":"K"}`, "", "/properties/a/unit"},
		{`"a":{"type":"number","pollux:deadbnd":1}`, "", "/properties/a/pollux:deadbnd"},
		{`"a":{"type":"number","pollux:deadband":-1}`, "", "/properties/a/pollux:deadband"},
		{`"a":{"type":"string","pollux:deadband":1}`, "", "/properties/a/pollux:deadband"},
		{`"a":{"type":"number","pollux:rate":0}`, "", "/properties/a/pollux:rate"},
		{`"a":{"type":"number","pollux:rate":1e-300}`, "", "/properties/a/pollux:rate"},
		{`"a":{"type":"number","pollux:stale":-5}`, "", "/properties/a/pollux:stale"},
		{`"a":{"type":"number","pollux:stale":"x"}`, "", "/properties/a/pollux:stale"},
		{`"a":{"type":"number","pollux:flap":{"changes":1,"seconds":5}}`, "", "/properties/a/pollux:flap/changes"},
		{`"a":{"type":"number","pollux:flap":{"changes":5}}`, "", "/properties/a/pollux:flap/seconds"},
		{`"a":{"type":"number","pollux:path":""}`, "", "/properties/a/pollux:path"},
		{`"a":{"type":"number","pollux:path":"a..b"}`, "", "/properties/a/pollux:path"},
		{`"a":{"type":"number","pollux:path":"a[x]"}`, "", "/properties/a/pollux:path"},
		{`"a":{"type":"number","pollux:path":"a."}`, "", "/properties/a/pollux:path"},
		{`"a":{"type":"number","pollux:path":"` + strings.Repeat("/a", 17) + `"}`, "", "/properties/a/pollux:path"},
		{`"a":{"type":"number","readOnly":true,"pollux:virtual":true}`, "", "/properties/a/pollux:virtual"},
		{`"a":{"type":"float"}`, "", "/properties/a/type"}, {`"a b":{"type":"number"}`, "", "/properties/a b"},
		{`"a":{"tm:ref":"x#/properties/a","type":"number"}`, "", "/properties/a/tm:ref"},
		{``, `,"pollux:unknown":"drop"`, "/pollux:unknown"}, {``, `,"pollux:tim":"x"`, "/pollux:tim"}, {``, `,"pollux:time":"[x]"`, "/pollux:time"},
		{``, `,"links":[{"rel":"tm:extends","href":"x"}]`, "/links/0"},
		{``, `,"actions":{"a":{"input":{"type":"nonsense"}}}`, "/actions/a/input"},
	} {
		_, err := Parse(thing(c.properties, c.more))
		var e *Error
		if !errors.As(err, &e) || e.Path != c.path {
			t.Errorf("{%s}%s: %v, want an error at %s", c.properties, c.more, err, c.path)
		}
	}
	for text, path := range map[string]string{`{}`: "/@context", `[]`: "/", `{"@context":"https://www.w3.org/2022/wot/td/v1.1"}`: "/@type",
		`{"@context":"https://www.w3.org/2019/wot/td/v1","@type":"tm:ThingModel"}`: "/@context", strings.Repeat(" ", MaxBytes+1): "/"} {
		_, err := Parse([]byte(text))
		var e *Error
		if !errors.As(err, &e) || e.Path != path {
			t.Errorf("%.80s: %v, want an error at %s", text, err, path)
		}
	}
}

func TestFilters(t *testing.T) {
	m := parse(t, `"a":{"type":"number","pollux:deadband":0.5,"pollux:rate":0.1,"pollux:flap":{"changes":5,"seconds":60},"pollux:stale":90,"pollux:virtual":true},
		"b":{"type":"string"}`, "")
	a, b := m.Of("a"), m.Of("b")
	if a.Deadband != 0.5 || a.Spacing != 10*time.Second || a.FlapChanges != 5 || a.FlapWindow != time.Minute || a.Stale != 90*time.Second || !a.Virtual {
		t.Errorf("%+v", a)
	}
	if b.Deadband >= 0 || b.Spacing != 0 || b.FlapChanges != 0 || b.Stale != 0 || b.Virtual || !m.Staling {
		t.Errorf("%+v", b)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"data":{"temp":68,"rh":40,"rh_time":1760000000},"gases":[{"v":1,"u":"%","q":"bad"}],"door":true}`))
	f.Add([]byte(`{"data":{"temp":1e400},"pos":{"a":[{}]}}`))
	m := parse(f, room, `,"pollux:time":"ts"`)
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, r := range m.Read(payload, 0, now, usual).Readings {
			if x, ok := r.Value.Sample(); ok && (math.IsNaN(x) || math.IsInf(x, 0)) {
				t.Errorf("%s reads as %v", payload, x)
			}
			if r.Time > now+usual.Ahead {
				t.Errorf("%s reads a time ahead of now: %d", payload, r.Time)
			}
		}
	})
}

func FuzzPath(f *testing.F) {
	for _, p := range []string{"/a/b~1c", "$.a[0]['x y'].b", "$", "a.b", "[3]"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if steps, err := parsePath("/p", path); err == nil && len(steps) == 0 && path != "$" {
			t.Errorf("%q has no steps", path)
		}
	})
}

func BenchmarkRead(b *testing.B) {
	m := parse(b, room, "")
	payload := []byte(`{"data":{"temp":68.5,"rh":40.25},"gases":[{"v":417}],"door":true}`)
	b.ReportAllocs()
	for b.Loop() {
		if got := m.Read(payload, now, now, usual); len(got.Readings) != 4 {
			b.Fatal(got.text())
		}
	}
}
