package automation

import (
	"strings"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Describe says an action in a few words. A run knows its actions by them.
func Describe(a *pb.Action) string {
	switch x := a.Do.(type) {
	case *pb.Action_Call:
		return "call " + x.Call.Action + targetText(x.Call.To)
	case *pb.Action_Set:
		what := x.Set.Expr
		if what == "" {
			what = valueText(x.Set.Value)
		}
		return "set " + x.Set.Property + " = " + what + targetText(x.Set.To)
	case *pb.Action_Publish:
		return "publish to " + x.Publish.Topic
	case *pb.Action_Mqtt:
		return "mqtt " + x.Mqtt.Topic
	case *pb.Action_Raise:
		return strings.TrimSpace("raise "+x.Raise.Alarm) + " " + severityWord(x.Raise.Severity)
	case *pb.Action_Notify:
		return "notify " + x.Notify.Notifier
	case *pb.Action_Clear:
		return strings.TrimSpace("clear " + x.Clear.Alarm)
	case *pb.Action_Wait:
		return "wait " + x.Wait.AsDuration().String()
	case *pb.Action_Stop:
		return "stop"
	case *pb.Action_Logic:
		return "run logic " + x.Logic.Logic
	}
	return "nothing"
}

func targetText(t *pb.Targets) string {
	var all []string
	add := func(what, name string) {
		if name != "" {
			all = append(all, strings.TrimSpace(what+" "+name))
		}
	}
	add("", t.GetTwin())
	switch {
	case t.GetSystem() != "" && t.GetName() != "":
		add("", t.Name+" of "+t.System)
	default:
		add("all of", t.GetSystem())
	}
	add("zone", t.GetZone())
	add("interface", t.GetInterface())
	add("model", t.GetModel())
	if len(t.GetLabels()) > 0 {
		add("labels", jsonOf(t.Labels))
	}
	if len(all) == 0 {
		return ""
	}
	return " on " + strings.Join(all, ", ")
}

func valueText(v *structpb.Value) string {
	x, err := state.FromProto(v)
	if err != nil {
		return "null"
	}
	return string(x.AppendJSON(nil))
}
