package gossip

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

const wait = 20 * time.Second

func newKey() []byte {
	k := make([]byte, 32)
	rand.Read(k)
	return k
}

// lines collects log lines.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func open(t *testing.T, id string, keys [][]byte, change func(*Options)) *Gossip {
	t.Helper()
	o := Options{Bind: "127.0.0.1:0", ClusterID: "c1", Keys: keys, ReconnectEvery: 300 * time.Millisecond,
		Meta: Meta{ID: id, Name: "name-" + id, Incarnation: 1, Peer: "127.0.0.1:1" + id[len(id)-1:], Zone: "z", Version: "v1"}}
	if change != nil {
		change(&o)
	}
	g, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func join(t *testing.T, g *Gossip, to ...*Gossip) {
	t.Helper()
	var addrs []string
	for _, x := range to {
		addrs = append(addrs, x.Address())
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	if n, err := g.Join(ctx, addrs); err != nil || n != len(to) {
		t.Fatalf("join: %d, %v", n, err)
	}
}

// until polls.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(wait); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", wait, what)
		}
	}
}

func states(g *Gossip) string {
	var out []string
	for _, m := range g.Members() {
		out = append(out, m.ID+"="+string(m.State))
	}
	return strings.Join(out, " ")
}

func untilStates(t *testing.T, g *Gossip, want string) {
	t.Helper()
	until(t, fmt.Sprintf("states %q, have %q", want, states(g)), func() bool { return states(g) == want })
}

func TestNodesFindOneAnother(t *testing.T) {
	keys := [][]byte{newKey()}
	a := open(t, "n1", keys, func(o *Options) { o.Meta.Labels = map[string]string{"gpu": "yes", "rack": "7"} })
	b, c := open(t, "n2", keys, nil), open(t, "n3", keys, nil)
	join(t, b, a)
	join(t, c, b)
	for _, g := range []*Gossip{a, b, c} {
		untilStates(t, g, "n1=alive n2=alive n3=alive")
	}
	m, ok := c.Member("n1")
	if !ok || m.Name != "name-n1" || m.Zone != "z" || m.Version != "v1" || m.Gossip != a.Address() || m.Labels["rack"] != "7" {
		t.Errorf("n3 knows %+v of n1", m)
	}
	// A change brings a hint to everybody who asked for one.
	first, second := a.Events(), a.Events()
	if err := b.UpdateMeta(func(m *Meta) { m.Site = "hall 4"; m.ID = "not allowed" }); err != nil {
		t.Fatal(err)
	}
	for _, hint := range []<-chan struct{}{first, second} {
		select {
		case <-hint:
		case <-time.After(wait):
			t.Fatal("no hint")
		}
	}
	until(t, "the new site is known", func() bool { m, _ := a.Member("n2"); return m.Site == "hall 4" })

	if err := b.Leave(5 * time.Second); err != nil {
		t.Fatal(err)
	}
	b.Close()
	untilStates(t, a, "n1=alive n2=left n3=alive")
	start := time.Now()
	c.Close()
	untilStates(t, a, "n1=alive n2=left n3=dead")
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("a dead node was noticed after %s", took)
	} else {
		t.Logf("a dead node was noticed after %s", took.Round(10*time.Millisecond))
	}
}

