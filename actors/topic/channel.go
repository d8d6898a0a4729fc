package topic

import (
	"cmp"
	"container/heap"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxWindow is how far beyond its position a channel reads: what is settled out of order, and what failed, is in its record.
	maxWindow = 4096
	// As the records of all channels have to fit in one transaction beside a publication, a channel reads less far while they have more than
	// amongRecords together, in bytes: its part of sharedWindow, but minWindow.
	amongRecords, sharedWindow, minWindow = 64 << 10, 8 << 10, 32
	// maxChannels of a topic, and maxReaders of a channel.
	maxChannels = 256
	maxReaders  = 256
	// readerGone is after how long without a word a reader counts as gone; a reader gives itself up before (readerEnds).
	readerGone = 12 * time.Second
	// Settings of a channel that names none.
	defaultAckTimeout = 30 * time.Second
	defaultAttempts   = 5
	defaultBackoffMin = time.Second
	defaultBackoffMax = 5 * time.Minute
	defaultInFlight   = 1000
)

// channel is a named group of readers. It belongs to the topic's turns.
//
// A message is, in this order: not looked at (next and beyond); behind another one of its key (in a line's queue); ready;
// held by a reader; settled. One that failed goes back to ready, at once or later, or to the dead letters.
type channel struct {
	t    *topic
	name string
	set  *pb.ChannelSettings
	// position: all before it are settled, and of those beyond it the ones in settled.
	position, next uint64
	// begun is another one each time that the channel begins at a place.
	begun    uint64
	settled  map[uint64]struct{}
	failures map[uint64]uint32
	held     map[uint64]*held
	lines    map[string]*line
	blocked  int // messages in the queues of lines
	ready    offsets
	later    []retry
	dying    map[uint64]string // on their way to the dead letters, and their keys
	readers  map[string]*reader
	queue    []*reader // those whose poll waits, in their order
	// suspects are readers of an earlier life that may hold messages: until they have said what they hold, or are gone, nothing
	// is given to anybody.
	suspects map[string]bool
	trusted  time.Time
	ahead    []*pb.TopicMessage // read from the store, to be looked at
	size     int                // of its record, in bytes, when it was last encoded

	dirty bool
	// freed are keys whose message was settled by the next transaction, joining the readers that it makes known.
	freed   []string
	joining []*reader

	acknowledged, redelivered, dead, missed uint64
}

// held is a message that a reader has.
type held struct {
	reader *reader
	key    string
	until  time.Time // zero: as long as it likes
}

// line is a key with a message that is not settled and was looked at. One message of it is ready or with a reader at a time,
// but where messages are settled on receipt: then one reader may be sent several.
type line struct {
	holder *reader
	flying int
	// at is the one that is in ready or later; 0: none is.
	at    uint64
	queue []uint64
}

// retry is a message that comes again at a time, and not before its failure is committed: else its reader would have it again while what it said of it
// may be lost, or be said once more.
type retry struct {
	offset uint64
	at     time.Time
	commit uint64
}

// offsets is a heap of offsets, the smallest first.
type offsets []uint64

func (o offsets) Len() int           { return len(o) }
func (o offsets) Less(i, j int) bool { return o[i] < o[j] }
func (o offsets) Swap(i, j int)      { o[i], o[j] = o[j], o[i] }
func (o *offsets) Push(x any)        { *o = append(*o, x.(uint64)) }
func (o *offsets) Pop() any {
	old := *o
	x := old[len(old)-1]
	*o = old[:len(old)-1]
	return x
}

func newChannel(t *topic, name string, set *pb.ChannelSettings, position uint64) *channel {
	c := &channel{t: t, name: name, set: settings(set), dirty: true, failures: map[uint64]uint32{},
		held: map[uint64]*held{}, dying: map[uint64]string{}, readers: map[string]*reader{}, suspects: map[string]bool{}}
	c.begin(position)
	return c
}

// settings fills in the defaults.
func settings(set *pb.ChannelSettings) *pb.ChannelSettings {
	if set == nil {
		set = &pb.ChannelSettings{}
	}
	set = proto.Clone(set).(*pb.ChannelSettings)
	if set.AckMode == pb.AckMode_ACK_MODE_UNSPECIFIED {
		set.AckMode = pb.AckMode_ACK_MODE_AFTER_PROCESSING
	}
	set.AckTimeout = lasting(set.AckTimeout, defaultAckTimeout)
	set.BackoffMin, set.BackoffMax = lasting(set.BackoffMin, defaultBackoffMin), lasting(set.BackoffMax, defaultBackoffMax)
	set.MaxAttempts = uint32(orDefault(uint64(set.MaxAttempts), defaultAttempts))
	set.MaxInFlight = uint32(orDefault(uint64(set.MaxInFlight), defaultInFlight))
	return set
}

