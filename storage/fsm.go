package storage

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// machine is the state machine. Raft calls it from one goroutine. What it does depends on the entries alone: no clock, no
// randomness, no order of a map.
type machine struct {
	s *Store

	meta    meta
	windows map[string]*window
	guards  *guardCache
	changes *changeLog

	batch   *pebble.Batch
	entries []entry
	asked   []int              // the number of each entry's first guard among the batch's
	tables  map[Table]struct{} // tables with changes in the batch
	wrote   map[Table]struct{} // tables that the batch writes to, quietly or not
	last    Table              // the one that was added last
	key     []byte
	buf     []byte
	refused []refusal
	noted   bool // the batch has a verdict on samples
	hash    xxhash.Digest
}

// checkEvery is the distance of two published checksums, in entries.
const checkEvery = 1024

// batchBytes is the size from which a batch is committed though more entries wait, in bytes.
const batchBytes = 4 << 20

func newMachine(s *Store) *machine {
	return &machine{s: s, tables: map[Table]struct{}{}, wrote: map[Table]struct{}{}}
}

// load takes what the machine keeps in memory from the state's database.
func (m *machine) load(db *pebble.DB) error {
	var err error
	if m.meta, err = readMeta(db); err != nil {
		return err
	}
	if m.windows, err = loadWindows(db); err != nil {
		return err
	}
	if m.changes, err = loadChangeLog(db, m.meta.floor, m.s.o.KeepChanges, m.s.o.KeepChangeBytes); err != nil {
		return err
	}
	m.guards = newGuardCache()
	m.batch = nil
	return nil
}

var _ raft.BatchingFSM = (*machine)(nil)

