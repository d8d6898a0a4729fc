package actors

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// ledgerWaiting and ledgerBytes bound what waits to be written; what finds no room is the sender's to send again.
	ledgerWaiting = 65_536
	ledgerBytes   = 32 << 20
	// ledgerBatch and ledgerBatchBytes bound a transaction by what comes, and ledgerTxnBytes by what it writes: an entry of the inbox is
	// written as a whole, and the store takes no more than 448 KiB.
	ledgerBatch      = 512
	ledgerBatchBytes = 160 << 10
	ledgerTxnBytes   = 384 << 10
	// ledgerPause between two tries of a transaction that the store did not take.
	ledgerPause = 50 * time.Millisecond
	// ledgerTries of one whose guards fail, because other nodes write the same entries; then its senders have to come again.
	ledgerTries = 20
)

// ledger writes what became of messages that no twin took: lines in the list of refusals, entries of inboxes, and with them
// this node's counters. One transaction is under way at a time, with all that came meanwhile. Each counter has one writer, this
// ledger, and each transaction guards what the counters were before it: so one whose outcome is not known is tried again as it
// is, and applies once.
type ledger struct {
	e    *Engine
	wake chan struct{}

	mu      sync.Mutex
	waiting []*posting
	bytes   int
	// grown are the lines written since the list of a project was last cut.
	grown map[string]int
	stops bool

	// counters as committed, with their revisions. They belong to run.
	counters map[string]*countRecord
}

type countRecord struct {
	count    *pb.IngestCount
	revision uint64
}

// posting is one message's outcome, on its way to the store.
type posting struct {
	project, door string
	// refusal, or else arrival at the inbox.
	refusal *pb.Refusal
	arrival *arrival
	// done is called when it is committed, or with why it never will be.
	done func(error)
	// duplicate: the inbox has had the message.
	duplicate bool
}

func newLedger(e *Engine) *ledger {
	return &ledger{e: e, wake: make(chan struct{}, 1), grown: map[string]int{}, counters: map[string]*countRecord{}}
}

func (p *posting) size() int {
	if p.refusal != nil {
		return 512 + len(p.refusal.Payload) + len(p.refusal.Reason)
	}
	return 512 + len(p.arrival.head)
}

// post takes an outcome to be written. It never blocks.
func (l *ledger) post(p *posting) {
	l.mu.Lock()
	full := l.stops || len(l.waiting) >= ledgerWaiting || l.bytes+p.size() > ledgerBytes
	if !full {
		l.waiting = append(l.waiting, p)
		l.bytes += p.size()
	}
	l.mu.Unlock()
	if full {
		p.done(fmt.Errorf("list of refusals and inbox: %w", cluster.ErrOverloaded))
		return
	}
	signal(l.wake)
}

// wrote notes a line that a twin writes itself.
func (l *ledger) wrote(id string) {
	l.mu.Lock()
	l.grown[ProjectOf(id)]++
	l.mu.Unlock()
	signal(l.wake)
}

// run writes until the engine closes.
func (l *ledger) run() {
	for {
		select {
		case <-l.e.ctx.Done():
			l.end()
			return
		case <-l.wake:
		}
		for batch := l.take(); len(batch) > 0; batch = l.take() {
			for len(batch) > 0 {
				batch = l.write(batch)
			}
		}
		l.cut()
	}
}

// end answers what was not written.
func (l *ledger) end() {
	l.mu.Lock()
	rest := l.waiting
	l.waiting, l.stops = nil, true
	l.mu.Unlock()
	for _, p := range rest {
		p.done(fmt.Errorf("the node is stopping: %w", ErrClosed))
	}
}

func (l *ledger) take() []*posting {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, size := 0, 0
	for n < len(l.waiting) && n < ledgerBatch && size < ledgerBatchBytes {
		size += l.waiting[n].size()
		n++
	}
	batch := l.waiting[:n:n]
	if l.waiting = l.waiting[n:]; len(l.waiting) == 0 {
		l.waiting = nil
	}
	l.bytes -= size
	return batch
}

