package sink_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors/sink"
	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// hook is a server that webhooks go to.
type hook struct {
	mu     sync.Mutex
	broken bool
	faults []string
	values map[string][]float64 // by key, as they came
	bodies map[string]string    // by what the key of a batch says of its begin
	posts  int
}

func (h *hook) fault(text string) { h.faults = append(h.faults, text) }

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.posts++
	mac := hmac.New(sha256.New, []byte("sesame"))
	mac.Write(body)
	if r.Header.Get("Pollux-Signature") != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		h.fault("a wrong signature")
	}
	first, _, _ := strings.Cut(r.Header.Get("Idempotency-Key"), "-")
	if was, ok := h.bodies[first]; ok && was != string(body) && !strings.Contains(was, "poison") {
		h.fault("another batch begins with " + first)
	}
	if h.bodies == nil {
		h.bodies = map[string]string{}
	}
	h.bodies[first] = string(body)
	if err != nil || h.broken {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
		return
	}
	var all []struct {
		Offset  uint64
		Key     string
		Payload json.RawMessage
	}
	if err := json.Unmarshal(body, &all); err != nil {
		h.fault(err.Error())
	}
	if strings.Contains(string(body), "poison") {
		http.Error(w, "no poison", http.StatusUnprocessableEntity)
		return
	}
	for _, m := range all {
		var p struct{ Value float64 }
		if err := json.Unmarshal(m.Payload, &p); err != nil {
			h.fault(err.Error())
		}
		h.values[m.Key] = append(h.values[m.Key], p.Value)
	}
}

func (h *hook) fail(broken bool) {
	h.mu.Lock()
	h.broken = broken
	h.mu.Unlock()
}

