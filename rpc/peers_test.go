package rpc_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
)

// forged sends what one node says to another.
type forged struct {
	headers map[string]string
	next    http.RoundTripper
}

func (f forged) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for k, v := range f.headers {
		r.Header.Set(k, v)
	}
	return f.next.RoundTrip(r)
}

var asAdmin = base64.RawURLEncoding.EncodeToString([]byte(`{"id":"x","name":"forger","role":"admin"}`))

// TestPeers runs on one pair of nodes: its parts stand on each other's twins.
func TestPeers(t *testing.T) {
	p := openPair(t)
	near, far := p.twinOn(p.a, "near"), p.twinOn(p.b, "far")
	for _, part := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"the public door believes no node", func(t *testing.T) { p.publicDoor(t) }},
		{"the peer door believes nodes alone", func(t *testing.T) { p.peerDoor(t, near, far) }},
		{"figures of all nodes", func(t *testing.T) { p.figures(t) }},
		{"placement", func(t *testing.T) { p.placement(t, near, far) }},
		{"routes", func(t *testing.T) { p.routes(t) }},
		{"local and owner", func(t *testing.T) { p.consistency(t, far) }},
		{"history", func(t *testing.T) { p.asksHistory(t, near) }},
		{"backup", func(t *testing.T) { p.backups(t) }},
		{"minority", func(t *testing.T) { p.minority(t, near) }},
		{"trace", func(t *testing.T) { p.traces(t, far) }},
		{"record", func(t *testing.T) { p.records(t, far) }},
		{"plain HTTP", func(t *testing.T) { p.plain(t, far) }},
		{"watch", func(t *testing.T) { p.watches(t, near, far) }},
		{"webhook", func(t *testing.T) { p.webhooks(t) }},
		{"drain", func(t *testing.T) { p.drains(t, far) }},
	} {
		if !t.Run(part.name, part.run) {
			t.FailNow() // what follows finds the nodes otherwise than it was left
		}
	}
}

func (p *pair) publicDoor(t *testing.T) {
	hc := &http.Client{Transport: forged{map[string]string{rpc.HeaderPrincipal: asAdmin, rpc.HeaderLocal: "1"}, http.DefaultTransport}}
	_, err := rpcv1.NewTwinServiceClient(hc, p.a.public.URL).ListTwins(t.Context(), req(&pb.ListTwinsRequest{}))
	if connect.CodeOf(err) != connect.CodeUnauthenticated {
		t.Errorf("a forged principal: %v, want unauthenticated", err)
	}
	// With a key, the header that asks for one node alone means nothing either.
	hc = &http.Client{Transport: forged{map[string]string{rpc.HeaderLocal: "1"}, keyed{p.admin, http.DefaultTransport}}}
	res, err := rpcv1.NewClusterServiceClient(hc, p.a.public.URL).ListNodes(t.Context(), req(&pb.ListNodesRequest{}))
	if err != nil || len(res.Msg.Nodes) != 2 {
		t.Errorf("nodes with a forged header: %v, %v, want both", res, err)
	}
}

