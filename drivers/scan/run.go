package scan

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"sync"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/udp"
)

// run is a scan under way, and the host of the driver's calls.
type run struct {
	drivers.Denied
	o       Options
	reach   reach
	answers chan answer

	memory []byte
	seen   map[string]bool
	result Result

	mu     sync.Mutex // of notes, which readers write, too
	notes  []string
	lost   int
	untold int // notes beyond maxNotes
}

var _ drivers.Host = (*run)(nil)

// call has the driver handle an event, and keeps what it found and remembers.
func (r *run) call(ctx context.Context, event drivers.Event, input []byte) error {
	effects, err := r.o.Runner.Handle(ctx, drivers.Call{Event: event, Tenant: r.o.Tenant, Input: input, State: r.state, Settings: r.o.Settings}, r)
	if err != nil {
		return err
	}
	if effects.Memory != nil {
		r.memory = effects.Memory
	}
	for _, d := range effects.Discovered {
		key := d.Network + "\x00" + d.Key + "\x00" + d.Value
		if d.Network == "" || d.Key == "" || d.Value == "" || r.seen[key] {
			continue
		}
		if len(r.result.Found) >= maxFound {
			r.note(fmt.Sprintf("more than %d devices: the rest is left out", maxFound))
			break
		}
		r.seen[key] = true
		r.result.Found = append(r.result.Found, d)
	}
	return nil
}

func (r *run) state() []byte {
	memory := r.memory
	if len(memory) == 0 {
		memory = []byte("null")
	}
	return append(append([]byte(`{"properties":{},"memory":`), memory...), '}')
}

// Send implements drivers.Host: ADDRESS[:PORT], a zero byte, payload. Nothing before the zero byte is everybody.
func (r *run) Send(ctx context.Context, frame []byte) error {
	text, payload, found := bytes.Cut(frame, []byte{0})
	if !found {
		return fmt.Errorf("a frame of a scan begins with ADDRESS:PORT and a zero byte: %w", drivers.ErrInvalid)
	}
	if r.result.Sent++; r.result.Sent > maxSent {
		return fmt.Errorf("a scan sends %d frames at most: %w", maxSent, drivers.ErrRateLimited)
	}
	var to netip.AddrPort
	if len(text) > 0 {
		var err error
		if to, err = udp.ParseTarget(string(text), uint16(r.o.Scan.Port)); err != nil {
			return err
		}
		if !r.o.Network.Contains(to.Addr()) {
			return fmt.Errorf("%s is not in the network %s: %w", to, r.o.Network, drivers.ErrDenied)
		}
	}
	return r.reach.send(ctx, to, bytes.Clone(payload))
}

// Log implements drivers.Host.
func (r *run) Log(level, text string) { r.note(level + ": " + text) }

func (r *run) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.notes) == maxNotes {
		r.untold++
		return
	}
	r.notes = append(r.notes, text)
}

// offer queues an answer; where too many wait it is dropped, which a note tells.
func (r *run) offer(a answer) {
	select {
	case r.answers <- a:
	default:
		r.mu.Lock()
		r.lost++
		r.mu.Unlock()
	}
}

func (r *run) finish() *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Notes = r.notes
	tell := func(n int, format string) {
		if n > 0 {
			r.result.Notes = append(r.result.Notes, fmt.Sprintf(format, n))
		}
	}
	tell(r.untold, "%d more notes are left out")
	tell(r.lost, "%d answers came faster than the driver took them, and were dropped")
	tell(r.result.Answers-maxAnswers, "%d answers came beyond the most that a scan hears, and were dropped")
	tell(r.result.Sent-maxSent, "%d frames were beyond the most that a scan sends, and were not sent")
	r.result.Sent = min(r.result.Sent, maxSent)
	return &r.result
}
