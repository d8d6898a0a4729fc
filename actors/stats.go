package actors

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Reasons for what was refused or dropped.
type dropReason int

const (
	dropShardFull dropReason = iota
	dropTwinFull
	dropQueueFull
	dropLease
	dropGuard
	dropBusy
	dropPanic
	dropTrap
	dropStopped
	dropTimeout
	dropRefused
	dropFault
	dropInvalid
	dropSamples
	dropLog
	dropCheckpoint
	dropNoTwin
	dropBacklog
	dropWatcher
	dropTraceLimit
	dropInbox
	dropInboxFull
	dropRelease
	dropLater
	dropNotice
	dropAsking
	dropQuota
	dropRefusalLine
	dropOutgoing
	dropJournal
	dropPriming
	dropReadings
	dropForeign
	drops
)

var dropNames = [drops]string{"shard_full", "twin_full", "queue_full", "no_lease", "stale_owner", "store_busy", "twin_panic",
	"driver_trap", "driver_stopped", "driver_timeout", "driver_refused", "driver_faulty", "invalid", "samples", "log_lines", "checkpoint_refused",
	"no_twin", "frame_backlog", "watcher_slow", "trace_limit", "inbox", "inbox_full", "release_given_up", "frame_later", "subscriber_slow", "twin_calls_waiting", "over_quota", "refusal_line", "route", "journal", "detector_past", "detector_readings", "topic_of_other_project"}

// Stats of an engine. Counters count since its start.
type Stats struct {
	// Quarantined twins of the cluster: their drivers went on failing.
	Quarantined int
	// Active twins are in memory; Connected and Faulty count passive ones, too. Queued commands wait or run.
	Active, Connected, Faulty, Queued int64
	// CheckpointInterval is the present interval of written-behind values.
	CheckpointInterval time.Duration
	Watchers, Traces   int
	// Commands by outcome: done, rejected, timed_out, unknown, queued.
	Commands map[string]uint64
	// Waiting frames found no room at their twins, or no owner.
	Waiting int
	// Dropped or refused, by reason; twin_full and frame_later count each time that one came again.
	Dropped map[string]uint64
	// DriverCalls made, and how long they took in all.
	DriverCalls   uint64
	DriverTime    time.Duration
	Checkpoints   uint64
	Events        uint64
	LogLines      uint64
	ActiveDrivers int
}

type counters struct {
	active, queued                        atomic.Int64
	connected, faulty                     atomic.Int64
	checkpoints, events, logLines, nCalls atomic.Uint64
	notices                               atomic.Uint64
	derived                               atomic.Uint64 // computations of properties
	callTime                              atomic.Int64
	dropped                               [drops]atomic.Uint64
	outcomes                              [6]atomic.Uint64
	mqtt, webhook                         *transport.Traffic // of twins without a connection of their own
	callSeconds                           *metrics.Histogram
	set                                   *metrics.Set
	// bySlot is what the twins of a slot, active or not, contribute to connected and faulty.
	slots  sync.Mutex
	bySlot [cluster.SlotSpace]slotCount
}

// slotCount is what the twins of a slot contribute. It counts while the slot is this node's, and is remembered for the
// case that the slot comes back as it was.
type slotCount struct {
	since             uint64
	connected, faulty int32
	shown             bool
}

func (c *counters) drop(r dropReason) { c.dropped[r].Add(1) }
func (c *counters) event()            { c.events.Add(1) }

// filtered counts values that a model did not take as they came.
func (c *counters) filtered(why string, n int) {
	c.set.GetOrCreateCounter(fmt.Sprintf("pollux_model_filtered_total{why=%q}", why)).Add(n)
}

// overuse counts what a driver was refused because of a quota.
func (c *counters) overuse(driver string, q drivers.Quota, n int) {
	c.dropped[dropQuota].Add(uint64(n))
	c.set.GetOrCreateCounter(fmt.Sprintf("pollux_driver_over_quota_total{driver=%q,quota=%q}", driver, q)).Add(n)
}

func (c *counters) outcome(o pb.Outcome) {
	if o >= 0 && int(o) < len(c.outcomes) {
		c.outcomes[o].Add(1)
	}
}

func (c *counters) called(took time.Duration) {
	c.nCalls.Add(1)
	c.callTime.Add(int64(took))
	if c.callSeconds != nil {
		c.callSeconds.Update(took.Seconds())
	}
}

// hide takes back what the twins of slots that are let go contributed: they count where they live now.
func (c *counters) hide(slots []cluster.Slot) {
	c.slots.Lock()
	defer c.slots.Unlock()
	for _, s := range slots {
		if x := &c.bySlot[s]; x.shown {
			x.shown = false
			c.connected.Add(-int64(x.connected))
			c.faulty.Add(-int64(x.faulty))
		}
	}
}

// show counts a slot's twins from now on. What was known of them counts again where the ownership is still the same.
func (c *counters) show(s cluster.Slot, since uint64) {
	c.slots.Lock()
	defer c.slots.Unlock()
	x := &c.bySlot[s]
	if x.since != since {
		*x = slotCount{since: since}
	}
	x.shown = true
	c.connected.Add(int64(x.connected))
	c.faulty.Add(int64(x.faulty))
}

var outcomeNames = [6]string{"", "done", "rejected", "timed_out", "unknown", "queued"}

