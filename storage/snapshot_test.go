package storage_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// trailing makes raft keep next to nothing of the log behind a snapshot.
var trailing = storagetest.WithRaft(func(c *raft.Config) {
	c.TrailingLogs = 1
	c.SnapshotInterval = time.Hour
})

func snapshot(t testing.TB, n *storagetest.Node) {
	t.Helper()
	if err := n.Raft.Snapshot().Error(); err != nil {
		t.Fatalf("snapshot: %v", err)
	}
}

func firstIndex(t testing.TB, s *storage.Store) uint64 {
	t.Helper()
	i, err := s.LogStore().FirstIndex()
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func fill(t testing.TB, s *storage.Store, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		mustCommit(t, s, put("t", fmt.Sprintf("k%04d", i), strings.Repeat(fmt.Sprint(i), 20)))
	}
}

func checkFill(t testing.TB, s *storage.Store, n int) {
	t.Helper()
	if got, err := s.Count("t", "k"); got != n || err != nil {
		t.Fatalf("%d records, want %d (%v)", got, n, err)
	}
	for i := range n {
		mustGet(t, s, "t", fmt.Sprintf("k%04d", i), strings.Repeat(fmt.Sprint(i), 20))
	}
}

func TestSnapshotTruncatesAndRestarts(t *testing.T) {
	fs := vfs.NewMem()
	discard := storagetest.WithStore(func(o *storage.Options) { o.DiscardSamples = true })
	n, err := storagetest.Open("store", fs, trailing, discard)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 4 {
		fill(t, n.Store, round*50, (round+1)*50)
		snapshot(t, n)
	}
	if first, applied := firstIndex(t, n.Store), n.Store.AppliedIndex(); first+5 < applied {
		t.Errorf("the log begins at %d though %d is in a snapshot", first, applied)
	}
	if metas, err := n.Store.SnapshotStore().List(); len(metas) != 1 || err != nil {
		t.Errorf("%d snapshots, %v", len(metas), err)
	}
	fill(t, n.Store, 200, 230)
	rev := n.Store.Revision()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	s := storagetest.OpenSingle(t, "store", fs, trailing, discard)
	checkFill(t, s, 230)
	if s.Revision() != rev {
		t.Errorf("revision %d, want %d", s.Revision(), rev)
	}
}

