package rpc_test

import (
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// heardMQTT is a client and what it was sent.
type heardMQTT struct {
	mqtt.Client
	t    *testing.T
	who  string
	conn net.Conn

	mu   sync.Mutex
	all  strings.Builder
	ends chan struct{}
}

func (f *foreign) mqtt(who, key string, will string) *heardMQTT {
	f.t.Helper()
	c := &heardMQTT{t: f.t, who: who, ends: make(chan struct{}, 64)}
	o := mqtt.NewClientOptions().SetCustomOpenConnectionFn(func(u *url.URL, _ mqtt.ClientOptions) (_ net.Conn, err error) {
		c.conn, err = net.Dial("tcp", u.Host)
		return c.conn, err
	})
	o.AddBroker("tcp://" + f.node.MQTTAddr()).SetClientID(fresh("foreign-")).SetUsername("any").SetPassword(key).SetConnectTimeout(patience).SetAutoReconnect(false).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			c.mu.Lock()
			fmt.Fprintf(&c.all, "%s %s\n", m.Topic(), m.Payload())
			c.mu.Unlock()
			if string(m.Payload()) == "the end" {
				c.ends <- struct{}{}
			}
		})
	if will != "" {
		o.SetWill(will, "will of "+f.hall, 1, true)
	}
	c.Client = mqtt.NewClient(o)
	if token := c.Connect(); will == "" {
		c.wait("connect", token)
	} else if !token.WaitTimeout(patience) || token.Error() == nil {
		f.t.Errorf("%s: is let in with the will %s", who, will)
		_ = c.conn.Close()
	}
	return c
}

func (c *heardMQTT) wait(what string, token mqtt.Token) {
	c.t.Helper()
	if !token.WaitTimeout(patience) || !c.IsConnected() {
		c.t.Fatalf("%s: %s: connected %t, %v", c.who, what, c.IsConnected(), token.Error())
	}
}

// awaitEnd waits for the message that is sent last.
func (c *heardMQTT) awaitEnd() {
	c.t.Helper()
	select {
	case <-c.ends:
	case <-time.After(patience):
		c.t.Fatalf("%s, connected %t, has heard %s", c.who, c.IsConnected(), c.heard())
	}
}

func (c *heardMQTT) heard() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all.String()
}

