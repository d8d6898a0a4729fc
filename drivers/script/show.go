package script

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// String shows the step as a line of its script would, roughly.
func (s *Step) String() string {
	what := ""
	switch s.Kind {
	case Expect:
		what = s.Frame.String()
	case Send:
		what = ShowMessage(s.Message.Topic, s.Message.Data)
	case Quiet, Advance:
		what = s.Wait.String()
	case At:
		what = s.Time.Format("2006-01-02T15:04:05Z07:00")
	case HTTP, Webhook:
		what = s.Request.String()
	case Called:
		what = s.Called.String()
	case Report:
		what = s.Twin + " " + JSON(s.Values)
	case Set, Desired, State, Quality, Status, Settings, Discovered:
		what = JSON(s.Values)
	case Model:
		what = JSON(s.Input)
	default:
		what = s.Text
	}
	if s.Has && s.Kind != Model {
		what += " " + JSON(s.Input)
	}
	return strings.TrimSpace(string(s.Kind) + ": " + what)
}

// String shows how a call ends.
func (o *Outcome) String() string {
	var parts []string
	if o.Name != "" {
		parts = append(parts, o.Name)
	}
	if o.HasOutput {
		parts = append(parts, JSON(o.Output))
	}
	if o.Code != 0 {
		parts = append(parts, fmt.Sprintf("code %d", o.Code))
	}
	if o.Message != "" {
		parts = append(parts, o.Message)
	}
	if len(parts) == 0 {
		return "an error"
	}
	return strings.Join(parts, ", ")
}

// String shows a request.
func (r *Request) String() string {
	parts := []string{strings.TrimSpace(r.Method + " " + r.URL)}
	for _, k := range slices.Sorted(maps.Keys(r.Headers)) {
		parts = append(parts, k+": "+r.Headers[k])
	}
	if r.HasJSON {
		parts = append(parts, JSON(r.JSON))
	}
	if r.Body != nil {
		parts = append(parts, r.Body.String())
	}
	return strings.Join(parts, ", ")
}

// String shows what is asked of a twin.
func (a *Asked) String() string {
	text := strings.TrimSpace(a.Twin + " " + a.Action)
	if a.Property != "" {
		text = a.Twin + " " + a.Property + " ="
	}
	if a.HasInput {
		text += " " + JSON(a.Input)
	}
	return text
}
