package contract

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// Recorder is a sink that keeps what it hears.
type Recorder struct {
	mu         sync.Mutex
	events     []string
	frames     [][]byte
	gate       <-chan struct{}
	inside     int
	overlapped bool
}

var _ drivers.FailureSink = (*Recorder)(nil)

func (r *Recorder) enter() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside++
	r.overlapped = r.overlapped || r.inside > 1
}

func (r *Recorder) leave(event string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
	if event != "" {
		r.events = append(r.events, event)
	}
}

// Connected implements drivers.Sink.
func (r *Recorder) Connected() { r.enter(); r.leave("connected") }

// Disconnected implements drivers.Sink.
func (r *Recorder) Disconnected(err error) { r.enter(); r.leave("disconnected: " + err.Error()) }

// Failed implements drivers.FailureSink.
func (r *Recorder) Failed(err error) { r.enter(); r.leave("failed: " + err.Error()) }

// Received implements drivers.Sink.
func (r *Recorder) Received(frame []byte) {
	r.enter()
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate != nil {
		<-gate
	}
	r.mu.Lock()
	r.frames = append(r.frames, frame)
	r.mu.Unlock()
	r.leave("")
}

// Hold has Received wait until gate is closed.
func (r *Recorder) Hold(gate <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate = gate
}

// Busy says whether a call is under way.
func (r *Recorder) Busy() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inside > 0
}

// Overlapped says whether two calls were under way at once.
func (r *Recorder) Overlapped() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.overlapped
}

// Events are what was heard but for frames: connected, "disconnected: WHY", "failed: WHY".
func (r *Recorder) Events() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Frames that were received.
func (r *Recorder) Frames() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.frames)
}

// Await waits until the events are as wanted.
func (r *Recorder) Await(t *testing.T, what string, ok func(events []string) bool) {
	t.Helper()
	for deadline := time.Now().Add(wait); !ok(r.Events()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s; heard: %q, %d frames", wait, what, r.Events(), len(r.Frames()))
		}
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(wait); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", wait, what)
		}
	}
}

func count(events []string, event string) (n int) {
	for _, e := range events {
		if e == event {
			n++
		}
	}
	return n
}

func prefixed(events []string, prefix string) (n int) {
	for _, e := range events {
		if strings.HasPrefix(e, prefix) {
			n++
		}
	}
	return n
}
