// Package scenario says what simulated twins report, and when: values between key frames, with noise and faults, or values that
// were recorded, for one twin or a thousand.
//
// It is pure. A file goes in, messages come out; the clock is a function of the time that its caller gives. With one seed a
// scenario gives the same messages each time.
package scenario

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

const (
	// MaxTwins of one scenario.
	MaxTwins = 100_000
	// maxKeys of one value: a year of minutes.
	maxKeys = 600_000
	// leastEvery bounds how often a twin reports.
	leastEvery = time.Millisecond
)

// Scenario is a file of `pollux sim scenario`, checked.
type Scenario struct {
	// Project of the twins; empty: the file names none.
	Project string
	// Pattern is the name that Twins were made of, with {n} in it; empty: the file lists them.
	Pattern string
	// Twins by name, without the project.
	Twins []string
	// Every is the time between two messages of a twin, in the scenario's time.
	Every time.Duration
	// Length is when it is over, or begins again.
	Length time.Duration
	// Repeat: it begins again.
	Repeat bool
	Seed   uint64
	Values map[string]*Value
	// Record is where further values come from; nil: nowhere.
	Record *Record
}

// Record is a source of recorded values.
type Record struct {
	// CSV is a file's path, as the scenario's file has it; else the history of a twin.
	CSV string `yaml:"csv"`
	// Twin is `project/name`; its Properties between Start and End, a value each Step.
	Twin       string   `yaml:"twin"`
	Properties []string `yaml:"properties"`
	// Start and End are times by RFC 3339, or how long ago, such as -24h; empty: an hour ago, and now.
	Start string `yaml:"start"`
	End   string `yaml:"end"`
	// Step is a duration; 0: the samples as they are stored.
	Step Duration `yaml:"step"`
}

// Span is the time of the record in a twin's history, as of now.
func (r *Record) Span(now time.Time) (start, end time.Time, err error) {
	start, end = now.Add(-time.Hour), now
	if r.Start != "" {
		if start, err = Ago(r.Start, now); err != nil {
			return start, end, fmt.Errorf("start: %w", err)
		}
	}
	if r.End != "" {
		if end, err = Ago(r.End, now); err != nil {
			return start, end, fmt.Errorf("end: %w", err)
		}
	}
	if !start.Before(end) {
		err = errors.New("end: is not after start")
	}
	return start, end, err
}

// Ago reads a time by RFC 3339, or how long ago, such as -24h.
func Ago(text string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d > 0 {
		return time.Time{}, fmt.Errorf("%q: want a time such as 2026-01-31T08:00:00Z, or how long ago, such as -24h", text)
	}
	return now.Add(d), nil
}

// Value is what one property does.
type Value struct {
	// Path of the value in a message, as names; where the file gives none the property's own name, or, fitted, what a model says.
	Path []string
	// given: the file has the path. recorded: the keys are of the record.
	given, recorded bool
	Keys            []Key
	// Interpolate between keys; what is no number steps.
	Interpolate Interpolation
	// Noise is the standard deviation of what is added. Spread is how far a twin's own, constant offset may be from 0.
	Noise, Spread float64
	// Round to a multiple of; 0: not.
	Round  float64
	Faults []Fault
}

// Key is a key frame: float64, bool or string.
type Key struct {
	At    time.Duration
	Value any
	// Text is a recorded value as it was recorded.
	Text string
}

// Interpolation between two keys.
type Interpolation string

// Interpolations. Smooth leaves and reaches each key without a jolt (3u² - 2u³).
const (
	Step   Interpolation = "step"
	Linear Interpolation = "linear"
	Smooth Interpolation = "smooth"
)

// Fault is what goes wrong with a value: at random, in a share of the messages, or between two times.
type Fault struct {
	// Kind is dropout (no value), stuck (the former value) or spike (By is added).
	Kind string `yaml:"kind"`
	// Share of the messages at which it begins, 0 to 1.
	Share float64 `yaml:"share"`
	// For how long it stays once it has begun; 0: for that message.
	For Duration `yaml:"for"`
	// From and To bound it instead, or besides.
	From Duration `yaml:"from"`
	To   Duration `yaml:"to"`
	By   float64  `yaml:"by"`
}

