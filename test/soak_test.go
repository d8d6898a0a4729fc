package test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
	"github.com/polluxhq/pollux/test/load"
)

var (
	soakFor   = flag.Duration("soak", 0, "how long TestSoak sends, with 2,000 devices; 0: some seconds with 300")
	soakHarms = flag.Duration("soak-harms", 20*time.Second, "how long TestSoak -soak waits before it does the next thing to a node")
)

const (
	soakTopic   = "default/readings"
	soakChannel = "ledger"
	soakModel   = `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Counter",
		"properties":{"seq":{"type":"integer","readOnly":true}}}`
)

// soak is a building's devices that each say a rising number once a second, half of them over MQTT, half by gateways over HTTP,
// to three nodes that die and come back, as do the server for history and the targets of sinks. What is to be is known from the senders alone.
type soak struct {
	t        *testing.T
	c        *harness.Cluster
	history  *victoria
	targets  *targets
	heard    *listeners
	devices  int
	gateways []*gateway
	brokers  []*soakBroker
	began    time.Time

	mu   sync.Mutex
	read map[string][]float64 // by twin, what the topic's reader was given
}

// soakBroker is a node's share of the MQTT devices: first, first+1 …
type soakBroker struct {
	first, count int
	journal      load.Journal
	report       load.Report
}

func soakDevice(i int) string { return fmt.Sprintf("dev-%d", i) }

// TestSoak: sent = stored + refused + inbox, counted by the senders, and all that was stored is in state, history, topic and sinks, and came to MQTT subscribers.
// `make soak SECONDS=3600` is the long one.
func TestSoak(t *testing.T) {
	s := &soak{t: t, devices: 300, read: map[string][]float64{}}
	length := 15 * time.Second
	if *soakFor > 0 {
		s.devices, length = 2000, *soakFor
	}
	s.history = startVictoria(t)
	s.c = harness.StartCluster(t, harness.ClusterOptions{Nodes: 3, Args: []string{"--metrics-url", "http://" + s.history.addr}})
	s.prepare()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var senders, readers sync.WaitGroup
	readers.Go(func() { s.readTopic(ctx) })
	sending, stop := context.WithTimeout(ctx, length)
	defer stop()
	s.began = time.Now()
	for _, g := range s.gateways {
		senders.Go(func() { g.run(sending) })
	}
	for i, b := range s.brokers {
		senders.Go(func() { s.publish(sending, s.c.Node(i), b) })
	}
	faults := s.harm(sending)
	senders.Wait()
	s.c.Settle(2 * time.Minute)
	s.check(faults)
	cancel()
	readers.Wait()
}

// prepare makes model, twins, topic, channel and route.
func (s *soak) prepare() {
	t, n := s.t, s.c.Node(0)
	dir := t.TempDir()
	model, twins := filepath.Join(dir, "counter.json"), filepath.Join(dir, "twins.csv")
	var lines strings.Builder
	lines.WriteString("id,model,aliases\n")
	for i := range s.devices {
		fmt.Fprintf(&lines, "%s,counter,soak:dev:%d\n", soakDevice(i), i)
	}
	for name, text := range map[string]string{model: soakModel, twins: lines.String()} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.Must("model", "create", "counter", "--file", model)
	ctx, api := t.Context(), n.Topics()
	if _, err := api.CreateTopic(ctx, connect.NewRequest(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: soakTopic, MaxAge: durationpb.New(24 * time.Hour)}})); err != nil {
		t.Fatal(err)
	}
	if _, err := api.PutChannel(ctx, connect.NewRequest(&pb.PutChannelRequest{Topic: soakTopic, Name: soakChannel,
		Settings: &pb.ChannelSettings{AckMode: pb.AckMode_ACK_MODE_BY_HAND}})); err != nil {
		t.Fatal(err)
	}
	if _, err := api.PutRoute(ctx, connect.NewRequest(&pb.PutRouteRequest{Route: &pb.Route{Id: "default/all", Topics: []string{soakTopic},
		Model: "counter", Properties: []string{"seq"}}})); err != nil {
		t.Fatal(err)
	}
	s.targets = startTargets(t, n, soakTopic)
	s.heard = startListeners(t, s.c)
	// The route is there before the twins: what a node knows of routes is a moment behind what another has acknowledged.
	n.Must("import", "twins", twins)
	half := s.devices / 2
	for i, nodes := 0, len(s.c.Nodes()); i < nodes; i++ {
		s.brokers = append(s.brokers, &soakBroker{first: i * half / nodes, count: (i+1)*half/nodes - i*half/nodes})
	}
	const each = 50
	for first := half; first < s.devices; first += each {
		s.gateways = append(s.gateways, &gateway{c: s.c, name: fmt.Sprintf("gw-%d", first), first: first, count: min(each, s.devices-first)})
	}
}

