package broker

import (
	"errors"
	"fmt"
	"net"
)

// maxPacket is the longest MQTT packet that is read, in bytes. The client would make room for whatever length it is told,
// up to 256 MiB.
const maxPacket = 1 << 20

var errPacket = errors.New("the broker sends no MQTT 3.1.1")

// Types of packets that a broker sends (MQTT 3.1.1, 2.2.1).
const (
	connack, publish, puback, pubrec, pubrel, pubcomp, suback, unsuback, pingresp = 2, 3, 4, 5, 6, 7, 9, 11, 13
)

// bounded looks at the fixed headers of the packets that go by, and ends the connection where one is too long, or not as
// long as its kind is: the client believes both, and a SUBACK with more answers than there were questions ends the
// whole program.
type bounded struct {
	net.Conn
	filters int // of the one subscription

	kind   byte // of the packet
	left   int  // bytes of its body to come
	shift  uint // of the length's next byte
	length int
	inside bool // of the length
	broken error
}

// Read implements net.Conn.
func (b *bounded) Read(p []byte) (int, error) {
	if b.broken != nil {
		return 0, b.broken
	}
	n, err := b.Conn.Read(p)
	if bad := b.pass(p[:n]); bad != nil {
		b.broken = bad
		return 0, bad
	}
	return n, err
}

// pass follows the packets' fixed headers.
func (b *bounded) pass(p []byte) error {
	for len(p) > 0 {
		switch {
		case b.left > 0:
			n := min(b.left, len(p))
			b.left -= n
			p = p[n:]
			continue
		case !b.inside:
			b.kind = p[0] >> 4
			b.inside, b.shift, b.length = true, 0, 0
		default:
			b.length |= int(p[0]&0x7f) << b.shift
			if b.shift += 7; p[0]&0x80 != 0 {
				if b.shift > 21 {
					return errPacket
				}
				break
			}
			if err := b.check(); err != nil {
				return err
			}
			b.inside, b.left = false, b.length
		}
		p = p[1:]
	}
	return nil
}

func (b *bounded) check() error {
	ok := false
	switch b.kind {
	case publish:
		ok = b.length >= 2
	case connack, puback, pubrec, pubrel, pubcomp, unsuback:
		ok = b.length == 2
	case suback:
		ok = b.length == 2+b.filters
	case pingresp:
		ok = b.length == 0
	}
	switch {
	case !ok:
		return fmt.Errorf("%w: a packet of type %d with %d bytes", errPacket, b.kind, b.length)
	case b.length > maxPacket:
		return fmt.Errorf("the broker sends a packet of %d bytes, more than %d", b.length, maxPacket)
	}
	return nil
}
