package drivers

import (
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// Schemes of transports. A twin's address begins with one of them; mqtt without an address is the node's own broker,
// and webhook needs no address.
const (
	SchemeTCP     = "tcp"
	SchemeTLS     = "tls"
	SchemeUDP     = "udp"
	SchemeHTTP    = "http"
	SchemeHTTPS   = "https"
	SchemeWS      = "ws"
	SchemeWSS     = "wss"
	SchemeSSH     = "ssh"
	SchemeSerial  = "serial"
	SchemeMQTT    = "mqtt"
	SchemeMQTTS   = "mqtts"
	SchemeTCPIn   = "tcp-in"
	SchemeUDPIn   = "udp-in"
	SchemeWebhook = "webhook"
)

// Schemes returns all schemes that a manifest may name, in the order in which the documentation lists them.
func Schemes() []string {
	return []string{SchemeTCP, SchemeTLS, SchemeUDP, SchemeHTTP, SchemeHTTPS, SchemeWS, SchemeWSS, SchemeSSH, SchemeSerial,
		SchemeMQTT, SchemeMQTTS, SchemeTCPIn, SchemeUDPIn, SchemeWebhook}
}

// TransportOptions are one transport of a manifest. In texts marked with T, {NAME} stands for a setting of the twin; a
// text whose setting is absent is empty.
type TransportOptions struct {
	// Scheme of the twin's address that picks this transport.
	Scheme string `json:"scheme"`
	// DefaultPort completes an address without one.
	DefaultPort int `json:"default_port,omitempty"`
	// Tokenizer cuts the received bytes into frames (tcp, tls, ssh, serial, tcp-in). Its default is raw: chunks as they
	// come. Transports of messages (udp, ws, mqtt) give whole messages.
	Tokenizer *Tokenizer `json:"tokenizer,omitempty"`
	// IdleTimeoutMS: reconnect where nothing was received for so long; 0: never.
	IdleTimeoutMS int `json:"idle_timeout_ms,omitempty"`
	// PerCommand: the device is dialled for what is sent, and let go when nothing was sent or received for
	// PerCommandIdleMS; 0: 2,000 (tcp, tls, ssh). The twin counts as connected as long as the device could be reached last.
	PerCommand       bool `json:"per_command,omitempty"`
	PerCommandIdleMS int  `json:"per_command_idle_ms,omitempty"`
	// PerCommandIf (T): "true" is PerCommand, so that a setting of the twin can choose.
	PerCommandIf string `json:"per_command_if,omitempty"`
	// PrivateNames: a host name may stand for a private, loopback or link-local address. Otherwise such addresses have to
	// be written in the twin's address as numbers, or the address ends with #private.
	PrivateNames bool `json:"private_names,omitempty"`
	// TraceSecrets are regular expressions (RE2) of what the driver computes from a secret and sends, such as a digest of a
	// password: what they match in a frame that is sent shows as *** in a trace. The secrets themselves never show.
	TraceSecrets []string `json:"trace_secrets,omitempty"`

	// TLS of tls, https, wss and mqtts. With tcp it lets the driver begin TLS in the session (capability connection).
	TLS *TLSOptions `json:"tls,omitempty"`
	// UDP of udp and udp-in.
	UDP *UDPOptions `json:"udp,omitempty"`
	// HTTP of http and https, and of the handshake of ws and wss.
	HTTP *HTTPOptions `json:"http,omitempty"`
	// WebSocket of ws and wss.
	WebSocket *WebSocketOptions `json:"websocket,omitempty"`
	// SSH of ssh.
	SSH *SSHOptions `json:"ssh,omitempty"`
	// Serial of serial.
	Serial *SerialOptions `json:"serial,omitempty"`
	// Broker of mqtt and mqtts with an address: how the node logs in there.
	Broker *BrokerOptions `json:"broker,omitempty"`
	// Inbound of tcp-in, udp-in and webhook.
	Inbound *InboundOptions `json:"inbound,omitempty"`

	// Subscribe are the MQTT topic filters of the twin's device; {NAME} stands for a setting (mqtt).
	Subscribe []string `json:"subscribe,omitempty"`
	// Publish are the MQTT topic filters that the driver may publish to (mqtt).
	Publish []string `json:"publish,omitempty"`
	// DeviceSubscribe and DevicePublish are the MQTT topic filters that a device with a key of its own may use besides:
	// subscribe to more than what the driver publishes, publish more than what the twin listens to. {NAME} stands for a
	// setting, so that they stay the device's own (mqtt).
	DeviceSubscribe []string `json:"device_subscribe,omitempty"`
	DevicePublish   []string `json:"device_publish,omitempty"`
	// Will is a topic whose message tells whether the device is connected, with the payloads that say so (mqtt).
	Will *Will `json:"will,omitempty"`
}

// Will tells a device's presence on MQTT.
type Will struct {
	Topic   string `json:"topic"`
	Online  string `json:"online"`
	Offline string `json:"offline"`
}

// Tokenizer cuts a stream of bytes into frames. Exactly one of Delimiter and LengthBytes is set.
type Tokenizer struct {
	// Delimiter ends a frame; it is not part of it. Go string escapes of JSON apply, such as "\r".
	Delimiter string `json:"delimiter,omitempty"`
	// LengthBytes (1, 2 or 4, big-endian) at LengthOffset give the number of bytes after them.
	LengthBytes  int `json:"length_bytes,omitempty"`
	LengthOffset int `json:"length_offset,omitempty"`
	// MaxFrame in bytes; a longer frame closes the connection. 0 means 65,536.
	MaxFrame int `json:"max_frame,omitempty"`
}

// TLSOptions say whom a device is taken for. Without any, its certificate has to be good for its host name and signed by
// an authority that the node's system trusts.
type TLSOptions struct {
	// CA are certificates (PEM, T) that are trusted in place of the system's.
	CA string `json:"ca,omitempty"`
	// Fingerprint (T) is the SHA-256 of the device's certificate, hex, colons allowed: it alone is trusted, whoever signed it.
	Fingerprint string `json:"fingerprint,omitempty"`
	// Certificate and Key (PEM, T) are shown to the device.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	// ServerName (T) in place of the address's host.
	ServerName string `json:"server_name,omitempty"`
	// Insecure (T): "true" takes any certificate.
	Insecure string `json:"insecure,omitempty"`
	// MinVersion is 1.0, 1.1, 1.2 or 1.3; 1.2 where it is empty.
	MinVersion string `json:"min_version,omitempty"`
}

// UDPOptions of a twin that speaks in datagrams. An address of a multicast group is joined.
type UDPOptions struct {
	// LocalPort that datagrams are sent from and heard at; 0: any.
	LocalPort int `json:"local_port,omitempty"`
	// Interface (T) by name, for multicast; empty: the system's choice.
	Interface string `json:"interface,omitempty"`
	// TTL of multicast datagrams, 1 to 255; 0 means 1: they stay in their network.
	TTL int `json:"ttl,omitempty"`
	// Broadcast allows that the twin's address, or a peer's, is a broadcast address.
	Broadcast bool `json:"broadcast,omitempty"`
	// Peers (T) are networks such as 10.0.0.0/24 whose datagrams are heard besides those of the twin's address, and to
	// which the driver may send.
	Peers []string `json:"peers,omitempty"`
	// WithPeer: a frame begins with the other's ADDRESS:PORT and a zero byte, both ways; nothing before the zero byte is
	// the twin's address.
	WithPeer bool `json:"with_peer,omitempty"`
}

// HTTPOptions of a twin whose device is an HTTP server.
type HTTPOptions struct {
	// Auth is basic, digest or bearer; empty: none. It is sent to the hosts that the twin's address names only.
	Auth     string `json:"auth,omitempty"`
	User     string `json:"user,omitempty"`     // T; basic, digest
	Password string `json:"password,omitempty"` // T; basic, digest
	Token    string `json:"token,omitempty"`    // T; bearer
	// Headers of each request to the twin's own host; T.
	Headers map[string]string `json:"headers,omitempty"`
	// Cookies: what the device sets is kept as long as the twin lives there, and sent again.
	Cookies bool `json:"cookies,omitempty"`
	// Proxy (T) such as http://10.0.0.1:3128; empty: none.
	Proxy string `json:"proxy,omitempty"`
	// PerMinute bounds the requests of a minute, Burst of them at once; 0: 600 and 20.
	PerMinute int `json:"per_minute,omitempty"`
	Burst     int `json:"burst,omitempty"`
	// Retries of idempotent requests after a lost connection, 429, 502, 503 or 504; 0 means 2, -1 none.
	Retries int `json:"retries,omitempty"`
	// Probe is a path that tells whether the device is there; empty: it is there while it takes connections.
	Probe string `json:"probe,omitempty"`
	// ProbeMS between two probes while no request is made; 0: 30,000.
	ProbeMS int `json:"probe_ms,omitempty"`
}

// WebSocketOptions of a twin whose device speaks WebSocket.
type WebSocketOptions struct {
	Subprotocols []string `json:"subprotocols,omitempty"`
	// Binary: frames go out as binary messages, otherwise as text.
	Binary bool `json:"binary,omitempty"`
	// PingMS between pings; 0: 15,000. A ping that is not answered in that time loses the connection.
	PingMS int `json:"ping_ms,omitempty"`
	// MaxFrame in bytes of a message; 0 means 65,536.
	MaxFrame int `json:"max_frame,omitempty"`
}

// SSHOptions of a twin whose device gives a shell, or runs a command.
type SSHOptions struct {
	User     string `json:"user,omitempty"`     // T
	Password string `json:"password,omitempty"` // T
	// Key is a private key (PEM, T).
	Key string `json:"key,omitempty"`
	// HostKey (T) is the device's key, as a line of authorized_keys or as its fingerprint SHA256:…; it is needed.
	HostKey string `json:"host_key,omitempty"`
	// Command (T) runs in place of the shell.
	Command string `json:"command,omitempty"`
	// Exec: each frame that is sent is a command line of its own; when it has ended, its exit status, a zero byte and its
	// output come as one frame, of which the tokenizer's max_frame bytes are kept.
	Exec bool `json:"exec,omitempty"`
	// Terminal such as vt100: a pseudo-terminal of that kind is asked for.
	Terminal string `json:"terminal,omitempty"`
}

// SerialOptions of a serial line. The address is serial:///dev/NAME.
type SerialOptions struct {
	// Baud (T), such as 9600; empty: 9600.
	Baud string `json:"baud,omitempty"`
	// DataBits 5 to 8; 0: 8.
	DataBits int `json:"data_bits,omitempty"`
	// Parity is none, odd, even, mark or space; empty: none.
	Parity string `json:"parity,omitempty"`
	// StopBits is 1, 1.5 or 2; empty: 1.
	StopBits string `json:"stop_bits,omitempty"`
}

// BrokerOptions say how the node logs in to another's MQTT broker.
type BrokerOptions struct {
	ClientID string `json:"client_id,omitempty"` // T; empty: pollux- and a hash of the twin's id
	User     string `json:"user,omitempty"`      // T
	Password string `json:"password,omitempty"`  // T
	// KeepAliveS in seconds; 0: 30.
	KeepAliveS int `json:"keep_alive_s,omitempty"`
}

// InboundOptions say which callers are taken for the twin's device.
type InboundOptions struct {
	// From (T) are networks or addresses; those of the address's ?from= are besides.
	From []string `json:"from,omitempty"`
	// Token (T) has to come with a webhook, as Authorization: Bearer TOKEN or ?token=TOKEN.
	Token string `json:"token,omitempty"`
}

// TransportFor gives the transport for an address's scheme; "" is what works without an address (mqtt by the node's own
// broker, webhook), or else nil. nil where the manifest lists none for it.
func (m *Manifest) TransportFor(scheme string) *TransportOptions {
	i := slices.IndexFunc(m.Transports, func(t TransportOptions) bool {
		if scheme == "" {
			return t.Scheme == SchemeMQTT || t.Scheme == SchemeWebhook
		}
		return t.Scheme == scheme
	})
	if i < 0 {
		return nil
	}
	return &m.Transports[i]
}

// TransportOf gives the transport for a twin's address.
func (m *Manifest) TransportOf(uri string) *TransportOptions {
	if uri == "" {
		return m.TransportFor("")
	}
	scheme, _, found := strings.Cut(uri, ":")
	if u, err := url.Parse(uri); err == nil {
		scheme = u.Scheme
	}
	if !found {
		return nil
	}
	return m.TransportFor(scheme)
}

// SchemeNames lists the schemes of the manifest's transports.
func (m *Manifest) SchemeNames() []string {
	var all []string
	for _, t := range m.Transports {
		all = append(all, t.Scheme)
	}
	return all
}

// Dials says whether a twin of that transport and address holds a connection of its own: not where its device comes by
// the node's own broker, or by webhook.
func (t *TransportOptions) Dials(uri string) bool {
	return t != nil && t.Scheme != SchemeWebhook && (t.Scheme != SchemeMQTT || uri != "")
}

// OwnBroker says whether a twin of that transport and address speaks through the node's own MQTT broker.
func (t *TransportOptions) OwnBroker(uri string) bool {
	return t != nil && t.Scheme == SchemeMQTT && uri == ""
}

// DecodeManifest reads a manifest that was checked before, such as one from a driver's record: fields of later versions
// are passed over.
func DecodeManifest(text []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := json.Unmarshal(text, m); err != nil {
		return nil, err
	}
	m.normalise()
	return m, nil
}

// normalise makes the short form of one transport a list.
func (m *Manifest) normalise() {
	if m.OneTransport != nil {
		m.Transports = append([]TransportOptions{*m.OneTransport}, m.Transports...)
		m.OneTransport = nil
	}
}

// HTTPReach says which hosts the capability http may ask besides the host of the twin's own address.
type HTTPReach struct {
	// Hosts are patterns: HOST, HOST:PORT or *.DOMAIN, in which {NAME} stands for a setting that holds a host, or a whole
	// URL whose host and port count. Without a port, 80 and 443 are meant. A pattern without a setting reaches public
	// addresses only.
	Hosts []string `json:"hosts"`
	// HTTP holds how the driver is known to those hosts, and what bounds its requests. Credentials are sent to them only.
	HTTPOptions
	// TLS of https.
	TLS *TLSOptions `json:"tls,omitempty"`
	// Named are hosts that came from settings: hosts or URLs, as they were given. Resolve fills them in.
	Named []string `json:"-"`
}

// ScanOptions say how the driver finds devices in a network, on demand (event 12).
type ScanOptions struct {
	// Over is udp or tcp.
	Over string `json:"over"`
	// Port that devices listen at, unless a frame names another.
	Port int `json:"port"`
	// LocalPort that the datagrams leave from (udp); 0: any.
	LocalPort int `json:"local_port,omitempty"`
	// Group is the multicast group that a frame without an address goes to (udp); without one it goes to the network's
	// broadcast address.
	Group string `json:"group,omitempty"`
	// Tokenizer cuts what a device answers (tcp).
	Tokenizer *Tokenizer `json:"tokenizer,omitempty"`
	// TimeoutMS is how long answers are waited for, where whoever scans names no time; 0: 3,000.
	TimeoutMS int `json:"timeout_ms,omitempty"`
	// Options is a JSON Schema of what may be given to the scan; nil: nothing.
	Options json.RawMessage `json:"options,omitempty"`
}
