package automation

import (
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// A rule is told of each change that may count: what is left out is what does not hold, after it was told that.
func TestScreen(t *testing.T) {
	p, err := newPrograms()
	if err != nil {
		t.Fatal(err)
	}
	rule := func(text string) *pb.Rule {
		t.Helper()
		m := &pb.Rule{}
		if err := protojson.Unmarshal([]byte(text), m); err != nil {
			t.Fatal(err)
		}
		return m
	}
	const on = `"when":[{"property":{"names":["level"]}}]`
	for _, text := range []string{`{` + on + `}`, `{"if":"value > twin.properties.x",` + on + `}`, `{"if":"value > 1","together":true,` + on + `}`, `{"if":"value > 1","atLeast":2,` + on + `}`,
		`{"if":"value > 1","until":"now() > time",` + on + `}`, `{"if":"value > avg(zone.twins().x)",` + on + `}`, `{"if":"value > history('avg','x','1h')",` + on + `}`,
		`{"if":"value > twins['a'].properties.x",` + on + `}`, `{"if":"value > 1","when":[{"property":{}},{"absent":{"since":"60s"}}]}`} {
		if p.screen(rule(text)) != nil {
			t.Errorf("%s has a screen", text)
		}
	}
	for _, x := range []struct {
		rule   string
		values []float64
		told   string
	}{
		{`{"if":"value > 10",` + on + `}`, []float64{1, 2, 11, 12, 3, 4, 5, 20, 1}, "1 . 11 12 3 . . 20 1"},
		{`{"if":"value > 10","until":"value < 5",` + on + `}`, []float64{7, 1, 2, 7, 11, 7, 6, 1, 7, 2, 12}, "7 1 . . 11 7 6 1 . . 12"},
	} {
		l := Listener{screen: p.screen(rule(x.rule))}
		got := ""
		for _, v := range x.values {
			text := "."
			if spare, told := l.Spare(&expr.Input{Change: &expr.Change{Kind: SaidProperty, Name: "level", Value: state.NumberValue(v)}}); !spare {
				told()
				text = string(state.NumberValue(v).AppendJSON(nil))
			}
			got += " " + text
		}
		if got != " "+x.told {
			t.Errorf("%s was told%s, want %s", x.rule, got, x.told)
		}
	}
	// What could not be sent is told with the next change.
	l := Listener{screen: p.screen(rule(`{"if":"value > 10",` + on + `}`))}
	for range 3 {
		if spare, _ := l.Spare(&expr.Input{Change: &expr.Change{Value: state.NumberValue(1)}}); spare {
			t.Error("it is spared what it was not told")
		}
	}
}