func TestStrangersAreRefused(t *testing.T) {
	key := newKey()
	for _, c := range []struct {
		name   string
		change func(*Options)
		want   error
		line   string
		count  func(*Gossip) uint64
	}{
		{"key", func(o *Options) { o.Keys = [][]byte{newKey()} }, ErrKey, "its gossip key is not ours",
			func(g *Gossip) uint64 { return g.m.key.Get() }},
		{"cluster", func(o *Options) { o.ClusterID = "c2" }, ErrCluster, "it is of another cluster",
			func(g *Gossip) uint64 { return g.m.label.Get() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := &lines{}
			a := open(t, "n1", [][]byte{key}, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
			b := open(t, "n2", [][]byte{key}, c.change)
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			defer cancel()
			n, err := b.Join(ctx, []string{a.Address()})
			if n != 0 || !errors.Is(err, c.want) {
				t.Fatalf("join: %d, %v; want %v", n, err, c.want)
			}
			until(t, "the other side says so: "+c.line, func() bool { return strings.Contains(log.String(), c.line) })
			if c.count(a) == 0 {
				t.Error("it was not counted")
			}
			if got := states(a); got != "n1=alive" {
				t.Errorf("the cluster is %q", got)
			}
		})
	}
}

func TestSecondOfANameIsRefused(t *testing.T) {
	keys := [][]byte{newKey()}
	log := &lines{}
	a := open(t, "n1", keys, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
	b := open(t, "n2", keys, nil)
	join(t, b, a)
	untilStates(t, a, "n1=alive n2=alive")
	// Its clock is behind, which must not matter.
	refused := make(chan error, 2)
	c := open(t, "n3", keys, func(o *Options) { o.Meta.Name = "name-n2"; o.Refused = func(err error) { refused <- err } })
	c.mu.Lock()
	c.meta.Started = time.Now().Add(-24 * time.Hour)
	c.encodeLocked()
	c.mu.Unlock()
	if err := c.UpdateMeta(func(*Meta) {}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	_, err := c.Join(ctx, []string{a.Address()})
	if !errors.Is(err, ErrName) || !strings.Contains(err.Error(), "n2") {
		t.Fatalf("join: %v", err)
	}
	select {
	case err := <-refused:
		if !errors.Is(err, ErrName) {
			t.Error(err)
		}
	case <-time.After(wait):
		t.Fatal("the newcomer was not told")
	}
	until(t, "the cluster says so", func() bool { return strings.Contains(log.String(), "its name is taken") })
	for _, g := range []*Gossip{a, b} {
		if got := states(g); got != "n1=alive n2=alive" {
			t.Errorf("the cluster is %q", got)
		}
	}
	if a.taken != nil || b.taken != nil {
		t.Error("a member gave way to the newcomer")
	}
}

func TestKeyRotation(t *testing.T) {
	old, fresh := newKey(), newKey()
	a, b := open(t, "n1", [][]byte{old}, nil), open(t, "n2", [][]byte{old}, nil)
	join(t, b, a)
	untilStates(t, a, "n1=alive n2=alive")
	for _, step := range [][][]byte{{old, fresh}, {fresh, old}, {fresh}} {
		for _, g := range []*Gossip{a, b} {
			if err := g.SetKeys(step); err != nil {
				t.Fatal(err)
			}
		}
		site := fmt.Sprintf("s%x", step[0][:2])
		if err := b.UpdateMeta(func(m *Meta) { m.Site = site }); err != nil {
			t.Fatal(err)
		}
		until(t, "word gets through", func() bool { m, _ := a.Member("n2"); return m.Site == site })
	}
	if got := states(a); got != "n1=alive n2=alive" {
		t.Errorf("the cluster is %q", got)
	}
	late := open(t, "n3", [][]byte{old}, nil)
	if _, err := late.Join(context.Background(), []string{a.Address()}); !errors.Is(err, ErrKey) {
		t.Errorf("the old key: %v", err)
	}
	if err := late.SetKeys([][]byte{fresh}); err != nil {
		t.Fatal(err)
	}
	join(t, late, a)
	untilStates(t, b, "n1=alive n2=alive n3=alive")
	// Out of order, as somebody may give them.
	k1, k2, k3 := newKey(), newKey(), newKey()
	for _, keys := range [][][]byte{{fresh, k1, k2, k3}, {k3, fresh}, {fresh}} {
		if err := a.SetKeys(keys); err != nil {
			t.Fatal(err)
		}
		got := a.keys.GetKeys()
		if len(got) != len(keys) || !bytes.Equal(got[0], keys[0]) {
			t.Errorf("%d keys are there, %d wanted, or another is the first", len(got), len(keys))
		}
	}
	if err := a.SetKeys([][]byte{[]byte("short")}); err == nil {
		t.Error("a key of 5 bytes was taken")
	}
}

func TestGarbageIsCounted(t *testing.T) {
	keys := [][]byte{newKey()}
	a, b := open(t, "n1", keys, nil), open(t, "n2", keys, nil)
	join(t, b, a)
	udp, err := net.Dial("udp", a.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	label := append([]byte{244, 2}, "c1"...)
	bad := [][]byte{{0}, []byte("GET / HTTP/1.1\r\n\r\n"), bytes.Repeat([]byte{0xff}, 1400), {244}, {244, 200, 1}, label,
		append(bytes.Clone(label), bytes.Repeat([]byte{1}, 100)...)}
	for i := range 50 {
		junk := make([]byte, 1+i*13)
		rand.Read(junk)
		bad = append(bad, junk, append(bytes.Clone(label), junk...))
	}
	for _, p := range bad {
		if _, err := udp.Write(p); err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Dial("tcp", a.Address())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = tcp.Write(p)
		_ = tcp.Close()
	}
	until(t, "garbage is counted", func() bool { return a.m.garbage.Get()+a.m.label.Get()+a.m.key.Get() > 100 })
	if err := b.UpdateMeta(func(m *Meta) { m.Site = "after" }); err != nil {
		t.Fatal(err)
	}
	until(t, "the cluster goes on", func() bool { m, _ := a.Member("n2"); return m.Site == "after" && m.State == Alive })
}

func TestRestartAtAnotherAddress(t *testing.T) {
	keys := [][]byte{newKey()}
	a, b := open(t, "n1", keys, nil), open(t, "n2", keys, nil)
	join(t, b, a)
	untilStates(t, a, "n1=alive n2=alive")
	old := b.Address()
	b.Close()
	again := open(t, "n2", keys, func(o *Options) { o.Meta.Incarnation = 2; o.Meta.Peer = "127.0.0.1:99" })
	join(t, again, a)
	until(t, "the new run counts", func() bool {
		m, _ := a.Member("n2")
		return m.State == Alive && m.Incarnation == 2 && m.Gossip == again.Address() && m.Gossip != old && m.Peer == "127.0.0.1:99"
	})
	// The old run dies away without a trace.
	until(t, "the old run is forgotten", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		_, there := a.known[memberName("n2", 1)]
		m := a.known[memberName("n2", 2)]
		return m.state == Alive && (!there || a.known[memberName("n2", 1)].state == Dead)
	})
	if m, _ := a.Member("n2"); m.State != Alive {
		t.Errorf("n2 is %s", m.State)
	}
}

func TestCopyOfARunningNodeIsRefused(t *testing.T) {
	keys := [][]byte{newKey()}
	log := &lines{}
	a := open(t, "n1", keys, nil)
	b := open(t, "n2", keys, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)); o.Meta.Incarnation = 5 })
	join(t, b, a)
	untilStates(t, a, "n1=alive n2=alive")
	until(t, "n2 has settled", func() bool { m, _ := a.Member("n2"); return !m.Tentative })
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			if m, _ := a.Member("n2"); m.Gossip != b.Address() || m.State != Alive {
				t.Errorf("for a moment the copy counted: %+v", m)
				return
			}
		}
	}()
	for _, incarnation := range []uint64{4, 5, 6} {
		refused := make(chan error, 2)
		c := open(t, "n2", keys, func(o *Options) { o.Meta.Incarnation = incarnation; o.Refused = func(err error) { refused <- err } })
		ctx, cancel := context.WithTimeout(context.Background(), wait)
		_, err := c.Join(ctx, []string{a.Address()})
		cancel()
		if !errors.Is(err, ErrCopy) || !strings.Contains(err.Error(), b.Address()) {
			t.Errorf("incarnation %d: %v", incarnation, err)
		}
		select {
		case <-refused:
		case <-time.After(wait):
			t.Error("nobody was told")
		}
		c.Close()
		until(t, "the running node counts", func() bool {
			m, _ := a.Member("n2")
			return m.State == Alive && m.Gossip == b.Address()
		})
	}
	close(stop)
	<-watched
	until(t, "the running node says so", func() bool { return strings.Contains(log.String(), "is its data directory a copy?") })
}

