package storage_test

import (
	"bytes"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

func blobFile(digest string) string { return path.Join("store/blobs", digest[:2], digest) }

// damage flips one bit of a file.
func damage(t *testing.T, fs vfs.FS, name string) {
	t.Helper()
	f, err := fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b[:], 0); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBlob(t *testing.T) {
	fs := vfs.NewMem()
	s := storagetest.OpenSingle(t, "store", fs)
	for _, data := range [][]byte{{}, []byte("\x00asm"), bytes.Repeat([]byte("x"), 3<<20)} {
		digest, err := s.PutBlob(ctxFor(t), data)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Blob(digest)
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes of %d: %v", len(got), len(data), err)
		}
		if again, err := s.PutBlob(ctxFor(t), data); again != digest || err != nil {
			t.Errorf("put again: %s, %v", again, err)
		}
	}
	digest, err := s.PutBlob(ctxFor(t), []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	damage(t, fs, blobFile(digest))
	if _, err := s.Blob(digest); !errors.Is(err, storage.ErrNoSuchBlob) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("damaged blob: %v", err)
	}
	if _, err := s.PutBlob(ctxFor(t), []byte("content")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Blob(digest); string(got) != "content" || err != nil {
		t.Errorf("put again: %q, %v", got, err)
	}
	for _, bad := range []string{"", "../../../FORMAT", strings.Repeat("0", 64), strings.Repeat("A", 64)} {
		if _, err := s.Blob(bad); !errors.Is(err, storage.ErrNoSuchBlob) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if _, err := s.PutBlob(ctxFor(t), make([]byte, storage.MaxBlob+1)); !errors.Is(err, storage.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := s.HoldBlob(digest, []byte("other")); err == nil {
		t.Error("held a blob of another digest")
	}
}

func TestBlobSurvivesPowerLoss(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n, err := storagetest.Open("store", fs)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := n.Store.PutBlob(ctxFor(t), []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	left := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	s := storagetest.OpenSingle(t, "store", left)
	if got, err := s.Blob(digest); string(got) != "content" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if _, ok, err := s.Get(storage.PendingBlobs, digest); !ok || err != nil {
		t.Errorf("the announcement: %v, %v", ok, err)
	}
}

func TestCollectsUnreferencedBlobs(t *testing.T) {
	s := storagetest.OpenSingle(t, "store", vfs.NewMem())
	ctx := ctxFor(t)
	putBlob := func(content string) string {
		d, err := s.PutBlob(ctx, []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	used, loose, pending := putBlob("used"), putBlob("loose"), putBlob("pending")
	mustCommit(t, s, put("driver", used, "x"), storage.PendingWrite(used), storage.PendingWrite(loose))
	references := func(v *storage.View, name func(string)) error {
		for rec, err := range v.Scan("driver", "", "") {
			if err != nil {
				return err
			}
			name(rec.Key)
		}
		return nil
	}
	collect := func(grace time.Duration, want int) {
		t.Helper()
		if n, err := s.DeleteUnreferenced(ctx, grace, references); n != want || err != nil {
			t.Fatalf("collected %d, want %d: %v", n, want, err)
		}
	}
	collect(time.Hour, 0)
	has := func(digest string, want bool) {
		t.Helper()
		if _, err := s.Blob(digest); (err == nil) != want {
			t.Errorf("%s: %v", digest[:6], err)
		}
	}
	has(loose, true)
	time.Sleep(5 * time.Millisecond) // a grace of nothing must be over
	failing := errors.New("cannot read")
	if _, err := s.DeleteUnreferenced(ctx, 0, func(*storage.View, func(string)) error { return failing }); !errors.Is(err, failing) {
		t.Errorf("references fail: %v", err)
	}
	has(loose, true)
	time.Sleep(5 * time.Millisecond)
	// Announced again while the collector reads the references: it stays.
	again := func(v *storage.View, name func(string)) error {
		putBlob("loose")
		return references(v, name)
	}
	if n, err := s.DeleteUnreferenced(ctx, 0, again); n != 1 || err != nil {
		t.Errorf("collected %d: %v", n, err)
	}
	has(used, true)
	has(loose, true)
	has(pending, false)
	time.Sleep(5 * time.Millisecond)
	collect(0, 1)
	has(used, true)
	has(loose, false)
}

// others is a second store's blobs, as a peer.
type others struct{ s *storage.Store }

func (o others) Spread(_ context.Context, digest string, data []byte) error {
	return o.s.HoldBlob(digest, data)
}

func (o others) Fetch(_ context.Context, digest string) ([]byte, error) { return o.s.Blob(digest) }

// TestFetchMissing is a voter that was away while blobs were brought to the others.
func TestFetchMissing(t *testing.T) {
	b := storagetest.OpenSingle(t, "store", vfs.NewMem())
	a := storagetest.OpenSingle(t, "store", vfs.NewMem())
	a.SetBlobPeers(others{b})
	var digests []string
	for _, content := range []string{"one", "two", "here"} {
		from := b
		if content == "here" {
			from = a
		}
		d, err := from.PutBlob(ctxFor(t), []byte(content))
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, d)
		mustCommit(t, a, put("driver", d, content))
	}
	nowhere := strings.Repeat("0", 64)
	mustCommit(t, a, put("driver", nowhere, "lost"))
	references := func(v *storage.View, name func(string)) error {
		for rec, err := range v.Scan("driver", "", "") {
			if err != nil {
				return err
			}
			name(rec.Key)
		}
		return nil
	}
	want := []string{nowhere, digests[0], digests[1]}
	slices.Sort(want)
	if got, err := a.MissingBlobs(references); err != nil || !slices.Equal(got, want) {
		t.Fatalf("missing %v, %v; want %v", got, err, want)
	}
	left, err := a.FetchMissing(ctxFor(t), references)
	if !slices.Equal(left, []string{nowhere}) || !errors.Is(err, storage.ErrNoSuchBlob) {
		t.Errorf("left %v, %v", left, err)
	}
	for i, content := range []string{"one", "two", "here"} {
		if got, err := a.Blob(digests[i]); string(got) != content || err != nil {
			t.Errorf("%s: %q, %v", content, got, err)
		}
	}
	failing := errors.New("cannot read")
	if _, err := a.FetchMissing(ctxFor(t), func(*storage.View, func(string)) error { return failing }); !errors.Is(err, failing) {
		t.Errorf("references fail: %v", err)
	}
}

func TestBlobPeers(t *testing.T) {
	fs := vfs.NewMem()
	a := storagetest.OpenSingle(t, "store", fs)
	b := storagetest.OpenSingle(t, "store", vfs.NewMem())
	a.SetBlobPeers(others{b})
	digest, err := a.PutBlob(ctxFor(t), []byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.Blob(digest); string(got) != "content" || err != nil {
		t.Fatalf("the peer has %q, %v", got, err)
	}
	damage(t, fs, blobFile(digest))
	if got, err := a.FetchBlob(ctxFor(t), digest); string(got) != "content" || err != nil {
		t.Errorf("fetched %q, %v", got, err)
	}
	if got, err := a.Blob(digest); string(got) != "content" || err != nil {
		t.Errorf("kept %q, %v", got, err)
	}
	if _, err := a.FetchBlob(ctxFor(t), strings.Repeat("0", 64)); !errors.Is(err, storage.ErrNoSuchBlob) {
		t.Errorf("what nobody has: %v", err)
	}
}
