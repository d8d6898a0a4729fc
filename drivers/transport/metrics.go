package transport

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// Traffic counts what a node's twins whose devices come by one scheme hear and say, together. Its methods may be called concurrently.
type Traffic struct {
	bytesIn, bytesOut, errors *metrics.Counter
}

// TrafficOf gives the counters of a scheme; those of the same set and scheme are the same. set may be nil: they show nowhere.
func TrafficOf(set *metrics.Set, scheme string) *Traffic {
	return &Traffic{bytesIn: counter(set, "received_bytes_total", scheme), bytesOut: counter(set, "sent_bytes_total", scheme),
		errors: counter(set, "errors_total", scheme)}
}

// Received counts n bytes that came from a device.
func (t *Traffic) Received(n int) { t.bytesIn.Add(n) }

// Sent counts n bytes that went to a device.
func (t *Traffic) Sent(n int) { t.bytesOut.Add(n) }

// Failed counts what did not come, or did not go.
func (t *Traffic) Failed() { t.errors.Inc() }

// TooLong counts frames that were longer than max_frame, and ended their connections.
func TooLong(set *metrics.Set, scheme string) *metrics.Counter {
	return counter(set, "frames_too_long_total", scheme)
}

func counter(set *metrics.Set, name, scheme string) *metrics.Counter {
	if set == nil {
		return new(metrics.Counter)
	}
	return set.GetOrCreateCounter(fmt.Sprintf("pollux_transport_%s{scheme=%q}", name, scheme))
}

// counters are shared by all connections of a node that have the same scheme.
type counters struct {
	*Traffic
	open                *metrics.Gauge
	reconnects, tooLong *metrics.Counter
}

func newCounters(set *metrics.Set, scheme string) *counters {
	if set == nil {
		set = metrics.NewSet()
	}
	return &counters{
		Traffic:    TrafficOf(set, scheme),
		open:       set.GetOrCreateGauge(fmt.Sprintf("pollux_transport_connections{scheme=%q}", scheme), nil),
		reconnects: counter(set, "reconnects_total", scheme),
		tooLong:    TooLong(set, scheme),
	}
}

// Dropped counts what came and was not given to a twin, by scheme and reason.
func Dropped(set *metrics.Set, scheme, reason string) *metrics.Counter {
	if set == nil {
		set = metrics.NewSet()
	}
	return set.GetOrCreateCounter(fmt.Sprintf("pollux_transport_dropped_total{scheme=%q,reason=%q}", scheme, reason))
}
