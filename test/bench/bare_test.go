package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/test/harness"
)

// bareCluster starts three processes of this test's binary: a Connect handler over bare raft and Pebble each. It gives a
// client of the one that leads, and the processes.
func bareCluster(b *testing.B) (leads polluxv1connect.TwinServiceClient, url string, pids []int) {
	b.Helper()
	dir := b.TempDir()
	var addrs []string
	for range 6 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
		l.Close()
	}
	var outs []string
	for i := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestBarePeer$", "-test.timeout=30m")
		outs = append(outs, filepath.Join(dir, fmt.Sprintf("leads-%d", i)))
		cmd.Env = append(os.Environ(), fmt.Sprintf("BARE_PEER=%d %s %s %s", i, filepath.Join(dir, fmt.Sprint(i)), outs[i], strings.Join(addrs, " ")))
		cmd.SysProcAttr = harness.ChildAttributes()
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		pids = append(pids, cmd.Process.Pid)
		b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	}
	leader := -1
	harness.Until(b, 30*time.Second, "a bare peer leads", func() bool {
		for i, f := range outs {
			if _, err := os.Stat(f); err == nil {
				leader = i
			}
		}
		return leader >= 0
	})
	url = "http://" + addrs[3+leader]
	return polluxv1connect.NewTwinServiceClient(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}, url), url, pids
}

// TestBarePeer is no test: it is a process of bareCluster.
func TestBarePeer(t *testing.T) {
	order := strings.Fields(os.Getenv("BARE_PEER"))
	if len(order) == 0 {
		t.Skip("only as a peer of BenchmarkSetDesiredCluster")
	}
	at, dir, leads, addrs := int(order[0][0]-'0'), order[1], order[2], order[3:]
	s, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "log"), DiscardSamples: true, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	db, err := pebble.Open(filepath.Join(dir, "state"), &pebble.Options{Logger: quietPebble{}})
	if err != nil {
		t.Fatal(err)
	}
	trans, err := raft.NewTCPTransportWithLogger(addrs[at], nil, 3, 10*time.Second, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(fmt.Sprint(at))
	c.Logger = hclog.NewNullLogger()
	c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 250*time.Millisecond
	c.MaxAppendEntries, c.BatchApplyCh, c.SnapshotThreshold = 256, true, 1<<40
	snaps := raft.NewInmemSnapshotStore()
	if at == 0 {
		var servers []raft.Server
		for i := range 3 {
			servers = append(servers, raft.Server{ID: raft.ServerID(fmt.Sprint(i)), Address: raft.ServerAddress(addrs[i])})
		}
		if err := raft.BootstrapCluster(c, s.LogStore(), s.StableStore(), snaps, trans, raft.Configuration{Servers: servers}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := raft.NewRaft(c, putFSM{db}, s.LogStore(), s.StableStore(), snaps, trans)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for lead := range r.LeaderCh() {
			if lead {
				_ = os.WriteFile(leads, nil, 0o600)
			} else {
				_ = os.Remove(leads)
			}
		}
	}()
	mux := http.NewServeMux()
	mux.Handle("POST "+bareIngest, bareIngestDoor(func(body []byte) error { return r.Apply(body, 10*time.Second).Error() }))
	mux.Handle(polluxv1connect.NewTwinServiceHandler(bare{apply: func(entry []byte) error { return r.Apply(entry, 10*time.Second).Error() }}))
	t.Fatal(http.ListenAndServe(addrs[3+at], mux))
}

type quietPebble struct{}

func (quietPebble) Infof(string, ...any)  {}
func (quietPebble) Errorf(string, ...any) {}
func (quietPebble) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}
