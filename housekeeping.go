package pollux

import (
	"context"
	"time"
)

const (
	// logBytes of the raft log make a snapshot due, whatever their number of entries: entries are up to 512 KiB, so a count
	// alone could mean gigabytes.
	logBytes = 256 << 20
	// logGrowth is how much more makes another snapshot due where the last one let less go: a follower may still need it.
	logGrowth     = 64 << 20
	logCheckEvery = 10 * time.Second
	// blobGrace is how long a blob stays that no record names: longer than any upload takes.
	blobGrace      = time.Hour
	blobCheckEvery = 10 * time.Minute
)

// keepHouse bounds what the store keeps: the log by snapshots, the blobs by what records name. Blobs that are named and
// not here are fetched.
func (n *Node) keepHouse(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.closeLater("housekeeping", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	go func() {
		defer close(done)
		var bound logBound
		logs, blobs := time.NewTicker(logCheckEvery), time.NewTicker(blobCheckEvery)
		defer logs.Stop()
		defer blobs.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-logs.C:
				n.boundLog(&bound)
				n.fetchBlobs(ctx)
			case <-blobs.C:
				n.collectBlobs(ctx)
			}
		}
	}()
	return nil
}

func (n *Node) boundLog(b *logBound) {
	if !b.due(n.store.LogBytes()) {
		return
	}
	if err := n.raft.Snapshot(); err != nil {
		n.log.Warn("snapshot to bound the log", "error", err)
	}
	b.left = n.store.LogBytes()
}

// logBound says when a snapshot is due by the log's size.
type logBound struct {
	// left is what the last snapshot did not let go.
	left int64
}

func (b *logBound) due(size int64) bool {
	if size < logBytes {
		b.left = 0
		return false
	}
	return size >= b.left+logGrowth
}

// fetchBlobs gets what was brought to a quorum of the others while this node was away.
func (n *Node) fetchBlobs(ctx context.Context) {
	left, err := n.store.FetchMissing(ctx, n.engine.Registry().Digests)
	if err != nil && ctx.Err() == nil {
		n.log.Warn("blobs are missing here, and no other node gives them", "count", len(left), "error", err)
	}
}

func (n *Node) collectBlobs(ctx context.Context) {
	gone, err := n.store.DeleteUnreferenced(ctx, blobGrace, n.engine.Registry().Digests)
	if err != nil && ctx.Err() == nil {
		n.log.Warn("collect blobs", "error", err)
		return
	}
	if gone > 0 {
		n.log.Info("collected blobs", "count", gone)
	}
}
