package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// PendingWrites calls fn with the writes to a table that the log holds behind the applied state, in their order; value nil
// deletes. Whether they are committed, and their guards hold, is not known: it is for who looks at the store of a node that
// was killed and does not run.
func (s *Store) PendingWrites(table Table, fn func(key string, value []byte)) error {
	it, err := s.log.db.NewIter(&pebble.IterOptions{LowerBound: indexKey(keyLog, s.applied.Load()+1), UpperBound: []byte{keyLog + 1}})
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer it.Close()
	var l raft.Log
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err == nil {
			err = decodeLog(binary.BigEndian.Uint64(it.Key()[1:]), v, &l)
		}
		if err == nil && l.Type == raft.LogCommand {
			err = entryWrites(l.Data, table, fn)
		}
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
	}
	return it.Error()
}

func entryWrites(data []byte, table Table, fn func(key string, value []byte)) error {
	e, err := decodeEntry(data)
	if err != nil {
		return err
	}
	txns := reader{b: e.txns}
	for range e.count {
		t := reader{b: txns.bytes()}
		for range t.guards() {
			t.guard()
		}
		for range t.writes() {
			if w := t.write(); !t.bad && string(w.table) == string(table) {
				value := w.value
				if w.flags&writeDelete == 0 {
					value = append([]byte{}, value...)
				}
				fn(string(w.key), value)
			}
		}
		if t.bad || txns.bad {
			return errMalformed("log entry")
		}
	}
	return nil
}
