package mqtt

import "encoding/binary"

// flow keeps a client of MQTT 5 within its receive maximum: no more messages of QoS 1 and 2 are on their way to it
// than it asked for; the others wait here in order. A nil flow lets all through.
type flow struct {
	most    int
	sent    map[uint16]struct{}
	waiting [][]byte
	bytes   int
}

func newFlow(most int) *flow { return &flow{most: most, sent: map[uint16]struct{}{}} }

// held is how many bytes wait.
func (f *flow) held() int {
	if f == nil {
		return 0
	}
	return f.bytes
}

// admit says whether the packet may go now; if not, a copy of it waits.
func (f *flow) admit(b []byte) bool {
	if f == nil {
		return true
	}
	id := outboundID(b)
	if _, again := f.sent[id]; again || (len(f.sent) < f.most && len(f.waiting) == 0) {
		f.sent[id] = struct{}{}
		return true
	}
	f.waiting = append(f.waiting, append([]byte(nil), b...))
	f.bytes += len(b)
	return false
}

// release takes an acknowledgement and gives the packets that may go now.
func (f *flow) release(id uint16) [][]byte {
	delete(f.sent, id)
	n := 0
	for n < len(f.waiting) && len(f.sent) < f.most {
		f.sent[outboundID(f.waiting[n])] = struct{}{}
		f.bytes -= len(f.waiting[n])
		n++
	}
	free := f.waiting[:n:n]
	f.waiting = f.waiting[n:]
	return free
}

// outboundID of a PUBLISH that we encoded.
func outboundID(b []byte) uint16 {
	h, ok, err := parseHeader(b)
	if !ok || err != nil || h.begin+2 > len(b) {
		return 0
	}
	at := h.begin + 2 + int(binary.BigEndian.Uint16(b[h.begin:]))
	if at+2 > len(b) {
		return 0
	}
	return binary.BigEndian.Uint16(b[at:])
}
