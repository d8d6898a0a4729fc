package mqtt

import (
	"fmt"
	"math"
	"time"
)

const (
	// topicAliases that a client of MQTT 5 may set.
	topicAliases = 32
	// maxClientID in bytes; the protocol asks for 23 at least.
	maxClientID = 256
)

// Limits bound what clients may cost. Zero fields get the defaults, which hold about 10,000 devices in 1 GB.
type Limits struct {
	// MaxPacket is the longest PUBLISH, in bytes; 256 KiB: an entry of the log stays under 512 KiB.
	MaxPacket int
	// MaxControl is the longest of other packets, in bytes; 64 KiB: it is parsed into many times its size.
	MaxControl int
	// MaxConnect is the longest CONNECT, in bytes; 16 KiB: it comes from anybody. Wills and tokens fit.
	MaxConnect int
	// MaxProperties is the longest block of properties of a PUBLISH, in bytes; 8 KiB.
	MaxProperties int
	// ConnectTimeout until a client has sent its CONNECT, TLS included; 5 s.
	ConnectTimeout time.Duration
	// PacketTimeout from a packet's first byte to its last; 30 s: 256 KiB on a bad radio link.
	PacketTimeout time.Duration
	// WriteTimeout: a client that takes nothing for so long is closed; 10 s.
	WriteTimeout time.Duration
	// CommitTimeout is how long a client waits for the store at CONNECT and SUBSCRIBE, and for the end of an earlier connection; 10 s.
	CommitTimeout time.Duration
	// Clients that are connected and authenticated; 20,000.
	Clients int
	// Handshakes are connections not yet authenticated; 1,024.
	Handshakes int
	// Sessions of the whole cluster, connected or not; 50,000.
	Sessions int
	// SessionExpiry of a client that is away; 2 h.
	SessionExpiry time.Duration
	// Unacked messages of a client (QoS 1 and 2); 1,024. At it the client is not read.
	Unacked int
	// UnackedBytes of a client, as many again of QoS 0; 1 MiB. At it the client is not read.
	UnackedBytes int
	// PendingQoS0 messages of a client that the handler is not done with; 1,024. At it the client is not read.
	PendingQoS0 int
	// PendingBytes over all clients; 64 MiB. Above it each client gets one message at a time.
	PendingBytes int
	// PendingWills over all clients; 16,384. Further ones are dropped.
	PendingWills int
	// Queued messages of a session that outlives its connection, and QueuedBytes of them; 1,000 and 1 MiB. Further ones are dropped.
	Queued, QueuedBytes int
	// OutboundBytes that wait for a client to take them; 1 MiB. At it QoS 0 is dropped; for QoS 1 and 2 that are not in a queue it
	// is closed.
	OutboundBytes int
	// OutboundTotal bytes over all clients that wait to be taken; 256 MiB. Above it each client may have one message waiting.
	OutboundTotal int
	// LargeBuffers are the bytes over all connections in which packets of more than 32 KiB are gathered; 64 MiB. Above it a
	// connection that needs more is closed.
	LargeBuffers int
	// OutboundUnacked messages that a client has not acknowledged; 1,024. As many may wait for them; further ones are dropped.
	OutboundUnacked int
	// Subscriptions of a client; 256.
	Subscriptions int
	// TopicLevels and TopicBytes of topics and filters; 32 and 1,024: each level costs memory in the index.
	TopicLevels, TopicBytes int
	// Retained messages of the whole cluster; 100,000, and RetainedBytes of them; 64 MiB.
	Retained, RetainedBytes int
}

func (l Limits) withDefaults() (Limits, error) {
	for _, f := range []struct {
		name     string
		value    *int
		fallback int
		most     int
	}{
		{"max packet", &l.MaxPacket, 256 << 10, 256 << 20},
		{"max control", &l.MaxControl, 64 << 10, 256 << 20},
		{"max connect", &l.MaxConnect, 16 << 10, 256 << 20},
		{"max properties", &l.MaxProperties, 8 << 10, 256 << 20},
		{"clients", &l.Clients, 20_000, math.MaxInt32},
		{"handshakes", &l.Handshakes, 1024, math.MaxInt32},
		{"sessions", &l.Sessions, 50_000, math.MaxInt32},
		{"unacked", &l.Unacked, 1024, math.MaxUint16},
		{"unacked bytes", &l.UnackedBytes, 1 << 20, math.MaxInt32},
		{"pending qos 0", &l.PendingQoS0, 1024, math.MaxInt32},
		{"pending bytes", &l.PendingBytes, 64 << 20, math.MaxInt32},
		{"pending wills", &l.PendingWills, 16 << 10, math.MaxInt32},
		{"queued", &l.Queued, 1000, math.MaxInt32},
		{"queued bytes", &l.QueuedBytes, 1 << 20, math.MaxInt32},
		{"outbound bytes", &l.OutboundBytes, 1 << 20, math.MaxInt32},
		{"outbound total", &l.OutboundTotal, 256 << 20, math.MaxInt32},
		{"large buffers", &l.LargeBuffers, 64 << 20, math.MaxInt32},
		{"outbound unacked", &l.OutboundUnacked, 1024, 32 << 10},
		{"subscriptions", &l.Subscriptions, 256, math.MaxInt32},
		{"topic levels", &l.TopicLevels, 32, 1024},
		{"topic bytes", &l.TopicBytes, 1024, math.MaxUint16},
		{"retained", &l.Retained, 100_000, math.MaxInt32},
		{"retained bytes", &l.RetainedBytes, 64 << 20, math.MaxInt32},
	} {
		if *f.value == 0 {
			*f.value = f.fallback
		}
		if *f.value < 1 || *f.value > f.most {
			return l, fmt.Errorf("limit of %s: %d: want 1 to %d", f.name, *f.value, f.most)
		}
	}
	for _, f := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"connect timeout", &l.ConnectTimeout, 5 * time.Second},
		{"packet timeout", &l.PacketTimeout, 30 * time.Second},
		{"write timeout", &l.WriteTimeout, 10 * time.Second},
		{"commit timeout", &l.CommitTimeout, 10 * time.Second},
		{"session expiry", &l.SessionExpiry, 2 * time.Hour},
	} {
		if *f.value == 0 {
			*f.value = f.fallback
		}
		if *f.value < 0 || *f.value > 100*365*24*time.Hour {
			return l, fmt.Errorf("limit of %s: %v: want more than 0", f.name, *f.value)
		}
	}
	return l, nil
}
