package automation

import (
	"errors"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Each template of the library, filled with what it needs, is a rule whose expressions and texts compile.
func TestEachTemplateMakesARule(t *testing.T) {
	all, err := Templates()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 8 {
		t.Errorf("%d templates", len(all))
	}
	p, err := newPrograms()
	if err != nil {
		t.Fatal(err)
	}
	h := &Host{programs: p}
	for _, x := range all {
		values := map[string]string{"label": "kind=sensor", "model": "room"}
		for _, y := range x.Parameters {
			switch {
			case y.Required && y.Kind == "number":
				values[y.Name] = "-12.5"
			case y.Required:
				values[y.Name] = "level"
			}
		}
		m, err := FillTemplate(x.Name, "default/"+x.Name, values)
		if err != nil {
			t.Errorf("%s: %v", x.Name, err)
			continue
		}
		if err := h.CheckRule(m); err != nil {
			t.Errorf("%s: %v in %v", x.Name, err, m)
		}
		of := m.When[0].GetProperty().GetOf()
		if a := m.When[0].GetAbsent(); a != nil {
			of = a.Of
		}
		if !proto.Equal(of, &pb.Selection{Model: "room", Labels: map[string]string{"kind": "sensor"}}) || m.Title == "" {
			t.Errorf("%s is about %v, with title %q", x.Name, of, m.Title)
		}
		if strings.Contains(m.String(), "@{") {
			t.Errorf("%s has a place that nothing came into: %v", x.Name, m)
		}
	}
}

func TestTemplatesAreFilled(t *testing.T) {
	m, err := FillTemplate("leak", "default/x", map[string]string{"valve": "v1", "wet": "wet"})
	if err != nil || len(m.Then) != 2 || m.Then[1].GetCall().To.Twin != "v1" || m.If != `value == "wet"` {
		t.Errorf("%v, %v", m, err)
	}
	if m, err = FillTemplate("leak", "default/x", nil); err != nil || len(m.Then) != 1 || m.If != "value == true" {
		t.Errorf("without a valve: %v, %v", m, err)
	}
	if m, err = FillTemplate("frost", "default/x", map[string]string{"below": "-3", "for": "1m30s", "twin": "pipe"}); err != nil || m.If != "value < (-3.0)" ||
		m.For.AsDuration().String() != "1m30s" || m.When[0].GetProperty().Of.Twins[0] != "pipe" {
		t.Errorf("%v, %v", m, err)
	}
	for want, x := range map[string]struct {
		template string
		values   map[string]string
	}{
		`there is no "frots"; there are battery-low`: {"frots", nil},
		"/values/property: it is needed":             {"out-of-range", nil},
		`/values/below: "cold" is no number`:         {"frost", map[string]string{"below": "cold"}},
		"/values/colour: the template has no such":   {"frost", map[string]string{"colour": "red"}},
		`/values/for: "long" is no duration`:         {"frost", map[string]string{"for": "long"}},
		`/values/label: "x": want KEY=VALUE`:         {"frost", map[string]string{"label": "x"}},
		"/values/property: it has a character":       {"frost", map[string]string{"property": `a"b`}},
		"/values/severity:":                          {"frost", map[string]string{"severity": "worst"}},
	} {
		_, err := FillTemplate(x.template, "default/x", x.values)
		if !errors.As(err, new(*FieldError)) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", x.template, err, want)
		}
	}
}
