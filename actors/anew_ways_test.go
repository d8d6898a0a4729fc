package actors_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// A detector that is deleted and made again at once has learned nothing, whatever the twin has in memory or in the store.
func TestDetectorMadeAnew(t *testing.T) {
	fs := vfs.NewMem()
	t.Parallel()
	n := open(t, fs, 1)
	sensors(n, "a")
	const spikes = `{"id":"spikes","property":"t","kind":"DETECTOR_KIND_EWMA"}`
	now := time.Now()
	last := now.Add(-time.Hour)
	made := func() *pb.Detector {
		t.Helper()
		if err := n.reg.DeleteDetector(ctx(t), "spikes"); err != nil {
			t.Fatal(err)
		}
		return n.detector(spikes)
	}
	begins := func() {
		t.Helper()
		last = last.Add(time.Minute)
		n.absorb("a", `{"t":20}`, last.UnixMilli())
		if s := n.state("a").Detectors["default/spikes"]; s.GetReadings() != 1 {
			t.Errorf("it begins with %d readings", s.GetReadings()-1)
		}
	}
	trained := func() (keys []string) {
		for rec, err := range n.store.Scan("training", "", "") {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, rec.Key)
		}
		return keys
	}
	first := n.detector(spikes)
	n.readings("a", 60, last)
	if second := made(); second.CreateTime.AsTime().Equal(first.CreateTime.AsTime()) {
		t.Error("it was made when the one before was")
	}
	begins()
	until(t, "what it has learned is written, and that of the one before is gone", func() bool { return len(trained()) == 1 })
	before := trained()[0]
	made()
	n.close() // before anybody has looked, or a moment after
	n = open(t, fs, 2)
	begins()
	until(t, "what it has learned is in the place of that", func() bool { keys := trained(); return len(keys) == 1 && keys[0] != before })
	if err := n.reg.DeleteDetector(ctx(t), "spikes"); err != nil {
		t.Fatal(err)
	}
	n.untrained("it is deleted")
}

// Who follows a twin that is deleted and made again hears that it has no value, also where he could not hear of the deletion.
func TestFollowersOfATwinMadeAnew(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	for _, id := range []string{"a", "b"} {
		n.twin(`{"id":"` + id + `","driver":"probe"}`)
	}
	n.must("a", "report", `{"level":1}`)
	n.must("b", "follow", `{"twin":"a","property":"level"}`)
	n.must("b", "follow", `{"twin":"a","property":"on"}`) // it never says that: b hears nothing of it
	n.hears("b", "a.level=1 good")
	n.stop("b", true)
	n.deleteTwin("default/a")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.stop("b", false)
	n.hears("b", "a.level=1 good", "a.level=null bad")
	n.must("a", "report", `{"level":2}`)
	n.hears("b", "a.level=1 good", "a.level=null bad", "a.level=2 good")
}

// Who computes of a twin that was made anew, and hears of the deletion after that one has said something, computes of what it said.
func TestSourceOfADerivedPropertyMadeAnew(t *testing.T) {
	n := newNode(t)
	floors(n)
	n.applied(`{"twin":{"id":"s","model":"sensor","zone":"room"}}`)
	n.absorb("s", `{"t":20}`, 0)
	n.derives("floor", "mean", "20 good")
	evaluated := n.state("floor").Derived["mean"].Evaluations
	n.engine.LoseSource("default/floor", "default/s", "t")
	until(t, "it has heard of the deletion", func() bool { return n.state("floor").Derived["mean"].Evaluations > evaluated })
	n.derives("floor", "mean", "20 good")
}

// What a logic keeps of a twin goes in the transaction that removes the twin's state, so the next one of the id begins with nothing; what it
// keeps of others stays.
func TestLogicOfATwinMadeAnew(t *testing.T) {
	n := newNode(t)
	n.logic("filter.js")
	n.twin(`{"id":"desk","driver":"filter"}`)
	n.sensors("a")
	n.stream("default/out")
	n.route(&pb.Route{Id: "r", Topics: []string{"out"}, Run: "desk", Properties: []string{"level"}})
	n.level("a", 3)
	until(t, "it keeps something of a", func() bool { return n.records("logicstate", "default/a\x00") == 1 })
	for i := range 40 { // so many others that to look through all takes a while
		txn := &storage.Txn{}
		for j := range 500 {
			txn.Writes = append(txn.Writes, storage.Write{Table: "logicstate", Key: fmt.Sprintf("default/x%d.%d\x00default/desk\x001", i, j), Value: []byte("{}"), Quiet: true})
		}
		if _, err := n.store.Commit(ctx(t), txn); err != nil {
			t.Fatal(err)
		}
	}
	n.deleteTwin("default/a")
	if got := n.records("logicstate", "default/a\x00"); got != 0 {
		t.Errorf("%d records of what is kept of it are left", got)
	}
	n.sensors("a")
	n.level("a", 3)
	until(t, "the new one is counted from the beginning", func() bool {
		all := n.payloads("default/out")
		return len(all) == 2 && strings.Contains(all[1], `"count":1`)
	})
}

