package topic

import "time"

// gatherFor is how long messages are gathered for a reader that is behind, where Options.Gather says nothing: some commits long.
const gatherFor = 10 * time.Millisecond

// gathers says whether a reader is to wait for more. One that still works on what it was given would get each message by itself, as fast as they are
// published or it makes room, and would settle each by itself, which is a commit each. So it gets the next ones when it has settled
// what it holds, or half of what it may hold is there for it, or some time has passed.
func (c *channel) gathers(x *reader, now time.Time) bool {
	if len(x.holds) == 0 || !now.Before(c.gathered(x)) {
		return false
	}
	there := len(c.ready)
	if from := max(c.next, c.position); from < c.t.tail.Next {
		there += int(c.t.tail.Next - from)
	}
	return 2*min(there, x.room-len(x.holds), maxGive) < min(x.room, 2*maxGive)
}

// gathered is when a reader has waited long enough.
func (c *channel) gathered(x *reader) time.Time { return x.given.Add(c.t.h.o.Gather) }

// tickGathering says when a reader that waits is to be looked at again.
func (c *channel) tickGathering(now, next time.Time) time.Time {
	for _, x := range c.queue {
		if len(x.holds) > 0 && now.Before(c.gathered(x)) {
			next = earlier(next, c.gathered(x))
		}
	}
	return next
}