// sheet is a transaction of the ledger.
type sheet struct {
	txn     *storage.Txn
	counts  map[string]*pb.IngestCount
	entries map[string]*pb.InboxEntry
	// loud are entries whose change is told to those who watch: not more than once a second.
	loud map[string]bool
	left []*posting // those whose sender is a twin by now
	rest []*posting // those of the batch for which there is no room
	size int        // of what it writes and guards, in bytes
}

// write commits as much of a batch as one transaction takes, answers it, and gives the rest.
func (l *ledger) write(batch []*posting) (rest []*posting) {
	var err error
	for try := 0; ; try++ {
		var s *sheet
		if s, err = l.sheet(batch); err != nil {
			break
		}
		rest = slices.Concat(s.rest, rest)
		batch = s.without(batch[:len(batch)-len(s.rest)])
		if len(batch) == 0 {
			break
		}
		if err = l.commit(s); err == nil {
			break
		}
		if !errors.Is(err, storage.ErrGuard) || try == ledgerTries {
			break
		}
	}
	for _, p := range batch {
		if p.refusal != nil && err == nil {
			l.wrote(p.refusal.Id)
		}
		p.done(err)
	}
	return rest
}

// without answers those whose sender is known by now.
func (s *sheet) without(batch []*posting) []*posting {
	for _, p := range s.left {
		p.done(errKnownNow)
	}
	if len(s.left) == 0 {
		return batch
	}
	kept := batch[:0]
	for _, p := range batch {
		gone := false
		for _, x := range s.left {
			gone = gone || x == p
		}
		if !gone {
			kept = append(kept, p)
		}
	}
	return kept
}

// commit tries a transaction until it is known to be applied, or not to be.
func (l *ledger) commit(s *sheet) error {
	for tried := false; ; {
		revision, err := l.e.store.Commit(l.e.ctx, s.txn)
		var g *storage.GuardError
		switch {
		case err == nil:
			for key, c := range s.counts {
				l.counters[key] = &countRecord{c, revision}
			}
			return nil
		case errors.As(err, &g):
			if g.Table == tableIngest && tried {
				if applied, err := l.applied(s); err != nil || applied {
					return err
				}
			}
			if g.Table == tableIngest {
				delete(l.counters, g.Key) // what the last life of this node wrote was not here yet
			}
			if !l.e.pause(ledgerPause / 10) {
				return ErrClosed
			}
			return err
		case errors.Is(err, storage.ErrBusy), errors.Is(err, storage.ErrUnknown):
			tried = tried || errors.Is(err, storage.ErrUnknown)
			if !l.e.pause(ledgerPause) {
				return err
			}
		default:
			return err
		}
	}
}

// applied says whether the counters are what a transaction made them. A guard that did not hold is told of when its record is here.
func (l *ledger) applied(s *sheet) (bool, error) {
	for _, w := range s.txn.Writes {
		if w.Table != tableIngest {
			continue
		}
		rec, ok, err := l.e.store.Get(tableIngest, w.Key)
		if err != nil || !ok || !bytes.Equal(rec.Value, w.Value) {
			return false, err
		}
		l.counters[w.Key] = &countRecord{s.counts[w.Key], rec.Revision}
	}
	return true, nil
}

// counter gives a counter of this node as committed.
func (l *ledger) counter(key string, p *posting) (*countRecord, error) {
	if c := l.counters[key]; c != nil {
		return c, nil
	}
	c := &countRecord{count: &pb.IngestCount{Project: p.project, Door: p.door}}
	rec, ok, err := l.e.store.Get(tableIngest, key)
	if err != nil {
		return nil, fmt.Errorf("read counter %s: %w", key, err)
	}
	if ok {
		if err := proto.Unmarshal(rec.Value, c.count); err != nil {
			return nil, fmt.Errorf("counter %s: %w", key, err)
		}
		c.revision = rec.Revision
	}
	if len(l.counters) > 10_000 {
		clear(l.counters)
	}
	l.counters[key] = c
	return c, nil
}

