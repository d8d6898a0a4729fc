package history

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// childVar names, in the environment, what this binary does instead of running tests.
const childVar = "POLLUX_HISTORY_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childVar); role != "" {
		if err := children[role](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// children are the roles. They run with the process' flags not parsed, as in a program with its own command line.
var children = map[string]func() error{
	"feed":   childFeed,
	"remote": childRemote,
	"fill":   childFill,
	"full":   childFull,
	"back":   childBack,
}

// child prepares this binary as another process. It is killed at the test's end.
func child(t *testing.T, role string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childVar+"="+role), env...)
	cmd.Stderr = &testWriter{t: t, prefix: role + ": "}
	t.Cleanup(func() { stop(cmd, syscall.SIGKILL) })
	return cmd
}

// stop signals a process that was started and waits for its end.
func stop(cmd *exec.Cmd, sig syscall.Signal) {
	if cmd.Process == nil || cmd.ProcessState != nil {
		return
	}
	_ = cmd.Process.Signal(sig)
	_ = cmd.Wait()
}

// testWriter logs what is written while the test runs.
type testWriter struct {
	t      testing.TB
	prefix string
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.t.Log(w.prefix + strings.TrimSpace(string(p)))
	return len(p), nil
}

func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(&testWriter{t: t}, nil))
}

// eventually polls until ok returns true.
func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", within, what)
		}
	}
}

// server is a real VictoriaMetrics of its own, Debian's.
type server struct {
	t    testing.TB
	dir  string
	addr string
	args []string
	cmd  *exec.Cmd
}

func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	const program = "/usr/bin/victoria-metrics"
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("Debian's package victoria-metrics is needed: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "server"), addr: addr}
	s.args = append([]string{program, "-storageDataPath=" + s.dir, "-httpListenAddr=" + addr, "-memory.allowedBytes=128MB",
		"-retentionPeriod=13"}, args...)
	s.start()
	t.Cleanup(func() { s.stop(syscall.SIGKILL) })
	return s
}

func (s *server) url() string { return "http://" + s.addr }

func (s *server) start() {
	s.t.Helper()
	log, err := os.OpenFile(s.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd = exec.Command(s.args[0], s.args[1:]...)
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 15*time.Second, "victoria-metrics answers", func() bool {
		resp, err := http.Get(s.url() + "/health")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

func (s *server) stop(sig syscall.Signal) { stop(s.cmd, sig) }
