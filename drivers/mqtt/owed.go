package mqtt

import (
	"sync"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
)

// owed estimates the bytes of the messages that a client has not acknowledged; mochi bounds their number only. An
// acknowledgement does not tell the size of its message, so it takes the mean off; none left means none owed.
type owed struct {
	mu     sync.Mutex
	bytes  int64
	number int64
}

// packetCost is what mochi's packet takes beside topic and payload, in bytes.
const packetCost = 1024

// mayOwe says whether the client may get another message.
func (s *session) mayOwe(cl *mochi.Client) bool {
	there := int64(cl.State.Inflight.Len())
	s.owed.mu.Lock()
	defer s.owed.mu.Unlock()
	for s.owed.number > there { // mochi does not tell of all that it drops
		s.settleOne()
	}
	return s.owed.bytes == 0 ||
		(s.owed.bytes < int64(s.b.limits.OutboundBytes) && s.b.outbound.Load() < int64(s.b.limits.OutboundTotal))
}

func (s *session) owe(pk *packets.Packet) {
	n := int64(packetCost + len(pk.TopicName) + len(pk.Payload))
	s.owed.mu.Lock()
	s.owed.bytes += n
	s.owed.number++
	s.owed.mu.Unlock()
	s.b.outbound.Add(n)
}

// settleOwed takes one message off what the client owes.
func settleOwed(cl *mochi.Client) {
	s := sessionOf(cl)
	if s == nil {
		return
	}
	s.owed.mu.Lock()
	defer s.owed.mu.Unlock()
	s.settleOne()
}

func (s *session) settleOne() {
	if s.owed.number == 0 {
		return
	}
	n := s.owed.bytes / s.owed.number
	s.owed.number--
	if s.owed.number == 0 {
		n = s.owed.bytes
	}
	s.owed.bytes -= n
	s.b.outbound.Add(-n)
}
