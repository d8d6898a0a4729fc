package simulation_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/simulation"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// steady is a scenario of three twins that say the same for ever.
const steady = "name: sim-{n}\ncount: 3\nevery: 1s\nvalues: {level: {keys: {0s: 1}}}"

// bench is a simulation whose messages have their results when the test says so.
type bench struct {
	t     *testing.T
	store *storage.Store
	host  *simulation.Host
	o     simulation.Options // of the host
	m     *pb.Simulation

	mu   sync.Mutex
	open []func(answer bool)
	had  map[string]bool
}

func newBench(t *testing.T, edit ...func(*bench, *simulation.Options)) *bench {
	one, err := storagetest.Open("data", vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = one.Close() })
	b := &bench{t: t, store: one.Store, had: map[string]bool{}, m: &pb.Simulation{Id: "default/s", Scenario: steady, BeginTime: timestamppb.New(time.Unix(1, 0))}}
	own := &cluster.Ownership{Table: "own", Key: "s", Value: []byte("me")}
	b.put(storage.Write{Table: "own", Key: "s", Value: own.Value}, storage.Write{Table: simulation.TableStates, Key: b.m.Id, Value: []byte{}})
	o := simulation.Options{Store: b.store, Owned: func(cluster.Slot) *cluster.Ownership { return own }, Node: "n1", Logger: slog.New(slog.DiscardHandler),
		ModelOf: func(string) (string, bool) { return "", true },
		Metrics: metrics.NewSet(), Ingest: func(m *simulation.Message, done func(simulation.Result)) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.open = append(b.open, func(answer bool) {
				key, x := m.Twin+m.ID, simulation.Result{Outcome: pb.IngestOutcome_INGEST_OUTCOME_STORED}
				if b.had[key] {
					x.Outcome = pb.IngestOutcome_INGEST_OUTCOME_DUPLICATE
				}
				b.had[key] = true
				if answer {
					done(x)
				}
			})
		}}
	for _, f := range edit {
		f(b, &o)
	}
	b.o, b.host = o, simulation.New(o)
	t.Cleanup(func() { b.host.Close() })
	b.host.Start()
	b.pause(false)
	return b
}

func (b *bench) put(all ...storage.Write) {
	b.t.Helper()
	if _, err := b.store.Commit(context.Background(), &storage.Txn{Writes: all}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) pause(yes bool) {
	b.t.Helper()
	b.m.Paused = yes
	value, err := proto.Marshal(b.m)
	if err != nil {
		b.t.Fatal(err)
	}
	b.put(storage.Write{Table: simulation.TableSimulations, Key: b.m.Id, Value: value})
	b.host.Wake()
}

// waiting is how many messages wait for their results.
func (b *bench) waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open)
}

// take has the messages that wait be stored, or known; answer says whether the simulation is told.
func (b *bench) take(answer bool) {
	b.mu.Lock()
	open := b.open
	b.open = nil
	b.mu.Unlock()
	for _, done := range open {
		done(answer)
	}
}

func (b *bench) state() *pb.SimulationState {
	b.t.Helper()
	rec, _, err := b.store.Get(simulation.TableStates, b.m.Id)
	s := &pb.SimulationState{}
	if err == nil {
		err = proto.Unmarshal(rec.Value, s)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *bench) until(what string, yes func() bool) {
	b.t.Helper()
	for end := time.Now().Add(time.Minute); !yes(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s: not within a minute; it is at %v", what, b.state())
		}
	}
}

// A simulation that is paused in the middle of a step counts what becomes of it, if that is soon known.
func TestPauseFinishesTheStep(t *testing.T) {
	b := newBench(t)
	b.until("a step has begun", func() bool { return b.waiting() == 3 })
	b.pause(true)
	b.take(true)
	b.until("the step is counted", func() bool { return b.state().Steps == 1 })
	if s := b.state(); s.Sent != 3 || s.Stored != 3 || s.Duplicate+s.Retried != 0 {
		t.Errorf("it stands at %v", s)
	}
	b.pause(false)
	b.until("the next step has begun", func() bool { return b.waiting() == 3 })
	b.pause(true)
	b.take(true)
	b.until("it is counted, too", func() bool { return b.state().Steps == 2 })
	if s := b.state(); s.Sent != 6 || s.Stored != 6 || s.Duplicate != 0 {
		t.Errorf("it stands at %v", s)
	}
}

// A step that is cut short counts as not made: it is made again, and what its twins had of it is no second message.
func TestStepThatIsCutShort(t *testing.T) {
	b := newBench(t)
	b.until("a step has begun", func() bool { return b.waiting() == 3 })
	b.take(false)
	b.pause(true)
	b.pause(false)
	b.until("it is made again", func() bool { return b.waiting() == 3 })
	if s := b.state(); s.Steps != 0 || s.Sent != 0 {
		t.Errorf("it stood at %v", s)
	}
	b.pause(true)
	b.take(true)
	b.until("it is counted", func() bool { return b.state().Steps == 1 })
	if s := b.state(); s.Sent != 3 || s.Duplicate != 3 || s.Stored != 0 {
		t.Errorf("it stands at %v", s)
	}
}

// What a crash has said again is no more than twins know again, however fast it is played.
func TestLittleIsSaidAgain(t *testing.T) {
	var mu sync.Mutex
	most, last := 0, 0
	b := newBench(t, func(b *bench, o *simulation.Options) {
		b.m.Speed = proto.Float64(0)
		o.Ingest = func(m *simulation.Message, done func(simulation.Result)) {
			at, err := strconv.Atoi(m.ID[strings.LastIndex(m.ID, "/")+1:])
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			most, last = max(most, at-int(b.state().Steps)), at
			mu.Unlock()
			done(simulation.Result{Outcome: pb.IngestOutcome_INGEST_OUTCOME_STORED})
		}
	})
	b.until("a thousand steps are made", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return last >= 1000
	})
	b.pause(true)
	mu.Lock()
	defer mu.Unlock()
	if most >= 256 {
		t.Errorf("a crash would have had %d steps made again", most)
	}
}

