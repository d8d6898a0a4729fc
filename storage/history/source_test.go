package history

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/polluxhq/pollux/storage"
)

// journal is a Source in a file: a line per entry, synced before its append returns. A line that a crash cut off is no
// entry. The cursor is a file beside it.
type journal struct {
	mu      sync.Mutex
	changed chan struct{}
	entries []journalEntry
	file    *os.File // nil: in memory
	cursor  uint64
	sets    []uint64 // every value of SetSampleCursor
}

type journalEntry struct {
	Index   uint64
	Samples []storage.TwinSamples
}

func newJournal() *journal { return &journal{changed: make(chan struct{})} }

func openJournal(path string) (*journal, error) {
	j := newJournal()
	if text, err := os.ReadFile(path + ".cursor"); err == nil {
		if j.cursor, err = strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j.file = f
	end := int64(0)
	for r := bufio.NewReader(f); ; {
		line, err := r.ReadBytes('\n')
		if err != nil {
			break
		}
		var e journalEntry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		j.entries = append(j.entries, e)
		end += int64(len(line))
	}
	if _, err := f.Seek(end, 0); err != nil {
		return nil, err
	}
	return j, f.Truncate(end)
}

// append adds entries; they are acknowledged when it returns.
func (j *journal) append(batches ...[]storage.TwinSamples) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var text []byte
	for _, samples := range batches {
		e := journalEntry{Index: uint64(len(j.entries)) + 1, Samples: samples}
		j.entries = append(j.entries, e)
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		text = append(append(text, line...), '\n')
	}
	close(j.changed)
	j.changed = make(chan struct{})
	if j.file == nil {
		return nil
	}
	_, err := j.file.Write(text)
	return errors.Join(err, j.file.Sync())
}

func (j *journal) ReadSamples(after uint64, fn func(uint64, []storage.TwinSamples) error) (uint64, error) {
	j.mu.Lock()
	entries := j.entries[after:]
	j.mu.Unlock()
	last := after
	for _, e := range entries {
		if len(e.Samples) > 0 {
			// What fn is given is broken after the call, as the contract allows.
			lent := slices.Clone(e.Samples)
			for i := range lent {
				lent[i].Samples = slices.Clone(lent[i].Samples)
			}
			err := fn(e.Index, lent)
			for i := range lent {
				clear(lent[i].Samples)
			}
			clear(lent)
			if err != nil {
				return last, err
			}
		}
		last = e.Index
	}
	return last, nil
}

func (j *journal) WaitApplied(ctx context.Context, after uint64) error {
	for {
		j.mu.Lock()
		n, changed := uint64(len(j.entries)), j.changed
		j.mu.Unlock()
		if n > after {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (j *journal) AppliedIndex() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return uint64(len(j.entries))
}

func (j *journal) SampleCursor() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.cursor
}

func (j *journal) SetSampleCursor(index uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.cursor = index
	j.sets = append(j.sets, index)
	if j.file == nil {
		return nil
	}
	return writeSynced(filepath.Clean(j.file.Name()+".cursor"), []byte(strconv.FormatUint(index, 10)))
}
