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
