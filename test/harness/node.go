// Package harness runs real pollux processes for tests and benchmarks: start, kill, stop, restart, and clients that
// carry the administrator's key.
package harness

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// Options of a process.
type Options struct {
	// Dir is the data directory; empty: a temporary one.
	Dir string
	// HTTP is where the first start listens; empty: a free port on loopback.
	HTTP string
	// Args come after those that the harness gives.
	Args []string
	// Env is added to the environment.
	Env []string
	// Ready bounds the wait for the ready line; 0 means 60 s.
	Ready time.Duration
	// Binary to run; empty: the program under test.
	Binary string
	// ClockRate is how fast the node's clock of leases runs beside the machine's; 0: alike.
	ClockRate float64
}

// Node is a running pollux process on loopback, on ports of its own.
type Node struct {
	Dir  string
	URL  string // http://127.0.0.1:PORT
	MQTT string // 127.0.0.1:PORT
	Key  string // the administrator's

	// Of a node of a Cluster. ID is empty until the cluster has settled once.
	Name, Address, ID string

	t       testing.TB
	o       Options
	private string        // host where it listens for its peers, behind the cluster's Network
	key     func() string // the administrator's, where the node has no file of it
	http    *http.Client

	mu     sync.Mutex // of what a start changes
	cmd    *exec.Cmd
	done   chan struct{} // closed when the process has ended
	ready  bool          // it has said so
	paused bool
	log    *tail // both streams
	out    *tail // standard output
}

var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("POLLUX_BIN"); path != "" {
		if _, err := os.Stat(path); err != nil { // go test looks at the same, and runs the tests again with another program
			return "", fmt.Errorf("POLLUX_BIN: %w", err)
		}
		return filepath.Abs(path)
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	dir, err := os.MkdirTemp("", "pollux-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "pollux")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/pollux")
	cmd.Dir = strings.TrimSpace(string(root))
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build pollux: %w\n%s", err, out)
	}
	return path, nil
})

// Binary gives the program under test: $POLLUX_BIN, or one built from the working tree, once per test process.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Start runs `pollux serve` on free ports and returns when it says that it is ready. The test's end stops it.
func Start(t testing.TB, o Options) *Node {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "data")
	}
	n := &Node{Dir: o.Dir, t: t, o: o, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}}
	n.o.Args = append([]string{"--gossip", "127.0.0.1:0", "--peer", "127.0.0.1:0"}, o.Args...)
	n.Run()
	t.Cleanup(func() {
		n.Kill()
		if t.Failed() {
			t.Logf("the node's last lines:\n%s", n.Log())
		}
	})
	return n
}

// Run starts the process again after Kill or Stop, on the same directory and ports.
func (n *Node) Run() {
	n.t.Helper()
	if err := n.TryRun(); err != nil {
		n.t.Fatalf("%v\n%s", err, n.Log())
	}
}

// TryRun is Run for starts that may fail; Log then says why.
func (n *Node) TryRun() error {
	http, mqtt := strings.TrimPrefix(n.URL, "http://"), n.MQTT // clients of the run before come back to the same ports
	if n.URL == "" {
		http, mqtt = n.o.HTTP, FreeAddr(n.t)
	}
	if http == "" {
		http = FreeAddr(n.t)
	}
	args := append([]string{"serve", "--data", n.Dir, "--http", http, "--mqtt", mqtt}, n.o.Args...)
	if n.o.ClockRate != 0 {
		args = append(args, "--test-clock-rate", strconv.FormatFloat(n.o.ClockRate, 'f', -1, 64))
	}
	if err := shareCompiled(n.Dir); err != nil {
		return err
	}
	cmd := exec.Command(cmp.Or(n.o.Binary, Binary(n.t)), args...)
	cmd.Env = append(cmd.Environ(), n.o.Env...)
	cmd.SysProcAttr = ChildAttributes()
	log, stdout, done := &tail{}, &tail{}, make(chan struct{})
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.cmd, n.log, n.out, n.done, n.ready, n.paused = cmd, log, stdout, done, false, false
	err = cmd.Start()
	n.mu.Unlock()
	if err != nil {
		close(done)
		return fmt.Errorf("start pollux: %w", err)
	}
	ready := make(chan string, 1)
	both := io.MultiWriter(log, stdout)
	go func() {
		told := false
		for lines := bufio.NewScanner(out); lines.Scan(); {
			fmt.Fprintln(both, lines.Text())
			if !told && strings.HasPrefix(lines.Text(), "ready") {
				told = true
				ready <- lines.Text()
			}
		}
		cmd.Wait()
		close(done)
	}()
	wait := n.o.Ready
	if wait == 0 {
		wait = time.Minute
	}
	select {
	case line := <-ready:
		return n.readReady(line)
	case <-done:
		return fmt.Errorf("pollux ended before it was ready: %v", cmd.ProcessState)
	case <-time.After(wait):
		n.Kill()
		return fmt.Errorf("pollux was not ready after %v", wait)
	}
}