func (p *pair) peerDoor(t *testing.T, near, far string) {
	door := func(headers map[string]string) rpcv1.TwinServiceClient {
		return rpcv1.NewTwinServiceClient(&http.Client{Transport: forged{headers, p.b.peer.Client().Transport}}, p.b.peer.URL)
	}
	get := func(headers map[string]string) error {
		_, err := door(headers).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: near}))
		return err
	}
	hotel := base64.RawURLEncoding.EncodeToString([]byte(`{"id":"x","name":"n","role":"viewer","project":"hotel"}`))
	device := base64.RawURLEncoding.EncodeToString([]byte(`{"id":"x","name":"n","role":"device","device":"default/a"}`))
	for _, tt := range []struct {
		name    string
		headers map[string]string
		want    connect.Code
	}{
		{"nobody", nil, connect.CodeUnauthenticated},
		{"an API key", map[string]string{"Authorization": "Bearer " + p.admin}, connect.CodeUnauthenticated},
		{"no principal", map[string]string{rpc.HeaderPrincipal: "!"}, connect.CodeUnauthenticated},
		{"no role", map[string]string{rpc.HeaderPrincipal: base64.RawURLEncoding.EncodeToString([]byte(`{"role":"root"}`))}, connect.CodeUnauthenticated},
		{"another project", map[string]string{rpc.HeaderPrincipal: hotel}, connect.CodePermissionDenied},
		{"a device", map[string]string{rpc.HeaderPrincipal: device}, connect.CodePermissionDenied},
		{"an administrator", map[string]string{rpc.HeaderPrincipal: asAdmin}, 0},
	} {
		err := get(tt.headers)
		if err == nil && tt.want != 0 || err != nil && connect.CodeOf(err) != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
	// What is asked locally is not passed on.
	s, err := door(map[string]string{rpc.HeaderPrincipal: asAdmin, rpc.HeaderLocal: "1"}).WatchTwins(t.Context(), req(&pb.WatchTwinsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for s.Receive() && s.Msg().Id != far {
		if s.Msg().Id == near {
			t.Fatalf("a local watch of b shows %s, which lives on a", near)
		}
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
}

func (p *pair) figures(t *testing.T) {
	nodes, err := p.a.ops(p.admin).ListNodes(t.Context(), req(&pb.ListNodesRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	slots := uint32(0)
	for i, n := range nodes.Msg.Nodes {
		slots += n.Slots
		if n.Goroutines != 7 || n.LeaseMs <= 0 || n.Silence != "" || n.Name != []string{"node-a", "node-b"}[i] || n.Slots != n.SlotsTarget {
			t.Errorf("node %v", n)
		}
	}
	if slots != 16384 {
		t.Errorf("%d slots", slots)
	}
	p.lose(p.b, true)
	defer p.lose(p.b, false)
	nodes, err = p.a.ops(p.admin).ListNodes(t.Context(), req(&pb.ListNodesRequest{}))
	if err != nil || len(nodes.Msg.Nodes) != 2 || nodes.Msg.Nodes[1].Silence == "" || nodes.Msg.Nodes[1].Goroutines != 0 {
		t.Errorf("with b cut off: %v, %v", nodes, err)
	}
	status, err := p.a.ops(p.admin).GetStatus(t.Context(), req(&pb.GetStatusRequest{}))
	if err != nil || status.Msg.Refused["x"] != 1 {
		t.Errorf("status with b cut off: %v, %v", status, err)
	}
	p.lose(p.b, false)
	status, err = p.a.ops(p.admin).GetStatus(t.Context(), req(&pb.GetStatusRequest{}))
	if s := status.Msg; err != nil || s.Refused["x"] != 2 || s.Voters != 2 || s.Quorum != 2 || s.FailuresTolerated != 0 || s.NodeName != "node-a" ||
		!strings.Contains(s.FailuresReason, "both") {
		t.Errorf("status: %v, %v", s, err)
	}
	check, err := p.b.ops(p.admin).CheckCluster(t.Context(), req(&pb.CheckClusterRequest{}))
	if err != nil || !check.Msg.Ok || check.Msg.AgreedIndex != 1024 || len(check.Msg.Checksums) != 2 {
		t.Errorf("check: %v, %v", check, err)
	}
	if sums, err := p.a.server.Checksums(t.Context(), p.b.id); err != nil || len(sums) != 1 || sums[0].Index != 1024 || sums[0].Sum != "same" {
		t.Errorf("checksums of the other node: %v, %v", sums, err)
	}
	if _, err := p.a.ops(p.admin).ListJoinTokens(t.Context(), req(&pb.ListJoinTokensRequest{})); connect.CodeOf(err) != connect.CodeUnavailable ||
		rpc.ErrorInfoOf(err).GetReason() != "no_quorum" || rpc.ErrorInfoOf(err).GetOutcome() != pb.Outcome_OUTCOME_REJECTED {
		t.Errorf("without quorum: %v", err)
	}
}

func (p *pair) placement(t *testing.T, near, far string) {
	if _, err := p.a.twins(p.admin).Invoke(t.Context(), req(&pb.InvokeRequest{Id: far, Action: "count"})); err != nil {
		t.Fatal(err)
	}
	res, err := p.a.ops(p.admin).GetPlacement(t.Context(), req(&pb.GetPlacementRequest{Id: strings.TrimPrefix(far, "default/")}))
	if err != nil || res.Msg.Placement.NodeName != "node-b" || !res.Msg.Placement.Active || res.Msg.Placement.State != "settled" {
		t.Errorf("where %s is: %v, %v", far, res, err)
	}
	res, err = p.a.ops(p.admin).GetPlacement(t.Context(), req(&pb.GetPlacementRequest{Node: "node-b"}))
	if err != nil || len(res.Msg.Twins) != 1 || res.Msg.Twins[0].Id != far {
		t.Errorf("twins of b: %v, %v", res, err)
	}
	if _, err := p.a.ops(p.admin).GetPlacement(t.Context(), req(&pb.GetPlacementRequest{Node: "node-c"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("twins of nobody: %v", err)
	}
	if _, err := p.a.ops(p.admin).GetPlacement(t.Context(), req(&pb.GetPlacementRequest{Node: "a", Id: near})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("both at once: %v", err)
	}
	m, err := p.a.ops(p.admin).ListSlots(t.Context(), req(&pb.ListSlotsRequest{Map: true}))
	if err != nil || len(m.Msg.Map.GetOwners()) != 16384 || len(m.Msg.Map.Nodes) != 2 {
		t.Fatalf("map: %v, %v", m, err)
	}
	for _, id := range []string{near, far} {
		at, _ := p.a.cluster.Where(id)
		slot := at.Slot
		if got := m.Msg.Map.Nodes[m.Msg.Map.Owners[slot]-1]; got != at.Node || m.Msg.Map.Since[slot] != at.Since {
			t.Errorf("map: slot %d is of %s, want %s", slot, got, at.Node)
		}
	}
}

// routes: what passed them is counted where twins live, and told by either node for both.
func (p *pair) routes(t *testing.T) {
	c := rpcv1.NewTopicServiceClient(&http.Client{Transport: keyed{p.admin, http.DefaultTransport}}, p.a.public.URL)
	if _, err := c.CreateTopic(t.Context(), req(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: "counted/all"}})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.PutRoute(t.Context(), req(&pb.PutRouteRequest{Route: &pb.Route{Id: "counted/all", Topics: []string{"all"},
		Counts: &pb.RouteCounts{Seen: 99}}})); err != nil {
		t.Fatal(err)
	}
	var n *pb.RouteCounts
	for end := time.Now().Add(patience); ; {
		res, err := c.ListRoutes(t.Context(), req(&pb.ListRoutesRequest{Project: "counted"}))
		if err != nil || len(res.Msg.Routes) != 1 {
			t.Fatalf("routes: %v, %v", res, err)
		}
		// A node that is slow to answer is silent.
		if n = res.Msg.Routes[0].Counts; n.GetSilent() == 0 || time.Now().After(end) {
			break
		}
	}
	if n.GetNodes() != 2 || n.GetSilent() != 0 || n.GetSeen() != 0 {
		t.Errorf("counts %v, want none, of two nodes", n)
	}
}

func (p *pair) consistency(t *testing.T, far string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	p.lose(p.b, true)
	began := time.Now()
	res, err := p.a.twins(p.admin).GetTwin(ctx, req(&pb.GetTwinRequest{Id: far, Consistency: pb.Consistency_CONSISTENCY_LOCAL}))
	if err != nil || res.Msg.Twin.State.GetStatus().GetFault() != "" || time.Since(began) > 10*time.Second {
		t.Errorf("local read of a twin whose owner is cut off: %v, %v, after %v", res, err, time.Since(began))
	}
	p.lose(p.b, false)
	res, err = p.a.twins(p.admin).GetTwin(ctx, req(&pb.GetTwinRequest{Id: far}))
	if err != nil || res.Msg.Twin.State.GetStatus().GetNode() != "b" {
		t.Errorf("the owner's word: %v, %v", res, err)
	}
	if _, err := p.a.twins(p.admin).GetTwin(ctx, req(&pb.GetTwinRequest{Id: far, Consistency: 9})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("consistency 9: %v", err)
	}
}

func (p *pair) asksHistory(t *testing.T, near string) {
	ask := func() float64 {
		res, err := p.a.twins(p.admin).QueryHistory(t.Context(), req(&pb.QueryHistoryRequest{Id: near, Property: "count"}))
		if err != nil || len(res.Msg.Samples) != 1 {
			t.Fatalf("history: %v, %v", res, err)
		}
		return res.Msg.Samples[0].Value
	}
	if got := ask(); got != 'a' {
		t.Errorf("a node with all of the history asked %c", rune(got))
	}
	p.a.history = []string{"nobody", "b"}
	defer func() { p.a.history = nil }()
	if got := ask(); got != 'b' {
		t.Errorf("a node without the history asked %c", rune(got))
	}
}

func (p *pair) backups(t *testing.T) {
	p.a.history = []string{"b"}
	defer func() { p.a.history = nil }()
	for _, want := range []string{"b", "a"} {
		s, err := p.a.ops(p.admin).Backup(t.Context(), req(&pb.BackupRequest{WithoutHistory: want == "a"}))
		if err != nil {
			t.Fatal(err)
		}
		var all []byte
		var done *pb.BackupSummary
		for s.Receive() {
			all = append(all, s.Msg().GetChunk()...)
			done = s.Msg().GetDone()
		}
		sum := sha256.Sum256(all)
		if s.Err() != nil || done.GetClusterId() != want || !bytes.Equal(all, bytes.Repeat([]byte(want), 300_000)) ||
			done.Size != 300_000 || done.Digest != hex.EncodeToString(sum[:]) {
			t.Errorf("backup from %s: %d bytes, %v, %v", want, len(all), done, s.Err())
		}
		_ = s.Close()
	}
	up := p.a.ops(p.admin).Restore(t.Context())
	for range 8 { // more than a request may be long
		if err := up.Send(&pb.RestoreRequest{Chunk: make([]byte, 256<<10)}); err != nil {
			t.Fatal(err)
		}
	}
	res, err := up.CloseAndReceive()
	if err != nil || res.Msg.Summary.Records != 2<<20 {
		t.Errorf("restore: %v, %v", res, err)
	}
	up = p.a.ops(p.admin).Restore(t.Context())
	_ = up.Send(&pb.RestoreRequest{Chunk: make([]byte, 600<<10)})
	if _, err := up.CloseAndReceive(); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("a chunk that is too large: %v", err)
	}
}

// minority: without a lease whatever commits is refused at once, and what reads is answered.
func (p *pair) minority(t *testing.T, near string) {
	noLease := fmt.Errorf("no lease: %w", rpc.ErrNoQuorum)
	p.a.unready.Store(&noLease)
	defer p.a.unready.Store(nil)
	began := time.Now()
	_, err := p.a.twins(p.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: "default/never", Driver: "echo"}}))
	if info := rpc.ErrorInfoOf(err); connect.CodeOf(err) != connect.CodeUnavailable || info.GetReason() != "no_quorum" ||
		info.GetOutcome() != pb.Outcome_OUTCOME_REJECTED || !strings.Contains(err.Error(), "no quorum") {
		t.Errorf("create: %v", err)
	}
	_, err = p.a.ops(p.admin).DrainNode(t.Context(), req(&pb.DrainNodeRequest{Node: "b"}))
	if connect.CodeOf(err) != connect.CodeUnavailable {
		t.Errorf("drain: %v", err)
	}
	hc := &http.Client{Transport: forged{map[string]string{"Sec-Fetch-Site": "same-origin"}, http.DefaultTransport}}
	res, err := hc.Post(p.a.public.URL+"/login", "application/json", strings.NewReader(fmt.Sprintf(`{"key":%q}`, p.admin)))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("login: %s", res.Status)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("refused after %v", took)
	}
	if _, err := p.a.twins(p.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: near, Consistency: pb.Consistency_CONSISTENCY_LOCAL})); err != nil {
		t.Errorf("local read: %v", err)
	}
	if _, err := p.a.twins(p.admin).ListTwins(t.Context(), req(&pb.ListTwinsRequest{})); err != nil {
		t.Errorf("list: %v", err)
	}
	s, err := p.a.ops(p.admin).Backup(t.Context(), req(&pb.BackupRequest{}))
	if err != nil || !s.Receive() {
		t.Errorf("backup: %v, %v", err, s.Err())
	}
	_ = s.Close()
}

