package main

import (
	"encoding/base64"
	"errors"
	"math"
	"strconv"
)

// Types of messages, by their ids in ESPHome's api.proto (github.com/esphome/esphome, esphome/components/api/api.proto).
const (
	helloRequest    = 1
	helloResponse   = 2
	loginRequest    = 3
	loginResponse   = 4
	closeRequest    = 5
	closeResponse   = 6
	pingRequest     = 7
	pingResponse    = 8
	infoRequest     = 9
	infoResponse    = 10
	listRequest     = 11
	listDone        = 19
	statesRequest   = 20
	timeRequest     = 36
	timeResponse    = 37
	plain           = 0x00
	encrypted       = 0x01
	maxMessage      = 12 << 10
	wireFixed64     = 1
	wireBytes       = 2
	wireFixed32     = 5
	wireVarint      = 0
	maxVarintLength = 10
)

var (
	errEncrypted = errors.New("the device encrypts its API: remove the key below \"api: encryption:\" from its ESPHome configuration and install it again")
	errLost      = errors.New("the device sent what is no message")
)

// uvarint reads a number in groups of seven bits, the lowest first: n bytes of b; 0: more are needed; below 0: it is none.
func uvarint(b []byte) (v uint64, n int) {
	for i, x := range b {
		if i == maxVarintLength {
			return 0, -1
		}
		v |= uint64(x&0x7F) << (7 * i)
		if x < 0x80 {
			return v, i + 1
		}
	}
	if len(b) >= maxVarintLength {
		return 0, -1
	}
	return 0, 0
}

func appendUvarint(b []byte, v uint64) []byte {
	for v >= 0x80 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v))
}

// cut takes the first message off b: a zero byte, the length, the type, and so many bytes. n is 0 where more of it is to come.
func cut(b []byte) (kind int, body []byte, n int, err error) {
	if len(b) == 0 {
		return 0, nil, 0, nil
	}
	if b[0] == encrypted {
		return 0, nil, 0, errEncrypted
	}
	if b[0] != plain {
		return 0, nil, 0, errLost
	}
	n = 1
	var head [2]uint64
	for i := range head {
		v, used := uvarint(b[n:])
		if used == 0 {
			return 0, nil, 0, nil
		}
		if used < 0 || i == 0 && v > maxMessage || v > math.MaxInt32 {
			return 0, nil, 0, errLost
		}
		head[i] = v
		n += used
	}
	if length := int(head[0]); len(b)-n >= length {
		return int(head[1]), b[n : n+length], n + length, nil
	}
	return 0, nil, 0, nil
}

// pack makes a message of that type.
func pack(kind int, m message) []byte {
	b := appendUvarint([]byte{plain}, uint64(len(m)))
	return append(appendUvarint(b, uint64(kind)), m...)
}

// message is one that is being written, field by field. Fields that are zero are written as well.
type message []byte

func (m message) tag(field, wire int) message {
	return message(appendUvarint(m, uint64(field)<<3|uint64(wire)))
}

func (m message) uint(field int, v uint64) message {
	return message(appendUvarint(m.tag(field, wireVarint), v))
}

func (m message) bool(field int, v bool) message {
	if v {
		return m.uint(field, 1)
	}
	return m.uint(field, 0)
}

func (m message) fixed(field int, v uint32) message {
	return append(m.tag(field, wireFixed32), byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
}

func (m message) float(field int, v float64) message {
	return m.fixed(field, math.Float32bits(float32(v)))
}

func (m message) text(field int, v string) message {
	return append(message(appendUvarint(m.tag(field, wireBytes), uint64(len(v)))), v...)
}

// value is one of a field: a number, or bytes.
type value struct {
	field  int
	number uint64
	bytes  []byte
}

// fields are those of a message that was read, in the device's order. What is cut off in the middle ends them.
type fields []value

func parse(b []byte) fields {
	var all fields
	for len(b) > 0 {
		tag, n := uvarint(b)
		if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29 {
			return all
		}
		b = b[n:]
		v := value{field: int(tag >> 3)}
		switch size := 0; tag & 7 {
		case wireVarint:
			if v.number, n = uvarint(b); n <= 0 {
				return all
			}
			b = b[n:]
		case wireBytes:
			length, n := uvarint(b)
			if n <= 0 || length > uint64(len(b)-n) {
				return all
			}
			v.bytes, b = b[n:n+int(length)], b[n+int(length):]
		case wireFixed32, wireFixed64:
			if size = 4; tag&7 == wireFixed64 {
				size = 8
			}
			if len(b) < size {
				return all
			}
			for i := range size {
				v.number |= uint64(b[i]) << (8 * i)
			}
			b = b[size:]
		default:
			return all
		}
		all = append(all, v)
	}
	return all
}

// last is the value of a field, which the last one of it decides.
func (f fields) last(field int) (v value) {
	for _, x := range f {
		if x.field == field {
			v = x
		}
	}
	return v
}

func (f fields) uint(field int) uint64 { return f.last(field).number }
func (f fields) bool(field int) bool   { return f.last(field).number != 0 }
func (f fields) text(field int) string { return string(f.last(field).bytes) }

func (f fields) float(field int) float64 {
	return shortest(math.Float32frombits(uint32(f.last(field).number)))
}

// texts are all of a field that repeats.
func (f fields) texts(field int) (all []string) {
	for _, x := range f {
		if x.field == field {
			all = append(all, string(x.bytes))
		}
	}
	return all
}

// uints are all of a field that repeats, packed or one by one.
func (f fields) uints(field int) (all []uint64) {
	for _, x := range f {
		if x.field != field {
			continue
		}
		if x.bytes == nil {
			all = append(all, x.number)
		}
		for b := x.bytes; len(b) > 0; {
			v, n := uvarint(b)
			if n <= 0 {
				break
			}
			all, b = append(all, v), b[n:]
		}
	}
	return all
}

// shortest is the number that the device had in mind: 21.3, and not 21.299999237.
func shortest(f float32) float64 {
	v, err := strconv.ParseFloat(strconv.FormatFloat(float64(f), 'g', -1, 32), 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

// What has arrived of a message that is not whole yet is kept from call to call.

func keep(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func kept(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil
	}
	return b
}
