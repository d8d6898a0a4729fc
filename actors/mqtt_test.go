package actors_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// offer delivers a message and waits for its answer.
func (n *node) offer(topic, payload string, qos byte) error {
	n.t.Helper()
	done := make(chan error, 1)
	n.engine.Deliver(&mqtt.Message{Client: "c", Topic: topic, Payload: []byte(payload), QoS: qos}, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		n.t.Fatalf("message on %s: no answer within %s", topic, patience)
		return nil
	}
}

func (n *node) deliver(topic, payload string, qos byte) {
	n.t.Helper()
	if err := n.offer(topic, payload, qos); err != nil {
		n.t.Fatalf("message on %s: %v", topic, err)
	}
}

func TestMQTT(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	n.twin(`{"id":"b","driver":"bus","settings":{"topic":"b1"}}`)
	if err := n.offer("dev/c1/state", `{}`, 1); !errors.Is(err, actors.ErrNoTwin) || !errors.Is(err, mqtt.ErrUnowned) {
		t.Errorf("a topic that nobody owns: %v", err)
	}
	n.deliver("dev/a1/state", `{"level":1}`, 0)
	n.deliver("dev/b1/state", `{"level":2}`, 1)
	n.wait("a", "level", "1")
	n.wait("b", "level", "2")
	if c := n.state("a").Status.Connection; c != pb.Connection_CONNECTION_CONNECTED {
		t.Errorf("a device that speaks is %v", c)
	}
	n.deliver("dev/a1/lwt", "Offline", 1)
	s := n.state("a")
	if s.Status.Connection != pb.Connection_CONNECTION_DISCONNECTED || s.Properties["level"].Quality != pb.Quality_QUALITY_STALE {
		t.Errorf("after the will: %v, level %v", s.Status, s.Properties["level"])
	}
	n.wait("a", "downs", "1")
	n.deliver("dev/a1/lwt", "Online", 1)
	n.wait("a", "ups", "2")
	until(t, "both count as connected", func() bool { return n.engine.Stats().Connected == 2 })
	if got := n.engine.Stats(); got.Dropped["no_twin"] != 1 {
		t.Errorf("dropped %v", got.Dropped)
	}
	// Topics follow the settings.
	tw, err := n.reg.GetTwin("b")
	if err != nil {
		t.Fatal(err)
	}
	tw.Settings.Fields["topic"] = value(t, `"b2"`)
	if _, err := n.reg.UpdateTwin(ctx(t), tw); err != nil {
		t.Fatal(err)
	}
	until(t, "the old topic is nobody's", func() bool { return errors.Is(n.offer("dev/b1/state", `{"level":3}`, 1), actors.ErrNoTwin) })
	until(t, "the new topic is b's", func() bool { return n.offer("dev/b2/state", `{"level":4}`, 1) == nil })
	n.wait("b", "level", "4")
}

// What is acknowledged with QoS 1 is in the store, with its sample.
func TestCommittedBeforeAcknowledged(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.CheckpointMin = time.Hour; o.CheckpointMax = time.Hour })
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	for i := range 20 {
		n.deliver("dev/a1/state", fmt.Sprintf(`{"level":%d}`, i), 1)
		list, err := n.reg.ListTwins(&pb.ListTwinsRequest{State: true}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := text(list.Twins[0].State.Properties["level"].GetValue()); got != fmt.Sprint(i) {
			t.Fatalf("after the acknowledgement of %d the store has %s", i, got)
		}
	}
	samples := n.samples("default/a", "level")
	if len(samples) != 20 || samples[19] != 19 {
		t.Errorf("samples %v, want 0 to 19", samples)
	}
}

// listening notes what a driver hears, and is held up by frames until it may go on.
type listening struct {
	drivers.Runner
	goOn  chan struct{}
	mu    *sync.Mutex
	heard *[]string
}

func (r listening) Handle(ctx context.Context, c drivers.Call, h drivers.Host) (drivers.Effects, error) {
	r.mu.Lock()
	switch c.Event { //nolint:exhaustive // the rest is of no interest
	case drivers.EventReceived:
		_, payload, _ := bytes.Cut(c.Input, []byte{0})
		*r.heard = append(*r.heard, string(payload))
	case drivers.EventConnected:
		*r.heard = append(*r.heard, "connected")
	case drivers.EventDisconnected:
		*r.heard = append(*r.heard, "disconnected")
	}
	r.mu.Unlock()
	if c.Event == drivers.EventReceived {
		<-r.goOn
	}
	return r.Runner.Handle(ctx, c, h)
}