// shareCompiled has the node in a directory take compiled drivers from where all nodes of tests keep theirs, unless it has its own: compiling a
// driver takes seconds, and each is still compiled by the first node that runs it.
func shareCompiled(dir string) error {
	shared, own := filepath.Join(os.TempDir(), "pollux-test-compiled-"+strconv.Itoa(os.Getuid())), filepath.Join(dir, "compiled")
	for _, made := range []string{shared, dir} {
		if err := os.MkdirAll(made, 0o700); err != nil {
			return err
		}
	}
	if err := os.Symlink(shared, own); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// readReady takes the addresses from the ready line: `ready http=URL mqtt=ADDR …`.
func (n *Node) readReady(line string) error {
	var url, mqtt string
	for _, field := range strings.Fields(line)[1:] {
		switch key, value, _ := strings.Cut(field, "="); key {
		case "http":
			url = value
		case "mqtt":
			mqtt = value
		}
	}
	if url == "" || mqtt == "" {
		return fmt.Errorf("ready line without addresses: %q", line)
	}
	text, err := os.ReadFile(filepath.Join(n.Dir, "admin.key"))
	key := string(bytes.TrimSpace(text))
	if err != nil {
		if n.key == nil || n.key() == "" {
			return fmt.Errorf("read the administrator's key: %w", err)
		}
		key = n.key()
	}
	if n.URL != url || n.MQTT != mqtt || n.Key != key { // a restart changes nothing: its clients go on meanwhile
		n.URL, n.MQTT, n.Key = url, mqtt, key
	}
	n.mu.Lock()
	n.ready = true
	n.mu.Unlock()
	return nil
}

// process gives the newest start.
func (n *Node) process() (*exec.Cmd, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cmd, n.done
}

// dies is how long a process that was killed may take to be gone: a disk or a tracer may hold it for a while.
const dies = time.Minute

// Kill ends the process as kill -9 does and waits for it; one that a minute later is still there fails the test.
func (n *Node) Kill() {
	cmd, done := n.process()
	if cmd == nil || cmd.Process == nil {
		return
	}
	cmd.Process.Kill()
	select {
	case <-done:
	case <-time.After(dies):
		n.t.Errorf("%s: process %d was killed, and %v later it is still there", n.Name, cmd.Process.Pid, dies)
	}
}

// Stop asks the process to end and waits up to 45 s; the error says how it ended otherwise than with 0.
func (n *Node) Stop() error {
	cmd, done := n.process()
	cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-done:
	case <-time.After(45 * time.Second):
		n.Kill()
		return fmt.Errorf("pollux did not stop in 45 s")
	}
	if code := cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("pollux ended with %v", cmd.ProcessState)
	}
	return nil
}

// Signal sends a signal without waiting.
func (n *Node) Signal(s syscall.Signal) {
	if cmd, _ := n.process(); cmd != nil && cmd.Process != nil {
		cmd.Process.Signal(s)
	}
}

// Pause stops the process as a machine that hangs, until Continue.
func (n *Node) Pause() { n.setPaused(true); n.Signal(syscall.SIGSTOP) }

// Continue ends a pause; without one it does nothing.
func (n *Node) Continue() { n.Signal(syscall.SIGCONT); n.setPaused(false) }

func (n *Node) setPaused(p bool) {
	n.mu.Lock()
	n.paused = p
	n.mu.Unlock()
}

// Running says that the process runs, was ready and is not paused.
func (n *Node) Running() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready || n.paused {
		return false
	}
	select {
	case <-n.done:
		return false
	default:
		return true
	}
}

// Wait gives a channel that is closed when the process has ended, and then its exit code.
func (n *Node) Wait() (<-chan struct{}, func() int) {
	cmd, done := n.process()
	return done, func() int { return cmd.ProcessState.ExitCode() }
}

// PID of the process; 0 before the first start.
func (n *Node) PID() int {
	if cmd, _ := n.process(); cmd != nil && cmd.Process != nil {
		return cmd.Process.Pid
	}
	return 0
}

