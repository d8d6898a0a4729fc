package actors

import (
	"testing"

	"github.com/polluxhq/pollux/drivers"
)

// The same address is the same, however it is written.
func TestAddressesAreWrittenOneWay(t *testing.T) {
	s := &spec{manifest: drivers.Manifest{Transports: []drivers.TransportOptions{{Scheme: "tcp", DefaultPort: 502}, {Scheme: "http"}}}}
	for given, want := range map[string]string{
		"tcp://10.0.0.9":                "tcp://10.0.0.9:502",
		"tcp://10.0.0.9:502":            "tcp://10.0.0.9:502",
		"tcp://10.0.0.9:1502":           "tcp://10.0.0.9:1502",
		"tcp://Plant.Example#private":   "tcp://plant.example:502",
		"tcp://[2001:DB8:0::1]":         "tcp://[2001:db8::1]:502",
		"http://10.0.0.9/":              "http://10.0.0.9:80",
		"http://10.0.0.9/a/?q=1":        "http://10.0.0.9:80/a?q=1",
		"serial:///dev/ttyUSB0":         "serial:///dev/ttyUSB0",
		"tcp://no address at all:70000": "tcp://no address at all:70000",
	} {
		if got := s.address(given); got != want {
			t.Errorf("%s is written as %s, want %s", given, got, want)
		}
	}
}