// TestWebhook: a server that is away for a while, refuses one message for good, and a sink that moves meanwhile. All else arrives, each key in
// its order, and the refused message is a dead letter.
func TestWebhook(t *testing.T) {
	r := newRig(t)
	a, b := r.host("n1"), r.host("n2")
	h := &hook{values: map[string][]float64{}, broken: true}
	server := httptest.NewServer(h)
	defer server.Close()
	r.give(a)
	r.sink(&pb.Sink{Id: "default/hook", Url: server.URL + "/in", Secret: "sesame", BatchWait: durationpb.New(20 * time.Millisecond)})
	r.rounds(0, 200)
	r.until("default/hook", "the failure shows", func(s *pb.SinkState) bool {
		return strings.Contains(s.Error, "status 503: out of order") && s.Failures > 0 && s.Node == "n1"
	})
	r.rounds(200, 100)
	// The next owner has more to deliver, and goes on with the same batch.
	r.give(b)
	r.until("default/hook", "it fails there, too", func(s *pb.SinkState) bool { return s.Failures > 0 && s.Node == "n2" })
	h.fail(false)
	r.until("default/hook", "300 are delivered", func(s *pb.SinkState) bool { return s.Delivered == 300 && s.Error == "" })
	r.publish(&pb.TopicMessage{Key: "default/t0", Payload: []byte("poison")})
	r.rounds(300, 100)
	r.give(a)
	r.rounds(400, 100)
	r.until("default/hook", "all are delivered by the other node", func(s *pb.SinkState) bool {
		return s.Position == 502 && s.Refused == 1 && s.Node == "n1"
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	for key, values := range h.values {
		last := -1.0
		seen := map[float64]bool{}
		for _, v := range values {
			if !seen[v] && v < last {
				t.Errorf("%s: %v is new, and comes after %v", key, v, last)
			}
			seen[v], last = true, max(last, v)
		}
		if len(seen) != 50 {
			t.Errorf("%s has %d values, want 50", key, len(seen))
		}
	}
	if len(h.values) != 10 || len(h.faults) > 0 {
		t.Errorf("%d keys; faults %q", len(h.values), h.faults)
	}
	p, err := r.topics.Read(t.Context(), topic.DeadOf(changes), 0, &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}, 0)
	if err != nil || len(p.Messages) != 1 || string(p.Messages[0].Payload) != "poison" ||
		!strings.Contains(p.Messages[0].Headers[topic.HeaderReason], "sink default/hook: refused by the target: status 422: no poison") {
		t.Errorf("dead letters: %v, %v", p.Messages, err)
	}
}

// TestMissed: while the target is away the topic's limits cost messages, which are counted; publishing goes on as ever.
func TestMissed(t *testing.T) {
	r := newRig(t)
	r.create(&pb.Topic{Id: changes, MaxMessages: 50})
	h := &hook{values: map[string][]float64{}, broken: true}
	server := httptest.NewServer(h)
	defer server.Close()
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/hook", Url: server.URL, Secret: "sesame", BatchMessages: 1})
	r.rounds(0, 1)
	r.until("default/hook", "the failure shows", func(s *pb.SinkState) bool { return s.Error != "" })
	for i := range 4 {
		r.rounds(1+i*100, 100)
	}
	r.until("default/hook", "it says what it loses", func(s *pb.SinkState) bool { return strings.Contains(s.Error, "have removed 3") && s.Missed == 0 })
	h.fail(false)
	r.until("default/hook", "it is at the end", func(s *pb.SinkState) bool { return s.Position == 402 })
	if s := r.state("default/hook"); s.Missed == 0 || s.Missed+s.Delivered != 401 {
		t.Errorf("missed %d, delivered %d; want 401 together, and some missed", s.Missed, s.Delivered)
	}
}

// TestDeadTargets: targets of each kind that are away hold back neither those who publish nor another sink, and say what is wrong.
func TestDeadTargets(t *testing.T) {
	r := newRig(t)
	r.create(&pb.Topic{Id: changes, MaxMessages: 200})
	h := &hook{values: map[string][]float64{}}
	server := httptest.NewServer(h)
	defer server.Close()
	if err := os.MkdirAll(filepath.Join(r.files, "default"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.files, "default", "taken"), nil, 0o600); err != nil { // a file where the directory should be
		t.Fatal(err)
	}
	port := freePort(t)
	dead := map[string]string{"hook": "http://127.0.0.1:%d/", "s3": "s3://lake?endpoint=127.0.0.1:%d&region=r&access_key=k&tls=false", "kafka": "kafka://127.0.0.1:%d/t",
		"mqtt": "mqtt://127.0.0.1:%d/t", "clickhouse": "clickhouse://127.0.0.1:%d/d/t", "mongodb": "mongodb://127.0.0.1:%d/d/t", "file": "file:taken"}
	r.give(r.host("n1"))
	for name, url := range dead {
		if strings.Contains(url, "%d") {
			url = fmt.Sprintf(url, port)
		}
		r.sink(&pb.Sink{Id: "default/" + name, Url: url, Secret: "sesame", BatchMessages: 10, BatchWait: durationpb.New(10 * time.Millisecond)})
	}
	r.sink(&pb.Sink{Id: "default/alive", Url: server.URL, Secret: "sesame", BatchWait: durationpb.New(10 * time.Millisecond)})
	for i := range 10 {
		r.rounds(i*50, 50)
		r.until("default/alive", "it has all so far", func(s *pb.SinkState) bool { return s.Delivered == uint64(i+1)*50 })
	}
	for name := range dead {
		r.until("default/"+name, "it says what is wrong", func(s *pb.SinkState) bool { return s.Error != "" && s.Failures > 0 && s.Delivered == 0 })
	}
	if s := r.state("default/alive"); s.Missed != 0 || s.Error != "" {
		t.Errorf("the one that is there: %v", s)
	}
}

// TestPausedAndChanged: a paused sink does nothing; changed, it goes on where it stood.
func TestPausedAndChanged(t *testing.T) {
	r := newRig(t)
	h := &hook{values: map[string][]float64{}}
	server := httptest.NewServer(h)
	defer server.Close()
	r.give(r.host("n1"))
	m := &pb.Sink{Id: "default/hook", Url: server.URL, Secret: "sesame", BatchWait: durationpb.New(10 * time.Millisecond)}
	r.sink(m)
	r.rounds(0, 10)
	r.until("default/hook", "10 are delivered", func(s *pb.SinkState) bool { return s.Delivered == 10 })
	m.Paused = true
	r.sink(m)
	m.Paused, m.Url = false, server.URL+"/other"
	r.rounds(10, 10)
	r.sink(m)
	r.until("default/hook", "20 are delivered", func(s *pb.SinkState) bool { return s.Delivered == 20 && s.Position == 21 })
}

// TestLargeHeaders: a batch is bounded by all that its messages have, not their payloads alone.
func TestLargeHeaders(t *testing.T) {
	r := newRig(t)
	h := &hook{values: map[string][]float64{}}
	server := httptest.NewServer(h)
	defer server.Close()
	for i := range 90 {
		m := changed(i, "1")
		m.Headers["long"] = strings.Repeat("x", 200<<10)
		r.publish(m)
	}
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/hook", Url: server.URL, Secret: "sesame", BatchMessages: 90, BatchWait: durationpb.New(time.Minute)})
	r.until("default/hook", "a batch is", func(s *pb.SinkState) bool { return s.Delivered >= 82 })
	if s := r.state("default/hook"); s.Batches != 1 || s.Delivered == 90 {
		t.Errorf("%d batches, %d messages", s.Batches, s.Delivered)
	}
}

// TestSameHost: what a secret stays for.
func TestSameHost(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"https://host/a", "https://host/b?x=1", true},
		{"https://host/a", "http://host/a", false},
		{"https://host/a", "https://host:444/a", false},
		{"s3://b/x?endpoint=h:1&access_key=k", "s3://b/y?access_key=j&endpoint=h:1", true},
		{"s3://b/x?endpoint=h:1", "s3://b/x?endpoint=h:2", false},
		{"kafka://h:1/t?sasl=scram-sha-512&user=u&tls=true", "kafka://h:1/u?tls=true&sasl=scram-sha-512&user=u", true},
		{"kafka://h:1/t?sasl=scram-sha-512&user=u&tls=true", "kafka://h:1/t?sasl=scram-sha-512&user=u", false},
		{"kafka://h:1/t?sasl=scram-sha-512&user=u&tls=true", "kafka://h:1/t?sasl=plain&user=u&tls=true", false},
		{"mongodb://h/d/c?user=u&tls=true", "mongodb://h/d/c?user=u&mechanism=PLAIN&tls=true", false},
	} {
		if got := sink.SameHost(c.a, c.b); got != c.same {
			t.Errorf("%s and %s: %v", c.a, c.b, got)
		}
	}
}

