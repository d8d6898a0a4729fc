package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"

	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/test/harness"
)

const (
	ruleLoad    = 5000 // changes a second beside what is measured
	ruleSamples = 400
	ruledTwins  = 10_000
)

// house is where a benchmark of rules runs: one node or several.
type house struct {
	b     *testing.B
	url   string
	key   string
	api   *http.Client
	opt   connect.ClientOption
	twins polluxv1connect.TwinServiceClient
	rules polluxv1connect.AutomationServiceClient
}

func newHouse(b *testing.B, api *http.Client, url, key string, opt connect.ClientOption) *house {
	b.Helper()
	return &house{b: b, url: url, key: key, api: api, opt: opt, twins: polluxv1connect.NewTwinServiceClient(api, url, opt),
		rules: polluxv1connect.NewAutomationServiceClient(api, url, opt)}
}

func nodeHouse(b *testing.B) *house {
	b.Helper()
	n := openNode(b)
	return newHouse(b, n.HTTPClient(), n.URL(), adminKey(b, n), keyed(b, n))
}

// sensors makes a model with a value from outside and one that is as it is asked to be, and twins of it.
func (h *house) sensors(count int) {
	h.b.Helper()
	models := polluxv1connect.NewModelServiceClient(h.api, h.url, h.opt)
	thing := `{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"pollux":"https://pollux.dev/ns#"}],"@type":"tm:ThingModel","title":"Sensor","properties":{
		"temperature":{"type":"number","readOnly":true},"level":{"type":"number","pollux:virtual":true}}}`
	if _, err := models.CreateModel(h.b.Context(), request(&pb.CreateModelRequest{Model: &pb.Model{Id: "default/sensor", ThingJson: thing}})); err != nil {
		h.b.Fatal(err)
	}
	h.many(count, func(i int) error {
		_, err := h.twins.CreateTwin(h.b.Context(), request(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: fmt.Sprintf("default/sensor-%d", i), Model: "default/sensor"}}))
		return err
	})
}

// many does something so often, from many clients.
func (h *house) many(count int, do func(i int) error) {
	h.b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < count; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					h.b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if h.b.Failed() {
		h.b.FailNow()
	}
}

func (h *house) set(twin string, v float64) error {
	_, err := h.twins.SetDesired(h.b.Context(), request(&pb.SetDesiredRequest{Id: twin, Property: "level", Value: structpb.NewNumberValue(v)}))
	return err
}

// send posts a batch of a hundred changes of twins in a row.
func (h *house) send(ctx context.Context, first, of int, serial uint64) error {
	var body bytes.Buffer
	for i := range ingestBatch {
		body.WriteString(map[bool]string{true: "[", false: ","}[i == 0])
		fmt.Fprintf(&body, `{"twin":"sensor-%d","data":{"temperature":%d.5}}`, (first+i)%of, serial%1000)
	}
	body.WriteByte(']')
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+"/v1/ingest/default", &body)
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+h.key)
	res, err := h.api.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %.300s", res.StatusCode, text)
	}
	return err
}

// load sends so many changes a second until ctx ends, and says how many it could.
func (h *house) load(ctx context.Context, perSecond, of int) (sent func() float64) {
	var done atomic.Uint64
	began := time.Now()
	for w := range 8 {
		go func() {
			t := time.NewTicker(8 * time.Second * ingestBatch / time.Duration(perSecond))
			defer t.Stop()
			for i := uint64(0); ctx.Err() == nil; i++ {
				if err := h.send(ctx, (w*131+int(i)*ingestBatch)%of, of, i); err == nil {
					done.Add(ingestBatch)
				}
				select {
				case <-t.C:
				case <-ctx.Done():
				}
			}
		}()
	}
	return func() float64 { return float64(done.Load()) / time.Since(began).Seconds() }
}

