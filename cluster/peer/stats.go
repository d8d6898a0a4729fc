package peer

import (
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
)

// Stats is a snapshot for operators.
type Stats struct {
	// Links that stand to other nodes, and Sessions of other nodes here.
	Links, Sessions int
	// InFlight calls wait for an answer, with InFlightBytes.
	InFlight, InFlightBytes int
	// Queued bytes wait to be sent.
	Queued int
	// Nodes by id.
	Nodes map[string]NodeStats
}

// NodeStats is the way to one node.
type NodeStats struct {
	Connected bool
	InFlight  int
	// Error that ended the last link, "" where one stands.
	Error string
}

// counters are the peers' metrics.
type counters struct {
	set                                                   *metrics.Set
	calls, refusedCalls, expired, late, lateReplies       *metrics.Counter
	tooLate, overloaded, unsupported, malformed, stalls   *metrics.Counter
	batchesIn, batchesOut, bytesIn, bytesOut, links, lost *metrics.Counter
	damaged, enrolled, postsLost, shared                  *metrics.Counter
	sessions                                              atomic.Int64
}

// gaugeNames are unregistered at Close, so that a set outlives the peers.
var gaugeNames = []string{"pollux_peer_in_flight", "pollux_peer_queued_bytes", "pollux_peer_sessions"}

func newCounters(p *Peers, set *metrics.Set) *counters {
	c := set.GetOrCreateCounter
	m := &counters{set: set,
		calls:        c("pollux_peer_calls_received_total"),
		refusedCalls: c("pollux_peer_calls_not_sent_total"),
		expired:      c("pollux_peer_calls_expired_total"),
		late:         c(`pollux_peer_late_results_total{side="caller"}`),
		lateReplies:  c(`pollux_peer_late_results_total{side="callee"}`),
		tooLate:      c(`pollux_peer_calls_refused_total{reason="deadline"}`),
		overloaded:   c(`pollux_peer_calls_refused_total{reason="overloaded"}`),
		unsupported:  c(`pollux_peer_calls_refused_total{reason="unsupported"}`),
		malformed:    c("pollux_peer_streams_broken_total"),
		stalls:       c("pollux_peer_stalls_total"),
		batchesIn:    c(`pollux_peer_batches_total{direction="in"}`),
		batchesOut:   c(`pollux_peer_batches_total{direction="out"}`),
		bytesIn:      c(`pollux_peer_bytes_total{direction="in"}`),
		bytesOut:     c(`pollux_peer_bytes_total{direction="out"}`),
		links:        c("pollux_peer_links_up_total"),
		lost:         c("pollux_peer_links_lost_total"),
		damaged:      c("pollux_peer_blobs_damaged_total"),
		postsLost:    c("pollux_peer_posts_lost_total"),
		shared:       c("pollux_peer_shared_results_total"),
		enrolled:     c("pollux_peer_enrolled_total"),
	}
	set.GetOrCreateGauge(gaugeNames[0], func() float64 { return float64(p.Stats().InFlight) })
	set.GetOrCreateGauge(gaugeNames[1], func() float64 { return float64(p.Stats().Queued) })
	set.GetOrCreateGauge(gaugeNames[2], func() float64 { return float64(m.sessions.Load()) })
	return m
}

func (m *counters) unregister() {
	for _, name := range gaugeNames {
		m.set.UnregisterMetric(name)
	}
}

// refused counts connections and requests that were turned away.
func (m *counters) refused(reason string) *metrics.Counter {
	return m.set.GetOrCreateCounter(`pollux_peer_refused_total{reason="` + reason + `"}`)
}

// Stats reads the present state; it does not block for long.
func (p *Peers) Stats() Stats {
	s := Stats{Sessions: int(p.m.sessions.Load()), Nodes: map[string]NodeStats{}}
	for l := range p.allLanes() {
		n := s.Nodes[l.node]
		l.mu.Lock()
		if l.why != nil {
			n.Error = l.why.Error()
		}
		l.mu.Unlock()
		if k := l.cur.Load(); k != nil {
			k.mu.Lock()
			if k.over == nil && k.standing {
				s.Links++
				n.Connected = true
			}
			s.InFlight += k.table.count
			s.InFlightBytes += k.table.bytes
			s.Queued += k.out.bytes
			n.InFlight += k.table.count
			k.mu.Unlock()
		}
		s.Nodes[l.node] = n
	}
	return s
}
