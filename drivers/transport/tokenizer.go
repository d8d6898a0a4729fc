package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/polluxhq/pollux/drivers"
)

const (
	// DefaultMaxFrame is the longest frame, in bytes, where the manifest says nothing.
	DefaultMaxFrame = 64 << 10
	// LargestMaxFrame bounds what a manifest may ask for, in bytes: a connection buffers up to one frame.
	LargestMaxFrame = 16 << 20
	// largestLengthOffset bounds the header before a length field, in bytes.
	largestLengthOffset = 1024
	// keepBuffer is what an empty tokenizer keeps of its buffer, in bytes; more goes back to the collector.
	keepBuffer = 16 << 10
)

// ErrFrameTooLong says that a device sent a frame beyond the tokenizer's max_frame. The connection is closed on it.
var ErrFrameTooLong = errors.New("frame too long")

// Tokenizer cuts a stream of bytes into frames. It holds at most one frame and one chunk. Not safe for concurrent use.
type Tokenizer struct {
	delimiter []byte
	header    int // bytes up to and with the length field
	length    int // bytes of the length field
	max       int

	buf     []byte
	start   int // of what is not yet cut
	scanned int // bytes after start in which no delimiter begins
}

// NewTokenizer makes a tokenizer of a manifest's options; nil means raw, chunks as they come. Its errors name the option
// and the value.
func NewTokenizer(o *drivers.Tokenizer) (*Tokenizer, error) {
	if o == nil {
		return &Tokenizer{max: DefaultMaxFrame}, nil
	}
	t := &Tokenizer{delimiter: []byte(o.Delimiter), length: o.LengthBytes, max: o.MaxFrame}
	if t.max == 0 {
		t.max = DefaultMaxFrame
	}
	switch {
	case t.max < 1 || t.max > LargestMaxFrame:
		return nil, fmt.Errorf("tokenizer: max_frame %d: want 1 to %d", o.MaxFrame, LargestMaxFrame)
	case o.Delimiter != "" && o.LengthBytes != 0:
		return nil, errors.New("tokenizer: both delimiter and length_bytes are set")
	case o.Delimiter != "":
		return t, nil
	case o.LengthBytes == 0 && o.LengthOffset != 0:
		return nil, errors.New("tokenizer: length_offset without length_bytes")
	case o.LengthBytes == 0:
		return t, nil // raw, with a bound of its own
	case o.LengthBytes != 1 && o.LengthBytes != 2 && o.LengthBytes != 4:
		return nil, fmt.Errorf("tokenizer: length_bytes %d: want 1, 2 or 4", o.LengthBytes)
	case o.LengthOffset < 0 || o.LengthOffset > largestLengthOffset:
		return nil, fmt.Errorf("tokenizer: length_offset %d: want 0 to %d", o.LengthOffset, largestLengthOffset)
	}
	t.header = o.LengthOffset + o.LengthBytes
	if t.header > t.max {
		return nil, fmt.Errorf("tokenizer: max_frame %d is shorter than the header of %d", t.max, t.header)
	}
	return t, nil
}

// Push appends received bytes, which it copies.
func (t *Tokenizer) Push(chunk []byte) {
	if t.start > 0 {
		n := copy(t.buf, t.buf[t.start:])
		t.buf = t.buf[:n]
		t.start = 0
	}
	t.buf = append(t.buf, chunk...)
}

// Next cuts the next frame; the frame is a copy and the caller's own. False: no whole frame is there yet.
// After an error the stream has no frame borders any more and the tokenizer must be Reset.
func (t *Tokenizer) Next() (frame []byte, ok bool, err error) {
	rest := t.buf[t.start:]
	if len(rest) == 0 {
		t.release()
		return nil, false, nil
	}
	switch {
	case len(t.delimiter) > 0:
		return t.nextDelimited(rest)
	case t.length > 0:
		return t.nextCounted(rest)
	}
	n := min(len(rest), t.max)
	return t.cut(rest, n, 0), true, nil
}

// Reset forgets what was received.
func (t *Tokenizer) Reset() {
	t.buf, t.start, t.scanned = t.buf[:0], 0, 0
	t.release()
}

func (t *Tokenizer) nextDelimited(rest []byte) ([]byte, bool, error) {
	i := bytes.Index(rest[t.scanned:], t.delimiter)
	if i >= 0 {
		i += t.scanned
		if i > t.max {
			return nil, false, fmt.Errorf("%w: %d bytes, at most %d", ErrFrameTooLong, i, t.max)
		}
		return t.cut(rest, i, len(t.delimiter)), true, nil
	}
	t.scanned = max(0, len(rest)-len(t.delimiter)+1)
	if t.scanned > t.max {
		return nil, false, fmt.Errorf("%w: more than %d bytes without a delimiter", ErrFrameTooLong, t.max)
	}
	return nil, false, nil
}

func (t *Tokenizer) nextCounted(rest []byte) ([]byte, bool, error) {
	if len(rest) < t.header {
		return nil, false, nil
	}
	field := rest[t.header-t.length : t.header]
	var n uint64
	switch t.length {
	case 1:
		n = uint64(field[0])
	case 2:
		n = uint64(binary.BigEndian.Uint16(field))
	default:
		n = uint64(binary.BigEndian.Uint32(field))
	}
	total := uint64(t.header) + n
	if total > uint64(t.max) {
		return nil, false, fmt.Errorf("%w: %d bytes, at most %d", ErrFrameTooLong, total, t.max)
	}
	if uint64(len(rest)) < total {
		return nil, false, nil
	}
	return t.cut(rest, int(total), 0), true, nil
}

// cut copies the first n bytes of rest and drops them with skip more.
func (t *Tokenizer) cut(rest []byte, n, skip int) []byte {
	frame := make([]byte, n)
	copy(frame, rest)
	t.start += n + skip
	t.scanned = 0
	return frame
}

func (t *Tokenizer) release() {
	t.start, t.scanned = 0, 0
	if cap(t.buf) > keepBuffer {
		t.buf = nil
	}
	t.buf = t.buf[:0]
}