// Duration is a time.Duration that YAML writes as 90s or 24h.
type Duration time.Duration

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	x, err := parseDuration(n.Value)
	if err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	*d = Duration(x)
	return nil
}

func parseDuration(text string) (time.Duration, error) {
	if f, err := strconv.ParseFloat(text, 64); err == nil {
		text = strconv.FormatFloat(f, 'f', -1, 64) + "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no duration such as 500ms, 90s or 24h", text)
	}
	return d, nil
}

// file is a scenario as it is written.
type file struct {
	Project string                `yaml:"project"`
	Twins   []string              `yaml:"twins"`
	Name    string                `yaml:"name"`
	Count   int                   `yaml:"count"`
	Every   *Duration             `yaml:"every"`
	Length  Duration              `yaml:"length"`
	Repeat  *bool                 `yaml:"repeat"`
	Seed    uint64                `yaml:"seed"`
	Values  map[string]*fileValue `yaml:"values"`
	Record  *Record               `yaml:"record"`
}

type fileValue struct {
	Path        string        `yaml:"path"`
	Keys        yaml.Node     `yaml:"keys"`
	Interpolate Interpolation `yaml:"interpolate"`
	Noise       float64       `yaml:"noise"`
	Spread      float64       `yaml:"spread"`
	Round       float64       `yaml:"round"`
	Faults      []Fault       `yaml:"faults"`
}

// Error says what is wrong with a scenario, and where.
type Error struct{ Path, Text string }

func (e *Error) Error() string { return e.Path + ": " + e.Text }

func bad(path, format string, args ...any) error {
	return &Error{Path: path, Text: fmt.Sprintf(format, args...)}
}

// noField is how YAML says that a field is unknown, with a name that only this package knows.
var noField = regexp.MustCompile(`field (.*) not found in type \S+`)

// refused is what YAML's decoder says, in the words of who wrote the text.
func refused(err error) error {
	var wrong *yaml.TypeError
	if !errors.As(err, &wrong) {
		return err
	}
	var lines []string
	for _, line := range wrong.Errors {
		lines = append(lines, noField.ReplaceAllString(line, "$1 is unknown"))
	}
	return errors.New(strings.Join(lines, "; "))
}

// Parse reads a scenario. Values without keys get theirs from the record; see Recorded. Errors: *Error, or YAML's own.
func Parse(text []byte) (*Scenario, error) {
	var f file
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); errors.Is(err, io.EOF) {
		return nil, bad("/", "is empty")
	} else if err != nil {
		return nil, refused(err)
	}
	s := &Scenario{Project: f.Project, Every: 10 * time.Second, Length: time.Duration(f.Length), Repeat: f.Repeat == nil || *f.Repeat,
		Seed: f.Seed, Values: map[string]*Value{}, Record: f.Record}
	if f.Every != nil {
		s.Every = time.Duration(*f.Every)
	}
	if s.Every < leastEvery {
		return nil, bad("/every", "%s is less than %s", s.Every, leastEvery)
	}
	if err := s.name(&f); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(f.Values)) {
		v, err := f.Values[name].value(name, s.Record != nil)
		if err != nil {
			return nil, err
		}
		s.Values[name] = v
	}
	if r := s.Record; r != nil && (r.CSV == "") == (r.Twin == "") {
		return nil, bad("/record", "needs either csv or twin")
	} else if r != nil && r.Twin != "" && len(r.Properties) == 0 {
		return nil, bad("/record/properties", "is missing")
	}
	if len(s.Values) == 0 && s.Record == nil {
		return nil, bad("/values", "is missing, and so is /record")
	}
	if s.Record == nil {
		return s, s.end()
	}
	return s, nil
}

