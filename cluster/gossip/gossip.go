// Package gossip finds the nodes of a cluster and notices within seconds which of them are gone. What it says is a hint:
// who owns what is decided by records in the store, and it may be wrong about anything for a while.
//
// It is a wrapper over memberlist (SWIM): every packet is encrypted and labelled with the cluster's id, so nodes of other
// clusters and strangers are refused, counted and logged.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/hashicorp/memberlist"
)

// Options say who this node is and where it listens.
type Options struct {
	// Bind is the address to listen on, UDP and TCP, host:port; port 0: any.
	Bind string
	// Advertise is what the others are told, host or host:port. "": what it is bound to.
	Advertise string
	// ClusterID labels every message.
	ClusterID string
	// Keys encrypt: the first is used, the others are understood. 16, 24 or 32 bytes each; at least one.
	Keys [][]byte
	Meta Meta
	// File keeps the gossip addresses of the others for the next start, one on a line. A node that comes back at another
	// address finds the others by it. "": nothing is kept.
	File string
	// Refused is called once, from a goroutine of its own, when this node must end because another one has its name. nil:
	// nobody is told, but Join's error says it too.
	Refused func(error)
	Logger  *slog.Logger
	// Metrics gets the counters; nil: a set of gossip's own.
	Metrics *metrics.Set
	// ReconnectEvery is how often members that seem dead are tried again, so that a partition heals. Default 5 s.
	ReconnectEvery time.Duration
}

var (
	// ErrKey: the other side has another gossip key.
	ErrKey = errors.New("the gossip keys differ")
	// ErrCluster: the other side belongs to another cluster, or is no gossip address at all.
	ErrCluster = errors.New("not of this cluster")
	// ErrName: another living node has this node's name.
	ErrName = errors.New("the name is taken")
	// ErrCopy: this very node runs already, so one of the two has a copied data directory.
	ErrCopy = errors.New("this node runs already")
	// ErrClosed: Close was called.
	ErrClosed = errors.New("gossip closed")
)

// Gossip is this node's part. All methods may be called concurrently.
type Gossip struct {
	o    Options
	log  *slog.Logger
	m    *counters
	list *memberlist.Memberlist
	keys *memberlist.Keyring

	metaMu sync.Mutex // one update at a time
	keyMu  sync.Mutex

	mu      sync.Mutex
	meta    Meta
	bytes   []byte
	known   map[string]*runOf // by memberlist's name
	seeds   []string
	hints   []chan struct{}
	opened  time.Time
	taken   error // why Join was refused
	joining int   // Joins under way
	joined  bool  // somebody took this node in
	told    bool
	over    bool

	saidMu sync.Mutex
	said   map[string]time.Time // when a kind of warning was last given

	closing chan struct{}
	done    sync.WaitGroup
	ctx     context.Context
	cancel  context.CancelFunc
}

// settled is how long a node has to have been there so as never to give way to another of its name.
const settled = 10 * time.Second

// Open starts to listen. The node is alone until Join.
func Open(o Options) (*Gossip, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.ReconnectEvery <= 0 {
		o.ReconnectEvery = 5 * time.Second
	}
	if o.Meta.ID == "" || o.ClusterID == "" || len(o.Keys) == 0 {
		return nil, errors.New("open gossip: the node's id, the cluster's id and a key are needed")
	}
	o.Meta.Started = time.Now()
	o.Meta.Tentative = true
	earlier, err := recall(o.File)
	if err != nil {
		return nil, fmt.Errorf("open gossip: %w", err)
	}
	g := &Gossip{o: o, log: o.Logger, m: newCounters(o.Metrics), meta: o.Meta,
		seeds: earlier, known: map[string]*runOf{}, opened: time.Now(), closing: make(chan struct{})}
	g.ctx, g.cancel = context.WithCancel(context.Background())
	if err := g.start(); err != nil {
		g.cancel()
		return nil, fmt.Errorf("open gossip: %w", err)
	}
	g.m.gauges(g)
	g.done.Add(1)
	go g.reconnect(g.Events())
	return g, nil
}

func (g *Gossip) start() error {
	var err error
	if g.keys, err = memberlist.NewKeyring(g.o.Keys, g.o.Keys[0]); err != nil {
		return err
	}
	if g.bytes, err = g.meta.encode(); err != nil {
		return err
	}
	c, err := g.config()
	if err != nil {
		return err
	}
	if g.list, err = memberlist.Create(c); err != nil {
		return fmt.Errorf("listen on %s: %w", g.o.Bind, err)
	}
	addr := g.list.LocalNode().Address() // not under our lock: memberlist calls us under its own
	g.mu.Lock()
	g.meta.Gossip = addr
	_, err = g.encodeLocked()
	g.mu.Unlock()
	if err == nil {
		err = g.list.UpdateNode(0)
	}
	if err != nil {
		return errors.Join(err, g.list.Shutdown())
	}
	return nil
}

