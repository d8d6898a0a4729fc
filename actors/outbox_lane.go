package actors

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

const (
	// maxTaken is how many goroutines bring messages to their destinations; more destinations take turns.
	maxTaken = 4096
	// laneHeld is how long a lane has to stand still to be shown as held up.
	laneHeld = 5 * time.Second
	// shownLanes is how many lanes the status and the metrics name, the longest first.
	shownLanes = 20
)

// deadLane begins the lane of what cannot go to its destination, and becomes a dead letter.
const deadLane = "dead/"

// laneOf gives the lane of a message for a destination, with why it cannot go there, or "".
func laneOf(to, why string) string {
	if why != "" {
		return deadLane + to
	}
	return to
}

// lane are the messages for one destination: a topic, a rule (ruleTopic), a logic on behalf of a route (runTopic) or of a detector
// (judgeTopic), a detector that waits for verdicts (verdictTopic). It has a goroutine while there are
// any. Where the destination is slow or silent its own messages wait, and nobody else's.
type lane struct {
	to    string
	queue []outgoing
	bytes int
	moved time.Time // when messages last left, or the first one came
	err   error     // of the last try
	// behind: it is counted in outbox.behind.
	behind bool
}

// Lane is what waits for a destination, as operators see it.
type Lane struct {
	// To is the id of a topic, rule/ID of a rule, run/ID of a route whose logic is to see the messages first, and so on; dead/ and one of these for
	// what could not go there.
	To              string
	Messages, Bytes int
	// Moved is when messages last left, or when the first one came.
	Moved time.Time
	// Err is why the last try failed; empty where it goes on or has no answer yet.
	Err string

	held bool
}

// room says whether another message may wait for a destination.
func (o *outbox) room(to string, size int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	waits, bytes := 0, 0
	if l := o.lanes[to]; l != nil {
		waits, bytes = len(l.queue), l.bytes
	}
	return waits < maxOutbox-len(o.known)-len(o.spending) && bytes+size <= maxOutboxBytes-o.bytes
}

// enter puts a message into its lane, which it gives, and sees to it that the lane has a goroutine, or will have one. The caller holds o.mu.
func (o *outbox) enter(x outgoing) *lane {
	to := laneOf(x.topic, x.why)
	l := o.lanes[to]
	if l == nil {
		l = &lane{to: to, moved: time.Now()}
		o.lanes[to] = l
		if o.taken < maxTaken {
			o.taken++
			o.e.goFunc(func() { o.drive(l) })
		} else {
			o.line = append(o.line, l)
		}
	}
	l.queue = append(l.queue, x)
	l.bytes += x.size
	o.measure(l)
	return l
}

// isTopic says whether a lane's destination is a topic, to which the store brings what it has as fast as it can. A topic's id has one slash.
func isTopic(to string) bool { return strings.Count(to, "/") == 1 }

// measure says whether a topic's lane has three quarters of what room lets it have. From then on messages for twins that tell the topic something
// wait at their doors, so that none that is acknowledged finds the lane full. The caller holds o.mu.
func (o *outbox) measure(l *lane) {
	long := 4*len(l.queue) >= 3*(maxOutbox-len(o.known)-len(o.spending)) || 4*l.bytes >= 3*(maxOutboxBytes-o.bytes)
	behind := len(l.queue) > 0 && long && isTopic(l.to)
	switch {
	case behind && !l.behind:
		o.behind.Add(1)
	case !behind && l.behind:
		o.behind.Add(-1)
	}
	l.behind = behind
}

