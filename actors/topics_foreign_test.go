package actors_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// ownTransport is a bus whose twins may be bound to anything.
const ownTransport = `{"scheme":"mqtt","subscribe":["{topic}/+/+/+"],"publish":["{topic}/#","topics/{topic}/#"]}`

// unheard waits until a message on a topic is nobody's.
func (n *node) unheard(topic string) {
	n.t.Helper()
	until(n.t, topic+" is nobody's", func() bool { return errors.Is(n.offer(topic, `{"level":1}`, 1), actors.ErrNoTwin) })
}

// TestTopicOfALaterProject: a twin that is bound to topics below a name that becomes a project's hears nothing of that one, its driver says nothing to it, and
// its device may do neither. When the project is gone, the topics are the twin's as before.
func TestTopicOfALaterProject(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", ownTransport)
	n.twin(`{"id":"hall/a","driver":"bus","settings":{"topic":"vault"}}`)
	const spelled = "vault/plant/serial/7"
	n.deliver(spelled, `{"level":1}`, 1)
	n.wait("hall/a", "level", "1")
	said := n.start(&pb.InvokeRequest{Id: "hall/a", Action: "tell", Input: value(t, `{"text":"vault/state"}`)})
	until(t, "the device was told", func() bool { return n.told("vault/state") == 1 })
	n.deliver(spelled, `the answer`, 1)
	if err := answer(t, "what was told", said); err != nil {
		t.Fatal(err)
	}

	n.driver("other", "1.0.0", "")
	own := n.twin(`{"id":"vault/pump","driver":"other","aliases":[{"network":"plant","key":"serial","value":"7"}]}`)
	for range 2 { // found, and remembered
		n.deliver(spelled, `{"level":2}`, 1)
	}
	n.wait("vault/pump", "level", "2")
	if got := n.prop("hall/a", "level"); got != "1" {
		t.Errorf("the hall's twin has heard %s", got)
	}
	if got := n.engine.Stats().Dropped["topic_of_other_project"]; got != 2 {
		t.Errorf("%d counted", got)
	}
	for _, topic := range []string{"vault/state", "vault", "topics/vault/pump/k"} {
		if _, err := n.invoke("hall/a", "tell", `{"text":"`+topic+`"}`); err == nil || !strings.Contains(err.Error(), "denied") {
			t.Errorf("its driver says to %s: %v", topic, err)
		}
	}
	if n.told("vault/state") != 1 || n.told("topics/")+n.told("vault ") != 0 {
		t.Errorf("published: %q", n.published)
	}
	publish, subscribe, err := n.reg.Topics("hall/a")
	if all := strings.Join(append(publish, subscribe...), " "); err != nil || strings.Contains(all, "vault") {
		t.Errorf("its device may use %s, %v", all, err)
	}
	// It can be changed without being bound elsewhere; a second one is not bound to these.
	n.update("hall/a", func(x *pb.Twin) { x.Labels = map[string]string{"floor": "2"} })
	if _, err := n.reg.CreateTwin(ctx(t), &pb.Twin{Id: "hall/b", Driver: "bus", Settings: settings(t, `{"topic":"vault"}`)}); err == nil || !strings.Contains(err.Error(), "one of project vault") {
		t.Errorf("a second one: %v", err)
	}

	if err := n.reg.DeleteTwin(ctx(t), own.Id, 0); err != nil {
		t.Fatal(err)
	}
	until(t, "the topic is the hall's again", func() bool { return n.offer(spelled, `{"level":3}`, 1) == nil && n.prop("hall/a", "level") == "3" })
}

// TestWildcardBeforeAProject: a binding that begins with a wildcard brings no message of another project.
func TestWildcardBeforeAProject(t *testing.T) {
	n := newNode(t)
	n.driver("wide", "1.0.0", `{"scheme":"mqtt","subscribe":["+/plant/#"],"publish":["{topic}"]}`)
	n.twin(`{"id":"hall/a","driver":"wide"}`)
	n.driver("other", "1.0.0", "")
	n.twin(`{"id":"vault/pump","driver":"other"}`)
	n.unheard("vault/plant/x")
	n.deliver("tele/plant/x", `{"level":2}`, 1)
	n.wait("hall/a", "level", "2")
	n.deliver("hall/plant/x", `{"level":3}`, 1)
	n.wait("hall/a", "level", "3")
}

