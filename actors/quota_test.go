package actors_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// small quotas do not fill up again while a test runs.
func small(burst int) (q actors.Quotas) {
	for i := range q {
		q[i] = actors.Rate{PerSecond: 1, Burst: burst}
	}
	q[drivers.QuotaCalls].Burst = 1000 * burst
	return q
}

// A driver that does too much over time is refused, which it, its twin's log, the twin's state and the counters tell; the
// quota is the twin's own, and another twin's is untouched.
func TestQuotasOfATwin(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.TwinQuotas = small(100) })
	d := n.line("a", nil)
	n.twin(`{"id":"b","driver":"line","uri":"` + d.uri() + `"}`)
	n.wait("b", "ups", "1")
	for _, kind := range []string{"events", "sends"} {
		taken := 0
		for range 4 { // each less than one call may do
			taken += number(n.must("a", "flood", `{"kind":"`+kind+`","times":50}`))
		}
		if taken < 100 || taken > 110 {
			t.Errorf("%s: %d of 200 were taken, the quota is 100", kind, taken)
		}
	}
	if log := n.logs("a"); !strings.Contains(log, "over quota: ") {
		t.Errorf("the twin's log does not tell:\n%s", log)
	}
	for range 4 {
		n.must("a", "flood", `{"kind":"logs","times":50}`)
	}
	s := n.state("a")
	for _, kind := range []string{"events", "sends", "logs"} {
		if got := s.OverQuota[kind]; got < 90 || got > 101 {
			t.Errorf("%s over quota: %d", kind, got)
		}
	}
	until(t, "what is counted is shown", func() bool { // a line of its log may come late
		counted := n.engine.Stats().Dropped["over_quota"]
		s = n.state("a")
		return s.OverQuota["events"]+s.OverQuota["sends"]+s.OverQuota["logs"] == counted
	})
	if got := n.must("b", "flood", `{"kind":"events","times":50}`); got != "50" {
		t.Errorf("another twin's events: %s of 50", got)
	}
	if got := d.heard("x"); got > 110 {
		t.Errorf("the device heard %d", got)
	}
}

// The quota of a driver holds for all of its twins together, and not for another driver's.
func TestQuotasOfADriver(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.DriverQuotas = small(100) })
	n.driver("greedy", "1.0.0", "")
	n.driver("modest", "1.0.0", "")
	taken := 0
	for i := range 5 {
		id := fmt.Sprintf("g%d", i)
		n.twin(`{"id":"` + id + `","driver":"greedy"}`)
		taken += number(n.must(id, "flood", `{"kind":"events","times":50}`))
	}
	if taken < 100 || taken > 110 {
		t.Errorf("%d of 250 were taken, the quota is 100", taken)
	}
	n.twin(`{"id":"m","driver":"modest"}`)
	if got := n.must("m", "flood", `{"kind":"events","times":50}`); got != "50" {
		t.Errorf("another driver's events: %s of 50", got)
	}
}

// logs gives the lines of a twin's log that are kept.
func (n *node) logs(id string) string {
	n.t.Helper()
	w, err := n.client.Watch(ctx(n.t), &pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{id}}, Logs: true}, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	defer w.Close()
	var b strings.Builder
	for seen := false; ; {
		m, err := w.Poll()
		if m == nil && err == nil {
			if seen {
				return b.String()
			}
			m, err = w.Next(ctx(n.t))
		}
		if err != nil {
			n.t.Fatal(err)
		}
		switch {
		case m.GetState() != nil:
			seen = true
			n.state(id) // by now the twin has told the lines as well: it tells them with its state
		case m.GetLog() != nil:
			fmt.Fprintln(&b, m.GetLog().Level, m.GetLog().Text)
		}
	}
}

// What goes on failing is put into quarantine: its neighbours do not notice, it shows, it holds after a restart, and ends
// when somebody says so.
func TestQuarantine(t *testing.T) {
	fs := vfs.NewMem()
	strict := func(o *actors.Options) {
		o.BackoffMin, o.BackoffMax = 5*time.Millisecond, 20*time.Millisecond
		o.QuarantineAfter, o.CheckpointMin = 3, 10*time.Millisecond
	}
	n := open(t, fs, 1, strict)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.twin(`{"id":"b","driver":"probe"}`)
	n.must("a", "count", "")
	quarantined := func(n *node) *pb.TwinStatus {
		if s := n.state("a").Status; s.QuarantineTime != nil {
			return s
		}
		return nil
	}
	until(t, "a is in quarantine", func() bool {
		_, err := n.invoke("a", "panic", "")
		return err != nil && quarantined(n) != nil
	})
	s := quarantined(n)
	if s.Failures != 3 || s.Fault == "" || time.Until(s.RetryTime.AsTime()) < 30*time.Minute {
		t.Errorf("status %v", s)
	}
	if _, err := n.invoke("a", "count", ""); err == nil || !strings.Contains(err.Error(), "panic") {
		t.Errorf("a command meanwhile: %v", err)
	}
	if got := n.must("b", "count", ""); got != "1" {
		t.Errorf("its neighbour counts %s", got)
	}
	until(t, "it is counted", func() bool {
		all, err := n.reg.Quarantined("", "")
		one, err2 := n.reg.Quarantined("probe", "1.0.0")
		none, err3 := n.reg.Quarantined("probe", "1.0.1")
		return all == 1 && one == 1 && none == 0 && err == nil && err2 == nil && err3 == nil
	})
	n.close()
	n = open(t, fs, 2, strict)
	if s := quarantined(n); s == nil || s.Fault == "" || s.Failures != 3 {
		t.Fatalf("after a restart: %v", n.state("a").Status)
	}
	if ids, err := n.client.Release(ctx(t), &pb.TwinFilter{Driver: "other"}, nil, "me"); err != nil || len(ids) != 0 {
		t.Errorf("released %v, %v", ids, err)
	}
	if ids, err := n.client.Release(ctx(t), &pb.TwinFilter{Driver: "probe"}, nil, "me"); err != nil || len(ids) != 1 || ids[0] != "default/a" {
		t.Fatalf("released %v, %v", ids, err)
	}
	if got := n.must("a", "count", ""); got != "2" {
		t.Errorf("after its release it counts %s", got)
	}
	if s := n.state("a").Status; s.QuarantineTime != nil || s.Failures != 0 || s.Fault != "" {
		t.Errorf("after its release: %v", s)
	}
	if all, err := n.reg.Quarantined("", ""); all != 0 || err != nil {
		t.Errorf("%d in quarantine, %v", all, err)
	}
}

