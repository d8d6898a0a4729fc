package rpc_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestInsideNeedsAKey: the broker on loopback lets clients of this machine in without a key, but not the sinks and the twins that a key of one project makes:
// they send nothing to another project and hear nothing of it. With a key they are let in, for what it may.
func TestInsideNeedsAKey(t *testing.T) {
	drivertest.NeedEngine(t)
	h, hall := openHouse(t), fresh("inside")
	vault, broker := hall+"-vault", h.node.MQTTAddr()
	_, key := h.newKey(t, &pb.Key{Role: "admin", Project: hall})
	_, operator := h.newKey(t, &pb.Key{Role: "operator", Project: hall})
	call := func(who, procedure, body string) string {
		t.Helper()
		status, got := h.call(t, who, "/pollux.v1."+procedure, strings.NewReplacer("HALL", hall, "VAULT", vault, "BROKER", broker, "SECRET", operator).Replace(body))
		if status != 200 {
			t.Fatalf("%s %s: %d %s", procedure, body, status, got)
		}
		return got
	}
	until := func(what, procedure, body, want string) (got string) {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			if got = call(key, procedure, body); strings.Contains(got, want) {
				return got
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %s", what, got)
			}
		}
	}
	call(h.admin, "ProjectService/CreateProject", `{"settings":{"project":"VAULT"}}`)

	var mu sync.Mutex
	var heard []string
	owner := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + broker).SetClientID(hall).SetUsername("any").SetPassword(h.admin).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, m.Topic())
		}))
	done := func(token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatal(token.Error())
		}
	}
	done(owner.Connect())
	defer owner.Disconnect(0)
	done(owner.SubscribeMultiple(map[string]byte{vault + "/#": 1, hall + "/#": 1}, nil))
	done(owner.Publish(vault+"/state", 1, true, "the vault's"))

	// A sink, without a key and with one.
	call(key, "TopicService/CreateTopic", `{"topic":{"id":"HALL/t"}}`)
	call(key, "TopicService/Publish", `{"topic":"HALL/t","messages":[{"key":"7","payload":"`+base64.StdEncoding.EncodeToString([]byte(`{"level":1}`))+`"}]}`)
	call(key, "SinkService/CreateSink", `{"sink":{"id":"HALL/bare","topic":"t","url":"mqtt://BROKER/VAULT/plant/serial","oldest":true}}`)
	if got := until("the sink without a key is refused", "SinkService/GetSink", `{"id":"HALL/bare"}`, `"error"`); !strings.Contains(strings.ToLower(got), "not authorized") || strings.Contains(got, `"delivered"`) {
		t.Errorf("the sink without a key: %s", got)
	}
	call(key, "SinkService/CreateSink", `{"sink":{"id":"HALL/keyed","topic":"t","url":"mqtt://BROKER/HALL/out?user=any","secret":"SECRET","oldest":true}}`)
	until("the sink with a key delivers", "SinkService/GetSink", `{"id":"HALL/keyed"}`, `"delivered"`)

	// Twins: one of MQTT, and one that speaks it by itself.
	bus, wire := fresh("bus"), fresh("wire")
	for _, file := range []string{
		fmt.Sprintf(`export default driver({ name: '%s', version: '1.0.0', transport: { scheme: 'mqtt', subscribe: ['{topic}/#'] }, settings: { topic: { type: 'string' } },
			message(twin, topic, payload) { twin.report('seen', topic); }, properties: { seen: 'string' } });`, bus),
		fmt.Sprintf(`export default driver({ name: '%s', version: '1.0.0', transport: { scheme: 'tcp', tokenizer: { length_bytes: 1, length_offset: 1 } },
			connected(twin) { twin.send(new Uint8Array([0x10, 14, 0, 4, 77, 81, 84, 84, 4, 2, 0, 60, 0, 2, 120, 121])); },
			received(twin, frame) { twin.report('seen', Array.from(typeof frame === 'string' ? new TextEncoder().encode(frame) : frame).join('.')); }, properties: { seen: 'string' } });`, wire),
	} {
		if _, err := rpcv1.NewDriverServiceClient(h.http(h.admin), h.url).UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: []byte(file)})); err != nil {
			t.Fatal(err)
		}
	}
	call(key, "TwinService/CreateTwin", `{"twin":{"id":"HALL/bus","driver":"`+bus+`","uri":"mqtt://BROKER","settings":{"topic":"VAULT"}}}`)
	call(key, "TwinService/CreateTwin", `{"twin":{"id":"HALL/wire","driver":"`+wire+`","uri":"tcp://BROKER"}}`)
	if got := until("the twin that speaks MQTT by itself is answered", "TwinService/GetTwin", `{"id":"HALL/wire"}`, `"seen"`); !strings.Contains(got, `"32.2.0.5"`) {
		t.Errorf("the twin that speaks MQTT by itself is answered %s", got)
	}
	if got := until("the twin of MQTT is refused", "TwinService/GetTwin", `{"id":"HALL/bus"}`, "uthorized"); strings.Contains(got, `"seen"`) {
		t.Errorf("the twin of MQTT: %s", got)
	}

	done(owner.Publish(hall+"/end", 1, false, "the end"))
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		mu.Lock()
		all := strings.Join(heard, " ")
		mu.Unlock()
		if strings.Contains(all, hall+"/end") && strings.Contains(all, hall+"/out/7") {
			if strings.Contains(all, vault+"/plant") {
				t.Errorf("sent to the vault: %s", all)
			}
			return
		}
		if time.Now().After(end) {
			t.Fatalf("heard %s", all)
		}
	}
}
