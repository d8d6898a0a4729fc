package backup

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strings"
)

// A backup is a line that names its format, then frames: kind (1 byte), length and CRC-32C of kind and content (4 bytes
// each, big-endian), content. The kinds come in this order; only the first and the last are always there.
const (
	magic = "pollux-backup "
	// version 2 has the journal; 1 is read too.
	version    = "2"
	versionOne = "1"

	kindManifest = 'm' // JSON: Summary
	kindBlob     = 'b' // digest and size, JSON: its content follows
	kindData     = 'd' // of the blob's content
	kindRecords  = 'r' // table, key and value of records, each with its length before it
	kindHistory  = 'h' // of a history export
	kindJournal  = 'j' // of a journal export
	kindEnd      = 'e' // JSON: totals
)

const (
	frameHead = 9
	// maxFrame bounds a frame's content, in bytes. A record has up to 448 KiB.
	maxFrame = 1 << 20
	// fullFrame is when a frame of records or history is written, in bytes.
	fullFrame = 256 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var kindNames = map[byte]string{kindManifest: "manifest", kindBlob: "blobs", kindData: "blobs", kindRecords: "records",
	kindHistory: "history", kindJournal: "journal", kindEnd: "end"}

// totals end a backup.
type totals struct {
	Records uint64 `json:"records"`
	Blobs   uint64 `json:"blobs"`
	Samples uint64 `json:"samples"`
	Entries uint64 `json:"entries,omitempty"`
	// Size of all that is before the last frame, in bytes.
	Size uint64 `json:"size"`
}

type blobHead struct {
	Digest string `json:"digest"`
	Size   int    `json:"size"`
}

type writer struct {
	w    io.Writer
	size uint64
	head [frameHead]byte
}

func newWriter(w io.Writer) (*writer, error) {
	n, err := io.WriteString(w, magic+version+"\n")
	return &writer{w: w, size: uint64(n)}, err
}

func (w *writer) frame(kind byte, content []byte) error {
	w.head[0] = kind
	binary.BigEndian.PutUint32(w.head[1:], uint32(len(content)))
	binary.BigEndian.PutUint32(w.head[5:], crc32.Update(crc32.Checksum(w.head[:1], castagnoli), castagnoli, content))
	if _, err := w.w.Write(w.head[:]); err != nil {
		return err
	}
	_, err := w.w.Write(content)
	w.size += frameHead + uint64(len(content))
	return err
}

func (w *writer) json(kind byte, v any) error {
	content, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.frame(kind, content)
}

// appendPart appends a string with its length.
func appendPart[T string | []byte](b []byte, part T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(part))), part...)
}

// cutPart takes one off; false where there is none.
func cutPart(b []byte) (part, rest []byte, ok bool) {
	n, k := binary.Uvarint(b)
	if k <= 0 || n > uint64(len(b)-k) {
		return nil, nil, false
	}
	return b[k : k+int(n)], b[k+int(n):], true
}

// reader reads frames, one ahead: kind and content are of the next that nobody has taken.
type reader struct {
	r    *bufio.Reader
	at   uint64 // where the frame begins
	next uint64 // where the one behind it does
	kind byte
	buf  []byte
	body []byte
}

func newReader(r io.Reader) (*reader, error) {
	b := &reader{r: bufio.NewReaderSize(r, 64<<10)}
	line, err := b.r.ReadSlice('\n')
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, bufio.ErrBufferFull) {
		return nil, err
	}
	found, ok := strings.CutPrefix(string(line), magic)
	if !ok || err != nil {
		return nil, fmt.Errorf("%w: it begins with %.40q", ErrDamaged, line)
	}
	if found != version+"\n" && found != versionOne+"\n" {
		return nil, fmt.Errorf("%w: it has format %.20q, this version reads %s", ErrNewer, strings.TrimSpace(found), version)
	}
	b.next = uint64(len(line))
	return b, b.take()
}

// take goes on to the next frame.
func (b *reader) take() error {
	b.at = b.next
	var head [frameHead]byte
	if _, err := io.ReadFull(b.r, head[:]); err != nil {
		return b.cut(err)
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame || kindNames[head[0]] == "" {
		return b.damaged("a frame of kind %q with %d bytes", head[0], n)
	}
	if cap(b.buf) < int(n) {
		b.buf = make([]byte, max(int(n), fullFrame))
	}
	b.kind, b.body = head[0], b.buf[:n]
	if _, err := io.ReadFull(b.r, b.body); err != nil {
		return b.cut(err)
	}
	if crc32.Update(crc32.Checksum(head[:1], castagnoli), castagnoli, b.body) != binary.BigEndian.Uint32(head[5:]) {
		return b.damaged("the checksum is wrong")
	}
	b.next = b.at + frameHead + uint64(n)
	return nil
}

// damaged says what is wrong at the frame that is read.
func (b *reader) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: at byte %d (%s): %s", ErrDamaged, b.at, kindNames[b.kind], fmt.Sprintf(format, args...))
}

func (b *reader) cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends at byte %d, in the middle", ErrDamaged, b.at)
	}
	return err
}

// section reads the content of the frames of one kind that follow each other, as one stream.
type section struct {
	b    *reader
	kind byte
	rest []byte
	open bool // rest is of the reader's frame
}

func (s *section) Read(p []byte) (int, error) {
	for len(s.rest) == 0 {
		if s.open {
			if err := s.b.take(); err != nil {
				return 0, err
			}
			s.open = false
		}
		if s.b.kind != s.kind {
			return 0, io.EOF
		}
		s.rest, s.open = s.b.body, true
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}
