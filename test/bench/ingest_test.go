package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/prompb"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"github.com/valyala/fastjson"

	"github.com/polluxhq/pollux"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/test/harness"
)

const (
	ingestTwins = 2000
	// ingestBatch messages of as many twins go in one request.
	ingestBatch = 100
)

// BenchmarkIngest: batches of 100 messages over HTTP, against an HTTP handler that reads the same bytes and does one bare raft
// Apply of them. Both sides: the same clients, bodies and connections, one answer per request, given when the raft entry that
// the request's bytes need is synced and applied. The floor's state machine puts the body as one record. Ours authorizes the sender,
// reads each message by its twin's model, and commits for each of the 100 twins a new state record, two samples of history and
// the exact counter of the door, under the guard on its slot; history is fed from the log meanwhile. So what is between the two is
// a hundred records instead of one, in the log and in the state.
func BenchmarkIngest(b *testing.B) {
	n := openNodeBare(b)
	key, err := os.ReadFile(pollux.AdminKeyFile(n.Config().Data))
	if err != nil {
		b.Fatal(err)
	}
	createSensors(b, n, ingestTwins)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	bare := &http.Server{Handler: bareIngestDoor(bareRaft(b))}
	go bare.Serve(l) //nolint:errcheck // it ends with the benchmark
	b.Cleanup(func() { bare.Close() })
	measure := func(batch shape, to func(b *testing.B, name, unit string, ours, floor func() float64)) {
		to(b, "HTTP batch ingest of "+batch.String()+", committed, 64 clients", "messages/s",
			batches(b, batch, strings.TrimSpace(string(key)), n.URL()+"/v1/ingest/default"),
			batches(b, batch, "", "http://"+l.Addr().String()+bareIngest))
	}
	measure(wide, func(b *testing.B, name, unit string, ours, floor func() float64) {
		against(b, name, unit, 0.5, ours, floor)
	})
	for _, batch := range []shape{{100, 10}, {10, 10}, {1, 1}} {
		measure(batch, beside)
	}
	parts, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	least := &http.Server{Handler: bareParts(bareRaftOf(b, func(db *pebble.DB) raft.FSM { return batchFSM{putFSM{db}} }))}
	go least.Serve(parts) //nolint:errcheck // it ends with the benchmark
	b.Cleanup(func() { least.Close() })
	beside(b, "HTTP batch ingest of 100 messages, a record and two samples each, 64 clients", "messages/s",
		batches(b, wide, strings.TrimSpace(string(key)), n.URL()+"/v1/ingest/default"),
		batches(b, wide, "", "http://"+parts.Addr().String()+bareIngest))
}

// batchFSM applies each entry as a batch of Pebble's.
type batchFSM struct{ putFSM }

func (f batchFSM) Apply(l *raft.Log) any {
	batch := f.db.NewBatch()
	if err := batch.SetRepr(l.Data); err != nil {
		return err
	}
	return batch.Commit(pebble.NoSync)
}

// bareParts does with the bare libraries the least that makes a batch state and history: it parses the body (fastjson), makes a
// record of each message, does one bare raft Apply of the records, and writes the two numbers of each to VictoriaMetrics' storage
// under names that are ready made. There are no twins in it: nothing is authorized, looked up, held against a model or what was
// before, counted, or guarded.
func bareParts(apply func([]byte) error) http.Handler {
	type twin struct{ key, temperature, humidity []byte }
	twins := map[string]twin{}
	for i := range ingestTwins {
		id := fmt.Sprintf("sensor-%d", i)
		named := func(property string) []byte {
			return storage.MarshalMetricNameRaw(nil, []prompb.Label{{Name: "", Value: history.Metric}, {Name: "project", Value: "bare"},
				{Name: "twin", Value: id}, {Name: "model", Value: "sensor"}, {Name: "property", Value: property}})
		}
		twins[id] = twin{[]byte("state/default/" + id), named("temperature"), named("humidity")}
	}
	var parsers fastjson.ParserPool
	take := func(body []byte) error {
		parser := parsers.Get()
		defer parsers.Put(parser)
		all, err := parser.ParseBytes(body)
		if err != nil {
			return err
		}
		messages, err := all.Array()
		if err != nil {
			return err
		}
		now := time.Now().UnixMilli()
		rows := make([]storage.MetricRow, 0, 2*len(messages))
		var entry pebble.Batch
		defer entry.Close()
		var record []byte
		for _, m := range messages {
			t, ok := twins[string(m.GetStringBytes("twin"))]
			if !ok {
				return fmt.Errorf("no twin %s", m.GetStringBytes("twin"))
			}
			temperature, humidity := m.GetFloat64("data", "temperature"), m.GetFloat64("data", "humidity")
			record = binary.LittleEndian.AppendUint64(record[:0], uint64(now))
			record = binary.LittleEndian.AppendUint64(record, math.Float64bits(temperature))
			record = binary.LittleEndian.AppendUint64(record, math.Float64bits(humidity))
			if err := entry.Set(t.key, record, nil); err != nil {
				return err
			}
			rows = append(rows, storage.MetricRow{MetricNameRaw: t.temperature, Timestamp: now, Value: temperature},
				storage.MetricRow{MetricNameRaw: t.humidity, Timestamp: now, Value: humidity})
		}
		if err := apply(bytes.Clone(entry.Repr())); err != nil {
			return err
		}
		return vmstorage.VMInsertAPI.WriteRows(rows)
	}
	return bareIngestDoor(take)
}

