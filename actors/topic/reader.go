package topic

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxGive and maxGiveBytes bound the messages of one answer.
	maxGive      = 256
	maxGiveBytes = 512 << 10
	// maxWait bounds how long a call of a reader waits for messages.
	maxWait = 5 * time.Second
	// maxTails bounds the readers without a channel that wait at a topic.
	maxTails = 256
)

// reader is one reader of a channel.
type reader struct {
	id    string
	holds map[uint64]struct{}
	seen  time.Time
	// joined: the channel's record says that it is there; before, nothing is given to it.
	joined bool
	// poll is its call that waits for messages, until then, for so many that it holds.
	poll  *request
	until time.Time
	room  int
	// given is when it was last given messages.
	given time.Time
	// number of its newest call.
	number uint64
}

// tailing is a reader without a channel that waits.
type tailing struct {
	r      *request
	offset uint64
	missed uint64
	room   int
	until  time.Time
}

// lasting is a duration, or what stands for none.
func lasting(d *durationpb.Duration, none time.Duration) *durationpb.Duration {
	if d.AsDuration() > 0 {
		return d
	}
	return durationpb.New(none)
}

// resolve gives the offset that a position means.
func (t *topic) resolve(p *pb.TopicPosition) (uint64, error) {
	switch at := p.GetAt().(type) {
	case *pb.TopicPosition_Offset:
		return min(max(at.Offset, t.tail.First), t.tail.Next), nil
	case *pb.TopicPosition_Oldest:
		if at.Oldest {
			return t.tail.First, nil
		}
	case *pb.TopicPosition_Time:
		return t.offsetAt(at.Time.AsTime())
	}
	return t.tail.Next, nil
}

// offsetAt finds the first message that was published at a time or later: their times never fall.
func (t *topic) offsetAt(at time.Time) (uint64, error) {
	var failed error
	n := sort.Search(int(t.tail.Next-t.tail.First), func(i int) bool {
		all, err := t.fetch(t.tail.First+uint64(i), 1, 1)
		if err != nil {
			failed = err
		}
		return err != nil || len(all) == 0 || !all[0].PublishTime.AsTime().Before(at.Truncate(time.Millisecond))
	})
	return t.tail.First + uint64(n), failed
}

// begin is where a reader begins: at start, or behind what was committed by a revision.
func (t *topic) begin(start *pb.TopicPosition, after uint64) (uint64, error) {
	if after == 0 {
		return t.resolve(start)
	}
	var failed error
	n := sort.Search(int(t.tail.Next-t.tail.First), func(i int) bool {
		rec, ok, err := t.h.o.Store.Get(TableMessages, messageKey(t.id, t.tail.First+uint64(i)))
		if err != nil {
			failed = err
		}
		return err != nil || !ok || rec.Revision > after
	})
	return t.tail.First + uint64(n), failed
}

// channel gives a channel, made if need be.
func (t *topic) channel(name string, set *pb.ChannelSettings, start *pb.TopicPosition, after uint64) (*channel, error) {
	if c := t.channels[name]; c != nil {
		return c, nil
	}
	if len(t.channels) >= maxChannels {
		return nil, fmt.Errorf("%w channels: %d", ErrTooMany, maxChannels)
	}
	at, err := t.begin(start, after)
	if err != nil {
		return nil, err
	}
	c := newChannel(t, name, set, at)
	t.channels[name] = c
	t.removed = slices.DeleteFunc(t.removed, func(n string) bool { return n == name })
	return c, nil
}

// read has a reader wait for messages.
func (t *topic) read(r *request, m *actorv1.TopicRead) error {
	c := t.channels[m.Channel]
	if c == nil && m.Life == t.life {
		return fmt.Errorf("channel %s: %w", m.Channel, ErrNoChannel) // it was deleted while its reader was between two calls
	}
	if !m.Resume && (c == nil || m.Life != t.life || c.readers[m.Reader] == nil) {
		r.answer(&actorv1.TopicReadAnswer{Life: t.life, Resume: true})
		return nil
	}
	now := time.Now()
	if m.Resume {
		return t.resume(r, m, now)
	}
	x := c.readers[m.Reader]
	if !x.newer(m) {
		r.answer(&actorv1.TopicReadAnswer{Life: t.life, AckMode: c.set.AckMode})
		return nil
	}
	x.seen = now
	c.unpoll(x)
	x.poll, x.room = r, int(m.Room)
	x.until = now.Add(min(maxWait, time.Duration(m.Wait)*time.Millisecond))
	c.queue = append(c.queue, x)
	return nil
}

