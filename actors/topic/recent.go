package topic

import (
	"hash/maphash"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxRecent and maxRecentBytes bound the last messages that a topic holds in memory for readers that keep up.
	maxRecent      = 1024
	maxRecentBytes = 1 << 20
	// A repetition is known among the last leastKnown messages, and among those of the last knownFor (longer than a node's failure is noticed and
	// its slots have new owners, who tell again what it told last), of which maxKnown.
	leastKnown = 10_000
	maxKnown   = 100_000
	knownFor   = time.Minute

	// Fields of a TopicMessage.
	idField, publishTimeField = 6, 8
)

// recent holds the last messages, without a gap.
type recent struct {
	messages []*pb.TopicMessage
	bytes    int
}

func (c *recent) add(m *pb.TopicMessage) {
	c.messages = append(c.messages, m)
	c.bytes += len(m.Payload)
	drop := 0
	for len(c.messages)-drop > 1 && (len(c.messages)-drop > maxRecent || c.bytes > maxRecentBytes) {
		c.bytes -= len(c.messages[drop].Payload)
		c.messages[drop] = nil
		drop++
	}
	c.messages = c.messages[drop:]
}

func (c *recent) trim(first uint64) {
	for len(c.messages) > 0 && c.messages[0].Offset < first {
		c.bytes -= len(c.messages[0].Payload)
		c.messages = c.messages[1:]
	}
}

func (c *recent) find(offset uint64) *pb.TopicMessage {
	if len(c.messages) == 0 || offset < c.messages[0].Offset || offset > c.messages[len(c.messages)-1].Offset {
		return nil
	}
	return c.messages[offset-c.messages[0].Offset]
}

// known are the ids of the last messages, by their hash: that two of so many have the same one happens once in 10^14 messages.
type known struct {
	seed    maphash.Seed
	offsets map[uint64]uint64
	ids     []knownID // in order; those before first are forgotten
	first   int
}

// knownID is an id's hash, and when its message was published, in ms.
type knownID struct {
	hash uint64
	time int64
}

func (k *known) find(id string) (uint64, bool) {
	if id == "" || k.offsets == nil {
		return 0, false
	}
	at, ok := k.offsets[maphash.String(k.seed, id)]
	return at, ok
}

// add notes a message's id, and forgets those that are too old by its time, in ms.
func (k *known) add(id string, offset uint64, at int64) {
	if id == "" {
		return
	}
	if k.offsets == nil {
		k.seed, k.offsets = maphash.MakeSeed(), map[uint64]uint64{}
	}
	x := knownID{maphash.String(k.seed, id), at}
	k.offsets[x.hash] = offset
	k.ids = append(k.ids, x)
	for n := len(k.ids) - k.first; n > maxKnown || n > leastKnown && k.ids[k.first].time < at-knownFor.Milliseconds(); n-- {
		delete(k.offsets, k.ids[k.first].hash)
		k.first++
	}
	if k.first > leastKnown && k.first > len(k.ids)/2 {
		k.ids, k.first = append(k.ids[:0], k.ids[k.first:]...), 0
	}
}

// stampOf reads the id of an encoded message, and when it was published (ms), and leaves the rest as it is.
func stampOf(value []byte) (id string, at int64, err error) {
	for len(value) > 0 {
		field, kind, n := protowire.ConsumeTag(value)
		if n < 0 {
			return "", 0, protowire.ParseError(n)
		}
		value = value[n:]
		if n = protowire.ConsumeFieldValue(field, kind, value); n < 0 {
			return "", 0, protowire.ParseError(n)
		}
		if kind == protowire.BytesType && (field == idField || field == publishTimeField) {
			v, _ := protowire.ConsumeBytes(value)
			if field == idField {
				id = string(v)
			} else {
				var x timestamppb.Timestamp
				if err := proto.Unmarshal(v, &x); err != nil {
					return "", 0, err
				}
				at = x.AsTime().UnixMilli()
			}
		}
		value = value[n:]
	}
	return id, at, nil
}
