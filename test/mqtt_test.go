package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/test/harness"
)

// mqttClients are clients of MQTT 5 by an independent library, in a program of their own.
type mqttClients struct {
	t  *testing.T
	in io.WriteCloser

	mu      sync.Mutex
	next    int
	waiting map[int]chan mqttLine
	events  map[string][]mqttLine
}

// mqttLine is what the program says: an answer, or what happened to a client.
type mqttLine struct {
	N              int
	Error          string
	Client, Event  string
	Topic, Payload string
	QoS, Code      int
	Retain, Dup    bool
	SessionPresent bool
	Granted        []struct{ QoS int }
	Properties     map[string]any
}

func newMQTTClients(t *testing.T) *mqttClients {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		drivertest.Missing(t, "node is not installed")
	}
	if _, err := os.Stat(filepath.Join("peers", "node_modules", "mqtt")); err != nil {
		drivertest.Missing(t, "the peers' packages are not installed: npm ci in test/peers")
	}
	cmd := exec.Command(node, "mqtt.mjs")
	cmd.Dir, cmd.Stderr = "peers", os.Stderr
	c := &mqttClients{t: t, waiting: map[int]chan mqttLine{}, events: map[string][]mqttLine{}}
	if c.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			c.heard(lines.Bytes())
		}
	}()
	t.Cleanup(func() {
		_ = c.in.Close()
		_ = cmd.Process.Kill()
		<-done
		_ = cmd.Wait()
	})
	return c
}

func (c *mqttClients) heard(raw []byte) {
	var l mqttLine
	if err := json.Unmarshal(raw, &l); err != nil {
		c.t.Errorf("%v: %s", err, raw)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.Event != "" {
		c.events[l.Client] = append(c.events[l.Client], l)
	} else if w := c.waiting[l.N]; w != nil {
		w <- l
	}
}

// try has the program do something, and gives its answer.
func (c *mqttClients) try(op, client string, args map[string]any) (mqttLine, error) {
	if args == nil {
		args = map[string]any{}
	}
	c.mu.Lock()
	c.next++
	n, answer := c.next, make(chan mqttLine, 1)
	c.waiting[n] = answer
	args["n"], args["op"], args["client"] = n, op, client
	line, err := json.Marshal(args)
	if err == nil {
		_, err = c.in.Write(append(line, '\n'))
	}
	c.mu.Unlock()
	if err != nil {
		return mqttLine{}, err
	}
	select {
	case l := <-answer:
		if l.Error != "" {
			return l, fmt.Errorf("%s of %s: %s", op, client, l.Error)
		}
		return l, nil
	case <-time.After(30 * time.Second):
		return mqttLine{}, fmt.Errorf("%s of %s: no answer", op, client)
	}
}

func (c *mqttClients) must(op, client string, args map[string]any) mqttLine {
	c.t.Helper()
	l, err := c.try(op, client, args)
	if err != nil {
		c.t.Fatal(err)
	}
	return l
}

func (c *mqttClients) connect(n *harness.Node, client string, options map[string]any) mqttLine {
	c.t.Helper()
	if options == nil {
		options = map[string]any{}
	}
	// By the name of the administrator: it may use all topics.
	options["username"], options["password"] = "admin", n.Key
	return c.must("connect", client, map[string]any{"url": "mqtt://" + n.MQTT, "options": options})
}

// stays are the options of a session that outlives its connection.
func stays(clean bool) map[string]any {
	return map[string]any{"clean": clean, "properties": map[string]any{"sessionExpiryInterval": 600}}
}

func (c *mqttClients) subscribe(client string, qos int, filters ...string) {
	c.t.Helper()
	for _, g := range c.must("subscribe", client, map[string]any{"filters": filters, "options": map[string]any{"qos": qos}}).Granted {
		if g.QoS != qos {
			c.t.Fatalf("%s was granted %d, wanted %d", client, g.QoS, qos)
		}
	}
}

func (c *mqttClients) publish(client, topic, payload string, qos int, retain bool) {
	c.t.Helper()
	c.must("publish", client, map[string]any{"topic": topic, "payload": payload, "options": map[string]any{"qos": qos, "retain": retain}})
}

// messages gives the payloads that a client got on topics that begin so.
func (c *mqttClients) messages(client, prefix string) (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.events[client] {
		if e.Event == "message" && strings.HasPrefix(e.Topic, prefix) {
			all = append(all, e.Payload)
		}
	}
	return all
}

func (c *mqttClients) had(client, event string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.ContainsFunc(c.events[client], func(e mqttLine) bool { return e.Event == event })
}

// gets waits until a client has got these messages, in this order.
func (c *mqttClients) gets(client, prefix string, want ...string) {
	c.t.Helper()
	harness.Until(c.t, 30*time.Second, fmt.Sprintf("%s has %q of %s", client, want, prefix), func() bool {
		return len(c.messages(client, prefix)) >= len(want)
	})
	if got := c.messages(client, prefix); !slices.Equal(got, want) {
		c.t.Fatalf("%s got %q, want %q", client, got, want)
	}
}

// stockClient runs one of mosquitto's clients against a node.
func stockClient(t *testing.T, n *harness.Node, tool string, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath(tool)
	if err != nil {
		drivertest.Missing(t, "%s is not installed", tool)
	}
	host, port, _ := strings.Cut(n.MQTT, ":")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, append([]string{"-h", host, "-p", port, "-u", "admin", "-P", n.Key}, args...)...).CombinedOutput()
	return string(out), err
}