// begin has the channel read from a place. What is held stays so.
func (c *channel) begin(position uint64) {
	c.position, c.next, c.begun = position, position, rand.Uint64()
	c.settled, c.failures = map[uint64]struct{}{}, map[uint64]uint32{}
	c.ready, c.later, c.ahead, c.blocked = nil, nil, nil, 0
	lines := map[string]*line{}
	for key, l := range c.lines {
		if l.flying > 0 {
			lines[key] = &line{holder: l.holder, flying: l.flying}
		}
	}
	c.lines = lines
	c.dirty = true
}

// far says whether a channel has read as far beyond its position as it may.
func (c *channel) far() bool {
	if n := c.next - c.position; n < minWindow || n >= maxWindow {
		return n >= maxWindow
	}
	size := 0
	for _, other := range c.t.channels {
		size += other.size
	}
	return size > amongRecords && c.next-c.position >= uint64(max(minWindow, sharedWindow/len(c.t.channels)))
}

func loadChannel(t *topic, name string, value []byte, now time.Time) (*channel, error) {
	rec := &actorv1.ChannelRecord{}
	if err := proto.Unmarshal(value, rec); err != nil {
		return nil, fmt.Errorf("record of channel %s: %w", name, err)
	}
	c := newChannel(t, name, rec.Settings, max(rec.Position, t.tail.First))
	c.dirty, c.begun, c.size = false, rec.Begun, len(value)
	gone := c.position - min(c.position, rec.Position) // removed by the limits, and not yet counted
	for i := 0; i+1 < len(rec.Settled); i += 2 {
		gone -= max(rec.Settled[i], min(rec.Settled[i+1], c.position)) - rec.Settled[i]
		for at := max(rec.Settled[i], c.position); at < rec.Settled[i+1]; at++ {
			c.settled[at] = struct{}{}
		}
	}
	for at, n := range rec.Attempts {
		c.failures[at] = n
	}
	for at, i := rec.Position, 0; i+1 < len(rec.Failed); i += 2 {
		at += rec.Failed[i]
		c.failures[at] = uint32(rec.Failed[i+1])
	}
	maps.DeleteFunc(c.failures, func(at uint64, _ uint32) bool { return at < c.position })
	for _, r := range rec.Readers {
		c.suspects[r] = true
	}
	c.trusted = now.Add(readerGone)
	c.acknowledged, c.redelivered, c.dead, c.missed = rec.Acknowledged, rec.Redelivered, rec.Dead, rec.Missed+gone
	return c, nil
}

func (c *channel) encode() ([]byte, error) {
	rec := &actorv1.ChannelRecord{Settings: c.set, Position: c.position, Begun: c.begun,
		Acknowledged: c.acknowledged, Redelivered: c.redelivered, Dead: c.dead, Missed: c.missed}
	for r := range c.readers {
		rec.Readers = append(rec.Readers, r)
	}
	for r := range c.suspects {
		rec.Readers = append(rec.Readers, r)
	}
	slices.Sort(rec.Readers)
	if len(c.settled) > 0 {
		all := make([]uint64, 0, len(c.settled))
		for at := range c.settled {
			all = append(all, at)
		}
		slices.Sort(all)
		for i, at := range all {
			if i > 0 && all[i-1] == at-1 {
				rec.Settled[len(rec.Settled)-1] = at + 1
			} else {
				rec.Settled = append(rec.Settled, at, at+1)
			}
		}
	}
	if len(c.failures) > 0 {
		rec.Failed = make([]uint64, 0, 2*len(c.failures))
		before := c.position
		for _, at := range slices.Sorted(maps.Keys(c.failures)) {
			rec.Failed = append(rec.Failed, at-before, uint64(c.failures[at]))
			before = at
		}
	}
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encode channel %s: %w", c.name, err)
	}
	c.size = len(value)
	return value, nil
}

// message reads a committed message; nil: it is not kept any more.
func (c *channel) message(offset uint64) (*pb.TopicMessage, error) {
	if m := c.t.recent.find(offset); m != nil {
		return m, nil
	}
	if i := slices.IndexFunc(c.ahead, func(m *pb.TopicMessage) bool { return m.Offset == offset }); i >= 0 {
		m := c.ahead[i]
		c.ahead = c.ahead[i+1:]
		return m, nil
	}
	if offset < c.t.tail.First {
		return nil, nil
	}
	n := 1
	if offset == c.next-1 { // it reads on
		n = 64
	}
	all, err := c.t.fetch(offset, n, maxRecentBytes)
	if err != nil || len(all) == 0 || all[0].Offset != offset {
		return nil, err
	}
	if n > 1 {
		c.ahead = all[1:]
	}
	return all[0], nil
}

