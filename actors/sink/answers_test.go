package sink_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	server "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// soon is how long a batch of these tests waits.
var soon = durationpb.New(10 * time.Millisecond)

// serve gives the address of a server.
func serve(t *testing.T, fn http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(fn)
	t.Cleanup(s.Close)
	return s.URL
}

// TestRedirects: a redirect is no delivery, whatever the other place says to a GET; and it gets neither the batch nor the password.
func TestRedirects(t *testing.T) {
	r := newRig(t)
	var mu sync.Mutex
	var elsewhere []string
	status, got := http.StatusFound, 0
	other := serve(t, func(_ http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		elsewhere = append(elsewhere, req.Method+" "+req.URL.Path)
	})
	door := serve(t, func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if status != http.StatusOK {
			http.Redirect(w, req, other+"/login", status)
			return
		}
		got++
	})
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/hook", Url: door, BatchWait: soon})
	r.sink(&pb.Sink{Id: "default/rows", Url: strings.Replace(door, "http:", "clickhouse:", 1) + "/d/t?user=u", Secret: "sesame", BatchWait: soon})
	r.rounds(0, 10)
	for _, id := range []string{"default/hook", "default/rows"} {
		r.until(id, "the redirect shows", func(s *pb.SinkState) bool {
			return strings.Contains(s.Error, "status 302") && strings.Contains(s.Error, "/login")
		})
	}
	mu.Lock()
	status = http.StatusTemporaryRedirect
	mu.Unlock()
	for _, id := range []string{"default/hook", "default/rows"} {
		r.until(id, "the other one, too", func(s *pb.SinkState) bool { return strings.Contains(s.Error, "status 307") && s.Delivered == 0 })
	}
	mu.Lock()
	status = http.StatusOK
	mu.Unlock()
	r.until("default/hook", "all are delivered", func(s *pb.SinkState) bool { return s.Delivered == 10 && s.Error == "" })
	mu.Lock()
	defer mu.Unlock()
	if len(elsewhere) > 0 || got == 0 {
		t.Errorf("%d batches came, and elsewhere %q", got, elsewhere)
	}
}

// TestRetryAfter: who says when it may be tried again is not asked before.
func TestRetryAfter(t *testing.T) {
	r := newRig(t)
	var mu sync.Mutex
	var posts []time.Time
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if posts = append(posts, time.Now()); len(posts) == 1 {
			w.Header().Set("Retry-After", "2")
			http.Error(w, "slowly", http.StatusTooManyRequests)
		}
	})
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/hook", Url: url, BatchWait: soon})
	r.rounds(0, 1)
	r.until("default/hook", "it is delivered", func(s *pb.SinkState) bool { return s.Delivered == 1 })
	mu.Lock()
	defer mu.Unlock()
	if len(posts) != 2 || posts[1].Sub(posts[0]) < 2*time.Second {
		t.Errorf("tried at %v", posts)
	}
}

// TestErrorsShow: what another system says is in the sink's state also where it is no UTF-8 when it is cut; and what it says while it is opened, as
// ClickHouse's other port does, is no refusal of a message.
func TestErrorsShow(t *testing.T) {
	r := newRig(t)
	r.give(r.host("n1"))
	long := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(w, "x"+strings.Repeat("ä", 400))
	})
	port := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Port 9000 is for clickhouse-client program", http.StatusBadRequest)
	})
	r.sink(&pb.Sink{Id: "default/long", Url: long, BatchWait: soon})
	r.sink(&pb.Sink{Id: "default/port", Url: strings.Replace(port, "http:", "clickhouse:", 1) + "/d/t", BatchWait: soon})
	r.rounds(0, 10)
	r.until("default/long", "the failure shows", func(s *pb.SinkState) bool { return strings.Contains(s.Error, "status 500: xää") && s.Failures > 0 })
	r.until("default/port", "the wrong port shows", func(s *pb.SinkState) bool {
		return strings.Contains(s.Error, "Port 9000 is for") && s.Failures > 1 && s.Refused == 0
	})
}

// TestKafkaAllowsLater: a producer that was not allowed goes on when it is.
func TestKafkaAllowsLater(t *testing.T) {
	r := newRig(t)
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "twins"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	denied := make(chan struct{})
	k.ControlKey(int16(kmsg.InitProducerID), func(q kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-denied:
			return nil, nil, false
		default:
		}
		k.KeepControl()
		res := q.ResponseKind().(*kmsg.InitProducerIDResponse)
		res.ErrorCode = kerr.ClusterAuthorizationFailed.Code
		return res, nil, true
	})
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/bus", Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/twins", BatchWait: soon})
	r.rounds(0, 10)
	r.until("default/bus", "it is not allowed", func(s *pb.SinkState) bool { return strings.Contains(s.Error, "CLUSTER_AUTHORIZATION_FAILED") })
	close(denied)
	r.until("default/bus", "it goes on", func(s *pb.SinkState) bool { return s.Delivered == 10 && s.Error == "" })
}

// TestMQTTClients: sinks whose ids look alike, or those of two clusters, are two clients of a broker.
func TestMQTTClients(t *testing.T) {
	r := newRig(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := server.New(&server.Options{Logger: slog.New(slog.DiscardHandler)})
	defer b.Close()
	if err := b.AddHook(new(auth.AllowHook), nil); err != nil {
		t.Fatal(err)
	}
	if err := b.AddListener(listeners.NewNet("t", l)); err != nil {
		t.Fatal(err)
	}
	if err := b.Serve(); err != nil {
		t.Fatal(err)
	}
	r.give(r.host("n1"))
	ids := []string{"a/b-c", "a-b/c"}
	for i := range 2 {
		r.rounds(i*10, 10)
		for _, id := range ids {
			r.sink(&pb.Sink{Id: id, Url: fmt.Sprintf("mqtt://%s/lake", l.Addr()), BatchWait: soon})
			r.until(id, "all are delivered", func(s *pb.SinkState) bool { return s.Position == uint64(i+1)*10+1 })
		}
	}
	connected := 0
	for _, c := range b.Clients.GetAll() {
		if !c.Closed() && !c.Net.Inline {
			connected++
		}
	}
	if connected != 2 {
		t.Errorf("%d clients are connected", connected)
	}
}