// install sends a node's newest snapshot to another store as raft does.
func install(t testing.TB, from *storagetest.Node, to *storage.Store) {
	t.Helper()
	metas, err := from.Store.SnapshotStore().List()
	if err != nil || len(metas) == 0 {
		t.Fatalf("list: %d, %v", len(metas), err)
	}
	meta, rc, err := from.Store.SnapshotStore().Open(metas[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	sink, err := to.SnapshotStore().Create(meta.Version, meta.Index, meta.Term, meta.Configuration, meta.ConfigurationIndex, nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(sink, rc)
	if err != nil {
		t.Fatal(err)
	}
	if n != meta.Size {
		t.Fatalf("the stream has %d bytes, %d were announced", n, meta.Size)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	_, rc2, err := to.SnapshotStore().Open(sink.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer rc2.Close()
	if err := to.FSM().Restore(rc2); err != nil {
		t.Fatal(err)
	}
}

func TestInstallIntoAnEmptyStore(t *testing.T) {
	n := storagetest.OpenNode(t, "store", vfs.NewMem(), trailing)
	fill(t, n.Store, 0, 300)
	snapshot(t, n)
	fs := vfs.NewMem()
	o := storage.Options{Dir: "other", FS: fs}
	to, err := storage.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	// A view of the old state stays what it was, and a watch of it is told that there is more.
	old := to.View()
	install(t, n, to)
	if _, ok, err := old.Get("t", "k0000"); ok || err != nil {
		t.Errorf("the old view sees the new state: %v %v", ok, err)
	}
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	checkFill(t, to, 300)
	if to.Revision() != n.Store.Revision() || to.AppliedIndex() != n.Store.AppliedIndex() {
		t.Errorf("at %d/%d, want %d/%d", to.Revision(), to.AppliedIndex(), n.Store.Revision(), n.Store.AppliedIndex())
	}
	if last, err := to.ReadSamples(0, nil); !errors.Is(err, storage.ErrCompacted) && last != to.AppliedIndex() {
		t.Errorf("samples from before the snapshot: %d, %v", last, err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if to, err = storage.Open(o); err != nil {
		t.Fatal(err)
	}
	checkFill(t, to, 300)
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	names, _ := fs.List("other")
	states := 0
	for _, name := range names {
		if strings.HasPrefix(name, "state-") {
			states++
		}
	}
	if states != 1 {
		t.Errorf("%v: more than one state", names)
	}
}

// The process ends when the snapshot has been received and not yet restored: the next start restores it.
func TestReceivedSnapshotIsRestoredAtStart(t *testing.T) {
	n := storagetest.OpenNode(t, "store", vfs.NewMem(), trailing)
	fill(t, n.Store, 0, 50)
	snapshot(t, n)
	metas, _ := n.Store.SnapshotStore().List()
	meta, rc, err := n.Store.SnapshotStore().Open(metas[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	fs := vfs.NewCrashableMem()
	to, err := storage.Open(storage.Options{Dir: "other", FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	sink, err := to.SnapshotStore().Create(1, meta.Index, meta.Term, meta.Configuration, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(sink, rc); err != nil {
		t.Fatal(err)
	}
	if err := sink.Close(); err != nil {
		t.Fatal(err)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	if to, err = storage.Open(storage.Options{Dir: "other", FS: crashed}); err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	checkFill(t, to, 50)
}

func TestDamagedStreamIsRefused(t *testing.T) {
	n := storagetest.OpenNode(t, "store", vfs.NewMem(), trailing)
	fill(t, n.Store, 0, 50)
	snapshot(t, n)
	metas, _ := n.Store.SnapshotStore().List()
	meta, rc, err := n.Store.SnapshotStore().Open(metas[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(rc)
	if err != nil {
		t.Fatal(err)
	}
	rc.Close()
	flipped := bytes.Clone(whole)
	flipped[len(flipped)/2] ^= 1
	for name, stream := range map[string][]byte{
		"empty": {}, "short": whole[:len(whole)-3], "cut": whole[:len(whole)/3], "flipped": flipped,
		"foreign": []byte("GIF89a..........."), "path": []byte("PLXSNAP1\x04\x00../x\x01\x00\x00\x00\x00\x00\x00\x00x\x00\x00\x00\x00\x00\x00"),
		"long": append(bytes.Clone(whole), 1),
	} {
		to, err := storage.Open(storage.Options{Dir: "other", FS: vfs.NewMem()})
		if err != nil {
			t.Fatal(err)
		}
		sink, err := to.SnapshotStore().Create(1, meta.Index, meta.Term, meta.Configuration, 1, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, werr := sink.Write(stream)
		if err := sink.Close(); err == nil && werr == nil {
			t.Errorf("%s: accepted", name)
		}
		if metas, _ := to.SnapshotStore().List(); len(metas) != 0 {
			t.Errorf("%s: listed", name)
		}
		if err := to.FSM().Restore(io.NopCloser(bytes.NewReader(stream))); err == nil {
			t.Errorf("%s: restored", name)
		}
		if to.Err() != nil {
			t.Errorf("%s: the store stopped: %v", name, to.Err())
		}
		if err := to.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The log keeps what the samples' reader has not said to be done with.
func TestTruncationWaitsForTheSampleCursor(t *testing.T) {
	n := storagetest.OpenNode(t, "store", vfs.NewMem(), trailing)
	fill(t, n.Store, 0, 40)
	snapshot(t, n)
	if first := firstIndex(t, n.Store); first != 1 {
		t.Fatalf("the log begins at %d though no sample was read", first)
	}
	cursor := n.Store.AppliedIndex() - 10
	if err := n.Store.SetSampleCursor(cursor); err != nil {
		t.Fatal(err)
	}
	fill(t, n.Store, 40, 41)
	snapshot(t, n)
	if first := firstIndex(t, n.Store); first != cursor+1 {
		t.Fatalf("the log begins at %d, want %d", first, cursor+1)
	}
	if err := n.Store.SetSampleCursor(n.Store.AppliedIndex() + 1); err == nil {
		t.Error("the cursor passed what is applied")
	}
}

// What is not flushed must stay in the log, whoever asks for its deletion; what is not applied may go.
func TestLogIsNotCutPastTheStatesDisk(t *testing.T) {
	n := storagetest.OpenNode(t, "store", vfs.NewMem(), storagetest.WithStore(func(o *storage.Options) { o.DiscardSamples = true }))
	fill(t, n.Store, 0, 30)
	applied := n.Store.AppliedIndex()
	if err := n.Store.LogStore().DeleteRange(1, applied); err != nil {
		t.Fatal(err)
	}
	if first := firstIndex(t, n.Store); first != 1 {
		t.Errorf("the log begins at %d, nothing was flushed", first)
	}
}

func TestConflictingSuffixGoes(t *testing.T) {
	s, err := storage.Open(storage.Options{Dir: "store", FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	l := s.LogStore()
	for i := uint64(1); i <= 10; i++ {
		if err := l.StoreLog(&raft.Log{Index: i, Term: 1, Type: raft.LogNoop}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.DeleteRange(6, 10); err != nil {
		t.Fatal(err)
	}
	if last, _ := l.LastIndex(); last != 5 {
		t.Errorf("the log ends at %d", last)
	}
	var e raft.Log
	if err := l.GetLog(6, &e); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("entry 6: %v", err)
	}
	if err := l.DeleteRange(1, 5); err != nil {
		t.Fatal(err)
	}
	if last, _ := l.LastIndex(); last != 0 {
		t.Errorf("the log ends at %d", last)
	}
}

// A node that joins late gets the snapshot and what came behind it, from raft itself; then it follows, proposes, and is
// the same as its leader.
func TestJoinByInstalledSnapshot(t *testing.T) {
	discard := storagetest.WithStore(func(o *storage.Options) { o.DiscardSamples = true })
	n := storagetest.OpenNode(t, "store", vfs.NewMem(), trailing, discard)
	fill(t, n.Store, 0, 400)
	snapshot(t, n)
	fill(t, n.Store, 400, 420)
	if first := firstIndex(t, n.Store); first < 300 {
		t.Fatalf("the leader's log begins at %d: nothing has to be installed", first)
	}
	fs := vfs.NewMem()
	f := storagetest.Join(t, n, "n2", "store", fs, trailing)
	if err := f.Store.WaitApplied(ctxFor(t), n.Store.AppliedIndex()-1); err != nil {
		t.Fatal(err)
	}
	checkFill(t, f.Store, 420)
	// Committed through the follower: its own state has it at once.
	for i := 420; i < 450; i++ {
		key, value := fmt.Sprintf("k%04d", i), strings.Repeat(fmt.Sprint(i), 20)
		txn := &storage.Txn{Writes: []storage.Write{put("t", key, value)},
			Samples: []storage.TwinSamples{{Twin: key, Samples: make([]storage.Sample, 1)}}}
		if _, err := f.Store.Commit(ctxFor(t), txn); err != nil {
			t.Fatal(err)
		}
		mustGet(t, f.Store, "t", key, value)
	}
	checkFill(t, n.Store, 450)
	if f.Store.Revision() != n.Store.Revision() {
		t.Errorf("revision %d, the leader has %d", f.Store.Revision(), n.Store.Revision())
	}
	// The samples from before the snapshot are not here, those since are.
	start, err := f.Store.ReadSamples(0, nil)
	if !errors.Is(err, storage.ErrCompacted) {
		t.Fatalf("read from the beginning: %d, %v", start, err)
	}
	count := 0
	if _, err := f.Store.ReadSamples(start, func(_ uint64, all []storage.TwinSamples) error { count += len(all); return nil }); err != nil {
		t.Fatal(err)
	}
	if count != 30 {
		t.Errorf("%d samples, want 30", count)
	}
}
