package test

import (
	"bufio"
	"context"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/project"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// kettle is a device that talks in lines: what the drivers in testdata/newcomer are for.
type kettle struct {
	l      net.Listener
	mu     sync.Mutex
	target string
	conns  []net.Conn
	closed bool
	wg     sync.WaitGroup
}

func newKettle(t *testing.T) *kettle {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &kettle{l: l}
	d.wg.Go(d.accept)
	t.Cleanup(func() {
		_ = l.Close()
		d.mu.Lock()
		d.closed = true
		for _, c := range d.conns {
			_ = c.Close()
		}
		d.mu.Unlock()
		d.wg.Wait()
	})
	return d
}

func (d *kettle) accept() {
	for {
		c, err := d.l.Accept()
		if err != nil {
			return
		}
		d.mu.Lock()
		if d.closed {
			d.mu.Unlock()
			_ = c.Close()
			return
		}
		d.conns = append(d.conns, c)
		d.mu.Unlock()
		d.wg.Go(func() {
			for r := bufio.NewScanner(c); r.Scan(); {
				fmt.Fprint(c, d.answer(r.Text()))
			}
		})
	}
}

func (d *kettle) answer(line string) string {
	target, isSet := strings.CutPrefix(line, "SET TARGET ")
	if !isSet {
		return "TEMP 21.5\n"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.target = target
	return "OK\n"
}

func (d *kettle) heatsTo() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.target
}

// say sends a line to everybody who is connected.
func (d *kettle) say(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		fmt.Fprint(c, line+"\n")
	}
}

// From `driver new` to a live twin of a made-up device, in each language: as docs/drivers.md tells it.
func TestDriverFromNewToLiveTwin(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	for _, lang := range []project.Lang{project.JavaScript, project.Go, project.Rust} {
		t.Run(string(lang), func(t *testing.T) {
			switch lang {
			case project.JavaScript:
				drivertest.NeedEngine(t)
			case project.Rust:
				drivertest.NeedRust(t)
			}
			dir := filepath.Join(t.TempDir(), "kettle")
			pollux := func(args ...string) string { // as long as a compiler takes
				t.Helper()
				out, err := n.Command(t.Context(), args...)
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				return out
			}
			began := time.Now()
			pollux("driver", "new", "kettle", "--lang", string(lang), "--dir", dir)
			if out := pollux("driver", "test", dir); !strings.Contains(out, "6 passed") {
				t.Errorf("the project as it is made: %q", out)
			}
			made := time.Since(began)
			ownRunner(t, lang, dir)
			began = time.Now()
			for _, from := range []string{"kettle.test.yaml", string(lang)} {
				overwrite(t, filepath.Join("testdata", "newcomer", from), dir)
			}
			if out := pollux("driver", "push", dir); !strings.Contains(out, "kettle@1.0.0") {
				t.Errorf("driver push says %q", out)
			}
			boils(t, n)
			t.Logf("%s: new and its test %s; test, push and a twin that boiled %s", lang, made.Round(100*time.Millisecond), time.Since(began).Round(100*time.Millisecond))
			n.Must("driver", "rm", "kettle")
		})
	}
}

// ownRunner runs the project's test by the runner of its language.
func ownRunner(t *testing.T, lang project.Lang, dir string) {
	t.Helper()
	args := map[project.Lang][]string{project.JavaScript: {"npm", "test"}, project.Go: {"go", "test", "./..."}, project.Rust: {"cargo", "test", "--offline"}}[lang]
	if _, err := exec.LookPath(args[0]); err != nil {
		if os.Getenv("POLLUX_PEERS") == "all" {
			t.Errorf("%s is not installed: the project's own test is not run", args[0])
			return
		}
		t.Logf("%s is not installed: the project's own test is not run", args[0])
		return
	}
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "POLLUX_BIN="+harness.Binary(t), "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// overwrite puts a file, or what is in a directory, into another.
func overwrite(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if rel == "." {
			rel = filepath.Base(from)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// boils makes a twin of a kettle and has it boil.
func boils(t *testing.T, n *harness.Node) {
	t.Helper()
	device := newKettle(t)
	n.Must("twin", "create", "kitchen", "--driver", "kettle", "--uri", "tcp://"+device.l.Addr().String())
	shows := func(text string) func() bool {
		return func() bool { return strings.Contains(n.Must("twin", "get", "kitchen", "-o", "json"), text) }
	}
	until(t, "the twin shows the temperature", shows("21.5"))
	n.Must("twin", "set", "kitchen", "target", "100")
	until(t, "the kettle heats", func() bool { return device.heatsTo() == "100" })
	until(t, "the kettle has agreed", shows("PROGRESS_CONFIRMED"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	events, err := n.Twins().WatchTwins(ctx, connect.NewRequest(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{"kitchen"}}, Events: true}))
	if err != nil {
		t.Fatal(err)
	}
	boiled := make(chan struct{})
	go func() {
		defer close(boiled)
		for events.Receive() {
			if events.Msg().GetEvent().GetName() == "boiled" {
				return
			}
		}
	}()
	until(t, "the twin tells that the water boils", func() bool {
		device.say("BOILED") // it goes on to: the watcher may have begun after the first
		select {
		case <-boiled:
			return events.Err() == nil
		case <-time.After(200 * time.Millisecond):
			return false
		}
	})
	n.Must("twin", "rm", "kitchen")
}

// until polls until the condition holds, on a machine that does much else.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for began := time.Now(); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > outlivePatience {
			t.Fatalf("%s: not within %v", what, outlivePatience)
		}
	}
}