// TestForeignTopicBySettings: no scope's settings bind a twin to another project's topics, and where a new version of a driver does, the twin hears nothing by them.
func TestForeignTopicBySettings(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", ownTransport)
	n.driver("other", "1.0.0", "")
	n.twin(`{"id":"vault/pump","driver":"other","aliases":[{"network":"plant","key":"serial","value":"7"}]}`)
	if _, err := n.reg.PutZone(ctx(t), &pb.Zone{Id: "hall/room"}); err != nil {
		t.Fatal(err)
	}
	n.twin(`{"id":"hall/a","driver":"bus","zone":"hall/room"}`)
	if _, err := n.reg.PutSystem(ctx(t), &pb.System{Id: "hall/set", Members: []*pb.System_Member{{Name: "A_1", Twin: "hall/a"}}}); err != nil {
		t.Fatal(err)
	}
	n.update("hall/a", func(x *pb.Twin) { x.System = "hall/set" })
	for what, scope := range map[string]*pb.SettingsScope{"zone": ofZone("hall/room"), "system": ofSystem("hall/set"), "driver": ofDriver("bus"), "twin": ofTwin("hall/a")} {
		_, err := n.reg.SetSettings(ctx(t), &pb.SetSettingsRequest{Scope: scope, Values: settings(t, `{"topic":"vault"}`)}, "ann")
		if err == nil || !strings.Contains(err.Error(), "one of project vault") {
			t.Errorf("settings of the %s: %v", what, err)
		}
		for _, doc := range []string{`{"topic":"hall"}`, `{"topic":null}`} {
			if _, err := n.reg.SetSettings(ctx(t), &pb.SetSettingsRequest{Scope: scope, Values: settings(t, doc)}, "ann"); err != nil {
				t.Errorf("settings of the %s: %v", what, err)
			}
		}
	}
	n.deliver("vault/plant/serial/7", `{"level":2}`, 1)
	n.wait("vault/pump", "level", "2")
	n.driver("bus", "1.1.0", `{"scheme":"mqtt","subscribe":["vault/+/+/+","new/+"],"publish":["{topic}/#"]}`)
	until(t, "the new version's topics are the twin's", func() bool { return n.offer("new/x", `{"level":5}`, 1) == nil })
	n.deliver("vault/plant/serial/7", `{"level":7}`, 1)
	n.wait("vault/pump", "level", "7")
	n.wait("hall/a", "level", "5")
}

// TestProjectOfBoundName: a project is not made under a name below which twins of others are bound; it would take their messages.
func TestProjectOfBoundName(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", ownTransport)
	n.twin(`{"id":"hall/a","driver":"bus","settings":{"topic":"tele"}}`)
	if _, err := n.reg.CreateProject(ctx(t), &pb.ProjectSettings{Project: "tele"}); err == nil || !strings.Contains(err.Error(), `bound to the MQTT topic "tele/+/+/+"`) {
		t.Errorf("it is made: %v", err)
	}
	n.deliver("tele/a/b/c", `{"level":1}`, 1)
	for _, name := range []string{"tel", "hall"} {
		if _, err := n.reg.CreateProject(ctx(t), &pb.ProjectSettings{Project: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	n.update("hall/a", func(x *pb.Twin) { x.Settings = settings(t, `{"topic":"hall"}`) })
	if _, err := n.reg.CreateProject(ctx(t), &pb.ProjectSettings{Project: "tele"}); err != nil {
		t.Errorf("when nobody is bound any more: %v", err)
	}
}

// BenchmarkUnownedTopic delivers messages that are nobody's, on a topic that could spell an alias: whether there is a project of that name is asked for each.
func BenchmarkUnownedTopic(b *testing.B) {
	n := newNode(b)
	n.driver("other", "1.0.0", "")
	n.twin(`{"id":"vault/pump","driver":"other"}`)
	m := &mqtt.Message{Client: "c", Topic: "tele/plant/serial/7", Payload: []byte("1")}
	for b.Loop() {
		n.engine.Deliver(m, func(error) {})
	}
}
