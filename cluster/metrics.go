package cluster

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
)

// showMetrics shows the node's numbers in the set, if there is one, until the function that it returns is called.
func (n *Node) showMetrics(set *metrics.Set) (hide func()) {
	if set == nil {
		return func() {}
	}
	gauges := map[string]func() float64{
		"pollux_cluster_lease_seconds":       func() float64 { return max(0, n.LeaseLeft().Seconds()) },
		"pollux_cluster_slots":               func() float64 { return n.locked(func() int { return n.own.count }) },
		"pollux_cluster_slots_releasing":     func() float64 { return n.locked(func() int { return n.outstanding.count + n.released.count }) },
		"pollux_cluster_slots_misplaced":     func() float64 { return n.locked(func() int { return n.misplaced.count }) },
		"pollux_cluster_slots_without_owner": func() float64 { return n.locked(func() int { return n.orphans.count }) },
		"pollux_cluster_members":             func() float64 { return n.locked(func() int { return len(n.ids) }) },
		"pollux_cluster_slot_moves_total":    func() float64 { return n.locked(func() int { return int(n.recent.total) }) },
		"pollux_cluster_selectors_unmet":     func() float64 { return n.locked(n.countUnmet) },
		"pollux_router_parked":               func() float64 { return n.locked(func() int { return n.park.count }) },
		"pollux_router_parked_total":         func() float64 { return float64(n.count.parked.Load()) },
		"pollux_router_retried_total":        func() float64 { return float64(n.count.retried.Load()) },
		"pollux_router_forwarded_total":      func() float64 { return float64(n.count.forwarded.Load()) },
		"pollux_router_received_total":       func() float64 { return float64(n.count.received.Load()) },
	}
	for why, name := range refusalNames {
		gauges[fmt.Sprintf("pollux_router_refused_total{reason=%q}", name)] = func() float64 { return float64(n.count.refused[why].Load()) }
	}
	for name, f := range gauges {
		set.GetOrCreateGauge(name, f)
	}
	return func() {
		for name := range gauges {
			set.UnregisterMetric(name)
		}
	}
}

func (n *Node) locked(f func() int) float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return float64(f())
}