// shape of a batch: so many messages, of so many twins in turn.
type shape struct{ messages, twins int }

// wide is the batch of the promise.
var wide = shape{ingestBatch, ingestBatch}

func (s shape) String() string {
	switch s.messages {
	case 1:
		return "1 message"
	case s.twins:
		return fmt.Sprintf("%d messages", s.messages)
	}
	return fmt.Sprintf("%d messages of %d twins", s.messages, s.twins)
}

// BenchmarkIngestCluster: the same on three nodes, which the clients are spread over, against a handler on the leader of three bare peers;
// each is a process of its own.
func BenchmarkIngestCluster(b *testing.B) {
	c := harness.StartCluster(b, harness.ClusterOptions{Nodes: 3, Args: []string{"--log-level", "warn"}})
	first := c.Node(0)
	models := polluxv1connect.NewModelServiceClient(&http.Client{}, first.URL, connect.WithInterceptors(harness.Bearer(first.Key)))
	if _, err := models.CreateModel(b.Context(), connect.NewRequest(&pb.CreateModelRequest{Model: &pb.Model{Id: "default/sensor", ThingJson: sensorModel}})); err != nil {
		b.Fatal(err)
	}
	createModelTwins(b, polluxv1connect.NewBulkServiceClient(&http.Client{}, first.URL, connect.WithInterceptors(harness.Bearer(first.Key))), ingestTwins)
	_, leader, peers := bareCluster(b)
	var urls []string
	var nodes []int
	for _, n := range c.Nodes() {
		urls, nodes = append(urls, n.URL+"/v1/ingest/default"), append(nodes, n.PID())
	}
	ours, floor := batches(b, wide, first.Key, urls...), batches(b, wide, "", leader+bareIngest)
	against(b, "HTTP batch ingest of 100 messages, committed on 3 nodes, 64 clients", "messages/s", 0.5,
		func() float64 { return withCPU(b, "ours", nodes, ours) }, func() float64 { return withCPU(b, "the floor's", peers, floor) })
}

// bareIngest is the path of the floor's door.
const bareIngest = "/bare"

// bareIngestDoor does one bare raft Apply of a body, and answers when that is done.
func bareIngestDoor(apply func([]byte) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = apply(body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}

// batches has the clients send batches to the URLs, one after the other each, and gives the messages a second.
func batches(b *testing.B, batch shape, key string, urls ...string) func() float64 {
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	var serial atomic.Uint64
	stored := fmt.Appendf(nil, `"stored":%d,`, batch.messages)
	return func() float64 {
		return float64(batch.messages) * perSecond(b, func(ctx context.Context, client, _ int) error {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, urls[client%len(urls)], bytes.NewReader(batch.body(serial.Add(1))))
			if err != nil {
				return err
			}
			r.Header.Set("Authorization", "Bearer "+key)
			res, err := hc.Do(r)
			if err != nil {
				return err
			}
			defer res.Body.Close()
			text, err := io.ReadAll(res.Body)
			if err == nil && (res.StatusCode != http.StatusOK || len(text) > 0 && !bytes.Contains(text, stored)) {
				err = fmt.Errorf("status %d: %.300s", res.StatusCode, text)
			}
			return err
		})
	}
}

// body is a batch for twins in a row, with values that are new.
func (s shape) body(serial uint64) []byte {
	var body bytes.Buffer
	body.WriteByte('[')
	first := rand.IntN(ingestTwins)
	for i := range s.messages {
		if i > 0 {
			body.WriteByte(',')
		}
		value := serial + uint64(i/s.twins)
		fmt.Fprintf(&body, `{"twin":"sensor-%d","data":{"temperature":%d.5,"humidity":%d}}`, (first+i%s.twins)%ingestTwins, value%1000, value%97)
	}
	body.WriteByte(']')
	return body.Bytes()
}

const sensorModel = `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Sensor","properties":{
	"temperature":{"type":"number","readOnly":true},"humidity":{"type":"number","readOnly":true}}}`

func createSensors(b *testing.B, n *pollux.Node, count int) {
	b.Helper()
	models := polluxv1connect.NewModelServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))
	if _, err := models.CreateModel(b.Context(), connect.NewRequest(&pb.CreateModelRequest{Model: &pb.Model{Id: "default/sensor", ThingJson: sensorModel}})); err != nil {
		b.Fatal(err)
	}
	createModelTwins(b, polluxv1connect.NewBulkServiceClient(n.HTTPClient(), n.URL(), keyed(b, n)), count)
}

// createModelTwins makes so many sensors, each with the alias mqtt/id/NUMBER.
func createModelTwins(b *testing.B, bulk polluxv1connect.BulkServiceClient, count int) {
	b.Helper()
	const group = 200
	for at := 0; at < count; at += group {
		r := &pb.ApplyRequest{Each: true}
		for i := at; i < min(count, at+group); i++ {
			r.Records = append(r.Records, &pb.ConfigRecord{Record: &pb.ConfigRecord_Twin{Twin: &pb.Twin{Id: fmt.Sprintf("sensor-%d", i), Model: "sensor",
				Aliases: []*pb.Alias{{Network: "mqtt", Key: "id", Value: fmt.Sprint(i)}}}}})
		}
		res, err := bulk.Apply(b.Context(), connect.NewRequest(r))
		if err != nil {
			b.Fatal(err)
		}
		for _, x := range res.Msg.Results {
			if x.Outcome != pb.ApplyOutcome_APPLY_OUTCOME_CREATED {
				b.Fatalf("%v", x)
			}
		}
	}
}
