package pollux

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
)

// eventually tries until there is no error.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("not in time: %s: %v", what, err)
		}
	}
}

// TestRulesTakenAwayWhileTheyAreApplied: by rules that a project has no more nothing is deleted, though a node is at it already.
func TestRulesTakenAwayWhileTheyAreApplied(t *testing.T) {
	conf := DefaultConfig()
	conf.Data, conf.Name, conf.RetentionInterval, conf.MetricsMemory = t.TempDir(), "test", time.Second, 64<<20
	conf.HTTP, conf.MQTT, conf.Gossip, conf.Peer, conf.Inbound = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", ""
	n, err := Open(t.Context(), conf, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close(context.Background()) })
	past, ok := n.history.(*history.Embedded)
	if !ok {
		t.Fatalf("history is %T", n.history)
	}
	const count = 500
	x := storage.TwinSamples{Project: "hotel", Twin: "a", Model: "Room"}
	for i := range count {
		x.Samples = append(x.Samples, storage.Sample{Property: "heat", Time: time.Now().Add(-2*time.Hour - time.Duration(i)*time.Second).UnixMilli(), Value: float64(i)})
	}
	if err := past.Insert(t.Context(), 1, []storage.TwinSamples{x}); err != nil {
		t.Fatal(err)
	}
	read := func(ctx context.Context, fn func(storage.TwinSamples) error) error {
		return past.Walk(ctx, history.WalkQuery{Project: "hotel", Start: time.Now().Add(-24 * time.Hour), End: time.Now()}, fn)
	}
	all := func() error {
		n := 0
		err := read(t.Context(), func(t storage.TwinSamples) error { n += len(t.Samples); return nil })
		if err == nil && n != count {
			err = fmt.Errorf("%d samples of %d", n, count)
		}
		return err
	}
	eventually(t, "all samples show", all)
	put := func(rules ...*pb.SampleRetention) {
		t.Helper()
		s, err := n.engine.Registry().ProjectSettings("hotel")
		if err != nil {
			t.Fatal(err)
		}
		s.Project, s.SampleRetention = "hotel", rules
		if _, err := n.engine.Registry().PutProjectSettings(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	// While somebody reads, nothing is deleted: the node waits right before it.
	began, ends, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	once := sync.OnceFunc(func() { close(began) })
	go func() {
		ended <- read(context.Background(), func(storage.TwinSamples) error { once(); <-ends; return nil })
	}()
	<-began
	end := sync.OnceFunc(func() { close(ends) })
	defer end()
	put(&pb.SampleRetention{Property: "heat", MaxAge: durationpb.New(time.Hour)})
	running := func(want bool) func() error {
		return func() error {
			if c := n.curator.Curation("hotel"); (c.GetRunning() == "heat") != want {
				return errors.New(c.String())
			}
			return nil
		}
	}
	eventually(t, "the node is about to delete", running(true))
	put()
	eventually(t, "it stops", running(false))
	end()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := all(); err != nil {
		t.Errorf("by rules that were taken away: %v", err)
	}
}
