package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// logDB is raft's log and its stable store on one Pebble database, and what this node alone has to remember. Every write
// of raft's is on the disk when the call returns.
type logDB struct {
	db   *pebble.DB
	sync *pebble.WriteOptions
	// limit gives the index up to which entries may go, and the index up to which they are applied.
	limit func() (free, applied uint64)

	writing sync.Mutex
	batch   *pebble.Batch // guarded by writing

	mu          sync.Mutex // guards first, last against concurrent writers
	first, last atomic.Uint64
	sizes       logSizes

	m *storeMetrics
}

// ErrNotFound: the stable store has no such key. Raft compares the text.
var ErrNotFound = errors.New("not found")

func openLog(o Options, fs vfs.FS, dir string, l *pebbleLogger, m *storeMetrics) (*logDB, error) {
	cache := pebble.NewCache(o.LogCacheBytes)
	defer cache.Unref()
	opts := &pebble.Options{
		FS:                          fs,
		Cache:                       cache,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      l,
		EventListener:               l.listener(),
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       32,
		MaxOpenFiles:                256,
	}
	// Entries come in the order of their keys, so that files move down the levels whole; a large target makes few of them.
	opts.TargetFileSizes[0] = 16 << 20
	db, err := pebble.Open(dir, opts)
	if err != nil {
		return nil, diskError("open the log", err)
	}
	batch := db.NewBatch(pebble.WithMaxRetainedSizeBytes(8 << 20))
	g := &logDB{db: db, m: m, batch: batch, sync: pebble.Sync, limit: func() (uint64, uint64) { return math.MaxUint64, 0 }}
	if o.NoSync {
		g.sync = pebble.NoSync
	}
	if err := g.findEnds(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := g.measure(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return g, nil
}

// measure estimates what an earlier run left. It counts as the last entry's, which is applied soon.
func (g *logDB) measure() error {
	last := g.last.Load()
	if last == 0 {
		return nil
	}
	size, err := g.db.EstimateDiskUsage([]byte{keyLog}, []byte{keyLog + 1})
	if err != nil {
		return fmt.Errorf("measure the log: %w", err)
	}
	g.sizes.add(last, int64(size))
	return nil
}

// findEnds reads the first and the last index.
func (g *logDB) findEnds() error {
	it, err := g.db.NewIter(&pebble.IterOptions{LowerBound: []byte{keyLog}, UpperBound: []byte{keyLog + 1}})
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	var first, last uint64
	if it.First() {
		first = binary.BigEndian.Uint64(it.Key()[1:])
	}
	if it.Last() {
		last = binary.BigEndian.Uint64(it.Key()[1:])
	}
	if err := it.Close(); err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	g.first.Store(first)
	g.last.Store(last)
	return nil
}

// FirstIndex implements raft.LogStore.
func (g *logDB) FirstIndex() (uint64, error) { return g.first.Load(), nil }

// LastIndex implements raft.LogStore.
func (g *logDB) LastIndex() (uint64, error) { return g.last.Load(), nil }

// GetLog implements raft.LogStore.
func (g *logDB) GetLog(index uint64, log *raft.Log) error {
	var k [9]byte
	k[0] = keyLog
	binary.BigEndian.PutUint64(k[1:], index)
	v, closer, err := g.db.Get(k[:])
	if errors.Is(err, pebble.ErrNotFound) {
		return raft.ErrLogNotFound
	}
	if err != nil {
		return fmt.Errorf("read log entry %d: %w", index, err)
	}
	err = decodeLog(index, append([]byte(nil), v...), log)
	return errors.Join(err, closer.Close())
}

const logHead = 1 + 1 + 8 + 8

// logSize is the encoded size of l.
func logSize(l *raft.Log) int {
	return logHead + uvarintLen(uint64(len(l.Extensions))) + len(l.Extensions) + len(l.Data)
}

func uvarintLen(v uint64) int {
	n := 1
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

// encodeLog writes l into b, which has logSize bytes: version, type, term, time, extensions, data.
func encodeLog(b []byte, l *raft.Log) {
	b[0] = 1
	b[1] = byte(l.Type)
	binary.LittleEndian.PutUint64(b[2:], l.Term)
	var at int64
	if !l.AppendedAt.IsZero() {
		at = l.AppendedAt.UnixNano()
	}
	binary.LittleEndian.PutUint64(b[10:], uint64(at))
	n := logHead + binary.PutUvarint(b[logHead:], uint64(len(l.Extensions)))
	n += copy(b[n:], l.Extensions)
	copy(b[n:], l.Data)
}

// decodeLog fills log; its slices alias v.
func decodeLog(index uint64, v []byte, log *raft.Log) error {
	if len(v) < logHead+1 || v[0] != 1 {
		return errMalformed(fmt.Sprintf("log entry %d", index))
	}
	r := reader{b: v[logHead:]}
	ext := r.bytes()
	if r.bad {
		return errMalformed(fmt.Sprintf("log entry %d", index))
	}
	*log = raft.Log{Index: index, Type: raft.LogType(v[1]), Term: binary.LittleEndian.Uint64(v[2:])}
	if at := int64(binary.LittleEndian.Uint64(v[10:])); at != 0 {
		log.AppendedAt = time.Unix(0, at)
	}
	if len(ext) > 0 {
		log.Extensions = ext
	}
	if len(r.b) > 0 {
		log.Data = r.b
	}
	return nil
}

// StoreLog implements raft.LogStore.
func (g *logDB) StoreLog(l *raft.Log) error { return g.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore. The entries are on the disk when it returns.
func (g *logDB) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	start := time.Now()
	size := 0
	for _, l := range logs {
		size += logSize(l) + 32
	}
	g.writing.Lock()
	defer g.writing.Unlock()
	b := g.batch
	defer b.Reset()
	for _, l := range logs {
		op := b.SetDeferred(9, logSize(l))
		op.Key[0] = keyLog
		binary.BigEndian.PutUint64(op.Key[1:], l.Index)
		encodeLog(op.Value, l)
		if err := op.Finish(); err != nil {
			return fmt.Errorf("store log entries: %w", err)
		}
	}
	if err := b.Commit(g.sync); err != nil {
		return fmt.Errorf("store log entries: %w", err)
	}
	g.mu.Lock()
	if f := g.first.Load(); f == 0 || logs[0].Index < f {
		g.first.Store(logs[0].Index)
	}
	g.last.Store(logs[len(logs)-1].Index)
	g.sizes.add(logs[len(logs)-1].Index, int64(size))
	g.mu.Unlock()
	g.m.logBytes.Add(size)
	g.m.logEntries.Add(len(logs))
	g.m.logWrite.UpdateDuration(start)
	return nil
}

// DeleteRange implements raft.LogStore. Entries behind what is applied are a conflict's and go at once. Entries that are
// applied go only as far as the state has them on its own disk and their samples are read; the rest stays for a later
// truncation.
func (g *logDB) DeleteRange(from, to uint64) error {
	free, applied := g.limit()
	sync := g.sync
	if from <= applied {
		if to > free {
			to = free
			g.m.truncationHeld.Inc()
		}
		// Should the deletion be lost, the entries are there again, and are deleted again.
		sync = pebble.NoSync
	}
	if to < from {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.db.DeleteRange(indexKey(keyLog, from), indexKey(keyLog, to+1), sync); err != nil {
		return fmt.Errorf("delete log entries %d to %d: %w", from, to, err)
	}
	if err := g.findEnds(); err != nil {
		return err
	}
	if from > applied {
		g.sizes.end(from)
	}
	g.sizes.begin(g.first.Load())
	return nil
}

// Set implements raft.StableStore.
func (g *logDB) Set(key, value []byte) error {
	if err := g.db.Set(append([]byte{keyStable}, key...), value, g.sync); err != nil {
		return fmt.Errorf("store %s: %w", key, err)
	}
	return nil
}

// Get implements raft.StableStore.
func (g *logDB) Get(key []byte) ([]byte, error) {
	v, closer, err := g.db.Get(append([]byte{keyStable}, key...))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return append([]byte(nil), v...), closer.Close()
}

// SetUint64 implements raft.StableStore.
func (g *logDB) SetUint64(key []byte, v uint64) error {
	return g.Set(key, binary.LittleEndian.AppendUint64(nil, v))
}

// GetUint64 implements raft.StableStore.
func (g *logDB) GetUint64(key []byte) (uint64, error) {
	v, err := g.Get(key)
	if err != nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, errMalformed("stored number " + string(key))
	}
	return binary.LittleEndian.Uint64(v), nil
}

// local reads a number that only this node knows; 0 where it was never set.
func (g *logDB) local(name string) (uint64, error) {
	v, closer, err := g.db.Get(append([]byte{keyLocal}, name...))
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	defer closer.Close()
	if len(v) != 8 {
		return 0, errMalformed(name)
	}
	return binary.LittleEndian.Uint64(v), nil
}

// setLocal writes a number that only this node knows; it is on the disk when the call returns.
func (g *logDB) setLocal(name string, v uint64) error {
	if err := g.db.Set(append([]byte{keyLocal}, name...), binary.LittleEndian.AppendUint64(nil, v), g.sync); err != nil {
		return fmt.Errorf("store %s: %w", name, err)
	}
	return nil
}
