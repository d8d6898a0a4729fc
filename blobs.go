package pollux

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/polluxhq/pollux/storage"
)

// blobs is the store as peers want it.
type blobs struct{ *storage.Store }

func (b blobs) StoreBlob(_ context.Context, digest string, data []byte) error {
	return b.HoldBlob(digest, data)
}

// blobPeers brings blobs to the other voters (storage.BlobPeers).
type blobPeers struct{ n *Node }

func (b blobPeers) Spread(ctx context.Context, digest string, data []byte) error {
	n := b.n
	var others []string
	voters, have := 0, 0
	for _, s := range n.raft.Servers() {
		if !s.Voter() {
			continue
		}
		voters++
		if s.ID == n.self.id {
			have++
		} else {
			others = append(others, s.ID)
		}
	}
	quorum := voters/2 + 1
	results := make(chan error, len(others))
	for _, id := range others {
		go func() { results <- n.peers.PutBlob(ctx, id, digest, data) }()
	}
	var faults []error
	for left := len(others); have < quorum; left-- {
		if left+have < quorum {
			return fmt.Errorf("bring blob %.12s to %d of %d voters: %w", digest, quorum, voters, errors.Join(faults...))
		}
		if err := <-results; err != nil {
			faults = append(faults, err)
		} else {
			have++
		}
	}
	return nil
}

// blobsComplete brings every blob that a record names to a node, and says whether all are there: nobody becomes a voter
// before.
func (n *Node) blobsComplete(ctx context.Context, id string) bool {
	select {
	case <-n.member:
	default:
		return false // this node is starting
	}
	view := n.store.View()
	defer view.Close()
	complete := true
	err := n.engine.Registry().Digests(view, func(digest string) {
		if !complete || n.brought.has(id, digest) {
			return
		}
		data, err := n.store.FetchBlob(ctx, digest)
		if err == nil {
			err = n.peers.PutBlob(ctx, id, digest, data)
		}
		if err != nil {
			complete = false
			n.log.Warn("a node does not become a voter before it has every blob", "node", id, "blob", digest, "error", err)
			return
		}
		n.brought.add(id, digest)
	})
	if err != nil {
		n.log.Warn("list the blobs that a voter needs", "error", err)
	}
	return complete && err == nil
}

// brought remembers which blobs a node is known to have.
type brought struct {
	mu  sync.Mutex
	set map[[2]string]bool
}

func (b *brought) has(node, digest string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.set[[2]string{node, digest}]
}

func (b *brought) add(node, digest string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.set == nil {
		b.set = map[[2]string]bool{}
	}
	b.set[[2]string{node, digest}] = true
}

func (b blobPeers) Fetch(ctx context.Context, digest string) ([]byte, error) {
	faults := []error{fmt.Errorf("blob %.12s: %w", digest, storage.ErrNoSuchBlob)}
	for _, s := range b.n.raft.Servers() {
		if s.ID == b.n.self.id {
			continue
		}
		data, err := b.n.peers.GetBlob(ctx, s.ID, digest)
		if err == nil {
			return data, nil
		}
		faults = append(faults, fmt.Errorf("from %s: %w", s.ID, err))
	}
	return nil, errors.Join(faults...)
}
