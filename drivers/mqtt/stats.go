package mqtt

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// Stats is a snapshot of the broker's counters since its start.
type Stats struct {
	// Clients are connected here, Connecting not yet authenticated. Sessions and Subscriptions are the whole cluster's, connected or not.
	Clients, Sessions, Connecting int
	Subscriptions                 int
	// In and Out are messages by QoS: from clients, and queued for clients.
	In, Out [3]uint64
	// Published are messages of the node's own.
	Published         uint64
	BytesIn, BytesOut uint64
	Wills             uint64
	// Duplicates of QoS 2 that were not delivered again.
	Duplicates uint64
	// Held counts how often a client was not read because too much of it was unacknowledged, or with the handler.
	Held uint64
	// DroppedQoS0 from clients, which the handler had no room for, DroppedOut to clients, DroppedQueue for full queues, DroppedPeer to other nodes, DroppedWills.
	DroppedQoS0, DroppedOut, DroppedQueue, DroppedPeer, DroppedWills uint64
	// Expired before they could be sent.
	Expired uint64
	// Refused messages and subscriptions, TurnedAway connections, Closed connections, by reason.
	Refused, TurnedAway, Closed map[string]uint64
	// PendingBytes are with the handler.
	PendingBytes  int64
	Retained      int
	RetainedBytes int
	// DoneTwice counts a handler's mistakes, Panics those of the broker.
	DoneTwice, Panics uint64
}

// stats holds the counters, once for the broker and once in the node's set, which may be shared and outlive it.
type stats struct {
	b      *Broker
	set    *metrics.Set
	gauges []string

	in, out                            [3]*counter
	nodeOut, bytesIn, bytesOut         *counter
	wills, duplicates, held            *counter
	dropped0, droppedOut, droppedWills *counter
	droppedQueue, droppedPeer, expired *counter
	doneTwice, panics                  *counter
	refusals, turned, ends             *labelled
}

// counter counts for the broker and for the node's metrics.
type counter struct {
	own    atomic.Uint64
	shared *metrics.Counter
}

func (c *counter) Inc() {
	c.own.Add(1)
	c.shared.Inc()
}

func (c *counter) Add(n int) {
	if n > 0 {
		c.own.Add(uint64(n))
		c.shared.Add(n)
	}
}

// labelled are counters that differ in their reason.
type labelled struct {
	set   *metrics.Set
	name  string
	known sync.Map // reason: *counter
}

func (l *labelled) inc(reason string) {
	c, ok := l.known.Load(reason)
	if !ok {
		c, _ = l.known.LoadOrStore(reason, &counter{
			shared: l.set.GetOrCreateCounter(fmt.Sprintf(`%s{reason=%q}`, l.name, clean(reason))),
		})
	}
	c.(*counter).Inc()
}

func (l *labelled) all() map[string]uint64 {
	m := map[string]uint64{}
	l.known.Range(func(k, v any) bool {
		m[k.(string)] = v.(*counter).own.Load()
		return true
	})
	return m
}

func clean(label string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '_'
	}, label)
}

