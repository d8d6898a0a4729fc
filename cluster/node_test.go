package cluster

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// tables is a replicated store of one node in memory, with the semantics of Records.
type tables struct {
	mu       sync.Mutex
	values   map[string][]byte // table "/" key
	watchers map[string][]*follower
	fail     error
	versions map[string]uint64
	reads    atomic.Int64
}

func newTables() *tables {
	return &tables{values: map[string][]byte{}, watchers: map[string][]*follower{}, versions: map[string]uint64{}}
}

func (s *tables) Get(table, key string) ([]byte, error) {
	s.reads.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.values[table+"/"+key], nil
}

func (s *tables) Version(table string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.versions[table]
}

func (s *tables) Scan(table string) ([]Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.scan(table), nil
}

func (s *tables) scan(table string) []Record {
	var all []Record
	for k, v := range s.values {
		if key, ok := strings.CutPrefix(k, table+"/"); ok {
			all = append(all, Record{key, v})
		}
	}
	slices.SortFunc(all, func(a, b Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

func (s *tables) Commit(t Txn, done func(error)) { done(s.commit(t)) }

func (s *tables) commit(t Txn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	for _, g := range t.Guards {
		is, there := s.values[g.Table+"/"+g.Key]
		if there != (g.Value != nil) || string(is) != string(g.Value) {
			return ErrConflict
		}
	}
	changed := map[string][]Record{}
	for _, w := range t.Writes {
		if w.Value == nil {
			delete(s.values, w.Table+"/"+w.Key)
		} else {
			s.values[w.Table+"/"+w.Key] = w.Value
		}
		changed[w.Table] = append(changed[w.Table], w.Record)
		s.versions[w.Table]++
	}
	for table, c := range changed {
		if !t.Quiet {
			for _, w := range s.watchers[table] {
				w.add(c)
			}
		}
	}
	return nil
}

func (s *tables) Watch(table string, fn func([]Record)) (stop func()) {
	o := &follower{wake: make(chan struct{}, 1)}
	s.mu.Lock()
	all := s.scan(table)
	s.watchers[table] = append(s.watchers[table], o)
	s.mu.Unlock()
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if all != nil {
			fn(all)
		}
		fn(nil)
		for {
			select {
			case <-end:
				return
			case <-o.wake:
				for _, c := range o.take() {
					fn(c)
				}
			}
		}
	}()
	return func() { close(end); <-done }
}

// follower holds changes until they are taken: who commits never waits for who watches.
type follower struct {
	mu    sync.Mutex
	queue [][]Record
	wake  chan struct{}
}

func (o *follower) add(c []Record) {
	o.mu.Lock()
	o.queue = append(o.queue, c)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *follower) take() [][]Record {
	o.mu.Lock()
	defer o.mu.Unlock()
	queue := o.queue
	o.queue = nil
	return queue
}

func (s *tables) break_(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

type manualClock struct {
	mu  sync.Mutex
	now time.Duration
}

func (c *manualClock) Now() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *manualClock) AfterFunc(d time.Duration, f func()) func() bool {
	return time.AfterFunc(d, f).Stop
}

func (c *manualClock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now += d
}

// holder is a handler that answers with its name and remembers its slots.
type holder struct {
	mu    sync.Mutex
	slots map[Slot]Ownership
	calls int
}

func (h *holder) Handle(_ *Envelope, done func(Reply)) {
	h.mu.Lock()
	h.calls++
	h.mu.Unlock()
	done(Reply{})
}
func (h *holder) Gained(owned []Ownership) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, o := range owned {
		h.slots[o.Slot] = o
	}
}
func (h *holder) Release(_ []Slot, done func()) { done() }
func (h *holder) Lost(slots []Slot) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range slots {
		delete(h.slots, s)
	}
}
func (h *holder) count() int { h.mu.Lock(); defer h.mu.Unlock(); return len(h.slots) }

func start(t *testing.T, s *tables, clock Clock, inc uint64, superseded func()) (*Node, *holder, error) {
	t.Helper()
	h := &holder{slots: map[Slot]Ownership{}}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	n, err := Start(ctx, Options{Self: Member{ID: "n1", Incarnation: inc, Name: "one"}, Records: s, Handler: h, Clock: clock,
		Renew: 2 * time.Millisecond, Logger: slog.New(slog.DiscardHandler), Superseded: func(error) { superseded() }})
	if err == nil {
		t.Cleanup(func() { n.Close() })
	}
	return n, h, err
}