// latency measures from the call that changes a property until a watcher sees what a rule had another twin do. floor is a call in turn with each,
// beside the same changes; nil: there is none.
func (h *house) latency(where string, most float64, floor func() error) {
	b := h.b
	b.Helper()
	h.sensors(1000)
	h.rule(&pb.Rule{Id: "default/follow", Each: true, Limit: 60_000, When: onLevel("default/sensor-0", "level"), If: "value > 0.0",
		Then: []*pb.Action{{Do: &pb.Action_Set{Set: &pb.SetAction{To: &pb.Targets{Twin: "default/sensor-1"}, Property: "level", Expr: "value"}}}}})
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	seen := make(chan float64, ruleSamples)
	stream, err := h.twins.WatchTwins(ctx, request(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{"default/sensor-1"}}, Properties: []string{"level"}}))
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for stream.Receive() {
			if p := stream.Msg().GetDelta().GetProperties()["level"]; p != nil {
				seen <- p.Value.GetNumberValue()
			}
		}
	}()
	sent := h.load(ctx, ruleLoad, 1000)
	time.Sleep(time.Second)
	var took, least []float64
	for i := range ruleSamples {
		began := time.Now()
		if err := h.set("default/sensor-0", float64(i+1)); err != nil {
			b.Fatal(err)
		}
		for v := 0.0; v != float64(i+1); {
			select {
			case v = <-seen:
			case <-time.After(30 * time.Second):
				b.Fatalf("change %d has led to nothing", i)
			}
		}
		took = append(took, float64(time.Since(began).Microseconds())/1000)
		if floor != nil {
			began = time.Now()
			if err := floor(); err != nil {
				b.Fatal(err)
			}
			least = append(least, float64(time.Since(began).Microseconds())/1000)
		}
		time.Sleep(5 * time.Millisecond)
	}
	rate := sent()
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	b.Logf("%s: p50 %.1f ms, p99 %.1f ms beside %.0f changes/s", where, took[len(took)/2], p99, rate)
	l := Line{Name: "change to rule to another twin's change, p99 at 5,000 changes/s, " + where, Unit: "ms", Ours: p99, Goal: fmt.Sprintf("<= %.0f", most),
		Met: p99 <= most && rate >= ruleLoad*0.9}
	if slices.Sort(least); floor != nil {
		l.Floor = least[len(least)*99/100]
		b.Logf("the floor: p50 %.1f ms, p99 %.1f ms", least[len(least)/2], l.Floor)
	}
	report(b, l)
}

func onLevel(twin, property string) []*pb.Trigger {
	return []*pb.Trigger{{On: &pb.Trigger_Property{Property: &pb.PropertyTrigger{Of: &pb.Selection{Twins: []string{twin}}, Names: []string{property}}}}}
}

func (h *house) rule(m *pb.Rule) {
	h.b.Helper()
	if _, err := h.rules.PutRule(h.b.Context(), request(&pb.PutRuleRequest{Rule: m})); err != nil {
		h.b.Fatal(err)
	}
}

// BenchmarkRuleLatency: on one node. The floor is a call whose bare handler commits twice by a bare raft, one after the other: the change, and what the rule
// decides.
func BenchmarkRuleLatency(b *testing.B) {
	raft := bareRaft(b)
	bare := serveBare(b, bare{apply: func(entry []byte) error {
		if err := raft(entry); err != nil {
			return err
		}
		return raft(entry)
	}})
	nodeHouse(b).latency("one node", 20, func() error {
		_, err := bare.SetDesired(b.Context(), connect.NewRequest(&pb.SetDesiredRequest{Id: "x", Property: "level", Value: structpb.NewNumberValue(1)}))
		return err
	})
}

// BenchmarkRuleLatencyCluster: on three nodes, each a process of its own.
func BenchmarkRuleLatencyCluster(b *testing.B) {
	c := startCluster(b)
	n := c.Node(0)
	newHouse(b, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}, n.URL, n.Key, connect.WithInterceptors(harness.Bearer(n.Key))).latency("3 nodes", 60, nil)
}

// BenchmarkRulesByTemplate: changes of 10,000 twins, each with a rule of its own that a template made, against the same changes without.
func BenchmarkRulesByTemplate(b *testing.B) {
	h := nodeHouse(b)
	h.sensors(ruledTwins)
	var serial atomic.Uint64
	flow := func() float64 {
		return ingestBatch * perSecond(b, func(ctx context.Context, c, i int) error {
			return h.send(ctx, (c*977+i*ingestBatch)%ruledTwins, ruledTwins, serial.Add(1))
		})
	}
	flow() // the twins are active afterwards
	floor := flow()
	floor = max(floor, flow())
	h.many(ruledTwins, func(i int) error {
		res, err := h.rules.FillRuleTemplate(b.Context(), request(&pb.FillRuleTemplateRequest{Template: "out-of-range", Id: fmt.Sprintf("default/range-%d", i),
			Values: map[string]string{"property": "temperature", "max": "5000", "twin": fmt.Sprintf("sensor-%d", i)}}))
		if err != nil {
			return err
		}
		_, err = h.rules.PutRule(b.Context(), request(&pb.PutRuleRequest{Rule: res.Msg.Rule}))
		return err
	})
	flow()
	ours := flow()
	evaluated := func() uint64 {
		res, err := h.rules.GetRule(b.Context(), request(&pb.GetRuleRequest{Id: "default/range-7"}))
		if err != nil {
			b.Fatal(err)
		}
		return res.Msg.State.Evaluations
	}
	for began := time.Now(); evaluated() == 0; time.Sleep(50 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			b.Fatal("the rules are not evaluated")
		}
	}
	report(b, Line{Name: "changes with 10,000 rules by template, against none", Unit: "changes/s", Ours: ours, Floor: floor, Goal: "ratio >= 0.60", Met: ours/floor >= 0.6})
}
