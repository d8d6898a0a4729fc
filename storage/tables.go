package storage

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Tables lists the tables that hold records, in the order of their names.
func (v *View) Tables() ([]Table, error) {
	if v.err != nil {
		return nil, v.err
	}
	it, err := v.snap.NewIter(&pebble.IterOptions{LowerBound: []byte{keyData}, UpperBound: []byte{keyData + 1}})
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	var tables []Table
	for ok := it.First(); ok; {
		name, _, found := bytes.Cut(it.Key()[1:], []byte{0})
		if !found {
			return nil, joinClose(errMalformed("a record's key"), it)
		}
		table := Table(name)
		tables = append(tables, table)
		ok = it.SeekGE(upper(dataKey(table, "")))
	}
	if err := it.Close(); err != nil {
		return nil, fmt.Errorf("list tables: %w", err)
	}
	return tables, nil
}