// Apply implements raft.FSM.
func (m *machine) Apply(l *raft.Log) any { return m.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM. The answer to an entry is a []byte for the proposing node's Store, or an error
// if the entry was not applied because the store has stopped.
func (m *machine) ApplyBatch(logs []*raft.Log) []any {
	out := make([]any, len(logs))
	if err := m.applyAll(logs, out); err != nil {
		m.s.fatal.fail(err)
		for i := range out {
			if out[i] == nil {
				out[i] = err
			}
		}
	}
	return out
}

func (m *machine) applyAll(logs []*raft.Log, out []any) error {
	for from := 0; from < len(logs); {
		if err := m.s.fatal.err(); err != nil {
			return err
		}
		n, size := 0, 0
		for n < len(logs)-from && (n == 0 || size < batchBytes) {
			size += len(logs[from+n].Data)
			n++
		}
		answers := make([]any, n)
		if err := m.applySome(logs[from:from+n], answers); err != nil {
			return err
		}
		copy(out[from:], answers)
		from += n
	}
	return nil
}

// applySome applies the entries in one batch.
func (m *machine) applySome(logs []*raft.Log, out []any) error {
	st, err := m.s.acquireBehind()
	if err != nil {
		return err
	}
	defer st.release()
	start := time.Now()
	defer func() { m.s.m.apply.UpdateDuration(start) }()
	m.guards.turn()
	if err := m.prepare(st, logs); err != nil {
		return err
	}
	if m.batch == nil {
		m.batch = st.db.NewBatch(pebble.WithMaxRetainedSizeBytes(2 * batchBytes))
	}
	defer m.guards.shrink()
	clear(m.tables)
	clear(m.wrote)
	m.last = ""
	before := m.meta
	for i, l := range logs {
		if l.Index <= before.applied {
			continue
		}
		if l.Type == raft.LogCommand {
			m.guards.next = m.asked[i]
			if out[i], err = m.applyEntry(l, &m.entries[i]); err != nil {
				return err
			}
		}
		m.meta.applied = l.Index
		if l.Index%checkEvery == 0 {
			m.s.checksums.add(Checksum{Index: l.Index, Sum: m.meta.chain})
		}
	}
	if m.meta.applied == before.applied {
		m.batch.Reset()
		return nil
	}
	return m.commit(st, before)
}

// commit has the batch written and makes it known.
func (m *machine) commit(st *stateDB, before meta) error {
	start := time.Now()
	floor, end := m.changes.trim()
	if end != nil {
		m.meta.floor = floor
		if err := m.batch.DeleteRange([]byte{keyChange}, end, nil); err != nil {
			return fmt.Errorf("trim the change log: %w", err)
		}
	}
	op := m.batch.SetDeferred(len(metaKey), metaSize)
	copy(op.Key, metaKey)
	m.meta.encode(op.Value)
	if err := op.Finish(); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	take := st.gather
	if end != nil {
		take = st.commit // a range goes with all that is in it
	}
	if err := take(m.batch); err != nil {
		return err
	}
	if m.noted { // those who read the feeds look into the database as it is
		m.noted = false
		if err := st.settle(); err != nil {
			return err
		}
	}
	m.s.m.write.UpdateDuration(start)
	m.batch.Reset()
	m.s.versions.wrote(m.wrote)
	m.s.published(before, m.meta, m.tables)
	return nil
}

// prepare decodes the entries and loads the records that their guards name.
func (m *machine) prepare(st *stateDB, logs []*raft.Log) error {
	m.entries, m.asked = m.entries[:0], m.asked[:0]
	for _, l := range logs {
		m.asked = append(m.asked, len(m.guards.asked))
		var e entry
		if l.Type == raft.LogCommand && l.Index > m.meta.applied {
			var err error
			if e, err = decodeEntry(l.Data); err != nil {
				return fmt.Errorf("apply entry %d: %w", l.Index, err)
			}
			r := reader{b: e.txns}
			for range e.count {
				t := reader{b: r.bytes()}
				for range t.guards() {
					g := t.guard()
					if t.bad {
						break
					}
					if err := m.guards.ask(st, &g); err != nil {
						return fmt.Errorf("apply entry %d: %w", l.Index, err)
					}
				}
				if t.bad {
					r.fail()
				}
			}
			if r.bad {
				return fmt.Errorf("apply entry %d: %w", l.Index, errMalformed("transactions"))
			}
		}
		m.entries = append(m.entries, e)
	}
	return nil
}

// applyEntry applies one entry's transactions to the batch and gives the answer.
func (m *machine) applyEntry(l *raft.Log, e *entry) ([]byte, error) {
	w := m.windows[string(e.node)]
	if w == nil {
		w = &window{}
		m.windows[string(e.node)] = w
	}
	m.s.m.applied.Inc()
	v, earlier := w.judge(e)
	if v != verdictApply {
		return m.passOver(l, e, v, earlier)
	}
	start := m.batch.Len()
	res := results{status: resultApplied, index: l.Index, base: m.meta.revision, count: e.count, refused: m.refused[:0]}
	r := reader{b: e.txns}
	for i := range e.count {
		t := reader{b: r.bytes()}
		f, ok, err := m.applyTxn(&t)
		if err != nil {
			return nil, fmt.Errorf("apply entry %d: transaction %d: %w", l.Index, i, err)
		}
		if !ok {
			f.txn = i
			res.refused = append(res.refused, f)
		}
	}
	if len(r.b) > 0 || r.bad {
		return nil, fmt.Errorf("apply entry %d: %w", l.Index, errMalformed("transactions"))
	}
	m.refused = res.refused
	answer := res.encode()
	if len(res.refused) > 0 && len(e.samples) > 0 {
		if err := m.noteRefused(l.Index, answer); err != nil {
			return nil, err
		}
	}
	slot := w.remember(e, answer)
	m.key = appendWindowKey(m.key[:0], e.node, e.sequence)
	m.buf = slot.append(m.buf[:0])
	if err := m.set(m.key, m.buf); err != nil {
		return nil, err
	}
	m.link(start)
	return answer, nil
}

// passOver answers an entry that is not applied (again).
func (m *machine) passOver(l *raft.Log, e *entry, v verdict, earlier []byte) ([]byte, error) {
	start := m.batch.Len()
	if len(e.samples) > 0 {
		if err := m.noteRefused(l.Index, nil); err != nil {
			return nil, err
		}
		m.link(start)
	}
	if v == verdictDuplicate {
		m.s.m.duplicates.Inc()
		return earlier, nil
	}
	m.s.m.stale.Inc()
	res := results{status: resultStale, index: l.Index, count: e.count}
	return res.encode(), nil
}

// noteRefused keeps the answer to an entry for the reader of its samples; nil: nothing of it was accepted.
func (m *machine) noteRefused(index uint64, answer []byte) error {
	var k [9]byte
	k[0] = keyRefused
	binary.BigEndian.PutUint64(k[1:], index)
	m.noted = true
	return m.set(k[:], answer)
}

func (m *machine) set(key, value []byte) error {
	if err := m.batch.Set(key, value, nil); err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	return nil
}

// link adds what the batch gained since start to the running checksum.
func (m *machine) link(start int) {
	repr := m.batch.Repr()
	var prev [8]byte
	binary.LittleEndian.PutUint64(prev[:], m.meta.chain)
	m.hash.Reset()
	_, _ = m.hash.Write(prev[:])
	_, _ = m.hash.Write(repr[start:])
	m.meta.chain = m.hash.Sum64()
}

// applyTxn applies one transaction, or says which guard refuses it.
func (m *machine) applyTxn(t *reader) (refusal, bool, error) {
	n := t.guards()
	failed := refusal{guard: -1}
	for i := range n {
		g := t.guard()
		if t.bad {
			return refusal{}, false, errMalformed("guard")
		}
		ok, revision := m.guards.holds(&g)
		if !ok && failed.guard < 0 {
			failed = refusal{guard: i, revision: revision}
		}
	}
	if failed.guard >= 0 {
		m.s.m.guards.Inc()
		return failed, false, nil
	}
	m.meta.revision++
	writes := t.writes()
	changes := uint32(0)
	for range writes {
		w := t.write()
		if t.bad {
			return refusal{}, false, errMalformed("write")
		}
		if err := m.applyWrite(&w); err != nil {
			return refusal{}, false, err
		}
		if w.flags&writeQuiet == 0 {
			if err := m.noteChange(&w, changes); err != nil {
				return refusal{}, false, err
			}
			changes++
		}
	}
	if t.bad || len(t.b) > 0 {
		return refusal{}, false, errMalformed("transaction")
	}
	return refusal{}, true, nil
}

func (m *machine) applyWrite(w *wireWrite) error {
	if string(w.table) != string(m.last) { // neighbours often write to the same
		m.last = Table(w.table)
		m.wrote[m.last] = struct{}{}
	}
	size := 2 + len(w.table) + len(w.key)
	if w.flags&writeDelete != 0 {
		op := m.batch.DeleteDeferred(size)
		appendDataKey(op.Key[:0], w.table, w.key)
		m.guards.wrote(op.Key, 0, nil)
		return op.Finish()
	}
	op := m.batch.SetDeferred(size, uvarintLen(m.meta.revision)+len(w.value))
	appendDataKey(op.Key[:0], w.table, w.key)
	n := binary.PutUvarint(op.Value, m.meta.revision)
	copy(op.Value[n:], w.value)
	m.guards.wrote(op.Key, m.meta.revision, w.value)
	return op.Finish()
}

// noteChange writes a change that Watch is to see.
func (m *machine) noteChange(w *wireWrite, number uint32) error {
	var k [13]byte
	k[0] = keyChange
	binary.BigEndian.PutUint64(k[1:], m.meta.revision)
	binary.BigEndian.PutUint32(k[9:], number)
	b := append(m.buf[:0], w.flags&writeDelete)
	b = appendBytes(b, w.table)
	b = appendBytes(b, w.key)
	b = append(b, w.value...)
	m.buf = b
	m.changes.add(m.meta.revision, len(b)+len(k))
	if _, ok := m.tables[Table(w.table)]; !ok {
		m.tables[Table(w.table)] = struct{}{}
	}
	return m.set(k[:], b)
}

// Snapshot implements raft.FSM. It only notes that a snapshot is wanted: the state that Persist finds is at this index
// or behind it, and entries up to its own applied index are passed over where it is restored.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if err := m.s.fatal.err(); err != nil {
		return nil, err
	}
	return &stateSnapshot{s: m.s}, nil
}

// Restore implements raft.FSM.
func (m *machine) Restore(rc io.ReadCloser) error { return m.s.restore(m, rc) }
