package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/cluster/gossip"
)

// ReconcileOptions say how the raft group follows the nodes that are there.
type ReconcileOptions struct {
	Raft   *Raft
	Gossip interface {
		Members() []gossip.Member
		Events() <-chan struct{}
	}
	// Members gives the members' records. A server without a record that is not there was removed from the cluster. nil: the
	// records do not count.
	Members func() []Member
	// Expect gives the number of voters that the cluster was founded for: what is gone is never taken out below a quorum of
	// it, and until they are there nobody waits for StableAfter. It is asked at each look and must not block; nil, or less
	// than 1: 1.
	Expect func() int
	// MaxVoters bounds the voters. Default 5.
	MaxVoters int
	// StableAfter is how long a node must have been there to get a vote, and gone for another to get its vote. Default 10 s.
	StableAfter time.Duration
	// LeftAfter is how long one that left on purpose keeps its place, so that a restart costs nothing. Default 60 s.
	LeftAfter time.Duration
	// ReapAfter is how long a non-voter that is gone keeps its place. Default 10 min.
	ReapAfter time.Duration
	// MaxLag is how far behind a non-voter may be to get a vote: how long it takes to have what the leader has. Default 1 s.
	MaxLag time.Duration
	// SweepEvery is how often all is looked at without a hint. Default 5 s.
	SweepEvery time.Duration
	// BlobsComplete says whether a node has every blob that a voter must have. It may block until ctx ends. nil: yes.
	BlobsComplete func(ctx context.Context, node string) bool
	// Records get the list of nodes that a recovery on this node has given up, so that all know it. nil: only this node
	// knows.
	Records Records
	Logger  *slog.Logger
	Metrics *metrics.Set
}