func (p *pair) traces(t *testing.T, far string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got := make(chan string, 16)
	go func() {
		defer close(got)
		s, err := p.a.twins(p.admin).TraceTwin(ctx, req(&pb.TraceTwinRequest{Id: far}))
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		for s.Receive() {
			got <- string(s.Msg().Data)
		}
	}()
	p.until("b traces", func() bool {
		var text bytes.Buffer
		p.b.metrics.WritePrometheus(&text)
		return strings.Contains(text.String(), "pollux_rpc_streams 1\n")
	})
	// It follows the twin to a, and back.
	if err := p.a.cluster.Drain(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	if note := <-got; note != "traced on node node-a" {
		t.Errorf("after the move: %q", note)
	}
	if err := p.a.cluster.Undrain(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	if note := <-got; note != "traced on node node-b" {
		t.Errorf("after the way back: %q", note)
	}
}

// records: a recording follows its twin as well, and begins anew there.
func (p *pair) records(t *testing.T, far string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := p.a.twins(p.admin).RecordTwin(ctx, req(&pb.RecordTwinRequest{Id: far}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	// next gives the parts up to the one that is wanted.
	next := func(what string, wanted func(*pb.RecordTwinResponse) bool) {
		t.Helper()
		for s.Receive() {
			if wanted(s.Msg()) {
				return
			}
		}
		t.Fatalf("%s: %v", what, s.Err())
	}
	ready := func(m *pb.RecordTwinResponse) bool { return m.Part == nil }
	recorded := func() {
		t.Helper()
		// A recording may begin at a node and go on at the next one before the call: then a later call is in it.
		heard, quiet := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(quiet)
			for again := time.NewTicker(time.Second); ; {
				if _, err := p.a.twins(p.admin).Invoke(ctx, req(&pb.InvokeRequest{Id: far, Action: "echo", Input: mustValue(t, map[string]any{"text": "x"})})); err != nil {
					t.Error(err)
					return
				}
				select {
				case <-again.C:
				case <-heard:
					again.Stop()
					return
				}
			}
		}()
		defer func() { close(heard); <-quiet }()
		next("what the driver had", func(m *pb.RecordTwinResponse) bool { return m.GetStart().GetId() == far })
		next("the command", func(m *pb.RecordTwinResponse) bool {
			return m.GetCall().GetEvent() == int32(drivers.EventCommand) && strings.Contains(string(m.GetCall().Input), `"echo"`)
		})
	}
	next("from b", ready)
	recorded()
	if err := p.a.cluster.Drain(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	next("from a", ready)
	recorded()
	if err := p.a.cluster.Undrain(ctx, "b"); err != nil {
		t.Fatal(err)
	}
	next("from b again", ready)
}

// webhooks: a device may call any node, and the twin's has what it says; what went wrong is counted there.
func (p *pair) webhooks(t *testing.T) {
	d := rpcv1.NewDriverServiceClient(&http.Client{Transport: keyed{p.admin, http.DefaultTransport}}, p.a.public.URL)
	if _, err := d.UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: []byte(hooked)})); err != nil {
		t.Fatal(err)
	}
	id := ""
	for i := 0; id == ""; i++ {
		if at, _ := p.a.cluster.Where(fmt.Sprintf("default/hook%d", i)); at.Node == p.b.id {
			id = fmt.Sprintf("default/hook%d", i)
		}
	}
	if _, err := p.a.twins(p.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: id, Driver: "hooked", Uri: "webhook:?from=127.0.0.1"}})); err != nil {
		t.Fatal(err)
	}
	p.until("b knows "+id, func() bool { _, err := p.b.engine.Registry().GetTwin(id); return err == nil })
	for _, w := range []*wing{p.a, p.b} {
		peer := &hookPeer{t: t, url: w.public.URL + "/hooks/" + id}
		peer.Send([]byte("by " + w.id))
		if status, said := peer.ask(http.MethodDelete, nil); status != http.StatusUnprocessableEntity || string(said) != "no DELETE here\n" {
			t.Errorf("by %s: %d %q", w.id, status, said)
		}
	}
	res, err := p.a.twins(p.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: id}))
	if err != nil {
		t.Fatal(err)
	}
	state := res.Msg.Twin.State
	heard := state.GetProperties()["heard"].GetValue().GetListValue().GetValues()
	if len(heard) != 2 || heard[0].GetStringValue() != "by "+p.a.id || heard[1].GetStringValue() != "by "+p.b.id {
		t.Errorf("heard %v", heard)
	}
	if tr := state.GetStatus().GetTraffic(); tr.GetReceivedFrames() != 4 || tr.GetErrors() != 2 || tr.GetLastError() != "no DELETE here" {
		t.Errorf("traffic: %v", tr)
	}
}

