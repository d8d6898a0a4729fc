// Package schemes is the list of the transports that a node has. It is apart from package transport, which they build on.
package schemes

import (
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/broker"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/inbound"
	"github.com/polluxhq/pollux/drivers/serial"
	"github.com/polluxhq/pollux/drivers/ssh"
	"github.com/polluxhq/pollux/drivers/tcp"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/udp"
	"github.com/polluxhq/pollux/drivers/websocket"
)

// All gives every transport that opens connections. The hub has those in which devices call in; nil: they are left out.
func All(hub *inbound.Hub) *transport.Registry {
	all := map[string]transport.Opener{
		drivers.SchemeTCP: tcp.Open, drivers.SchemeTLS: tcp.Open, drivers.SchemeUDP: udp.Open,
		drivers.SchemeHTTP: httpclient.Open, drivers.SchemeHTTPS: httpclient.Open,
		drivers.SchemeWS: websocket.Open, drivers.SchemeWSS: websocket.Open,
		drivers.SchemeMQTT: broker.Open, drivers.SchemeMQTTS: broker.Open,
		drivers.SchemeSSH: ssh.Open, drivers.SchemeSerial: serial.Open,
	}
	if hub != nil {
		all[drivers.SchemeTCPIn], all[drivers.SchemeUDPIn] = hub.Open, hub.Open
	}
	return transport.NewRegistry(all)
}
