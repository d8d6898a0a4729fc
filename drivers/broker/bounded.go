package broker

import (
	"errors"
	"fmt"
	"net"
)

// maxPacket is the longest MQTT packet that is read, in bytes. The client would make room for whatever length it is told,
// up to 256 MiB.
const maxPacket = 1 << 20

var errPacket = errors.New("the broker sends no MQTT")

// bounded looks at the lengths of the packets that go by, and ends the connection where one is too long.
type bounded struct {
	net.Conn
	left   int  // bytes of the packet's body to come
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

// pass follows the packets' fixed headers (MQTT 3.1.1, 2.2).
func (b *bounded) pass(p []byte) error {
	for len(p) > 0 {
		switch {
		case b.left > 0:
			n := min(b.left, len(p))
			b.left -= n
			p = p[n:]
			continue
		case !b.inside:
			b.inside, b.shift, b.length = true, 0, 0
		default:
			b.length |= int(p[0]&0x7f) << b.shift
			if b.shift += 7; p[0]&0x80 != 0 {
				if b.shift > 21 {
					return errPacket
				}
				break
			}
			if b.length > maxPacket {
				return fmt.Errorf("the broker sends a packet of %d bytes, more than %d", b.length, maxPacket)
			}
			b.inside, b.left = false, b.length
		}
		p = p[1:]
	}
	return nil
}
