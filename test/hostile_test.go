package test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

const (
	hostileConns = 8           // of each kind at once
	hugeBody     = 1 << 30     // bytes
	hostileRoom  = 50 << 20    // bytes that the node may grow by
	hostileWait  = time.Minute // for a connection to be closed; the node's own limits are 5 to 10 s
)

// TestHostileInput throws at both ports what strangers and broken devices throw. Each is refused or closed and counted,
// the node's memory stays, and it answers all the while.
func TestHostileInput(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	n.AddDriver("echo")
	createEcho(t, n, "witness", map[string]any{"topic": "witness"})
	witness(t, n, 50)
	before := resetMemory(t, n)
	attacks := []struct {
		name    string
		run     func(t *testing.T, n *harness.Node)
		counter string // rises by one for each of least
		least   float64
	}{
		{"huge bodies", hugeBodies, `pollux_rpc_refused_total{reason="body"}`, 2 * hostileConns},
		{"huge bodies of no length", endlessBodies, `pollux_rpc_refused_total{reason="body"}`, hostileConns},
		{"JSON bombs", jsonBombs, `pollux_rpc_refused_total{reason="message"}`, 2 * hostileConns},
		{"slow clients", slowClients, "", 0},
		{"garbage", garbage, `pollux_mqtt_closed_total`, hostileConns},
		{"huge packets", hugePackets, `pollux_mqtt_closed_total`, 3 * hostileConns},
	}
	counts := map[string]float64{}
	for _, a := range attacks {
		if a.counter != "" {
			counts[a.counter] = counted(t, n, a.counter)
		}
	}
	calm, stop := context.WithCancel(t.Context())
	var watch sync.WaitGroup
	calls := 0
	watch.Go(func() {
		for ; calm.Err() == nil; calls++ {
			witness(t, n, 1)
			time.Sleep(5 * time.Millisecond)
		}
	})
	t.Run("attacks", func(t *testing.T) {
		for _, a := range attacks {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				a.run(t, n)
			})
		}
	})
	stop()
	watch.Wait()
	least := map[string]float64{}
	for _, a := range attacks {
		least[a.counter] += a.least
	}
	for name, was := range counts {
		if rose := counted(t, n, name) - was; rose < least[name] {
			t.Errorf("%s rose by %v, want %v", name, rose, least[name])
		}
	}
	if now, peak := memory(t, n); now > 0 {
		t.Logf("resident: %d MB before, %d MB at the most, %d MB after; %d calls meanwhile", before>>20, peak>>20, now>>20, calls)
		if now > before+hostileRoom {
			t.Errorf("the node grew from %d to %d MB", before>>20, now>>20)
		}
	}
	if got := stateOf(t, n, "witness").GetStatus().GetFault(); got != "" {
		t.Errorf("the witness shows the fault %q", got)
	}
}

// witness calls a twin some times.
func witness(t *testing.T, n *harness.Node, times int) {
	twins := n.Twins()
	for i := range times {
		want := strconv.Itoa(i)
		r, err := twins.Invoke(context.Background(), connect.NewRequest(&pb.InvokeRequest{Id: "witness", Action: "echo", Input: structpb.NewStringValue(want)}))
		if err != nil || r.Msg.GetOutput().GetStringValue() != want {
			t.Errorf("a healthy call: %v", err)
			return
		}
	}
}

// resetMemory lets the node's peak begin anew and gives its resident bytes; 0 where the system does not tell.
func resetMemory(t *testing.T, n *harness.Node) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.PID()), []byte("5"), 0); err != nil {
		t.Logf("the peak counts from the start: %v", err)
	}
	now, _ := memory(t, n)
	return now
}

// memory gives the resident bytes now and at their peak.
func memory(t *testing.T, n *harness.Node) (now, peak int) {
	t.Helper()
	if runtime.GOOS != "linux" {
		return 0, 0
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		for name, to := range map[string]*int{"VmRSS:": &now, "VmHWM:": &peak} {
			if rest, ok := strings.CutPrefix(line, name); ok {
				kb, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
				if err != nil {
					t.Fatalf("%s: %v", line, err)
				}
				*to = kb << 10
			}
		}
	}
	return now, peak
}

// zeros is a body of so many bytes; it counts what is taken.
type zeros struct{ left, taken atomic.Int64 }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(int64(len(p)), z.left.Load())
	if n <= 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	z.left.Add(-n)
	z.taken.Add(n)
	return int(n), nil
}

// post sends a body to a procedure, with a key, and gives the status; 0 where the connection was cut.
func post(t *testing.T, n *harness.Node, procedure string, body io.Reader, length int64, header ...string) int {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, n.URL+"/pollux.v1."+procedure, body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = length
	req.Header.Set("Authorization", "Bearer "+n.Key)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Timeout: hostileWait, Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	r, err := client.Do(req)
	var late net.Error
	switch {
	case errors.As(err, &late) && late.Timeout():
		t.Errorf("%s: neither answered nor cut: %v", procedure, err)
		return 0
	case err != nil:
		return 0
	}
	defer r.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, 1<<20))
	return r.StatusCode
}

func atOnce(f func()) {
	var all sync.WaitGroup
	for range hostileConns {
		all.Go(f)
	}
	all.Wait()
}