// publish is a node's MQTT devices.
func (s *soak) publish(ctx context.Context, n *harness.Node, b *soakBroker) {
	var err error
	b.report, err = load.Run(ctx, load.Options{Addr: n.MQTT, Devices: b.count, Connections: 4, Window: max(b.count/8, 1), QoS: 1, Rate: float64(b.count),
		Journal: &b.journal, Drain: 2 * time.Minute, Prefix: "soak-" + n.Name,
		Topic:       func(d int) string { return fmt.Sprintf("default/soak/dev/%d", b.first+d) },
		Payload:     func(dst []byte, _ int, seq uint64, _ float64) []byte { return fmt.Appendf(dst, `{"seq":%d}`, seq) },
		Credentials: func(int) (string, string) { return "key", s.c.Key() }})
	if err != nil {
		s.t.Error(err)
	}
}

// harm kills nodes, has them sleep, has them stop in order and takes the server for history away, one after the other, until ctx ends.
func (s *soak) harm(ctx context.Context) (faults []string) {
	pause := func(d time.Duration) bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
			return true
		}
	}
	between := 3 * time.Second
	if *soakFor > 0 {
		between = *soakHarms
	}
	did := func(what string) {
		faults = append(faults, fmt.Sprintf("%s at %.1f s", what, time.Since(s.began).Seconds()))
	}
	for turn := 0; pause(between); turn++ {
		n := s.c.Node(rand.IntN(3))
		switch turn % 4 {
		case 0:
			did("kill -9 " + n.Name)
			n.Kill()
		case 1:
			did("history away")
			s.history.stop(syscall.SIGTERM)
			pause(between)
			s.history.start()
			continue
		case 2:
			// Longer than its lease: others have its twins when it wakes.
			did("pause " + n.Name)
			n.Pause()
			pause(6 * time.Second)
			n.Continue()
			s.c.Settle(2 * time.Minute)
			continue
		default:
			did("stop " + n.Name)
			if err := n.Stop(); err != nil {
				s.t.Error(err)
			}
		}
		pause(between / 2)
		n.Run()
		s.c.Settle(2 * time.Minute)
	}
	return faults
}

// readTopic is the topic's reader, by whichever node is there.
func (s *soak) readTopic(ctx context.Context) {
	for turn := 0; ctx.Err() == nil; turn++ {
		if nodes := s.c.Running(); len(nodes) > 0 {
			s.readTopicBy(ctx, nodes[turn%len(nodes)])
		}
		time.Sleep(20 * time.Millisecond) // the node may be gone
	}
}

func (s *soak) readTopicBy(ctx context.Context, n *harness.Node) {
	api := n.Topics()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := api.Subscribe(ctx, connect.NewRequest(&pb.SubscribeRequest{Topic: soakTopic, Channel: soakChannel, MaxInFlight: 1000}))
	if err != nil {
		return
	}
	defer stream.Close()
	// What comes while an acknowledgement is on its way goes with the next one: one for each delivery would bound the rate by the time
	// that a commit takes.
	var mu sync.Mutex
	req := &pb.AckRequest{Topic: soakTopic, Channel: soakChannel}
	wake := make(chan struct{}, 1)
	var acks sync.WaitGroup
	defer acks.Wait()
	defer cancel()
	acks.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-wake:
			}
			mu.Lock()
			all := proto.Clone(req).(*pb.AckRequest)
			req.Offsets = nil
			mu.Unlock()
			if _, err := api.Ack(ctx, connect.NewRequest(all)); err != nil {
				cancel() // they come again
			}
		}
	})
	for stream.Receive() {
		mu.Lock()
		if r := stream.Msg().Reader; r != "" {
			req.Reader = r
		}
		for _, d := range stream.Msg().Messages {
			s.came(d.Message)
			req.Offsets = append(req.Offsets, d.Message.Offset)
		}
		some := len(req.Offsets) > 0
		mu.Unlock()
		if some {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}
}

func (s *soak) came(m *pb.TopicMessage) {
	var said struct {
		Twin  string
		Value float64
	}
	if err := json.Unmarshal(m.Payload, &said); err != nil {
		s.t.Errorf("message of the topic: %v: %s", err, m.Payload)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read[said.Twin] = append(s.read[said.Twin], said.Value)
}

// print shows a verdict and fails the test where something is wrong.
func (s *soak) print(v journal.Verdict) {
	s.t.Log(v)
	for _, line := range v.Violations {
		s.t.Error(line)
	}
	if v.Checked == 0 {
		s.t.Errorf("%s: nothing was checked", v.Name)
	}
}
