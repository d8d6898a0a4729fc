package mdns_test

import (
	"encoding/hex"
	"net/netip"
	"reflect"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/polluxhq/pollux/drivers/sdk/mdns"
)

// The bytes of a question are those of RFC 1035, section 4.1: header, labels, type PTR, class IN.
func TestQuery(t *testing.T) {
	b, err := mdns.Query("_a._tcp")
	if want := "000000000001000000000000" + "025f61" + "045f746370" + "056c6f63616c" + "00" + "000c0001"; err != nil || hex.EncodeToString(b) != want {
		t.Errorf("got %x, %v\nwant %s", b, err, want)
	}
	if _, err := mdns.Query("_no..type"); err == nil {
		t.Error("a type without a label was asked for")
	}
}

// answer is one with compressed names, as devices send them: c00c points to the type behind the header.
const answer = "000084000000000100000003" +
	"025f61045f746370056c6f63616c00" + "000c0001" + "00001194" + "0006" + "034f6e65c00c" + // _a._tcp.local PTR One._a._tcp.local
	"c025" + "00218001" + "00000078" + "0011" + "000000001770" + "03646576" + "056c6f63616c" + "00" + // SRV 6000 dev.local
	"c025" + "00108001" + "00001194" + "000d" + "054d41433d31" + "056d61633d32" + "00" + // TXT MAC=1, then mac=2, then nothing
	"03444556" + "c014" + "00018001" + "00000078" + "0004" + "0a000007" // DEV.local A 10.0.0.7

func TestServices(t *testing.T) {
	message, err := hex.DecodeString(answer)
	if err != nil {
		t.Fatal(err)
	}
	got := mdns.Services(message)
	want := []mdns.Service{{Type: "_a._tcp", Instance: "One", Host: "dev.local", Port: 6000, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.7")},
		Text: map[string]string{"mac": "1"}}}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v\nwant %+v", got, want)
	}
	from := netip.MustParseAddr("10.0.0.8")
	if a := got[0].Address(from); a.String() != "10.0.0.7" {
		t.Errorf("its address is %s", a)
	}
	if a := (&mdns.Service{}).Address(from); a != from {
		t.Errorf("of one that tells no address it is %s", a)
	}
	message[2] = 0 // a question
	if got := mdns.Services(message); got != nil {
		t.Errorf("a question tells %+v", got)
	}
}

func TestLeave(t *testing.T) {
	name := dnsmessage.MustNewName("_a._tcp.local.")
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true}, Answers: []dnsmessage.Resource{
		{Header: dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET},
			Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("One._a._tcp.local.")}},
		{Header: dnsmessage.ResourceHeader{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET, TTL: 9},
			Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName("One._b._tcp.local.")}},
	}}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if got := mdns.Services(b); got != nil {
		t.Errorf("one that takes leave, and one of another type, are found: %+v", got)
	}
}

// FuzzServices reads whatever comes.
func FuzzServices(f *testing.F) {
	message, err := hex.DecodeString(answer)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(message)
	f.Add([]byte("\x00\x00\x84\x00\x00\x00\x00\x01\x00\x00\x00\x00\xc0\x0c\x00\x0c\x00\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, s := range mdns.Services(b) {
			if s.Type == "" || s.Instance == "" {
				t.Errorf("%x: %+v", b, s)
			}
			_ = s.Address(netip.Addr{})
		}
	})
}
