package actors_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/mqtt"
)

// tardy is a driver for whose instances frames wait in vain while it is on.
type tardy struct {
	drivers.Runner
	on    *atomic.Bool
	tried *atomic.Int32
}

func (r tardy) Handle(ctx context.Context, c drivers.Call, h drivers.Host) (drivers.Effects, error) {
	if c.Event == drivers.EventReceived && r.on.Load() {
		r.tried.Add(1)
		return drivers.Effects{}, fmt.Errorf("wait for an instance: %w", context.DeadlineExceeded)
	}
	return r.Runner.Handle(ctx, c, h)
}

// A frame that was not handled in time is left without an answer, so that it comes again, but not for ever.
func TestFrameThatIsNotHandledComesAgain(t *testing.T) {
	var on atomic.Bool
	var tried atomic.Int32
	n := newNode(t, func(o *actors.Options) {
		load := o.Drivers
		o.Drivers = func(ctx context.Context, digest string) (drivers.Runner, error) {
			r, err := load(ctx, digest)
			return tardy{r, &on, &tried}, err
		}
		o.BackoffMin = 300 * time.Millisecond
	})
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a"}}`)
	n.deliver("dev/a/x", `{"level":1}`, 1)
	on.Store(true)
	for i := range 2 {
		if err := n.offer("dev/a/x", `{"level":2}`, 1); err == nil || errors.Is(err, mqtt.ErrRefused) {
			t.Fatalf("try %d: %v, want an error that has the broker not acknowledge it", i+1, err)
		}
	}
	if err := n.offer("dev/a/x", `{"level":2}`, 1); !errors.Is(err, mqtt.ErrRefused) {
		t.Fatalf("the third try: %v, want a refusal", err)
	}
	if f := n.state("a").Status.Fault; !strings.Contains(f, "took longer") {
		t.Errorf("the fault is %q", f)
	}
	// While the driver is left alone a frame waits.
	was := tried.Load()
	on.Store(false)
	if err := n.offer("dev/a/x", `{"level":3}`, 1); err != nil {
		t.Errorf("a frame that came meanwhile: %v", err)
	}
	if tried.Load() != was {
		t.Error("the driver was not left alone")
	}
	n.wait("a", "level", "3")
	if s := n.engine.Stats(); s.Dropped["driver_timeout"] != 3 || s.Faulty != 0 {
		t.Errorf("timeouts %d, faulty %d", s.Dropped["driver_timeout"], s.Faulty)
	}
}

// lines is a log that tests may read.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lines) with(text string) (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// The operator's log tells of a failing driver, once for all of its twins.
func TestFailuresReachTheLog(t *testing.T) {
	log := &lines{}
	n := newNode(t, func(o *actors.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	n.driver("probe", "1.0.0", "")
	for i := range 5 {
		id := fmt.Sprintf("t%d", i)
		n.twin(fmt.Sprintf(`{"id":%q,"driver":"probe"}`, id))
		if _, err := n.invoke(id, "panic", ""); err == nil {
			t.Fatalf("%s did not crash", id)
		}
	}
	until(t, "all are counted", func() bool { return n.engine.Stats().Dropped["driver_trap"] == 5 })
	got := log.with("driver failed")
	if len(got) != 1 || !strings.Contains(got[0], "level=WARN") || !strings.Contains(got[0], "twin=default/t0") ||
		!strings.Contains(got[0], "driver=probe@1.0.0") || !strings.Contains(got[0], "panic: on command") {
		t.Errorf("the log has %q, want one line with twin, driver and reason", got)
	}
	if got := log.with("part=actor"); len(got) != 0 {
		t.Errorf("a library speaks to the operator: %q", got)
	}
}