func (p *pair) drains(t *testing.T, far string) {
	res, err := p.a.ops(p.admin).DrainNode(t.Context(), req(&pb.DrainNodeRequest{Node: "node-b"}))
	if err != nil || res.Msg.Node.Id != "b" {
		t.Fatalf("drain: %v, %v", res, err)
	}
	p.until("b has no slots", func() bool {
		nodes, err := p.a.ops(p.admin).ListNodes(t.Context(), req(&pb.ListNodesRequest{}))
		if err != nil {
			t.Fatal(err)
		}
		b := nodes.Msg.Nodes[1]
		return b.State == "draining" && b.Slots == 0 && b.SlotsTarget == 0
	})
	if _, err := p.b.twins(p.admin).Invoke(t.Context(), req(&pb.InvokeRequest{Id: far, Action: "count"})); err != nil {
		t.Errorf("a call through the drained node: %v", err)
	}
	// With nobody left to take the slots, the last node may not be drained.
	if _, err := p.a.ops(p.admin).DrainNode(t.Context(), req(&pb.DrainNodeRequest{Node: "a"})); connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("drain of the last node: %v", err)
	}
	if _, err := p.b.ops(p.admin).UndrainNode(t.Context(), req(&pb.UndrainNodeRequest{Node: "b"})); err != nil {
		t.Error(err)
	}
}
