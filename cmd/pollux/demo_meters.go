package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// meterThing is the model of the demo's meters, which have no driver: it says where in a message a property is, and in which unit.
const meterThing = `{"@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel", "title": "Energy meter",
	"properties": {
		"power": {"type": "number", "unit": "W", "readOnly": true, "pollux:path": "p.kw", "pollux:unit": "kW", "pollux:deadband": 5, "pollux:stale": 30},
		"energy": {"type": "number", "unit": "kW.h", "readOnly": true, "pollux:path": "total", "pollux:unit": "W.h"},
		"phase": {"type": "integer", "readOnly": true, "minimum": 1, "maximum": 3}}}`

// demoMeters are the levels' meters by the numbers that they call themselves. The last one is nobody's twin: it is for the inbox.
var demoMeters = []struct{ number, level string }{{"70b3d500", "ground"}, {"70b3d501", "upper"}, {"70b3d502", ""}}

// startMeters makes the meters' model and twins, and has them send to the node over HTTP.
func (d *demoSite) startMeters(ctx context.Context, devices *demoDevices, node demoNode) (string, error) {
	models := polluxv1connect.NewModelServiceClient(node.client, d.url)
	_, err := models.CreateModel(ctx, connect.NewRequest(&pb.CreateModelRequest{Model: &pb.Model{Id: demoProject + "/meter", ThingJson: meterThing}}))
	if err != nil && !kept(err) {
		return "", fmt.Errorf("model meter: %w", err)
	}
	for i, m := range demoMeters {
		if m.level != "" {
			t := &pb.Twin{Id: demoProject + "/" + m.level + "-meter", Model: demoProject + "/meter", Zone: demoProject + "/" + m.level,
				Labels: map[string]string{"floor": m.level}, Aliases: []*pb.Alias{{Network: "meters", Key: "number", Value: m.number}}}
			if _, err := d.ensureTwin(ctx, t); err != nil {
				return "", fmt.Errorf("twin %s: %w", t.Id, err)
			}
		}
		sim := &demoMeter{client: node.client, url: d.url + "/v1/ingest/" + demoProject + "/meters/number/" + url.PathEscape(m.number), log: devices.log,
			random: rand.New(rand.NewPCG(uint64(i), 7)), total: 1e6 * float64(i+1)}
		devices.run(ctx, sim.run)
	}
	return fmt.Sprintf("%d meters without a driver, over HTTP; one of them is in the inbox", len(demoMeters)), nil
}

// demoMeter is a meter that sends what it measures, and does not mind whether it is heard.
type demoMeter struct {
	client *http.Client
	url    string
	log    io.Writer
	random *rand.Rand
	total  float64 // Wh
}

// meterPeriod is how often a meter sends.
const meterPeriod = 2 * time.Second

func (m *demoMeter) run(ctx context.Context) error {
	tick := time.NewTicker(meterPeriod)
	defer tick.Stop()
	for n := 0; ; n++ {
		kw := 2 + math.Sin(float64(n)/40) + m.random.Float64()/5
		m.total += kw * 1000 * meterPeriod.Hours()
		body, err := json.Marshal(map[string]any{"p": map[string]any{"kw": kw}, "total": math.Round(m.total), "phase": 3})
		if err != nil {
			return fmt.Errorf("meter: %w", err)
		}
		if err := m.send(ctx, body); err != nil && ctx.Err() == nil {
			fmt.Fprintf(m.log, "meter: %v\n", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (m *demoMeter) send(ctx context.Context, body []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	res, err := m.client.Do(r)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err == nil && res.StatusCode >= 300 {
		err = fmt.Errorf("%s: %s", res.Status, answer)
	}
	return err
}
