package transport

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
)

func feed(t *testing.T, o *drivers.Tokenizer, step int, in string) ([]string, error) {
	t.Helper()
	tok, err := NewTokenizer(o)
	if err != nil {
		t.Fatalf("new tokenizer: %v", err)
	}
	var frames []string
	for len(in) > 0 {
		n := min(step, len(in))
		tok.Push([]byte(in[:n]))
		in = in[n:]
		for {
			frame, ok, err := tok.Next()
			if err != nil {
				return frames, err
			}
			if !ok {
				break
			}
			frames = append(frames, string(frame))
		}
	}
	return frames, nil
}

func TestTokenizerCutsTheSameFramesHoweverTheBytesArrive(t *testing.T) {
	for name, c := range map[string]struct {
		options *drivers.Tokenizer
		in      string
		want    []string
	}{
		"delimiter":          {&drivers.Tokenizer{Delimiter: "\r"}, "PJLINK 0\r%1POWR=1\rrest", []string{"PJLINK 0", "%1POWR=1"}},
		"delimiter of two":   {&drivers.Tokenizer{Delimiter: "\r\n"}, "a\rb\r\n\nc\r\n", []string{"a\rb", "\nc"}},
		"empty frame":        {&drivers.Tokenizer{Delimiter: ";"}, ";;x;", []string{"", "", "x"}},
		"delimiter overlaps": {&drivers.Tokenizer{Delimiter: "aab"}, "aaabaab", []string{"a", ""}},
		"length of one":      {&drivers.Tokenizer{LengthBytes: 1}, "\x02ab\x00\x01c", []string{"\x02ab", "\x00", "\x01c"}},
		"length at offset":   {&drivers.Tokenizer{LengthBytes: 2, LengthOffset: 1}, "X\x00\x03abcY\x00\x00", []string{"X\x00\x03abc", "Y\x00\x00"}},
		"length of four":     {&drivers.Tokenizer{LengthBytes: 4}, "\x00\x00\x00\x01a", []string{"\x00\x00\x00\x01a"}},
		"longest frame":      {&drivers.Tokenizer{Delimiter: "\n", MaxFrame: 3}, "abc\nde\n", []string{"abc", "de"}},
	} {
		t.Run(name, func(t *testing.T) {
			for step := 1; step <= len(c.in); step++ {
				got, err := feed(t, c.options, step, c.in)
				if err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				if strings.Join(got, "|") != strings.Join(c.want, "|") || len(got) != len(c.want) {
					t.Fatalf("step %d: got %q, want %q", step, got, c.want)
				}
			}
		})
	}
}