// sheet makes the transaction of a batch. The guards of its counters come first: by them it is known whether a try before
// was applied.
func (l *ledger) sheet(batch []*posting) (*sheet, error) {
	s := &sheet{txn: &storage.Txn{}, counts: map[string]*pb.IngestCount{}, entries: map[string]*pb.InboxEntry{}, loud: map[string]bool{}}
	var guards []storage.Guard
	for i, p := range batch {
		if s.size > ledgerTxnBytes {
			s.rest = batch[i:]
			break
		}
		outcome, err := l.enter(s, p, &guards)
		if err != nil {
			return nil, err
		}
		if outcome == pb.IngestOutcome_INGEST_OUTCOME_UNSPECIFIED {
			continue
		}
		key := p.project + "/" + p.door + "/" + l.e.o.Node
		c := s.counts[key]
		if c == nil {
			was, err := l.counter(key, p)
			if err != nil {
				return nil, err
			}
			c = proto.Clone(was.count).(*pb.IngestCount)
			s.counts[key] = c
			s.txn.Guards = append(s.txn.Guards, storage.Guard{Table: tableIngest, Key: key, Revision: was.revision})
		}
		switch outcome { //nolint:exhaustive // no others come here
		case pb.IngestOutcome_INGEST_OUTCOME_REFUSED:
			c.Refused++
		case pb.IngestOutcome_INGEST_OUTCOME_INBOX:
			c.Inbox++
		case pb.IngestOutcome_INGEST_OUTCOME_DUPLICATE:
			c.Duplicate++
		}
	}
	s.txn.Guards = append(s.txn.Guards, guards...)
	for key, c := range s.counts {
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
		if err != nil {
			return nil, err
		}
		s.txn.Writes = append(s.txn.Writes, storage.Write{Table: tableIngest, Key: key, Value: value, Quiet: true})
	}
	for key, x := range s.entries {
		value, err := encode(x)
		if err != nil {
			return nil, err
		}
		s.txn.Writes = append(s.txn.Writes, storage.Write{Table: tableInbox, Key: key, Value: value, Quiet: !s.loud[key]})
	}
	return s, nil
}

// enter puts one outcome into a transaction, and says which it is.
func (l *ledger) enter(s *sheet, p *posting, guards *[]storage.Guard) (pb.IngestOutcome, error) {
	if p.refusal == nil {
		return l.arrive(s, p, guards)
	}
	w, err := refusalWrite(p.refusal)
	if err != nil {
		return 0, fmt.Errorf("refusal: %w", err)
	}
	s.txn.Writes = append(s.txn.Writes, w)
	s.size += len(w.Key) + len(w.Value) + 32
	return pb.IngestOutcome_INGEST_OUTCOME_REFUSED, nil
}

const (
	// keptRefusals of a project; cutEvery lines more, and the oldest go.
	keptRefusals = 10_000
	cutEvery     = 1000
	cutAtOnce    = 1000
)

// cut shortens lists that have grown.
func (l *ledger) cut() {
	var long []string
	l.mu.Lock()
	for project, n := range l.grown {
		if n >= cutEvery {
			long = append(long, project)
			delete(l.grown, project)
		}
	}
	l.mu.Unlock()
	for _, project := range long {
		if err := l.cutProject(project); err != nil {
			l.e.log.Warn("list of refusals not cut", "project", project, "err", err)
		}
	}
}

func (l *ledger) cutProject(project string) error {
	n, err := l.e.store.Count(tableRefusals, project+"/")
	if err != nil {
		return err
	}
	for n > keptRefusals {
		txn := &storage.Txn{}
		for rec, err := range l.e.store.Scan(tableRefusals, project+"/", "") {
			if err != nil {
				return err
			}
			if txn.Writes = append(txn.Writes, storage.Write{Table: tableRefusals, Key: rec.Key, Quiet: true}); len(txn.Writes) == min(cutAtOnce, n-keptRefusals) {
				break
			}
		}
		if len(txn.Writes) == 0 {
			return nil
		}
		if _, err := l.e.store.Commit(l.e.ctx, txn); err != nil {
			return err
		}
		n -= len(txn.Writes)
	}
	return nil
}