// TestForeignByMQTT: keys of one project hear nothing of another by any filter, and what they send to it reaches nobody there.
func TestForeignByMQTT(t *testing.T) {
	f := shareForeign(t)
	owner := f.mqtt("owner", f.admin, "")
	defer owner.Disconnect(0)
	for _, topic := range []string{f.vault + "/state", "elsewhere/state", f.vault} {
		owner.wait("retained", owner.Publish(topic, 1, true, f.secrets[0]))
	}
	before := f.awaitStill()
	owner.wait("subscribe", owner.Subscribe("#", 1, nil))
	spy := []string{"#", "+/#", "+/+", f.vault + "/#", f.vault, "+", "$share/g/" + f.vault + "/#", "$share/g/#", "$SYS/#", "$share/g/$SYS/#", "topics/#", "topics/+/pump/#", "topics/" + f.vault + "/#", "topics/" + f.vault + "/pump/#",
		"$share/pump/topics/" + f.vault + "/pump/#", "$share/spy/topics/" + f.vault + "/pump/#", f.hall + "/../" + f.vault + "/#", "/#", "/+/#", "elsewhere/#", "echo/" + f.vault + "/#", strings.ToUpper(f.vault) + "/#"}
	var all []*heardMQTT
	for _, who := range []string{"admin", "operator", "viewer"} {
		for _, will := range []string{f.vault + "/will", f.vault + "/plant/serial/7", "topics/" + f.vault + "/pump/k"} {
			f.mqtt(who, f.keys[who], will)
		}
		c := f.mqtt(who, f.keys[who], "")
		defer c.Disconnect(0)
		all = append(all, c)
		for _, filter := range append(spy, f.hall+"/#", "topics/"+f.hall+"/pump/#") {
			c.wait(filter, c.Subscribe(filter, 1, nil))
		}
		for _, topic := range []string{f.vault + "/plant/serial/7", f.vault + "/plant/serial/new", f.vault + "/pump", f.vault + "/state", "topics/" + f.vault + "/pump/k", "topics/" + f.vault + "/pump", "echo/" + f.vault + "/set", "elsewhere/state",
			"topics/" + f.hall + "/../" + f.vault + "/pump/k", "$SYS/x", "topics/../" + f.vault + "/pump"} {
			for qos := range byte(2) {
				c.wait(topic, c.Publish(topic, qos, true, `{"level":1,"text":"from the hall"}`))
			}
		}
	}
	for _, topic := range []string{f.vault + "/state", f.vault + "/room/lamp", "elsewhere/state", "echo/" + f.vault + "/out"} {
		owner.wait("publish", owner.Publish(topic, 1, false, f.secrets[0]))
	}
	owner.wait("the end", owner.Publish(f.hall+"/end", 1, false, "the end"))
	owner.wait("the end", owner.Publish("topics/"+f.hall+"/pump/end", 1, false, "the end"))
	for _, c := range all {
		c.awaitEnd()
		if s := f.tells([]byte(c.heard())); s != "" {
			t.Errorf("%s hears %s: %.500s", c.who, s, c.heard())
		}
	}
	owner.wait("the end", owner.Publish("elsewhere/end", 1, false, "the end"))
	owner.awaitEnd()
	if s := owner.heard(); strings.Contains(s, "from the hall") || strings.Contains(s, "will of "+f.hall) {
		t.Errorf("sent to the vault or elsewhere: %s", s)
	}
	f.untouched(before)
}

