package topic

import pb "github.com/polluxhq/pollux/proto/pollux/v1"

const (
	// maxRecent and maxRecentBytes bound the last messages that a topic holds in memory for readers that keep up.
	maxRecent      = 1024
	maxRecentBytes = 1 << 20
	// maxKnown is among how many of the last messages a repetition is known.
	maxKnown = 10_000
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

// known are the ids of the last messages.
type known struct {
	offsets map[string]uint64
	ring    []string
	at      int
}

func (k *known) find(id string) (uint64, bool) {
	at, ok := k.offsets[id]
	return at, ok && id != ""
}

func (k *known) add(id string, offset uint64) {
	if k.offsets == nil {
		k.offsets = map[string]uint64{}
	}
	if len(k.ring) < maxKnown {
		k.ring = append(k.ring, id)
	} else {
		delete(k.offsets, k.ring[k.at])
		k.ring[k.at] = id
		k.at = (k.at + 1) % maxKnown
	}
	if id != "" {
		k.offsets[id] = offset
	}
}
