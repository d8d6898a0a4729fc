package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
)

const (
	// probers ask at the same time.
	probers = 256
	// probeAgain is how long a twin that did not answer is left alone.
	probeAgain = 100 * time.Millisecond
	// patience with one call.
	patience = time.Second
)

// Recover waits until each twin, of the drivers line or echo, has answered a call that was made after since. It gives how
// long that took from since, and the twin that was last. Those that do not answer are asked again after all others.
func Recover(caller *harness.Caller, twins []string, since time.Time, within time.Duration) (took time.Duration, last string, err error) {
	ctx, cancel := context.WithDeadline(context.Background(), since.Add(within))
	defer cancel()
	q := &probes{left: len(twins), why: errors.New("nobody was asked")}
	for _, t := range twins {
		q.wait = append(q.wait, probe{twin: t})
	}
	var all sync.WaitGroup
	for range min(probers, len(twins)) {
		all.Go(func() { q.work(ctx, caller, since) })
	}
	all.Wait()
	if q.left > 0 {
		return within, q.last, fmt.Errorf("%d of %d twins did not answer in %v, such as %w", q.left, len(twins), within, q.why)
	}
	return q.took, q.last, nil
}

type probe struct {
	twin  string
	after time.Time // not to be asked before
}

// probes is a queue: what has never been asked comes first.
type probes struct {
	mu   sync.Mutex
	wait []probe
	left int
	took time.Duration
	last string
	why  error
}

func (q *probes) work(ctx context.Context, caller *harness.Caller, since time.Time) {
	for ctx.Err() == nil {
		p, pause := q.take()
		if p.twin == "" {
			if pause == 0 {
				return
			}
			rest(ctx, pause)
			continue
		}
		err := answers(ctx, caller, p.twin)
		q.put(p, time.Since(since), err)
	}
}

// take gives the next one, or how long to wait for it; neither where all have answered.
func (q *probes) take() (probe, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.left == 0:
		return probe{}, 0
	case len(q.wait) == 0:
		return probe{}, probeAgain
	}
	p := q.wait[0]
	if pause := time.Until(p.after); pause > 0 {
		return probe{}, pause
	}
	q.wait = q.wait[1:]
	return p, 0
}

func (q *probes) put(p probe, at time.Duration, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err != nil {
		p.after = time.Now().Add(probeAgain)
		q.wait = append(q.wait, p)
		q.why = err
		return
	}
	q.left--
	if at > q.took {
		q.took, q.last = at, p.twin
	}
}

// answers asks a twin once; one with a device by way of it.
func answers(ctx context.Context, caller *harness.Caller, twin string) error {
	action, input := "echo", structpb.NewStringValue(twin)
	if strings.HasPrefix(twin, "line-") {
		action, input = "ping", nil
	}
	try, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	node, o, err := caller.Probe(try, twin, action, input)
	if o == journal.Done {
		return nil
	}
	return fmt.Errorf("%s, by %s: %w", twin, node, err)
}