// TestPresenceKeepsItsPlace: what tells whether the device is there does not go past frames that wait, nor what the device says after it past
// that.
func TestPresenceKeepsItsPlace(t *testing.T) {
	var mu sync.Mutex
	var heard []string
	goOn := make(chan struct{})
	n := newNode(t, func(o *actors.Options) {
		load := o.Drivers
		o.Drivers = func(ctx context.Context, digest string) (drivers.Runner, error) {
			r, err := load(ctx, digest)
			return listening{r, goOn, &mu, &heard}, err
		}
		o.CallTimeout = time.Minute
	})
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	var all []chan error
	for _, m := range [][2]string{{"lwt", "Online"}, {"x", `{"level":1}`}, {"x", `{"level":2}`}, {"lwt", "Offline"}, {"x", `{"level":3}`}, {"lwt", "Offline"}} {
		all = append(all, n.send("dev/a/"+m[0], m[1], 1))
	}
	until(t, "the first frame is with the driver", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return slices.Contains(heard, `{"level":1}`)
	})
	if c := n.state("a").Status.Connection; c != pb.Connection_CONNECTION_CONNECTED {
		t.Errorf("while its frames wait it is %v", c)
	}
	close(goOn)
	for i, done := range all {
		if err := answer(t, fmt.Sprint("message ", i), done); err != nil {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if c := n.state("a").Status.Connection; c != pb.Connection_CONNECTION_DISCONNECTED {
		t.Errorf("at the end it is %v", c)
	}
	until(t, "the driver has heard all", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(heard, " ") == `connected {"level":1} {"level":2} disconnected connected {"level":3} disconnected`
	})
}

// TestTopicThatWasLookedUp: what a connection remembers of a topic ends where its alias becomes another twin's, or a twin is bound to it.
func TestTopicThatWasLookedUp(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"},"aliases":[{"network":"lora","key":"eui","value":"7"}]}`)
	n.twin(`{"id":"b","driver":"bus","settings":{"topic":"b1"}}`)
	var found any
	deliver := func(topic, payload string) {
		t.Helper()
		done := make(chan error, 1)
		n.engine.Deliver(&mqtt.Message{Client: "c", Topic: topic, Payload: []byte(payload), QoS: 1, Found: &found}, func(err error) { done <- err })
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%s: %v", payload, err)
			}
		case <-time.After(patience):
			t.Fatalf("%s: no answer within %s", payload, patience)
		}
	}
	const spelled = "default/lora/eui/7"
	deliver(spelled, `{"level":1}`)
	n.wait("a", "level", "1")
	if found == nil {
		t.Fatal("nothing is remembered of the topic")
	}
	deliver(spelled, `{"level":2}`)
	n.wait("a", "level", "2")
	if c := n.counts("mqtt"); c.Stored != 2 || c.InFlight != 0 {
		t.Errorf("after two messages: %v", c)
	}

	move := func(id string, aliases ...*pb.Alias) {
		t.Helper()
		tw, err := n.reg.GetTwin(id)
		if err != nil {
			t.Fatal(err)
		}
		tw.Aliases = aliases
		if _, err := n.reg.UpdateTwin(ctx(t), tw); err != nil {
			t.Fatal(err)
		}
	}
	move("a")
	move("b", sender("7"))
	deliver(spelled, `{"level":3}`)
	n.wait("b", "level", "3")
	n.wait("a", "level", "2")

	n.driver("wide", "1.0.0", `{"scheme":"mqtt","subscribe":["default/lora/eui/{topic}"]}`)
	n.twin(`{"id":"c","driver":"wide","settings":{"topic":"7"}}`)
	deliver(spelled, `{"level":4}`)
	n.wait("c", "level", "4")
	n.wait("b", "level", "3")
}

// Senders over MQTT are in the inbox of a project that has no twins, or none any more. Topics that spell no project are other people's.
func TestSendersOfAProjectWithoutTwins(t *testing.T) {
	n := newNode(t)
	n.deliver("default/lora/eui/1", `{}`, 1)
	n.model("hotel/m", thing("M", `"level":{"type":"number"}`))
	n.deliver("hotel/lora/eui/1", `{}`, 1)
	if _, err := n.reg.ClaimInbox(ctx(t), "hotel/lora/eui/1", &pb.Twin{Id: "hotel/a", Model: "hotel/m"}); err != nil {
		t.Fatal(err)
	}
	n.deleteTwin("hotel/a")
	n.deliver("hotel/lora/eui/2", `{}`, 1)
	if got := n.strangers(); !slices.Equal(got, []string{"default/lora/eui/1", "hotel/lora/eui/2"}) {
		t.Errorf("in the inboxes: %v", got)
	}
	if err := n.offer("zigbee2mqtt/hall/lamp/state", `{}`, 1); !errors.Is(err, actors.ErrNoTwin) {
		t.Errorf("a topic of no project: %v", err)
	}
}

// What clients publish to a durable topic while a publication is under way goes with the next ones, however long the topic's id is.
func TestManyMessagesForADurableTopicOverMQTT(t *testing.T) {
	n := newNode(t)
	id := "default/" + strings.Repeat("x", 128)
	if _, err := n.reg.PutTopic(ctx(t), &pb.Topic{Id: id}); err != nil {
		t.Fatal(err)
	}
	topics, done := n.engine.Client().MQTT(), make(chan error, 4000)
	for range cap(done) {
		topics.Publish(id, mqtt.TopicMessage{Payload: make([]byte, 150)}, func(err error) { done <- err })
	}
	for range cap(done) {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}
