package transport

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// counters are shared by all connections of a node that have the same scheme.
type counters struct {
	open              *metrics.Gauge
	bytesIn, bytesOut *metrics.Counter
	errors            *metrics.Counter
	reconnects        *metrics.Counter
	tooLong           *metrics.Counter
}

func newCounters(set *metrics.Set, scheme string) *counters {
	if set == nil {
		set = metrics.NewSet()
	}
	name := func(n string) string { return fmt.Sprintf("pollux_transport_%s{scheme=%q}", n, scheme) }
	return &counters{
		open:       set.GetOrCreateGauge(name("connections"), nil),
		bytesIn:    set.GetOrCreateCounter(name("received_bytes_total")),
		bytesOut:   set.GetOrCreateCounter(name("sent_bytes_total")),
		errors:     set.GetOrCreateCounter(name("errors_total")),
		reconnects: set.GetOrCreateCounter(name("reconnects_total")),
		tooLong:    set.GetOrCreateCounter(name("frames_too_long_total")),
	}
}

// Dropped counts what came and was not given to a twin, by scheme and reason.
func Dropped(set *metrics.Set, scheme, reason string) *metrics.Counter {
	if set == nil {
		set = metrics.NewSet()
	}
	return set.GetOrCreateCounter(fmt.Sprintf("pollux_transport_dropped_total{scheme=%q,reason=%q}", scheme, reason))
}
