package peer

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"time"
)

// Entry is one line of a Journal.
type Entry struct {
	Time   time.Time `json:"time"`
	Device string    `json:"device"`
	// Event is connected, disconnected, told (a command arrived), state (the device changed), fault.
	Event string `json:"event"`
	// Text is the command as it was told, the new state, or the fault; never a password.
	Text string `json:"text"`
}

// keep is how many entries a journal remembers; older ones are only in what was written.
const keep = 10000

// Journal is the append-only record of what happened to simulated devices. Safe for concurrent use.
type Journal struct {
	mu      sync.Mutex
	w       io.Writer
	entries []Entry // the last keep ones
	first   int     // number of the first of them
	changed chan struct{}
	err     error
}

// NewJournal returns a journal that also writes each entry to w, a line of JSON each; w may be nil.
func NewJournal(w io.Writer) *Journal {
	return &Journal{w: w, changed: make(chan struct{})}
}

// Add appends an entry with the current time. It blocks while the writer does. Where writing fails, the journal goes on
// in memory only, and Err says why.
func (j *Journal) Add(device, event, text string) {
	e := Entry{Time: time.Now(), Device: device, Event: event, Text: text}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.entries) == keep {
		j.entries = append(j.entries[:0], j.entries[keep/2:]...)
		j.first += keep / 2
	}
	j.entries = append(j.entries, e)
	close(j.changed)
	j.changed = make(chan struct{})
	if j.w == nil || j.err != nil {
		return
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = j.w.Write(append(line, '\n'))
	}
	j.err = err
}

// Entries gives what is remembered of a device in order; of all devices where device is empty.
func (j *Journal) Entries(device string) []Entry {
	j.mu.Lock()
	defer j.mu.Unlock()
	var out []Entry
	for _, e := range j.entries {
		if device == "" || e.Device == device {
			out = append(out, e)
		}
	}
	return out
}

// Wait blocks until an entry that matches is there, also one that came before the call, or until ctx ends.
func (j *Journal) Wait(ctx context.Context, match func(Entry) bool) (Entry, error) {
	next := 0
	for {
		j.mu.Lock()
		for next = max(next, j.first); next < j.first+len(j.entries); next++ {
			if e := j.entries[next-j.first]; match(e) {
				j.mu.Unlock()
				return e, nil
			}
		}
		changed := j.changed
		j.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return Entry{}, ctx.Err()
		}
	}
}
