package actors_test

import (
	"context"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// A detector that is made for a twin with a past knows that past: it judges the first reading that comes. A rule on what it says, a property of the twin,
// fires.
func TestDetectorKnowsThePast(t *testing.T) {
	n := newNode(t)
	sensors(n, "a")
	now := time.Now()
	n.client.SetReadings(func(_ context.Context, twin, property string, start, end time.Time, most int) (all []actors.Reading, err error) {
		if twin != "default/a" || property != "t" || most < 100 || !start.Before(end.Add(-24*time.Hour)) {
			t.Errorf("it asks for %s %s from %s to %s, %d", twin, property, start, end, most)
		}
		for i := range 100 {
			all = append(all, actors.Reading{Time: now.Add(time.Duration(i-200) * time.Minute).UnixMilli(), Value: 20 + 0.1*float64(i%7)})
		}
		return all, nil
	})
	n.absorb("a", `{"t":20.3}`, now.Add(-99*time.Minute).UnixMilli())
	n.applied(`{"rule":{"id":"odd","when":[{"property":{"of":{"twins":["a"]},"names":["t_ewma_anomaly"]}}],"if":"value == true && twin.properties.t_ewma_score > 6.0",
		"then":[{"raise":{"alarm":"odd","text":"t is ${twin.properties.t}"}}],"otherwise":[{"clear":{"alarm":"odd"}}]}}`)
	n.detector(`{"id":"spikes","property":"t","kind":"DETECTOR_KIND_EWMA"}`)
	n.judged("a", "spikes", "it has learned of the past", func(s *pb.DetectorState) bool { return s.GetReadings() >= 100 })
	n.absorb("a", `{"t":35}`, now.UnixMilli())
	until(t, "the rule has fired", func() bool { return n.alarm("odd.a").GetActive() })
	if got := n.alarm("odd.a").Text; got != "t is 35" && got != "t is 35.0" {
		t.Errorf("the alarm says %q", got)
	}
	n.absorb("a", `{"t":20.2}`, now.Add(time.Minute).UnixMilli())
	until(t, "it is over", func() bool { return !n.alarm("odd.a").GetActive() })
}
