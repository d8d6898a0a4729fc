package topic

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// batchBytes is what publications of one transaction have together, in bytes, unless one has more alone.
	batchBytes = 96 << 10
	// batchMessages bounds the messages of one transaction.
	batchMessages = 2000
	// trimEach bounds the messages that one transaction removes, and trimUpTo what it has with them, in bytes: the store takes no more than 448 KiB.
	trimEach = 2500
	trimUpTo = 400 << 10
	// Limits of a topic that names none.
	defaultMessages = 1_000_000
	defaultBytes    = 1 << 30
	defaultAge      = 7 * 24 * time.Hour
)

func messageKey(id string, offset uint64) string { return fmt.Sprintf("%s\x00%016x", id, offset) }
func channelKey(id, name string) string          { return id + "\x00" + name }

func offsetOf(key string) uint64 {
	n, _ := strconv.ParseUint(key[len(key)-16:], 16, 64)
	return n
}

func newCallID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // it never fails
	return id
}

func newLife() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:])
	return max(1, binary.LittleEndian.Uint64(b[:]))
}

func newName() string {
	var b [9]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// publication is a call of Publish that waits for its commit.
type publication struct {
	r    *request
	m    *pb.PublishRequest
	size int
}

// stored is what a publication takes of a transaction, in bytes: each message has the topic's id in its key.
func (t *topic) stored(m *pb.PublishRequest, size int) int { return size + len(t.id)*len(m.Messages) }

// flight is a transaction on its way. Only one is, so that the order of transactions is the topic's.
type flight struct {
	txn          *storage.Txn
	size         int // of its writes, in bytes
	tail         *actorv1.TopicRecord
	value        []byte
	publications []*publication
	answers      []*pb.PublishResponse
	messages     []*pb.TopicMessage
	after        []func(error)
	freed        map[*channel][]string
	joined       []*reader
	oldest       int64
	last         bool // of a deletion
	// again: whether an earlier try was applied is not known.
	again bool
}

// load reads what is stored.
func (t *topic) load() error {
	if err := t.refresh(); err != nil {
		return err
	}
	t.tail = &actorv1.TopicRecord{First: 1, Next: 1}
	rec, ok, err := t.h.o.Store.Get(TableTails, t.id)
	if err != nil {
		return err
	}
	if ok {
		t.value = rec.Value
		if err := proto.Unmarshal(rec.Value, t.tail); err != nil {
			return fmt.Errorf("tail record: %w", err)
		}
	}
	if err := t.loadKnown(); err != nil {
		return err
	}
	first, err := t.fetch(t.tail.First, 1, 1)
	if err != nil {
		return err
	}
	if len(first) > 0 {
		t.oldest = first[0].PublishTime.AsTime().UnixMilli()
	}
	now := time.Now()
	for rec, err := range t.h.o.Store.Scan(TableChannels, t.id+"\x00", "") {
		if err != nil {
			return err
		}
		c, err := loadChannel(t, rec.Key[len(t.id)+1:], rec.Value, now)
		if err != nil {
			return err
		}
		t.channels[c.name] = c
	}
	return nil
}

// loadKnown reads the ids of the last messages.
func (t *topic) loadKnown() error {
	young, err := t.offsetAt(time.UnixMilli(t.tail.Time).Add(-knownFor))
	if err != nil {
		return err
	}
	last := func(n uint64) uint64 { return max(t.tail.First, t.tail.Next-min(t.tail.Next, n)) }
	from := max(last(maxKnown), min(last(leastKnown), young))
	for rec, err := range t.h.o.Store.Scan(TableMessages, t.id+"\x00", messageKey(t.id, from-1)) {
		if err != nil {
			return err
		}
		id, at, err := stampOf(rec.Value)
		if err != nil {
			return fmt.Errorf("message %d: %w", offsetOf(rec.Key), err)
		}
		t.known.add(id, offsetOf(rec.Key), at)
	}
	return nil
}

// refresh reads the topic's configuration, at most once a second.
func (t *topic) refresh() error {
	if t.conf != nil && time.Since(t.confAt) < time.Second {
		return nil
	}
	rec, ok, err := t.h.o.Store.Get(TableTopics, t.id)
	if err != nil {
		return err
	}
	t.confAt = time.Now()
	if !ok {
		t.conf = nil
		return nil
	}
	conf := &pb.Topic{}
	if err := proto.Unmarshal(rec.Value, conf); err != nil {
		return fmt.Errorf("record of topic %s: %w", t.id, err)
	}
	t.conf, t.revision = conf, rec.Revision
	return nil
}

// publish takes messages.
func (t *topic) publish(r *request, m *pb.PublishRequest) error {
	size := proto.Size(m) + 32*len(m.Messages)
	allowed := maxPublish
	if len(m.Messages) == 1 && (isDead(t.id) || m.Messages[0].Headers[HeaderOnly] != "") {
		allowed += letterRoom
	}
	if stored := t.stored(m, size); stored > allowed {
		return fmt.Errorf("%d bytes, %d are allowed: %w", stored, allowed, ErrTooLarge)
	}
	if full := t.h.o.Full; full != nil {
		if err := full(); err != nil {
			return fmt.Errorf("%w: %w", err, cluster.ErrOverloaded)
		}
	}
	if t.held+int64(size) > maxQueueBytes || len(t.pending) >= maxQueue {
		return fmt.Errorf("%d publications wait: %w", len(t.pending), cluster.ErrOverloaded)
	}
	t.held += int64(size)
	t.pending = append(t.pending, &publication{r, m, size})
	return nil
}

// dirty says whether something but messages is to be written.
func (t *topic) dirty() bool {
	if t.touched || len(t.removed) > 0 || len(t.after) > 0 || t.excess() {
		return true
	}
	for _, c := range t.channels {
		if c.dirty {
			return true
		}
	}
	return t.conf != nil && t.conf.Deleting
}

// excess says whether there are messages beyond the topic's limits.
func (t *topic) excess() bool {
	return t.conf != nil && t.tail.First < t.tail.Next && (t.tail.First < t.cut || t.tail.Bytes > t.maxBytes() ||
		t.tail.Next-t.tail.First > orDefault(t.conf.MaxMessages, defaultMessages))
}

// save begins the next transaction, where there is something to commit and none is on its way.
func (t *topic) save(now time.Time) {
	if t.flight != nil || t.dead != nil || now.Before(t.retryAt) || t.tail == nil ||
		len(t.pending) == 0 && !t.dirty() && !t.overdue(now) {
		return
	}
	if !t.h.o.LeaseValid() {
		t.retryAt = now.Add(5 * time.Millisecond)
		return
	}
	f, err := t.build(now)
	if err != nil {
		t.die(err)
		return
	}
	if !t.submit(f) {
		return
	}
	taken := len(f.publications)
	for _, p := range f.publications {
		t.held -= int64(p.size)
	}
	t.pending = append(t.pending[:0:0], t.pending[taken:]...)
	t.after, t.touched, t.removed = nil, false, nil
	for _, c := range t.channels {
		c.dirty = false
		c.freed, c.joining = nil, nil
	}
}

// nextCommit is the number of the transaction that takes what is said now.
func (t *topic) nextCommit() uint64 {
	n := t.tail.Commits + 1
	if t.flight != nil {
		n = t.flight.tail.Commits + 1
	}
	return n
}

// build makes a transaction of what is known now; it changes nothing.
func (t *topic) build(now time.Time) (*flight, error) {
	f := &flight{tail: proto.Clone(t.tail).(*actorv1.TopicRecord), after: t.after, oldest: t.oldest}
	f.tail.Commits++
	f.tail.Time = max(f.tail.Time, now.UnixMilli())
	guard := storage.Guard{Table: TableTails, Key: t.id, Equal: t.value}
	f.txn = &storage.Txn{Guards: []storage.Guard{{Table: storage.Table(t.own.Table), Key: t.own.Key, Equal: t.own.Value}, guard}}
	if err := t.buildMessages(f); err != nil {
		return nil, err
	}
	for name, c := range t.channels {
		if !c.dirty {
			continue
		}
		value, err := c.encode()
		if err != nil {
			return nil, err
		}
		f.write(TableChannels, channelKey(t.id, name), value)
		if len(c.freed) > 0 {
			if f.freed == nil {
				f.freed = map[*channel][]string{}
			}
			f.freed[c] = c.freed
		}
		f.joined = append(f.joined, c.joining...)
	}
	for _, name := range t.removed {
		f.write(TableChannels, channelKey(t.id, name), nil)
	}
	if err := t.buildTrim(f, now); err != nil {
		return nil, err
	}
	return f, t.buildTail(f)
}

func (f *flight) write(table storage.Table, key string, value []byte) {
	f.txn.Writes = append(f.txn.Writes, storage.Write{Table: table, Key: key, Value: value, Quiet: true})
	f.size += len(table) + len(key) + len(value) + 16
}

// buildTail writes the topic's own record. The last transaction of a deletion removes what was configured, and leaves of the record the next
// offset: a topic that is made anew goes on there, so that whoever read or kept messages of this one takes none of that one's for them.
func (t *topic) buildTail(f *flight) (err error) {
	left := f.tail
	if t.conf != nil && t.conf.Deleting && f.tail.First == f.tail.Next {
		f.last = true
		for name := range t.channels {
			f.write(TableChannels, channelKey(t.id, name), nil)
		}
		f.txn.Writes = append(f.txn.Writes, storage.Write{Table: TableTopics, Key: t.id})
		left = &actorv1.TopicRecord{First: f.tail.Next, Next: f.tail.Next, Time: f.tail.Time, Commits: f.tail.Commits}
	}
	if f.value, err = proto.Marshal(left); err == nil {
		f.write(TableTails, t.id, f.value)
	}
	return err
}

func (t *topic) buildMessages(f *flight) error {
	size := 0
	var added map[string]uint64
	for _, p := range t.pending {
		if size > 0 && (size+p.size > batchBytes || len(f.messages)+len(p.m.Messages) > batchMessages || f.size+t.stored(p.m, p.size) > maxPublish) {
			break
		}
		size += p.size
		answer := &pb.PublishResponse{Offsets: make([]uint64, len(p.m.Messages))}
		for i, m := range p.m.Messages {
			at, ok := t.known.find(m.Id)
			if !ok {
				at, ok = added[m.Id]
			}
			if m.Id != "" && ok {
				answer.Offsets[i] = at
				answer.Duplicates++
				f.tail.Duplicates++
				continue
			}
			x := &pb.TopicMessage{Key: m.Key, Payload: m.Payload, ContentType: m.ContentType, Headers: m.Headers, Time: m.Time, Id: m.Id,
				PublishTime: timestamppb.New(time.UnixMilli(f.tail.Time))}
			value, err := proto.Marshal(x)
			if err != nil {
				return fmt.Errorf("encode message: %w", err)
			}
			x.Offset = f.tail.Next
			f.write(TableMessages, messageKey(t.id, x.Offset), value)
			f.tail.Next++
			f.tail.Bytes += uint64(len(value))
			f.messages = append(f.messages, x)
			answer.Offsets[i] = x.Offset
			if m.Id != "" {
				if added == nil {
					added = map[string]uint64{}
				}
				added[m.Id] = x.Offset
			}
		}
		f.publications = append(f.publications, p)
		f.answers = append(f.answers, answer)
	}
	return nil
}

// submit offers a transaction to the store.
func (t *topic) submit(f *flight) bool {
	err := t.h.o.Store.Submit(f.txn, func(r storage.Result) {
		t.post(func() { t.saved(f, r.Err) })
	})
	if err == nil {
		t.flight = f
		return true
	}
	if !errors.Is(err, storage.ErrBusy) {
		t.die(fmt.Errorf("topic %s: %w: %w", t.id, cluster.ErrUnavailable, err))
		return false
	}
	t.retryAt = time.Now().Add(5 * time.Millisecond)
	return false
}

// saved takes the result of a transaction.
func (t *topic) saved(f *flight, err error) {
	if t.flight != f {
		return
	}
	var g *storage.GuardError
	switch {
	case err == nil:
		t.committed(f)
	case errors.As(err, &g) && g.Table == TableTails && f.again && t.applied(f):
		t.committed(f)
	case errors.As(err, &g) && g.Table == TableTails:
		t.ends(f, fmt.Errorf("topic %s: another life of it wrote: %w", t.id, cluster.ErrUnavailable))
	case errors.Is(err, storage.ErrGuard):
		t.ends(f, t.notOwner())
	case errors.Is(err, storage.ErrUnknown), errors.Is(err, storage.ErrBusy):
		// The same again: the guard on the topic's record lets only one of the two through.
		f.again = f.again || errors.Is(err, storage.ErrUnknown)
		time.AfterFunc(20*time.Millisecond, func() {
			t.post(func() {
				if t.flight == f && t.dead == nil && t.leavingNow.Load() != 2 && !t.submit(f) {
					t.saved(f, storage.ErrBusy)
				}
			})
		})
	default:
		t.ends(f, fmt.Errorf("topic %s: %w: %w", t.id, cluster.ErrUnavailable, err))
	}
}

// ends: a transaction was not applied, and no later one will be.
func (t *topic) ends(f *flight, why error) {
	if f.again {
		why = fmt.Errorf("%w: %w", cluster.ErrUnknown, why)
	}
	t.flight = nil
	for _, p := range f.publications {
		p.r.fail(why)
	}
	for _, done := range f.after {
		done(why)
	}
	t.die(why)
}

// applied says whether the topic's record is the one that the flight wrote.
func (t *topic) applied(f *flight) bool {
	rec, ok, err := t.h.o.Store.Get(TableTails, t.id)
	return err == nil && ok && bytes.Equal(rec.Value, f.value)
}

// committed makes a transaction's outcome the topic's.
func (t *topic) committed(f *flight) {
	t.flight = nil
	trimmed, first := f.tail.Trimmed-t.tail.Trimmed, t.tail.First
	duplicates := f.tail.Duplicates - t.tail.Duplicates
	t.tail, t.value, t.oldest = f.tail, f.value, f.oldest
	t.h.published.Add(len(f.messages))
	t.h.duplicates.Add(int(duplicates))
	t.h.trimmed.Add(int(trimmed))
	for _, m := range f.messages {
		t.known.add(m.Id, m.Offset, m.PublishTime.AsTime().UnixMilli())
		t.recent.add(m)
	}
	for _, r := range f.joined {
		r.joined = true
	}
	for c, keys := range f.freed {
		for _, key := range keys {
			c.free(key)
		}
	}
	if t.tail.First != first {
		t.recent.trim(t.tail.First)
		for _, c := range t.channels {
			c.trimmed(t.tail.First)
		}
	}
	for i, p := range f.publications {
		p.r.answer(f.answers[i])
	}
	if t.conf != nil && t.conf.Deleting && !f.last {
		t.after = append(f.after, t.after...) // what the deletion is not yet
		return
	}
	for _, done := range f.after {
		done(nil)
	}
	if t.conf != nil && t.conf.Deleting {
		t.conf = nil
		t.die(fmt.Errorf("topic %s: %w", t.id, ErrNotFound))
	}
}

// fetch reads messages from an offset on, up to n and so many bytes, at least one.
func (t *topic) fetch(from uint64, n, size int) ([]*pb.TopicMessage, error) {
	var all []*pb.TopicMessage
	for rec, err := range t.h.o.Store.Scan(TableMessages, t.id+"\x00", messageKey(t.id, from-1)) {
		if err != nil {
			return nil, err
		}
		m := &pb.TopicMessage{}
		if err := proto.Unmarshal(rec.Value, m); err != nil {
			return nil, fmt.Errorf("message %d: %w", offsetOf(rec.Key), err)
		}
		m.Offset = offsetOf(rec.Key)
		if m.Offset >= t.tail.Next {
			break
		}
		all = append(all, m)
		if size -= len(rec.Value); size <= 0 || len(all) >= n {
			break
		}
	}
	return all, nil
}
