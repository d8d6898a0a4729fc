package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/journal"
)

const (
	// ruled is how many twins the rules watch, one after the other.
	ruled = 10
	// schedulePeriod is how often each schedule is due.
	schedulePeriod = 10 * time.Second
	// firedTopic takes a message for each firing. A topic knows a message that comes again, so none may be there twice.
	firedTopic = "default/fired"
	// firedWithin is what the last firings may take, once there is no more harm.
	firedWithin = time.Minute
)

// firing is one that happened: of a unit, for a due time or a value.
type firing struct {
	Unit string `json:"u"`
	What string `json:"w"`
}

// firings are schedules and rules, half and half, and what is expected of them.
type firings struct {
	l     *Load
	units int
	from  time.Time // from then on each schedule fires

	mu    sync.Mutex
	acked [ruled][]float64 // values that twins have taken
}

func ruledTwin(i int) string    { return fmt.Sprintf("ruled-%d", i) }
func ruleUnit(i int) string     { return fmt.Sprintf("rule-%d", i) }
func scheduleUnit(i int) string { return fmt.Sprintf("schedule-%d", i) }

// offset of a schedule's due times: they are spread over the period.
func (f *firings) offset(i int) time.Time {
	return time.Unix(0, 0).Add(time.Duration(i) * schedulePeriod / time.Duration(f.units/2)).Truncate(time.Millisecond)
}

func publishes(expr string) []*pb.Action {
	return []*pb.Action{{Do: &pb.Action_Publish{Publish: &pb.PublishAction{Topic: firedTopic, Expr: expr}}, Retry: &pb.Retry{Attempts: 50}}}
}

// make makes the twins, the topic, the rules and the schedules.
func (f *firings) make() {
	l := f.l
	l.t.Helper()
	n := l.cluster.Running()[0]
	model := filepath.Join(l.t.TempDir(), "ruled.json")
	text := `{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"pollux":"https://pollux.dev/ns#"}],"@type":"tm:ThingModel","title":"Ruled",
		"properties":{"level":{"type":"number","pollux:virtual":true}}}`
	if err := os.WriteFile(model, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	n.Must("model", "create", "ruled", "--file", model)
	n.Must("topic", "create", "fired")
	var twins []*pb.Twin
	for i := range ruled {
		twins = append(twins, &pb.Twin{Id: ruledTwin(i), Model: "ruled"})
	}
	CreateAll(l.t, n, twins)
	var next atomic.Int64
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			for i := int(next.Add(1) - 1); i < f.units/2; i = int(next.Add(1) - 1) {
				if err := f.put(i); err != nil {
					l.t.Errorf("unit %d: %v", i, err)
					return
				}
			}
		})
	}
	clients.Wait()
	if l.t.Failed() {
		l.t.FailNow()
	}
	f.from = time.Now().Add(schedulePeriod / 2) // by then each has looked at its configuration
}

func (f *firings) put(i int) error {
	c := f.l.cluster.Running()[0].Automation()
	_, err := c.PutSchedule(f.l.t.Context(), connect.NewRequest(&pb.PutScheduleRequest{Schedule: &pb.Schedule{Id: project + scheduleUnit(i), Missed: pb.Missed_MISSED_ALL,
		Timing:  &pb.Timing{When: &pb.Timing_Every{Every: &pb.Every{Period: durationpb.New(schedulePeriod), From: timestamppb.New(f.offset(i))}}},
		Actions: publishes(`{"u": rule, "w": string(due)}`)}}))
	if err != nil {
		return err
	}
	_, err = c.PutRule(f.l.t.Context(), connect.NewRequest(&pb.PutRuleRequest{Rule: &pb.Rule{Id: project + ruleUnit(i), If: "value != previous", Each: true,
		When: []*pb.Trigger{{On: &pb.Trigger_Property{Property: &pb.PropertyTrigger{Of: &pb.Selection{Twins: []string{ruledTwin(i % ruled)}}, Names: []string{"level"}}}}},
		Then: publishes(`{"u": rule, "w": string(value)}`)}}))
	return err
}

// change gives the twins that rules watch new values.
func (f *firings) change(ctx context.Context) {
	for n := 0; ctx.Err() == nil; n++ {
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), f.l.o.Call)
		_, o, _ := f.l.caller.SetDesired(call, ruledTwin(n%ruled), "level", float64(n))
		cancel()
		if o == journal.Done {
			f.mu.Lock()
			f.acked[n%ruled] = append(f.acked[n%ruled], float64(n))
			f.mu.Unlock()
		}
		rest(ctx, time.Second)
	}
}

// expected are the firings that must have been until end.
func (f *firings) expected(end time.Time) map[firing]bool {
	all := map[firing]bool{}
	for i := range f.units / 2 {
		at := f.offset(i)
		for at = at.Add(f.from.Sub(at).Truncate(schedulePeriod) + schedulePeriod); at.Before(end); at = at.Add(schedulePeriod) {
			all[firing{scheduleUnit(i), at.UTC().Format(time.RFC3339Nano)}] = true
		}
		for _, v := range f.acked[i%ruled] {
			all[firing{ruleUnit(i), fmt.Sprint(v)}] = true
		}
	}
	return all
}

// check reads what was fired, until all that was expected is there, or the time for that is over.
func (f *firings) check() journal.Verdict {
	want := f.expected(time.Now())
	ctx, cancel := context.WithTimeout(context.Background(), firedWithin)
	defer cancel()
	got := map[firing]int{}
	missing := len(want)
	for ctx.Err() == nil && missing > 0 {
		clear(got)
		missing = f.read(ctx, want, got)
	}
	v := journal.Verdict{Name: "firings of rules and schedules", Checked: len(want)}
	done, doubled := 0, 0
	for x, n := range got {
		if done++; n > 1 {
			doubled++
			v.Violations = append(v.Violations, fmt.Sprintf("%s %s: fired %d times", x.Unit, x.What, n))
		}
	}
	for x := range want {
		if got[x] == 0 {
			v.Violations = append(v.Violations, fmt.Sprintf("%s %s: missed", x.Unit, x.What))
		}
	}
	v.Note = fmt.Sprintf("%d units: %d expected, %d done, %d missed, %d doubled", f.units, len(want), done, missing, doubled)
	return v
}

// read reads the topic from its begin until nothing is missing, and counts what is.
func (f *firings) read(ctx context.Context, want map[firing]bool, got map[firing]int) (missing int) {
	missing = len(want)
	stream, err := f.l.cluster.Running()[0].Topics().Subscribe(ctx, connect.NewRequest(&pb.SubscribeRequest{Topic: firedTopic,
		Start: &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}}))
	if err != nil {
		rest(ctx, 200*time.Millisecond)
		return missing
	}
	defer stream.Close()
	for missing > 0 && stream.Receive() {
		for _, d := range stream.Msg().Messages {
			var x firing
			if err := json.Unmarshal(d.Message.Payload, &x); err != nil {
				f.l.t.Errorf("message %d of %s: %v", d.Message.Offset, firedTopic, err)
				continue
			}
			if got[x]++; got[x] == 1 && want[x] {
				missing--
			}
		}
	}
	return missing
}
