package cluster

import "github.com/VictoriaMetrics/metrics"

// raftMetrics are the counters of this node's raft.
type raftMetrics struct {
	set                                                                                   *metrics.Set
	forwarded, noLeader, overloaded, stalls, truncationsHeld, mismatch, nudges, snapshots *metrics.Counter
	names                                                                                 []string
}

func newRaftMetrics(set *metrics.Set) *raftMetrics {
	return &raftMetrics{set: set,
		forwarded:       set.GetOrCreateCounter("pollux_raft_forwarded_entries_total"),
		noLeader:        set.GetOrCreateCounter(`pollux_raft_refused_entries_total{reason="no_leader"}`),
		overloaded:      set.GetOrCreateCounter(`pollux_raft_refused_entries_total{reason="overloaded"}`),
		stalls:          set.GetOrCreateCounter("pollux_raft_log_stalls_total"),
		truncationsHeld: set.GetOrCreateCounter("pollux_raft_log_truncations_held_total"),
		snapshots:       set.GetOrCreateCounter("pollux_raft_snapshots_sent_total"),
		nudges:          set.GetOrCreateCounter("pollux_raft_commit_messages_total"),
		mismatch:        set.GetOrCreateCounter("pollux_raft_checksum_mismatches_total"),
	}
}

// gauges shows the present state of r until close.
func (m *raftMetrics) gauges(r *Raft) {
	for name, fn := range map[string]func() float64{
		"pollux_raft_leader": func() float64 {
			if r.IsLeader() {
				return 1
			}
			return 0
		},
		"pollux_raft_term":          func() float64 { return float64(r.raft.CurrentTerm()) },
		"pollux_raft_last_index":    func() float64 { return float64(r.raft.LastIndex()) },
		"pollux_raft_commit_index":  func() float64 { return float64(r.raft.CommitIndex()) },
		"pollux_raft_applied_index": func() float64 { return float64(r.raft.AppliedIndex()) },
		"pollux_raft_servers":       func() float64 { return float64(len(r.raft.GetConfiguration().Configuration().Servers)) },
	} {
		m.set.GetOrCreateGauge(name, fn)
		m.names = append(m.names, name)
	}
}

// close takes the gauges away: they would keep raft.
func (m *raftMetrics) close() {
	for _, name := range m.names {
		m.set.UnregisterMetric(name)
	}
}
