package pollux

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// identity is who a node is: its id for ever, its incarnation since this start.
type identity struct {
	id          string
	incarnation uint64
}

var keyNodeID = []byte("pollux/node-id")

// nextIdentity reads the node's id, drawing it at the first start, and raises the incarnation, durably.
func nextIdentity(s *storage.Store) (identity, error) {
	stable := s.StableStore()
	id, err := stable.Get(keyNodeID)
	if errors.Is(err, storage.ErrNotFound) {
		var b [5]byte
		rand.Read(b[:])
		id = []byte("n" + hex.EncodeToString(b[:]))
		err = stable.Set(keyNodeID, id)
	}
	if err != nil {
		return identity{}, fmt.Errorf("node id: %w", err)
	}
	incarnation, err := s.NextIncarnation()
	if err != nil {
		return identity{}, fmt.Errorf("incarnation: %w", err)
	}
	return identity{string(id), incarnation}, nil
}

// proposer is the cluster's raft as the store wants it.
type proposer struct{ *cluster.Raft }

func (p proposer) Propose(entry []byte, done func(any, error)) {
	p.Raft.Propose(entry, func(applied any, err error) {
		if errors.Is(err, cluster.ErrUnknown) {
			err = fmt.Errorf("%w: %w", storage.ErrUnknown, err)
		}
		done(applied, err)
	})
}
