package main

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

const (
	chartTwins = 100
	// chartSamples are a day of samples, one each chartEvery.
	chartEvery   = 15 * time.Second
	chartSamples = int(24 * time.Hour / chartEvery)
	chartStep    = time.Minute
)

// BenchmarkQueryHistory: a day of 100 twins in steps of a minute, over HTTP, against the API of the same VictoriaMetrics: its
// query_range of the same samples, through the same server, by the same client. Ours gives each step's average of exactly the
// samples in it, whatever the twin's model was, with units. Once with one query for all twins, and once with a query for each. Both
// sides' answers are read to their end, and neither is decoded or compressed.
func BenchmarkQueryHistory(b *testing.B) {
	n := openNode(b)
	end := time.Now().Truncate(chartStep)
	fillDay(b, n, end)
	c := &charts{b: b, n: n, end: end, start: end.Add(-24*time.Hour + chartStep), key: adminKey(b, n), client: n.HTTPClient(),
		history: polluxv1connect.NewHistoryServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))}
	for deadline := time.Now().Add(time.Minute); c.ofAll() < chartTwins*1440; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.Fatalf("history has %d of %d points", c.ofAll(), chartTwins*1440)
		}
	}
	together := fmt.Sprintf(`avg_over_time(pollux_property{project="default",property="temperature",twin=~"sensor-.*"}[%s])`, chartStep)
	slower(b, "QueryHistory: 24 h at 1 min of 100 twins, one query", 1.2, func() {
		c.ours(polluxv1connect.HistoryServiceQuerySeriesProcedure, c.series(), chartTwins*1440*8)
	}, func() { c.bare(together) })
	slower(b, "QueryHistory: 24 h at 1 min of 100 twins, a query for each", 1.2, func() {
		for i := range chartTwins {
			c.ours(polluxv1connect.TwinServiceQueryHistoryProcedure, &pb.QueryHistoryRequest{Id: fmt.Sprintf("default/sensor-%d", i), Property: "temperature",
				Start: timestamppb.New(c.start), End: timestamppb.New(c.end), Step: durationpb.New(chartStep)}, 1440*8)
		}
	}, func() {
		for i := range chartTwins {
			c.bare(fmt.Sprintf(`avg_over_time(pollux_property{project="default",property="temperature",twin="sensor-%d"}[%s])`, i, chartStep))
		}
	})
}

// slower measures ours and the floor in turn, a few times after one that does not count, and reports the medians in milliseconds.
func slower(b *testing.B, name string, most float64, ours, floor func()) {
	b.Helper()
	took := func(f func()) float64 {
		began := time.Now()
		f()
		return float64(time.Since(began).Microseconds()) / 1000
	}
	ours()
	floor()
	var o, f []float64
	for range 15 {
		f = append(f, took(floor))
		o = append(o, took(ours))
	}
	l := Line{Name: name, Unit: "ms", Ours: median(o), Floor: median(f), Goal: fmt.Sprintf("ratio <= %.1f", most)}
	l.Met = l.Ours/l.Floor <= most
	report(b, l)
}

type charts struct {
	b          *testing.B
	n          *pollux.Node
	start, end time.Time
	history    polluxv1connect.HistoryServiceClient
	key        string
	client     *http.Client
}

func (c *charts) series() *pb.QuerySeriesRequest {
	return &pb.QuerySeriesRequest{Filter: &pb.TwinFilter{Project: "default"}, Property: "temperature",
		Start: timestamppb.New(c.start), End: timestamppb.New(c.end), Step: durationpb.New(chartStep), PageSize: chartTwins}
}

// ofAll gives how many steps have a value.
func (c *charts) ofAll() (points int) {
	res, err := c.history.QuerySeries(c.b.Context(), request(c.series()))
	if err != nil {
		c.b.Fatal(err)
	}
	for _, s := range res.Msg.Series {
		for _, v := range s.Values {
			if !math.IsNaN(v) {
				points++
			}
		}
	}
	return points
}

// ours asks a procedure, whose answer has at least so many bytes.
func (c *charts) ours(procedure string, m proto.Message, least int) {
	body, err := proto.Marshal(m)
	if err != nil {
		c.b.Fatal(err)
	}
	if text := c.post(procedure, "application/proto", body); len(text) < least {
		c.b.Fatalf("%d bytes, want %d at least", len(text), least)
	}
}

// bare asks VictoriaMetrics.
func (c *charts) bare(query string) {
	form := url.Values{"query": {query}, "start": {fmt.Sprint(c.start.Unix())}, "end": {fmt.Sprint(c.end.Unix())}, "step": {chartStep.String()}, "nocache": {"1"}}
	if text := c.post("/victoria/api/v1/query_range", "application/x-www-form-urlencoded", []byte(form.Encode())); !bytes.Contains(text, []byte(`"sensor-`)) {
		c.b.Fatalf("%.300s", text)
	}
}

func (c *charts) post(path, kind string, body []byte) []byte {
	r, err := http.NewRequestWithContext(c.b.Context(), http.MethodPost, c.n.URL()+path, bytes.NewReader(body))
	if err != nil {
		c.b.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("Authorization", "Bearer "+c.key)
	r.Header.Set("Accept-Encoding", "identity")
	res, err := c.client.Do(r)
	if err != nil {
		c.b.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		c.b.Fatalf("%s: status %d: %.300s: %v", path, res.StatusCode, text, err)
	}
	return text
}

func adminKey(b *testing.B, n *pollux.Node) string {
	b.Helper()
	key, err := os.ReadFile(pollux.AdminKeyFile(n.Config().Data))
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(string(key))
}

// fillDay makes the twins and brings a day of samples by the way that devices take.
func fillDay(b *testing.B, n *pollux.Node, end time.Time) {
	b.Helper()
	models := polluxv1connect.NewModelServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))
	thing := `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Sensor","properties":{
		"temperature":{"type":"number","unit":"Cel","readOnly":true}}}`
	if _, err := models.CreateModel(b.Context(), request(&pb.CreateModelRequest{Model: &pb.Model{Id: "default/sensor", ThingJson: thing}})); err != nil {
		b.Fatal(err)
	}
	twins := twinsOf(b, n)
	ingest := polluxv1connect.NewIngestServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))
	var wg sync.WaitGroup
	for c := range 4 {
		wg.Go(func() {
			for i := c; i < chartTwins; i += 4 {
				name := fmt.Sprintf("sensor-%d", i)
				if _, err := twins.CreateTwin(b.Context(), request(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: "default/" + name, Model: "default/sensor"}})); err != nil {
					b.Error(err)
					return
				}
				for at := 0; at < chartSamples; at += 480 {
					r := &pb.IngestRequest{Project: "default"}
					for k := at; k < at+480; k++ {
						r.Messages = append(r.Messages, &pb.IngestMessage{Twin: name, Historical: true, Time: timestamppb.New(end.Add(-time.Duration(chartSamples-1-k) * chartEvery)),
							Payload: fmt.Appendf(nil, `{"temperature":%d.%d}`, 15+(k/240)%10, (k+i)%100)})
					}
					res, err := ingest.Ingest(b.Context(), request(r))
					if err != nil || res.Msg.Stored != 480 {
						b.Errorf("%v: %v", res, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
}
