package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
	"github.com/polluxhq/pollux/test/load"
)

// gateway sends for several devices over HTTP: each second one request with the next number of each, a line of a sender that
// nobody knows, and one with what the model refuses. A request is sent again until it has its answer.
type gateway struct {
	c            *harness.Cluster
	name         string
	first, count int

	requests, attempts int
	wrong              []string
}

func (g *gateway) run(ctx context.Context) {
	hc := &http.Client{Timeout: 20 * time.Second}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for ctx.Err() == nil {
		g.requests++
		for end := time.Now().Add(2 * time.Minute); !g.post(hc, g.requests); {
			if time.Now().After(end) {
				g.wrong = append(g.wrong, fmt.Sprintf("request %d has no answer", g.requests))
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// post makes one attempt and says whether all of the request have their result.
func (g *gateway) post(hc *http.Client, seq int) bool {
	nodes := g.c.Running()
	if len(nodes) == 0 {
		return false
	}
	var body bytes.Buffer
	for i := range g.count {
		fmt.Fprintf(&body, "{\"twin\":%q,\"data\":{\"seq\":%d}}\n", soakDevice(g.first+i), seq)
	}
	fmt.Fprintf(&body, "{\"alias\":{\"network\":\"soak\",\"key\":\"stray\",\"value\":%q},\"data\":{\"seq\":%d}}\n", g.name, seq)
	fmt.Fprintf(&body, "{\"twin\":%q,\"data\":{\"seq\":\"none\"}}\n", soakDevice(g.first))
	g.attempts++
	n := nodes[g.attempts%len(nodes)]
	r, err := http.NewRequest(http.MethodPost, n.URL+"/v1/ingest/default", &body)
	if err != nil {
		g.wrong = append(g.wrong, err.Error())
		return true
	}
	r.Header.Set("Authorization", "Bearer "+n.Key)
	r.Header.Set("X-Message-Id", fmt.Sprintf("%s-%d", g.name, seq))
	res, err := hc.Do(r)
	if err != nil {
		return false // the node is down, or went down meanwhile
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 429 {
		return false
	}
	var a struct{ Stored, Refused, Inbox, Duplicate, Retry int }
	if err := json.Unmarshal(b, &a); err != nil || a.Stored+a.Refused+a.Inbox+a.Duplicate+a.Retry != g.count+2 {
		g.wrong = append(g.wrong, fmt.Sprintf("status %d: %s", res.StatusCode, b))
		return true
	}
	return a.Retry == 0
}

// check compares what the senders know with the counters, the states, history, the topic and its sinks.
func (s *soak) check(faults []string) {
	sent, acked := map[string]journal.Range{}, map[string][]float64{}
	var requests, batched, published, resent, confirmed int
	for _, g := range s.gateways {
		for _, w := range g.wrong {
			s.t.Errorf("%s: %s", g.name, w)
		}
		requests += g.requests
		batched += g.requests * g.count
		for i := range g.count {
			id := "default/" + soakDevice(g.first+i)
			sent[id] = journal.Range{Acked: float64(g.requests), Sent: float64(g.requests), Count: g.requests}
			for v := 1; v <= g.requests; v++ {
				acked[id] = append(acked[id], float64(v))
			}
		}
	}
	for _, b := range s.brokers {
		published += int(b.report.Sent)
		resent += int(b.report.Resent)
		b.journal.Each(func(e load.Entry) {
			confirmed++
			id := "default/" + soakDevice(b.first+e.Device)
			acked[id] = append(acked[id], e.Value)
			r := sent[id]
			sent[id] = journal.Range{Acked: max(r.Acked, e.Value), Sent: max(r.Sent, e.Value), Count: r.Count + 1}
		})
		if b.report.Unacked > 0 {
			s.t.Errorf("%d messages of %d have no acknowledgement: %v", b.report.Unacked, b.report.Sent, b.report.LastLoss)
		}
	}
	s.t.Logf("%v: %d by MQTT (%d sent again), %d by HTTP and %d strays and %d wrong ones in %d requests", faults, published, resent, batched, requests, requests, requests)
	if confirmed == 0 || requests == 0 || len(faults) == 0 {
		s.t.Fatal("nothing was sent, or nothing was done to the nodes")
	}
	s.checkCounts(batched, requests, published, resent)
	s.checkStates(sent)
	s.checkHistory(acked)
	s.checkTopic(acked)
	s.print(s.targets.check(acked))
	s.print(s.heard.check(acked))
}

// checkCounts: over HTTP each message has an id, so the counters are exact; over MQTT what was sent again may count again.
func (s *soak) checkCounts(batched, requests, published, resent int) {
	var by map[string]*pb.IngestCount
	harness.Until(s.t, time.Minute, "nothing is in flight", func() bool {
		by = map[string]*pb.IngestCount{}
		res, err := s.c.Node(0).Ingests().GetIngestStatus(s.t.Context(), connect.NewRequest(&pb.GetIngestStatusRequest{Project: "default", Fresh: true}))
		if err != nil {
			return false
		}
		flying := uint64(0)
		for _, c := range res.Msg.Counts {
			by[c.Door] = c
			flying += c.InFlight
		}
		return flying == 0
	})
	h, m := by["http"], by["mqtt"]
	if int(h.GetStored()) != batched || int(h.GetRefused()) != requests || int(h.GetInbox()) != requests ||
		h.GetReceived() != h.GetStored()+h.GetRefused()+h.GetInbox()+h.GetDuplicate() {
		s.t.Errorf("over HTTP %d are to be stored, %d refused, %d in the inbox; counted %v", batched, requests, requests, h)
	}
	if int(m.GetStored()) < published || int(m.GetStored()) > published+resent || m.GetRefused()+m.GetInbox() > 0 {
		s.t.Errorf("over MQTT %d were sent, %d of them again; counted %v", published, resent, m)
	}
	s.t.Logf("counted: HTTP %v, MQTT %v", h, m)
}

func (s *soak) checkStates(sent map[string]journal.Range) {
	reads := map[string]map[string]float64{}
	for _, n := range s.c.Nodes() {
		reads[n.Name] = map[string]float64{}
		for i := range s.devices {
			reads[n.Name]["default/"+soakDevice(i)] = stateOf(s.t, n, soakDevice(i)).GetProperties()["seq"].GetValue().GetNumberValue()
		}
	}
	s.print(journal.Kept("states", sent, reads))
}

func (s *soak) checkHistory(acked map[string][]float64) {
	var v journal.Verdict
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(time.Second) {
		have := map[string][]float64{}
		for _, e := range s.history.export(`pollux_property{property="seq"}`) {
			id := e.Metric["project"] + "/" + e.Metric["twin"]
			have[id] = append(have[id], e.Values...)
		}
		if v = journal.InHistory(acked, map[string]map[string][]float64{"victoria-metrics": have}); len(v.Violations) == 0 || time.Now().After(end) {
			break
		}
	}
	s.print(v)
}

// checkTopic waits as long as something comes.
func (s *soak) checkTopic(acked map[string][]float64) {
	var v journal.Verdict
	for end, last := time.Now().Add(time.Minute), 0; ; time.Sleep(time.Second) {
		s.mu.Lock()
		v = journal.InHistory(acked, map[string]map[string][]float64{soakTopic: s.read})
		came := 0
		for _, values := range s.read {
			came += len(values)
		}
		s.mu.Unlock()
		if came > last {
			end, last = time.Now().Add(time.Minute), came
		}
		if v.Name = "messages of the topic"; len(v.Violations) == 0 || time.Now().After(end) {
			break
		}
	}
	if len(v.Violations) > 0 {
		s.explainTopic()
	}
	s.print(v)
}

// explainTopic says where messages may be that the topic's reader was not given: on their way to the topic, in it, or dropped.
func (s *soak) explainTopic() {
	for _, n := range s.c.Running() {
		if res, err := n.Topics().GetTopic(s.t.Context(), connect.NewRequest(&pb.GetTopicRequest{Id: soakTopic})); err == nil {
			s.t.Logf("%s says of the topic: %v", n.Name, res.Msg.Topic.State)
		}
		if res, err := n.Topics().ListChannels(s.t.Context(), connect.NewRequest(&pb.ListChannelsRequest{Topic: soakTopic})); err == nil {
			s.t.Logf("%s says of its readers: %v", n.Name, res.Msg.Channels)
		}
		for _, list := range []string{soakTopic + ".dead", "default/route.all.dead"} {
			if res, err := n.Topics().GetTopic(s.t.Context(), connect.NewRequest(&pb.GetTopicRequest{Id: list})); err == nil {
				s.t.Logf("%s says of %s: %v", n.Name, list, res.Msg.Topic.State)
			}
		}
		if res, err := n.Get("/metrics"); err == nil {
			text, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			for line := range strings.Lines(string(text)) {
				if strings.Contains(line, "drop") && !strings.HasSuffix(line, " 0\n") || strings.Contains(line, "outbox") {
					s.t.Logf("%s: %s", n.Name, strings.TrimSpace(line))
				}
			}
		}
	}
}