// newer notes a call's number; a call that was overtaken by a later one gets nothing.
func (x *reader) newer(m *actorv1.TopicRead) bool {
	if m.Number < x.number {
		return false
	}
	x.number = m.Number
	return true
}

// resume takes what a reader says that it holds, and answers with what it does hold.
func (t *topic) resume(r *request, m *actorv1.TopicRead, now time.Time) error {
	c, err := t.channel(m.Channel, m.Settings, m.Start, m.After)
	if err != nil {
		return err
	}
	x := c.readers[m.Reader]
	if x == nil {
		if len(c.readers) >= maxReaders {
			return fmt.Errorf("%w readers of channel %s: %d", ErrTooMany, c.name, maxReaders)
		}
		x = &reader{id: m.Reader, holds: map[uint64]struct{}{}, joined: c.suspects[m.Reader]}
		c.readers[m.Reader] = x
		if !x.joined {
			c.joining = append(c.joining, x)
			c.dirty = true
		}
	}
	if !x.newer(m) {
		r.answer(&actorv1.TopicReadAnswer{Life: t.life, AckMode: c.set.AckMode})
		return nil
	}
	x.seen = now
	c.unpoll(x)
	says := map[uint64]bool{}
	for _, at := range m.Holds {
		says[at] = true
	}
	for at := range x.holds {
		if !says[at] {
			h := c.drop(at)
			c.back(at, h.key, time.Time{})
		}
	}
	if c.suspects[m.Reader] {
		delete(c.suspects, m.Reader)
		if err := c.reclaim(x, m.Holds, now); err != nil {
			return err
		}
	}
	answer := &actorv1.TopicReadAnswer{Life: t.life, AckMode: c.set.AckMode, Resumed: true}
	for at := range x.holds {
		answer.Holds = append(answer.Holds, at)
	}
	slices.Sort(answer.Holds)
	r.answer(answer)
	return nil
}

// reclaim gives a reader back what it held in an earlier life of the topic.
func (c *channel) reclaim(x *reader, holds []uint64, now time.Time) error {
	for _, at := range holds {
		if _, settled := c.settled[at]; settled || at < c.position || at >= c.t.tail.Next || c.held[at] != nil {
			continue
		}
		m, err := c.message(at)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		h := &held{reader: x, key: m.Key}
		if c.set.AckMode == pb.AckMode_ACK_MODE_AFTER_PROCESSING {
			h.until = now.Add(c.set.AckTimeout.AsDuration())
		}
		c.hold(at, h)
	}
	return nil
}

// unpoll answers a reader's call that waits, with nothing.
func (c *channel) unpoll(x *reader) {
	if x.poll == nil {
		return
	}
	x.poll.answer(&actorv1.TopicReadAnswer{Life: c.t.life, AckMode: c.set.AckMode})
	x.poll = nil
	c.queue = slices.DeleteFunc(c.queue, func(r *reader) bool { return r == x })
}

// gone: a reader is not there any more. What it held is given to others at once.
func (c *channel) gone(x *reader) {
	c.unpoll(x)
	delete(c.readers, x.id)
	all := make([]uint64, 0, len(x.holds))
	for at := range x.holds {
		all = append(all, at)
	}
	slices.Sort(all)
	for _, at := range all {
		h := c.drop(at)
		c.back(at, h.key, time.Time{})
	}
	c.joining = slices.DeleteFunc(c.joining, func(r *reader) bool { return r == x })
	c.dirty = true
}

