package test

import (
	"bufio"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/project"
	"github.com/polluxhq/pollux/test/harness"
)

// kettle is a device that talks in lines: what the drivers in testdata/newcomer are for.
type kettle struct {
	l      net.Listener
	mu     sync.Mutex
	target string
	conns  []net.Conn
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
			n.Must("driver", "new", "kettle", "--lang", string(lang), "--dir", dir)
			if out := n.Must("driver", "test", dir); !strings.Contains(out, "6 passed") {
				t.Errorf("the project as it is made: %q", out)
			}
			for _, from := range []string{"kettle.test.yaml", string(lang)} {
				overwrite(t, filepath.Join("testdata", "newcomer", from), dir)
			}
			if out := n.Must("driver", "push", dir); !strings.Contains(out, "kettle@1.0.0") {
				t.Errorf("driver push says %q", out)
			}
			boils(t, n)
			n.Must("driver", "rm", "kettle")
		})
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
	n.Must("twin", "rm", "kitchen")
}

// until polls until the condition holds.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for began := time.Now(); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}
