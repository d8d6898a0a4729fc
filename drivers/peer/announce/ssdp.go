package announce

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/netip"
)

// SSDPGroup is where devices are searched for.
var SSDPGroup = netip.MustParseAddrPort("239.255.255.250:1900")

// SSDP answers searches for a target, for all devices and for root devices, as the device of that UUID whose description is at a
// location.
func SSDP(target, uuid, server, location string) Answer {
	return func(question []byte, _ netip.AddrPort) (said []byte, toAll bool) {
		// Its request line is that of no method and no path, which the reader takes as well.
		q, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(question)))
		if err != nil || q.Method != "M-SEARCH" || q.Header.Get("Man") != `"ssdp:discover"` {
			return nil, false
		}
		st := q.Header.Get("St")
		switch st {
		case "ssdp:all":
			st = target
		case target, "upnp:rootdevice":
		default:
			return nil, false
		}
		return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nEXT:\r\nLOCATION: %s\r\nSERVER: %s\r\nST: %s\r\nUSN: uuid:%s::%s\r\n\r\n",
			location, server, st, uuid, st), false
	}
}
