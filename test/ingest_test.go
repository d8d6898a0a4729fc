package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// ingestSender sends numbered messages of one kind, each again and again until it is told what became of it.
type ingestSender struct {
	path, want string // what becomes of each of its messages
	body       func(seq int) string
	attempts   int
	wrong      []string
}

// run sends until stop is closed, and then says how many messages there were.
func (s *ingestSender) run(n *harness.Node, stop <-chan struct{}) (sent int) {
	hc := &http.Client{Timeout: 20 * time.Second}
	for {
		select {
		case <-stop:
			return sent
		default:
		}
		sent++
		deadline := time.Now().Add(2 * time.Minute)
		for !s.send(hc, n, sent) {
			if time.Now().After(deadline) {
				s.wrong = append(s.wrong, fmt.Sprintf("message %d: no answer", sent))
				return sent
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
}

// send makes one attempt, and says whether the message has its result.
func (s *ingestSender) send(hc *http.Client, n *harness.Node, seq int) bool {
	s.attempts++
	r, err := http.NewRequest(http.MethodPost, n.URL+"/v1/ingest/default/"+s.path, bytes.NewReader([]byte(s.body(seq))))
	if err != nil {
		s.wrong = append(s.wrong, err.Error())
		return true
	}
	r.Header.Set("Authorization", "Bearer "+n.Key)
	r.Header.Set("X-Message-Id", fmt.Sprintf("%s-%d", s.path, seq))
	res, err := hc.Do(r)
	if err != nil {
		return false // the node is down, or went down meanwhile
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode == http.StatusServiceUnavailable || res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500 {
		return false
	}
	var a struct {
		Stored, Refused, Inbox, Duplicate, Retry int
	}
	if err := json.Unmarshal(b, &a); err != nil {
		s.wrong = append(s.wrong, fmt.Sprintf("status %d: %s", res.StatusCode, b))
		return true
	}
	got := map[string]int{"stored": a.Stored, "refused": a.Refused, "inbox": a.Inbox}
	if got[s.want]+a.Duplicate != 1 || a.Stored+a.Refused+a.Inbox+a.Duplicate != 1 {
		s.wrong = append(s.wrong, fmt.Sprintf("status %d: %s", res.StatusCode, b))
	}
	return true
}

// TestIngestCountsAreExact sends messages of all kinds to a node that is killed again and again. In the end what was sent
// equals what is stored, refused and in the inbox, each message once, although many were sent twice.
func TestIngestCountsAreExact(t *testing.T) {
	t.Parallel()
	kills := 6
	if testing.Short() {
		kills = 2
	}
	n := harness.Start(t, harness.Options{})
	n.AddDriver("echo")
	const devices = 6
	var all []*ingestSender
	for i := range devices {
		createEcho(t, n, device(i), map[string]any{"topic": device(i)})
		all = append(all, &ingestSender{path: device(i), want: "stored", body: func(seq int) string { return fmt.Sprintf(`{"level":%d}`, seq) }})
	}
	createEcho(t, n, "off", map[string]any{"topic": "off"})
	stopTwin(t, n, "off")
	all = append(all,
		&ingestSender{path: "off", want: "refused", body: func(seq int) string { return fmt.Sprintf(`{"level":%d}`, seq) }},
		&ingestSender{path: "lora/eui/1", want: "inbox", body: func(seq int) string { return fmt.Sprintf(`{"level":%d}`, seq) }},
		&ingestSender{path: "lora/eui/2", want: "inbox", body: func(int) string { return `{}` }},
		&ingestSender{path: device(0), want: "refused", body: func(int) string { return `{"level":` }})
	malformed := all[len(all)-1]

	stop := make(chan struct{})
	sent := make([]int, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() { sent[i] = s.run(n, stop) })
	}
	for range kills {
		time.Sleep(1500 * time.Millisecond) // of load
		n.Kill()
		n.Run()
	}
	time.Sleep(500 * time.Millisecond)
	close(stop)
	wg.Wait()

	want := map[string]int{}
	for i, s := range all {
		for _, w := range s.wrong {
			t.Errorf("%s: %s", s.path, w)
		}
		if s != malformed {
			want[s.want] += sent[i]
		}
		if sent[i] == 0 {
			t.Errorf("%s sent nothing", s.path)
		}
	}
	res, err := n.Ingests().GetIngestStatus(t.Context(), connect.NewRequest(&pb.GetIngestStatusRequest{Project: "default", Fresh: true}))
	if err != nil || len(res.Msg.Counts) != 1 {
		t.Fatalf("status %v, %v", res, err)
	}
	c := res.Msg.Counts[0]
	t.Logf("sent %v, malformed %d in %d attempts; counted %v", want, sent[len(all)-1], malformed.attempts, c)
	// A malformed message has no twin that would know its id: it counts once or more, and at most as often as it was sent.
	refused := int(c.Refused) - want["refused"]
	if int(c.Stored) != want["stored"] || int(c.Inbox) != want["inbox"] || refused < sent[len(all)-1] || refused > malformed.attempts ||
		c.InFlight != 0 || c.Received != c.Stored+c.Refused+c.Inbox+c.Duplicate {
		t.Errorf("sent %v and %d malformed ones in %d attempts; counted %v", want, sent[len(all)-1], malformed.attempts, c)
	}
	for i := range devices {
		if got := reported(t, n, device(i)); got != float64(sent[i]) {
			t.Errorf("%s has the level %v, its last message said %d", device(i), got, sent[i])
		}
	}
}

func stopTwin(t *testing.T, n *harness.Node, id string) {
	t.Helper()
	res, err := n.Twins().GetTwin(t.Context(), connect.NewRequest(&pb.GetTwinRequest{Id: id}))
	if err != nil {
		t.Fatal(err)
	}
	res.Msg.Twin.Stopped = true
	if _, err := n.Twins().UpdateTwin(t.Context(), connect.NewRequest(&pb.UpdateTwinRequest{Twin: res.Msg.Twin})); err != nil {
		t.Fatal(err)
	}
}
