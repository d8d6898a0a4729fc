package storage

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// The sample section of an entry is empty, or
//
//	codec (1) length chunk
//
// and the chunk, once unpacked, is for each transaction that carries samples: the number of transactions since the last
// one, length, and its samples. Within a transaction times are differences to the time before, and values are the float's
// bits turned round, so that short decimals are short. What repeats (names, a common clock) is zstd's to find: on the
// values of a building it takes 60 bytes a sample down to under ten.
const (
	codecPlain = 0
	codecZstd  = 1

	// compressAbove is the size in bytes from which a chunk is compressed: below it the frame costs what it saves.
	compressAbove = 160
	// maxChunk bounds an unpacked chunk, in bytes.
	maxChunk = 8 << 20
)

// appendSamples encodes the samples of one transaction.
func appendSamples(b []byte, all []TwinSamples) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	var last int64
	for i := range all {
		t := &all[i]
		b = appendBytes(b, t.Project)
		b = appendBytes(b, t.Twin)
		b = appendBytes(b, t.Model)
		b = binary.AppendUvarint(b, uint64(len(t.Samples)))
		for _, s := range t.Samples {
			b = appendBytes(b, s.Property)
			b = appendVarint(b, s.Time-last)
			b = binary.AppendUvarint(b, bits.ReverseBytes64(math.Float64bits(s.Value)))
			last = s.Time
		}
	}
	return b
}

// samples reads what appendSamples wrote, behind out.
func (r *reader) samples(out []TwinSamples) []TwinSamples {
	var last int64
	for range r.count(4) {
		t := TwinSamples{Project: string(r.bytes()), Twin: string(r.bytes()), Model: string(r.bytes())}
		n := r.count(3)
		t.Samples = make([]Sample, 0, n)
		for range n {
			s := Sample{Property: string(r.bytes())}
			last += r.varint()
			s.Time = last
			s.Value = math.Float64frombits(bits.ReverseBytes64(r.uvarint()))
			t.Samples = append(t.Samples, s)
		}
		if r.bad {
			return out
		}
		out = append(out, t)
	}
	return out
}

// packer compresses the sample chunks of the entries that one batcher makes. It is not for concurrent use.
type packer struct {
	enc *zstd.Encoder
	buf []byte
}

func newPacker() (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(128<<10), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, fmt.Errorf("make zstd encoder: %w", err)
	}
	return &packer{enc: enc}, nil
}

// appendChunk appends the sample section that holds chunk.
func (p *packer) appendChunk(b, chunk []byte) []byte {
	if len(chunk) == 0 {
		return b
	}
	if len(chunk) >= compressAbove {
		p.buf = p.enc.EncodeAll(chunk, p.buf[:0])
		if len(p.buf) < len(chunk) {
			b = append(b, codecZstd)
			b = binary.AppendUvarint(b, uint64(len(chunk)))
			return append(b, p.buf...)
		}
	}
	b = append(b, codecPlain)
	b = binary.AppendUvarint(b, uint64(len(chunk)))
	return append(b, chunk...)
}

// unpacker takes sample sections apart. It may be used concurrently.
type unpacker struct {
	once sync.Once
	dec  *zstd.Decoder
	err  error
}

func (u *unpacker) chunk(section []byte) ([]byte, error) {
	r := reader{b: section}
	codec, size := r.byte(), r.uvarint()
	if r.bad || size > maxChunk {
		return nil, errMalformed("samples")
	}
	switch codec {
	case codecPlain:
		if uint64(len(r.b)) != size {
			return nil, errMalformed("samples")
		}
		return r.b, nil
	case codecZstd:
		u.once.Do(func() {
			u.dec, u.err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxChunk))
		})
		if u.err != nil {
			return nil, fmt.Errorf("make zstd decoder: %w", u.err)
		}
		out, err := u.dec.DecodeAll(r.b, make([]byte, 0, size))
		if err != nil {
			return nil, fmt.Errorf("decode samples: %w", err)
		}
		if uint64(len(out)) != size {
			return nil, errMalformed("samples")
		}
		return out, nil
	}
	return nil, fmt.Errorf("decode samples: unknown codec %d", codec)
}

// acceptedSamples decodes a section and leaves out the transactions that refused names, in rising order.
func (u *unpacker) acceptedSamples(section []byte, refused func(txn int) bool) ([]TwinSamples, error) {
	chunk, err := u.chunk(section)
	if err != nil {
		return nil, err
	}
	var out []TwinSamples
	r := reader{b: chunk}
	for txn := 0; len(r.b) > 0; txn++ {
		txn += int(r.uvarint() & (1<<31 - 1))
		body := reader{b: r.bytes()}
		if r.bad {
			return nil, errMalformed("samples")
		}
		if refused(txn) {
			continue
		}
		out = body.samples(out)
		if body.bad || len(body.b) > 0 {
			return nil, errMalformed("samples")
		}
	}
	return out, nil
}
