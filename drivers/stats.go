package drivers

import "time"

// Stats is what a connection has seen since it was opened.
type Stats struct {
	Connected bool
	// LastSeen is when something came from the device last; zero: never.
	LastSeen time.Time
	// BytesIn and BytesOut count what the device's protocol carries: for HTTP bodies, for MQTT topics and payloads.
	BytesIn, BytesOut uint64
	// FramesIn and FramesOut count frames; for HTTP answers and requests.
	FramesIn, FramesOut uint64
	// Reconnects counts connections after the first.
	Reconnects uint64
	// Errors counts failed dials, failed writes and lost connections; LastError is the newest.
	Errors    uint64
	LastError string
}

// Reporter is a Conn that tells what it has seen. Stats does not block.
type Reporter interface {
	Conn
	Stats() Stats
}
