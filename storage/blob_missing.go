package storage

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"
)

// References calls name for each digest that a record of the view names.
type References func(v *View, name func(digest string)) error

// MissingBlobs gives the digests that records name now and that are not on this node's disk, in order. It looks at the
// disk's directories, not into the files: what is damaged is found, and fetched anew, by who reads it.
func (s *Store) MissingBlobs(references References) ([]string, error) {
	v := s.View()
	named := map[string]bool{}
	err := references(v, func(d string) { named[d] = true })
	if err = joinClose(err, v); err != nil {
		return nil, fmt.Errorf("look for missing blobs: %w", err)
	}
	var missing []string
	for d := range named {
		if checkDigest(d) != nil {
			continue
		}
		if _, err := s.fs.Stat(path.Join(s.blobs.dir, d[:2], d)); err != nil {
			missing = append(missing, d)
		}
	}
	slices.Sort(missing)
	return missing, nil
}

// FetchMissing brings the missing blobs from the other nodes, and gives those that nobody had, with the last reason. A
// voter that was away while a blob was brought to a quorum of the others gets it so. It blocks.
func (s *Store) FetchMissing(ctx context.Context, references References) (left []string, err error) {
	missing, err := s.MissingBlobs(references)
	if err != nil {
		return nil, err
	}
	for _, d := range missing {
		if ctx.Err() != nil {
			return append(left, d), ctx.Err()
		}
		if _, ferr := s.FetchBlob(ctx, d); ferr != nil {
			left, err = append(left, d), ferr
		}
	}
	return left, err
}

// TouchBlobs keeps blobs from this node's collector for as long as if they were put now.
func (s *Store) TouchBlobs(digests []string) {
	s.blobs.mu.Lock()
	defer s.blobs.mu.Unlock()
	now := time.Now()
	for _, d := range digests {
		s.blobs.touched[d] = now
	}
}
