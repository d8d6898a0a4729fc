package sink

import (
	"bytes"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// TestTwoWriters: an owner of old writes a batch into a directory that all nodes share while the new one does. At each moment the file is whole.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	dir, body := t.TempDir(), bytes.Repeat([]byte("row "), 256<<10)
	first := &files{dir, "n1"}
	if err := first.put(t.Context(), "day/part", body, ""); err != nil {
		t.Fatal(err)
	}
	var writers sync.WaitGroup
	done := make(chan struct{})
	for _, f := range []*files{first, {dir, "n2"}} {
		writers.Go(func() {
			for range 50 {
				if err := f.put(t.Context(), "day/part", body, ""); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() { writers.Wait(); close(done) }()
	for {
		got, err := os.ReadFile(filepath.Join(dir, "day", "part"))
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes of %d, %v", len(got), len(body), err)
			<-done
			return
		}
		select {
		case <-done:
			return
		default:
		}
	}
}
