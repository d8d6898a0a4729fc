package peer

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polluxhq/pollux/cluster"
)

// holding answers nothing until it is told to.
type holding struct {
	mu   sync.Mutex
	held []func(cluster.Reply)
}

func (h *holding) take(_ *cluster.Envelope, done func(cluster.Reply)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = append(h.held, done)
}

func (h *holding) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held)
}

func (h *holding) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, done := range h.held {
		done(cluster.Reply{Message: text("at last")})
	}
	h.held = nil
}

func TestInFlightLimit(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	h := &holding{}
	a := c.open("a", func(o *Options) { o.InFlight = 10 })
	c.open("b", func(o *Options) { o.Calls = h.take })
	var over, ok atomic.Int32
	for range 25 {
		a.Send("b", envelope("x", ""), func(r cluster.Reply) {
			switch {
			case r.Err == nil:
				ok.Add(1)
			case errors.Is(r.Err, cluster.ErrOverloaded):
				over.Add(1)
			default:
				t.Error(r.Err)
			}
		})
	}
	if over.Load() != 15 {
		t.Errorf("%d of 25 refused at a limit of 10", over.Load())
	}
	eventually(t, "10 calls there", func() bool { return h.count() == 10 })
	h.release()
	eventually(t, "10 answers", func() bool { return ok.Load() == 10 })
	eventually(t, "nothing is on its way", func() bool { return a.Stats().InFlight == 0 })
	go func() {
		eventually(t, "one more", func() bool { return h.count() == 1 })
		h.release()
	}()
	if r := ask(t, a, "b", envelope("x", "")); r.Err != nil {
		t.Error("after the answers there is room again:", r.Err)
	}
}

func TestLimitOfBytes(t *testing.T) {
	c := newTestCluster(t)
	h := &holding{}
	a := c.open("a", func(o *Options) { o.InFlightBytes = 1 << 20 })
	c.open("b", func(o *Options) { o.Calls = h.take })
	big := strings.Repeat("x", 300<<10)
	var over atomic.Int32
	for range 5 {
		a.Send("b", envelope("x", big), func(r cluster.Reply) {
			if errors.Is(r.Err, cluster.ErrOverloaded) {
				over.Add(1)
			}
		})
	}
	if over.Load() != 2 {
		t.Errorf("%d of 5 times 300 KiB refused at a limit of 1 MiB", over.Load())
	}
	eventually(t, "3 calls there", func() bool { return h.count() == 3 })
}

// TestCalleeLimit: who gives calls up at their deadline and sends more does not get more running than the limit.
func TestCalleeLimit(t *testing.T) {
	c := newTestCluster(t)
	h := &holding{}
	a := c.open("a", nil)
	c.open("b", func(o *Options) { o.InFlight, o.Calls = 10, h.take })
	var over atomic.Int32
	for range 30 {
		a.Send("b", envelope("x", ""), func(r cluster.Reply) {
			if errors.Is(r.Err, cluster.ErrOverloaded) {
				over.Add(1)
			}
		})
	}
	eventually(t, "20 refused", func() bool { return over.Load() == 20 })
	if h.count() != 10 {
		t.Errorf("%d run at a limit of 10", h.count())
	}
	h.release()
}

func TestLargeMessages(t *testing.T) {
	c := newTestCluster(t)
	a := c.open("a", nil)
	c.open("b", func(o *Options) {
		o.Calls = func(env *cluster.Envelope, done func(cluster.Reply)) {
			if textOf(env.Message) == "give me much" {
				done(cluster.Reply{Message: text(strings.Repeat("y", MaxMessage))})
				return
			}
			done(cluster.Reply{Message: env.Message})
		}
	})
	fits := strings.Repeat("x", MaxMessage-5)
	if r := ask(t, a, "b", envelope("x", fits)); r.Err != nil || textOf(r.Message) != fits {
		t.Errorf("4 MiB: %v", r.Err)
	}
	if r := ask(t, a, "b", envelope("x", fits+"123456")); !errors.Is(r.Err, ErrTooLarge) {
		t.Errorf("more: %v", r.Err)
	}
	if err := a.Post("b", envelope("x", fits+"123456")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more: %v", err)
	}
	// The call ran, and its answer cannot be had.
	if r := ask(t, a, "b", envelope("x", "give me much")); !errors.Is(r.Err, ErrTooLarge) || !errors.Is(r.Err, cluster.ErrUnknown) {
		t.Errorf("a large answer: %v", r.Err)
	}
	if r := ask(t, a, "b", envelope("x", "still there")); r.Err != nil {
		t.Error(r.Err)
	}
}

func TestManyTypes(t *testing.T) {
	c := newTestCluster(t)
	a := c.open("a", nil)
	c.open("b", nil)
	for range 3 {
		for _, m := range []*cluster.Envelope{{Message: wrapperspb.Int64(5)}, {Message: wrapperspb.Bool(true)},
			{Message: structpb.NewStringValue("x")}, {Message: text("y")}} {
			if r := ask(t, a, "b", m); r.Err != nil || fmt.Sprint(r.Message) != fmt.Sprint(m.Message) {
				t.Errorf("%v: %v, %v", m.Message, r.Message, r.Err)
			}
		}
	}
}

