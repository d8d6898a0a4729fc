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
	probers = 512
	// feelers are asked again of those that did not answer, until one does: then all are.
	feelers = 8
	// probeAgain is how long a twin that did not answer is left alone.
	probeAgain = 50 * time.Millisecond
	// patience with one call: those for a lost node are held until it is certain that it is lost, and must not hold the rest.
	patience = 500 * time.Millisecond
)

// Recover waits until each twin, of the drivers line or echo, has answered a call that was made after since. It gives how
// long that took from since, and the twin that was last. Those that do not answer are asked again a few at a time, until one
// of them does, so that asking does not keep the cluster from recovering.
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
	twin   string
	after  time.Time // not to be asked before
	feeler bool
}

// probes is what is still to answer.
type probes struct {
	mu     sync.Mutex
	wait   []probe // to be asked now
	silent []probe // did not answer
	felt   int     // feelers under way
	left   int
	took   time.Duration
	last   string
	why    error
}

func (q *probes) work(ctx context.Context, caller *harness.Caller, since time.Time) {
	for ctx.Err() == nil {
		p, ok := q.take()
		if ok {
			err := answers(ctx, caller, p.twin)
			q.put(p, time.Since(since), err)
			continue
		}
		if q.done() {
			return
		}
		rest(ctx, 5*time.Millisecond)
	}
}

func (q *probes) done() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.left == 0
}

// take gives the next one to ask, if there is one now.
func (q *probes) take() (probe, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.wait) > 0 {
		p := q.wait[0]
		q.wait = q.wait[1:]
		return p, true
	}
	if len(q.silent) == 0 || q.felt == feelers || time.Now().Before(q.silent[0].after) {
		return probe{}, false
	}
	p := q.silent[0]
	q.silent = q.silent[1:]
	p.feeler = true
	q.felt++
	return p, true
}

func (q *probes) put(p probe, at time.Duration, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p.feeler {
		q.felt--
		p.feeler = false
		if err == nil {
			q.wait, q.silent = append(q.wait, q.silent...), nil
		}
	}
	if err != nil {
		p.after = time.Now().Add(probeAgain)
		q.silent = append(q.silent, p)
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
