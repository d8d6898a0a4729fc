// Package journal keeps what is no number: events, commands, strings, JSON and places, per twin and time, in a Pebble
// database of each node.
//
// It is fed from the committed log. Who wants an entry kept puts it into its transaction (storage.Txn.Journal); nobody writes
// here. An entry has the same time and sequence on every node, so a replay after kill -9, a backfill and a log entry that is
// read twice write the same keys, and nothing is there twice.
package journal
