package test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polluxhq/pollux/test/harness"
)

// TestManyConnections opens more connections to a node than it may have files. It turns those away that would leave its databases none, says so, goes on meanwhile, and takes
// connections again when others have ended.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	const files, many = 400, 600
	n := harness.Start(t, harness.Options{})
	model := filepath.Join(t.TempDir(), "room.json")
	if err := os.WriteFile(model, []byte(pastModel), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("model", "create", "room", "--file", model)
	n.Must("twin", "create", "room1", "--model", "room")
	if err := unix.Prlimit(n.PID(), unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: files, Max: files}, nil); err != nil {
		t.Fatal(err)
	}
	hc := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second} // its connection stays: who is in stays in
	defer hc.CloseIdleConnections()
	send := func(seq int) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.URL+"/v1/ingest/default/room1", strings.NewReader(fmt.Sprintf(`{"temperature":%d}`, seq)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+n.Key)
		res, err := hc.Do(r)
		if err != nil {
			t.Fatalf("message %d: %v", seq, err)
		}
		defer res.Body.Close()
		if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
			t.Fatalf("message %d: %s %s %v", seq, res.Status, b, err)
		}
	}
	send(0)
	var open []net.Conn
	end := func() {
		for _, c := range open {
			_ = c.Close()
		}
		open = nil
	}
	defer end()
	for _, addr := range []string{n.MQTT, strings.TrimPrefix(n.URL, "http://")} {
		for i := range many {
			c, err := net.DialTimeout("tcp", addr, 10*time.Second)
			if err != nil {
				t.Fatalf("connection %d to %s: %v", i, addr, err)
			}
			open = append(open, c)
			if addr == n.MQTT {
				id := fmt.Sprintf("many-%03d", i)
				_, _ = c.Write(append([]byte{0x10, byte(12 + len(id)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, byte(len(id))}, id...))
			}
		}
	}
	for seq := range 20 {
		send(seq)
		time.Sleep(200 * time.Millisecond) // history and the store write files meanwhile
	}
	end()
	harness.Until(t, 30*time.Second, "the node lets others in again", func() bool {
		text, err := n.Command(t.Context(), "status")
		return err == nil && strings.Contains(text, "turned away files")
	})
	if !strings.Contains(n.Log(), "raise the limit (ulimit -n, LimitNOFILE)") {
		t.Error("the log does not say what to do")
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
}
