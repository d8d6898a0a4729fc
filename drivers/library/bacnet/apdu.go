package main

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// Messages of ANSI/ASHRAE 135: BVLC (annex J), NPDU (clause 6), APDU (clause 20.1).

// Kinds of APDU.
const (
	pduConfirmed = iota
	pduUnconfirmed
	pduSimpleAck
	pduComplexAck
	pduSegmentAck
	pduError
	pduReject
	pduAbort
)

// Functions of BVLC.
const (
	bvlcForwarded = 4
	bvlcUnicast   = 10
	bvlcBroadcast = 11
)

// Services.
const (
	serviceCOV          = 1 // confirmed
	serviceSubscribeCOV = 5
	serviceRead         = 12
	serviceWrite        = 15
	unconfirmedIAm      = 0
	unconfirmedCOV      = 2
	unconfirmedWhoIs    = 8
)

const (
	abortNoSegmentation  = 4
	rejectUnknownService = 9
	// maxAPDU 5 is 1476 bytes: what fits into a datagram of BACnet/IP.
	maxAPDU = 5
)

// route is where a device is behind a router; network 0: in no other network.
type route struct {
	network uint16
	mac     []byte
}

// message is an APDU that came.
type message struct {
	kind      byte
	id        byte // invoke id
	service   byte // or the reason of a reject or abort
	segmented bool
	body      []byte
	from      route
	// origin is ADDRESS:PORT where the message was forwarded by somebody else.
	origin string
}

// parseFrame reads a datagram. It says false of what is no APDU, and of what cannot be right.
func parseFrame(b []byte) (m message, ok bool) {
	if len(b) < 4 || b[0] != 0x81 || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return m, false
	}
	switch b[1] {
	case bvlcUnicast, bvlcBroadcast:
		b = b[4:]
	case bvlcForwarded:
		if len(b) < 10 {
			return m, false
		}
		m.origin = address(b[4:10])
		b = b[10:]
	default:
		return m, false
	}
	b, m.from, ok = parseNPDU(b)
	return m, ok && m.parseAPDU(b)
}

// address of six bytes as text.
func address(b []byte) string {
	text := ""
	for i, c := range b[:4] {
		if i > 0 {
			text += "."
		}
		text += strconv.Itoa(int(c))
	}
	return text + ":" + strconv.Itoa(int(binary.BigEndian.Uint16(b[4:])))
}

func parseNPDU(b []byte) (rest []byte, from route, ok bool) {
	if len(b) < 2 || b[0] != 1 || b[1]&0x80 != 0 {
		return nil, from, false // another version, or among routers
	}
	control := b[1]
	b = b[2:]
	hop := func() (network uint16, mac []byte, ok bool) {
		if len(b) < 3 || len(b) < 3+int(b[2]) {
			return 0, nil, false
		}
		network, mac = binary.BigEndian.Uint16(b), b[3:3+b[2]]
		b = b[3+int(b[2]):]
		return network, mac, true
	}
	if control&0x20 != 0 {
		if _, _, ok := hop(); !ok {
			return nil, from, false
		}
	}
	if control&0x08 != 0 {
		if from.network, from.mac, ok = hop(); !ok {
			return nil, from, false
		}
	}
	if control&0x20 != 0 { // the hop count
		if len(b) == 0 {
			return nil, from, false
		}
		b = b[1:]
	}
	return b, from, true
}

func (m *message) parseAPDU(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	m.kind = b[0] >> 4
	head := b[0]
	b = b[1:]
	switch m.kind {
	case pduConfirmed:
		b = b[1:]
	case pduUnconfirmed:
		m.service, m.body = b[0], b[1:]
		return true
	case pduSimpleAck, pduComplexAck, pduError, pduReject, pduAbort:
	default:
		return false
	}
	if len(b) < 2 {
		return false
	}
	m.id, b = b[0], b[1:]
	if m.kind <= pduComplexAck && m.kind != pduSimpleAck && head&8 != 0 {
		m.segmented = true
		if len(b) < 3 {
			return false
		}
		b = b[2:]
	}
	m.service, m.body = b[0], b[1:]
	return true
}

