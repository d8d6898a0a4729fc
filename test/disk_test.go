package test

import (
	"context"
	"io"
	"net/http"
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

// TestDiskReserve takes the room of a small disk while devices send. What can wait has to, and hears why; configuration, commands and what is read go on; the
// node says what is the matter. With room again all goes on, and nothing that was acknowledged is lost.
func TestDiskReserve(t *testing.T) {
	t.Parallel()
	dir := harness.SmallDisk(t, "512m")
	n := harness.Start(t, harness.Options{Dir: filepath.Join(dir, "data")}) // a tenth is kept in reserve
	n.AddDriver("echo")
	for d := range fullDevices {
		createEcho(t, n, device(d), map[string]any{"topic": device(d)})
	}
	createEcho(t, n, "lamp", map[string]any{"topic": "lamp"})
	model := filepath.Join(t.TempDir(), "room.json")
	if err := os.WriteFile(model, []byte(pastModel), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("model", "create", "room", "--file", model)
	n.Must("twin", "create", "room1", "--model", "room")
	n.Must("topic", "create", "orders")
	nodes := []*harness.Node{n}
	sendRoom(t, nodes, 1)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	journal := publishing(ctx, t, &clients, n, 200)
	harness.Until(t, time.Minute, "publishes are acknowledged", func() bool { return journal.Len() >= 2*fullDevices })

	ballast := fill(t, dir, 45<<20)
	harness.Until(t, 30*time.Second, "the node says that its disk is low", func() bool {
		return strings.Contains(strings.Join(n.Status().DiskWarnings, " "), "of disk left: what arrives waits")
	})
	time.Sleep(time.Second) // what was under way just then
	before := journal.Len()
	if code, text := tell(t, n, "room1", `{"temperature":2.5,"mode":"m2"}`); code != http.StatusServiceUnavailable || !strings.Contains(text, "the disk is nearly full: node ") {
		t.Errorf("a message by HTTP: %d %s", code, text)
	}
	if got := journal.Len(); got != before {
		t.Errorf("%d publishes were acknowledged while the disk was low", got-before)
	}
	_, err := n.Topics().Publish(ctx, connect.NewRequest(&pb.PublishRequest{Topic: "orders", Messages: []*pb.TopicMessage{{Payload: []byte("x")}}}))
	if connect.CodeOf(err) != connect.CodeResourceExhausted || !strings.Contains(err.Error(), "the disk is nearly full") {
		t.Errorf("a publication: %v", err)
	}
	if _, err := n.Site().PutZone(ctx, connect.NewRequest(&pb.PutZoneRequest{Zone: &pb.Zone{Id: "z1"}})); err != nil {
		t.Errorf("configuration does not go on: %v", err)
	}
	n.Must("twin", "set", "lamp", "level", "7")
	if text := n.Must("status"); !strings.Contains(text, "of disk left") {
		t.Errorf("status says nothing of the disk:\n%s", text)
	}

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	harness.Until(t, time.Minute, "publishes are acknowledged again", func() bool { return journal.Len() >= before+2*fullDevices })
	sendRoom(t, nodes, 3)
	n.Must("topic", "publish", "orders", "x")
	cancel()
	clients.Wait()
	if warnings := n.Status().DiskWarnings; strings.Contains(strings.Join(warnings, " "), "what arrives waits") {
		t.Errorf("there is room, and the node says: %q", warnings)
	}
	for d, e := range journal.Last() {
		if got := reported(t, n, device(d)); got < e.Value {
			t.Errorf("%s has level %v, %v was acknowledged", device(d), got, e.Value)
		}
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
}

// tell sends one message to a twin, and gives the answer.
func tell(t *testing.T, n *harness.Node, twin, text string) (code int, answer string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.URL+"/v1/ingest/default/"+twin, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+n.Key)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}
