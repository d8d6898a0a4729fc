package load

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The packets of MQTT 3.1.1 that a publisher needs.
const (
	connackPacket = 0x20
	pubackPacket  = 0x40
)

func appendConnect(b []byte, id, user, password string) []byte {
	flags, length := byte(2), 10+2+len(id) // a clean session: what is not acknowledged is sent anew
	if user != "" || password != "" {
		flags |= 0xc0
		length += 4 + len(user) + len(password)
	}
	b = appendLength(append(b, 0x10), length)
	b = append(b, 0, 4, 'M', 'Q', 'T', 'T', 4, flags, 0, 0)
	b = appendText(b, id)
	if flags&0xc0 != 0 {
		b = appendText(appendText(b, user), password)
	}
	return b
}

// appendPublish appends a PUBLISH; id is left out with QoS 0.
func appendPublish(b []byte, topic string, payload []byte, qos byte, id uint16, again bool) []byte {
	first := 0x30 | qos<<1
	if again && qos > 0 {
		first |= 8
	}
	length := 2 + len(topic) + len(payload)
	if qos > 0 {
		length += 2
	}
	b = appendText(appendLength(append(b, first), length), topic)
	if qos > 0 {
		b = binary.BigEndian.AppendUint16(b, id)
	}
	return append(b, payload...)
}

func appendText(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

func appendLength(b []byte, n int) []byte {
	for n >= 0x80 {
		b = append(b, byte(n)|0x80)
		n >>= 7
	}
	return append(b, byte(n))
}

func readConnack(r io.Reader) error {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return err
	}
	if b[0] != connackPacket || b[1] != 2 {
		return fmt.Errorf("answered with % x", b)
	}
	if b[3] != 0 {
		return fmt.Errorf("refused with code %d", b[3])
	}
	return nil
}

// acks parses the stream of acknowledgements; rest is what is not a whole packet yet.
func acks(b []byte, each func(id uint16)) (rest []byte, err error) {
	for len(b) >= 4 {
		if b[0] != pubackPacket || b[1] != 2 {
			return b, fmt.Errorf("unexpected packet % x", b[:4])
		}
		each(binary.BigEndian.Uint16(b[2:]))
		b = b[4:]
	}
	return b, nil
}
