package cluster

import (
	"testing"
	"time"
)

func TestRoundIsHowFarBehindInTime(t *testing.T) {
	ms := func(n int64) int64 { return n * int64(time.Millisecond) }
	var r round
	if _, known := r.behind(ms(1)); known {
		t.Fatal("known before the first answer")
	}
	check := func(at, atMost int64) {
		t.Helper()
		if got, known := r.behind(ms(at)); !known || got > time.Duration(ms(atMost)) {
			t.Fatalf("at %d ms: %s behind, want at most %d ms", at, got, atMost)
		}
	}
	// 10,000 entries a second, an answer each 50 ms: 500 entries behind what the leader knows, and well.
	for at := int64(0); at <= 1000; at += 50 {
		r.answered(uint64(10*at), uint64(10*at+500), ms(at))
	}
	check(1000, 150)
	// It gets half of what comes: each round is longer than the one before.
	for at := int64(1000); at <= 9000; at += 50 {
		r.answered(uint64(10_000+5*(at-1000)), uint64(10*at+500), ms(at))
	}
	if got, _ := r.behind(ms(9000)); got < 2*time.Second {
		t.Fatalf("one that falls behind is %s behind", got)
	}
	// A new term has cut the leader's log below the goal.
	r.answered(200, 200, ms(9100))
	r.answered(210, 210, ms(9150))
	check(9150, 50)
}
