package main

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/sdk/twintest"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

func unhex(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The examples of ANSI/ASHRAE 135, clauses 20.2.2 to 20.2.14.
func TestDataOfTheStandard(t *testing.T) {
	for text, want := range map[string]any{
		"00": nil, "10": false, "11": true, "21 48": int64(72), "31 48": int64(72), "31 b8": int64(-72), "44 42900000": 72.0, "55 08 4052000000000000": 72.0,
		"63 1234ff": "1234ff", "75 19 00 546869732069732061204241436e657420737472696e6721": "This is a BACnet string!",
		"82 03 a8": "10101", "91 00": int64(0), "a4 5b011804": "1991-01-24", "b4 11232d11": "17:35:45.17", "c4 00c0000f": "binary-input:15",
		"44 4290999a": 72.3, "24 ffffffff": int64(4294967295), "32 8000": int64(-32768), "44 7fc00000": nil, "75 05 04 00c4d83d 74": nil,
	} {
		all, ok := values(unhex(t, text))
		if strings.HasPrefix(text, "75 05") { // half a character
			if ok {
				t.Errorf("%s was read", text)
			}
			continue
		}
		if !ok || len(all) != 1 || all[0].plain() != want {
			t.Errorf("%s: %+v, %t; want %v", text, all, ok, want)
		}
	}
}

// The examples of ANSI/ASHRAE 135, annex F: F.1.10 SubscribeCOV, F.3.5 ReadProperty, F.3.9 WriteProperty, F.4.9 Who-Is.
func TestRequestsOfTheStandard(t *testing.T) {
	real180, problem := encode("real", wire.Value("180"))
	if problem != "" {
		t.Fatal(problem)
	}
	subscribe := subscribeRequest(15, 18, 0, 10, true, 0)
	for name, c := range map[string]struct {
		got  []byte
		want string
	}{
		// The standard's requests accept no more than 50, 128 or 1024 bytes (second byte 00, 02 or 04); ours 1476 (05).
		"read":      {readRequest(1, place{object: 0, instance: 5, property: 85}), "00 05 01 0c 0c 00000005 19 55"},
		"write":     {writeRequest(89, place{object: 2, instance: 1, property: 85}, real180, 0), "00 05 59 0f 0c 00800001 19 55 3e 44 43340000 3f"},
		"subscribe": {subscribe, "00 05 0f 05 09 12 1c 0000000a 29 01 39 00"},
		"who is 3":  {whoIs(3, 3), "10 08 09 03 19 03"},
		"who is":    {whoIs(0, -1), "10 08"},
	} {
		if got := hex.EncodeToString(c.got); got != strings.ReplaceAll(c.want, " ", "") {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// The examples of annex F: F.1.2 and F.1.3 COV notifications, F.3.5 ReadProperty-ACK, I-Am of F.4.9, in datagrams.
func TestAnswersOfTheStandard(t *testing.T) {
	list := "09 12 1c 02000004 2c 0000000a 39 00 4e 09 55 2e 44 42820000 2f 09 6f 2e 82 04 00 2f 4f"
	want := notification{process: 18, device: 4, instance: 10, values: []changed{
		{property: 85, values: []value{{tag: tagReal, f: 65}}}, {property: 111, values: []value{{tag: tagBits, text: "0000"}}},
	}}
	for _, head := range []string{"81 0a 002a 01 04 00 02 0f 01", "81 0a 0028 01 00 10 02"} {
		m, ok := parseFrame(unhex(t, head+list))
		n, isOne := parseNotification(m.body)
		if !ok || !isOne || !reflect.DeepEqual(n, want) {
			t.Errorf("%s: %t, %t, %+v", head, ok, isOne, n)
		}
	}
	m, ok := parseFrame(unhex(t, "81 0a 0017 01 00 30 01 0c 0c 00000005 19 55 3e 44 4290999a 3f"))
	if at, all, isOne := parseRead(m.body); !ok || !isOne || at.String() != "analog-input:5 present-value" || all[0].plain() != 72.3 || m.id != 1 {
		t.Errorf("%t, %t, %v, %v", ok, isOne, at, all)
	}
	m, ok = parseFrame(unhex(t, "81 0b 0018 01 08 0007 01 0c 10 00 c4 02000001 22 01e0 91 01 21 63"))
	if d, isOne := parseIAm(m.body); !ok || !isOne || d != (iAm{1, 480, 1, 99}) || m.from.network != 7 || string(m.from.mac) != "\x0c" {
		t.Errorf("%t, %t, %+v, %+v", ok, isOne, d, m.from)
	}
}

func TestEncode(t *testing.T) {
	for _, c := range []struct{ as, v, want string }{
		{"real", "21.5", "4441ac0000"}, {"double", "72", "55084052000000000000"}, {"unsigned", "300", "22012c"}, {"signed", "-72", "31b8"},
		{"signed", "200", "3200c8"}, {"enumerated", "true", "9101"}, {"boolean", "false", "10"}, {"text", `"Hi"`, "73004869"}, {"real", "null", "00"},
		{"text", `"Hallo Welt"`, "750b0048616c6c6f2057656c74"},
	} {
		if b, problem := encode(c.as, wire.Value(c.v)); problem != "" || hex.EncodeToString(b) != c.want {
			t.Errorf("%s as %s: %x %s, want %s", c.v, c.as, b, problem, c.want)
		}
	}
	for as, v := range map[string]string{"unsigned": "-1", "signed": "3000000000", "enumerated": "1.5", "boolean": "2", "text": "1", "real": `"x"`, "double": "{}"} {
		if b, problem := encode(as, wire.Value(v)); problem == "" {
			t.Errorf("%s as %s: %x", v, as, b)
		}
	}
}

// Whatever comes, the driver does not trap, and goes on.
func FuzzDatagrams(f *testing.F) {
	for _, seed := range []string{
		"810a001701003001 0c0c0000000519553e444290999a3f", "810a002a010400020f0109121c020000042c0000000a39004e09552e44428200002f096f2e8204002f4f",
		"810b0018010800070 10c1000c40200000122 01e091012163", "810a000901002001 0f", "810a000d010050010c9101911f", "31302e302e302e313a34373830380081", "810a000a01003801000c0c",
	} {
		if b, err := hex.DecodeString(strings.ReplaceAll(seed, " ", "")); err == nil {
			f.Add(b, uint8(1))
		}
	}
	point := Settings{Device: 1, PollS: 10, TimeoutMS: 1000, Priority: 8, CovS: 60, Points: []Point{
		{Name: "a", Object: "analog-input", Instance: 5, Writable: true}, {Name: "b", Object: "analog-input", Instance: 10, COV: "confirmed"}}}
	f.Fuzz(func(t *testing.T, b []byte, state uint8) {
		tw := twintest.New(t, newDriver(), point)
		tw.Load("start")
		if state&1 != 0 {
			tw.Connect()
		}
		if r := tw.Receive(string(b)); r.Err != nil {
			t.Fatalf("%+v", r.Err)
		}
		if state&2 != 0 {
			tw.Command("read", `{"object":"device","instance":1,"property":"76"}`)
			tw.Reply(string(b))
		}
		for range 4 {
			if r := tw.Receive(string(b)); r.Err != nil {
				t.Fatalf("%+v", r.Err)
			}
			tw.Fire("poll")
		}
	})
}