var twinName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,127}$`)

// name lists the twins: those that are named, or as many as are counted.
func (s *Scenario) name(f *file) error {
	switch {
	case len(f.Twins) > 0 && (f.Name != "" || f.Count != 0):
		return bad("/twins", "is there beside name or count")
	case len(f.Twins) > 0:
		s.Twins = f.Twins
	case f.Name == "":
		return bad("/twins", "is missing; want twins: [a, b], or name: room-{n} with count: 1000")
	default:
		return s.Rename(f.Name, max(f.Count, 1))
	}
	return s.checkTwins()
}

// Rename gives the scenario so many twins of a name in which {n} stands for a number from 1.
func (s *Scenario) Rename(name string, count int) error {
	switch {
	case count < 1 || count > MaxTwins:
		return bad("/count", "%d is not 1 to %d", count, MaxTwins)
	case count > 1 && !strings.Contains(name, "{n}"):
		return bad("/name", "%q has no {n}, and there are %d twins", name, count)
	}
	s.Pattern, s.Twins = name, make([]string, count)
	for i := range s.Twins {
		s.Twins[i] = strings.ReplaceAll(name, "{n}", strconv.Itoa(i+1))
	}
	return s.checkTwins()
}

func (s *Scenario) checkTwins() error {
	seen := make(map[string]bool, len(s.Twins))
	for i, name := range s.Twins {
		if !twinName.MatchString(name) {
			return bad(fmt.Sprintf("/twins/%d", i), "%q is no twin's name: want a-z 0-9 . _ -", name)
		}
		if seen[name] {
			return bad(fmt.Sprintf("/twins/%d", i), "%q is there twice", name)
		}
		seen[name] = true
	}
	if len(s.Twins) > MaxTwins {
		return bad("/twins", "there are %d, more than %d", len(s.Twins), MaxTwins)
	}
	return nil
}

func (f *fileValue) value(name string, recorded bool) (*Value, error) {
	at := "/values/" + name
	if f == nil {
		return nil, bad(at, "is empty")
	}
	v := &Value{Path: []string{name}, Interpolate: f.Interpolate, Noise: f.Noise, Spread: f.Spread, Round: f.Round, Faults: f.Faults}
	if f.Path != "" {
		v.Path, v.given = strings.Split(strings.TrimPrefix(f.Path, "/"), "/"), true
	}
	if slices.Contains(v.Path, "") {
		return nil, bad(at+"/path", "%q has an empty name", f.Path)
	}
	switch v.Interpolate {
	case "":
		v.Interpolate = Linear
	case Step, Linear, Smooth:
	default:
		return nil, bad(at+"/interpolate", "%q: want step, linear or smooth", v.Interpolate)
	}
	for field, x := range map[string]float64{"noise": v.Noise, "spread": v.Spread, "round": v.Round} {
		if !(x >= 0) || math.IsInf(x, 0) {
			return nil, bad(at+"/"+field, "%v is not 0 or more", x)
		}
	}
	if err := v.checkFaults(at); err != nil {
		return nil, err
	}
	if f.Keys.IsZero() {
		if !recorded {
			return nil, bad(at+"/keys", "is missing")
		}
		return v, nil
	}
	return v, v.readKeys(at+"/keys", &f.Keys)
}

func (v *Value) checkFaults(at string) error {
	for i := range v.Faults {
		f, at := &v.Faults[i], fmt.Sprintf("%s/faults/%d", at, i)
		switch {
		case f.Kind != "dropout" && f.Kind != "stuck" && f.Kind != "spike":
			return bad(at+"/kind", "%q: want dropout, stuck or spike", f.Kind)
		case !(f.Share >= 0 && f.Share <= 1):
			return bad(at+"/share", "%v is not 0 to 1", f.Share)
		case f.To < f.From:
			return bad(at+"/to", "is before from")
		case f.Share == 0 && f.To == 0:
			return bad(at, "needs share, or from and to")
		case f.Kind == "spike" && f.By == 0:
			return bad(at+"/by", "is missing")
		}
	}
	return nil
}

// readKeys reads a mapping of times to values, which stand in their order.
func (v *Value) readKeys(at string, n *yaml.Node) error {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		return bad(at, "want times with values, such as {0s: 18, 9h: 21.5}")
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		t, err := parseDuration(n.Content[i].Value)
		if err != nil {
			return bad(at, "line %d: %s", n.Content[i].Line, err)
		}
		k := Key{At: t}
		if err := n.Content[i+1].Decode(&k.Value); err != nil {
			return bad(at, "line %d: %s", n.Content[i+1].Line, err)
		}
		switch x := k.Value.(type) {
		case int:
			k.Value = float64(x)
		case float64:
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return bad(at, "line %d: %v is no value", n.Content[i].Line, x)
			}
		case bool, string:
		default:
			return bad(at, "line %d: want a number, true, false or a text", n.Content[i+1].Line)
		}
		v.Keys = append(v.Keys, k)
	}
	return v.checkKeys(at)
}

func (v *Value) checkKeys(at string) error {
	if len(v.Keys) > maxKeys {
		return bad(at, "there are %d, more than %d", len(v.Keys), maxKeys)
	}
	for i := 1; i < len(v.Keys); i++ {
		if v.Keys[i].At <= v.Keys[i-1].At {
			return bad(at, "%s does not come after %s", v.Keys[i].At, v.Keys[i-1].At)
		}
	}
	return nil
}

// end finds the length where the file gives none: when the last key has been reached.
func (s *Scenario) end() error {
	last := time.Duration(0)
	for _, v := range s.Values {
		if n := len(v.Keys); n > 0 {
			last = max(last, v.Keys[n-1].At)
		}
	}
	if s.Length == 0 {
		s.Length = max(last, s.Every)
	}
	if s.Length < s.Every {
		return bad("/length", "%s is less than every, %s", s.Length, s.Every)
	}
	return nil
}

// Recorded gives the scenario the values of its record, by property, with the times since the record's begin. What the file says of
// such a value (noise, faults, path) holds for it; values with keys of their own keep them.
func (s *Scenario) Recorded(values map[string][]Key) error {
	for name, keys := range values {
		v := s.Values[name]
		if v == nil {
			v = &Value{Path: []string{name}, Interpolate: Linear}
			s.Values[name] = v
		}
		if len(v.Keys) == 0 {
			v.Keys, v.recorded = keys, true
		}
		if err := v.checkKeys("/record/" + name); err != nil {
			return err
		}
	}
	for name, v := range s.Values {
		if len(v.Keys) == 0 {
			return bad("/values/"+name+"/keys", "is missing, and the record has no value of it")
		}
	}
	return s.end()
}

// Place is where devices send a property, and how its value gets into the unit that they send; Convert nil: it is in that unit. Text: its values are
// texts, whatever they look like.
type Place struct {
	Path    []string
	Convert func(float64) float64
	Text    bool
}

// Fit gives the values as a twin's model has them: those for which the file gives no path where the model says; ok is false of what it does not know.
// Recorded numbers are in the property's unit and are converted; keys are what a device sends. It is called after Recorded; s stays as it is, and what
// need not differ is shared with it.
func (s *Scenario) Fit(of func(property string) (p Place, ok bool)) map[string]*Value {
	out := maps.Clone(s.Values)
	for name, v := range s.Values {
		if p, ok := of(name); ok {
			out[name] = v.fit(p)
		}
	}
	return out
}

func (v *Value) fit(p Place) *Value {
	fitted := *v
	convert := p.Convert
	if v.given || len(p.Path) == 0 {
		convert = nil
	} else {
		fitted.Path = p.Path
	}
	if !v.recorded || !p.Text && convert == nil {
		return &fitted
	}
	fitted.Keys = slices.Clone(v.Keys)
	for i := range fitted.Keys {
		k := &fitted.Keys[i]
		if x, number := k.Value.(float64); p.Text {
			k.Value = k.Text
		} else if number {
			k.Value = convert(x)
		}
	}
	return &fitted
}
