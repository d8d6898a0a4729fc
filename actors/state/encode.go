package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// The first byte of a record: plain, or followed by a number of sections, each with a tag and its length. A section whose
// tag is not known is passed over.
const (
	format     = 1
	formatMore = 2
)

const (
	tagCommands      = 1
	tagCalls         = 2
	tagSubscriptions = 3
	tagQuarantine    = 4
	tagCrons         = 5
	tagIngested      = 6
	tagLinks         = 7
)

// ErrFormat: a record is damaged, or of a newer version.
var ErrFormat = errors.New("unreadable state record")

// Append appends the record's encoding. Status comes first, so that lists read it cheaply.
func (r *Record) Append(b []byte) []byte {
	first := byte(format)
	crons := r.crons()
	if !r.More.Empty() || len(crons) > 0 || !r.Ingested.empty() {
		first = formatMore
	}
	b = append(b, first, r.Connection)
	b = binary.AppendUvarint(b, r.ConnectedSince)
	b = appendText(b, r.Fault)
	b = binary.AppendUvarint(b, r.Revision)
	b = binary.AppendVarint(b, r.LastSeen)
	b = appendText(b, r.Version)
	b = appendText(b, r.Memory)
	b = binary.AppendVarint(b, r.Wake)
	b = binary.AppendUvarint(b, uint64(len(r.Properties)))
	for i := range r.Properties {
		p := &r.Properties[i]
		b = appendText(b, p.Name.Value())
		b = appendValue(b, p.Value)
		// Relative to LastSeen these are short.
		b = binary.AppendVarint(b, p.Time()-r.LastSeen)
		b = append(b, p.Quality())
	}
	b = binary.AppendUvarint(b, uint64(len(r.Desired)))
	for i := range r.Desired {
		b = appendDesired(b, &r.Desired[i])
	}
	b = binary.AppendUvarint(b, uint64(len(r.Timers)))
	for i := range r.Timers {
		t := &r.Timers[i]
		b = appendText(b, t.Name)
		b = binary.AppendVarint(b, t.Due)
		b = binary.AppendVarint(b, t.Every)
		b = appendText(b, t.Data)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Keys)))
	for i := range r.Keys {
		b = appendKey(b, &r.Keys[i])
	}
	if first == formatMore {
		b = appendMore(b, r.More, crons, r.Ingested)
	}
	return b
}

// crons are the timers that have a schedule.
func (r *Record) crons() (all []*Timer) {
	for i := range r.Timers {
		if r.Timers[i].Cron != "" {
			all = append(all, &r.Timers[i])
		}
	}
	return all
}

