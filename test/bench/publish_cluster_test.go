package main

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/load"
)

// BenchmarkPublishCluster: messages of 10,000 devices over 51 connections, which three nodes share, to twins with a model, until state and samples are
// committed. QoS 0 is sent without a bound. It is reported: mochi-mqtt alone, with an empty hook, is one process and keeps nothing.
func BenchmarkPublishCluster(b *testing.B) {
	const devices, connections = 9_999, 51
	c := harness.StartCluster(b, harness.ClusterOptions{Nodes: 3, Args: []string{"--log-level", "warn"}})
	first := c.Node(0)
	key := connect.WithInterceptors(harness.Bearer(first.Key))
	models := polluxv1connect.NewModelServiceClient(&http.Client{}, first.URL, key)
	if _, err := models.CreateModel(b.Context(), connect.NewRequest(&pb.CreateModelRequest{Model: &pb.Model{Id: "default/sensor", ThingJson: sensorModel}})); err != nil {
		b.Fatal(err)
	}
	createModelTwins(b, polluxv1connect.NewBulkServiceClient(&http.Client{}, first.URL, key), devices)
	hook := &emptyHook{}
	mochi := bareMochi(b, hook)
	ours := make([]string, 0, 3)
	for _, n := range c.Nodes() {
		ours = append(ours, n.MQTT)
	}
	floor := []string{mochi, mochi, mochi}
	run := func(addrs []string, qos byte, messages uint64) (all load.Report) {
		ctx, cancel := context.WithCancel(b.Context())
		defer cancel()
		if messages == 0 {
			defer time.AfterFunc(2*span, cancel).Stop()
		}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i, addr := range addrs {
			wg.Go(func() {
				r, err := load.Run(ctx, load.Options{Addr: addr, Prefix: "bench-" + strconv.Itoa(i), QoS: qos, Messages: messages, Drain: 30 * time.Second,
					Devices: devices / len(addrs), Connections: connections / len(addrs),
					Topic: func(d int) string { return "default/mqtt/id/" + strconv.Itoa(d*len(addrs)+i) },
					Payload: func(dst []byte, _ int, _ uint64, v float64) []byte {
						return append(strconv.AppendFloat(append(dst, `{"humidity":40,"temperature":`...), v, 'f', -1, 64), '}')
					},
					Credentials: func(int) (string, string) { return "admin", first.Key }})
				if err != nil || r.Acked == 0 || r.Losses > 0 || r.OutOfOrder > 0 {
					b.Errorf("not a clean run: %+v, %v", r, err)
				}
				mu.Lock()
				defer mu.Unlock()
				all.Sent, all.Acked, all.Duration = all.Sent+r.Sent, all.Acked+r.Acked, max(all.Duration, r.Duration)
			})
		}
		wg.Wait()
		return all
	}
	ingests := polluxv1connect.NewIngestServiceClient(&http.Client{}, first.URL, key)
	stored := func() uint64 {
		res, err := ingests.GetIngestStatus(b.Context(), connect.NewRequest(&pb.GetIngestStatusRequest{Project: "default", Fresh: true}))
		if err != nil {
			b.Fatal(err)
		}
		for _, x := range res.Msg.Counts {
			if x.Door == "mqtt" {
				return x.Stored
			}
		}
		return 0
	}
	run(ours, 1, devices/3) // every twin is in memory
	acked := func(addrs []string) func() float64 {
		return func() float64 { r := run(addrs, 1, 0); return r.PerSecond() }
	}
	beside(b, "MQTT QoS 1 to committed state and samples on 3 nodes, 10,000 devices", "messages/s", acked(ours), acked(floor))
	beside(b, "MQTT QoS 0 to committed state and samples on 3 nodes, 10,000 devices", "messages/s",
		func() float64 { return arriving(b, stored, func() uint64 { return run(ours, 0, 0).Sent }) },
		func() float64 { return arriving(b, hook.seen.Load, func() uint64 { return run(floor, 0, 0).Sent }) })
}
