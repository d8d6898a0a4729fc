package derive_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors/derive"
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func TestFormulasAreRead(t *testing.T) {
	for text, want := range map[string]string{
		`avg(zone.twins("room").temperature)`:                           `avg zone.twins("room") temperature`,
		`sum(zone("hq").twins().power) / 1000.0`:                        `sum zone("hq").twins() power`,
		`max(related("-feeds")["flow-rate"]) + min(related("x").level)`: `max related("-feeds") flow-rate|min related("x") level`,
		`count(system.twins("Display")) > 2.0`:                          `count system.twins("Display") `,
		`first(twins("boiler", "b2").mode) == "on"`:                     `first twins("boiler", "b2") mode`,
		`any(system("s").twins().on) || all(zone.twins().on)`:           `any system("s").twins() on|all zone.twins() on`,
		`avg(zone.twins().t) + avg(zone.twins().t)`:                     `avg zone.twins() t`,
		`twin.properties.power * 2`:                                     ``,
	} {
		f, err := derive.Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		var got []string
		for _, a := range f.Aggregates {
			got = append(got, a.Function+" "+a.Set.String()+" "+a.Property)
		}
		if strings.Join(got, "|") != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	for text, want := range map[string]string{
		`avg(zone.twins("room"))`:         "1:15: want SET.PROPERTY",
		`avg(rooms.temperature)`:          "want SET.PROPERTY",
		`avg(zone.twins(twin.name).t)`:    "texts are wanted",
		`avg(related().t)`:                "one type of relation",
		`avg(floor.twins().t)`:            "want SET.PROPERTY",
		`avg(zone.twins().t) +`:           "1:22",
		`avg(zone.twins().t) + twim.name`: "did you mean",
		`avg(zone.twins().t) + somewhere`: "there is no word somewhere; there are twin",
		`avg(zone.twins("a","b").t)`:      "one model or name",
		`sum(zone.twins().p) + @agg0`:     "1:",
	} {
		_, err := derive.Compile(text)
		var at *expr.Error
		if !errors.As(err, &at) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "@agg1") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	var many []string
	for i := range derive.MaxAggregates + 1 {
		many = append(many, fmt.Sprintf("sum(zone.twins().p%d)", i))
	}
	if _, err := derive.Compile(strings.Join(many, " + ")); err == nil || !strings.Contains(err.Error(), "aggregates") {
		t.Error(err)
	}
}

func number(x float64) derive.Reading { return derive.Reading{Value: state.NumberValue(x), Good: true} }

// What is kept up to date change by change is what is computed of all values at once.
func TestIncrementalIsTheSame(t *testing.T) {
	f, err := derive.Compile(`[avg(zone.twins().t), sum(zone.twins().t), min(zone.twins().t), max(zone.twins().t), count(zone.twins().t), count(zone.twins())]`)
	if err != nil {
		t.Fatal(err)
	}
	s := derive.NewState(f)
	random := rand.New(rand.NewPCG(1, 2))
	now := map[string]derive.Reading{}
	in := &expr.Input{Twin: &expr.Twin{Config: &pb.Twin{Id: "default/x"}}}
	become := func(n int) {
		var ids []string
		for i := range n {
			ids = append(ids, fmt.Sprint("t", i))
		}
		for id := range now {
			keep := false
			for _, x := range ids {
				keep = keep || x == id
			}
			if !keep {
				delete(now, id)
			}
		}
		for i := range f.Aggregates {
			s.Become(i, ids, func(id, _ string) (derive.Reading, bool) { r, ok := now[id]; return r, ok })
		}
	}
	size := 20
	become(size)
	for round := range 5000 {
		if round%500 == 499 {
			size = 5 + random.IntN(40)
			become(size)
		}
		id := fmt.Sprint("t", random.IntN(size))
		r := number(math.Round(random.Float64()*1000) / 10)
		r.Good = random.IntN(4) > 0
		s.Set(id, "t", r)
		now[id] = r
		sum, n, least, most := 0.0, 0, math.Inf(1), math.Inf(-1)
		for _, r := range now {
			if x, _ := r.Value.Sample(); r.Good {
				sum, n, least, most = sum+x, n+1, min(least, x), max(most, x)
			}
		}
		v, err := s.Eval(in)
		if n == 0 {
			if !errors.Is(err, derive.ErrNoValue) {
				t.Fatalf("round %d: %v, %v", round, v, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got, _ := v.Any().([]any)
		for i, want := range []float64{sum / float64(n), sum, least, most, float64(n), float64(size)} {
			if x, ok := got[i].(float64); !ok || math.Abs(x-want) > 1e-6 {
				t.Fatalf("round %d: %v, want %v in place %d", round, got, want, i)
			}
		}
	}
	all, without := s.Sources()
	if all != 6*size || without > 5*size {
		t.Errorf("%d sources, %d without", all, without)
	}
}

func TestTruthsAndTexts(t *testing.T) {
	f, err := derive.Compile(`{"any": any(twins("a","b").on), "all": all(twins("a","b").on), "first": first(twins("a","b").on)}`)
	if err != nil {
		t.Fatal(err)
	}
	s := derive.NewState(f)
	in := &expr.Input{Twin: &expr.Twin{Config: &pb.Twin{Id: "default/x"}}}
	for i := range f.Aggregates {
		s.Become(i, []string{"a", "b"}, func(string, string) (derive.Reading, bool) { return derive.Reading{}, false })
	}
	if _, err := s.Eval(in); !errors.Is(err, derive.ErrNoValue) {
		t.Error(err)
	}
	for _, step := range []struct {
		id   string
		on   bool
		want string
	}{{"b", true, `{"all":true,"any":true,"first":true}`}, {"a", false, `{"all":false,"any":true,"first":false}`}, {"b", false, `{"all":false,"any":false,"first":false}`}} {
		if !s.Set(step.id, "on", derive.Reading{Value: state.BoolValue(step.on), Good: true}) {
			t.Error("nothing changed")
		}
		v, err := s.Eval(in)
		if got := string(v.AppendJSON(nil)); err != nil || got != step.want {
			t.Errorf("%s, %v, want %s", got, err, step.want)
		}
	}
	if s.Set("b", "on", derive.Reading{Value: state.BoolValue(false), Good: true}) || s.Set("c", "on", number(1)) || s.Set("a", "off", number(1)) {
		t.Error("what changes nothing counts as a change")
	}
}

// BenchmarkChange is the cost of one change of one source: it does not rise with their number.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{1, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			f, err := derive.Compile(`avg(zone.twins("room").temperature)`)
			if err != nil {
				b.Fatal(err)
			}
			s := derive.NewState(f)
			ids := make([]string, n)
			for i := range ids {
				ids[i] = fmt.Sprint("t", i)
			}
			s.Become(0, ids, func(string, string) (derive.Reading, bool) { return number(20), true })
			in := &expr.Input{Twin: &expr.Twin{Config: &pb.Twin{Id: "default/x"}}}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Set(ids[i%n], "temperature", number(float64(i%40)))
				if _, err := s.Eval(in); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A value that is far from all others, and goes again, takes nothing of them along.
func TestSumsForgetWhatWasFarOff(t *testing.T) {
	f, err := derive.Compile(`[sum(zone.twins().t), avg(zone.twins().t)]`)
	if err != nil {
		t.Fatal(err)
	}
	in := &expr.Input{Twin: &expr.Twin{Config: &pb.Twin{Id: "default/x"}}}
	for _, far := range [][]float64{{1e17}, {-1e300}, {math.MaxFloat64, math.MaxFloat64}} {
		s := derive.NewState(f)
		ids := []string{"a", "b", "c", "d"}
		s.Become(0, ids, func(string, string) (derive.Reading, bool) { return derive.Reading{}, false })
		s.Become(1, ids, func(string, string) (derive.Reading, bool) { return derive.Reading{}, false })
		s.Set("a", "t", number(20))
		s.Set("b", "t", number(22))
		for i, x := range far {
			s.Set(ids[2+i], "t", number(x))
		}
		_, _ = s.Eval(in) // it is asked meanwhile, too
		for i := range far {
			s.Set(ids[2+i], "t", derive.Reading{})
		}
		v, err := s.Eval(in)
		if got := string(v.AppendJSON(nil)); err != nil || got != "[42,21]" {
			t.Errorf("after %v: %s, %v", far, got, err)
		}
	}
}
