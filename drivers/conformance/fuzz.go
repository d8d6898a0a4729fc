package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/polluxhq/pollux/drivers"
)

const (
	// mutations of frames that each driver hears: some tenths of a second of calls.
	mutations = 2000
	// settingsMost bounds the twins that hear them, each with other settings.
	settingsMost = 4
	// mutatedMost is the longest that a mutated frame gets, in bytes; largeFrames has longer ones.
	mutatedMost = 4 << 10
)

// strange are things that no device of any protocol should send, and beginnings of some that many do.
var strange = []string{"", "\x00", "\r\n", "OK", "{}", `{"POWER":"ON"}`, "a/b\x00{}", "stat/x/RESULT\x00{\"POWER\":1}", "%1POWR=1",
	"1=2 3=4", "-1", "1e999", "NaN", "\xff\xfb\x01", "HTTP/1.1 200 OK\r\n\r\n", "\x00\x01\x00\x00\x00\x06\x01\x03\x02\x00\x01",
	"\x06\x10\x02\x06\x00\x08\x01\x00", "\x30\x82\xff\xff\x02\x01", strings.Repeat("(", 300), "{\"a\":" + strings.Repeat("[", 100)}

// tokens are put in somewhere: what parsers of numbers, texts and lengths trip over.
var tokens = []string{"-1", "0", "65536", "4294967296", "99999999999999999999", "1e999", "null", "true", `""`, "[]", "{}", "{", "\"", "\\u0000",
	"\x00", "\xff", "\xff\xff\xff\xff", "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "\r\n", " ", "=", ",", ":", "/", "\xc3\x28", "%s%n"}

// mutator makes frames that are nearly right out of right ones.
type mutator struct {
	seeds []string
	r     *rand.Rand
}

func newMutator(seeds []string, seed uint64) *mutator {
	return &mutator{seeds: seeds, r: rand.New(rand.NewPCG(seed, 2))}
}

// next is a seed with one to four things wrong with it.
func (m *mutator) next() string {
	b := []byte(m.seeds[m.r.IntN(len(m.seeds))])
	for range 1 + m.r.IntN(4) {
		b = m.change(b)
	}
	return string(b[:min(len(b), mutatedMost)])
}

// change makes one mistake. The result may share memory with b.
func (m *mutator) change(b []byte) []byte {
	at := m.r.IntN(len(b) + 1)
	switch kind := m.r.IntN(9); {
	case kind == 0: // cut off
		return b[:at]
	case kind == 1: // the beginning is missing
		return b[at:]
	case kind == 2: // the beginning of this, the end of another
		other := m.seeds[m.r.IntN(len(m.seeds))]
		return append(b[:at:at], other[m.r.IntN(len(other)+1):]...)
	case kind == 3: // something between
		return bytes.Join([][]byte{b[:at], []byte(tokens[m.r.IntN(len(tokens))]), b[at:]}, nil)
	case at == len(b): // of the others each changes a byte that there is
		return append(b, byte(m.r.IntN(256)))
	case kind == 4:
		b[at] ^= 1 << m.r.IntN(8)
	case kind == 5:
		b[at] = byte(m.r.IntN(256))
	case kind == 6: // a piece twice
		end := at + 1 + m.r.IntN(len(b)-at)
		return bytes.Join([][]byte{b[:end], b[at:]}, nil)
	case kind == 7: // a piece is missing
		return append(b[:at:at], b[at+1+m.r.IntN(len(b)-at):]...)
	default:
		m.length(b[at:])
	}
	return b
}

// length writes what a field of a length, of one, two or four bytes, must not hold.
func (m *mutator) length(b []byte) {
	value := []uint32{0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, uint32(len(b)) + 1, uint32(len(b))}[m.r.IntN(13)]
	var order binary.ByteOrder = binary.BigEndian
	if m.r.IntN(2) == 0 {
		order = binary.LittleEndian
	}
	switch width := m.r.IntN(3); {
	case width == 2 && len(b) >= 4:
		order.PutUint32(b, value)
	case width >= 1 && len(b) >= 2:
		order.PutUint16(b, uint16(value))
	default:
		b[0] = byte(value)
	}
}

// garbageFrames has a twin that is at work hear what no device should say: what is strange to all, and mutations of what this
// driver's device says.
func (p *prober) garbageFrames() (Outcome, string) {
	own := p.seeds()
	m := newMutator(append(append([]string(nil), own...), strange...), p.report.Seed)
	hear := p.listener()
	for n := range len(m.seeds) + mutations {
		frame := ""
		if n < len(m.seeds) {
			frame = m.seeds[n]
		} else {
			frame = m.next()
		}
		if crash := hear(n, frame); crash != "" {
			return Failed, fmt.Sprintf("frame %d of seed %d, %.200q: %s", n, p.report.Seed, frame, crash)
		}
	}
	return Passed, fmt.Sprintf("%d frames: %d of its device and %d others, and %d mutations of them, seed %d", len(m.seeds)+mutations,
		len(own), len(strange), mutations, p.report.Seed)
}

// listener gives what has a twin hear the nth frame: by turns as what comes by itself and as the answer of a command. There
// is a twin for each settings of the driver's tests, since what a driver takes for its own goes by them.
func (p *prober) listener() func(n int, frame string) (crash string) {
	var twins []*twin
	for _, settings := range p.fuzzedSettings() {
		t := p.twin()
		t.settings = settings
		t.call(drivers.EventLoad, `{"reason":"start"}`)
		t.call(drivers.EventConnected, `{}`)
		twins = append(twins, t)
	}
	inputs, _ := commands(p.model)
	return func(n int, frame string) string {
		t, event := twins[n/2%len(twins)], drivers.EventReceived
		if n%2 == 1 && len(inputs) > 0 {
			event = drivers.EventAnswer
			t.call(drivers.EventCommand, inputs[n/2%len(inputs)])
		}
		return t.call(event, frame).crash
	}
}

// fuzzedSettings are those of the driver's tests, each once, or where it has none the probes' own.
func (p *prober) fuzzedSettings() (all [][]byte) {
	seen := map[string]bool{}
	for _, file := range p.scripts {
		for _, test := range file.Tests {
			if s := p.settingsFor(test.Settings); !seen[string(s)] && len(all) < settingsMost {
				seen[string(s)], all = true, append(all, s)
			}
		}
	}
	if len(all) == 0 {
		all = append(all, p.sample)
	}
	return all
}