func TestTokenizerRawGivesChunks(t *testing.T) {
	got, err := feed(t, nil, 3, "abcdefgh")
	if err != nil || strings.Join(got, "|") != "abc|def|gh" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestTokenizerRefusesLongFrames(t *testing.T) {
	for name, c := range map[string]struct {
		options *drivers.Tokenizer
		in      string
	}{
		"with its delimiter":    {&drivers.Tokenizer{Delimiter: "\n", MaxFrame: 3}, "abcd\n"},
		"without any delimiter": {&drivers.Tokenizer{Delimiter: "\n", MaxFrame: 3}, strings.Repeat("x", 64)},
		"length field":          {&drivers.Tokenizer{LengthBytes: 2, MaxFrame: 10}, "\x00\x09abc"},
		"huge length field":     {&drivers.Tokenizer{LengthBytes: 4}, "\xff\xff\xff\xff"},
	} {
		t.Run(name, func(t *testing.T) {
			for step := 1; step <= len(c.in); step++ {
				if _, err := feed(t, c.options, step, c.in); !errors.Is(err, ErrFrameTooLong) {
					t.Fatalf("step %d: got %v, want ErrFrameTooLong", step, err)
				}
			}
		})
	}
}

func TestTokenizerOptionsAreChecked(t *testing.T) {
	for want, o := range map[string]drivers.Tokenizer{
		"both delimiter":     {Delimiter: "\n", LengthBytes: 2},
		"length_bytes 3":     {LengthBytes: 3},
		"length_offset -1":   {LengthBytes: 1, LengthOffset: -1},
		"without length":     {LengthOffset: 4},
		"max_frame -5":       {Delimiter: "\n", MaxFrame: -5},
		"max_frame 99999999": {Delimiter: "\n", MaxFrame: 99999999},
		"shorter than":       {LengthBytes: 4, LengthOffset: 8, MaxFrame: 10},
	} {
		if _, err := NewTokenizer(&o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want something with %q", o, err, want)
		}
	}
}

func TestTokenizerGivesBackALargeBuffer(t *testing.T) {
	tok, _ := NewTokenizer(&drivers.Tokenizer{Delimiter: "\n", MaxFrame: 1 << 20})
	tok.Push(append(bytes.Repeat([]byte("x"), 1<<20), '\n'))
	if frame, ok, err := tok.Next(); !ok || err != nil || len(frame) != 1<<20 {
		t.Fatalf("got %d bytes, %v, %v", len(frame), ok, err)
	}
	if _, ok, _ := tok.Next(); ok {
		t.Fatal("a second frame")
	}
	if cap(tok.buf) > keepBuffer {
		t.Fatalf("keeps %d bytes", cap(tok.buf))
	}
}

// FuzzTokenizer holds that cuts do not depend on how bytes arrive, that no frame is longer than allowed, that what is
// buffered is bounded, and that nothing is lost of a delimited stream.
func FuzzTokenizer(f *testing.F) {
	f.Add([]byte("PJLINK 0\r%1POWR=1\r"), "\r", 0, 0, 32, 3)
	f.Add([]byte("\x00\x03abc\x00\x00"), "", 2, 0, 16, 1)
	f.Add([]byte("\xff\xff\xff\xffxxxx"), "", 4, 3, 100, 2)
	f.Add([]byte("raw bytes"), "", 0, 0, 4, 4)
	f.Fuzz(func(t *testing.T, in []byte, delimiter string, length, offset, maxFrame, step int) {
		o := &drivers.Tokenizer{Delimiter: delimiter, LengthBytes: length, LengthOffset: offset, MaxFrame: maxFrame}
		whole, err := NewTokenizer(o)
		if err != nil {
			return
		}
		if step < 1 || step > 1<<16 {
			step = 1
		}
		limit := maxFrame
		if limit == 0 {
			limit = DefaultMaxFrame
		}
		parts, _ := NewTokenizer(o)
		want, wantErr := drain(whole, in, max(1, len(in)))
		got, gotErr := drain(parts, in, step)
		for _, frame := range got {
			if len(frame) > limit {
				t.Fatalf("a frame of %d bytes, at most %d", len(frame), limit)
			}
		}
		if len(parts.buf) > limit+len(delimiter)+step {
			t.Fatalf("buffers %d bytes", len(parts.buf))
		}
		if delimiter == "" && length == 0 {
			if !bytes.Equal(bytes.Join(got, nil), in) {
				t.Fatal("raw frames are not the input")
			}
			return
		}
		if (wantErr == nil) != (gotErr == nil) || !bytes.Equal(bytes.Join(want, []byte("|")), bytes.Join(got, []byte("|"))) {
			t.Fatalf("whole: %q %v, in steps of %d: %q %v", want, wantErr, step, got, gotErr)
		}
		if delimiter != "" && gotErr == nil {
			back := append(bytes.Join(append(got, nil), []byte(delimiter)), parts.buf[parts.start:]...)
			if !bytes.Equal(back, in) {
				t.Fatalf("joined again: %q, want %q", back, in)
			}
		}
	})
}

func drain(tok *Tokenizer, in []byte, step int) (frames [][]byte, err error) {
	for len(in) > 0 {
		n := min(step, len(in))
		tok.Push(in[:n])
		in = in[n:]
		for {
			frame, ok, err := tok.Next()
			if err != nil {
				return frames, err
			}
			if !ok {
				break
			}
			frames = append(frames, frame)
		}
	}
	return frames, nil
}