func appendMore(b []byte, m *More, crons []*Timer, g *Ingested) []byte {
	if m == nil {
		m = &More{}
	}
	sections, quarantines := byte(0), 0
	if m.Quarantine.Since > 0 {
		quarantines = 1
	}
	for _, n := range []int{len(m.Commands), len(m.Calls), len(m.Subscriptions), quarantines, len(crons)} {
		if n > 0 {
			sections++
		}
	}
	if !g.empty() {
		sections++
		if len(g.Links) > 0 {
			sections++
		}
	}
	b = append(b, sections)
	if !g.empty() {
		b = g.append(b)
		if len(g.Links) > 0 {
			b = g.appendLinks(b)
		}
	}
	section := func(tag uint64, n int, each func(s []byte, i int) []byte) {
		if n == 0 {
			return
		}
		s := binary.AppendUvarint(nil, uint64(n))
		for i := range n {
			s = each(s, i)
		}
		b = binary.AppendUvarint(b, tag)
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	section(tagCommands, len(m.Commands), func(s []byte, i int) []byte { return appendCommand(s, &m.Commands[i]) })
	section(tagCalls, len(m.Calls), func(s []byte, i int) []byte {
		c := &m.Calls[i]
		s = append(s, c.ID[:]...)
		s = binary.AppendVarint(s, c.Time)
		return appendText(append(s, c.Kind), c.Reply)
	})
	section(tagSubscriptions, len(m.Subscriptions), func(s []byte, i int) []byte {
		x := &m.Subscriptions[i]
		s = appendText(appendText(appendText(s, x.System), x.Name), x.Property)
		return binary.AppendUvarint(binary.AppendUvarint(binary.AppendUvarint(s, x.Stream), x.Sequence), x.Told)
	})
	section(tagQuarantine, quarantines, func(s []byte, _ int) []byte {
		q := &m.Quarantine
		s = binary.AppendUvarint(binary.AppendVarint(binary.AppendVarint(s, q.Since), q.Retry), uint64(q.Failures))
		return appendText(appendText(appendText(s, q.Reason), q.Driver), q.Digest)
	})
	section(tagCrons, len(crons), func(s []byte, i int) []byte { return appendText(appendText(s, crons[i].Name), crons[i].Cron) })
	return b
}

func appendCommand(b []byte, c *Command) []byte {
	b = append(b, c.ID[:]...)
	for _, s := range []string{c.Action, c.Input, c.Name, c.Key, c.By} {
		b = appendText(b, s)
	}
	flags := byte(0)
	for i, set := range []bool{c.Waited, c.Patient, c.NoAnswer, c.Clears, c.Pause != 0, c.Idempotent} {
		if set {
			flags |= 1 << i
		}
	}
	b = append(b, c.Priority, c.Phase, flags, c.Outcome)
	for _, n := range []int64{int64(c.Retries), c.Timeout, c.Time, c.NotBefore, c.Until, c.AnswerBy, c.End, int64(c.Code)} {
		b = binary.AppendVarint(b, n)
	}
	b = appendText(appendText(b, c.Message), c.Output)
	if c.Pause != 0 {
		b = binary.AppendVarint(b, c.Pause)
	}
	return b
}

func appendDesired(b []byte, d *Desired) []byte {
	b = appendText(b, d.Name.Value())
	b = appendValue(b, d.Value)
	b = binary.AppendVarint(b, d.Time)
	b = appendText(b, d.By)
	b = binary.AppendUvarint(b, d.Revision)
	b = append(b, d.Progress, d.Priority)
	b = appendText(b, d.Error)
	b = binary.AppendVarint(b, d.Expires)
	b = binary.AppendVarint(b, int64(d.Retries))
	b = binary.AppendVarint(b, d.Timeout)
	return binary.AppendVarint(b, d.Delay)
}

func appendKey(b []byte, k *Key) []byte {
	b = appendText(b, k.Key)
	b = binary.AppendVarint(b, k.Time)
	retryable := byte(0)
	if k.Retryable {
		retryable = 1
	}
	b = append(b, k.Outcome, retryable)
	b = binary.AppendVarint(b, int64(k.Code))
	b = appendText(b, k.Message)
	return appendText(b, k.Output)
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendValue(b []byte, v Value) []byte {
	b = append(b, byte(v.Kind()))
	switch v.Kind() {
	case Number:
		return binary.LittleEndian.AppendUint64(b, math.Float64bits(v.num()))
	case String, JSON:
		return appendText(b, v.text)
	}
	return b
}

// Decode reads a record. The record keeps no reference to b.
func Decode(b []byte) (*Record, error) {
	d := decoder{b: b}
	r := &Record{}
	d.status(r)
	r.Revision = d.uint()
	r.LastSeen = d.int()
	r.Version = d.text()
	r.Memory = d.text()
	r.Wake = d.int()
	r.Properties = list(&d, func() Property {
		return Property{Name: Intern(d.text()), Value: d.value(), Stamp: At(d.int()+r.LastSeen, d.byte())}
	})
	r.Desired = list(&d, func() Desired {
		return Desired{Name: Intern(d.text()), Value: d.value(), Time: d.int(), By: d.text(), Revision: d.uint(),
			Progress: d.byte(), Priority: d.byte(), Error: d.text(), Expires: d.int(), Retries: int32(d.int()), Timeout: d.int(), Delay: d.int()}
	})
	r.Timers = list(&d, func() Timer {
		return Timer{Name: d.text(), Due: d.int(), Every: d.int(), Data: d.text()}
	})
	r.Keys = list(&d, func() Key {
		return Key{Key: d.text(), Time: d.int(), Outcome: d.byte(), Retryable: d.byte() == 1, Code: int32(d.int()),
			Message: d.text(), Output: d.text()}
	})
	if d.format == formatMore {
		for n := d.byte(); n > 0 && d.err == nil; n-- {
			d.more(r)
		}
	}
	if d.err == nil && len(d.b) > 0 {
		d.fail()
	}
	if d.err != nil {
		return nil, d.err
	}
	return r, nil
}

// more reads a section.
func (d *decoder) more(r *Record) {
	tag, text := d.uint(), d.text()
	s := decoder{b: []byte(text)}
	if r.More == nil && tag >= tagCommands && tag <= tagQuarantine {
		r.More = &More{}
	}
	switch tag {
	case tagCommands:
		r.More.Commands = list(&s, s.command)
	case tagCalls:
		r.More.Calls = list(&s, func() Call { return Call{ID: s.id(), Time: s.int(), Kind: s.byte(), Reply: s.text()} })
	case tagSubscriptions:
		r.More.Subscriptions = list(&s, func() Subscription {
			return Subscription{System: s.text(), Name: s.text(), Property: s.text(), Stream: s.uint(), Sequence: s.uint(), Told: s.uint()}
		})
	case tagQuarantine:
		for _, q := range list(&s, func() Quarantine {
			return Quarantine{Since: s.int(), Retry: s.int(), Failures: uint32(s.uint()), Reason: s.text(), Driver: s.text(), Digest: s.text()}
		}) {
			r.More.Quarantine = q
		}
	case tagIngested:
		r.Ingested = s.ingested()
	case tagLinks:
		if r.Ingested != nil { // which comes before
			r.Ingested.Links = s.links()
		}
	case tagCrons:
		list(&s, func() struct{} {
			name, cron := s.text(), s.text()
			for i := range r.Timers {
				if r.Timers[i].Name == name {
					r.Timers[i].Cron = cron
				}
			}
			return struct{}{}
		})
	default:
		return
	}
	if s.err != nil || len(s.b) > 0 {
		d.fail()
	}
}

func (d *decoder) command() Command {
	c := Command{ID: d.id(), Action: d.text(), Input: d.text(), Name: d.text(), Key: d.text(), By: d.text(),
		Priority: d.byte(), Phase: d.byte()}
	flags := d.byte()
	c.Outcome = d.byte()
	c.Waited, c.Patient, c.NoAnswer, c.Clears, c.Idempotent = flags&1 != 0, flags&2 != 0, flags&4 != 0, flags&8 != 0, flags&32 != 0
	c.Retries, c.Timeout, c.Time, c.NotBefore, c.Until, c.AnswerBy, c.End, c.Code =
		int32(d.int()), d.int(), d.int(), d.int(), d.int(), d.int(), d.int(), int32(d.int())
	c.Message, c.Output = d.text(), d.text()
	if flags&16 != 0 {
		c.Pause = d.int()
	}
	return c
}

func (d *decoder) id() (id [16]byte) {
	if len(d.b) < len(id) {
		d.fail()
		return id
	}
	d.b = d.b[copy(id[:], d.b):]
	return id
}

// DecodeStatus reads only connection and fault.
func DecodeStatus(b []byte) (Record, error) {
	d := decoder{b: b}
	var r Record
	d.status(&r)
	return r, d.err
}

// DecodeDoors reads only what a record counts of messages, and calls each with every door; name is valid during the call. It allocates
// nothing, and passes over all else unseen.
func DecodeDoors(b []byte, each func(name []byte, stored, refused, duplicate uint64)) error {
	if len(b) > 0 && b[0] == format {
		return nil
	}
	d := decoder{b: b}
	if d.byte() != formatMore {
		return fmt.Errorf("format: %w", ErrFormat)
	}
	d.passOverHead()
	for n := d.byte(); n > 0 && d.err == nil; n-- {
		tag, section := d.uint(), d.bytes()
		if tag != tagIngested {
			continue
		}
		s := decoder{b: section}
		for k := s.uint(); k > 0 && s.err == nil; k-- {
			name, stored, refused, duplicate := s.bytes(), s.uint(), s.uint(), s.uint()
			if s.err == nil {
				each(name, stored, refused, duplicate)
			}
		}
		return s.err
	}
	return d.err
}

// passOverHead goes on to the sections of a record, from behind its first byte.
func (d *decoder) passOverHead() {
	times := func(one func()) {
		for n := d.uint(); n > 0 && d.err == nil; n-- {
			one()
		}
	}
	d.byte()
	d.uint()
	d.bytes()
	d.uint()
	d.int()
	d.bytes()
	d.bytes()
	d.int()
	times(func() { d.bytes(); d.passOver(); d.int(); d.byte() })
	times(func() {
		d.bytes()
		d.passOver()
		d.int()
		d.bytes()
		d.uint()
		d.byte()
		d.byte()
		d.bytes()
		d.int()
		d.int()
		d.int()
		d.int()
	})
	times(func() { d.bytes(); d.int(); d.int(); d.bytes() })
	times(func() {
		d.bytes()
		d.int()
		d.byte()
		d.byte()
		d.int()
		d.bytes()
		d.bytes()
	})
}

// passOver goes on behind a value.
func (d *decoder) passOver() {
	switch Kind(d.byte()) {
	case Number:
		if len(d.b) < 8 {
			d.fail()
			return
		}
		d.b = d.b[8:]
	case String, JSON:
		d.bytes()
	default:
	}
}

type decoder struct {
	b      []byte
	err    error
	format byte
}

func (d *decoder) status(r *Record) {
	if d.format = d.byte(); d.err == nil && d.format != format && d.format != formatMore {
		d.err = fmt.Errorf("format %d: %w", d.format, ErrFormat)
	}
	r.Connection = d.byte()
	r.ConnectedSince = d.uint()
	r.Fault = d.text()
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = ErrFormat
	}
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	c := d.b[0]
	d.b = d.b[1:]
	return c
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) text() string { return string(d.bytes()) }

// bytes are a text where it lies.
func (d *decoder) bytes() []byte {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.fail()
		return nil
	}
	s := d.b[:n]
	d.b = d.b[n:]
	return s
}

func (d *decoder) value() Value {
	switch k := Kind(d.byte()); k {
	case Null, False, True:
		return of(k, "")
	case Number:
		if len(d.b) < 8 {
			d.fail()
			return Value{}
		}
		f := math.Float64frombits(binary.LittleEndian.Uint64(d.b))
		d.b = d.b[8:]
		return NumberValue(f)
	case String, JSON:
		return of(k, d.text())
	}
	d.fail()
	return Value{}
}

// list reads a counted list; each element takes at least two bytes, which bounds what a damaged count allocates.
func list[T any](d *decoder, read func() T) []T {
	n := d.uint()
	if n == 0 {
		return nil
	}
	if n > uint64(len(d.b))/2 {
		d.fail()
		return nil
	}
	l := make([]T, 0, n)
	for range n {
		l = append(l, read())
		if d.err != nil {
			return nil
		}
	}
	return l
}
