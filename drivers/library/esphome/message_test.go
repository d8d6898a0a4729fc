package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/polluxhq/pollux/drivers/sdk/twintest"
)

func TestCut(t *testing.T) {
	for _, c := range []struct {
		in   string
		kind int
		body string
		n    int
		err  error
	}{
		{in: ""}, {in: "\x00"}, {in: "\x00\x80"}, {in: "\x00\x03\x01ab"},
		{in: "\x00\x00\x01", kind: 1, n: 3},
		{in: "\x00\x00\x80\x01", kind: 128, n: 4},
		{in: "\x00\x03\x80\x01abcd", kind: 128, body: "abc", n: 7},
		{in: "\x01\x00\x00", err: errEncrypted},
		{in: "\x02", err: errLost},
		{in: "\x00\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", err: errLost},
		{in: "\x00\x81\x60\x01", err: errLost}, // 12,289 bytes
	} {
		kind, body, n, err := cut([]byte(c.in))
		if kind != c.kind || string(body) != c.body || n != c.n || !errors.Is(err, c.err) {
			t.Errorf("%q: %d %q %d %v", c.in, kind, body, n, err)
		}
	}
}

// What is written is read by another implementation, and the other way round.
func TestFieldsAgainstProtowire(t *testing.T) {
	m := message{}.uint(1, math.MaxUint64).bool(2, true).fixed(3, 7).float(4, 21.3).text(300, "°C")
	var want []byte
	want = protowire.AppendVarint(protowire.AppendTag(want, 1, protowire.VarintType), math.MaxUint64)
	want = protowire.AppendVarint(protowire.AppendTag(want, 2, protowire.VarintType), 1)
	want = protowire.AppendFixed32(protowire.AppendTag(want, 3, protowire.Fixed32Type), 7)
	want = protowire.AppendFixed32(protowire.AppendTag(want, 4, protowire.Fixed32Type), math.Float32bits(21.3))
	want = protowire.AppendString(protowire.AppendTag(want, 300, protowire.BytesType), "°C")
	if !bytes.Equal(m, want) {
		t.Fatalf("written % x, protowire writes % x", []byte(m), want)
	}
	want = protowire.AppendFixed64(protowire.AppendTag(want, 5, protowire.Fixed64Type), 9)
	want = protowire.AppendString(protowire.AppendTag(want, 6, protowire.BytesType), "\x01\x96\x01")
	want = protowire.AppendVarint(protowire.AppendTag(want, 6, protowire.VarintType), 3)
	f := parse(want)
	if f.uint(1) != math.MaxUint64 || !f.bool(2) || f.uint(3) != 7 || f.float(4) != 21.3 || f.text(300) != "°C" || f.uint(5) != 9 {
		t.Errorf("read %v", f)
	}
	if all := f.uints(6); len(all) != 3 || all[1] != 150 || all[2] != 3 {
		t.Errorf("numbers that repeat: %v", all)
	}
}

func TestNames(t *testing.T) {
	all := []Entity{{Name: "lamp", Kind: light, Can: hasBrightness}, {Name: "relay", Kind: onOff}}
	for name, want := range map[string]string{"door": "door", "relay": "relay_binary", "lamp_brightness": "lamp_brightness_binary", "lamp_color": "lamp_color",
		"device_name": "binary_device_name"} {
		if got := free(all, binarySensor, name); got != want {
			t.Errorf("%s becomes %s", name, got)
		}
	}
	if got := slug("", "Wi-Fi 2.4"); got != "wi_fi_2_4" {
		t.Error(got)
	}
}

// Whatever a device sends, the driver neither fails nor reports what is no JSON.
func FuzzDevice(f *testing.F) {
	f.Add([]byte("\x00\x04\x02\x08\x01\x10\x0a\x00\x13\x11\x0a\x05relay\x15\x01\x00\x00\x00\x1a\x05Relay\x00\x00\x13\x00\x07\x1a\x0d\x01\x00\x00\x00\x10\x01"), 9)
	f.Add([]byte("\x00\x13\x0f\x0a\x04lamp\x15\x06\x00\x00\x00\x1a\x04Lamp\x60\x23\x00\x00\x13\x00\x0a\x18\x0d\x06\x00\x00\x00\x1d\x00\x00\xc0\x7f"), 30)
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		d := twintest.New(t, newDriver(), map[string]any{"password": "", "ping_s": 20})
		if r := d.Connect(); r.Err != nil {
			t.Fatalf("%+v", r)
		}
		at = max(0, min(at, len(b)))
		for _, chunk := range [][]byte{b[:at], b[at:]} {
			if r := d.Receive(string(chunk)); r.Err != nil {
				t.Fatalf("%q: %+v", chunk, r)
			}
		}
		for name, v := range d.Properties {
			if !json.Valid([]byte(v)) {
				t.Errorf("%s is %s", name, v)
			}
		}
		for _, patch := range d.Described {
			if !json.Valid([]byte(patch)) {
				t.Errorf("described as %s", patch)
			}
		}
	})
}
