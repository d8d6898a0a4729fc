package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

// lease is this node's permission to act on its slots. A grant is a committed record, guarded by the node's member record
// of this incarnation; the node may act until the moment it asked plus the duration.
type lease struct {
	records  Records
	clock    Clock
	duration time.Duration
	node     string
	member   Record
	inc      uint64
	log      *slog.Logger

	// until is the clock's reading up to which the lease holds, in nanoseconds; 0: none.
	until atomic.Int64
	count uint64
}

// valid is cheap enough for every device write.
func (l *lease) valid() bool { return int64(l.clock.Now()) < l.until.Load() }

// left is the time that the lease still has, negative where it is over.
func (l *lease) left() time.Duration { return time.Duration(l.until.Load()) - l.clock.Now() }

// renew asks for a grant and waits for it. The lease counts from before the asking: what passed since then, a slow
// disk or a suspend, shortens it.
func (l *lease) renew(ctx context.Context) error {
	asked := l.clock.Now()
	l.count++
	guard := TableRecord{Table: TableMember, Record: l.member}
	write := record(tableLease, l.node, grant{l.inc, l.count}.encode())
	if err := commit(ctx, l.records, Txn{[]TableRecord{guard}, []TableRecord{write}, true}); err != nil {
		return fmt.Errorf("renew lease: %w", err)
	}
	l.until.Store(int64(asked + l.duration))
	return nil
}

// keep renews every interval until ctx ends. superseded is called once, and keep ends, where another incarnation of this
// node has taken its place.
func (l *lease) keep(ctx context.Context, interval time.Duration, superseded func()) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		try, cancel := context.WithTimeout(ctx, l.duration)
		err := l.renew(try)
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, ErrConflict):
			l.until.Store(0)
			superseded()
			return
		default:
			l.log.Warn("lease not renewed", "error", err, "left", l.left().Round(time.Millisecond))
		}
	}
}
