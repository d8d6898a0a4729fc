package peer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestParseFaults(t *testing.T) {
	f, err := ParseFaults("latency=200ms, jitter=50ms,silence=0.1,garbage=0.02,refuse=0.5,drop=0.01")
	if err != nil {
		t.Fatal(err)
	}
	want := Faults{Latency: 200 * time.Millisecond, Jitter: 50 * time.Millisecond, Silence: .1, Garbage: .02, Refuse: .5, Drop: .01}
	if f != want {
		t.Fatalf("got %+v", f)
	}
	if again, err := ParseFaults(f.String()); err != nil || again != f {
		t.Fatalf("round trip: %+v, %v", again, err)
	}
	if f, err := ParseFaults(""); err != nil || f != (Faults{}) {
		t.Fatalf("empty: %+v, %v", f, err)
	}
	for _, bad := range []string{"latency", "latency=fast", "latency=-1s", "drop=2", "drop=NaN", "drop=-0.1", "fire=1"} {
		if _, err := ParseFaults(bad); err == nil {
			t.Errorf("%q was taken", bad)
		} else if !strings.Contains(err.Error(), bad) {
			t.Errorf("%q: the error does not name it: %v", bad, err)
		}
	}
}

func TestThrowKeepsTheShares(t *testing.T) {
	d := NewDice(Faults{Silence: .2, Garbage: .1, Drop: .05, Latency: time.Second, Jitter: time.Second}, 1)
	const n = 20000
	var count [4]float64
	for range n {
		o, delay := d.Throw()
		count[o]++
		if delay < time.Second || delay >= 2*time.Second {
			t.Fatalf("delay %v", delay)
		}
	}
	for o, want := range map[Outcome]float64{Answer: .65, Silence: .2, Garbage: .1, Drop: .05} {
		if got := count[o] / n; math.Abs(got-want) > .02 {
			t.Errorf("outcome %d: share %.3f, want %.3f", o, got, want)
		}
	}
	d.Set(Faults{})
	for range 1000 {
		if o, delay := d.Throw(); o != Answer || delay != 0 || d.Refused() {
			t.Fatal("a fault after all were switched off")
		}
	}
}

func TestJournalWritesAndWaits(t *testing.T) {
	var out bytes.Buffer
	j := NewJournal(&out)
	got := make(chan Entry)
	go func() {
		e, err := j.Wait(t.Context(), func(e Entry) bool { return e.Device == "b" })
		if err != nil {
			t.Error(err)
		}
		got <- e
	}()
	j.Add("a", "told", "x\"\x00")
	j.Add("b", "told", "y")
	if e := <-got; e.Text != "y" {
		t.Fatalf("got %+v", e)
	}
	if n := len(j.Entries("a")); n != 1 {
		t.Fatalf("%d entries of a", n)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines", len(lines))
	}
	var e Entry
	if err := json.Unmarshal([]byte(lines[0]), &e); err != nil || e.Text != "x\"\x00" || e.Time.IsZero() {
		t.Fatalf("%+v, %v", e, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := j.Wait(ctx, func(Entry) bool { return false }); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}

func TestJournalIsBounded(t *testing.T) {
	j := NewJournal(nil)
	for i := range 3*keep + 7 {
		j.Add("a", "told", strconv.Itoa(i))
	}
	e := j.Entries("")
	if len(e) > keep {
		t.Fatalf("%d entries kept", len(e))
	}
	if last := e[len(e)-1].Text; last != strconv.Itoa(3*keep+6) {
		t.Fatalf("last is %s", last)
	}
}
