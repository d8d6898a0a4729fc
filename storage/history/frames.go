package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// A stream of frames is cut where its sender dies, and damaged where a disk is; both must be seen before anything of it is
// believed. Each frame has its length and a checksum; the last has no length, and the number of bytes before it.

// maxFrame in bytes; what is written is cut into frames of this size.
const maxFrame = 256 << 10

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frameWriter writes frames. Its Close writes the last one.
type frameWriter struct {
	w     io.Writer
	buf   []byte // head, then what is gathered
	total uint64
}

const frameHead = 8

func newFrameWriter(w io.Writer) *frameWriter {
	return &frameWriter{w: w, buf: make([]byte, frameHead, frameHead+maxFrame)}
}

func (f *frameWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		room := cap(f.buf) - len(f.buf)
		k := min(room, len(p))
		f.buf = append(f.buf, p[:k]...)
		p = p[k:]
		if len(f.buf) == cap(f.buf) {
			if err := f.flush(); err != nil {
				return n - len(p), err
			}
		}
	}
	return n, nil
}

func (f *frameWriter) flush() error {
	body := f.buf[frameHead:]
	if len(body) == 0 {
		return nil
	}
	binary.BigEndian.PutUint32(f.buf, uint32(len(body)))
	binary.BigEndian.PutUint32(f.buf[4:], crc32.Checksum(body, castagnoli))
	f.total += uint64(len(body))
	_, err := f.w.Write(f.buf)
	f.buf = f.buf[:frameHead]
	return err
}

// Close writes what is gathered and the end. It does not close the writer below.
func (f *frameWriter) Close() error {
	if err := f.flush(); err != nil {
		return err
	}
	var end [frameHead + 8]byte
	binary.BigEndian.PutUint64(end[frameHead:], f.total)
	binary.BigEndian.PutUint32(end[4:], crc32.Checksum(end[frameHead:], castagnoli))
	_, err := f.w.Write(end[:])
	return err
}

// frameReader reads what a frameWriter wrote. It gives io.EOF only behind a whole stream.
type frameReader struct {
	r     io.Reader
	buf   []byte
	rest  []byte
	total uint64
	err   error
}

func (f *frameReader) Read(p []byte) (int, error) {
	for len(f.rest) == 0 && f.err == nil {
		f.err = f.next()
	}
	if len(f.rest) == 0 {
		return 0, f.err
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

func (f *frameReader) next() error {
	var head [frameHead]byte
	if _, err := io.ReadFull(f.r, head[:]); err != nil {
		return f.cut(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("%w: frame of %d bytes behind byte %d", ErrDamaged, n, f.total)
	}
	last := n == 0
	if last {
		n = 8
	}
	if cap(f.buf) < int(n) {
		f.buf = make([]byte, maxFrame)
	}
	body := f.buf[:n]
	if _, err := io.ReadFull(f.r, body); err != nil {
		return f.cut(err)
	}
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return fmt.Errorf("%w: wrong checksum behind byte %d", ErrDamaged, f.total)
	}
	if !last {
		f.rest, f.total = body, f.total+uint64(n)
		return nil
	}
	if total := binary.BigEndian.Uint64(body); total != f.total {
		return fmt.Errorf("%w: it has %d bytes, %d were written", ErrDamaged, f.total, total)
	}
	return io.EOF
}

func (f *frameReader) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends behind byte %d, in the middle", ErrDamaged, f.total)
	}
	return err
}

// Frames gives a writer of frames on w; its Close writes the end, and leaves w open.
func Frames(w io.Writer) io.WriteCloser { return newFrameWriter(w) }

// Unframe reads what was written through Frames. Its errors wrap ErrDamaged; io.EOF is given only behind a whole stream.
func Unframe(r io.Reader) io.Reader { return &frameReader{r: r} }
