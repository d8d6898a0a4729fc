package storage

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
)

// fatal ends the store's work, once. Whoever is told says so to people, in one clear line.
type fatal struct {
	once   sync.Once
	failed atomic.Pointer[error]
	// stuck: a database cannot be closed any more.
	stuck  atomic.Bool
	logger *slog.Logger
	tell   func(error)
}

// err says why the store cannot go on; nil while it can.
func (f *fatal) err() error {
	if p := f.failed.Load(); p != nil {
		return *p
	}
	return nil
}

func (f *fatal) fail(err error) {
	f.once.Do(func() {
		f.failed.Store(&err)
		f.tell(err)
	})
}

// diskError names what the operator can do about it.
func diskError(what string, err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), syscall.ENOSPC.Error()):
		return fmt.Errorf("%s: the disk is full; make room and start again: %w", what, err)
	case errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%s: the disk quota is used up; make room and start again: %w", what, err)
	case errors.Is(err, syscall.EROFS):
		return fmt.Errorf("%s: the file system is read-only: %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// pebbleLogger is the Logger of one of the two databases. After a failed commit Pebble must not go on (the next fsync
// might claim success for pages that were dropped), so Fatalf tells the store and does not return.
type pebbleLogger struct {
	f    *fatal
	what string
}

func (l *pebbleLogger) Infof(string, ...any) {}

func (l *pebbleLogger) Errorf(format string, args ...any) {
	l.f.logger.Log(context.Background(), slog.LevelWarn, "pebble", "database", l.what, "message", fmt.Sprintf(format, args...))
}

func (l *pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if e, ok := a.(error); ok {
			err = e
		}
	}
	l.f.stuck.Store(true)
	l.f.fail(diskError("write the "+l.what, err))
	select {}
}

// listener reports what Pebble's background workers could not write. They would try for ever while writers stall.
func (l *pebbleLogger) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			if errors.Is(err, pebble.ErrClosed) || errors.Is(err, pebble.ErrCancelledCompaction) {
				return
			}
			l.f.stuck.Store(true)
			l.f.fail(diskError("write the "+l.what, err))
		},
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			l.f.fail(fmt.Errorf("read the %s: %s is damaged: %w", l.what, i.Path, i.Details))
		},
	}
}