func TestLostMembersAreTriedAgain(t *testing.T) {
	keys := [][]byte{newKey()}
	a, b := open(t, "n1", keys, nil), open(t, "n2", keys, nil)
	join(t, b, a)
	addr := b.Address()
	b.Close()
	untilStates(t, a, "n1=alive n2=dead")
	// It comes back and knows nobody.
	open(t, "n2", keys, func(o *Options) { o.Bind = addr; o.Meta.Incarnation = 2 })
	untilStates(t, a, "n1=alive n2=alive")
}

func TestAnEarlierRunsNodesAreFound(t *testing.T) {
	keys := [][]byte{newKey()}
	file := filepath.Join(t.TempDir(), "peers")
	a := open(t, "n1", keys, nil)
	b := open(t, "n2", keys, func(o *Options) { o.File = file })
	join(t, b, a)
	until(t, "the address is remembered", func() bool { f, _ := os.ReadFile(file); return strings.Contains(string(f), a.Address()) })
	b.Close()
	again := open(t, "n2", keys, func(o *Options) { o.File, o.Meta.Incarnation = file, 2 })
	untilStates(t, again, "n1=alive n2=alive")
	until(t, "the new run is known and settled", func() bool {
		m, _ := a.Member("n2")
		return m.Gossip == again.Address() && !m.Tentative && m.State == Alive
	})
	until(t, "the founder has settled", func() bool { m, _ := again.Member("n1"); return !m.Tentative })
}