// Wipe deletes the data of a node that has ended. Its next start is a new node's, under the old name.
func (n *Node) Wipe() {
	n.t.Helper()
	if err := os.RemoveAll(n.Dir); err != nil {
		n.t.Fatal(err)
	}
}

func (n *Node) setID(id string) {
	n.mu.Lock()
	n.ID = id
	n.mu.Unlock()
}

// Log gives the last lines that the process wrote.
func (n *Node) Log() string {
	n.mu.Lock()
	log := n.log
	n.mu.Unlock()
	if log == nil {
		return ""
	}
	return log.String()
}

// Output gives the last lines of standard output alone.
func (n *Node) Output() string {
	n.mu.Lock()
	out := n.out
	n.mu.Unlock()
	return out.String()
}

// Command runs a command of the program against this node and returns what it printed; both streams where it failed.
func (n *Node) Command(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, Binary(n.t), args...)
	cmd.Env = append(cmd.Environ(), "POLLUX_URL="+n.URL, "POLLUX_API_KEY="+n.Key)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String() + errs.String(), fmt.Errorf("pollux %s: %w: %s", strings.Join(args, " "), err, errs.String())
	}
	return out.String(), nil
}

// Must is Command that fails the test.
func (n *Node) Must(args ...string) string {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := n.Command(ctx, args...)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// newHTTPClient speaks HTTP/2 without TLS: what a node that stops did not take is told apart from what it may have taken.
func newHTTPClient() *http.Client {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: p, DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext}}
}

// Twins is a client of TwinService with the administrator's key.
func (n *Node) Twins() polluxv1connect.TwinServiceClient {
	return polluxv1connect.NewTwinServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// Drivers is a client of DriverService with the administrator's key.
func (n *Node) Drivers() polluxv1connect.DriverServiceClient {
	return polluxv1connect.NewDriverServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// Ingests is a client of IngestService with the administrator's key.
func (n *Node) Ingests() polluxv1connect.IngestServiceClient {
	return polluxv1connect.NewIngestServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// Site is a client of SiteService with the administrator's key.
func (n *Node) Site() polluxv1connect.SiteServiceClient {
	return polluxv1connect.NewSiteServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// Logics is a client of LogicService with the administrator's key.
func (n *Node) Logics() polluxv1connect.LogicServiceClient {
	return polluxv1connect.NewLogicServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// Topics is a client of TopicService with the administrator's key.
func (n *Node) Topics() polluxv1connect.TopicServiceClient {
	return polluxv1connect.NewTopicServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// Automation is a client of AutomationService with the administrator's key.
func (n *Node) Automation() polluxv1connect.AutomationServiceClient {
	return polluxv1connect.NewAutomationServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// Notifiers is a client of NotifierService with the administrator's key.
func (n *Node) Notifiers() polluxv1connect.NotifierServiceClient {
	return polluxv1connect.NewNotifierServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// Search is a client of SearchService with the administrator's key.
func (n *Node) Search() polluxv1connect.SearchServiceClient {
	return polluxv1connect.NewSearchServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// History is a client of HistoryService with the administrator's key.
func (n *Node) History() polluxv1connect.HistoryServiceClient {
	return polluxv1connect.NewHistoryServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// Cluster is a client of ClusterService with the administrator's key.
func (n *Node) Cluster() polluxv1connect.ClusterServiceClient {
	return polluxv1connect.NewClusterServiceClient(n.http, n.URL, connect.WithInterceptors(Bearer(n.Key)))
}

// Get fetches a path with the administrator's key.
func (n *Node) Get(path string) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodGet, n.URL+path, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+n.Key)
	return n.http.Do(req)
}

// Bearer is an interceptor that adds an API key to every request.
type Bearer string

func (b Bearer) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, req connect.AnyRequest) (connect.AnyResponse, error) {
		req.Header().Set("Authorization", "Bearer "+string(b))
		return next(ctx, req)
	}
}

func (b Bearer) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return func(ctx context.Context, spec connect.Spec) connect.StreamingClientConn {
		conn := next(ctx, spec)
		conn.RequestHeader().Set("Authorization", "Bearer "+string(b))
		return conn
	}
}

func (b Bearer) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}

// tail keeps the last part of what is written.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 64 << 10

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.buf = append(l.buf, p...)
	if over := len(l.buf) - tailSize; over > 0 {
		l.buf = append(l.buf[:0], l.buf[over:]...)
	}
	return len(p), nil
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.buf)
}

// Until polls a condition until it holds or the time is over, which fails the test with what it was waiting for.
func Until(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v still not: %s", within, what)
		}
	}
}
