package storage

import (
	"encoding/binary"
	"fmt"

	"github.com/hashicorp/raft"
)

// Journal entries ride in the sample section, behind the samples of their transaction: a number, then of each the project,
// twin, kind, name, difference to the time before, sequence and data. The section's codec says whether there are any, so
// that who reads the journal passes over the others without a look.

// sequenceBits are those of an entry's sequence that count within a log entry; those above are the log entry's index. A
// log entry of 512 KiB has room for fewer.
const sequenceBits = 18

func appendJournal(b []byte, all []JournalEntry) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	var last int64
	for i := range all {
		e := &all[i]
		b = appendBytes(b, e.Project)
		b = appendBytes(b, e.Twin)
		b = appendBytes(b, e.Kind)
		b = appendBytes(b, e.Name)
		b = appendVarint(b, e.Time-last)
		b = binary.AppendUvarint(b, e.Sequence)
		b = appendBytes(b, e.Data)
		last = e.Time
	}
	return b
}

func hasJournal(section []byte) bool { return len(section) > 0 && section[0]&codecJournal != 0 }

// journal decodes the accepted entries of a section, as accepted does its samples. They are valid until the next call.
func (u *sampleReader) journal(index uint64, section []byte, refused func(txn int) bool) ([]JournalEntry, error) {
	out := u.entries[:0]
	defer func() { u.entries = out }()
	n := uint64(0) // counts those of refused transactions too: the same on every node
	err := u.each(section, func(txn int, body *reader) {
		passSamples(body)
		if len(body.b) == 0 {
			return
		}
		refused := refused(txn)
		var last int64
		for range body.count(7) {
			e := JournalEntry{Project: u.names.of(body.bytes()), Twin: u.names.of(body.bytes()), Kind: u.names.of(body.bytes()), Name: u.names.of(body.bytes())}
			last += body.varint()
			e.Time, e.Sequence = last, body.uvarint()
			data := body.bytes()
			n++
			if refused || body.bad {
				continue
			}
			if e.Sequence == 0 {
				e.Sequence = index<<sequenceBits | n
			}
			e.Data = data[:len(data):len(data)]
			out = append(out, e)
		}
		if len(body.b) > 0 {
			body.fail()
		}
	})
	return out, err
}

// passSamples passes over what appendSamples wrote.
func passSamples(r *reader) {
	for range r.count(4) {
		r.bytes()
		r.bytes()
		r.bytes()
		for range r.count(3) {
			r.bytes()
			r.varint()
			r.uvarint()
		}
	}
}

// JournalCursor is the index up to which the reader of the journal has said to be done; 0 at first.
func (s *Store) JournalCursor() uint64 { return s.journalCursor.Load() }

// SetJournalCursor is SetSampleCursor for the reader of the journal.
func (s *Store) SetJournalCursor(index uint64) error {
	return s.setCursor(&s.journalCursor, localJournalCursor, index)
}

// ReadJournal is ReadSamples for journal entries, which are valid until fn returns; Options.KeepJournal must be set. Entries of the log without any are passed
// over. The cursor is that of the journal.
func (s *Store) ReadJournal(after uint64, fn func(index uint64, entries []JournalEntry) error) (last uint64, err error) {
	return s.readFeed(after, s.journalCursor.Load(), func(l *raft.Log, verdicts *refusedReader, u *sampleReader) error {
		e, err := decodeEntry(l.Data)
		if err != nil {
			return fmt.Errorf("read journal of entry %d: %w", l.Index, err)
		}
		if !hasJournal(e.samples) {
			return nil
		}
		refused, err := verdicts.of(l.Index)
		if err != nil {
			return fmt.Errorf("read journal of entry %d: %w", l.Index, err)
		}
		entries, err := u.journal(l.Index, e.samples, refused)
		if err != nil {
			return fmt.Errorf("read journal of entry %d: %w", l.Index, err)
		}
		if len(entries) == 0 {
			return nil
		}
		defer clear(entries) // they are the reader's, and what they point to is the log's
		return fn(l.Index, entries)
	})
}
