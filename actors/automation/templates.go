package automation

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"gopkg.in/yaml.v3"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

//go:embed templates/*.yaml
var templateFiles embed.FS

// template is a file of the library.
type template struct {
	Title      string
	About      string
	Parameters []struct {
		Name, About, Kind, Default string
		Required                   bool
	}
	Rule yaml.Node
}

// chosen are the parameters that each template has: which twins it is for. Together they are what `@{of}` stands for.
var chosen = []*pb.TemplateParameter{
	{Name: "twin", About: "only this twin", Kind: "text"},
	{Name: "model", About: "only twins of this model", Kind: "text"},
	{Name: "zone", About: "only twins in this zone, and in those within", Kind: "text"},
	{Name: "system", About: "only twins of this system", Kind: "text"},
	{Name: "label", About: "only twins with this KEY=VALUE", Kind: "text"},
}

// library is all templates, read once: they do not change while the program runs.
var library = sync.OnceValues(func() (map[string]*template, error) {
	files, err := fs.Glob(templateFiles, "templates/*.yaml")
	if err != nil {
		return nil, err
	}
	all := map[string]*template{}
	for _, f := range files {
		text, err := templateFiles.ReadFile(f)
		if err != nil {
			return nil, err
		}
		t := &template{}
		if err := yaml.Unmarshal(text, t); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all[strings.TrimSuffix(strings.TrimPrefix(f, "templates/"), ".yaml")] = t
	}
	return all, nil
})

// Templates gives the library, by name.
func Templates() (all []*pb.RuleTemplate, err error) {
	lib, err := library()
	if err != nil {
		return nil, fmt.Errorf("templates of rules: %w", err)
	}
	for name, t := range lib {
		text, err := yaml.Marshal(&t.Rule)
		if err != nil {
			return nil, fmt.Errorf("template %s: %w", name, err)
		}
		m := &pb.RuleTemplate{Name: name, Title: t.Title, About: t.About, Rule: string(text)}
		for _, p := range t.Parameters {
			m.Parameters = append(m.Parameters, &pb.TemplateParameter{Name: p.Name, About: p.About, Kind: p.Kind, Default: p.Default, Required: p.Required})
		}
		for _, p := range chosen {
			m.Parameters = append(m.Parameters, proto.CloneOf(p))
		}
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *pb.RuleTemplate) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// FillTemplate makes a rule of a template. Whether the rule is right, is for CheckRule to say. Errors are *FieldError.
func FillTemplate(name, id string, values map[string]string) (*pb.Rule, error) {
	all, err := Templates()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(t *pb.RuleTemplate) bool { return t.Name == name })
	if i < 0 {
		names := make([]string, len(all))
		for i, t := range all {
			names[i] = t.Name
		}
		return nil, wrong("/template", "there is no %q; there are %s", name, strings.Join(names, ", "))
	}
	f := filling{values: map[string]any{}, texts: map[string]string{}}
	if err := f.take(all[i].Parameters, values); err != nil {
		return nil, err
	}
	var tree any
	if err := yaml.Unmarshal([]byte(all[i].Rule), &tree); err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	tree, _ = f.fill(tree)
	text, err := json.Marshal(tree)
	if err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	m := &pb.Rule{}
	if err := protojson.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("template %s: %w", name, err)
	}
	m.Id = id
	if m.Title == "" {
		m.Title = all[i].Title
	}
	return m, nil
}

// filling is what comes into a template's places: as values, and as they stand in texts.
type filling struct {
	values map[string]any
	texts  map[string]string
}

// take reads the parameters' values.
func (f *filling) take(all []*pb.TemplateParameter, values map[string]string) error {
	for name := range values {
		if !slices.ContainsFunc(all, func(p *pb.TemplateParameter) bool { return p.Name == name }) {
			var names []string
			for _, p := range all {
				names = append(names, p.Name)
			}
			return wrong("/values/"+name, "the template has no such parameter; it has %s", strings.Join(names, ", "))
		}
	}
	for _, p := range all {
		text, given := values[p.Name]
		if !given {
			text = p.Default
		}
		if text == "" && p.Required {
			return wrong("/values/"+p.Name, "it is needed: %s", p.About)
		}
		if err := f.set(p, text); err != nil {
			return err
		}
	}
	of := map[string]any{}
	for _, name := range []string{"model", "zone", "system"} {
		if f.texts[name] != "" {
			of[name] = f.texts[name]
		}
	}
	if twin := f.texts["twin"]; twin != "" {
		of["twins"] = []any{twin}
	}
	if label := f.texts["label"]; label != "" {
		k, v, ok := strings.Cut(label, "=")
		if !ok || k == "" {
			return wrong("/values/label", "%q: want KEY=VALUE", label)
		}
		of["labels"] = map[string]any{k: v}
	}
	f.values["of"] = of
	return nil
}

// set reads one parameter.
func (f *filling) set(p *pb.TemplateParameter, text string) error {
	path := "/values/" + p.Name
	f.texts[p.Name], f.values[p.Name] = text, text
	switch p.Kind {
	case "number":
		x, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return wrong(path, "%q is no number", text)
		}
		f.values[p.Name] = x
		f.texts[p.Name] = strconv.FormatFloat(x, 'f', -1, 64)
		if !strings.Contains(f.texts[p.Name], ".") {
			f.texts[p.Name] += ".0" // an expression's numbers are of one kind
		}
		if x < 0 {
			f.texts[p.Name] = "(" + f.texts[p.Name] + ")"
		}
	case "duration":
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return wrong(path, "%q is no duration, such as 90s, 15m or 24h", text)
		}
		f.values[p.Name] = strconv.FormatFloat(d.Seconds(), 'f', -1, 64) + "s"
	case "severity":
		f.values[p.Name] = "ALARM_SEVERITY_" + strings.ToUpper(text)
		if !slices.Contains([]string{"info", "warning", "error", "critical"}, text) {
			return wrong(path, "%q is none of info, warning, error, critical", text)
		}
	case "value":
		var v any
		if err := json.Unmarshal([]byte(text), &v); err != nil {
			v = text
		}
		switch v.(type) {
		case string, bool, float64:
		default:
			return wrong(path, "%q is no text, number, true or false", text)
		}
		f.values[p.Name], f.texts[p.Name] = v, jsonOf(v)
	default:
		if strings.ContainsAny(text, "\"'\\${}\n") {
			return wrong(path, "it has a character that cannot be in it")
		}
	}
	return nil
}

var place = regexp.MustCompile(`@\{([a-z]+)\}`)

// fill puts the values into a tree. What is empty is left out, and so is what has an `@if` of an empty parameter.
func (f *filling) fill(x any) (any, bool) {
	switch x := x.(type) {
	case map[string]any:
		if name, ok := x["@if"].(string); ok && f.texts[name] == "" {
			return nil, false
		}
		out := map[string]any{}
		for k, v := range x {
			if k == "@if" {
				continue
			}
			if y, ok := f.fill(v); ok {
				out[k] = y
			}
		}
		return out, true
	case []any:
		out := []any{}
		for _, v := range x {
			if y, ok := f.fill(v); ok {
				out = append(out, y)
			}
		}
		return out, true
	case string:
		if m := place.FindStringSubmatch(x); m != nil && m[0] == x {
			v := f.values[m[1]]
			return v, v != ""
		}
		return place.ReplaceAllStringFunc(x, func(at string) string { return f.texts[at[2:len(at)-1]] }), true
	}
	return x, true
}
