package main

import (
	"bytes"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// scan asks who is there. Routers carry the question into all networks.
func scan(t *Twin, _ time.Duration, options wire.Value) error {
	low, high := int64(0), int64(-1)
	if n, ok := options.Get("low").Int(); ok {
		low, high = n, maxInstance
	}
	if n, ok := options.Get("high").Int(); ok {
		high = n
	}
	if high >= 0 && high < low {
		return &twin.Error{Code: codeInput, Message: "options: high is below low"}
	}
	apdu := whoIs(int(low), int(high))
	everywhere := route{network: 0xffff}
	if to, ok := options.Get("address").Text(); ok && to != "" {
		return t.Send(append(append([]byte(to), 0), frame(bvlcUnicast, everywhere, false, apdu)...))
	}
	return t.Send(append([]byte{0}, frame(bvlcBroadcast, everywhere, false, apdu)...))
}

// scanned takes an answer to a scan apart: ADDRESS:PORT, a zero byte, the datagram. A datagram to a twin begins with 0x81.
func scanned(b []byte) (from string, payload []byte, ok bool) {
	i := bytes.IndexByte(b, 0)
	if i <= 0 || b[0] >= 0x80 {
		return "", nil, false
	}
	return string(b[:i]), b[i+1:], true
}

// found reports a device that says who it is.
func found(t *Twin, from string, payload []byte) error {
	msg, ok := parseFrame(payload)
	if !ok || msg.kind != pduUnconfirmed || msg.service != unconfirmedIAm {
		return nil
	}
	d, ok := parseIAm(msg.body)
	if !ok {
		return nil
	}
	if msg.origin != "" {
		from = msg.origin
	}
	id := strconv.FormatInt(d.device, 10)
	settings := `{"device":` + id
	if msg.from.network != 0 {
		settings += `,"network":` + strconv.Itoa(int(msg.from.network)) + `,"mac":"` + hex.EncodeToString(msg.from.mac) + `"`
	}
	return t.Discover(twin.Discovery{Network: "bacnet", Key: "device", Value: id, Driver: "bacnet", URI: "udp://" + from,
		Name: "BACnet device " + id + " of vendor " + strconv.FormatInt(d.vendor, 10), Settings: wire.Value(settings + "}")})
}
