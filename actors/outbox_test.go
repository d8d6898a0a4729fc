package actors_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// ownedBy gives the first of many names whose address a node owns.
func ownedBy(t *testing.T, a *node, id string, address func(name string) string) string {
	t.Helper()
	for i := range 1000 {
		if name := fmt.Sprint("x", i); a.owner(address(name)) == id {
			return name
		}
	}
	t.Fatalf("%s owns nothing", id)
	return ""
}

// TestSilentTopic: a topic that does not answer holds up its own messages, in their order, and nobody else's: neither those of another topic nor
// those of a rule. What waits is shown.
func TestSilentTopic(t *testing.T) {
	set := metrics.NewSet()
	a, b, w := pairBy(t, 20*time.Second, func(o *actors.Options) {
		if o.Node == "n1" {
			o.Metrics = set
		}
	})
	address := func(name string) string { return topic.Target("default/" + name).ID }
	silent, loud := ownedBy(t, a, "n2", address), "loud"
	twin := ownedBy(t, a, "n1", func(name string) string { return "default/" + name })
	a.sensors(twin)
	a.stream("default/" + silent)
	a.stream("default/" + loud)
	a.route(&pb.Route{Id: "both", Topics: []string{silent, loud}, Twins: []string{twin}, Properties: []string{"echo"}})
	a.rule(fmt.Sprintf(`{"id":"say","each":true,"if":"true","when":[{"property":{"of":{"twins":[%q]},"names":["echo"]}}],
		"then":[{"set":{"to":{"twin":%q},"property":"scene","expr":"string(value)"}}]}`, twin, twin))
	until(t, "the other node has the rule and the route", func() bool {
		_, one := b.reg.Rule("say") // the route is older
		return one == nil
	})
	echoes := func(id string) (all []float64) {
		for _, x := range b.inTopic("default/" + id) {
			v, _ := x.Value.(float64)
			all = append(all, v)
		}
		return all
	}
	var want []float64
	w.silence(cluster.Target{Kind: topic.Kind, ID: address(silent)})
	for i := range 20 {
		if _, err := a.set(twin, "echo", fmt.Sprint(i), 0); err != nil {
			t.Fatal(err)
		}
		want = append(want, float64(i))
	}
	until(t, "the other topic has all", func() bool { return len(echoes(loud)) == len(want) })
	until(t, "the rule has fired for all", func() bool { return a.unit("rule", "say").Rule.Firings == uint64(len(want)) })
	var s actors.OutboxStats
	until(t, "only the silent one's wait", func() bool { s = a.engine.Outbox(); return s.Lanes == 1 })
	if s.Messages != len(want) || s.Longest[0].To != "default/"+silent || s.Longest[0].Messages != len(want) || s.Longest[0].Bytes == 0 {
		t.Errorf("what waits: %+v", s)
	}
	var text bytes.Buffer
	set.WritePrometheus(&text)
	for _, line := range []string{"pollux_outbox_messages 20", `pollux_outbox_lane_messages{to="default/` + silent + `"} 20`} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("metrics without %s", line)
		}
	}
	w.silence(cluster.Target{})
	until(t, "nothing waits any more", func() bool { return a.engine.Outbox().Messages == 0 })
	for _, id := range []string{silent, loud} {
		if got := echoes(id); !slices.Equal(got, want) {
			t.Errorf("%s has %v", id, got)
		}
	}
}

// TestTopicThatIsBehind: when much waits for a topic, messages for twins that tell it something wait at their door, in their order, and those of
// others do not: none is acknowledged that the topic would not be told.
func TestTopicThatIsBehind(t *testing.T) {
	a, _, w := pairBy(t, 20*time.Second)
	address := func(name string) string { return topic.Target("default/" + name).ID }
	slow := ownedBy(t, a, "n2", address)
	here := func(prefix string) string {
		return prefix + ownedBy(t, a, "n1", func(name string) string { return "default/" + prefix + name })
	}
	teller, other := here("teller"), here("other")
	a.sensors(teller, other)
	a.stream("default/" + slow)
	a.stream("default/loud")
	a.route(&pb.Route{Id: "slow", Topics: []string{slow}, Twins: []string{teller}, Properties: []string{"level"}})
	a.route(&pb.Route{Id: "loud", Topics: []string{"loud"}, Twins: []string{other}, Properties: []string{"level"}})
	send := func(twin string, level int) chan actors.IngestResult {
		got := make(chan actors.IngestResult, 1)
		a.engine.Ingest(&actors.Ingest{Door: "http", Project: "default", Twin: twin, Payload: fmt.Appendf(nil, `{"level":%d}`, level), Commit: true},
			func(r actors.IngestResult) { got <- r })
		return got
	}
	stored := func(twin string, level int, got chan actors.IngestResult) {
		t.Helper()
		select {
		case r := <-got:
			if r.Outcome != pb.IngestOutcome_INGEST_OUTCOME_STORED {
				t.Fatalf("%s, level %d: %v", twin, level, r)
			}
		case <-time.After(patience):
			t.Fatalf("%s, level %d: no answer", twin, level)
		}
	}
	w.silence(cluster.Target{Kind: topic.Kind, ID: address(slow)})
	stored(teller, 0, send(teller, 0))
	stored(other, 0, send(other, 0))
	a.engine.Crowd("default/"+teller, "default/"+slow, actors.MaxOutboxBytes*9/20)
	var waiting []chan actors.IngestResult
	for level := 1; level <= 20; level++ {
		waiting = append(waiting, send(teller, level))
		stored(other, level, send(other, level))
	}
	for i, got := range waiting {
		select {
		case r := <-got:
			t.Errorf("level %d was answered while its topic was behind: %v", i+1, r)
		default:
		}
	}
	w.silence(cluster.Target{})
	var want []int
	for i, got := range waiting {
		stored(teller, i+1, got)
		want = append(want, i+1)
	}
	want = append([]int{0}, want...)
	for _, x := range []struct{ topic, twin string }{{slow, teller}, {"loud", other}} {
		until(t, "the topic has all, in order", func() bool {
			return slices.Equal(a.levels("default/" + x.topic)["default/"+x.twin], want)
		})
	}
}
