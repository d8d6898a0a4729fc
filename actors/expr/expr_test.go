package expr_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func env(t testing.TB, s expr.Scope, more ...expr.Word) *expr.Env {
	t.Helper()
	e, err := expr.New(s, more...)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func property(name string, v any) state.Property {
	val, err := state.FromAny(v)
	if err != nil {
		panic(err)
	}
	return state.Property{Name: state.Intern(name), Value: val, Stamp: state.At(1_700_000_000_000, 1)}
}

func lamp() *expr.Input {
	rec := &state.Record{Connection: uint8(pb.Connection_CONNECTION_CONNECTED), LastSeen: 1_700_000_000_000, Properties: []state.Property{
		property("power", "on"), property("level", 20.0), property("location", map[string]any{"lat": 52.5163, "lon": 13.3777}),
		property("modes", []any{"eco", "party"}), property("dimmed", false)}}
	return &expr.Input{
		Now: time.Date(2026, 3, 1, 22, 30, 0, 0, time.UTC),
		Twin: &expr.Twin{State: rec, Config: &pb.Twin{Id: "acme/lamp-1", Driver: "pjlink@1.2.0", Zone: "acme/hq.2", Model: "acme/lamp",
			Labels: map[string]string{"room": "aula"}}},
		Change: &expr.Change{Kind: "property", Name: "level", Value: state.NumberValue(31), Previous: state.NumberValue(29), Time: 1_700_000_000_000},
		Message: &expr.Message{Topic: "acme/orders", Key: "k", Payload: []byte(`{"amount": 12, "items": ["a"]}`),
			Headers: map[string]string{"source": "web"}},
	}
}

const all = expr.ScopeTwin | expr.ScopeChange | expr.ScopeMessage

func TestConditions(t *testing.T) {
	e, in := env(t, all), lamp()
	for source, want := range map[string]bool{
		`twin.id == "acme/lamp-1" && twin.name == "lamp-1" && twin.project == "acme"`: true,
		`twin.driver == "pjlink" && twin.model == "acme/lamp"`:                        true,
		`twin.zone.startsWith("acme/hq") && twin.properties.power == "on"`:            true,
		`twin.properties["level"] >= 20 && twin.properties.level < 20.5`:              true,
		`twin.properties.level * 2 + 1 == 41`:                                         true,
		`value - previous > 1`:                                                        true,
		`1 + 1 == 2 && size(twin.labels) + 1 == 2`:                                    true,
		`value > 30 && name == "level" && kind == "property"`:                         true,
		`has(twin.properties.power) && !has(twin.properties.volume)`:                  true,
		`"power" in twin.properties && !("volume" in twin.properties)`:                true,
		`twin.properties.exists(p, p == "level")`:                                     true,
		`size(twin.properties) == 5`:                                                  true,
		`has(twin.desired.power)`:                                                     false,
		`"eco" in twin.properties.modes`:                                              true,
		`twin.labels.room == "aula"`:                                                  true,
		`twin.status == "connected" && twin.fault == ""`:                              true,
		`now() - twin.seen > duration("24h")`:                                         true,
		`now() - twin.times.level > duration("24h")`:                                  true,
		`now().between("22:00", "06:00")`:                                             true,
		`now().between("22:00", "23:00", "Europe/Berlin")`:                            false, // it is 23:30 there
		`near(twin.location, 52.52, 13.4050, 5000)`:                                   true,
		`near(twin.location, 48.13, 11.57, 5000)`:                                     false,
		`distance(twin.location, "52.52,13.4050") / 1000 < 3`:                         true,
		`within(twin.location, [[52, 13], [53, 14]])`:                                 true,
		`within(twin.location, [[52, 13], [53, 13], [52, 13.1]])`:                     false,
		`convert(value, "Cel", "[degF]") > 87`:                                        true,
		`message.payload.amount * 2 == 24 && message.headers.source == "web"`:         true,
		`message.payload.items[0] == "a"`:                                             true,
		`twin.properties.volume > 3 || twin.status == "connected"`:                    true,
		`twin.name.matches("^lamp-[0-9]+$")`:                                          true,
	} {
		x, err := e.Condition(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got, err := x.Holds(in); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", source, got, err, want)
		}
	}
}

func TestValues(t *testing.T) {
	e, in := env(t, all), lamp()
	for source, want := range map[string]string{
		`twin.properties.level + 1`:                  `21`,
		`twin.properties.modes`:                      `["eco","party"]`,
		`{"id": twin.id, "hot": value > 30}`:         `{"hot":true,"id":"acme/lamp-1"}`,
		`now()`:                                      `"2026-03-01T22:30:00Z"`,
		`duration("90s")`:                            `"1m30s"`,
		`twin.name.upperAscii()`:                     `"LAMP-1"`,
		`math.greatest(value, previous)`:             `31`,
		`twin.properties.level > 5 ? "high" : "low"`: `"high"`,
		`null`: `null`,
		`twin.properties.map(p, p).filter(p, p > "m")`: `["power","modes"]`,
	} {
		x, err := e.Compile(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		got, err := x.Eval(in)
		text := string(got.AppendJSON(nil))
		if strings.Contains(source, "filter") && text == `["modes","power"]` {
			text = want // the order of a map is not given
		}
		if err != nil || text != want {
			t.Errorf("%s: %s, %v; want %s", source, text, err, want)
		}
	}
}

func TestErrors(t *testing.T) {
	e := env(t, all)
	for source, want := range map[string]string{
		`twn.name == "a"`:                "1:1: there is no word twn; did you mean twin?",
		`twin.nmae == "a"`:               "1:5: twin has no field nmae; did you mean name?",
		`twin.temperature > 3`:           "1:5: twin has no field temperature",
		"value > 3 &&\n  valeu < 5":      "2:3: there is no word valeu; did you mean value?",
		`neer(twin.location, 1, 2, 3)`:   "1:5: there is no word neer; did you mean near?",
		`value >`:                        "1:8: ",
		`twin.name`:                      "1:1: it is a text; want what is true or false",
		`twin.name > 3`:                  "1:11: > does not go with text and whole number",
		`twin == "acme/lamp"`:            "1:6: == does not go with twin and text",
		``:                               "1:1: it is empty",
		strings.Repeat("a", 2001):        "it has 2001 bytes; 2000 are the most",
		strings.Repeat("(", 500) + "1":   "1:",
		`twin.properties.a.matches("(")`: "",
	} {
		_, err := e.Condition(source)
		if want == "" {
			continue
		}
		var at *expr.Error
		if !errors.As(err, &at) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: %v; want %s", source, err, want)
		}
	}
}

func TestEvaluationErrors(t *testing.T) {
	e, in := env(t, all), lamp()
	holds := func(source string) error {
		t.Helper()
		x, err := e.Condition(source)
		if err != nil {
			t.Fatal(err)
		}
		if x.Matches(in) {
			t.Errorf("%s matches", source)
		}
		_, err = x.Holds(in)
		return err
	}
	if err := holds(`twin.properties.volume > 3`); !errors.Is(err, expr.ErrMissing) || !strings.Contains(err.Error(), "volume") {
		t.Error(err)
	}
	in.Twin.State = nil
	if err := holds(`now() - twin.seen > duration("1h")`); !errors.Is(err, expr.ErrMissing) || !strings.Contains(err.Error(), "twin.seen") {
		t.Error(err)
	}
	if err := holds(`twin.location.lat > 1`); !errors.Is(err, expr.ErrMissing) {
		t.Error(err)
	}
	if err := holds(`value + "a" == "b"`); err == nil || !strings.Contains(err.Error(), "do not go together") {
		t.Error(err)
	}
	if err := holds(`value`); err == nil || !strings.Contains(err.Error(), "not true or false") {
		t.Error(err)
	}
	if err := holds(`[1,2,3,4,5,6,7,8,9,10].all(a, [1,2,3,4,5,6,7,8,9,10].all(b, [1,2,3,4,5,6,7,8,9,10].all(c, [1,2,3,4,5,6,7,8,9,10].all(d, a+b+c+d != -value))))`); err == nil ||
		!strings.Contains(err.Error(), "too much") {
		t.Error(err)
	}
}

func TestUses(t *testing.T) {
	e := env(t, all)
	for source, want := range map[string]struct {
		properties string
		all, now   bool
		fields     string
	}{
		`twin.properties.a > 1 && twin.properties["b"] < 2 && has(twin.times.c)`: {"a b c", false, false, "properties times"},
		`"d" in twin.desired && twin.labels.x == "y"`:                            {"d", false, false, "desired labels"},
		`twin.properties[name] > 1`:                                              {"", true, false, "properties"},
		`twin.properties.exists(p, p == "x")`:                                    {"", true, false, "properties"},
		`now() > time`:                                                           {"", false, true, ""},
		`twin.properties.a.b.c == 1`:                                             {"a", false, false, "properties"},
	} {
		x, err := e.Condition(source)
		if err != nil {
			t.Fatal(source, err)
		}
		u := x.Uses()
		if strings.Join(u.Properties, " ") != want.properties || u.All != want.all || u.Now != want.now || strings.Join(u.Fields, " ") != want.fields {
			t.Errorf("%s: %+v", source, u)
		}
	}
}

func BenchmarkHolds(b *testing.B) {
	e, in := env(b, all), lamp()
	for name, source := range map[string]string{"value": `value > 30`, "twin": `twin.zone.startsWith("acme/hq") && twin.properties.power == "on"`} {
		b.Run(name, func(b *testing.B) {
			x, err := e.Condition(source)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if yes, err := x.Holds(in); err != nil || !yes {
					b.Fatal(yes, err)
				}
			}
		})
	}
}
