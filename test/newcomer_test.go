package test

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/project"
	"github.com/polluxhq/pollux/test/harness"
)

// lamp is the device that the projects of `driver new` are for.
type lamp struct {
	l     net.Listener
	mu    sync.Mutex
	on    bool
	conns []net.Conn
	wg    sync.WaitGroup
}

func newLamp(t *testing.T) *lamp {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &lamp{l: l}
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

func (d *lamp) accept() {
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

func (d *lamp) answer(line string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch line {
	case "POWER ON", "POWER OFF":
		d.on = line == "POWER ON"
	}
	if d.on {
		return "POWER=ON\r\n"
	}
	return "POWER=OFF\r\n"
}

func (d *lamp) isOn() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.on
}

// From `driver new` to a live twin, in each language: as docs/drivers.md tells it.
func TestDriverFromNewToLiveTwin(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	for _, lang := range []project.Lang{project.JavaScript, project.Go, project.Rust} {
		t.Run(string(lang), func(t *testing.T) {
			switch lang {
			case project.JavaScript:
				drivertest.NeedEngine(t)
			case project.Rust:
				if err := project.HasRust(t.Context()); err != nil {
					t.Skip(err)
				}
			}
			name := "new-" + string(lang)
			dir := filepath.Join(t.TempDir(), name)
			device := newLamp(t)
			n.Must("driver", "new", name, "--lang", string(lang), "--dir", dir)
			if out := n.Must("driver", "test", dir, "--shuffle"); !strings.Contains(out, "12 passed") {
				t.Errorf("driver test says %q", out)
			}
			if out := n.Must("driver", "push", dir); !strings.Contains(out, "installed "+name+"@0.1.0") {
				t.Errorf("driver push says %q", out)
			}
			n.Must("twin", "create", name, "--driver", name, "--uri", "tcp://"+device.l.Addr().String())
			n.Must("twin", "set", name, "power", "true")
			until(t, "the lamp is on", device.isOn)
			until(t, "the twin says so", func() bool {
				return strings.Contains(n.Must("twin", "get", name, "-o", "json"), `"PROGRESS_CONFIRMED"`)
			})
			if out := n.Must("driver", "versions", name); !strings.Contains(out, "0.1.0") || !strings.Contains(out, "yes") {
				t.Errorf("driver versions says %q", out)
			}
		})
	}
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
