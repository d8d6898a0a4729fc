package main

import (
	"bytes"
	"crypto/md5"
	"slices"
	"strings"
	"testing"
)

func TestMD5(t *testing.T) {
	for n := range 200 {
		b := bytes.Repeat([]byte{byte(n), 0xff, 'x'}, n)[:n]
		if md5Sum(b) != md5.Sum(b) {
			t.Fatalf("%d bytes: %x, want %x", n, md5Sum(b), md5.Sum(b))
		}
	}
	// The example of "PJLink Specifications", version 2.00, page 45.
	if got := digest("498e4a67", "JBMIAProjectorLink"); got != "5d8409bc1c3fa39749434aa3a5c38682" {
		t.Fatal(got)
	}
}

func TestParseLine(t *testing.T) {
	for in, want := range map[string]line{
		"PJLINK 0":          {greeting: true, auth: "none"},
		"PJLINK 1 498e4a67": {greeting: true, auth: "salt", salt: "498e4a67"},
		"PJLINK ERRA":       {greeting: true, auth: "refused"},
		"pjlink erra":       {greeting: true, auth: "refused"},
		"%1POWR=OK":         {command: "POWR", value: "OK"},
		"\n%1powr=ok":       {command: "POWR", value: "OK"},
		"%1POWR=err3":       {command: "POWR", value: "ERR3"},
		"%1NAME=":           {command: "NAME"},
		"%1NAME=Saal = 1":   {command: "NAME", value: "Saal = 1"},
		"%2SVER=x":          {command: "SVER", value: "x"},
		"%1LAMP=1234 1":     {command: "LAMP", value: "1234 1"},
	} {
		if got, err := parseLine([]byte(in)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "%", "%1POWR", "%1POWR ?", "%3POWR=1", "%1PO R=1", "PJLINK", "PJLINK 1", "PJLINK 2", "PJLINK 1 " + strings.Repeat("0", 99), "\x00\xff", "POWR=1"} {
		if got, err := parseLine([]byte(in)); err == nil {
			t.Errorf("%q was taken as %+v", in, got)
		}
	}
}

func TestParseValues(t *testing.T) {
	for in, want := range map[string]string{"0": "off", "1": "on", "2": "cooling", "3": "warming", "4": "", "": "", "01": "", "x": ""} {
		if got, ok := parsePower(in); got != want || ok != (want != "") {
			t.Errorf("power %q: %q", in, got)
		}
	}
	type lamps struct {
		hours   int
		lit, ok bool
	}
	for in, want := range map[string]lamps{
		"0 0": {0, false, true}, "1234 1": {1234, true, true}, "99999 0": {99999, false, true},
		"10 0 2500 1": {2500, true, true}, "5 1 3 0 9 0 1 0": {9, true, true},
		"": {}, "12": {}, "12 2": {}, "-1 0": {}, "x 1": {}, "1 1 1": {}, "99999999 1": {},
	} {
		var got lamps
		if got.hours, got.lit, got.ok = parseLamps(in); got != want {
			t.Errorf("lamps %q: %+v", in, got)
		}
	}
	if got, ok := parseErrors("012000"); !ok || got != [6]string{"ok", "warning", "error", "ok", "ok", "ok"} {
		t.Errorf("errors: %v", got)
	}
	for _, in := range []string{"", "00000", "0000000", "00300x"} {
		if _, ok := parseErrors(in); ok {
			t.Errorf("errors %q were taken", in)
		}
	}
	for in, want := range map[string][3]bool{
		"11": {true, false, true}, "21": {false, true, true}, "31": {true, true, true}, "30": {false, false, true}, "10": {false, false, true}, "41": {}, "": {},
	} {
		if v, a, ok := parseMute(in); [3]bool{v, a, ok} != want {
			t.Errorf("mute %q: %v %v %v", in, v, a, ok)
		}
	}
	if got := parseInputs("11 12  31 99 3A x 51"); !slices.Equal(got, []string{"11", "12", "31", "3A", "51"}) {
		t.Errorf("inputs %v", got)
	}
}

func TestInputNames(t *testing.T) {
	own := map[string]string{"hdmi1": "31", "laptop": "32", "also": "32"}
	for code, name := range map[string]string{"31": "hdmi1", "32": "also", "33": "digital3", "11": "rgb1", "21": "video1", "41": "storage1", "5A": "networka", "61": "internal1"} {
		if got := inputName(code, own); got != name {
			t.Errorf("%s: %s, want %s", code, got, name)
		}
		if got, ok := inputCode(name, own); !ok || got != code {
			t.Errorf("%s: %s %v, want %s", name, got, ok, code)
		}
	}
	if code, ok := inputCode("32", own); !ok || code != "32" {
		t.Error("a code stands for itself")
	}
	for _, name := range []string{"", "hdmi9", "digital", "digital0", "digital12", "99", "rgb"} {
		if code, ok := inputCode(name, own); ok {
			t.Errorf("%q is taken as %s", name, code)
		}
	}
}

func FuzzParseLine(f *testing.F) {
	for _, s := range []string{"PJLINK 1 498e4a67", "%1POWR=OK", "%1LAMP=1 1 2 0", "%1ERST=012012", "%1INST=11 12", "\xff\x00%1"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseLine(b)
		if err != nil {
			return
		}
		if l.greeting == (l.command != "") {
			t.Fatalf("%q: %+v", b, l)
		}
		parsePower(l.value)
		parseLamps(l.value)
		parseErrors(l.value)
		if v, a, ok := parseMute(l.value); !ok && (v || a) {
			t.Fatalf("mute %q", l.value)
		}
		for _, code := range parseInputs(l.value) {
			if back, ok := inputCode(inputName(code, nil), nil); !ok || back != code {
				t.Fatalf("input %s comes back as %s", code, back)
			}
		}
	})
}