func (o ReconcileOptions) withDefaults() ReconcileOptions {
	or := func(v *time.Duration, d time.Duration) {
		if *v <= 0 {
			*v = d
		}
	}
	or(&o.StableAfter, 10*time.Second)
	or(&o.LeftAfter, time.Minute)
	or(&o.ReapAfter, 10*time.Minute)
	or(&o.SweepEvery, 5*time.Second)
	or(&o.MaxLag, time.Second)
	if o.Expect == nil {
		o.Expect = func() int { return 1 }
	}
	if o.MaxVoters <= 0 {
		o.MaxVoters = 5
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	return o
}

// Reconcile keeps the raft group like the nodes that are there, while this node leads, until ctx ends. Each node runs it.
func Reconcile(ctx context.Context, o ReconcileOptions) {
	o = o.withDefaults()
	k := &reconciler{o: o, kick: make(chan struct{}, 1), hints: o.Gossip.Events(), warned: map[string]time.Time{}}
	stop := o.Raft.OnLeader(func(LeaderChange) {
		select {
		case k.kick <- struct{}{}:
		default:
		}
	})
	defer stop()
	for ctx.Err() == nil {
		if o.Raft.IsLeader() {
			if err := k.lead(ctx); err != nil && ctx.Err() == nil {
				o.Logger.Debug("reconcile the raft group", "error", err)
			}
		}
		k.pause(ctx, o.SweepEvery)
	}
}

type reconciler struct {
	o      ReconcileOptions
	kick   chan struct{}
	hints  <-chan struct{}
	since  time.Time // of this leadership
	warned map[string]time.Time
}

// pause waits for a hint, at most d.
func (k *reconciler) pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-k.kick:
	case <-k.hints:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// lead works until the leadership is lost. What earlier leaders decided is known after the barrier.
func (k *reconciler) lead(ctx context.Context) error {
	barrier, cancel := context.WithTimeout(ctx, 10*time.Second)
	err := k.o.Raft.barrierHere(barrier)
	cancel()
	if err != nil {
		return err
	}
	k.since = time.Now()
	if lost := k.o.Raft.links.lost; len(lost) > 0 && k.o.Records != nil {
		noting, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := recordLostNodes(noting, k.o.Records, lost)
		cancel()
		if err != nil {
			return fmt.Errorf("note the lost nodes: %w", err)
		}
	}
	for ctx.Err() == nil && k.o.Raft.IsLeader() {
		waiting, err := k.settle(ctx)
		if err != nil {
			k.o.Logger.Warn("the raft group cannot be changed now", "error", err)
		}
		d := k.o.SweepEvery
		if waiting || err != nil {
			d = min(d, time.Second, k.o.StableAfter/2+10*time.Millisecond)
		}
		k.pause(ctx, d)
	}
	return nil
}

// settle takes steps until there is none. waiting says that more will be due before long.
func (k *reconciler) settle(ctx context.Context) (waiting bool, err error) {
	for range 64 {
		v := k.view(ctx)
		c, ok := v.next()
		if !ok {
			return v.waiting(), nil
		}
		if err := k.apply(ctx, c); err != nil {
			if errors.Is(err, ErrUnavailable) {
				return false, nil // no longer the leader
			}
			return true, err
		}
	}
	return true, nil
}

// waiting says whether a node is about to get a vote, or to lose one.
func (v *groupView) waiting() bool {
	voters, present := v.voters()
	return voters < v.target() || present < voters
}

func (k *reconciler) apply(ctx context.Context, c groupChange) error {
	ctx, cancel := context.WithTimeout(ctx, configWait)
	defer cancel()
	var err error
	switch c.action {
	case actionAdd, actionMove: // of a voter it changes the address only
		err = k.o.Raft.AddNonvoter(ctx, c.id, c.addr)
	case actionPromote:
		err = k.o.Raft.AddVoter(ctx, c.id, c.addr)
	case actionDemote:
		err = k.o.Raft.Demote(ctx, c.id)
	case actionRemove:
		err = k.o.Raft.Remove(ctx, c.id)
	}
	if err != nil {
		return err
	}
	k.o.Metrics.GetOrCreateCounter(`pollux_raft_group_changes_total{change="` + string(c.action) + `"}`).Inc()
	k.o.Logger.Info("raft group: "+string(c.action), "node", c.id, "address", c.addr, "why", c.why)
	return nil
}

// view collects what is known now.
func (k *reconciler) view(ctx context.Context) *groupView {
	r := k.o.Raft
	v := &groupView{self: string(r.id), servers: r.Servers(), nodes: map[string]*nodeView{},
		policy: groupPolicy{expect: max(1, k.o.Expect()), maxVoters: k.o.MaxVoters, stableAfter: k.o.StableAfter, leftAfter: k.o.LeftAfter,
			reapAfter: k.o.ReapAfter, moveAfter: min(3*time.Second, k.o.StableAfter), maxLag: k.o.MaxLag}}
	if k.o.BlobsComplete != nil {
		v.policy.ready = func(id string) bool { return k.o.BlobsComplete(ctx, id) }
	}
	for _, m := range k.o.Gossip.Members() {
		n := &nodeView{id: m.ID, addr: m.Peer, zone: m.Zone, alive: m.State == gossip.Alive, left: m.State == gossip.Left,
			leaving: m.Leaving && m.State == gossip.Alive}
		if n.alive {
			n.aliveFor = time.Since(m.Since)
		} else {
			n.goneFor = time.Since(m.Since)
		}
		v.nodes[m.ID] = n
	}
	k.addRecords(v)
	k.addContact(v)
	k.addLost(v)
	return v
}

func (k *reconciler) addRecords(v *groupView) {
	if k.o.Members == nil {
		return
	}
	recorded := map[string]Member{}
	for _, m := range k.o.Members() {
		recorded[m.ID] = m
	}
	if len(recorded) == 0 {
		return // the first has not registered yet
	}
	for _, s := range v.servers {
		n := v.nodes[s.ID]
		if n == nil {
			n = &nodeView{id: s.ID, goneFor: time.Since(k.since)}
			v.nodes[s.ID] = n
		}
		m, ok := recorded[s.ID]
		n.forgotten = !ok
		if ok && n.zone == "" {
			n.zone = m.AvailabilityZone
		}
		n.left = n.left || (ok && m.State == StateLeft && !n.alive)
	}
}

// addContact notes whom raft reaches: gossip may be wrong.
func (k *reconciler) addContact(v *groupView) {
	for _, s := range v.servers {
		n := v.nodes[s.ID]
		if n == nil {
			n = &nodeView{id: s.ID, goneFor: time.Since(k.since)}
			v.nodes[s.ID] = n
		}
		n.reached = s.Silent == 0 && time.Since(s.LastContact) < 2*heartbeatTimeout
		if !n.alive && s.ID != v.self {
			// It is gone since both say so.
			quiet := time.Since(k.since)
			if s.LastContact.After(k.since) {
				quiet = time.Since(s.LastContact)
			}
			n.goneFor = min(n.goneFor, quiet)
		}
	}
}

func (k *reconciler) addLost(v *groupView) {
	lost := k.o.Raft.Lost()
	for id, n := range v.nodes {
		if _, there := v.server(id); there || !slices.Contains(lost, id) {
			continue
		}
		n.lost = true
		if n.alive && time.Since(k.warned[id]) > time.Minute {
			k.warned[id] = time.Now()
			k.o.Logger.Warn("a node that a recovery has given up is back, and is kept out; start it with an empty data directory",
				"node", id, "address", n.addr)
		}
	}
}

// String says what is done, for messages.
func (c groupChange) String() string {
	return fmt.Sprintf("%s %s (%s): %s", c.action, c.id, c.addr, c.why)
}
