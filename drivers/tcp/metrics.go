package tcp

import "github.com/VictoriaMetrics/metrics"

// counters are shared by all TCP connections of a node.
type counters struct {
	open              *metrics.Gauge
	bytesIn, bytesOut *metrics.Counter
	errors            *metrics.Counter
	reconnects        *metrics.Counter
	tooLong           *metrics.Counter
}

func newCounters(set *metrics.Set) *counters {
	if set == nil {
		set = metrics.NewSet()
	}
	return &counters{
		open:       set.GetOrCreateGauge("pollux_tcp_connections", nil),
		bytesIn:    set.GetOrCreateCounter("pollux_tcp_received_bytes_total"),
		bytesOut:   set.GetOrCreateCounter("pollux_tcp_sent_bytes_total"),
		errors:     set.GetOrCreateCounter("pollux_tcp_errors_total"),
		reconnects: set.GetOrCreateCounter("pollux_tcp_reconnects_total"),
		tooLong:    set.GetOrCreateCounter("pollux_tcp_frames_too_long_total"),
	}
}