func TestDeadlines(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	h := &holding{}
	a := c.open("a", nil)
	b := c.open("b", func(o *Options) {
		o.Calls = func(env *cluster.Envelope, done func(cluster.Reply)) {
			if env.Target.ID == "warm up" {
				echo(env, done)
				return
			}
			h.take(env, done)
		}
	})
	if r := ask(t, a, "b", envelope("warm up", "")); r.Err != nil {
		t.Fatal(r.Err)
	}
	env := envelope("x", "")
	env.Deadline = time.Now().Add(200 * time.Millisecond)
	began := time.Now()
	r := ask(t, a, "b", env)
	if took := time.Since(began); !errors.Is(r.Err, cluster.ErrUnknown) || took < 200*time.Millisecond || took > patience/2 {
		t.Errorf("after %v: %v", took, r.Err)
	}
	eventually(t, "nothing is on its way", func() bool { return a.Stats().InFlight == 0 })
	eventually(t, "the call there", func() bool { return h.count() == 1 })
	h.release()
	eventually(t, "the late answer counted", func() bool { return b.m.lateReplies.Get()+a.m.late.Get() == 1 })

	env = envelope("x", "")
	env.Deadline = time.Now().Add(-time.Second)
	if r := ask(t, a, "b", env); !errors.Is(r.Err, cluster.ErrDeadline) {
		t.Errorf("over before it began: %v", r.Err)
	}
	if h.count() != 0 {
		t.Error("it ran")
	}

	// Many deadlines, none missed.
	var ended atomic.Int32
	for i := range 2000 {
		env := envelope("x", "")
		env.Deadline = time.Now().Add(time.Duration(i%200) * time.Millisecond)
		a.Send("b", env, func(r cluster.Reply) {
			if !errors.Is(r.Err, cluster.ErrUnknown) && !errors.Is(r.Err, cluster.ErrDeadline) {
				t.Error(r.Err)
			}
			ended.Add(1)
		})
	}
	eventually(t, "2000 ends", func() bool { return ended.Load() == 2000 })
}

// TestUnsentCallNeverRuns: a call that was given up before it left is not run when the way is free again.
func TestUnsentCallNeverRuns(t *testing.T) {
	c := newTestCluster(t)
	var ran sync.Map // by id
	a := c.open("a", nil)
	gate := make(chan struct{})
	var once sync.Once
	c.open("b", func(o *Options) {
		o.Calls = func(env *cluster.Envelope, done func(cluster.Reply)) {
			once.Do(func() { <-gate }) // the first call holds up the stream's reader
			if env.Target.ID == "short" {
				ran.Store(env.ID, true)
			}
			done(cluster.Reply{})
		}
	})
	var unsent, unknown, fine atomic.Int32
	count := func(r cluster.Reply) {
		switch {
		case errors.Is(r.Err, cluster.ErrDeadline):
			unsent.Add(1)
		case errors.Is(r.Err, cluster.ErrUnknown):
			unknown.Add(1)
		case r.Err == nil:
			fine.Add(1)
		default:
			t.Error(r.Err)
		}
	}
	body := strings.Repeat("x", 32<<10)
	for range 400 { // 12 MiB: more than the windows of the stream hold
		a.Send("b", envelope("long", body), count)
	}
	const short = 500
	var given sync.Map // ids that were reported as not sent
	for i := range short {
		env := envelope("short", body)
		env.ID = [16]byte{byte(i), byte(i >> 8)}
		env.Deadline = time.Now().Add(200 * time.Millisecond)
		a.Send("b", env, func(r cluster.Reply) {
			if errors.Is(r.Err, cluster.ErrDeadline) {
				given.Store(env.ID, true)
			}
			count(r)
		})
	}
	eventually(t, "the short ones given up", func() bool { return unsent.Load()+unknown.Load() == short })
	if unsent.Load() == 0 {
		t.Fatal("all left at once, nothing was held up")
	}
	close(gate)
	eventually(t, "the long ones", func() bool { return fine.Load() == 400 })
	if r := ask(t, a, "b", envelope("last", "")); r.Err != nil {
		t.Fatal(r.Err)
	}
	given.Range(func(id, _ any) bool {
		if _, bad := ran.Load(id); bad {
			t.Errorf("call %v ran though it was given up as not sent", id)
		}
		return true
	})
}

// TestSlowReaderOfAnswers: a node that does not read its answers stops being served, and costs bounded memory.
func TestSlowReaderOfAnswers(t *testing.T) {
	c := newTestCluster(t)
	a := c.open("a", nil)
	b := c.open("b", func(o *Options) {
		o.InFlightBytes = 8 << 20
		o.Calls = func(_ *cluster.Envelope, done func(cluster.Reply)) {
			done(cluster.Reply{Message: wrapperspb.Bytes(make([]byte, 8<<10))})
		}
	})
	wire := c.relay("b")
	if r := ask(t, a, "b", envelope("x", "")); r.Err != nil {
		t.Fatal(r.Err)
	}
	wire.from.stopped.Lock()
	goOn := sync.OnceFunc(wire.from.stopped.Unlock)
	defer goOn()
	var ended atomic.Int32
	const answers = 2000 // 16 MiB: far more than the windows and queues hold
	for range answers {
		a.Send("b", envelope("x", ""), func(r cluster.Reply) {
			if r.Err != nil {
				t.Error(r.Err)
			}
			ended.Add(1)
		})
	}
	eventually(t, "a stall", func() bool { return b.m.stalls.Get() > 0 })
	goOn()
	eventually(t, "all answers", func() bool { return ended.Load() == answers })
}