// isBehind says whether a topic is; nil is none.
func (o *outbox) isBehind(to *string) bool {
	if to == nil || o.behind.Load() == 0 {
		return false
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	l := o.lanes[*to]
	return l != nil && l.behind
}

// most is how many messages a lane brings at once.
func (l *lane) most() int {
	if isTopic(l.to) {
		return min(len(l.queue), topicBatch)
	}
	return min(len(l.queue), outboxBatch)
}

// leave takes messages out that are settled: the first ones, or others where older ones came before them meanwhile. Those that are not in the
// lane any more stay where they are. The caller holds o.mu.
func (o *outbox) leave(l *lane, gone []outgoing) {
	first := len(gone) <= len(l.queue)
	for i := 0; first && i < len(gone); i++ {
		first = l.queue[i].key == gone[i].key
	}
	for _, x := range gone {
		if o.known[x.key] != l {
			continue
		}
		delete(o.known, x.key)
		o.bytes -= x.size
		l.bytes -= x.size
	}
	defer o.measure(l)
	if first {
		clear(l.queue[:len(gone)])
		l.queue = l.queue[len(gone):]
		return
	}
	l.queue = slices.DeleteFunc(l.queue, func(x outgoing) bool { return o.known[x.key] != l })
}

// sort puts what was read from the store before what was committed since. The order within a twin is its keys'.
func (l *lane) sort() {
	slices.SortStableFunc(l.queue, func(a, b outgoing) int { return strings.Compare(a.key, b.key) })
}

// drive brings a lane's messages to their destination, and then those of lanes that wait in line.
func (o *outbox) drive(l *lane) {
	for l != nil && o.e.ctx.Err() == nil {
		batch := o.batch(l)
		settled, onward, err := o.bring(l, batch)
		if err != nil && o.e.ctx.Err() == nil {
			if o.failed(l, err) {
				o.e.log.Warn("messages wait for destinations; the status names them all", "first", l.to, "err", err)
			}
			if inLane(l.to) {
				o.e.pause(fileLook)
			} else {
				o.e.pause(time.Second)
			}
		}
		l = o.next(l, batch[:settled], onward)
	}
}

// failed notes why a try failed, and says whether that is news: all other lanes go on.
func (o *outbox) failed(l *lane, err error) (news bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if l.err == nil {
		o.failing++
		news = o.failing == 1
	}
	l.err = err
	return news
}

// goesOn notes that a lane's last try did not fail, or that the lane is empty. The caller holds o.mu.
func (o *outbox) goesOn(l *lane) {
	if l.err != nil {
		o.failing--
		l.err = nil
	}
}

// next takes messages out of a lane and those that go on of them into theirs, and gives the lane that the goroutine goes on with, or nil.
func (o *outbox) next(l *lane, settled, onward []outgoing) *lane {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(settled) > 0 {
		o.leave(l, settled)
		l.moved = time.Now()
		o.goesOn(l)
	}
	o.addAll(onward)
	if len(l.queue) == 0 {
		o.goesOn(l)
		delete(o.lanes, l.to)
	} else if o.line = append(o.line, l); len(o.line) == 1 {
		o.line = o.line[:0]
		return l
	}
	if len(o.line) == 0 {
		o.taken--
		return nil
	}
	l, o.line[0], o.line = o.line[0], nil, o.line[1:]
	return l
}

// bring brings the first of a lane's messages where they go, and says how many are settled, and what goes on of them.
func (o *outbox) bring(l *lane, batch []outgoing) (settled int, onward []outgoing, err error) {
	if len(batch) == 0 {
		return 0, nil, nil
	}
	if inLane(l.to) {
		return o.think(l, batch)
	}
	settled, err = o.publish(batch)
	return settled, nil, err
}

// batch gives a lane's first messages, once the records of slots that came are read: what a twin said in an earlier life comes before what
// it says now. It is empty where the engine ends, or the first messages are not this node's any more.
func (o *outbox) batch(l *lane) []outgoing {
	for {
		o.mu.Lock()
		unread := o.unread
		if unread == nil {
			defer o.mu.Unlock()
			for gone := o.strangers(l.queue[:l.most()]); len(gone) > 0; gone = o.strangers(l.queue[:l.most()]) {
				o.leave(l, gone)
			}
			return slices.Clone(l.queue[:l.most()])
		}
		o.mu.Unlock()
		select {
		case <-unread:
		case <-o.e.ctx.Done():
			return nil
		}
	}
}

// strangers gives those messages that are not this node's to bring: their slot has gone, and its owner reads the record, or it went and came back
// and somebody brought them meanwhile. The caller holds o.mu.
func (o *outbox) strangers(queue []outgoing) (gone []outgoing) {
	for i := range queue {
		x := &queue[i]
		own := o.owned(x.slot)
		if own == x.own {
			continue
		}
		if own == nil || !o.there(x) {
			gone = append(gone, *x)
			continue
		}
		x.own = own
	}
	return gone
}

// OutboxStats is what waits on this node for topics, rules and logics.
type OutboxStats struct {
	Messages, Bytes, Lanes, Held int
	// Longest are the lanes with the most messages, and Still those of the ones that stand still; at most 20 of each.
	Longest, Still []Lane
}

// Outbox gives what twins of this node have committed and topics, rules and logics have not yet taken. It does not block.
func (e *Engine) Outbox() OutboxStats { return e.outbox.stats(time.Now()) }

func (o *outbox) stats(now time.Time) OutboxStats {
	s, all := o.lanesNow(now)
	slices.SortFunc(all, func(a, b Lane) int { return cmp.Or(b.Messages-a.Messages, strings.Compare(a.To, b.To)) })
	s.Longest = all[:min(len(all), shownLanes)]
	for i := range all {
		if all[i].held && len(s.Still) < shownLanes {
			s.Still = append(s.Still, all[i])
		}
	}
	return s
}

// lanesNow counts, and gives all lanes.
func (o *outbox) lanesNow(now time.Time) (s OutboxStats, all []Lane) {
	o.mu.Lock()
	defer o.mu.Unlock()
	s = OutboxStats{Messages: len(o.known), Bytes: o.bytes, Lanes: len(o.lanes)}
	for _, l := range o.lanes {
		x := Lane{To: l.to, Messages: len(l.queue), Bytes: l.bytes, Moved: l.moved, held: l.err != nil || now.Sub(l.moved) > laneHeld}
		if l.err != nil {
			x.Err = l.err.Error()
		}
		if x.held {
			s.Held++
		}
		all = append(all, x)
	}
	return s, all
}

// writeMetrics names the longest lanes; their number is bounded, that of destinations is not.
func (o *outbox) writeMetrics(w io.Writer) {
	s := o.stats(time.Now())
	fmt.Fprintf(w, "pollux_outbox_messages %d\npollux_outbox_bytes %d\npollux_outbox_lanes %d\npollux_outbox_lanes_held %d\npollux_outbox_topics_behind %d\n", s.Messages, s.Bytes, s.Lanes, s.Held,
		o.behind.Load())
	for _, l := range s.Longest {
		fmt.Fprintf(w, "pollux_outbox_lane_messages{to=%q} %d\n", l.To, l.Messages)
	}
}