// tickReaders ends calls that have waited long enough, and readers that say nothing. It gives the earlier of next and when
// it is to be called again.
func (c *channel) tickReaders(now, next time.Time) time.Time {
	for _, x := range c.readers {
		if x.poll != nil && !now.Before(x.until) {
			x.seen = now
			c.unpoll(x)
		}
		if now.Sub(x.seen) > readerGone {
			c.gone(x)
			continue
		}
		if x.poll != nil {
			next = earlier(next, x.until)
		}
		next = earlier(next, x.seen.Add(readerGone))
	}
	if len(c.suspects) == 0 {
		return next
	}
	if now.After(c.trusted) {
		clear(c.suspects)
		c.dirty = true
	}
	return earlier(next, c.trusted)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (t *topic) leave(r *request, m *actorv1.TopicLeave) error {
	if c := t.channels[m.Channel]; c != nil {
		if x := c.readers[m.Reader]; x != nil {
			c.gone(x)
		} else if c.suspects[m.Reader] {
			delete(c.suspects, m.Reader)
			c.dirty = true
		}
	}
	r.answer(&actorv1.Taken{})
	return nil
}

// ack settles messages that a reader holds, or takes them back.
func (t *topic) ack(r *request, m *pb.AckRequest) error {
	c := t.channels[m.Channel]
	if c == nil {
		return fmt.Errorf("channel %s: %w", m.Channel, ErrNoChannel)
	}
	if c.suspects[m.Reader] {
		// It has yet to say what it holds.
		return fmt.Errorf("channel %s: reader %s is not back yet: %w", m.Channel, m.Reader, cluster.ErrOverloaded)
	}
	answer := &pb.AckResponse{}
	x := c.readers[m.Reader]
	holds := func(at uint64) bool {
		if x == nil || c.held[at] == nil || c.held[at].reader != x {
			answer.Stale++
			return false
		}
		answer.Settled++
		return true
	}
	for _, at := range m.Offsets {
		if holds(at) {
			c.acked(at)
		}
	}
	now := time.Now()
	for _, at := range m.Failed {
		if holds(at) {
			why := m.Reason
			if why == "" {
				why = "refused by its reader"
			}
			c.failed(at, why, now)
		}
	}
	t.whenSaved(r, answer)
	return nil
}

// serve gives what there is to those who wait.
func (t *topic) serve(now time.Time) {
	for _, c := range t.channels {
		if err := c.serve(now); err != nil {
			t.die(err)
			return
		}
	}
	kept := t.tails[:0]
	for _, x := range t.tails {
		done, err := t.sendTail(x, now)
		switch {
		case err != nil:
			x.r.fail(err)
		case !done:
			kept = append(kept, x)
		}
	}
	clear(t.tails[len(kept):])
	t.tails = kept
}

func (c *channel) serve(now time.Time) error {
	if len(c.suspects) > 0 || !c.t.h.o.LeaseValid() {
		return nil
	}
	waiting := c.queue
	c.queue = nil
	for i, x := range waiting {
		sent, err := c.send(x, now)
		if err != nil {
			c.queue = append(c.queue, waiting[i:]...)
			return err
		}
		if !sent {
			c.queue = append(c.queue, x)
		}
	}
	return nil
}

// send answers a reader's call, where there is a message for it.
func (c *channel) send(x *reader, now time.Time) (bool, error) {
	if !x.joined || c.gathers(x, now) {
		return false, nil
	}
	answer := &actorv1.TopicReadAnswer{Life: c.t.life, AckMode: c.set.AckMode}
	size := 0
	for len(x.holds) < x.room && len(answer.Messages) < maxGive && size < maxGiveBytes {
		d, err := c.take(x, now)
		if err != nil {
			return false, err
		}
		if d == nil {
			break
		}
		answer.Messages = append(answer.Messages, d)
		size += len(d.Message.Payload) + 256
	}
	if len(answer.Messages) == 0 {
		return false, nil
	}
	x.poll.answer(answer)
	x.poll, x.seen, x.given = nil, now, now
	return true, nil
}

// follow reads without a channel.
func (t *topic) follow(r *request, m *actorv1.TopicTail) error {
	if len(t.tails) >= maxTails {
		return fmt.Errorf("%w readers without a channel: %d", ErrTooMany, maxTails)
	}
	x := &tailing{r: r, offset: m.Offset, room: min(maxGive, max(1, int(m.Room))),
		until: time.Now().Add(min(maxWait, time.Duration(m.Wait)*time.Millisecond))}
	if x.offset == 0 {
		at, err := t.begin(m.Start, m.After)
		if err != nil {
			return err
		}
		x.offset = at
		if asked := m.Start.GetOffset(); asked > 0 && asked < at && m.After == 0 {
			x.missed = at - asked
		}
	}
	t.tails = append(t.tails, x)
	return nil
}

func (t *topic) sendTail(x *tailing, now time.Time) (done bool, err error) {
	if x.offset > t.tail.Next { // it read on in what a backup does not have
		x.offset = t.tail.First
	}
	if x.offset < t.tail.First {
		x.missed += t.tail.First - x.offset
		x.offset = t.tail.First
	}
	answer := &actorv1.TopicTailAnswer{Offset: x.offset, Next: t.tail.Next, Missed: x.missed}
	if x.offset < t.tail.Next {
		for m := t.recent.find(x.offset); m != nil && len(answer.Messages) < x.room; m = t.recent.find(x.offset + uint64(len(answer.Messages))) {
			answer.Messages = append(answer.Messages, m)
		}
		if len(answer.Messages) == 0 {
			if answer.Messages, err = t.fetch(x.offset, x.room, maxGiveBytes); err != nil {
				return false, err
			}
		}
		if n := len(answer.Messages); n > 0 {
			answer.Offset = answer.Messages[n-1].Offset + 1
		}
	}
	if len(answer.Messages) == 0 && now.Before(x.until) {
		return false, nil
	}
	x.r.answer(answer)
	return true, nil
}