// TestMQTTOverNodes has clients at all nodes of a cluster: messages reach them wherever they are; a client that comes to another
// node ends its earlier connection; and when a node is killed, its clients find their sessions at another, with all that was
// acknowledged for them, their QoS 2 ids included, and their wills are published.
func TestMQTTOverNodes(t *testing.T) {
	c := harness.StartCluster(t, harness.ClusterOptions{})
	one, two, three := c.Node(0), c.Node(1), c.Node(2)
	m := newMQTTClients(t)

	// Live subscribers at every node, of every QoS; a shared subscription over two nodes.
	m.connect(one, "pub", nil)
	for i, n := range c.Nodes() {
		m.connect(n, fmt.Sprint("live", i), nil)
		m.subscribe(fmt.Sprint("live", i), 2, "news/#")
		m.subscribe(fmt.Sprint("live", i), 1, "$share/crew/work/#")
	}
	harness.Until(t, 30*time.Second, "every node knows every subscriber", func() bool {
		m.publish("pub", "news/ready", "", 0, false)
		return len(m.messages("live0", "news/ready"))*len(m.messages("live1", "news/ready"))*len(m.messages("live2", "news/ready")) > 0
	})
	for qos := range 3 {
		m.publish("pub", "news/a", fmt.Sprint(qos), qos, false)
	}
	for i := range 3 {
		m.gets(fmt.Sprint("live", i), "news/a", "0", "1", "2")
	}
	for i := range 30 {
		m.publish("pub", "work/x", fmt.Sprint(i), 1, false)
	}
	harness.Until(t, 30*time.Second, "each piece of work is done once", func() bool {
		var all []string
		for i := range 3 {
			all = append(all, m.messages(fmt.Sprint("live", i), "work/")...)
		}
		return len(all) == 30
	})
	for i := range 3 {
		if n := len(m.messages(fmt.Sprint("live", i), "work/")); n != 10 {
			t.Errorf("member %d of the shared subscription got %d of 30", i, n)
		}
	}

	// A client that comes to another node: its earlier connection ends, its session goes on.
	m.connect(one, "mover", stays(true))
	m.subscribe("mover", 1, "to/mover")
	if !m.connect(two, "mover", stays(false)).SessionPresent {
		t.Fatal("no session at the other node")
	}
	harness.Until(t, 30*time.Second, "the earlier connection ends", func() bool { return m.had("mover", "disconnect") })
	m.publish("pub", "to/mover", "hello", 1, false)
	m.gets("mover", "to/mover", "hello")

	// Sessions at the node that is about to die.
	m.connect(three, "away", stays(true))
	m.subscribe("away", 2, "to/away/#")
	m.must("end", "away", nil)
	m.publish("pub", "to/away/x", "before", 1, false)
	will := stays(true)
	will["will"] = map[string]any{"topic": "news/will", "payload": "lost", "qos": 1, "retain": true}
	m.connect(three, "lamp", will)
	m.subscribe("lamp", 1, "to/lamp")
	m.publish("lamp", "kept/lamp", "on", 1, true)
	delayed := stays(true)
	delayed["will"] = map[string]any{"topic": "news/delayed", "payload": "lost", "qos": 1, "properties": map[string]any{"willDelayInterval": 3600}}
	m.connect(three, "patient", delayed)
	if out, err := stockClient(t, three, "mosquitto_sub", "-i", "stock", "-c", "-q", "1", "-t", "to/stock", "-E"); err != nil {
		t.Fatalf("mosquitto_sub: %v: %s", err, out)
	}
	three.Kill()
	m.publish("pub", "to/away/x", "after", 2, false)
	m.publish("pub", "to/lamp", "off", 1, false)
	if out, err := stockClient(t, one, "mosquitto_pub", "-q", "1", "-t", "to/stock", "-m", "for stock"); err != nil {
		t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
	for _, s := range []struct {
		client string
		clean  bool
	}{{"away", false}, {"lamp", false}, {"patient", false}} {
		if !m.connect(two, s.client, stays(s.clean)).SessionPresent {
			t.Errorf("%s has lost its session", s.client)
		}
	}
	m.gets("away", "to/away", "before", "after")
	m.gets("lamp", "to/lamp", "off")
	if out, err := stockClient(t, two, "mosquitto_sub", "-i", "stock", "-c", "-q", "1", "-t", "to/stock", "-C", "1", "-W", "30"); err != nil || out != "for stock\n" {
		t.Errorf("mosquitto_sub: %v: %q", err, out)
	}
	m.gets("live0", "news/will", "lost")
	m.gets("live1", "news/will", "lost")
	m.connect(two, "late", nil)
	m.subscribe("late", 1, "kept/#", "news/#")
	m.gets("late", "kept/", "on")
	m.gets("late", "news/will", "lost")
	if got := m.messages("live0", "news/delayed"); len(got) > 0 {
		t.Errorf("the will of a client that came back within its delay was published")
	}
}

// TestMQTTReadsDurableTopics has clients of MQTT 5 and stock clients publish to a durable topic and read it: those of a channel
// share its messages, what one of them did not acknowledge goes to another, and rights are the keys'.
func TestMQTTReadsDurableTopics(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	n.Must("topic", "create", "orders")
	n.Must("topic", "channel", "put", "orders", "billing", "--ack", "hand")
	m := newMQTTClients(t)
	const orders = "topics/default/orders/"
	// One that takes messages and acknowledges none.
	m.must("connect", "hoarder", map[string]any{"url": "mqtt://" + n.MQTT, "hold": true,
		"options": map[string]any{"username": "admin", "password": n.Key}})
	m.subscribe("hoarder", 1, "$share/billing/topics/default/orders/#")
	m.connect(n, "pub", nil)
	const messages = 20
	var want []string
	for i := range messages {
		payload := fmt.Sprint("order ", i)
		want = append(want, payload)
		m.must("publish", "pub", map[string]any{"topic": orders + fmt.Sprint("key", i), "payload": payload,
			"options": map[string]any{"qos": 1, "properties": map[string]any{"contentType": "text/plain", "userProperties": map[string]any{"id": payload, "origin": "test"}}}})
	}
	// A repetition by its id is stored once.
	m.must("publish", "pub", map[string]any{"topic": orders + "key0", "payload": "order 0",
		"options": map[string]any{"qos": 1, "properties": map[string]any{"userProperties": map[string]any{"id": "order 0"}}}})
	harness.Until(t, 30*time.Second, "the hoarder has some", func() bool { return len(m.messages("hoarder", orders)) > 0 })
	m.must("cut", "hoarder", nil)
	m.connect(n, "worker1", stays(true))
	m.subscribe("worker1", 1, "$share/billing/topics/default/orders/#")
	m.connect(n, "worker2", nil)
	m.subscribe("worker2", 1, "$share/billing/topics/default/orders/#")
	worked := func() []string {
		all := append(m.messages("worker1", orders), m.messages("worker2", orders)...)
		slices.Sort(all)
		return slices.Compact(all)
	}
	slices.Sort(want)
	harness.Until(t, time.Minute, "what the hoarder did not acknowledge is done by others", func() bool { return slices.Equal(worked(), want) })
	harness.Until(t, 30*time.Second, "the channel has nothing left", func() bool {
		out := n.Must("topic", "get", "orders", "-o", "json")
		return strings.Contains(out, `"in_flight"`) == false && !strings.Contains(out, `"lag"`)
	})
	// A session that goes on reads on, without subscribing again.
	m.must("end", "worker2", nil)
	m.must("end", "worker1", nil)
	if out, err := stockClient(t, n, "mosquitto_pub", "-q", "1", "-t", orders+"late", "-m", "order late"); err != nil {
		t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
	if !m.connect(n, "worker1", stays(false)).SessionPresent {
		t.Error("no session")
	}
	harness.Until(t, 30*time.Second, "the late order", func() bool { return slices.Contains(m.messages("worker1", orders+"late"), "order late") })
	if out := n.Must("topic", "tail", "orders", "--oldest", "--no-follow"); strings.Count(out, "order") != messages+1 {
		t.Errorf("the topic has %s", out)
	}

	// What is not there, and what keys may not.
	for _, bad := range []string{"$share/billing/topics/default/none/#", "topics/default/+/#", "topics/default/orders", "$share/billing/topics/#"} {
		if l, err := m.try("subscribe", "pub", map[string]any{"filters": []string{bad}, "options": map[string]any{"qos": 1}}); err == nil {
			t.Errorf("subscribed to %s: %+v", bad, l)
		}
	}
	if _, err := m.try("publish", "pub", map[string]any{"topic": "topics/default/none/x", "payload": "x", "options": map[string]any{"qos": 1}}); err == nil {
		t.Error("published to a topic that is not there")
	}
	var viewer struct{ Secret string }
	if err := json.Unmarshal([]byte(n.Must("key", "create", "--role", "viewer", "--project", "default", "--name", "eyes", "-o", "json")), &viewer); err != nil {
		t.Fatal(err)
	}
	m.must("connect", "eyes", map[string]any{"url": "mqtt://" + n.MQTT, "options": map[string]any{"username": "eyes", "password": viewer.Secret}})
	m.subscribe("eyes", 1, "topics/default/orders/#")
	if l, err := m.try("subscribe", "eyes", map[string]any{"filters": []string{"$share/billing/topics/default/orders/#"}, "options": map[string]any{"qos": 1}}); err == nil {
		t.Errorf("a viewer reads in a channel: %+v", l)
	}
	if _, err := m.try("publish", "eyes", map[string]any{"topic": orders + "x", "payload": "x", "options": map[string]any{"qos": 1}}); err == nil {
		t.Error("a viewer publishes")
	}
	m.must("publish", "pub", map[string]any{"topic": orders + "seen", "payload": "seen by all", "options": map[string]any{"qos": 2}})
	m.gets("eyes", orders, "seen by all")
}
