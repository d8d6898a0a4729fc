package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// actionFlags are the actions of schedules and rules that can be given on the command line; all others come in a file.
type actionFlags struct {
	calls, sets, publish, mqtt []string
	input                      string
	raise, severity, raiseText string
	clears, notify             []string
	notifyText                 string
}

const actionHelp = `What it does is given by --call, --set, --publish, --mqtt, --notify and --raise, each as often as you like; calls come first, then values, then messages.
Everything else (waits, conditions, parallel actions, all twins of a zone …) is in a file for "pollux apply -f", as "-o yaml" of get shows it.`

func (f *actionFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.calls, "call", nil, "invoke `TWIN.ACTION`; many times")
	cmd.Flags().StringVar(&f.input, "input", "", "`JSON` that --call gives the action")
	cmd.Flags().StringArrayVar(&f.sets, "set", nil, "set `TWIN.PROPERTY=VALUE`; many times")
	cmd.Flags().StringArrayVar(&f.publish, "publish", nil, "publish to this durable `TOPIC`; many times")
	cmd.Flags().StringVar(&f.raise, "raise", "", "raise an alarm of this `NAME`, to which the twin's is added; a rule clears it where it ceases to hold")
	cmd.Flags().StringVar(&f.severity, "severity", "", "of --raise: info, `warning`, error or critical")
	cmd.Flags().StringVar(&f.raiseText, "alarm-text", "", "of --raise; may have ${EXPRESSION} in it")
	cmd.Flags().StringArrayVar(&f.notify, "notify", nil, "tell somebody by this `NOTIFIER`; many times")
	cmd.Flags().StringVar(&f.notifyText, "notify-text", "", "of --notify: its subject; may have ${EXPRESSION} in it")
	cmd.Flags().StringArrayVar(&f.mqtt, "mqtt", nil, "publish `TOPIC=TEXT` to MQTT; many times")
}

// dotted takes TWIN.NAME apart: names of twins may have dots in them, those of actions and properties have none there.
func dotted(flag, text string) (twin, name string, err error) {
	i := strings.LastIndexByte(text, '.')
	if i < 0 || i == len(text)-1 {
		return "", "", usagef("--%s %q: want TWIN.NAME", flag, text)
	}
	return text[:i], text[i+1:], nil
}

// jsonOrText reads a value: JSON where it is that, else a text.
func jsonOrText(text string) *structpb.Value {
	v := &structpb.Value{}
	if json.Valid([]byte(text)) && protojson.Unmarshal([]byte(text), v) == nil {
		return v
	}
	return structpb.NewStringValue(text)
}

// reader gives what reads values for the actions of a rule or a schedule: as the property of a twin that is there wants it, else as JSON or a text. about is the
// twin that it is about where that is one, and model the model of those that it is about.
func (n *node) reader(ctx context.Context, id, about, model string) func(twin, property, text string) (*structpb.Value, error) {
	project, _, ok := strings.Cut(id, "/")
	within := func(id string) string {
		if !ok || strings.Contains(id, "/") {
			return id
		}
		return project + "/" + id
	}
	return func(twin, property, text string) (*structpb.Value, error) {
		if twin == "" {
			twin = about
		}
		var m thing // none where it cannot be had
		if twin != "" {
			m, _ = n.model(ctx, within(twin))
		} else if model != "" {
			if res, err := n.modelling.GetModel(ctx, req(&pb.GetModelRequest{Id: within(model)})); err == nil {
				_ = json.Unmarshal([]byte(res.Msg.Model.ThingJson), &m)
			}
		}
		if s, known := m.Properties[property]; known {
			return parseValue(text, s)
		}
		return jsonOrText(text), nil
	}
}

// showNotes says what of a rule or a schedule is not there so far.
func showNotes(w io.Writer, notes []string) {
	for _, text := range notes {
		row(w, "note", printable(text))
	}
}

func targetOf(twin string) *pb.Targets {
	if twin == "" {
		return nil
	}
	return &pb.Targets{Twin: twin}
}