func (g *Gossip) config() (*memberlist.Config, error) {
	host, port, err := hostPort(g.o.Bind, 0)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", g.o.Bind, err)
	}
	c := memberlist.DefaultLANConfig()
	c.Name = memberName(g.meta.ID, g.meta.Incarnation)
	c.BindAddr, c.BindPort = host, port
	c.AdvertisePort = port
	if g.o.Advertise != "" {
		if c.AdvertiseAddr, c.AdvertisePort, err = hostPort(g.o.Advertise, port); err != nil {
			return nil, fmt.Errorf("advertised address %q: %w", g.o.Advertise, err)
		}
	}
	c.Label = g.o.ClusterID
	c.Keyring = g.keys
	// A node that dies is suspected after one failed probe and gone 1.5 s later, together 2 to 3 s.
	c.ProbeInterval, c.ProbeTimeout = 500*time.Millisecond, 250*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 1
	c.AwarenessMaxMultiplier = 4
	c.GossipInterval = 100 * time.Millisecond
	c.PushPullInterval = 10 * time.Second
	c.TCPTimeout = 2 * time.Second
	c.GossipToTheDeadTime = 30 * time.Second
	c.Logger = newLogger(g)
	d := (*delegate)(g)
	c.Delegate, c.Events, c.Conflict, c.Alive, c.Merge = d, d, d, d, d
	c.DelegateProtocolMin, c.DelegateProtocolMax, c.DelegateProtocolVersion = 1, 1, 1
	return c, nil
}

// hostPort resolves the host, as memberlist wants it to be an IP address.
func hostPort(addr string, port int) (string, int, error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		host, p = addr, strconv.Itoa(port)
	}
	n, err := strconv.ParseUint(p, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port %q: %w", p, err)
	}
	if host == "" {
		return "0.0.0.0", int(n), nil
	}
	if net.ParseIP(host) != nil {
		return host, int(n), nil
	}
	all, err := net.LookupIP(host)
	if err != nil {
		return "", 0, err
	}
	for _, ip := range all {
		if ip.To4() != nil {
			return ip.String(), int(n), nil
		}
	}
	return all[0].String(), int(n), nil
}

// Address is what the others are told, host:port.
func (g *Gossip) Address() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.meta.Gossip
}

// Join makes this node known to those at the addresses, host:port each, and learns from them. It returns how many took
// part, and an error where none did: one that wraps ErrKey, ErrCluster, ErrName or ErrCopy says why. It tries each
// address once and blocks for up to about 2 s on each that is silent. Addresses are tried again later by themselves.
func (g *Gossip) Join(ctx context.Context, addrs []string) (int, error) {
	g.mu.Lock()
	if g.over {
		g.mu.Unlock()
		return 0, ErrClosed
	}
	g.taken = nil
	for _, addr := range addrs {
		if !slices.Contains(g.seeds, addr) {
			g.seeds = append(g.seeds, addr)
		}
	}
	g.mu.Unlock()
	type result struct {
		n   int
		err error
	}
	got := make(chan result, 1)
	g.done.Add(1)
	go func() {
		defer g.done.Done()
		n, err := g.joinEach(ctx, addrs)
		got <- result{n, err}
	}()
	select {
	case r := <-got:
		return r.n, r.err
	case <-ctx.Done():
		return 0, fmt.Errorf("join by gossip: %w", context.Cause(ctx))
	}
}

func (g *Gossip) joinEach(ctx context.Context, addrs []string) (int, error) {
	n := 0
	var errs []error
	for _, addr := range addrs {
		if ctx.Err() != nil || g.ctx.Err() != nil {
			break
		}
		if addr == g.Address() {
			continue
		}
		g.mu.Lock()
		g.joining++
		g.mu.Unlock()
		_, err := g.list.Join([]string{addr})
		if err == nil {
			g.findCopy()
		}
		g.mu.Lock()
		g.joining--
		taken := g.taken
		sure := err == nil && taken == nil && !g.joined
		g.joined = g.joined || sure
		g.mu.Unlock()
		if sure {
			g.settle()
		}
		if taken != nil {
			// Everyone will say the same.
			return 0, fmt.Errorf("join by gossip at %s: %w", addr, taken)
		}
		if err != nil {
			errs = append(errs, joinError(addr, g.o.ClusterID, err))
			continue
		}
		n++
	}
	if n > 0 || len(errs) == 0 {
		return n, nil
	}
	return 0, errors.Join(errs...)
}

// settle says to the others that this node is sure to be the only run of itself. It does not wait for them. Who calls it is
// counted in g.done.
func (g *Gossip) settle() {
	g.done.Add(1)
	go func() {
		defer g.done.Done()
		if err := g.updateMeta(func(m *Meta) { m.Tentative = false }, 200*time.Millisecond); err != nil {
			g.log.Debug("gossip: not everyone may know that this node has settled", "error", err)
		}
	}()
}

