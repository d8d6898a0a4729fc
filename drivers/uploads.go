package drivers

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrBusy: the file was not verified, as too many wait for it or the processors had no time. It may be right.
var ErrBusy = errors.New("the node is busy")

const (
	// restMost is the longest that uploads rest: after a large driver nobody who uploads another notices it.
	restMost = 50 * time.Millisecond
	// waitMost is how many wait for their turn: each holds its file, of up to 32 MiB, in memory.
	waitMost = 8
)

// uploads come one at a time, and after each they rest as long as it took: reading, rewriting and loading files is the node's own work,
// at its own priority, and whoever uploads without end takes half a processor of it at most.
type uploads struct {
	wait time.Duration
	// places are taken by who waits and by who has the turn.
	places chan struct{}
	// turn holds when the next may begin, while nobody has it.
	turn chan time.Time
}

func newUploads(wait time.Duration) *uploads {
	u := &uploads{wait: wait, places: make(chan struct{}, 1+waitMost), turn: make(chan time.Time, 1)}
	u.turn <- time.Time{}
	return u
}

// begin waits for the turn of an upload; call over at its end.
func (u *uploads) begin(ctx context.Context) (over func(), err error) {
	select {
	case u.places <- struct{}{}:
	default:
		return nil, fmt.Errorf("%w: %d other drivers wait to be checked", ErrBusy, waitMost)
	}
	limit := time.NewTimer(u.wait)
	defer limit.Stop()
	select {
	case next := <-u.turn:
		time.Sleep(time.Until(next))
	case <-limit.C:
		<-u.places
		return nil, fmt.Errorf("%w: the driver has waited for %s to be checked", ErrBusy, u.wait)
	case <-ctx.Done():
		<-u.places
		return nil, ctx.Err()
	}
	began := time.Now()
	return func() {
		now := time.Now()
		u.turn <- now.Add(min(now.Sub(began), restMost))
		<-u.places
	}, nil
}