func TestStartOwnsEverySlot(t *testing.T) {
	s := newTables()
	n, h, err := start(t, s, &manualClock{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	if h.count() != SlotCount {
		t.Fatalf("the handler has %d slots", h.count())
	}
	own, ok := n.Owned(SlotOf("default/lamp1"))
	if !ok || own.Since != 1 {
		t.Fatalf("owned %+v, %v", own, ok)
	}
	if v, _ := s.Get(own.Table, own.Key); string(v) != string(own.Value) {
		t.Error("the ownership is not what the record says: its guard would fail")
	}
	if w, ok := n.Where("default/lamp1"); !ok || w.Node != "n1" || w.Incarnation != 1 {
		t.Errorf("where: %+v", w)
	}
}

func TestRestartTakesTheSlotsOver(t *testing.T) {
	s := newTables()
	first, _, err := start(t, s, &manualClock{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := first.Owned(7)
	first.Close()
	second, h, err := start(t, s, &manualClock{}, 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	after, ok := second.Owned(7)
	if !ok || h.count() != SlotCount || after.Since != before.Since+1 {
		t.Fatalf("after restart %+v, %d slots", after, h.count())
	}
	stale := TableRecord{before.Table, Record{before.Key, before.Value}}
	if err := s.commit(Txn{Guards: []TableRecord{stale}}); !errors.Is(err, ErrConflict) {
		t.Errorf("the old incarnation's guard still holds: %v", err)
	}
	if _, _, err := start(t, s, &manualClock{}, 2, nil); err == nil || !strings.Contains(err.Error(), "copy of a data directory") {
		t.Errorf("the same incarnation twice: %v", err)
	}
}

func TestSupersededIncarnationLosesItsLease(t *testing.T) {
	s := newTables()
	told := make(chan struct{})
	old, h, err := start(t, s, &manualClock{}, 1, func() { close(told) })
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := start(t, s, &manualClock{}, 2, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case <-told:
	case <-time.After(30 * time.Second):
		t.Fatal("never told")
	}
	if old.LeaseValid() {
		t.Error("it still has a lease")
	}
	for end := time.Now().Add(30 * time.Second); h.count() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it still has %d slots", h.count())
		}
	}
}

func TestLeaseEndsWithoutGrants(t *testing.T) {
	s, clock := newTables(), &manualClock{}
	n, h, err := start(t, s, clock, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	call := func() error {
		reply := make(chan Reply, 1)
		n.Call(&Envelope{Target: Target{"twin", "default/lamp1"}}, func(r Reply) { reply <- r })
		return (<-reply).Err
	}
	for end := time.Now().Add(30 * time.Second); call() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the twin's slot is not this node's: %v", call())
		}
	}
	s.break_(errors.New("no quorum"))
	clock.advance(DefaultDuration + time.Millisecond)
	if n.LeaseValid() || n.LeaseLeft() > 0 {
		t.Error("the lease outlives its duration")
	}
	calls := h.calls
	if err := call(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a call without lease: %v", err)
	}
	if h.calls != calls || n.Refused()["lease"] != 1 {
		t.Errorf("it ran, or was not counted: %v", n.Refused())
	}
	s.break_(nil)
	for end := time.Now().Add(30 * time.Second); !n.LeaseValid(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no new grant")
		}
	}
	if err := call(); err != nil {
		t.Errorf("after the new grant: %v", err)
	}
}

func TestRouterRefusesBeforeRunning(t *testing.T) {
	n, h, err := start(t, newTables(), &manualClock{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	deep := make([]string, maxChain)
	for _, test := range []struct {
		env  Envelope
		want error
	}{
		{Envelope{Chain: []string{"twin:default/a", "twin:default/b"}}, ErrCycle},
		{Envelope{Chain: deep}, ErrCycle},
		{Envelope{Deadline: time.Now().Add(-time.Second)}, ErrDeadline},
	} {
		test.env.Target = Target{"twin", "default/a"}
		var got error
		n.Call(&test.env, func(r Reply) { got = r.Err })
		if !errors.Is(got, test.want) {
			t.Errorf("got %v, want %v", got, test.want)
		}
	}
	if h.calls != 0 {
		t.Errorf("%d refused calls ran", h.calls)
	}
}

func TestRecordsDecodeOnlyWhatIsWhole(t *testing.T) {
	full := slotRecord{"n1", 3, 9}.encode()
	got, err := decodeSlot(full)
	if err != nil || got != (slotRecord{"n1", 3, 9}) {
		t.Fatalf("%+v, %v", got, err)
	}
	for cut := range full {
		if _, err := decodeSlot(full[:cut]); err == nil {
			t.Errorf("a record cut at %d decodes", cut)
		}
	}
	m := Member{ID: "n1", Name: "one", State: StateDraining, Incarnation: 4, Revival: 1, Weight: 2, AvailabilityZone: "z", Site: "s",
		Labels: map[string]string{"a": "b", "c": ""}, Peer: "h:1", Gossip: "h:2", HTTP: "http://h", MQTT: "h:3", Version: "v", wish: wishDrain, boot: 77}
	whole := m.encode()
	if got, err := DecodeMember("n1", whole); err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%+v, %v", got, err)
	}
	for cut := range whole {
		if _, err := DecodeMember("n1", whole[:cut]); err == nil {
			t.Errorf("a member's record cut at %d decodes", cut)
		}
	}
}

// Records of the first version are on disks.
func TestMembersOfVersion1AreRead(t *testing.T) {
	old := append([]byte{1, 4, 2, 3}, "one\x01z"...)
	want := Member{ID: "n1", Name: "one", State: StateActive, Incarnation: 4, Weight: 2, AvailabilityZone: "z"}
	if got, err := DecodeMember("n1", old); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
}

// A call to an actor of this node takes no lock and no memory here.
func TestLocalCallsDoNotAllocate(t *testing.T) {
	n, _, err := start(t, newTables(), &BootClock{}, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	env := &Envelope{Target: Target{"twin", "default/lamp1"}, Deadline: time.Now().Add(time.Hour)}
	done := func(r Reply) {
		if r.Err != nil {
			t.Error(r.Err)
		}
	}
	n.mu.Lock() // nothing of this may wait for it
	defer n.mu.Unlock()
	if got := testing.AllocsPerRun(1000, func() { n.Call(env, done) }); got > 0.1 {
		t.Errorf("%v allocations", got)
	}
	if got := testing.AllocsPerRun(1000, func() { n.LeaseValid() }); got > 0 {
		t.Errorf("LeaseValid: %v allocations", got)
	}
}

// What a newer version appended to a member's record stays there, and a member whose record cannot be read at all is left
// alone: neither dead nor robbed.
func TestNewerMembersAreLeftAlone(t *testing.T) {
	s, clock := newTables(), &manualClock{now: time.Hour}
	appended := append((&Member{Name: "a", State: StateActive, Incarnation: 1, Weight: 1}).encode(), "more"...)
	if m, err := DecodeMember("a", appended); err != nil || string(m.encode()) != string(appended) {
		t.Errorf("%+v, %v", m, err)
	}
	newer := []byte{99, 1, 2, 3}
	rec := slotRecord{"n9", 1, 4}.encode()
	s.values["member/n9"], s.values["slot/0007"] = newer, rec
	n, h, err := start(t, s, clock, 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		clock.advance(2 * time.Second) // its silence
		for end := time.Now().Add(30 * time.Second); n.LeaseLeft() < 3*time.Second && time.Now().Before(end); time.Sleep(time.Millisecond) {
		}
		time.Sleep(2 * pollEvery)
	}
	if h.count() != SlotCount-1 {
		t.Errorf("%d slots", h.count())
	}
	if m, _ := s.Get(TableMember, "n9"); string(m) != string(newer) {
		t.Errorf("its record is %x now", m)
	}
	if v, _ := s.Get(TableSlot, "0007"); string(v) != string(rec) {
		t.Errorf("its slot's record is %x now", v)
	}
}

func TestMetricsShowWhatIsRefused(t *testing.T) {
	set := metrics.NewSet()
	n, err := Start(t.Context(), Options{Self: Member{ID: "n1", Incarnation: 1}, Records: newTables(),
		Handler: &holder{slots: map[Slot]Ownership{}}, Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	n.Call(&Envelope{Target: Target{"twin", "default/a"}, Deadline: time.Now().Add(-time.Second)}, func(Reply) {})
	var out strings.Builder
	set.WritePrometheus(&out)
	for _, want := range []string{`pollux_router_refused_total{reason="deadline"} 1`, "pollux_cluster_slots 16384", "pollux_cluster_members 1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in\n%s", want, out.String())
		}
	}
	if err := n.Close(); err != nil || len(set.ListMetricNames()) > 0 {
		t.Errorf("after the end: %v, %v", set.ListMetricNames(), err)
	}
}

func BenchmarkLocalCall(b *testing.B) {
	h := &holder{slots: map[Slot]Ownership{}}
	n, err := Start(b.Context(), Options{Self: Member{ID: "n1", Incarnation: 1}, Records: newTables(), Handler: h})
	if err != nil {
		b.Fatal(err)
	}
	defer n.Close()
	env := &Envelope{Target: Target{"twin", "default/lamp1"}, Deadline: time.Now().Add(time.Hour)}
	b.ReportAllocs()
	for b.Loop() {
		n.Call(env, func(Reply) {})
	}
}

func BenchmarkLeaseValid(b *testing.B) {
	n := newNode(Options{Clock: &BootClock{}})
	n.until.Store(1 << 62)
	for b.Loop() {
		n.LeaseValid()
	}
}