// Events gives a channel of the caller's own, for as long as gossip runs. It carries a hint that something has changed:
// look at Members again. Hints that nobody took melt into one.
func (g *Gossip) Events() <-chan struct{} {
	hint := make(chan struct{}, 1)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.hints = append(g.hints, hint)
	return hint
}

// nudgeLocked rings all channels.
func (g *Gossip) nudgeLocked() {
	for _, hint := range g.hints {
		select {
		case hint <- struct{}{}:
		default:
		}
	}
}

// UpdateMeta changes what this node says of itself; id, name, incarnation and gossip address stay. It blocks until
// somebody was told, or 2 s.
func (g *Gossip) UpdateMeta(change func(*Meta)) error {
	return g.updateMeta(change, 2*time.Second)
}

func (g *Gossip) updateMeta(change func(*Meta), wait time.Duration) error {
	g.metaMu.Lock()
	defer g.metaMu.Unlock()
	g.mu.Lock()
	if g.over {
		g.mu.Unlock()
		return ErrClosed
	}
	before := g.meta
	change(&g.meta)
	g.meta.ID, g.meta.Name, g.meta.Incarnation, g.meta.Gossip = before.ID, before.Name, before.Incarnation, before.Gossip
	g.meta.Started = before.Started
	_, err := g.encodeLocked()
	if err != nil {
		g.meta = before
	}
	g.mu.Unlock()
	if err != nil {
		return fmt.Errorf("update gossip metadata: %w", err)
	}
	if err := g.list.UpdateNode(wait); err != nil {
		return fmt.Errorf("update gossip metadata: %w", err)
	}
	return nil
}

func (g *Gossip) encodeLocked() ([]byte, error) {
	b, err := g.meta.encode()
	if err == nil {
		g.bytes = b
	}
	return b, err
}

// SetKeys makes the first key the one that encrypts; the others are understood, all else is forgotten. To change a key
// without a gap: SetKeys(old, new) on all nodes, then SetKeys(new, old) on all, then SetKeys(new).
func (g *Gossip) SetKeys(keys [][]byte) error {
	if len(keys) == 0 {
		return errors.New("set gossip keys: none were given")
	}
	g.keyMu.Lock()
	defer g.keyMu.Unlock()
	for _, k := range keys {
		if err := g.keys.AddKey(k); err != nil {
			return fmt.Errorf("set gossip keys: %w", err)
		}
	}
	if err := g.keys.UseKey(keys[0]); err != nil {
		return fmt.Errorf("set gossip keys: %w", err)
	}
	for g.dropKey(keys) {
	}
	return nil
}

// dropKey removes one key that is not wanted. Removing moves those behind it in an array that is being read, so the key
// is brought to the end first: each key that is used goes to the front.
func (g *Gossip) dropKey(wanted [][]byte) bool {
	all := g.keys.GetKeys()
	for _, k := range all {
		if contains(wanted, k) {
			continue
		}
		if string(all[len(all)-1]) != string(k) {
			for i := len(wanted) - 1; i >= 0; i-- {
				_ = g.keys.UseKey(wanted[i])
			}
			rest := g.keys.GetKeys()
			k = rest[len(rest)-1]
			if contains(wanted, k) {
				return false
			}
		}
		return g.keys.RemoveKey(k) == nil
	}
	return false
}

func contains(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if string(k) == string(key) {
			return true
		}
	}
	return false
}

// Leave tells the others that this node goes on purpose, and waits up to timeout for the word to be out. Close follows.
func (g *Gossip) Leave(timeout time.Duration) error {
	g.mu.Lock()
	said := g.meta.Leaving
	g.mu.Unlock()
	if said {
		// UpdateMeta has said so before.
	} else if err := g.UpdateMeta(func(m *Meta) { m.Leaving = true }); err != nil {
		g.log.Debug("gossip: not everyone may know that this node leaves", "error", err)
	}
	g.mu.Lock()
	over := g.over
	g.mu.Unlock()
	if over {
		return ErrClosed
	}
	if err := g.list.Leave(timeout); err != nil {
		return fmt.Errorf("leave gossip: %w", err)
	}
	return nil
}

// Close stops. Without Leave before, the others find this node dead after some seconds.
func (g *Gossip) Close() error {
	g.mu.Lock()
	if g.over {
		g.mu.Unlock()
		return nil
	}
	g.over = true
	g.mu.Unlock()
	close(g.closing)
	g.cancel()
	err := g.list.Shutdown()
	g.done.Wait()
	g.m.close()
	if err != nil {
		return fmt.Errorf("close gossip: %w", err)
	}
	return nil
}
