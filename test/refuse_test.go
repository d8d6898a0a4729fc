package test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
)

// attempt runs the program and gives its exit code and all that it printed.
func attempt(t *testing.T, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, harness.Binary(t), args...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatalf("run %v: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

func TestServeRefusesWrongUsage(t *testing.T) {
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
	n := harness.Start(t, harness.Options{})
	if err := n.Stop(); err != nil {
		t.Errorf("a graceful stop: %v\n%s", err, n.Log())
	}
	n.Run()
	ended, code := n.Wait()
	n.Signal(syscall.SIGTERM)
	n.Signal(syscall.SIGTERM)
	select {
	case <-ended:
		t.Logf("two signals: exit %d", code())
	case <-time.After(20 * time.Second):
		t.Fatal("two signals do not stop it")
	}
}

// TestFullDisk fills a small disk under load. The node must end by itself with one clear line, and start again with all
// that it acknowledged when there is room.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		if os.Geteuid() != 0 {
			t.Skipf("mounting a small disk needs root: %v", err)
		}
		t.Fatalf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	n := harness.Start(t, harness.Options{Dir: filepath.Join(dir, "data")})
	n.Must("driver", "add", "tasmota")
	n.Must("twin", "create", "before", "--driver", "tasmota", "--setting", "topic=before")

	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	room := int64(fs.Bavail)*fs.Bsize - 64<<10
	if err := os.WriteFile(ballast, make([]byte, room), 0o600); err != nil {
		t.Fatal(err)
	}
	ended, code := n.Wait()
	acknowledged := 0
	payload := strings.Repeat("x", 4000)
	for i := range 4000 {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		_, err := n.Command(ctx, "zone", "put", "z"+string(rune('a'+i%26))+payload[:i%20], "--title", payload)
		cancel()
		if err != nil {
			break
		}
		acknowledged++
		select {
		case <-ended:
		default:
			continue
		}
		break
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatalf("the disk is full and the node goes on; %d writes acknowledged\n%s", acknowledged, n.Log())
	}
	if code() != 1 || !strings.Contains(n.Log(), "disk is full") {
		t.Errorf("exit %d, log:\n%s", code(), n.Log())
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	n.Run()
	if out := n.Must("twin", "get", "before"); !strings.Contains(out, "before") {
		t.Errorf("after there is room again: %s", out)
	}
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
}
