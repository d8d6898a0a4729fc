package test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/drivers/peer"
	"github.com/polluxhq/pollux/drivers/pjlink/sim"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/load"
)

// attempt runs the program and gives its exit code and all that it printed.
func attempt(t *testing.T, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), args...)
	cmd.Env = append(cmd.Environ(), "POLLUX_GOSSIP=127.0.0.1:0", "POLLUX_PEER=127.0.0.1:0")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("run %v: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func TestServeRefusesWrongUsage(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	dir := t.TempDir()
	for _, test := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"unknown flag", []string{"--htp", "x"}, 2, "unknown flag: --htp"},
		{"bad value", []string{"--log-level", "loud"}, 2, "log.level"},
		{"open without TLS", []string{"--http", "0.0.0.0:0"}, 2, "--tls-cert"},
		{"open anonymous MQTT", []string{"--mqtt", "0.0.0.0:0", "--mqtt-anonymous"}, 2, "--mqtt-anonymous"},
		{"busy port", []string{"--http", busy.Addr().String(), "--mqtt", "off"}, 1, busy.Addr().String()},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, out := attempt(t, append([]string{"serve", "--data", filepath.Join(dir, "d")}, test.args...)...)
			if code != test.code || !strings.Contains(out, test.want) {
				t.Errorf("exit %d, printed:\n%s\nwant exit %d and %q", code, out, test.code, test.want)
			}
		})
	}
}

func TestServeRefusesForeignDirectories(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	code, out := attempt(t, "serve", "--data", n.Dir, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0")
	if code != 1 || !strings.Contains(out, "in use by another process") {
		t.Errorf("a directory in use: exit %d, %s", code, out)
	}
	n.Must("status") // the first one goes on

	if err := n.Stop(); err != nil {
		t.Fatal(err)
	}
	format := findFormat(t, n.Dir)
	text, err := os.ReadFile(format)
	if err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(string(text), " ")
	if err := os.WriteFile(format, []byte(name+" 9999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := listing(t, n.Dir)
	if code, out = attempt(t, "serve", "--data", n.Dir, "--http", "127.0.0.1:0", "--mqtt", "127.0.0.1:0"); code != 1 || !strings.Contains(out, "9999") {
		t.Errorf("a newer format: exit %d, %s", code, out)
	}
	if after := listing(t, n.Dir); after != before {
		t.Errorf("the directory was touched:\n%s\nbefore:\n%s", after, before)
	}
	if err := os.WriteFile(format, text, 0o600); err != nil {
		t.Fatal(err)
	}
	n.Run()
}

func findFormat(t *testing.T, dir string) string {
	t.Helper()
	found := ""
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && strings.EqualFold(d.Name(), "format") {
			found = path
		}
		return nil
	})
	if found == "" {
		t.Fatalf("no format file below %s", dir)
	}
	return found
}

// listing names all files with size and time.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b.WriteString(path + " " + info.ModTime().String() + "\n")
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestStop(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	if err := n.Stop(); err != nil {
		t.Errorf("a graceful stop: %v\n%s", err, n.Log())
	}
	n.Run()
	call := callSilentDevice(t, n)
	ended, code := n.Wait()
	n.Signal(syscall.SIGTERM)
	harness.Until(t, 30*time.Second, "the first signal is taken", func() bool { return strings.Contains(n.Log(), "msg=stopping") })
	select {
	case <-ended:
		t.Fatalf("one signal did not wait for the call: exit %d\n%s", code(), n.Log())
	default:
	}
	second := time.Now()
	n.Signal(syscall.SIGTERM)
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("two signals do not stop it")
	}
	if took := time.Since(second); code() != 1 || !strings.Contains(n.Log(), "stopped at once by a second signal") {
		t.Errorf("two signals: exit %d after %v\n%s", code(), took, n.Log())
	} else {
		t.Logf("ended %v after the second signal", took)
	}
	if err := <-call; err == nil {
		t.Error("a call that its device never answered succeeded")
	}
	n.Run() // nothing is broken
	n.Must("twin", "get", "busy")
}