// frame makes a datagram. asks: an answer is expected.
func frame(function byte, to route, asks bool, apdu ...[]byte) []byte {
	b := []byte{0x81, function, 0, 0, 1, 0}
	if asks {
		b[5] |= 4
	}
	if to.network != 0 {
		b[5] |= 0x20
		b = binary.BigEndian.AppendUint16(b, to.network)
		b = append(append(b, byte(len(to.mac))), to.mac...)
		b = append(b, 255)
	}
	for _, part := range apdu {
		b = append(b, part...)
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func confirmed(id, service byte) []byte { return []byte{pduConfirmed << 4, maxAPDU, id, service} }

// place names a property of an object.
type place struct {
	object, instance, property uint32
	index                      *int
}

func (p place) String() string {
	s := objectName(p.object) + ":" + strconv.Itoa(int(p.instance)) + " " + nameOf(properties, p.property)
	if p.index != nil {
		s += "[" + strconv.Itoa(*p.index) + "]"
	}
	return s
}

// appendObject appends an object with a context tag; it always has four bytes.
func appendObject(b []byte, number byte, object, instance uint32) []byte {
	return binary.BigEndian.AppendUint32(appendTag(b, number, true, 4), object<<22|instance)
}

func (p place) append(b []byte) []byte {
	b = appendContext(appendObject(b, 0, p.object, p.instance), 1, p.property)
	if p.index != nil {
		b = appendContext(b, 2, uint32(*p.index))
	}
	return b
}

func readRequest(id byte, p place) []byte { return p.append(confirmed(id, serviceRead)) }

// writeRequest writes encoded data; priority 0: none is said.
func writeRequest(id byte, p place, data []byte, priority int) []byte {
	b := append(p.append(confirmed(id, serviceWrite)), 0x3e)
	b = append(append(b, data...), 0x3f)
	if priority > 0 {
		b = appendContext(b, 4, uint32(priority))
	}
	return b
}

func subscribeRequest(id byte, process, object, instance uint32, isConfirmed bool, seconds int) []byte {
	b := appendObject(appendContext(confirmed(id, serviceSubscribeCOV), 0, process), 1, object, instance)
	yes := byte(0)
	if isConfirmed {
		yes = 1
	}
	return appendContext(append(appendTag(b, 2, true, 1), yes), 3, uint32(seconds))
}

// parseRead reads the answer to a ReadProperty.
func parseRead(b []byte) (p place, all []value, ok bool) {
	object, b, ok := context(b, 0)
	if !ok {
		return p, nil, false
	}
	p.object, p.instance = object>>22, object&maxInstance
	if p.property, b, ok = context(b, 1); !ok {
		return p, nil, false
	}
	if index, rest, has := context(b, 2); has {
		i := int(index)
		p.index, b = &i, rest
	}
	inside, _, ok := enclosed(b, 3)
	if !ok {
		return p, nil, false
	}
	all, ok = values(inside)
	return p, all, ok
}

// notification of changed values.
type notification struct {
	process, device  uint32
	object, instance uint32
	left             uint32 // seconds
	values           []changed
}

type changed struct {
	property uint32
	index    *int
	values   []value
}

func parseNotification(b []byte) (n notification, ok bool) {
	var object uint32
	for i, field := range []*uint32{&n.process, &n.device, &object, &n.left} {
		if *field, b, ok = context(b, byte(i)); !ok {
			return n, false
		}
	}
	n.device &= maxInstance
	n.object, n.instance = object>>22, object&maxInstance
	list, _, ok := enclosed(b, 4)
	for ok && len(list) > 0 {
		var c changed
		if c.property, list, ok = context(list, 0); !ok {
			return n, false
		}
		if index, rest, has := context(list, 1); has {
			i := int(index)
			c.index, list = &i, rest
		}
		inside, rest, isThere := enclosed(list, 2)
		if !isThere {
			return n, false
		}
		if c.values, ok = values(inside); !ok {
			return n, false
		}
		if _, after, has := context(rest, 3); has { // a priority
			rest = after
		}
		list = rest
		n.values = append(n.values, c)
	}
	return n, ok
}

// parseError reads class and code of an error.
func parseError(b []byte) (class, code int64, ok bool) {
	all, ok := values(b)
	if !ok || len(all) < 2 || all[0].tag != tagEnumerated || all[1].tag != tagEnumerated {
		return 0, 0, false
	}
	return all[0].n, all[1].n, true
}

// whoIs asks the devices from low to high; all where high is below low.
func whoIs(low, high int) []byte {
	b := []byte{pduUnconfirmed << 4, unconfirmedWhoIs}
	if high >= low {
		b = appendContext(appendContext(b, 0, uint32(low)), 1, uint32(high))
	}
	return b
}

// iAm is what a device says of itself.
type iAm struct{ device, maxAPDU, segmentation, vendor int64 }

func parseIAm(b []byte) (d iAm, ok bool) {
	all, ok := values(b)
	if !ok || len(all) < 4 || all[0].tag != tagObject || all[0].n>>22 != objectDevice {
		return d, false
	}
	return iAm{all[0].n & maxInstance, all[1].n, all[2].n, all[3].n}, true
}

func macOf(text string) []byte {
	b, _ := hex.DecodeString(text) // checked by the settings' schema
	return b
}
