package sim

import (
	"bytes"
	"encoding/binary"
	"math"
	"net"
	"time"
)

func real32(v float32) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x44}, math.Float32bits(v))
}

func text(v string) []byte { return append([]byte{0x75, byte(len(v) + 1), 0}, v...) }

// take gives the body of the datum that b begins with. It knows tags below 15 and bodies below 254 bytes: no more is sent here.
func take(b []byte) (body, rest []byte) {
	if len(b) == 0 {
		return nil, nil
	}
	n, at := int(b[0]&7), 1
	if n >= 6 {
		return nil, b[1:]
	}
	if n == 5 && len(b) > 1 {
		n, at = int(b[1]), 2
	}
	if len(b) < at+n {
		return nil, nil
	}
	return b[at : at+n], b[at+n:]
}

func number(body []byte) (n uint32) {
	for _, c := range body {
		n = n<<8 | uint32(c)
	}
	return n
}

func object(body []byte) Object { return Object{number(body) >> 22, number(body) & 0x3fffff} }

func objectID(o Object) []byte { return binary.BigEndian.AppendUint32(nil, o.Type<<22|o.Instance) }

// read gives a property's encoded value, or class and code of the error.
func (s *Sim) read(o Object, property uint32, index []byte) (value []byte, class, code byte) {
	if o.Type == 8 && (o.Instance == s.o.Device || o.Instance == 4194303) {
		return s.readDevice(property, index)
	}
	has := s.objects[o]
	if has == nil {
		return nil, 1, 31
	}
	switch property {
	case 85:
		return has.present(), 0, 0
	case 77:
		return text(has.name), 0, 0
	case 75:
		return append([]byte{0xc4}, objectID(o)...), 0, 0
	case 111:
		return []byte{0x82, 4, 0}, 0, 0
	case 87:
		if has.fallback == nil {
			return nil, 2, 32
		}
		var all []byte
		for _, v := range has.slots[1:] {
			if v == nil {
				v = []byte{0}
			}
			all = append(all, v...)
		}
		return all, 0, 0
	}
	return nil, 2, 32
}

func (s *Sim) readDevice(property uint32, index []byte) (value []byte, class, code byte) {
	switch property {
	case 75:
		return append([]byte{0xc4}, objectID(Object{8, s.o.Device})...), 0, 0
	case 77:
		return text("AHU 1"), 0, 0
	case 121:
		return text("Castor"), 0, 0
	case 70:
		return text("AHU-S"), 0, 0
	case 112:
		return []byte{0x91, 0}, 0, 0
	case 76:
		list := []Object{{8, s.o.Device}, Supply, Return, Setpoint, Fan, Mode}
		switch at := number(index); {
		case index == nil:
			var all []byte
			for _, o := range list {
				all = append(append(all, 0xc4), objectID(o)...)
			}
			return all, 0, 0
		case at == 0:
			return []byte{0x21, byte(len(list))}, 0, 0
		case int(at) <= len(list):
			return append([]byte{0xc4}, objectID(list[at-1])...), 0, 0
		}
		return nil, 2, 42
	}
	return nil, 2, 32
}

// write does what a WriteProperty says, or gives class and code of the error.
func (s *Sim) write(b []byte) (class, code byte) {
	first, rest := take(b)
	property, rest := take(rest)
	o := object(first)
	has := s.objects[o]
	switch {
	case has == nil:
		return 1, 31
	case number(property) != 85 || has.fallback == nil:
		return 2, 40
	case len(rest) < 3 || rest[0] != 0x3e:
		return 2, 9
	}
	datum, after := take(rest[1:])
	if datum == nil || len(after) == 0 || after[0] != 0x3f {
		return 2, 9
	}
	value, priority := rest[1:len(rest)-len(after)], uint32(16)
	if p, _ := take(after[1:]); p != nil {
		priority = number(p)
	}
	switch {
	case priority < 1 || priority > 16 || priority == 6:
		return 2, 40
	case value[0] == 0:
		has.slots[priority] = nil
	case value[0] != has.fallback[0]:
		return 2, 9
	case o == Mode && (value[1] < 1 || value[1] > 3), o == Fan && value[1] > 1:
		return 2, 37
	default:
		has.slots[priority] = bytes.Clone(value)
	}
	s.tell(o)
	return 0, 0
}

// subscribe keeps a subscription: process, object, confirmed or not, lifetime. Without the last two it ends one.
func (s *Sim) subscribe(b []byte, from *net.UDPAddr) bool {
	process, rest := take(b)
	head := bytes.Clone(b[:len(b)-len(rest)])
	first, rest := take(rest)
	o := object(first)
	if s.objects[o] == nil || process == nil {
		return false
	}
	kept := s.subscriptions[:0]
	for _, x := range s.subscriptions {
		same := x.object == o && bytes.Equal(x.process, head) && x.to.String() == from.String()
		if !same && time.Now().Before(x.until) {
			kept = append(kept, x)
		}
	}
	s.subscriptions = kept
	if len(rest) == 0 {
		return true
	}
	if len(kept) >= 100 {
		return false
	}
	isConfirmed, rest := take(rest)
	seconds, _ := take(rest)
	s.subscriptions = append(kept, subscription{from, head, o, number(isConfirmed) == 1, time.Now().Add(time.Duration(number(seconds)) * time.Second)})
	return true
}

// tell tells who subscribed to an object what it is now.
func (s *Sim) tell(o Object) {
	for _, x := range s.subscriptions {
		left := time.Until(x.until)
		if x.object != o || left <= 0 {
			continue
		}
		b := append(append([]byte{}, x.process...), 0x1c)
		b = append(append(b, objectID(Object{8, s.o.Device})...), 0x2c)
		b = binary.BigEndian.AppendUint32(append(append(b, objectID(o)...), 0x3c), uint32(left.Seconds()))
		b = append(append(b, 0x4e, 0x09, 85, 0x2e), s.objects[o].present()...)
		b = append(b, 0x2f, 0x09, 111, 0x2e, 0x82, 4, 0, 0x2f, 0x4f)
		if x.confirmed {
			s.invoke++
			s.send(x.to, true, append([]byte{0, 5, s.invoke, 1}, b...)...)
		} else {
			s.send(x.to, false, append([]byte{0x10, 2}, b...)...)
		}
	}
}
