package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/records"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// node is a node's twins, on a store in memory and a clock that is moved by hand. There is no network.
type node struct {
	clock   *clock
	store   *storagetest.Node
	cluster *cluster.Node
	engine  *actors.Engine
	door    *door

	mu sync.Mutex
	// native are drivers that are no modules, by the digest of the file that stands for them.
	native map[string]drivers.Runner
}

// openNode starts a node. edit completes the engine's options.
func openNode(c *clock, load func(ctx context.Context, digest string, file []byte) (drivers.Runner, error), edit func(*actors.Options)) (*node, error) {
	st, err := storagetest.Open("data", vfs.NewMem())
	if err != nil {
		return nil, fmt.Errorf("open the test's store: %w", err)
	}
	n := &node{clock: c, store: st, native: map[string]drivers.Runner{}}
	o := actors.Options{Store: st.Store, Node: "test", Clock: c, Metrics: metrics.NewSet(), Logger: slog.New(slog.DiscardHandler),
		IdleTimeout: aeon, ComputeTimeout: patience,
		Drivers: func(ctx context.Context, digest string) (drivers.Runner, error) {
			n.mu.Lock()
			r := n.native[digest]
			n.mu.Unlock()
			if r != nil {
				return r, nil
			}
			file, err := st.Store.Blob(digest)
			if err != nil {
				return nil, err
			}
			return load(ctx, digest, file)
		}}
	edit(&o)
	if n.engine, err = actors.New(o); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	n.door = &door{Engine: n.engine}
	n.cluster, err = cluster.Start(context.Background(), cluster.Options{Self: cluster.Member{ID: "test", Incarnation: 1},
		Records: records.Of(st.Store, o.Logger), Handler: n.door, Logger: o.Logger})
	if err != nil {
		return nil, errors.Join(err, n.engine.Close(), st.Close())
	}
	n.engine.SetCluster(n.cluster)
	if err := n.engine.Start(context.Background()); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

// owns waits until the node has the slot of a twin: a moment after its start.
func (n *node) owns(id string) error {
	for began := time.Now(); time.Since(began) < patience; time.Sleep(time.Millisecond) {
		if _, ok := n.cluster.Where(id); ok {
			return nil
		}
	}
	return fmt.Errorf("the test's node did not get the slot of %s within %s", id, patience)
}

// nodeAt gives the bench's node with its clock at start, or where that is zero at the beginning of a Thursday. A clock
// does not go back: then there is another node.
func (b *Bench) nodeAt(start time.Time) (*node, error) {
	if b.node != nil && !start.IsZero() && start.Before(b.node.clock.Now()) {
		if err := b.drop(); err != nil {
			return nil, err
		}
	}
	if b.node != nil {
		for day := 24 * time.Hour; start.IsZero(); {
			start = b.node.clock.Now().Truncate(day).Add(day)
			for start.Weekday() != time.Thursday {
				start = start.Add(day)
			}
		}
		b.node.clock.move(start)
		b.node.engine.Tick()
		return b.node, nil
	}
	if start.IsZero() {
		start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	dialers := map[string]actors.Dialer{}
	for _, scheme := range drivers.Schemes() {
		dialers[scheme] = func(d drivers.Binding, s drivers.Sink, t actors.Trace) (drivers.Conn, error) {
			return b.rig.Load().peer.dial(d, s, t)
		}
	}
	n, err := openNode(newClock(start), func(context.Context, string, []byte) (drivers.Runner, error) { return watched{b.runner, b}, nil },
		func(o *actors.Options) {
			o.Logger, o.Dialers = b.o.Logger, dialers
			o.Publish = func(topic string, payload []byte, qos byte, retain bool) error {
				return b.rig.Load().peer.publish(topic, payload, qos, retain)
			}
			b.offer(o)
		})
	if err != nil {
		return nil, err
	}
	b.node = n
	return n, nil
}

// drop closes the node.
func (b *Bench) drop() error {
	n := b.node
	if b.node = nil; n == nil {
		return nil
	}
	return n.close()
}

func (n *node) close() error {
	return errors.Join(n.engine.Close(), n.cluster.Close(), n.store.Close())
}

// door is the engine as the cluster calls it: it counts what comes and is answered.
type door struct {
	*actors.Engine
	mu   sync.Mutex
	came func(env *cluster.Envelope) *arrival
}

// arrival is a call that is waited for.
type arrival struct {
	// taken is called once the engine has it, answered once it is answered, which may be before that.
	taken, answered func()
}

// Handle implements cluster.Handler.
func (d *door) Handle(env *cluster.Envelope, done func(cluster.Reply)) {
	d.mu.Lock()
	came := d.came
	d.mu.Unlock()
	if came == nil {
		d.Engine.Handle(env, done)
		return
	}
	a := came(env)
	if a == nil {
		d.Engine.Handle(env, done)
		return
	}
	d.Engine.Handle(env, func(r cluster.Reply) {
		done(r)
		a.answered()
	})
	a.taken()
}
