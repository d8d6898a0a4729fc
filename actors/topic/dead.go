package topic

import (
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Headers of dead letters, and of messages that are published again from there.
const (
	HeaderTopic    = "pollux-topic"
	HeaderChannel  = "pollux-channel"
	HeaderOffset   = "pollux-offset"
	HeaderAttempts = "pollux-attempts"
	HeaderReason   = "pollux-reason"
	// HeaderRoute names the route that sent a message.
	HeaderRoute = "pollux-route"
	// HeaderOnly: the message is for this channel, or reader without one, alone; the others skip it.
	HeaderOnly = "pollux-only-channel"
)

// maxReason bounds the header that says why, in bytes.
const maxReason = 1000

func cut(why string) string { return strings.ToValidUTF8(why[:min(len(why), maxReason)], "") }

// bury makes a dead letter of a message that a channel gives up.
func (t *topic) bury(c *channel, offset uint64, attempts uint32, why string) {
	m, err := c.message(offset)
	switch {
	case err != nil:
		t.die(err)
		return
	case m == nil: // the limits have just removed it
		key := c.dying[offset]
		delete(c.dying, offset)
		c.missed++
		c.settle(offset)
		c.release(key)
		return
	}
	letter := proto.Clone(m).(*pb.TopicMessage)
	letter.Id = fmt.Sprintf("%s/%s/%x/%d", t.id, c.name, c.begun, offset)
	letter.Offset, letter.PublishTime = 0, nil
	if letter.Headers == nil {
		letter.Headers = map[string]string{}
	}
	delete(letter.Headers, HeaderOnly)
	letter.Headers[HeaderTopic], letter.Headers[HeaderChannel] = t.id, c.name
	letter.Headers[HeaderOffset], letter.Headers[HeaderAttempts] = fmt.Sprint(offset), fmt.Sprint(attempts)
	letter.Headers[HeaderReason] = cut(why)
	t.buryLetter(c, offset, letter)
}

// buryLetter publishes a dead letter, and settles its message when that is committed, whether the message is still kept or not.
func (t *topic) buryLetter(c *channel, offset uint64, letter *pb.TopicMessage) {
	t.h.bury(DeadOf(t.id), letter, func(err error) {
		t.post(func() {
			if t.dead != nil || t.channels[c.name] != c {
				return
			}
			if err == nil {
				t.buried(c, offset)
				return
			}
			t.h.o.Logger.Warn("dead letter is not taken yet", "topic", t.id, "channel", c.name, "offset", offset, "err", err)
			time.AfterFunc(time.Second, func() { t.post(func() { t.buryLetter(c, offset, letter) }) })
		})
	})
}

func (t *topic) buried(c *channel, offset uint64) {
	key, ok := c.dying[offset]
	if !ok {
		return
	}
	delete(c.dying, offset)
	c.dead++
	t.h.dead.Inc()
	c.settle(offset)
	c.release(key)
}