// sendHuge sends a gigabyte and expects that little of it is taken.
func sendHuge(t *testing.T, n *harness.Node, procedure string, length int64, most int64) {
	t.Helper()
	body := &zeros{}
	body.left.Store(hugeBody)
	if status := post(t, n, procedure, body, length); status == http.StatusOK {
		t.Errorf("%s took a body of 1 GB", procedure)
	}
	if taken := body.taken.Load(); taken > most {
		t.Errorf("%s: %d MB were taken", procedure, taken>>20)
	}
}

func hugeBodies(t *testing.T, n *harness.Node) {
	atOnce(func() {
		sendHuge(t, n, "TwinService/SetDesired", hugeBody, 64<<20)
		sendHuge(t, n, "DriverService/UploadDriver", hugeBody, 64<<20)
	})
}

func endlessBodies(t *testing.T, n *harness.Node) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	if _, err := io.Copy(z, io.LimitReader(spaces{}, 64<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	atOnce(func() {
		sendHuge(t, n, "TwinService/SetDesired", -1, 64<<20)
		status := post(t, n, "TwinService/SetDesired", bytes.NewReader(bomb.Bytes()), int64(bomb.Len()), "Content-Encoding", "gzip")
		if status < 400 {
			t.Errorf("a bomb of gzip: status %d", status)
		}
	})
}

// spaces are white space of JSON without end.
type spaces struct{}

func (spaces) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func jsonBombs(t *testing.T, n *harness.Node) {
	deep := strings.Repeat("[", 400_000) + strings.Repeat("]", 400_000)
	wide := "[[]" + strings.Repeat(",[]", 300_000) + "]"
	atOnce(func() {
		for _, bomb := range []string{deep, wide} {
			body := `{"id":"witness","action":"echo","input":` + bomb + `}`
			if status := post(t, n, "TwinService/Invoke", strings.NewReader(body), int64(len(body))); status != http.StatusBadRequest {
				t.Errorf("a bomb of JSON: status %d", status)
			}
		}
	})
	// To a twin, over MQTT: acknowledged, as it would come again for ever, and nothing changes.
	for _, bomb := range []string{deep[300_000:500_000], wide[:200_000] + "]"} {
		publishOnce(t, n, "echo/witness/set", `{"level":`+bomb+`}`)
	}
	if got := stateOf(t, n, "witness").GetProperties()["level"]; got.GetValue() != nil {
		t.Errorf("level is %.100s", got.GetValue())
	}
}

// closes dials and expects the other side to close after what send writes.
func closes(t *testing.T, addr string, send func(net.Conn)) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Errorf("dial: %v", err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(hostileWait))
	go send(c)
	var late net.Error
	if _, err := io.Copy(io.Discard, c); errors.As(err, &late) && late.Timeout() {
		t.Errorf("%s does not close the connection", addr)
	}
}

func slowClients(t *testing.T, n *harness.Node) {
	trickle := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			for i := 0; ; i++ {
				if _, err := c.Write([]byte{text[i%len(text)]}); err != nil {
					return
				}
				time.Sleep(100 * time.Millisecond)
			}
		}
	}
	var both sync.WaitGroup
	both.Go(func() {
		atOnce(func() {
			closes(t, strings.TrimPrefix(n.URL, "http://"), trickle("GET / HTTP/1.1\r\nHost: a\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))
		})
	})
	both.Go(func() { atOnce(func() { closes(t, n.MQTT, trickle("\x10\xff\x7f\x00\x04MQTT\x04\x02\x00\x00")) }) })
	both.Wait()
}

func garbage(t *testing.T, n *harness.Node) {
	noise := func(first string) func(net.Conn) {
		return func(c net.Conn) {
			b := make([]byte, 128<<10)
			r := rand.New(rand.NewPCG(1, uint64(len(first))))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			_, _ = c.Write(append([]byte(first), b...))
		}
	}
	atOnce(func() {
		door := strings.TrimPrefix(n.URL, "http://")
		closes(t, door, noise(""))
		closes(t, door, noise("GET "+strings.Repeat("/a", 64<<10)))
		closes(t, door, noise("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
		closes(t, n.MQTT, noise(""))
		closes(t, n.MQTT, noise("GET / HTTP/1.1\r\n"))
	})
}

// hugePackets announces 256 MB before and in a CONNECT, and in a PUBLISH after it.
func hugePackets(t *testing.T, n *harness.Node) {
	var id atomic.Int64
	pour := func(first string) func(net.Conn) {
		return func(c net.Conn) {
			_, err := c.Write([]byte(first))
			for zeros := make([]byte, 64<<10); err == nil; {
				_, err = c.Write(zeros)
			}
		}
	}
	atOnce(func() {
		closes(t, n.MQTT, pour("\x30\xff\xff\xff\x7f\x00\x01a"))
		closes(t, n.MQTT, pour("\x10\xff\xff\xff\x7f\x00\x04MQTT\x04\x02\x00\x00"))
		client := fmt.Sprintf("huge-%02d", id.Add(1))
		closes(t, n.MQTT, pour("\x10\x13\x00\x04MQTT\x04\x02\x00\x00\x00\x07"+client+"\x30\xff\xff\xff\x7f\x00\x01a"))
	})
}
