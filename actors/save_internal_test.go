package actors

import (
	"errors"
	"testing"

	"github.com/polluxhq/pollux/storage"
)

// What a transaction that failed for good would have brought takes no room from the next one.
func TestFailedSaveLeavesRoom(t *testing.T) {
	told := 0
	s := &save{samples: []storage.Sample{{Property: "a"}}, sampleBytes: maxSamples, journal: []storage.JournalEntry{{Name: "b"}}, journalBytes: maxJournal,
		waiting: []saveWaiter{{done: func(error) { told++ }}}}
	s.fail(errors.New("ran"), errors.New("not"))
	if s.sampleBytes != 0 || s.journalBytes != 0 || len(s.samples)+len(s.journal) != 0 || told != 1 {
		t.Errorf("%d and %d bytes are taken, %d told", s.sampleBytes, s.journalBytes, told)
	}
}