// actions gives them. read reads a value that a property of a twin ("": the one that it is about) is set to.
func (f *actionFlags) actions(read func(twin, property, text string) (*structpb.Value, error)) (all []*pb.Action, err error) {
	for _, text := range f.calls {
		twin, name, err := dotted("call", text)
		if err != nil {
			return nil, err
		}
		c := &pb.CallAction{To: targetOf(twin), Action: name}
		if f.input != "" {
			c.Input = &structpb.Value{}
			if err := protojson.Unmarshal([]byte(f.input), c.Input); err != nil {
				return nil, usagef("--input %q is no JSON", f.input)
			}
		}
		all = append(all, &pb.Action{Do: &pb.Action_Call{Call: c}})
	}
	for _, text := range f.sets {
		to, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, usagef("--set %q: want TWIN.PROPERTY=VALUE", text)
		}
		twin, name, err := dotted("set", to)
		if err != nil {
			return nil, err
		}
		v, err := read(twin, name, value)
		if err != nil {
			return nil, err
		}
		all = append(all, &pb.Action{Do: &pb.Action_Set{Set: &pb.SetAction{To: targetOf(twin), Property: name, Value: v}}})
	}
	for _, topic := range f.publish {
		all = append(all, &pb.Action{Do: &pb.Action_Publish{Publish: &pb.PublishAction{Topic: topic}}})
	}
	for _, text := range f.mqtt {
		topic, payload, ok := strings.Cut(text, "=")
		if !ok {
			return nil, usagef("--mqtt %q: want TOPIC=TEXT", text)
		}
		all = append(all, &pb.Action{Do: &pb.Action_Mqtt{Mqtt: &pb.MqttAction{Topic: topic, Payload: payload}}})
	}
	for _, id := range f.notify {
		all = append(all, &pb.Action{Do: &pb.Action_Notify{Notify: &pb.NotifyAction{Notifier: id, Subject: f.notifyText}}})
	}
	if f.raise != "" {
		severity, err := severityOf(cmp.Or(f.severity, "warning"))
		if err != nil {
			return nil, err
		}
		all = append(all, &pb.Action{Do: &pb.Action_Raise{Raise: &pb.RaiseAction{Alarm: f.raise, Severity: severity, Text: f.raiseText}}})
	}
	for _, name := range f.clears {
		all = append(all, &pb.Action{Do: &pb.Action_Clear{Clear: &pb.ClearAction{Alarm: name}}})
	}
	return all, nil
}

// parsePlace reads LATITUDE,LONGITUDE.
func parsePlace(text string) (*pb.Place, error) {
	place, ok := placeOf(text)
	if !ok {
		return nil, usagef("--place %q: want LATITUDE,LONGITUDE in degrees, as in 52.52,13.41", text)
	}
	return place, nil
}

func placeOf(text string) (*pb.Place, bool) {
	a, b, ok := strings.Cut(text, ",")
	lat, err1 := strconv.ParseFloat(strings.TrimSpace(a), 64)
	lon, err2 := strconv.ParseFloat(strings.TrimSpace(b), 64)
	return &pb.Place{Latitude: lat, Longitude: lon}, ok && err1 == nil && err2 == nil
}

// stepText says what became of a step.
func stepText(s *pb.Step) string {
	text := enumText(s.State, "STEP_STATE_")
	if s.State == 0 {
		text = "not begun"
	}
	if s.Tries > 1 {
		text += fmt.Sprintf(" after %d tries", s.Tries)
	}
	if s.Until != nil && (s.State == pb.StepState_STEP_STATE_WAITING || s.State == pb.StepState_STEP_STATE_RETRYING) {
		text += " until " + s.Until.AsTime().Local().Format(time.TimeOnly)
	}
	if s.Repeated {
		text += ", perhaps twice"
	}
	if s.Error != "" {
		text += ": " + s.Error
	}
	return text
}

// showRuns prints runs, newest first, each with its steps.
func (a *app) showRuns(w io.Writer, runs []*pb.Run, now time.Time) {
	if len(runs) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, "RUN", "TIME", "OF", "CAUSE", "WHAT BECAME OF IT")
	for _, r := range runs {
		cause := printable(r.Cause)
		if r.Due != nil && r.Time.AsTime().Sub(r.Due.AsTime()) > time.Second { // it was late, or is made up for
			cause += ", at " + timeText(r.Due, now)
		}
		row(w, r.Number, timeText(r.Time, now), dash(bare(r.Subject)), cause, enumText(r.State, "RUN_STATE_"))
		for _, s := range r.Steps {
			row(w, "", "", "", "  "+printable(s.Action), stepText(s))
		}
	}
}

// valuesText shows what was seen.
func valuesText(m map[string]string) string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		switch k {
		case "kind", "name":
			continue
		case "previous":
			if m[k] == "null" {
				continue
			}
		}
		all = append(all, k+"="+m[k])
	}
	return strings.Join(all, " ")
}
