package wasm

import "github.com/VictoriaMetrics/metrics"

// stats are the runtime's counters, named pollux_wasm_….
type stats struct {
	calls, traps, stopped, created, initialised, discarded, waits, codeRemoved *metrics.Counter
	compileSeconds                                                             *metrics.Histogram
}

func newStats(set *metrics.Set, r *Runtime) *stats {
	if set == nil {
		set = metrics.NewSet()
	}
	set.GetOrCreateGauge("pollux_wasm_guest_bytes", func() float64 { return float64(r.memory.used.Load()) })
	set.GetOrCreateGauge("pollux_wasm_guest_bytes_limit", func() float64 { return float64(r.memory.limit) })
	set.GetOrCreateGauge("pollux_wasm_guest_mappings", func() float64 { return float64(r.memory.maps.Load()) })
	set.GetOrCreateGauge("pollux_wasm_memory_refused_total", func() float64 { return float64(r.memory.refused.Load()) })
	return &stats{
		calls:          set.GetOrCreateCounter("pollux_wasm_calls_total"),
		traps:          set.GetOrCreateCounter("pollux_wasm_traps_total"),
		stopped:        set.GetOrCreateCounter("pollux_wasm_calls_stopped_total"),
		created:        set.GetOrCreateCounter("pollux_wasm_instances_created_total"),
		initialised:    set.GetOrCreateCounter("pollux_wasm_instances_initialised_total"),
		discarded:      set.GetOrCreateCounter("pollux_wasm_instances_discarded_total"),
		waits:          set.GetOrCreateCounter("pollux_wasm_pool_waits_total"),
		codeRemoved:    set.GetOrCreateCounter("pollux_wasm_cache_removed_total"),
		compileSeconds: set.GetOrCreateHistogram("pollux_wasm_compile_seconds"),
	}
}
