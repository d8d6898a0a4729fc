package storage

import (
	"github.com/VictoriaMetrics/metrics"
)

// storeMetrics are the store's counters. Their names are documented in DESIGN.md.
type storeMetrics struct {
	proposals, retries, txns, entryBytes  *metrics.Counter
	busy, guards, duplicates, stale       *metrics.Counter
	unknown                               *metrics.Counter
	entryTxns, commit                     *metrics.Histogram
	logBytes, logEntries                  *metrics.Counter
	logWrite                              *metrics.Histogram
	truncationHeld                        *metrics.Counter
	applied, samplesRead                  *metrics.Counter
	apply, write                          *metrics.Histogram
	watchClosed, watchChanges             *metrics.Counter
	blobsWritten, blobsDeleted, blobsLost *metrics.Counter
}

func newStoreMetrics(s *metrics.Set) *storeMetrics {
	c := s.GetOrCreateCounter
	h := s.GetOrCreateHistogram
	return &storeMetrics{
		proposals:      c("pollux_store_proposals_total"),
		retries:        c("pollux_store_proposal_retries_total"),
		txns:           c("pollux_store_transactions_total"),
		entryBytes:     c("pollux_store_proposed_bytes_total"),
		busy:           c(`pollux_store_refused_total{reason="busy"}`),
		guards:         c(`pollux_store_refused_total{reason="guard"}`),
		stale:          c(`pollux_store_refused_total{reason="stale"}`),
		unknown:        c(`pollux_store_refused_total{reason="unknown"}`),
		duplicates:     c("pollux_store_duplicate_entries_total"),
		entryTxns:      h("pollux_store_entry_transactions"),
		commit:         h("pollux_store_commit_duration_seconds"),
		logBytes:       c("pollux_store_log_written_bytes_total"),
		logEntries:     c("pollux_store_log_written_entries_total"),
		logWrite:       h("pollux_store_log_write_duration_seconds"),
		truncationHeld: c("pollux_store_log_truncations_held_total"),
		applied:        c("pollux_store_applied_entries_total"),
		apply:          h("pollux_store_apply_duration_seconds"),
		write:          h("pollux_store_apply_write_duration_seconds"),
		samplesRead:    c("pollux_store_samples_read_total"),
		watchClosed:    c("pollux_store_watches_dropped_total"),
		watchChanges:   c("pollux_store_watch_changes_total"),
		blobsWritten:   c("pollux_store_blobs_written_total"),
		blobsDeleted:   c("pollux_store_blobs_deleted_total"),
		blobsLost:      c("pollux_store_blobs_damaged_total"),
	}
}

// gauges registers what is read when the metrics are, and returns what takes them back.
func (s *Store) gauges() func() {
	all := map[string]func() float64{
		"pollux_store_applied_index": func() float64 { return float64(s.AppliedIndex()) },
		"pollux_store_revision":      func() float64 { return float64(s.Revision()) },
		"pollux_store_durable_index": func() float64 { return float64(s.durable.Load()) },
		"pollux_store_sample_cursor": func() float64 { return float64(s.SampleCursor()) },
		"pollux_store_in_flight_bytes": func() float64 {
			return float64(s.batcher.stats().bytes)
		},
		"pollux_store_in_flight_limit_bytes": func() float64 {
			return float64(s.batcher.stats().limit)
		},
		"pollux_store_proposals_in_flight": func() float64 { return float64(s.batcher.stats().proposals) },
		"pollux_store_watches":             func() float64 { return float64(s.hub.count()) },
		"pollux_store_log_entries": func() float64 {
			first, last := s.log.first.Load(), s.log.last.Load()
			if first == 0 {
				return 0
			}
			return float64(last - first + 1)
		},
		"pollux_store_log_bytes":         func() float64 { return float64(s.LogSize()) },
		"pollux_store_log_settled_bytes": func() float64 { return float64(s.LogBytes()) },
		`pollux_store_disk_bytes{database="log"}`: func() float64 {
			return s.diskBytes(true)
		},
		`pollux_store_disk_bytes{database="state"}`: func() float64 {
			return s.diskBytes(false)
		},
	}
	for name, f := range all {
		s.o.Metrics.UnregisterMetric(name)
		s.o.Metrics.NewGauge(name, f)
	}
	return func() {
		for name := range all {
			s.o.Metrics.UnregisterMetric(name)
		}
	}
}

func (s *Store) diskBytes(log bool) float64 {
	st, err := s.acquireBehind()
	if err != nil {
		return 0
	}
	defer st.release()
	if log {
		return float64(s.log.db.Metrics().DiskSpaceUsage())
	}
	return float64(st.db.Metrics().DiskSpaceUsage())
}
