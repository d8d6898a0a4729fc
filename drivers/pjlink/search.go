package main

import (
	"bytes"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// search asks everybody who is a projector of class 2; those of class 1 do not answer. The answers come within ten seconds, to the
// port 4352 of whoever asked (PJLink Specifications version 2.00, class 2, section 3.2: the search and its answer on page 11).
func search(t *Twin, _ time.Duration, options wire.Value) error {
	t.Memory().Searching = true
	to, _ := options.Get("address").Text()
	return t.Send(append([]byte(to), "\x00%2SRCH\r"...))
}

// found takes an answer to the search: ADDRESS:PORT, a zero byte, `%2ACKN=` and the MAC address.
func found(t *Twin, answer []byte) error {
	from, said, _ := bytes.Cut(answer, []byte{0})
	mac, ok := parseAcknowledge(said)
	if !ok {
		return nil // somebody else's search, or the notification of a projector
	}
	at := string(from[:max(bytes.LastIndexByte(from, ':'), 0)])
	return t.Discover(twin.Discovery{Network: "pjlink", Key: "mac", Value: mac, Driver: "pjlink", URI: "tcp://" + at + ":4352",
		Name: "PJLink projector " + mac})
}

// parseAcknowledge gives the MAC address of an answer, as pairs in small letters between colons. Some projectors leave
// the colons out.
func parseAcknowledge(said []byte) (mac string, ok bool) {
	text, ok := strings.CutPrefix(strings.ToUpper(strings.Trim(string(said), "\r\n\x00 ")), "%2ACKN=")
	if !ok {
		return "", false
	}
	digits := strings.ToLower(strings.NewReplacer(":", "", "-", "").Replace(text))
	if len(digits) != 12 || strings.Trim(digits, "0123456789abcdef") != "" {
		return "", false
	}
	for i := 0; i < len(digits); i += 2 {
		mac += ":" + digits[i:i+2]
	}
	return mac[1:], true
}