func (c *counters) register(e *Engine, set *metrics.Set) {
	c.set = set
	c.mqtt, c.webhook = transport.TrafficOf(set, drivers.SchemeMQTT), transport.TrafficOf(set, drivers.SchemeWebhook)
	gauge := func(name string, f func() float64) { set.GetOrCreateGauge(name, f) }
	gauge("pollux_actors_active", func() float64 { return float64(c.active.Load()) })
	gauge("pollux_twins_connected", func() float64 { return float64(c.connected.Load()) })
	gauge("pollux_twins_faulty", func() float64 { return float64(c.faulty.Load()) })
	gauge("pollux_twins_quarantined", func() float64 { return float64(e.quarantined()) })
	gauge("pollux_commands_queued", func() float64 { return float64(c.queued.Load()) })
	gauge("pollux_checkpoint_interval_seconds", func() float64 { return float64(e.interval.get()) / 1000 })
	gauge("pollux_checkpoints_total", func() float64 { return float64(c.checkpoints.Load()) })
	gauge("pollux_twin_events_total", func() float64 { return float64(c.events.Load()) })
	gauge("pollux_derived_evaluations_total", func() float64 { return float64(c.derived.Load()) })
	gauge("pollux_notices_total", func() float64 { return float64(c.notices.Load()) })
	gauge("pollux_frames_waiting", func() float64 { return float64(e.backlog.count.Load()) })
	set.RegisterMetricsWriter(func(w io.Writer) { e.outbox.writeMetrics(w) })
	gauge("pollux_watchers", func() float64 { return float64(e.hub.watchers()) })
	for i, name := range dropNames {
		gauge(fmt.Sprintf("pollux_actors_dropped_total{reason=%q}", name), func() float64 { return float64(c.dropped[i].Load()) })
	}
	for i, name := range outcomeNames[1:] {
		gauge(fmt.Sprintf("pollux_commands_total{outcome=%q}", name), func() float64 { return float64(c.outcomes[i+1].Load()) })
	}
	c.callSeconds = set.GetOrCreateHistogram("pollux_driver_call_seconds")
}

// quarantined counts the twins in quarantine, on whichever node.
func (e *Engine) quarantined() int {
	n, _ := e.registry.Quarantined("", "") // it shows again when the store can be read
	return n
}

// Stats gives the present figures. It does not block.
func (e *Engine) Stats() Stats {
	c := &e.stats
	s := Stats{
		Active: c.active.Load(), Connected: c.connected.Load(), Faulty: c.faulty.Load(), Queued: c.queued.Load(),
		CheckpointInterval: time.Duration(e.interval.get()) * time.Millisecond,
		Waiting:            int(e.backlog.count.Load()),
		Watchers:           e.hub.watchers(), Traces: int(e.tracers.count.Load()),
		Commands: map[string]uint64{}, Dropped: map[string]uint64{},
		DriverCalls: c.nCalls.Load(), DriverTime: time.Duration(c.callTime.Load()),
		Checkpoints: c.checkpoints.Load(), Events: c.events.Load(), LogLines: c.logLines.Load(),
		ActiveDrivers: e.runners.count(), Quarantined: e.quarantined(),
	}
	for i, name := range outcomeNames[1:] {
		s.Commands[name] = c.outcomes[i+1].Load()
	}
	for i, name := range dropNames {
		s.Dropped[name] = c.dropped[i].Load()
	}
	return s
}

const (
	countedConnected = 1 << iota
	countedFaulty
)

// count brings what this twin contributes to the counts up to date.
func (t *twin) count() { t.contribute(t.contribution()) }

func (t *twin) contribution() (now uint8) {
	if pb.Connection(t.st.Connection) == pb.Connection_CONNECTION_CONNECTED {
		now |= countedConnected
	}
	if t.st.Fault != "" {
		now |= countedFaulty
	}
	return now
}

func (t *twin) contribute(now uint8) {
	was := t.counted
	t.counted = now
	if now == was {
		return
	}
	connected := int32(now&countedConnected) - int32(was&countedConnected)
	faulty := int32(now&countedFaulty)/countedFaulty - int32(was&countedFaulty)/countedFaulty
	c := &t.e.stats
	c.slots.Lock()
	defer c.slots.Unlock()
	x := &c.bySlot[t.en.slot]
	if t.own == nil || x.since != t.own.Since {
		return
	}
	x.connected += connected
	x.faulty += faulty
	if x.shown {
		c.connected.Add(int64(connected))
		c.faulty.Add(int64(faulty))
	}
}

// recount ends what this life of the twin contributed: the next one begins with what the record says.
func (t *twin) recount() { t.contribute(t.recorded) }

// interval is how long values that were written behind may wait for their checkpoint: it grows while the store has no
// room, and shrinks again when it has.
type interval struct {
	ms        atomic.Int64
	busySince atomic.Bool
	low, high int64
}

func (i *interval) init(low, high time.Duration) {
	i.low, i.high = low.Milliseconds(), high.Milliseconds()
	i.ms.Store(i.low)
}

func (i *interval) get() int64 { return i.ms.Load() }
func (i *interval) busy()      { i.busySince.Store(true) }

// relax is called once a second: the interval grows by half while the store has no room, and is halved when it has.
func (i *interval) relax() {
	ms := i.ms.Load()
	if i.busySince.Swap(false) {
		i.ms.Store(min(ms*3/2, i.high))
	} else {
		i.ms.Store(max(ms/2, i.low))
	}
}
