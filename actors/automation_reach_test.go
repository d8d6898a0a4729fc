package actors_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// A condition reads aggregates over other twins, and what it asks of the history; why says what it saw of them.
func TestRuleReadsManyTwinsAndThePast(t *testing.T) {
	n := newNode(t)
	n.sensors("a", "b", "d", "out")
	n.relate("a", "feeds", "b")
	asked := make(chan string, 100)
	n.client.SetPast(func(_ context.Context, twin, property, aggregate string, span time.Duration, _ time.Time) (float64, bool, error) {
		asked <- fmt.Sprint(twin, " ", property, " ", aggregate, " ", span)
		return 42, true, nil
	})
	n.rule(`{"id":"many","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],
		"if":"avg(twins('b','d').level) > 10 && max(related('feeds').level) == 12 && history('p95', 'level', '1h') > 41.5","each":true,
		"then":[{"set":{"to":{"twin":"out"},"property":"echo","expr":"avg(twins('b','d').level)"}}]}`)
	n.absorb("a", `{"level":1}`, 0)
	a := n.evaluated("many", 1)
	if ev := a.Evaluations[0]; ev.Holds || !strings.Contains(ev.Error, `avg(twins("b", "d").level)`) {
		t.Errorf("nothing is there to be computed of: %v", ev)
	}
	n.absorb("b", `{"level":12}`, 0)
	n.absorb("d", `{"level":20}`, 0)
	n.absorb("a", `{"level":2}`, 0)
	until(t, "it sets the average", func() bool { return n.state("out").Properties["echo"].GetValue().GetNumberValue() == 16 })
	ev := n.unit(automation.KindRule, "many").Evaluations[0]
	if ev.Values[`avg(twins("b", "d").level)`] != "16" || ev.Values[`history("p95", "level", "1h")`] != "42" || !strings.HasPrefix(ev.Verdict, "fired") {
		t.Errorf("why says %v", ev)
	}
	if got := <-asked; got != "default/a level p95 1h0m0s" {
		t.Errorf("it asked for %q", got)
	}
	before := len(asked)
	n.absorb("a", `{"level":3}`, 0)
	n.evaluated("many", 3)
	if len(asked) > before+1 {
		t.Errorf("the history is asked each time")
	}
	for text, want := range map[string]string{
		`history("mean", "level", "1h") > 1`:  "is no aggregate",
		`history("avg", "level", "soon") > 1`: "is no time",
		`history("avg", twin.name, "1h") > 1`: "want texts",
		`avg(twins("b")) > 1`:                 "want SET.PROPERTY",
		`avg(zone.twins("x").level) > valeu`:  "did you mean",
	} {
		m := &pb.Rule{Id: "default/wrong", If: text, When: []*pb.Trigger{{On: &pb.Trigger_Node{Node: &pb.NodeTrigger{}}}}, Then: []*pb.Action{{Do: &pb.Action_Stop{Stop: true}}}}
		if _, err := n.reg.CheckRule(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// A rule reads each message of a topic once, also those of before its node went; one that publishes to where it reads stops.
func TestRuleOnATopic(t *testing.T) {
	n := newNode(t)
	n.sensors("out")
	if _, err := n.reg.PutTopic(ctx(t), &pb.Topic{Id: "default/orders"}); err != nil {
		t.Fatal(err)
	}
	n.rule(`{"id":"order","when":[{"topic":{"topic":"orders"}}],"if":"value.n > 1","then":[{"set":{"to":{"twin":"out"},"property":"scene","expr":"name + ' ' + string(value.n)"}}]}`)
	n.evaluated("order", 0) // it reads from now on
	publish := func(payload string) {
		t.Helper()
		if _, err := n.client.Topics().Publish(ctx(t), &pb.PublishRequest{Topic: "default/orders", Messages: []*pb.TopicMessage{{Key: "k", Payload: []byte(payload)}}}); err != nil {
			t.Fatal(err)
		}
	}
	publish(`{"n":1}`)
	publish(`{"n":2}`)
	publish(`no JSON`)
	n.becomes("out", "scene", "k 2")
	a := n.evaluated("order", 3)
	if a.Rule.Firings != 1 || a.Rule.Evaluations != 3 {
		t.Errorf("%v", a.Rule)
	}
	n.rule(`{"id":"circle","when":[{"topic":{"topic":"orders"}}],"if":"value.n == 7","then":[{"publish":{"topic":"orders","payload":{"n":7}}}]}`)
	n.evaluated("circle", 0)
	publish(`{"n":7}`)
	until(t, "it stops", func() bool { return n.unit(automation.KindRule, "circle").Rule.Stopped != "" })
	if st := n.unit(automation.KindRule, "circle").Rule; st.Firings != 1 || !strings.Contains(st.Stopped, "leads to itself") {
		t.Errorf("%v", st)
	}
}

// A day as it was recorded: a value that is too high for a while, in a window, with a twin that falls silent.
func TestRehearsalOfADay(t *testing.T) {
	n := newNode(t)
	n.sensors("a", "b")
	day := time.Date(2026, 3, 28, 23, 0, 0, 0, time.UTC) // midnight in Berlin; the clocks go forward in this night
	at := func(clock string) int64 {
		d, err := time.ParseDuration(clock)
		if err != nil {
			t.Fatal(err)
		}
		return day.Add(d).UnixMilli()
	}
	value := func(clock, name string, v float64) automation.Recorded {
		return automation.Recorded{Time: at(clock), Kind: automation.SaidProperty, Name: name, Value: state.NumberValue(v)}
	}
	tapes := map[string][]automation.Recorded{
		"default/a": {value("-1h", "level", 5), value("1h", "level", 12), value("1h5m", "level", 13), value("2h", "level", 3), value("3h", "level", 30), value("3h4m", "level", 2),
			value("8h", "level", 50), value("20h", "level", 1)},
		"default/b": {value("-2h", "level", 7), value("9h", "level", 40)},
	}
	rehearse := func(text string) *pb.DryRunRuleResponse {
		t.Helper()
		m := &pb.Rule{}
		if err := protojson.Unmarshal([]byte(text), m); err != nil {
			t.Fatal(err)
		}
		m, err := n.reg.CheckRule(m)
		if err != nil {
			t.Fatal(err)
		}
		res, err := n.client.Automation().Rehearse(ctx(t), automation.Rehearsal{Rule: m, Start: day, End: day.Add(24 * time.Hour),
			Tape: func(_ context.Context, twin string, _, _ time.Time, _ int) ([]automation.Recorded, error) {
				return slices.Clone(tapes[twin]), nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	fired := func(res *pb.DryRunRuleResponse) (all []string) {
		for _, f := range res.Firings {
			text := strings.TrimPrefix(f.Subject, "default/") + " " + f.Time.AsTime().Sub(day).String()
			if f.Otherwise {
				text += " over"
			}
			all = append(all, text)
		}
		return all
	}
	res := rehearse(`{"id":"high","when":[{"property":{"of":{"labels":{"kind":"sensor"}},"names":["level"]}}],"if":"value > 10","until":"value < 4","for":"300s",
		"then":[{"set":{"property":"scene","expr":"'was ' + string(previous)"}}],"otherwise":[{"set":{"property":"scene","value":"low"}}]}`)
	if got, want := strings.Join(fired(res), ", "), "a 1h5m0s, a 2h0m0s over, a 8h5m0s, b 9h5m0s, a 20h0m0s over"; got != want {
		t.Errorf("fired at %s, want %s", got, want)
	}
	if res.State.Firings != 5 || res.Twins != 2 || res.Records != 10 || len(res.Firings[0].Actions) != 1 || res.Firings[0].Values["value"] != "12" ||
		!strings.Contains(res.Firings[0].Actions[0], `"was 5"`) {
		t.Errorf("%v", res)
	}
	res = rehearse(`{"id":"silent","when":[{"absent":{"of":{"twins":["a"]},"property":"level","since":"14400s"}}],"then":[{"mqtt":{"topic":"x","payload":"${twin.name}"}}],"otherwise":[{"clear":{}}]}`)
	got := strings.Join(fired(res), ", ")
	if want := "a 7h4m0s, a 8h0m"; !strings.HasPrefix(got, want) || len(res.Firings) != 5 && len(res.Firings) != 4 {
		t.Errorf("silent at %s, want %s…", got, want)
	}
	// 02:30 does not exist in this night: it is 03:30, which is 01:30 UTC and 2h30m after midnight.
	res = rehearse(`{"id":"night","when":[{"schedule":{"calendar":{"times":["02:30","06:00"]},"zone":"Europe/Berlin"}}],"if":"twins['a'].properties.level > 0","then":[{"clear":{"alarm":"x"}}]}`)
	if got, want := strings.Join(fired(res), ","), " 2h30m0s, 5h0m0s"; got != want {
		t.Errorf("by the clock at %q, want %q", got, want)
	}
	if n.records("run", "") != 0 || n.text("a", "scene") != "" {
		t.Error("a rehearsal did something")
	}
	if _, err := n.client.Automation().Rehearse(ctx(t), automation.Rehearsal{Rule: n.rule(`{"id":"x","when":[{"property":{}}],"then":[{"stop":true}]}`), Start: day, End: day.Add(time.Hour),
		Tape: func(context.Context, string, time.Time, time.Time, int) ([]automation.Recorded, error) {
			return nil, automation.ErrTooMuch
		}}); err == nil {
		t.Error("too much was taken")
	}
}