func TestCheck(t *testing.T) {
	for url, want := range map[string]string{
		"ftp://a":                                  "the scheme \"ftp\" is none of a sink's",
		"https://":                                 "names no host",
		"https://u:p@host/":                        "a password does not belong in the URL",
		"file:../up":                               "want file:NAME",
		"file:///etc":                              "want file:NAME",
		"file:lake?x=1":                            "file has no parameter",
		"s3:///x":                                  "want s3://BUCKET",
		"s3://b?tls=no":                            "tls is true or false",
		"s3://b?secret=x":                          "s3 has no parameter",
		"kafka://host/topic":                       "is no HOST:PORT",
		"kafka://host:1/":                          "is no topic of Kafka",
		"kafka://host:1/t?sasl=gssapi":             "sasl is plain",
		"mqtt://host/a/#":                          "",
		"mqtt://host/a/+":                          "has a wildcard",
		"mqtt://host?qos=3":                        "qos is 0, 1 or 2",
		"clickhouse://host/table":                  "want clickhouse://",
		"mongodb://host/db":                        "want mongodb://",
		"mongodb://host/db/$c":                     "want mongodb://",
		"mongodb://a:1,b:2/db/c.d?replica_set=r":   "",
		"mongodb+srv://host/db/c?tls=maybe":        "tls is true or false",
		"clickhouse://host/db/t;drop":              "want clickhouse://",
		"clickhouse://host:8123/db/t?user=x":       "",
		"kafka://a:1,b:2/t?sasl=plain&user=u":      "",
		"s3://b/p?endpoint=127.0.0.1:1&tls=false":  "",
		"https://example.com/in?anything=is-their": "",
		"file:lake":                                "",
		"mqtts://host:8883/prefix?user=u&qos=2":    "",
	} {
		err := sink.Check(url)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", url, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
}
