package backup_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/backup"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
	"github.com/polluxhq/pollux/storage/storagetest"
)

const patience = 30 * time.Second

func context30(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// references of the tests' records: table driver, key digest.
func references(v *storage.View, name func(string)) error {
	for rec, err := range v.Scan("driver", "", "") {
		if err != nil {
			return err
		}
		name(rec.Key)
	}
	return nil
}

// openHistory opens the history of a store. It is closed by the function that it gives: a process has one.
func openHistory(t *testing.T, s *storage.Store) (*history.Embedded, func()) {
	t.Helper()
	e, err := history.OpenEmbedded(history.Options{Dir: filepath.Join(t.TempDir(), "vm"), MemoryAllowedBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	f := history.Feed(context.Background(), s, e, history.FeedOptions{Linger: time.Millisecond})
	closed := false
	end := func() {
		if closed {
			return
		}
		closed = true
		f.Close()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return e, end
}

// content is what a store holds, as text.
type content struct {
	records, blobs, samples, entries []string
}

func contentOf(t *testing.T, s *storage.Store, h *history.Embedded) (c content) {
	t.Helper()
	v := s.View()
	defer v.Close()
	tables, err := v.Tables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		for rec, err := range v.Scan(table, "", "") {
			if err != nil {
				t.Fatal(err)
			}
			c.records = append(c.records, fmt.Sprintf("%s %q %x", table, rec.Key, rec.Value))
		}
	}
	if err := references(v, func(d string) {
		data, err := s.Blob(d)
		c.blobs = append(c.blobs, fmt.Sprintf("%s %d %v", d, len(data), err))
	}); err != nil {
		t.Fatal(err)
	}
	if h == nil {
		return c
	}
	c.samples = samplesOf(t, h)
	return c
}

func samplesOf(t *testing.T, h *history.Embedded) (out []string) {
	t.Helper()
	var b bytes.Buffer
	if err := h.Export(t.Context(), &b, time.Time{}, time.Time{}); err != nil {
		t.Fatal(err)
	}
	_, _, err := history.ReadExport(&b, func(list []storage.TwinSamples) error {
		for _, t := range list {
			for _, s := range t.Samples {
				out = append(out, fmt.Sprintf("%s/%s %s %s %d %v", t.Project, t.Twin, t.Model, s.Property, s.Time, s.Value))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// openJournal follows a store until the test ends.
func openJournal(t *testing.T, s *storage.Store) *journal.Journal {
	t.Helper()
	j, err := journal.Open(journal.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.Follow(ctx, s)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	})
	return j
}

func entriesOf(t *testing.T, j *journal.Journal) (out []string) {
	t.Helper()
	p, err := j.List(t.Context(), journal.Query{Project: "default", Limit: journal.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range p.Entries {
		out = append(out, fmt.Sprintf("%s %d %d %s %s %s", e.Twin, e.Time, e.Sequence, e.Kind, e.Name, e.Data))
	}
	return out
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for: %s", what)
		}
	}
}

func commit(t *testing.T, s *storage.Store, txn *storage.Txn) {
	t.Helper()
	if _, err := s.Commit(t.Context(), txn); err != nil {
		t.Fatal(err)
	}
}

func put(table storage.Table, key, value string) storage.Write {
	return storage.Write{Table: table, Key: key, Value: []byte(value)}
}

// fill makes a cluster's content: records of all sizes, blobs, samples; and what a backup must leave out.
func fill(t *testing.T, s *storage.Store) {
	t.Helper()
	for i, size := range []int{0, 1, 3 << 20} {
		data := bytes.Repeat([]byte{byte(i), 7}, size/2+i)
		d, err := s.PutBlob(t.Context(), data)
		if err != nil {
			t.Fatal(err)
		}
		commit(t, s, &storage.Txn{Writes: []storage.Write{put("driver", d, "x"), storage.PendingWrite(d)}})
	}
	at := time.Now().Add(-time.Hour).UnixMilli()
	for i := range 300 {
		id := fmt.Sprintf("default/twin-%03d", i)
		commit(t, s, &storage.Txn{
			Writes: []storage.Write{put("twin", id, strings.Repeat("t", i)), put("state", id, string(rune(i))), put("use", "kind\x00a\x00"+id, "")},
			Samples: []storage.TwinSamples{{Project: "default", Twin: fmt.Sprintf("twin-%03d", i%9), Model: "m",
				Samples: []storage.Sample{{Property: "v", Time: at + int64(i)*1000, Value: float64(i)}, {Property: "w", Time: at + int64(i)*1000, Value: 1}}}},
			Journal: []storage.JournalEntry{{Project: "default", Twin: fmt.Sprintf("twin-%03d", i%9), Kind: "event", Name: "e", Time: at, Data: []byte(strings.Repeat("1", i+1))}},
		})
	}
	commit(t, s, &storage.Txn{Writes: []storage.Write{put("big", "record", strings.Repeat("b", 400<<10)), put("big", "empty", "")}})
	commit(t, s, &storage.Txn{Writes: []storage.Write{put("member", "n1", "m"), put("slot", "1", "s"), put("lease", "n1", "l"), put("cluster", "ca", "secret"), put("history", "pushed", "7")}})
	commit(t, s, &storage.Txn{Writes: []storage.Write{put("key", "k1", "old")}})
}

// backupOf saves a store that was filled.
func backupOf(t *testing.T) (file []byte, want content) {
	t.Helper()
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	h, end := openHistory(t, s)
	defer end()
	fill(t, s)
	j := openJournal(t, s)
	eventually(t, "history is complete", func() bool { return h.Complete() && len(samplesOf(t, h)) == 600 && len(entriesOf(t, j)) == 300 })
	var b bytes.Buffer
	sum, err := backup.Write(t.Context(), &b, backup.Options{Store: s, References: references, History: h, Journal: j, Cluster: "c1", Version: "v1", Last: []storage.Table{"twin", "start"}})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Records != 906 || sum.Blobs != 3 || sum.Samples != 600 || sum.Entries != 300 || sum.Cluster != "c1" || sum.Revision != s.Revision() || !sum.History {
		t.Errorf("%+v", sum)
	}
	if got, err := backup.Verify(t.Context(), bytes.NewReader(b.Bytes())); err != nil || got.Records != sum.Records || got.Samples != sum.Samples ||
		got.Blobs != sum.Blobs || got.Size != uint64(b.Len()) || !got.Time.Equal(sum.Time) {
		t.Errorf("verified: %+v, %v; written: %+v, %d bytes", got, err, sum, b.Len())
	}
	want = contentOf(t, s, h)
	want.entries = entriesOf(t, j)
	return b.Bytes(), want
}

var fresh = []storage.Table{"key", "session"}

// newCluster is one as it is after its first start.
func newCluster(t *testing.T) *storagetest.Node {
	n := storagetest.OpenNode(t, "store", vfs.NewMem())
	commit(t, n.Store, &storage.Txn{Writes: []storage.Write{put("member", "n9", "m"), put("slot", "1", "other"), put("cluster", "ca", "another"), put("key", "k9", "admin")}})
	return n
}

// restorable is what a backup of c makes of a new cluster.
func restorable(c content) content {
	var records []string
	for _, r := range c.records {
		table, _, _ := strings.Cut(r, " ")
		if !slices.Contains([]string{"member", "slot", "lease", "cluster", "history"}, table) {
			records = append(records, r)
		}
	}
	for _, w := range []storage.Write{put("member", "n9", "m"), put("slot", "1", "other"), put("cluster", "ca", "another"), put("key", "k9", "admin")} {
		records = append(records, fmt.Sprintf("%s %q %x", w.Table, w.Key, w.Value))
	}
	slices.Sort(records)
	return content{records, c.blobs, c.samples, c.entries}
}

func same(t *testing.T, got, want content) {
	t.Helper()
	slices.Sort(got.records)
	for name, p := range map[string][2][]string{"records": {got.records, want.records}, "blobs": {got.blobs, want.blobs}, "samples": {got.samples, want.samples}} {
		if !slices.Equal(p[0], p[1]) {
			for i := range max(len(p[0]), len(p[1])) {
				if i >= len(p[0]) || i >= len(p[1]) || p[0][i] != p[1][i] {
					t.Errorf("%s: %d, want %d; at %d: %.200v, want %.200v", name, len(p[0]), len(p[1]), i, p[0][i:min(i+1, len(p[0]))], p[1][i:min(i+1, len(p[1]))])
					break
				}
			}
		}
	}
}

func TestRoundTrip(t *testing.T) {
	file, want := backupOf(t)
	n := newCluster(t)
	follower := storagetest.Join(t, n, "n2", "store", vfs.NewMem())
	h, end := openHistory(t, follower.Store) // history comes by the log, to every node
	defer end()
	j := openJournal(t, follower.Store)
	ctx, cancel := context.WithCancel(context30(t))
	defer cancel()
	changes, err := n.Store.Watch(ctx, backup.TableRestore, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := backup.Restore(ctx, bytes.NewReader(file), backup.RestoreOptions{Store: n.Store, TempDir: t.TempDir(), Fresh: fresh, Quiet: []storage.Table{"state"}})
	if err != nil {
		t.Fatal(err)
	}
	if sum.Records != 906 || sum.Samples != 600 || sum.Cluster != "c1" {
		t.Errorf("%+v", sum)
	}
	eventually(t, "the other node has the samples", func() bool { return len(samplesOf(t, h)) >= 600 })
	eventually(t, "the other node has the journal", func() bool { return len(entriesOf(t, j)) >= 300 })
	got := contentOf(t, n.Store, h)
	got.entries = entriesOf(t, j)
	want = restorable(want)
	same(t, got, want)
	if !slices.Equal(got.entries, want.entries) {
		t.Errorf("%d journal entries, want %d; the first %.1s", len(got.entries), len(want.entries), got.entries)
	}
	// Who watches sees it begin and end.
	var seen []bool
	for len(seen) < 2 {
		select {
		case batch := <-changes:
			for _, c := range batch {
				seen = append(seen, c.Deleted)
			}
		case <-ctx.Done():
			t.Fatalf("seen %v", seen)
		}
	}
	if !slices.Equal(seen, []bool{false, true}) {
		t.Errorf("seen %v", seen)
	}
	// It is not empty now.
	before := n.Store.Revision()
	if _, err := backup.Restore(ctx, bytes.NewReader(file), backup.RestoreOptions{Store: n.Store, TempDir: t.TempDir(), Fresh: fresh}); !errors.Is(err, backup.ErrNotEmpty) {
		t.Errorf("a second time: %v", err)
	}
	if n.Store.Revision() != before {
		t.Error("the refused restore wrote something")
	}
}

// TestBrokenOff: a restore that ended in the middle goes on, and another backup is refused meanwhile.
func TestBrokenOff(t *testing.T) {
	file, want := backupOf(t)
	n := newCluster(t)
	o := backup.RestoreOptions{Store: n.Store, TempDir: t.TempDir(), Fresh: fresh}
	ctx, cancel := context.WithCancel(t.Context())
	changes, err := n.Store.Watch(ctx, "twin", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-changes // some of the twins are there, or the listing is done
		<-changes
		cancel()
	}()
	if _, err := backup.Restore(ctx, bytes.NewReader(file), o); err == nil {
		t.Log("it was done before it was broken off")
	}
	var other bytes.Buffer
	if _, err := backup.Write(t.Context(), &other, backup.Options{Store: n.Store, References: references}); err != nil {
		t.Fatal(err)
	}
	if _, ok, _ := n.Store.Get(backup.TableRestore, "state"); ok {
		if _, err := backup.Restore(t.Context(), &other, o); !errors.Is(err, backup.ErrNotEmpty) {
			t.Errorf("another backup: %v", err)
		}
		if _, err := backup.Restore(t.Context(), bytes.NewReader(file), o); err != nil {
			t.Fatal(err)
		}
	}
	want = restorable(want)
	want.samples = nil
	same(t, contentOf(t, n.Store, nil), want)
	if left, err := os.ReadDir(o.TempDir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// frames finds where each kind of frame is.
func frames(t *testing.T, file []byte) map[byte][]int {
	t.Helper()
	out := map[byte][]int{}
	for at := bytes.IndexByte(file, '\n') + 1; at < len(file); {
		out[file[at]] = append(out[file[at]], at)
		at += 9 + int(binary.BigEndian.Uint32(file[at+1:]))
	}
	return out
}

// TestDamage flips bits in, cuts and swaps each section: nothing of it is taken for a backup, and the cluster stays empty.
func TestDamage(t *testing.T) {
	file, _ := backupOf(t)
	at := frames(t, file)
	for _, kind := range []byte("mbdrhe") {
		if len(at[kind]) == 0 {
			t.Fatalf("no frame of kind %c", kind)
		}
	}
	n := newCluster(t)
	before := n.Store.Revision()
	dir := t.TempDir()
	refuse := func(name string, bad []byte, want error, text string) {
		t.Helper()
		_, err := backup.Restore(t.Context(), bytes.NewReader(bad), backup.RestoreOptions{Store: n.Store, TempDir: dir, Fresh: fresh})
		if !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", name, err)
		}
		if n.Store.Revision() != before {
			t.Fatalf("%s: something was written", name)
		}
	}
	for kind, text := range map[byte]string{'m': "manifest", 'b': "blobs", 'd': "blobs", 'r': "records", 'h': "history", 'e': "end"} {
		for _, i := range at[kind] {
			size := int(binary.BigEndian.Uint32(file[i+1:]))
			bad := slices.Clone(file)
			bad[i+9+size/2] ^= 4
			refuse(fmt.Sprintf("a bit of %s", text), bad, backup.ErrDamaged, fmt.Sprintf("at byte %d (%s)", i, text))
			refuse(fmt.Sprintf("cut in %s", text), file[:i+9+size/2], backup.ErrDamaged, fmt.Sprintf("it ends at byte %d", i))
			refuse(fmt.Sprintf("without a frame of %s", text), slices.Concat(file[:i], file[i+9+size:]), backup.ErrDamaged, "")
			refuse(fmt.Sprintf("twice a frame of %s", text), slices.Concat(file[:i+9+size], file[i:]), backup.ErrDamaged, "")
		}
	}
	refuse("something behind", append(slices.Clone(file), 0), backup.ErrDamaged, "behind its end")
	refuse("nothing", nil, backup.ErrDamaged, "it begins with")
	refuse("something else", []byte("PK\x03\x04 this is no backup\n"), backup.ErrDamaged, "it begins with")
	refuse("a newer one", bytes.Replace(file, []byte("pollux-backup 2\n"), []byte("pollux-backup 3\n"), 1), backup.ErrNewer, `format "3", this version reads 2`)
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		bad := slices.Clone(file)
		i := rnd.IntN(len(bad)-20) + 20
		bad[i] ^= 1 << rnd.IntN(8)
		if _, err := backup.Verify(t.Context(), bytes.NewReader(bad)); !errors.Is(err, backup.ErrDamaged) {
			t.Fatalf("a bit at %d: %v", i, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add([]byte("pollux-backup 1\nm\x00\x00\x00\x02\x00\x00\x00\x00{}"))
	f.Fuzz(func(_ *testing.T, file []byte) {
		_, _ = backup.Verify(context.Background(), bytes.NewReader(file))
	})
}

// TestIncompleteHistory is not saved.
func TestIncompleteHistory(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	if _, err := backup.Write(t.Context(), io.Discard, backup.Options{Store: s, References: references, History: lacking{}}); !errors.Is(err, backup.ErrIncomplete) {
		t.Errorf("%v", err)
	}
}

type lacking struct{ *history.Embedded }

func (lacking) Complete() bool { return false }

// TestWhileServing: what is written during the backup is not in it, whole.
func TestWhileServing(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	for i := range 50 {
		commit(t, s, &storage.Txn{Writes: []storage.Write{put("a", fmt.Sprint(i), "0"), put("z", fmt.Sprint(i), "0")}})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			k := fmt.Sprint(i % 50)
			_, _ = s.Commit(ctx, &storage.Txn{Writes: []storage.Write{put("a", k, fmt.Sprint(i)), put("z", k, fmt.Sprint(i))}})
		}
	}()
	for range 5 {
		var b bytes.Buffer
		if _, err := backup.Write(t.Context(), &slow{&b}, backup.Options{Store: s, References: references}); err != nil {
			t.Fatal(err)
		}
		n := storagetest.OpenSingle(t, "store", vfs.NewMem())
		if _, err := backup.Restore(t.Context(), &b, backup.RestoreOptions{Store: n, TempDir: t.TempDir()}); err != nil {
			t.Fatal(err)
		}
		for i := range 50 {
			x, _, _ := n.Get("a", fmt.Sprint(i))
			y, _, _ := n.Get("z", fmt.Sprint(i))
			if !bytes.Equal(x.Value, y.Value) || len(x.Value) == 0 {
				t.Fatalf("%d: %q and %q were written together", i, x.Value, y.Value)
			}
		}
	}
	cancel()
	<-done
}

type slow struct{ w io.Writer }

func (s *slow) Write(p []byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	return s.w.Write(p)
}