func newStats(set *metrics.Set, b *Broker) *stats {
	if set == nil {
		set = metrics.NewSet()
	}
	one := func(name string) *counter { return &counter{shared: set.GetOrCreateCounter(name)} }
	s := &stats{
		b: b, set: set,
		nodeOut: one("pollux_mqtt_node_published_total"),
		bytesIn: one("pollux_mqtt_received_bytes_total"), bytesOut: one("pollux_mqtt_sent_bytes_total"),
		wills: one("pollux_mqtt_wills_total"), duplicates: one("pollux_mqtt_duplicates_total"),
		held:         one("pollux_mqtt_held_back_total"),
		dropped0:     one(`pollux_mqtt_dropped_total{what="qos0"}`),
		droppedOut:   one(`pollux_mqtt_dropped_total{what="outbound"}`),
		droppedQueue: one(`pollux_mqtt_dropped_total{what="queue"}`),
		droppedPeer:  one(`pollux_mqtt_dropped_total{what="peer"}`),
		expired:      one("pollux_mqtt_expired_total"),
		droppedWills: one(`pollux_mqtt_dropped_total{what="will"}`),
		doneTwice:    one("pollux_mqtt_done_twice_total"), panics: one("pollux_mqtt_panics_total"),
		refusals: &labelled{set: set, name: "pollux_mqtt_refused_total"},
		turned:   &labelled{set: set, name: "pollux_mqtt_turned_away_total"},
		ends:     &labelled{set: set, name: "pollux_mqtt_closed_total"},
	}
	for q := range 3 {
		s.in[q] = one(fmt.Sprintf(`pollux_mqtt_messages_received_total{qos="%d"}`, q))
		s.out[q] = one(fmt.Sprintf(`pollux_mqtt_messages_sent_total{qos="%d"}`, q))
	}
	s.gauge("pollux_mqtt_clients", func(n *Stats) float64 { return float64(n.Clients) })
	s.gauge("pollux_mqtt_sessions", func(n *Stats) float64 { return float64(n.Sessions) })
	s.gauge("pollux_mqtt_subscriptions", func(n *Stats) float64 { return float64(n.Subscriptions) })
	s.gauge("pollux_mqtt_retained", func(n *Stats) float64 { return float64(n.Retained) })
	s.gauge("pollux_mqtt_pending_bytes", func(n *Stats) float64 { return float64(n.PendingBytes) })
	return s
}

func (s *stats) gauge(name string, f func(*Stats) float64) {
	s.gauges = append(s.gauges, name)
	s.set.GetOrCreateGauge(name, func() float64 {
		n := s.b.levels()
		return f(&n)
	})
}

// close takes the gauges out of the set; a broker that is gone has no levels.
func (s *stats) close() {
	for _, name := range s.gauges {
		s.set.UnregisterMetric(name)
	}
}

func (s *stats) refused(reason string)    { s.refusals.inc(reason) }
func (s *stats) turnedAway(reason string) { s.turned.inc(reason) }
func (s *stats) closed(reason string)     { s.ends.inc(reason) }

// levels are what goes up and down.
func (b *Broker) levels() Stats {
	b.mu.Lock()
	n := Stats{Clients: len(b.sessions)}
	b.mu.Unlock()
	n.Connecting = int(b.handshakes.Load())
	n.Sessions = b.clients.len()
	n.Subscriptions = b.index.len()
	n.PendingBytes = b.pending.Load()
	n.Retained, n.RetainedBytes = b.retained.usage()
	return n
}

// Stats of the broker. It does not block for long.
func (b *Broker) Stats() Stats {
	s, n := b.stats, b.levels()
	for q := range 3 {
		n.In[q], n.Out[q] = s.in[q].own.Load(), s.out[q].own.Load()
	}
	n.Published, n.Wills, n.Duplicates, n.Held = s.nodeOut.own.Load(), s.wills.own.Load(), s.duplicates.own.Load(), s.held.own.Load()
	n.BytesIn, n.BytesOut = s.bytesIn.own.Load(), s.bytesOut.own.Load()
	n.DroppedQoS0, n.DroppedWills = s.dropped0.own.Load(), s.droppedWills.own.Load()
	n.DroppedOut, n.DroppedQueue, n.DroppedPeer = s.droppedOut.own.Load(), s.droppedQueue.own.Load(), s.droppedPeer.own.Load()
	n.Expired = s.expired.own.Load()
	n.Refused, n.TurnedAway, n.Closed = s.refusals.all(), s.turned.all(), s.ends.all()
	n.DoneTwice, n.Panics = s.doneTwice.own.Load(), s.panics.own.Load()
	return n
}

// unsent counts the live messages of a batch that did not get to its node.
func (s *stats) unsent(m *actorv1.MqttBatch) {
	for _, f := range m.Forwards {
		if f.Client == "" {
			s.droppedPeer.Inc()
		}
	}
}
