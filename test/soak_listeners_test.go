package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
)

// listened are the first devices, whose messages clients of MQTT hear: as few as a session's queue takes while its node is away.
const listened = 8

// listeners are clients of MQTT with sessions that outlive their connections: two that hear all, with QoS 1 and 2, and two that share.
type listeners struct {
	t *testing.T

	mu    sync.Mutex
	heard map[string]map[string][]float64 // by listener, by twin
	count int
}

func startListeners(t *testing.T, c *harness.Cluster) *listeners {
	l := &listeners{t: t, heard: map[string]map[string][]float64{}}
	for i, who := range []struct {
		id, name, prefix string
		qos              byte
	}{{"all-1", "QoS 1", "", 1}, {"all-2", "QoS 2", "", 2}, {"share-a", "shared", "$share/soak/", 1}, {"share-b", "shared", "$share/soak/", 1}} {
		l.heard[who.name] = map[string][]float64{}
		// At each node in turn, whichever is there.
		o := paho.NewClientOptions().SetClientID("soak-" + who.id).SetCleanSession(false).SetResumeSubs(true).SetUsername("key").SetPassword(c.Key()).
			SetAutoReconnect(true).SetMaxReconnectInterval(time.Second).SetConnectTimeout(5 * time.Second).SetKeepAlive(2 * time.Second).SetPingTimeout(2 * time.Second)
		for turn := range c.Nodes() {
			o.AddBroker("tcp://" + c.Node((i+turn)%len(c.Nodes())).MQTT)
		}
		filters := map[string]byte{}
		for d := range listened {
			filters[fmt.Sprintf("%sdefault/soak/dev/%d", who.prefix, d)] = who.qos
		}
		hear := func(_ paho.Client, m paho.Message) { l.hear(who.name, m) }
		o.SetDefaultPublishHandler(hear) // what comes before a connection's subscriptions are known
		client := paho.NewClient(o)
		t.Cleanup(func() { client.Disconnect(100) })
		for _, done := range []func() paho.Token{client.Connect, func() paho.Token { return client.SubscribeMultiple(filters, hear) }} {
			if token := done(); !token.WaitTimeout(30*time.Second) || token.Error() != nil {
				t.Fatalf("listener %s: %v", who.id, token.Error())
			}
		}
	}
	return l
}

func (l *listeners) hear(name string, m paho.Message) {
	var said struct{ Seq float64 }
	if err := json.Unmarshal(m.Payload(), &said); err != nil {
		l.t.Errorf("listener %s: %s: %v: %.100s", name, m.Topic(), err, m.Payload())
	}
	twin := "default/dev-" + m.Topic()[strings.LastIndexByte(m.Topic(), '/')+1:]
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard[name][twin] = append(l.heard[name][twin], said.Seq)
	l.count++
}

// check waits until each acknowledged message of those devices has come to each, as long as some come.
func (l *listeners) check(acked map[string][]float64) journal.Verdict {
	of := map[string][]float64{}
	for d := range listened {
		id := "default/" + soakDevice(d)
		of[id] = acked[id]
	}
	for end, last := time.Now().Add(time.Minute), 0; ; time.Sleep(time.Second) {
		l.mu.Lock()
		v := journal.InHistory(of, l.heard)
		v.Name, v.Note = "messages to subscribers", fmt.Sprintf("%d came", l.count)
		if l.count > last {
			end, last = time.Now().Add(time.Minute), l.count
		}
		l.mu.Unlock()
		if len(v.Violations) == 0 || time.Now().After(end) {
			return v
		}
	}
}