func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	keys := [][]byte{newKey()}
	for range 3 {
		a, b := open(t, "n1", keys, nil), open(t, "n2", keys, nil)
		join(t, b, a)
		a.Close()
		b.Close()
		if _, err := a.Join(context.Background(), []string{"127.0.0.1:1"}); !errors.Is(err, ErrClosed) {
			t.Errorf("join after close: %v", err)
		}
		if err := a.Leave(time.Second); !errors.Is(err, ErrClosed) {
			t.Errorf("leave after close: %v", err)
		}
	}
	until(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before+1 })
}

func TestMetaSurvivesItsEncoding(t *testing.T) {
	m := Meta{ID: "n1", Name: "räum", Incarnation: 1 << 40, Peer: "a:1", Gossip: "b:2", HTTP: "c:3", MQTT: "d:4", Zone: "z", Site: "s",
		Version: "v", Inbound: "0.0.0.0:5000-5099", Expect: 5, Labels: map[string]string{"a": "b", "c": ""}, Started: time.UnixMilli(1_700_000_000_123), Leaving: true, Tentative: true}
	b, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodeMeta(b)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Errorf("%+v, %v", got, err)
	}
	// A later version's field is passed over.
	if got, err = decodeMeta(append(b, 200, 2, 7, 7)); err != nil || got.ID != "n1" {
		t.Errorf("%+v, %v", got, err)
	}
	m.Labels = map[string]string{"long": strings.Repeat("x", 600)}
	if b, err = m.encode(); err != nil || len(b) > maxMeta {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if got, _ := decodeMeta(b); got.Labels != nil || got.Site != "s" {
		t.Errorf("%+v", got)
	}
	m.Site = strings.Repeat("x", 600)
	if _, err := m.encode(); err == nil || !strings.Contains(err.Error(), "site") {
		t.Errorf("too long: %v", err)
	}
}

func FuzzMeta(f *testing.F) {
	b, _ := (&Meta{ID: "n1", Name: "x", Incarnation: 3, Labels: map[string]string{"a": "b"}, Started: time.UnixMilli(5), Leaving: true}).encode()
	f.Add(b)
	f.Add([]byte{metaVersion, tagID, 1, 'x', tagExpect, 1, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil {
			return // longer than what is allowed
		}
		back, err := decodeMeta(again)
		if err != nil {
			t.Fatal(err)
		}
		back.Labels, m.Labels = nil, nil
		if !back.Started.Equal(m.Started) {
			m.Started, back.Started = time.Time{}, time.Time{}
		}
		m.Started, back.Started = time.Time{}, time.Time{}
		if !reflect.DeepEqual(m, back) {
			t.Errorf("%+v became %+v", m, back)
		}
	})
}
