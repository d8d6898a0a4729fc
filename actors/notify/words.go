package notify

import (
	"encoding/json"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/polluxhq/pollux/actors/expr"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// words are what the texts of notifiers may read. Their language is that of all other texts in Pollux.
type words struct{ common, form *expr.Env }

func newWords() (*words, error) {
	text := func(name string) expr.Word { return expr.Word{Name: name, Type: cel.StringType} }
	common := []expr.Word{text("subject"), text("body"), text("by"), text("twin"), text("project"), text("id"), text("to"),
		{Name: "urgent", Type: cel.BoolType}, {Name: "time", Type: cel.TimestampType}, {Name: "values", Type: cel.MapType(cel.StringType, cel.DynType)}}
	w := &words{}
	var err error
	if w.common, err = expr.New(0, common...); err == nil {
		w.form, err = expr.New(0, append(common, text("secret"))...)
	}
	if err != nil {
		return nil, fmt.Errorf("words of notifiers: %w", err)
	}
	return w, nil
}

// input is what the words say of a message.
func input(n *pb.Notification, to, secret string) *expr.Input {
	project, _, _ := strings.Cut(n.Notifier, "/")
	values := make(map[string]any, len(n.Values))
	for name, text := range n.Values {
		var v any
		if json.Unmarshal([]byte(text), &v) != nil {
			v = text
		}
		values[name] = v
	}
	return &expr.Input{Now: n.Time.AsTime(), Vars: map[string]any{"subject": n.Subject, "body": n.Body, "by": n.By, "twin": n.Twin, "project": project,
		"id": n.Id, "to": to, "urgent": n.Urgent, "time": n.Time.AsTime(), "values": values, "secret": secret}}
}

// texts are the compiled ones of a notifier, by their source.
type texts map[string]*expr.Text

// add compiles a text.
func (t texts) add(env *expr.Env, source string) error {
	if t[source] != nil {
		return nil
	}
	x, err := env.Text(source)
	if err != nil {
		return err
	}
	t[source] = x
	return nil
}

func (t texts) fill(source string, in *expr.Input) string {
	if x := t[source]; x != nil {
		return x.Fill(in)
	}
	return source
}