// onReceipt: messages are settled when they were sent.
func (c *channel) onReceipt() bool { return c.set.AckMode == pb.AckMode_ACK_MODE_ON_RECEIPT }

// take gives a reader its next message, or nil.
func (c *channel) take(r *reader, now time.Time) (*pb.Delivery, error) {
	for len(c.held)+len(c.dying) < int(c.set.MaxInFlight) {
		if len(c.ready) > 0 {
			offset := heap.Pop(&c.ready).(uint64)
			m, err := c.message(offset)
			if err != nil {
				heap.Push(&c.ready, offset)
				return nil, err
			}
			if m != nil {
				return c.give(r, m, now), nil
			}
			continue // trimmed took care of it
		}
		c.next = max(c.next, c.position)
		if c.next >= c.t.tail.Next || c.far() {
			return nil, nil
		}
		offset := c.next
		c.next++
		if _, ok := c.settled[offset]; ok || c.held[offset] != nil {
			continue
		}
		if _, ok := c.dying[offset]; ok {
			continue
		}
		m, err := c.message(offset)
		if err != nil {
			c.next = offset
			return nil, err
		}
		if m == nil {
			continue
		}
		if only := m.Headers[HeaderOnly]; only != "" && only != c.name {
			c.settle(offset)
			continue
		}
		if l := c.lines[m.Key]; m.Key != "" && l != nil {
			if l.at > 0 || len(l.queue) > 0 || l.holder != r || !c.onReceipt() {
				l.queue = append(l.queue, offset)
				c.blocked++
				continue
			}
		}
		return c.give(r, m, now), nil
	}
	return nil, nil
}

func (c *channel) give(r *reader, m *pb.TopicMessage, now time.Time) *pb.Delivery {
	h := &held{reader: r, key: m.Key}
	if c.set.AckMode == pb.AckMode_ACK_MODE_AFTER_PROCESSING {
		h.until = now.Add(c.set.AckTimeout.AsDuration())
	}
	c.hold(m.Offset, h)
	d := &pb.Delivery{Message: m, Attempt: c.failures[m.Offset] + 1}
	c.t.h.delivered.Inc()
	if d.Attempt > 1 {
		c.redelivered++
		c.dirty = true
		c.t.h.redelivered.Inc()
	}
	return d
}

func (c *channel) hold(offset uint64, h *held) {
	c.held[offset] = h
	h.reader.holds[offset] = struct{}{}
	if h.key == "" {
		return
	}
	l := c.lines[h.key]
	if l == nil {
		l = &line{}
		c.lines[h.key] = l
	}
	l.holder, l.at = h.reader, 0
	l.flying++
}

// drop takes a message from its reader.
func (c *channel) drop(offset uint64) *held {
	h := c.held[offset]
	if h != nil {
		delete(c.held, offset)
		delete(h.reader.holds, offset)
	}
	return h
}

// settle notes that a message is done with.
func (c *channel) settle(offset uint64) {
	delete(c.failures, offset)
	c.dirty = true
	if offset < c.position {
		return
	}
	c.settled[offset] = struct{}{}
	c.skip()
}

// skip moves the position over what is settled.
func (c *channel) skip() {
	for {
		if _, ok := c.settled[c.position]; !ok {
			return
		}
		delete(c.settled, c.position)
		c.position++
	}
}

// acked settles a message that a reader held; the next of its key comes when that is committed.
func (c *channel) acked(offset uint64) {
	h := c.drop(offset)
	c.settle(offset)
	c.acknowledged++
	c.t.h.acknowledged.Inc()
	c.release(h.key)
}

func (c *channel) release(key string) {
	if key != "" {
		c.freed = append(c.freed, key)
	}
}

// free lets the next message of a key go.
func (c *channel) free(key string) {
	l := c.lines[key]
	if l == nil {
		return
	}
	if l.flying--; l.flying <= 0 {
		c.advance(key, l)
	}
}

func (c *channel) advance(key string, l *line) {
	if l.at > 0 {
		return
	}
	if len(l.queue) == 0 {
		delete(c.lines, key)
		return
	}
	l.holder, l.at = nil, l.queue[0]
	heap.Push(&c.ready, l.at)
	l.queue = l.queue[1:]
	c.blocked--
}

// failed: a message was not processed. It comes again later, or goes to the dead letters.
func (c *channel) failed(offset uint64, why string, now time.Time) {
	h := c.drop(offset)
	n := c.failures[offset] + 1
	c.dirty = true
	if offset >= c.position { // else it is not given again, and nobody would forget it
		c.failures[offset] = n
	}
	if n >= c.set.MaxAttempts && !isDead(c.t.id) && offset >= c.t.tail.First {
		c.dying[offset] = h.key
		c.t.bury(c, offset, n, why)
		return
	}
	c.back(offset, h.key, now.Add(backoff(c.set, n)))
}

