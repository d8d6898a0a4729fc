//go:build linux

package serial_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/serial"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

// line is a device at the other end of a pseudo-terminal, whose name stays while the terminal changes.
type line struct {
	t    *testing.T
	name string
	in   chan []byte

	mu     sync.Mutex
	master *os.File
}

func newLine(t *testing.T) *line {
	dir, err := os.MkdirTemp("/dev/shm", "pollux-test-")
	if err != nil {
		t.Skipf("there is no place for a line under /dev: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l := &line{t: t, name: filepath.Join(dir, "line"), in: make(chan []byte, 1000)}
	l.Up()
	t.Cleanup(l.Down)
	return l
}

func (l *line) URI() string { return "serial://" + l.name }

func (l *line) Up() {
	l.t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		l.t.Skipf("there are no pseudo-terminals: %v", err)
	}
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		l.t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		l.t.Fatal(err)
	}
	if err := unix.SetNonblock(int(master.Fd()), true); err != nil {
		l.t.Fatal(err)
	}
	master = os.NewFile(uintptr(dup(l.t, master)), "pty") // with the poller, so that Close ends what reads
	if err := os.Symlink(fmt.Sprintf("/dev/pts/%d", n), l.name); err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.master = master
	l.mu.Unlock()
	go func() {
		in := bufio.NewReader(master)
		for {
			b, err := in.ReadBytes('\n')
			if err != nil {
				if errors.Is(err, unix.EIO) { // nobody has the other end open yet, or again
					time.Sleep(time.Millisecond)
					continue
				}
				return
			}
			l.in <- b
		}
	}()
}

func dup(t *testing.T, f *os.File) int {
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	return fd
}

func (l *line) Send(frame []byte) {
	l.mu.Lock()
	m := l.master
	l.mu.Unlock()
	if _, err := m.Write(frame); err != nil {
		l.t.Error(err)
	}
}

func (l *line) Received() []byte {
	l.t.Helper()
	select {
	case b := <-l.in:
		return b
	case <-time.After(30 * time.Second):
		l.t.Fatal("the device received nothing")
		return nil
	}
}

func (l *line) Down() {
	l.mu.Lock()
	defer l.mu.Unlock()
	os.Remove(l.name)
	l.master.Close()
}

func (l *line) Drop() { l.Down(); l.Up() }

func TestContract(t *testing.T) {
	contract.Run(t, contract.Transport{
		Open: serial.Open, Is: []contract.Kind{contract.Nameless},
		Options: drivers.TransportOptions{Scheme: "serial", Tokenizer: &drivers.Tokenizer{Delimiter: "\n", MaxFrame: 1000},
			Serial: &drivers.SerialOptions{Baud: "115200"}},
		NewPeer: func(t *testing.T) contract.Peer { return newLine(t) },
	})
}

func TestOptionsAndPaths(t *testing.T) {
	for uri, c := range map[string]struct {
		o    drivers.SerialOptions
		want string
	}{
		"serial:///dev/ttyUSB0":        {drivers.SerialOptions{Baud: "fast"}, "serial/baud"},
		"serial:///dev/ttyUSB1":        {drivers.SerialOptions{Baud: "1"}, "serial/baud"},
		"serial:///dev/sda":            {want: "none of the serial lines"},
		"serial:///dev/../etc/passwd":  {want: "want serial:///dev/NAME"},
		"serial:///etc/passwd":         {want: "want serial:///dev/NAME"},
		"serial://host/dev/ttyUSB0":    {want: "want serial:///dev/NAME"},
		"serial:///dev/ttyUSB0?baud=1": {want: "more than a path"},
		"serial:///dev/ttyS0/x":        {want: "none of the serial lines"},
	} {
		_, err := serial.Open(transport.Options{Sink: &contract.Recorder{}, Binding: drivers.Binding{URI: uri,
			Transport: drivers.TransportOptions{Scheme: "serial", Serial: &c.o}}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", uri, err, c.want)
		}
	}
	sink := &contract.Recorder{}
	c, err := serial.Open(transport.Options{Sink: sink, Binding: drivers.Binding{URI: "serial:///dev/ttyPollux", Transport: drivers.TransportOptions{Scheme: "serial"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sink.Await(t, "a failure", func(e []string) bool { return len(e) > 0 })
	if e := sink.Events()[0]; !strings.HasPrefix(e, "failed: open /dev/ttyPollux: ") {
		t.Errorf("got %q", e)
	}
}

// A line on which nothing moves does not hold a send for ever.
func TestAStuckLine(t *testing.T) {
	l := newLine(t)
	sink := &contract.Recorder{}
	c, err := serial.Open(transport.Options{Sink: sink, SerialPaths: []string{"/dev/shm/*/line"}, Backoff: transport.Backoff{Min: time.Millisecond, Max: time.Millisecond},
		Binding: drivers.Binding{URI: l.URI(), Transport: drivers.TransportOptions{Scheme: "serial"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	sink.Await(t, "the connection", func(e []string) bool { return len(e) > 0 })
	for range cap(l.in) { // the device's reader has no room for more
		l.in <- nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	began := time.Now()
	err = c.Send(ctx, []byte(strings.Repeat("x\n", 1<<19)))
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 10*time.Second {
		t.Fatalf("got %v after %v", err, time.Since(began))
	}
	sink.Await(t, "a new connection", func(e []string) bool { return len(e) >= 3 && e[2] == "connected" })
	for range cap(l.in) {
		<-l.in
	}
}
