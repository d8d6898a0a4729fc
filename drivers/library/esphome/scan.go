package main

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/mdns"
	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// service is what devices with ESPHome announce.
const service = "_esphomelib._tcp"

// scan asks who announces it.
func scan(t *Twin, _ time.Duration, options wire.Value) error {
	t.Memory().Scanning = true
	query, err := mdns.Query(service)
	if err != nil {
		return err
	}
	to, _ := options.Get("address").Text()
	return t.Send(append(append([]byte(to), 0), query...))
}

// found takes an answer to a scan: ADDRESS:PORT, a zero byte, the message.
func found(t *Twin, answer []byte) error {
	from, message, _ := bytes.Cut(answer, []byte{0})
	sender, err := netip.ParseAddrPort(string(from))
	if err != nil {
		return nil
	}
	for _, s := range mdns.Services(message) {
		if !strings.EqualFold(s.Type, service) {
			continue
		}
		name := s.Text["friendly_name"]
		if name == "" {
			name = s.Instance
		}
		if s.Text["api_encryption"] != "" {
			t.Log("warn", name+" at "+sender.Addr().String()+" wants encryption, which this driver does not speak")
			continue
		}
		port := s.Port
		if port == 0 {
			port = defaultPort
		}
		d := twin.Discovery{Network: "esphome", Key: "mac", Value: s.Text["mac"], Driver: "esphome", Name: name,
			URI: "tcp://" + netip.AddrPortFrom(s.Address(sender.Addr()), port).String()}
		if d.Value == "" {
			d.Key, d.Value = "name", s.Instance
		}
		if board := s.Text["board"]; board != "" {
			d.Name += " (" + board + ")"
		}
		if err := t.Discover(d); err != nil {
			t.Log("warn", "announce "+name+" on port "+strconv.Itoa(int(port))+": "+err.Error())
		}
	}
	return nil
}