// callSilentDevice gives the end of a call that the twin busy waits with: its projector took it and says nothing. A
// graceful stop waits for it for seconds.
func callSilentDevice(t *testing.T, n *harness.Node) chan error {
	t.Helper()
	projector, err := sim.New(sim.Options{Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- projector.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	n.Must("driver", "add", "pjlink")
	n.Must("twin", "create", "busy", "--driver", "pjlink", "--uri", "tcp://"+projector.Addrs()[0])
	harness.Until(t, 30*time.Second, "the projector is connected", func() bool {
		return stateOf(t, n, "busy").GetStatus().GetConnection() == pb.Connection_CONNECTION_CONNECTED
	})
	n.Must("twin", "call", "busy", "refresh") // so that nothing else is asked for some seconds
	projector.SetFaults(peer.Faults{Silence: 1})
	twins := n.Twins()
	call := make(chan error, 1)
	go func() {
		_, err := twins.Invoke(ctx, connect.NewRequest(&pb.InvokeRequest{Id: "busy", Action: "power", Input: structpb.NewBoolValue(true),
			Options: &pb.CommandOptions{Timeout: durationpb.New(time.Minute)}}))
		call <- err
	}()
	wait, done := context.WithTimeout(ctx, 30*time.Second)
	defer done()
	if _, err := projector.Journal().Wait(wait, func(e peer.Entry) bool { return e.Event == "told" && e.Text == "%1POWR 1" }); err != nil {
		t.Fatalf("the projector is not told: %v; it has %v", err, projector.Journal().Entries(""))
	}
	return call
}

const (
	fullDevices     = 20
	fullConnections = 4
)

// TestFullDisk fills a small disk under load. The node must end by itself with one clear line, and start again with all
// that it acknowledged when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := harness.SmallDisk(t, "192m")
	n := harness.Start(t, harness.Options{Dir: filepath.Join(dir, "data"), Args: []string{"--disk-reserve", "0"}})
	n.AddDriver("echo")
	for d := range fullDevices {
		createEcho(t, n, device(d), map[string]any{"topic": device(d)})
	}
	ballast := fill(t, dir, 1<<20)
	ended, code := n.Wait()
	began := time.Now()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	journal := publishing(ctx, t, &clients, n, 500)
	harness.Until(t, time.Minute, "publishes are acknowledged", func() bool { return journal.Len() >= 2*fullDevices })
	var zones []string
	title := strings.Repeat("x", 4000)
	clients.Go(func() {
		for site := n.Site(); ctx.Err() == nil; {
			id := fmt.Sprintf("z%d", len(zones))
			call, done := context.WithTimeout(ctx, 20*time.Second)
			_, err := site.PutZone(call, connect.NewRequest(&pb.PutZoneRequest{Zone: &pb.Zone{Id: id, Title: title}}))
			done()
			if err != nil {
				return
			}
			zones = append(zones, id)
		}
	})
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Errorf("the disk is full and the node goes on")
	}
	cancel()
	clients.Wait()
	if t.Failed() {
		return
	}
	checkOneLine(t, n.Log(), code())
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	n.Run()
	t.Logf("%d zones and %d publishes were acknowledged", len(zones), journal.Len())
	if len(zones) == 0 || journal.Len() == 0 {
		t.Error("nothing was acknowledged before the disk was full")
	}
	checkZones(t, n, zones, title)
	for d, e := range journal.Last() {
		if got := reported(t, n, device(d)); got < e.Value {
			t.Errorf("%s has level %v, %v was acknowledged", device(d), got, e.Value)
		}
	}
	checkHistory(t, n, acknowledged(journal), began)
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
}

// publishing has the devices of these tests publish so many messages a second in all, until ctx ends. The journal has what is acknowledged.
func publishing(ctx context.Context, t *testing.T, clients *sync.WaitGroup, n *harness.Node, rate float64) *load.Journal {
	journal := &load.Journal{}
	clients.Go(func() {
		if _, err := load.Run(ctx, load.Options{Addr: n.MQTT, Devices: fullDevices, Connections: fullConnections, QoS: 1, Rate: rate,
			Journal: journal, Topic: echoTopic, Payload: echoPayload}); err != nil {
			t.Error(err)
		}
	})
	return journal
}

// fill leaves so many bytes of a disk and returns the file that takes the rest.
func fill(t *testing.T, dir string, leave int64) string {
	t.Helper()
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, int64(fs.Bavail)*int64(fs.Bsize)-leave), 0o600); err != nil {
		t.Fatal(err)
	}
	return ballast
}

// checkOneLine: the log says once, and plainly, that the disk is full.
func checkOneLine(t *testing.T, log string, code int) {
	t.Helper()
	var said []string
	for line := range strings.Lines(log) {
		if strings.Contains(line, `msg="checkpoint refused"`) || strings.Contains(line, `msg="mqtt message not taken`) || strings.Contains(line, `msg="lease not renewed"`) {
			continue // what was under way just then; who asked for it was told
		}
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "disk is full") || strings.Contains(line, "no space left") {
			said = append(said, line)
		}
	}
	if code != 1 || len(said) != 1 || !strings.Contains(said[0], "the disk is full; make room and start again") {
		t.Errorf("exit %d, %d errors:\n%s", code, len(said), log)
	}
	for _, trace := range []string{"panic", "goroutine ", "fatal error"} {
		if strings.Contains(log, trace) {
			t.Errorf("the log has %q:\n%s", trace, log)
		}
	}
}

func checkZones(t *testing.T, n *harness.Node, want []string, title string) {
	t.Helper()
	have := map[string]bool{}
	for token := ""; ; {
		r, err := n.Site().ListZones(t.Context(), connect.NewRequest(&pb.ListZonesRequest{PageSize: 100, PageToken: token}))
		if err != nil {
			t.Fatal(err)
		}
		for _, z := range r.Msg.Zones {
			have[strings.TrimPrefix(z.Id, "default/")] = z.Title == title
		}
		if token = r.Msg.NextPageToken; token == "" {
			break
		}
	}
	for _, id := range want {
		if !have[id] {
			t.Errorf("zone %s was acknowledged and is not there whole", id)
		}
	}
}
