package analytics

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
)

// format of what Append writes.
const format = 1

// ErrFormat: what was learned cannot be read, or is of other settings: the series begins anew.
var ErrFormat = errors.New("training of another kind or settings")

// coder writes, or reads, what a model has learned: one list of fields serves both, so they cannot differ.
type coder struct {
	b       []byte
	reading bool
	bad     bool
}

func (c *coder) take(n int) []byte {
	if len(c.b) < n {
		c.bad = true
		return make([]byte, n)
	}
	b := c.b[:n]
	c.b = c.b[n:]
	return b
}

func (c *coder) float(x *float64) {
	if !c.reading {
		c.b = binary.LittleEndian.AppendUint64(c.b, math.Float64bits(*x))
		return
	}
	*x = math.Float64frombits(binary.LittleEndian.Uint64(c.take(8)))
}

// short is a number that needs no more than seven digits.
func (c *coder) short(x *float32) {
	if !c.reading {
		c.b = binary.LittleEndian.AppendUint32(c.b, math.Float32bits(*x))
		return
	}
	*x = math.Float32frombits(binary.LittleEndian.Uint32(c.take(4)))
}

func (c *coder) int(x *int64) {
	if !c.reading {
		c.b = binary.AppendVarint(c.b, *x)
		return
	}
	v, n := binary.Varint(c.b)
	if n <= 0 {
		c.bad, n, v = true, 0, 0
	}
	*x, c.b = v, c.b[n:]
}

func (c *coder) byte(x *byte) {
	if !c.reading {
		c.b = append(c.b, *x)
		return
	}
	*x = c.take(1)[0]
}

func (c *coder) bool(x *bool) {
	var b byte
	if *x {
		b = 1
	}
	c.byte(&b)
	*x = b == 1
}

// mark tells settings apart that a model cannot go on with.
func (s *Settings) mark() uint64 {
	h := fnv.New64a()
	zone := ""
	if s.Zone != nil {
		zone = s.Zone.String()
	}
	fmt.Fprintf(h, "%d %d %s", s.Kind, s.Readings, zone)
	if s.Kind == Statistics {
		fmt.Fprintf(h, " %d", s.Window)
	}
	return h.Sum64()
}

func (x *Series) head(c *coder) {
	seen := int64(x.seen)
	c.int(&seen)
	x.seen = uint64(seen)
	c.int(&x.at)
	v := &x.last
	c.bool(&v.Ready)
	c.bool(&v.Anomaly)
	c.float(&v.Score)
	c.float(&v.Expected)
}

// Append appends what changes with each reading, some tens of bytes.
func (x *Series) Append(b []byte) []byte {
	c := &coder{b: append(b, format, byte(x.settings.Kind))}
	c.b = binary.LittleEndian.AppendUint64(c.b, x.settings.mark())
	x.head(c)
	x.model.code(c)
	return c.b
}

// AppendLong appends what has changed only if Changes did: nothing of most kinds, two thousand bytes at most.
func (x *Series) AppendLong(b []byte) []byte {
	c := &coder{b: b}
	x.model.codeLong(c)
	return c.b
}

// Restore begins a series with what an earlier one wrote by Append and AppendLong. The threshold, the tolerance and the time
// after which a series is stuck or missing may be others; with other settings else it is ErrFormat, and the series must begin anew.
func Restore(s Settings, short, long []byte) (*Series, error) {
	x := New(s)
	if x == nil || len(short) < 10 || short[0] != format || short[1] != byte(s.Kind) || binary.LittleEndian.Uint64(short[2:]) != s.mark() {
		return nil, ErrFormat
	}
	c := &coder{b: short[10:], reading: true}
	x.head(c)
	x.model.code(c)
	bad := c.bad
	if len(long) > 0 {
		c = &coder{b: long, reading: true}
		x.model.codeLong(c)
		bad = bad || c.bad
	}
	if bad {
		return nil, fmt.Errorf("%w: it is cut short", ErrFormat)
	}
	return x, nil
}
