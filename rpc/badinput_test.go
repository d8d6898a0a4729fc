package rpc_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// badDoor is a way in, with a project of its own that has a meter.
type badDoor struct {
	name, project string
	// send brings messages in, in one request where the door has such. ids are theirs where they are not empty. key is the sender's.
	send func(t *testing.T, key, project string, ids string, payloads ...string)
	// keyed: a message may have an id, foreign: its sender's key belongs to one project.
	keyed, foreign bool
}

const meterModel = `{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"pollux":"https://pollux.dev/ns#"}],"@type":"tm:ThingModel","title":"Meter",
	"pollux:time":"at","pollux:unknown":"refuse","properties":{"temperature":{"type":"number","unit":"Cel","pollux:path":"t","pollux:unitPath":"u"}}}`

// badInputs are payloads that are refused whatever their door, with the code.
var badInputs = []struct{ name, payload, code string }{
	{"malformed", `{"t":}`, "malformed"},
	{"oversized", `{"t":"` + strings.Repeat("x", 70<<10) + `"}`, "too_large"},
	{"deeply nested", `{"t":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "too_deep"},
	{"wrongly typed", `{"t":"warm"}`, "wrong_type"},
	{"in a wrong unit", `{"t":1,"u":"kg"}`, "wrong_unit"},
	{"of the future", `{"t":1,"at":"2190-01-01T00:00:00Z"}`, "time_future"},
	{"of long ago", `{"t":1,"at":"1999-01-01T00:00:00Z"}`, "time_ancient"},
	{"of an unknown path", `{"colour":"red"}`, "unknown_path"},
}

// TestBadInput: whatever is wrong with a message, and whatever door it comes through, its refusal has a code, counts, and is in the list with the
// payload's head; those before and behind it are stored. What comes twice under one id counts as such, and what is for a foreign project is
// listed in its sender's own.
func TestBadInput(t *testing.T) {
	h := openHouse(t)
	for _, d := range badDoors(t, h) {
		t.Run(d.name, func(t *testing.T) {
			stored := uint64(0)
			good := func() string { stored++; return fmt.Sprintf(`{"t":%d}`, stored) }
			for _, c := range badInputs {
				d.send(t, h.admin, d.project, "", good(), c.payload, good())
			}
			want := &pb.IngestCount{Stored: stored, Refused: uint64(len(badInputs))}
			if d.keyed {
				d.send(t, h.admin, d.project, "once", good())
				d.send(t, h.admin, d.project, "once", `{"t":0}`)
				want.Stored, want.Duplicate = stored, 1
			}
			h.awaitCount(t, d.project, d.name, want)
			lines := h.refusals(t, d.project)
			for _, c := range badInputs {
				x := lines[c.code]
				if x == nil || x.Door != d.name || x.Reason == "" || !strings.Contains(string(x.Payload), c.payload[:min(len(c.payload), 40)]) || int(x.Size) < len(c.payload) {
					t.Errorf("what is %s has the line %v", c.name, x)
				}
			}
			if !d.foreign {
				return
			}
			own := fresh("own")
			_, key := h.newKey(t, &pb.Key{Role: "operator", Project: own})
			d.send(t, key, d.project, "", good())
			h.awaitCount(t, own, d.name, &pb.IngestCount{Refused: 1})
			if x := h.refusals(t, own)["foreign_project"]; x == nil || x.Door != d.name || !strings.Contains(x.Reason, d.project) {
				t.Errorf("what is for a foreign project has the line %v", x)
			}
			h.awaitCount(t, d.project, d.name, want)
		})
	}
}

// awaitCount waits until a door has counted so much.
func (h *house) awaitCount(t *testing.T, project, door string, want *pb.IngestCount) {
	t.Helper()
	var c *pb.IngestCount
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		c = h.counted(t, project, door)
		if c.Stored == want.Stored && c.Refused == want.Refused && c.Duplicate == want.Duplicate && c.Inbox == 0 && c.InFlight == 0 {
			return
		}
	}
	t.Fatalf("door %s of %s has counted %v, want %v", door, project, c, want)
}

// refusals gives a project's lines by their codes.
func (h *house) refusals(t *testing.T, project string) map[string]*pb.Refusal {
	t.Helper()
	res, err := h.ingests().ListRefusals(t.Context(), req(&pb.ListRefusalsRequest{Project: project, PageSize: 100}))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]*pb.Refusal{}
	for _, x := range res.Msg.Refusals {
		all[x.Code] = x
	}
	return all
}

// meter makes a project with a twin `meter`, which is also plant/serial/7.
func (h *house) meter(t *testing.T) string {
	t.Helper()
	p := fresh("bad")
	models := rpcv1.NewModelServiceClient(h.http(h.admin), h.url)
	if _, err := models.CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: p + "/meter", ThingJson: meterModel}})); err != nil {
		t.Fatal(err)
	}
	twin := &pb.Twin{Id: p + "/meter", Model: p + "/meter", Aliases: []*pb.Alias{{Network: "plant", Key: "serial", Value: "7"}}}
	if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: twin})); err != nil {
		t.Fatal(err)
	}
	return p
}

func badDoors(t *testing.T, h *house) []*badDoor {
	doors := []*badDoor{
		{name: "http", keyed: true, foreign: true, send: h.badHTTP},
		{name: "connect", keyed: true, foreign: true, send: h.badConnect},
		{name: "pubsub", keyed: true, foreign: true, send: h.badPubSub},
		{name: "mqtt", foreign: true, send: h.badMQTT},
		{name: "kafka"},
	}
	for _, d := range doors {
		d.project = h.meter(t)
	}
	kafka := doors[len(doors)-1]
	kafka.send = h.badKafka(t, kafka.project)
	return doors
}

func (h *house) badHTTP(t *testing.T, key, project, id string, payloads ...string) {
	t.Helper()
	var lines []string
	for _, p := range payloads {
		line := `{"twin":"meter","data":` + p
		if id != "" {
			line += `,"id":"` + id + `"`
		}
		lines = append(lines, line+"}")
	}
	h.ingest(t, key, project, "["+strings.Join(lines, ",")+"]")
}

func (h *house) badConnect(t *testing.T, key, project, id string, payloads ...string) {
	t.Helper()
	r := &pb.IngestRequest{Project: project}
	for _, p := range payloads {
		r.Messages = append(r.Messages, &pb.IngestMessage{Twin: "meter", Payload: []byte(p), Id: id})
	}
	_, err := rpcv1.NewIngestServiceClient(h.http(key), h.url).Ingest(t.Context(), req(r))
	if err != nil && connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Fatal(err)
	}
}

func (h *house) badPubSub(t *testing.T, key, project, id string, payloads ...string) {
	t.Helper()
	for i, p := range payloads {
		number := id
		if id == "" {
			number = fresh(fmt.Sprint("m", i))
		}
		body := fmt.Sprintf(`{"message":{"data":%q,"attributes":{"twin":"meter"},"messageId":%q}}`, base64.StdEncoding.EncodeToString([]byte(p)), number)
		if status, a := h.ingest(t, key, project+"/pubsub", body); status != http.StatusOK && status != http.StatusForbidden {
			t.Fatalf("status %d, %+v", status, a)
		}
	}
}

func (h *house) badMQTT(t *testing.T, key, project, _ string, payloads ...string) {
	t.Helper()
	c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + h.node.MQTTAddr()).SetClientID(fresh("bad-")).SetUsername("any").SetPassword(key).
		SetConnectTimeout(patience).SetAutoReconnect(false))
	done := func(what string, token mqtt.Token) {
		t.Helper()
		if !token.WaitTimeout(patience) || token.Error() != nil {
			t.Fatalf("%s: %v", what, token.Error())
		}
	}
	done("connect", c.Connect())
	defer c.Disconnect(0)
	for _, p := range payloads {
		done("publish", c.Publish(project+"/plant/serial/7", 1, false, p))
	}
}

// badKafka gives a door that a source reads from.
func (h *house) badKafka(t *testing.T, project string) func(t *testing.T, key, project, id string, payloads ...string) {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "readings"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	c, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...), kgo.DefaultProduceTopic("readings"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	sources := rpcv1.NewSourceServiceClient(h.http(h.admin), h.url)
	if _, err := sources.CreateSource(t.Context(), req(&pb.CreateSourceRequest{Source: &pb.Source{Id: project + "/plant",
		Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/readings?network=plant&key=serial&group=g"}})); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = sources.DeleteSource(t.Context(), req(&pb.DeleteSourceRequest{Id: project + "/plant"}))
	})
	return func(t *testing.T, _, _, _ string, payloads ...string) {
		t.Helper()
		for _, p := range payloads {
			if err := c.ProduceSync(t.Context(), &kgo.Record{Key: []byte("7"), Value: []byte(p)}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
