package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// TestFullDiskOfOne fills the disk of one of three nodes under load, first of one that follows, then of the one that leads. It must end by
// itself with one clear line while the others go on; with room again it comes back, and has all that the cluster acknowledged.
func TestFullDiskOfOne(t *testing.T) {
	t.Parallel()
	dir := harness.SmallDisk(t, "256m")
	c := harness.StartCluster(t, harness.ClusterOptions{Dirs: []string{"", "", filepath.Join(dir, "data")}, Args: []string{"--disk-reserve", "0"}})
	n, small := c.Node(0), c.Node(2)
	n.AddDriver("echo")
	for d := range fullDevices {
		createEcho(t, n, device(d), map[string]any{"topic": device(d)})
	}
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	journal := publishing(ctx, t, &clients, n, 200)
	var mu sync.Mutex
	var zones []string
	title := strings.Repeat("x", 4000)
	clients.Go(func() {
		for site := n.Site(); ctx.Err() == nil; {
			id := fmt.Sprintf("z%d", time.Now().UnixNano())
			call, done := context.WithTimeout(ctx, 20*time.Second)
			_, err := site.PutZone(call, connect.NewRequest(&pb.PutZoneRequest{Zone: &pb.Zone{Id: id, Title: title}}))
			done()
			if err == nil {
				mu.Lock()
				zones = append(zones, id)
				mu.Unlock()
			}
		}
	})
	count := func() (messages, records int) {
		mu.Lock()
		defer mu.Unlock()
		return journal.Len(), len(zones)
	}
	goesOn := func(what string) {
		t.Helper()
		messages, records := count()
		harness.Until(t, time.Minute, what, func() bool { m, r := count(); return m >= messages+2*fullDevices && r >= records+20 })
	}
	for _, role := range []string{"a follower", "the leader"} {
		if role == "the leader" {
			harness.Until(t, time.Minute, "the small node leads", func() bool {
				_, _ = n.Command(t.Context(), "cluster", "transfer-leader", "n3")
				return c.Leader() == small
			})
		} else {
			harness.Until(t, time.Minute, "another node leads", func() bool {
				_, _ = n.Command(t.Context(), "cluster", "transfer-leader", "n2")
				return c.Leader() == c.Node(1)
			})
		}
		goesOn("what is sent is acknowledged before the disk is full")
		ended, code := small.Wait()
		from := len(small.Log())
		ballast := fill(t, dir, 1<<20)
		select {
		case <-ended:
		case <-time.After(2 * time.Minute):
			t.Fatalf("the disk of %s is full and it goes on", role)
		}
		checkOneLine(t, small.Log()[from:], code())
		goesOn("the others go on without " + role)
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		small.Run()
		c.Settle(time.Minute)
	}
	cancel()
	clients.Wait()
	t.Logf("%d zones and %d publishes were acknowledged", len(zones), journal.Len())
	harness.Until(t, time.Minute, "the small node has seen all", func() bool { return small.Status().Revision >= n.Status().Revision })
	checkZones(t, small, zones, title)
	for d, e := range journal.Last() {
		if got := reported(t, small, device(d)); got < e.Value {
			t.Errorf("%s has level %v, %v was acknowledged", device(d), got, e.Value)
		}
	}
	for _, each := range c.Nodes() {
		checkHistory(t, each, acknowledged(journal), began)
	}
}
