package storage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// MaxBlob is the largest blob, in bytes.
const MaxBlob = 32 << 20

// PendingBlobs is the table of the blobs that are being put and that no record names yet: key digest, value the time of
// the announcement in milliseconds since 1970, as decimal text.
const PendingBlobs Table = "blob-pending"

// BlobPeers brings blobs to the other voters. Without it this node is the only one.
type BlobPeers interface {
	// Spread returns once, with this node, a quorum of the voters has the blob on its disk. It may block until ctx ends.
	// data must not be changed.
	Spread(ctx context.Context, digest string, data []byte) error
	// Fetch gets a blob from any node that has it; ErrNoSuchBlob where none has. The store verifies what it gets.
	Fetch(ctx context.Context, digest string) ([]byte, error)
}

// blobStore is the directory of this node's blobs: blobs/ab/abcdef…
type blobStore struct {
	fs  vfs.FS
	dir string
	m   *storeMetrics
	// mu keeps the check that a blob is here, or its writing, apart from its collection.
	mu    sync.Mutex
	peers BlobPeers
	// touched says when a blob was last put: one that was here already keeps its file's old time.
	touched map[string]time.Time
}

func openBlobs(fs vfs.FS, dir string, m *storeMetrics) (*blobStore, error) {
	if err := makeDir(fs, dir); err != nil {
		return nil, err
	}
	b := &blobStore{fs: fs, dir: dir, m: m, touched: map[string]time.Time{}}
	return b, b.each(func(shard, name string) error {
		if !strings.HasSuffix(name, tempSuffix) {
			return nil
		}
		return fs.Remove(path.Join(dir, shard, name))
	})
}