// backoff is how long a message waits that has failed n times.
func backoff(set *pb.ChannelSettings, n uint32) time.Duration {
	least, most := set.BackoffMin.AsDuration(), set.BackoffMax.AsDuration()
	if n > 62 || least > most>>(n-1) { // so that the product fits
		return most
	}
	return least << (n - 1)
}

// back has a message given again; at zero: at once.
func (c *channel) back(offset uint64, key string, at time.Time) {
	if offset < max(c.t.tail.First, c.position) || offset >= c.next {
		if offset < c.t.tail.First {
			c.missed++
		}
		c.release(key)
		c.dirty = true
		return
	}
	if key != "" {
		l := c.lines[key]
		l.flying--
		i, _ := slices.BinarySearch(l.queue, offset)
		l.queue = slices.Insert(l.queue, i, offset)
		c.blocked++
		if l.flying > 0 || l.at > 0 || at.IsZero() || l.queue[0] != offset {
			if l.flying <= 0 {
				c.advance(key, l)
			}
			return
		}
		l.queue, l.holder, l.at = l.queue[1:], nil, offset
		c.blocked--
	}
	if at.IsZero() {
		heap.Push(&c.ready, offset)
		return
	}
	c.later = append(c.later, retry{offset, at, c.t.nextCommit()})
}

// trimmed: messages before first are not kept any more.
func (c *channel) trimmed(first uint64) {
	if first <= c.position {
		return
	}
	for at := c.position; at < first; at++ {
		_, settled := c.settled[at]
		_, dying := c.dying[at]
		if !settled && !dying && c.held[at] == nil {
			c.missed++
		}
		delete(c.settled, at)
		delete(c.failures, at)
	}
	c.position, c.next, c.dirty = first, max(c.next, first), true
	// What was ready, later or behind others is gone; each key's line goes on behind it.
	gone := func(at uint64) bool { return at < first }
	c.ready = slices.DeleteFunc(c.ready, gone)
	heap.Init(&c.ready)
	c.later = slices.DeleteFunc(c.later, func(r retry) bool { return gone(r.offset) })
	c.ahead = slices.DeleteFunc(c.ahead, func(m *pb.TopicMessage) bool { return gone(m.Offset) })
	c.blocked = 0
	for _, l := range c.lines {
		l.queue = slices.DeleteFunc(l.queue, gone)
		c.blocked += len(l.queue)
	}
	for key, l := range c.lines {
		if l.at > 0 && gone(l.at) {
			l.at = 0
		}
		if l.flying == 0 {
			c.advance(key, l)
		}
	}
	c.skip()
}

// tick does what is due. It gives the earlier of next and when it is to be called again.
func (c *channel) tick(now, next time.Time) time.Time {
	for at, h := range c.held {
		switch {
		case h.until.IsZero():
		case now.After(h.until):
			c.failed(at, "not acknowledged in time", now)
		default:
			next = earlier(next, h.until)
		}
	}
	kept := c.later[:0]
	for _, r := range c.later {
		switch {
		case now.Before(r.at):
			kept = append(kept, r)
			next = earlier(next, r.at)
		case c.t.tail.Commits < r.commit:
			kept = append(kept, r)
		default:
			heap.Push(&c.ready, r.offset)
		}
	}
	c.later = kept
	return c.tickReaders(now, c.tickGathering(now, next))
}

// show is the channel as the API has it.
func (c *channel) show() *pb.Channel {
	next := c.t.tail.Next
	x := &pb.Channel{Topic: c.t.id, Name: c.name, Settings: c.set, Position: c.position, InFlight: uint32(len(c.held)),
		Waiting: uint32(len(c.later) + len(c.ready) + len(c.dying)), Acknowledged: c.acknowledged, Redelivered: c.redelivered,
		Dead: c.dead, Missed: c.missed, Readers: uint32(len(c.readers))}
	if next > c.position {
		x.Lag = next - c.position - min(uint64(len(c.settled)), next-c.position)
	}
	if x.Lag > 0 {
		if m, err := c.message(max(c.position, c.t.tail.First)); err == nil && m != nil {
			x.Oldest = lasting(nil, max(0, time.Since(m.PublishTime.AsTime())))
		}
	}
	return x
}

func (t *topic) listChannels() *actorv1.TopicChannels {
	all := &actorv1.TopicChannels{}
	for _, c := range t.channels {
		all.Channels = append(all.Channels, c.show())
	}
	slices.SortFunc(all.Channels, func(a, b *pb.Channel) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