// TestForeignTopicsOfRules: what a project's rules, schedules, notifiers and twins send by MQTT goes to no topic of another project, and none of its twins is
// bound to one.
func TestForeignTopicsOfRules(t *testing.T) {
	f := shareForeign(t)
	before := f.awaitStill()
	owner := f.mqtt("owner", f.admin, "")
	defer owner.Disconnect(0)
	owner.wait("subscribe", owner.Subscribe(f.vault+"/plant/#", 1, nil))
	suffix := fresh("x") // it may run again
	driver, err := rpcv1.NewDriverServiceClient(f.http(f.admin), f.url).UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: fmt.Appendf(nil, `export default driver({ name: '%s', version: '1.0.0',
		transport: { scheme: 'mqtt', subscribe: ['{topic}'], publish: ['{topic}'] }, settings: { topic: { type: 'string' } },
		message(twin, m) { twin.report('seen', 'x'); }, properties: { seen: 'string' }, actions: { say: { async run(twin) { await twin.publish(twin.settings.topic, '{"level":1}'); } } } });`, fresh("bound"))}))
	if err != nil {
		t.Fatal(err)
	}
	for i, topic := range []string{"topics/" + f.vault + "/pump/k", f.vault + "/plant/serial/7", "topics/" + f.vault + "-too/pump/k"} {
		denied := func(what string, status int, body string) {
			t.Helper()
			if status < 400 || status >= 500 || !strings.Contains(body, "of project") {
				t.Errorf("%s to %s: %d %s", what, topic, status, body)
			}
		}
		call := func(procedure, body string) (int, string) {
			return f.call(t, f.keys["admin"], "/pollux.v1."+procedure, strings.NewReplacer("HALL", f.hall, "TOPIC", topic, "NAME", fmt.Sprint(suffix, "-", i)).Replace(body))
		}
		status, body := call("TwinService/CreateTwin", fmt.Sprintf(`{"twin":{"id":"HALL/bound","driver":%q,"settings":{"topic":"TOPIC"}}}`, driver.Msg.Driver.Name))
		denied("a twin is bound", status, body)
		if status, body := call("NotifierService/CreateNotifier", `{"notifier":{"id":"HALL/nNAME","mqtt":{"topic":"TOPIC"}}}`); status != 200 {
			t.Fatal(body)
		}
		if _, body := call("NotifierService/TestNotifier", `{"id":"HALL/nNAME"}`); !strings.Contains(body, "of project") || strings.Contains(body, "STATE_SENT") {
			t.Errorf("a notifier to %s: %s", topic, body)
		}
		if status, body := call("AutomationService/PutRule", `{"rule":{"id":"HALL/mNAME","when":[{"property":{"of":{"twins":["pump"]},"names":["level"]}}],"then":[{"mqtt":{"topic":"TOPIC","payload":"{}","qos":1}}]}}`); status != 200 {
			t.Fatal(body)
		}
		f.must("IngestService/Ingest", fmt.Sprintf(`{"project":%q,"messages":[{"twin":"pump","payload":%q}]}`, f.hall, base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"level":%d}`, 40+i))))
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if _, body := call("AutomationService/WhyRule", `{"id":"HALL/mNAME"}`); strings.Contains(body, "it is a topic of project") {
				break
			} else if time.Now().After(end) {
				t.Errorf("a rule to %s: %s", topic, body)
				break
			}
		}
	}
	if status, body := f.call(t, f.keys["admin"], "/pollux.v1.NotifierService/CreateNotifier", fmt.Sprintf(`{"notifier":{"id":"%s/%s","mqtt":{"topic":"topics/%[1]s/pump/k"}}}`, f.hall, suffix)); status != 200 {
		t.Errorf("its own topic: %s", body)
	} else if _, body := f.call(t, f.keys["admin"], "/pollux.v1.NotifierService/TestNotifier", `{"id":"`+f.hall+"/"+suffix+`"}`); !strings.Contains(body, "STATE_SENT") {
		t.Errorf("its own topic: %s", body)
	}
	owner.wait("the end", owner.Publish(f.vault+"/plant/end", 1, false, "the end"))
	owner.awaitEnd()
	if s := owner.heard(); strings.Count(s, "\n") != 1 {
		t.Errorf("the vault hears %s", s)
	}
	f.untouched(before)
}

// TestForeignBySocket: each subscription to another project's things ends at once.
func TestForeignBySocket(t *testing.T) {
	f := shareForeign(t)
	before := f.awaitStill()
	for _, who := range []string{"admin", "operator", "viewer"} {
		w := f.socket(t, f.keys[who])
		for i, x := range []string{
			`"Subscribe","request":{"topic":"VAULT/pump","start":{"oldest":true}}`, `"Subscribe","request":{"topic":"VAULT/pump","channel":"pump"}`, `"Subscribe","request":{"topic":"HALL/../VAULT/pump","start":{"oldest":true}}`,
			`"WatchTwins","request":{"filter":{"project":"VAULT"}}`, `"WatchTwins","request":{"filter":{"project":"*"}}`, `"WatchTwins","request":{"filter":{"system":"VAULT/pump"}}`, `"Subscribe","request":{"topic":"VAULT%2Fpump","start":{"oldest":true}}`,
			`"TraceTwin","request":{"id":"VAULT/echo"}`, `"RecordTwin","request":{"id":"VAULT/echo"}`, `"Export","request":{"project":"VAULT"}`, `"Backup","request":{}`,
		} {
			id := fmt.Sprint(i)
			w.send(`{"op":"subscribe","id":"` + id + `","method":` + strings.NewReplacer("VAULT", f.vault, "HALL", f.hall).Replace(x) + `}`)
			w.until(x, func(m wsMessage) bool {
				if s := f.tells(append([]byte(m.Error+m.Hint), m.Message...)); s != "" || m.ID == id && m.Op == "message" {
					t.Fatalf("%s: %s tells %s: %s", who, x, s, m.Message)
				}
				return m.ID == id && m.Op == "end"
			})
		}
		w.send(`{"op":"ack","id":"0","offsets":[1,2,3]}`)
	}
	f.untouched(before)
}
