package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
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
	n := openNode(b)
	key, err := os.ReadFile(pollux.AdminKeyFile(n.Config().Data))
	if err != nil {
		b.Fatal(err)
	}
	createSensors(b, n)
	floor := bareRaft(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	bare := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = floor(body)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})}
	go bare.Serve(l) //nolint:errcheck // it ends with the benchmark
	b.Cleanup(func() { bare.Close() })
	hc := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	var serial atomic.Uint64
	send := func(url string) func() float64 {
		return func() float64 {
			return ingestBatch * perSecond(b, func(ctx context.Context, _, _ int) error {
				r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(ingestBody(serial.Add(1))))
				if err != nil {
					return err
				}
				r.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(key)))
				res, err := hc.Do(r)
				if err != nil {
					return err
				}
				defer res.Body.Close()
				text, err := io.ReadAll(res.Body)
				if err == nil && (res.StatusCode != http.StatusOK || len(text) > 0 && !bytes.Contains(text, []byte(`"stored":100,`))) {
					err = fmt.Errorf("status %d: %.300s", res.StatusCode, text)
				}
				return err
			})
		}
	}
	against(b, "HTTP batch ingest of 100 messages, committed, 64 clients", "messages/s", 0.5,
		send(n.URL()+"/v1/ingest/default"), send("http://"+l.Addr().String()))
}

// ingestBody is a batch for twins in a row, with values that are new.
func ingestBody(serial uint64) []byte {
	var body bytes.Buffer
	body.WriteByte('[')
	first := rand.IntN(ingestTwins)
	for i := range ingestBatch {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"twin":"sensor-%d","data":{"temperature":%d.5,"humidity":%d}}`, (first+i)%ingestTwins, serial%1000, serial%97)
	}
	body.WriteByte(']')
	return body.Bytes()
}

func createSensors(b *testing.B, n *pollux.Node) {
	b.Helper()
	models := polluxv1connect.NewModelServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))
	thing := `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Sensor","properties":{
		"temperature":{"type":"number","readOnly":true},"humidity":{"type":"number","readOnly":true}}}`
	if _, err := models.CreateModel(b.Context(), connect.NewRequest(&pb.CreateModelRequest{Model: &pb.Model{Id: "default/sensor", ThingJson: thing}})); err != nil {
		b.Fatal(err)
	}
	twins := twinsOf(b, n)
	for i := range ingestTwins {
		t := &pb.Twin{Id: fmt.Sprintf("default/sensor-%d", i), Model: "default/sensor"}
		if _, err := twins.CreateTwin(b.Context(), connect.NewRequest(&pb.CreateTwinRequest{Twin: t})); err != nil {
			b.Fatal(err)
		}
	}
}
