package announce

import (
	"encoding/binary"
	"net/netip"
	"strings"
)

// MDNSGroup is where services are asked for.
var MDNSGroup = netip.MustParseAddrPort("224.0.0.251:5353")

// Service is what a device announces.
type Service struct {
	// Type such as _http._tcp, Name that of the instance, Host that of the device without .local.
	Type, Name, Host string
	Port             int
	Address          netip.Addr
	// Text are the attributes, NAME=VALUE.
	Text []string
}

const (
	typeA, typePTR, typeTXT, typeSRV, typeAny = 1, 12, 16, 33, 255
	classIN, flush                            = 1, 0x8000
)

// MDNS answers questions for services. Who asks from the port of the group hears the answer there; others, which know of
// multicast only that much, have it sent back, with their question (RFC 6762, section 6.7).
func MDNS(services ...Service) Answer {
	return func(question []byte, from netip.AddrPort) (said []byte, toAll bool) {
		if len(question) < 12 || question[2]&0x80 != 0 {
			return nil, false
		}
		legacy := from.Port() != MDNSGroup.Port()
		head := make([]byte, 12)
		head[2] = 0x84
		var body, more []byte
		rest := question[12:]
		for range binary.BigEndian.Uint16(question[4:]) {
			name, kind, after, ok := readQuestion(rest)
			if !ok {
				return nil, false
			}
			if legacy {
				body = append(body, rest[:len(rest)-len(after)]...)
				head[5]++
			}
			rest = after
			for i := range services {
				if s := &services[i]; strings.EqualFold(name, s.Type+".local") && (kind == typePTR || kind == typeAny) {
					more = s.append(more)
					head[7] += recordsOfService
				}
			}
		}
		if more == nil {
			return nil, false
		}
		if legacy {
			copy(head, question[:2])
		}
		return append(append(head, body...), more...), !legacy
	}
}

// recordsOfService is how many records append writes; all are among the answers.
const recordsOfService = 4

// append writes what there is to say of a service.
func (s *Service) append(b []byte) []byte {
	host, kind := s.Host+".local", s.Type+".local"
	instance := append(label(nil, s.Name), name(kind)...)
	b = record(b, name(kind), typePTR, classIN, 4500, instance)
	b = record(b, instance, typeSRV, classIN|flush, 120, append([]byte{0, 0, 0, 0, byte(s.Port >> 8), byte(s.Port)}, name(host)...))
	var text []byte
	for _, t := range s.Text {
		text = label(text, t)
	}
	if text == nil {
		text = []byte{0}
	}
	b = record(b, instance, typeTXT, classIN|flush, 4500, text)
	return record(b, name(host), typeA, classIN|flush, 120, s.Address.AsSlice())
}

func record(b, owner []byte, kind, class uint16, ttl uint32, data []byte) []byte {
	b = append(b, owner...)
	b = binary.BigEndian.AppendUint16(b, kind)
	b = binary.BigEndian.AppendUint16(b, class)
	b = binary.BigEndian.AppendUint32(b, ttl)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return append(b, data...)
}

func label(b []byte, text string) []byte {
	text = text[:min(len(text), 255)]
	return append(append(b, byte(len(text))), text...)
}

func name(text string) (b []byte) {
	for part := range strings.SplitSeq(text, ".") {
		b = label(b, part)
	}
	return append(b, 0)
}

// readQuestion reads one whose name is written out.
func readQuestion(b []byte) (name string, kind uint16, rest []byte, ok bool) {
	var parts []string
	for {
		if len(b) == 0 || b[0] > 63 || int(b[0]) >= len(b) {
			return "", 0, nil, false
		}
		n := int(b[0])
		part := string(b[1 : 1+n])
		if b = b[1+n:]; n == 0 {
			break
		}
		parts = append(parts, part)
	}
	if len(b) < 4 {
		return "", 0, nil, false
	}
	return strings.Join(parts, "."), binary.BigEndian.Uint16(b), b[4:], true
}
