package mqtt

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
)

// throttle lets one line a second through: strangers decide how often these are due.
type throttle struct {
	next    atomic.Int64
	skipped atomic.Uint64
}

func (t *throttle) log(l *slog.Logger, level slog.Level, text string, args ...any) {
	now := time.Now().UnixNano()
	next := t.next.Load()
	if now < next || !t.next.CompareAndSwap(next, now+int64(time.Second)) {
		t.skipped.Add(1)
		return
	}
	if n := t.skipped.Swap(0); n > 0 {
		args = append(args, "skipped", n)
	}
	l.Log(context.Background(), level, text, args...)
}