// A driver that fails again for the same reason is news: how often, until when it is left alone, and whether it is in
// quarantine.
func TestWatchersSeeEachFailure(t *testing.T) {
	n := newNode(t, func(o *actors.Options) {
		o.BackoffMin, o.BackoffMax, o.QuarantineAfter = 100*time.Millisecond, 100*time.Millisecond, 3
	})
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.must("a", "count", "")
	w := n.watch(&pb.WatchTwinsRequest{})
	wait, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	reason := ""
	for i := uint32(1); i <= 3; i++ {
		for n.state("a").Status.Failures < i {
			_, _ = n.invoke("a", "panic", "") // it is refused while the driver is left alone
		}
		var s *pb.TwinStatus
		for s == nil || s.Failures < i {
			m, err := w.Next(wait)
			if err != nil {
				t.Fatalf("failure %d is not told: %v", i, err)
			}
			if s = m.GetDelta().GetStatus(); s == nil {
				s = m.GetState().GetStatus()
			}
		}
		if reason == "" {
			reason = s.Fault
		}
		if s.Failures != i || s.Fault == "" || s.Fault != reason || s.RetryTime == nil || (s.QuarantineTime != nil) != (i == 3) {
			t.Errorf("failure %d: %v", i, s)
		}
	}
}

// Another version of the driver is a new chance, and so are other settings.
func TestQuarantineEndsWithAnotherVersion(t *testing.T) {
	n := newNode(t, func(o *actors.Options) {
		o.BackoffMin, o.BackoffMax, o.QuarantineAfter = time.Millisecond, time.Millisecond, 2
	})
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	fail := func() {
		t.Helper()
		until(t, "a is in quarantine", func() bool {
			_, _ = n.invoke("a", "panic", "")
			return n.state("a").Status.QuarantineTime != nil
		})
	}
	fail()
	n.driver("probe", "1.0.1", "")
	until(t, "the new version works", func() bool { _, err := n.invoke("a", "count", ""); return err == nil })
	if n.state("a").Status.QuarantineTime != nil {
		t.Error("it is still in quarantine")
	}
	fail()
	tw, err := n.reg.GetTwin("a")
	if err != nil {
		t.Fatal(err)
	}
	tw.Settings = settings(t, `{"topic":"other"}`)
	if _, err := n.reg.UpdateTwin(ctx(t), tw); err != nil {
		t.Fatal(err)
	}
	until(t, "it works with other settings", func() bool { _, err := n.invoke("a", "count", ""); return err == nil })
	until(t, "nothing is in quarantine", func() bool { all, err := n.reg.Quarantined("", ""); return all == 0 && err == nil })
	if err := n.reg.DeleteTwin(ctx(t), "a", 0); err != nil {
		t.Fatal(err)
	}
}

// After a failure a call may send to its device only little: what it sends cannot be taken back.
func TestSendsAfterAFailure(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.BackoffMin, o.BackoffMax = time.Millisecond, time.Millisecond })
	d := n.line("a", nil)
	if _, err := n.invoke("a", "panic", ""); err == nil {
		t.Fatal("no failure")
	}
	var taken string
	until(t, "the driver is tried again", func() (ok bool) {
		var err error
		taken, err = n.invoke("a", "flood", `{"kind":"sends","times":200}`)
		return err == nil
	})
	if taken != "16" {
		t.Errorf("after a failure %s of 200 were sent", taken)
	}
	if got := n.must("a", "flood", `{"kind":"sends","times":200}`); got != "200" {
		t.Errorf("afterwards %s of 200 were sent", got)
	}
	until(t, "the device has them", func() bool { return d.heard("x") == 216 })
}

// A twin that writes much state has what is written behind wait; what somebody waits for is committed all the same.
func TestStateOverQuota(t *testing.T) {
	n := newNode(t, func(o *actors.Options) {
		o.TwinQuotas[drivers.QuotaState] = actors.Rate{PerSecond: 1, Burst: 2_000}
		o.CheckpointMin, o.CheckpointMax = 5*time.Millisecond, time.Hour
	})
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	big := strings.Repeat("x", 1000)
	for i := 0; n.state("a").OverQuota["state"] == 0; i++ {
		n.must("a", "report", fmt.Sprintf(`{"last":"%d%s"}`, i, big))
	}
	n.must("a", "report", `{"level":1}`)
	if _, err := n.set("a", "level", "7", time.Minute); err != nil {
		t.Fatal(err)
	}
	until(t, "what was asked for is committed", func() bool { return n.committed("default/a", "level") != "" })
	before := n.engine.Stats().Checkpoints
	for i := range 20 {
		n.must("a", "report", fmt.Sprintf(`{"last":"again %d"}`, i))
		time.Sleep(2 * time.Millisecond) // longer than the shortest interval in all
	}
	if after := n.engine.Stats().Checkpoints; after-before > 3 {
		t.Errorf("%d checkpoints of values that are written behind", after-before)
	}
}