// each lists the files.
func (b *blobStore) each(fn func(shard, name string) error) error {
	shards, err := b.fs.List(b.dir)
	if err != nil {
		return fmt.Errorf("list blobs: %w", err)
	}
	for _, shard := range shards {
		names, err := b.fs.List(path.Join(b.dir, shard))
		if err != nil {
			return fmt.Errorf("list blobs: %w", err)
		}
		for _, name := range names {
			if err := fn(shard, name); err != nil {
				return fmt.Errorf("list blobs: %w", err)
			}
		}
	}
	return nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func checkDigest(digest string) error {
	if len(digest) != 2*sha256.Size || strings.Trim(digest, "0123456789abcdef") != "" {
		return fmt.Errorf("blob %q: not a SHA-256 in lower-case hex: %w", digest, ErrNoSuchBlob)
	}
	return nil
}

// read gives a blob whose content was verified.
func (b *blobStore) read(digest string) ([]byte, error) {
	data, err := readFile(b.fs, path.Join(b.dir, digest[:2], digest), MaxBlob)
	if errors.Is(err, errNoFile) {
		return nil, fmt.Errorf("blob %s: %w", digest, ErrNoSuchBlob)
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", digest, err)
	}
	if digestOf(data) != digest {
		b.m.blobsLost.Inc()
		return nil, fmt.Errorf("blob %s: its bytes on the disk are damaged: %w", digest, ErrNoSuchBlob)
	}
	return data, nil
}

// write puts a blob on the disk; what is there and whole stays.
func (b *blobStore) write(digest string, data []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.touched[digest] = time.Now()
	if _, err := b.read(digest); err == nil {
		return nil
	}
	dir := path.Join(b.dir, digest[:2])
	if err := makeDir(b.fs, dir); err != nil {
		return err
	}
	if err := writeFile(b.fs, dir, digest, data); err != nil {
		return err
	}
	b.m.blobsWritten.Inc()
	return nil
}

// SetBlobPeers says how blobs get to the other voters. It is called before the first PutBlob.
func (s *Store) SetBlobPeers(p BlobPeers) {
	s.blobs.mu.Lock()
	defer s.blobs.mu.Unlock()
	s.blobs.peers = p
}

func (b *blobStore) others() BlobPeers {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.peers
}

// PutBlob announces a blob, brings it to the disks of a quorum of the voters, and returns its SHA-256 in lower-case hex.
// The caller then commits the record that names it, with PendingWrite(digest) among its writes; a blob that no record
// names is collected after the grace period of DeleteUnreferenced. It blocks; data must not be changed meanwhile.
func (s *Store) PutBlob(ctx context.Context, data []byte) (digest string, err error) {
	if len(data) > MaxBlob {
		return "", fmt.Errorf("put blob of %d bytes, %d are allowed: %w", len(data), MaxBlob, ErrTooLarge)
	}
	digest = digestOf(data)
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	_, err = s.Commit(ctx, &Txn{Writes: []Write{{Table: PendingBlobs, Key: digest, Value: []byte(now), Quiet: true}}})
	if err != nil {
		return "", fmt.Errorf("put blob %s: %w", digest, err)
	}
	if err := s.blobs.write(digest, data); err != nil {
		return "", fmt.Errorf("put blob %s: %w", digest, err)
	}
	if p := s.blobs.others(); p != nil {
		if err := p.Spread(ctx, digest, data); err != nil {
			return "", fmt.Errorf("put blob %s: %w", digest, err)
		}
	}
	return digest, nil
}

// PendingWrite is the write that ends a blob's announcement; it belongs into the transaction that names the blob.
func PendingWrite(digest string) Write {
	return Write{Table: PendingBlobs, Key: digest, Quiet: true}
}

// HoldBlob puts a blob on this node's disk for another node, and verifies it. It blocks for the fsync.
func (s *Store) HoldBlob(digest string, data []byte) error {
	if err := checkDigest(digest); err != nil {
		return err
	}
	if len(data) > MaxBlob {
		return fmt.Errorf("hold blob of %d bytes, %d are allowed: %w", len(data), MaxBlob, ErrTooLarge)
	}
	if digestOf(data) != digest {
		return fmt.Errorf("hold blob %s: the bytes are others", digest)
	}
	return s.blobs.write(digest, data)
}

// Blob gives a blob of this node's disk, verified. What is missing or damaged is ErrNoSuchBlob; FetchBlob asks others.
func (s *Store) Blob(digest string) ([]byte, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	return s.blobs.read(digest)
}

// FetchBlob gives a blob, from another node where this one does not have it whole; then it is kept here too.
func (s *Store) FetchBlob(ctx context.Context, digest string) ([]byte, error) {
	data, err := s.Blob(digest)
	p := s.blobs.others()
	if err == nil || p == nil || !errors.Is(err, ErrNoSuchBlob) || checkDigest(digest) != nil {
		return data, err
	}
	if data, err = p.Fetch(ctx, digest); err != nil {
		return nil, fmt.Errorf("fetch blob %s: %w", digest, err)
	}
	if err := s.HoldBlob(digest, data); err != nil {
		return nil, fmt.Errorf("fetch blob %s: %w", digest, err)
	}
	return data, nil
}

// DeleteUnreferenced removes this node's blobs that are older than grace and that neither the caller's references nor an
// announcement younger than grace names, and gives their number. Announcements older than grace are forgotten. It blocks; one at a time is enough.
func (s *Store) DeleteUnreferenced(ctx context.Context, grace time.Duration, references References) (int, error) {
	before := time.Now().Add(-grace)
	if err := s.forgetPending(ctx, before); err != nil {
		return 0, fmt.Errorf("collect blobs: %w", err)
	}
	v := s.View()
	defer func() { _ = v.Close() }()
	named := map[string]bool{}
	if err := references(v, func(d string) { named[d] = true }); err != nil {
		return 0, fmt.Errorf("collect blobs: read references: %w", err)
	}
	n := 0
	err := s.blobs.each(func(shard, name string) error {
		if named[name] || checkDigest(name) != nil {
			return ctx.Err()
		}
		gone, err := s.collectBlob(path.Join(s.blobs.dir, shard, name), name, before)
		if gone {
			n++
		}
		return err
	})
	s.m.blobsDeleted.Add(n)
	s.blobs.forgetTouched(before)
	if err != nil {
		return n, fmt.Errorf("collect blobs: %w", err)
	}
	return n, nil
}

// collectBlob removes one file, unless it is young or announced.
func (s *Store) collectBlob(file, digest string, before time.Time) (bool, error) {
	s.blobs.mu.Lock()
	defer s.blobs.mu.Unlock()
	info, err := s.fs.Stat(file)
	if err != nil || info.ModTime().After(before) || s.blobs.touched[digest].After(before) {
		return false, err
	}
	// Asked for under the lock: who announces now writes the file again behind us.
	if _, ok, err := s.Get(PendingBlobs, digest); ok || err != nil {
		return false, err
	}
	return true, s.fs.Remove(file)
}

func (b *blobStore) forgetTouched(before time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for d, at := range b.touched {
		if !at.After(before) {
			delete(b.touched, d)
		}
	}
}

// forgetPending ends announcements that came to nothing, each only if it was not renewed meanwhile.
func (s *Store) forgetPending(ctx context.Context, before time.Time) error {
	for rec, err := range s.Scan(PendingBlobs, "", "") {
		if err != nil {
			return err
		}
		at, err := strconv.ParseInt(string(rec.Value), 10, 64)
		if err == nil && !time.UnixMilli(at).Before(before) {
			continue
		}
		_, err = s.Commit(ctx, &Txn{
			Guards: []Guard{{Table: PendingBlobs, Key: rec.Key, Revision: rec.Revision}},
			Writes: []Write{PendingWrite(rec.Key)},
		})
		if err != nil && !errors.Is(err, ErrGuard) {
			return err
		}
	}
	return nil
}