// Twins that cannot be made now are made later, and what was in the way shows until then.
func TestTwinsAreMadeAgain(t *testing.T) {
	var tries atomic.Int32
	b := newBench(t, func(b *bench, o *simulation.Options) {
		b.m.Model = "default/meter"
		o.Make = func(_ context.Context, id, _ string) error {
			if tries.Add(1) == 1 {
				return errors.New("nobody leads")
			}
			return nil
		}
	})
	b.until("it says what is in the way", func() bool { return strings.HasSuffix(b.state().Error, "nobody leads") })
	b.until("it plays", func() bool { return b.waiting() == 3 })
	b.take(true)
	b.pause(true)
	b.until("the step is counted", func() bool { return b.state().Steps == 1 })
	if s := b.state(); s.Error != "" || s.Stored != 3 {
		t.Errorf("it stands at %v", s)
	}
}

// A thing model is read once for all of its twins, each twin has its own, and one that comes later gets its own, too.
func TestEachTwinIsFittedOnce(t *testing.T) {
	var late atomic.Bool
	var mu sync.Mutex
	said, read := map[string]string{}, map[string]int{}
	b := newBench(t, func(b *bench, o *simulation.Options) {
		b.m.Speed = proto.Float64(0)
		o.ModelOf = func(twin string) (string, bool) {
			return map[string]string{"default/sim-1": "m/flat", "default/sim-2": "m/deep", "default/sim-3": "m/deep"}[twin], twin != "default/sim-3" || late.Load()
		}
		o.Thing = func(id string) string {
			mu.Lock()
			defer mu.Unlock()
			read[id]++
			return strings.Replace(`{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"x","properties":{"level":{"type":"number","pollux:path":"PATH"}}}`,
				"PATH", map[string]string{"m/flat": "l", "m/deep": "in.l"}[id], 1)
		}
		o.Ingest = func(m *simulation.Message, done func(simulation.Result)) {
			mu.Lock()
			said[m.Twin] = string(m.Payload)
			mu.Unlock()
			done(simulation.Result{Outcome: pb.IngestOutcome_INGEST_OUTCOME_STORED})
		}
	})
	says := func(third string) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return said["sim-1"] == `{"l":1}` && said["sim-2"] == `{"in":{"l":1}}` && said["sim-3"] == third
		}
	}
	b.until("those that are there say it as their models have it", says(`{"level":1}`))
	late.Store(true)
	b.until("so does the third", says(`{"in":{"l":1}}`))
	b.pause(true)
	mu.Lock()
	defer mu.Unlock()
	if read["m/flat"] != 1 || read["m/deep"] != 1 {
		t.Errorf("read %v", read)
	}
}

// A run that goes on, as with another title or on another node, makes its next step when that is due, and not at once.
func TestNextStepIsNotSooner(t *testing.T) {
	var revision, runs atomic.Uint64
	b := newBench(t, func(b *bench, o *simulation.Options) {
		b.m.Scenario, b.m.Model = strings.Replace(steady, "every: 1s", "every: 1h", 1), "default/meter"
		o.Make = func(context.Context, string, string) error {
			rec, _, err := b.store.Get(simulation.TableStates, b.m.Id)
			revision.Store(rec.Revision)
			runs.Add(1)
			return err
		}
	})
	b.until("the first step has begun", func() bool { return b.waiting() == 3 })
	b.take(true)
	b.until("it is counted", func() bool { return b.state().Steps == 1 })
	b.m.Title = "Another"
	b.pause(false)
	b.until("the next run rests, or steps", func() bool {
		rec, _, err := b.store.Get(simulation.TableStates, b.m.Id)
		return err == nil && runs.Load() == 6 && (rec.Revision > revision.Load() || b.waiting() > 0)
	})
	if n := b.waiting(); n != 0 {
		t.Errorf("it has sent %d messages, an hour too soon", n)
	}
}

// A twin that was deleted and is made anew, with another model, says its values as that has them.
func TestTwinThatIsMadeAnewIsFitted(t *testing.T) {
	var anew, deleted atomic.Bool
	var said atomic.Value
	b := newBench(t, func(b *bench, o *simulation.Options) {
		b.m.Speed, b.m.Scenario = proto.Float64(0), strings.Replace(steady, "count: 3", "count: 1", 1)
		o.ModelOf = func(string) (string, bool) {
			if anew.Load() {
				return "m/anew", true
			}
			return "m/old", !deleted.Load()
		}
		o.Thing = func(id string) string {
			return `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"x","properties":{"level":{"type":"number","pollux:path":"` + id[2:] + `"}}}`
		}
		o.Ingest = func(m *simulation.Message, done func(simulation.Result)) {
			said.Store(string(m.Payload))
			if deleted.Load() && !anew.Load() {
				done(simulation.Result{Outcome: pb.IngestOutcome_INGEST_OUTCOME_REFUSED, Reason: "there is no twin"})
				return
			}
			done(simulation.Result{Outcome: pb.IngestOutcome_INGEST_OUTCOME_STORED})
		}
	})
	b.until("it says it as its model has it", func() bool { return said.Load() == `{"old":1}` })
	deleted.Store(true)
	b.until("it is refused", func() bool { return b.state().Refused > 0 })
	anew.Store(true)
	b.until("it says it as its model has it now", func() bool { return said.Load() == `{"anew":1}` })
}
