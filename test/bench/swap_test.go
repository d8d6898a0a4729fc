package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/test/harness"
)

const (
	swapRate  = 5000 // calls a second
	swapSpan  = 9 * time.Second
	swapWarm  = time.Second     // until twins are active and connections open
	swapCalm  = 3 * time.Second // before the upload, the first second among it
	swapAfter = 2 * time.Second // behind the end of the upload
)

// BenchmarkSwap: 1,000 twins are called 5,000 times a second while a new version of their driver is uploaded and they go over
// to it. Against the same calls before the upload.
func BenchmarkSwap(b *testing.B) {
	n := openNode(b)
	ids := createTwins(b, n, 1000)
	twins, uploads := twinsOf(b, n), polluxv1connect.NewDriverServiceClient(n.HTTPClient(), n.URL(), keyed(b, n))
	next := renumbered(b, harness.BuildDriver(b, "echo"), "99.0.0")
	var mu sync.Mutex
	var calls []timedCall
	var wg sync.WaitGroup
	began := time.Now()
	for c := range clients {
		wg.Go(func() {
			mine := paced(b, twins, ids, c, began)
			mu.Lock()
			calls = append(calls, mine...)
			mu.Unlock()
		})
	}
	time.Sleep(swapCalm)
	from := time.Since(began)
	if _, err := uploads.UploadDriver(b.Context(), connect.NewRequest(&pb.UploadDriverRequest{File: next})); err != nil {
		b.Fatal(err)
	}
	to := min(time.Since(began)+swapAfter, swapSpan)
	wg.Wait()
	failed := 0
	for _, c := range calls {
		if c.failed {
			failed++
		}
	}
	d, err := uploads.GetDriver(b.Context(), connect.NewRequest(&pb.GetDriverRequest{Name: "echo"}))
	if err != nil || d.Msg.Driver.Version != "99.0.0" || d.Msg.Driver.Twins != uint64(len(ids)) {
		b.Fatalf("the twins did not go over: %v, %v", d, err)
	}
	calm, swap := p99(calls, swapWarm, from), p99(calls, from, to)
	rate := float64(len(calls)) / swapSpan.Seconds()
	report(b, Line{Name: fmt.Sprintf("swap of 1,000 twins' driver under %.0f calls/s, %d failed: p99", rate, failed), Unit: "ms", Ours: swap, Floor: calm,
		Goal: "0 failed, p99 <= 50 ms", Met: failed == 0 && swap <= 50})
	if failed > 0 {
		b.Errorf("%d calls failed", failed)
	}
}

// timedCall is a call that was made: when it should have begun, and how long it took from then.
type timedCall struct {
	at, took time.Duration
	failed   bool
}

// paced makes a client's part of the calls, each at its time, or as soon as the one before is over.
func paced(b *testing.B, twins polluxv1connect.TwinServiceClient, ids []string, client int, began time.Time) []timedCall {
	const every = time.Second * clients / swapRate
	var out []timedCall
	for at := every * time.Duration(client) / clients; at < swapSpan; at += every {
		time.Sleep(time.Until(began.Add(at)))
		_, err := twins.Invoke(b.Context(), connect.NewRequest(&pb.InvokeRequest{Id: ids[(client*131+len(out))%len(ids)], Action: "echo"}))
		out = append(out, timedCall{at, time.Since(began) - at, err != nil})
	}
	return out
}

// p99 of the calls that were to begin within a stretch of time, in milliseconds.
func p99(calls []timedCall, from, to time.Duration) float64 {
	var took []time.Duration
	for _, c := range calls {
		if from <= c.at && c.at < to {
			took = append(took, c.took)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[len(took)*99/100].Seconds() * 1000
}

// renumbered is the same driver with another version.
func renumbered(b *testing.B, file []byte, version string) []byte {
	b.Helper()
	text, err := drivers.ReadManifest(file)
	if err != nil {
		b.Fatal(err)
	}
	var m map[string]any
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(&m); err != nil {
		b.Fatal(err)
	}
	m["version"] = version
	if text, err = json.Marshal(m); err != nil {
		b.Fatal(err)
	}
	out, err := drivers.AppendManifest(file, text)
	if err != nil {
		b.Fatal(err)
	}
	return out
}