// Whoever sets settings while their zone is deleted leaves none to the next zone of the name; and what is deleted with the zone goes at once.
func TestSettingsOfAZoneMadeAnew(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.zone("site", "")
	for i := range 60 {
		id := fmt.Sprintf("z%d", i)
		n.zone(id, "site")
		var all sync.WaitGroup
		for j := range 2 {
			all.Go(func() {
				_, err := n.reg.SetSettings(context.Background(), &pb.SetSettingsRequest{Scope: ofZone(id), Values: settings(t, fmt.Sprintf(`{"topic":"x%d"}`, j))}, "ann")
				if err != nil && !errors.Is(err, actors.ErrNotFound) && !errors.Is(err, actors.ErrRevision) {
					t.Errorf("settings: %v", err)
				}
			})
		}
		if err := n.reg.DeleteZone(ctx(t), id); err != nil {
			t.Fatal(err)
		}
		all.Wait()
		if n.records("settings", "zone/default/"+id) > 0 {
			t.Fatalf("zone %s is gone, and its settings are there", id)
		}
	}
	n.zone("room", "site")
	n.sets(ofZone("room"), `{"topic":"its"}`)
	revisions := map[storage.Table]uint64{}
	after := n.store.Revision()
	if err := n.reg.DeleteZone(ctx(t), "room"); err != nil {
		t.Fatal(err)
	}
	for _, table := range []storage.Table{"zone", "settings", "use"} {
		changes, err := n.store.Watch(ctx(t), table, "", after)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range <-changes {
			revisions[table] = c.Revision
		}
	}
	if revisions["zone"] == 0 || revisions["settings"] != revisions["zone"] || revisions["use"] != revisions["zone"] {
		t.Errorf("deleted one after the other: %v", revisions)
	}
}

// A source that is deleted and made again at once counts what it reads itself.
func TestSourceMadeAnew(t *testing.T) {
	k, c := newKafka(t)
	n := newNode(t)
	n.sensors("a")
	produce := func(level int) {
		t.Helper()
		if err := c.ProduceSync(ctx(t), &kgo.Record{Value: fmt.Appendf(nil, `{"level":%d}`, level), Headers: []kgo.RecordHeader{{Key: "twin", Value: []byte("a")}}}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	level := func(want float64) {
		t.Helper()
		until(t, fmt.Sprintf("level %v has come", want), func() bool { return n.state("a").Properties["level"].GetValue().GetNumberValue() == want })
	}
	plant := &pb.Source{Id: "plant", Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/readings"}
	if _, err := n.reg.CreateSource(ctx(t), plant); err != nil {
		t.Fatal(err)
	}
	produce(1)
	level(1)
	produce(2) // it is not yet time to tell of it
	level(2)
	// Else the next one of the name reads it again.
	until(t, "the group is told that it was read", func() bool { return positionOf(ctx(t), c, "pollux-default-plant") == 2 })
	if err := n.reg.DeleteSource(ctx(t), "plant"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.reg.CreateSource(ctx(t), plant); err != nil {
		t.Fatal(err)
	}
	produce(3)
	level(3)
	var read uint64
	until(t, "it says what it has read", func() bool {
		m, err := n.reg.Source("plant")
		read = m.GetState().GetRead()
		return err == nil && read > 0
	})
	if read != 1 {
		t.Errorf("it has read %d, want 1", read)
	}
}

// What became of a deleted notifier's messages goes with it, and what becomes of the next one's stays.
func TestOutcomesOfANotifierMadeAnew(t *testing.T) {
	n := newNode(t)
	n.notifier(&pb.Notifier{Id: "lines", Kind: &pb.Notifier_Log{Log: &pb.LogNotifier{}}})
	n.notify(&pb.Notification{Notifier: "lines", Body: "x"})
	until(t, "it is told", func() bool { return n.records("notice", "default/lines\x00") == 1 })
	next := fmt.Sprintf("default/lines\x00%016x", 2) // the next one may have told something before this deletion is done
	if _, err := n.store.Commit(ctx(t), &storage.Txn{Writes: []storage.Write{{Table: "notice", Key: next, Value: []byte{}}}}); err != nil {
		t.Fatal(err)
	}
	if err := n.reg.DeleteNotifier(ctx(t), "lines"); err != nil {
		t.Fatal(err)
	}
	if _, there, err := n.store.Get("notice", next); err != nil || !there || n.records("notice", "default/lines\x00") != 1 {
		t.Errorf("%d outcomes are left, that of the next one among them: %v, %v", n.records("notice", "default/lines\x00"), there, err)
	}
}
