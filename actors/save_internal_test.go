package actors

import (
	"errors"
	"testing"
	"time"

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

// A twin whose values wait for the longest interval does not wait for all of it when the store has room again.
func TestShorterIntervalReachesWhoWaits(t *testing.T) {
	e := &Engine{}
	e.interval.init(time.Second, 30*time.Second)
	for range 20 {
		e.interval.busy()
		e.interval.relax()
	}
	const now = 100_000
	x := &twin{e: e, dirty: true, dirtyAt: now}
	if e.interval.get() != 30_000 {
		t.Fatalf("a busy store's interval is %d ms", e.interval.get())
	}
	look := x.nextCheckpoint(now)
	for range 5 {
		e.interval.relax()
	}
	if look > now+7_500 || x.nextCheckpoint(look) > look {
		t.Errorf("it looks again after %d ms, and is due after %d", look-now, x.nextCheckpoint(look)-now)
	}
}
