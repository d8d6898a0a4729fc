package actors

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/perslot"
	"github.com/polluxhq/pollux/actors/pool"
	"github.com/polluxhq/pollux/actors/search"
	"github.com/polluxhq/pollux/actors/simulation"
	"github.com/polluxhq/pollux/actors/sink"
	inflow "github.com/polluxhq/pollux/actors/source"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	shardCount = 64
	// tick of the timing wheels, in milliseconds; the resolution of all timers.
	tick = 20
	// wheelBuckets make a turn of 10 s, after which later timers are looked at again.
	wheelBuckets = 512
)

// Engine runs the actors of the slots that this node owns. It is the cluster's Handler.
type Engine struct {
	o       Options
	store   *storage.Store
	cluster Cluster
	publish atomic.Pointer[Publish]
	past    atomic.Pointer[automation.Past]
	// readings answers what detectors ask of the past, for primer.
	readings atomic.Pointer[Readings]
	primer   *primer
	log      *slog.Logger
	system   *actor.ActorSystem
	props    *actor.Props
	shards   [shardCount]*shard
	// owned is the record of each slot that this node has and admits calls for.
	owned      [cluster.SlotSpace]atomic.Pointer[cluster.Ownership]
	pool       *pool.Pool
	turns      pool.Turns // the actors'
	catalog    *catalog
	runners    *runners
	topics     *topics
	projects   *projects
	hub        *hub
	tracers    *tracers
	recorders  *recorders
	waker      *waker
	starter    *starter
	backlog    *backlog
	intake     *intake
	followers  *followers
	rollouts   *rollouts
	sealer     *sealer
	layers     *layers
	registry   *Registry
	searcher   *search.Searcher
	client     *Client
	stats      counters
	waits      waits
	interval   interval
	schedules  schedules
	room       room
	streams    *topic.Host
	sinks      *sink.Host
	notifiers  *notify.Host
	readers    *perslot.Host
	series     atomic.Pointer[Series]
	routes     *routes
	outbox     *outbox
	logics     *logics
	automation *automation.Host
	rules      *automation.Index
	world      *world
	// derivations are the properties that are computed of those of other twins.
	derivations *derivations
	sources     *inflow.Host
	simulations *simulation.Host
	// detectors judge readings.
	detectors *detectors
	// resting: the tick has stopped until roused.
	resting atomic.Bool
	roused  chan struct{}

	// calls is the parent of every driver call; it ends when draining may wait no longer.
	calls     context.Context
	stopCalls context.CancelFunc
	// ctx is the life of the engine's goroutines.
	ctx    context.Context
	stop   context.CancelFunc
	wg     sync.WaitGroup
	base   time.Time
	baseMS int64
	steps  steps
	state  atomic.Int32 // 0 new, 1 started, 2 closed
	ready  atomic.Bool  // it knows the routes, rules and so on that twins need; calls wait for that
}

var _ cluster.Handler = (*Engine)(nil)

// New makes an engine. It takes ownership news at once, and begins to work with Start.
func New(o Options) (*Engine, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	e := &Engine{o: o, store: o.Store, cluster: o.Cluster, log: o.Logger, roused: make(chan struct{}, 1)}
	e.base = e.now()
	e.baseMS = e.base.UnixMilli()
	e.ctx, e.stop = context.WithCancel(context.Background())
	e.calls, e.stopCalls = context.WithCancel(context.Background())
	if o.Publish != nil {
		e.SetPublish(o.Publish)
	}
	e.system = actor.NewActorSystem(actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger {
		return slog.New(quieter{o.Logger.With("part", "actor").Handler()})
	}), actor.WithDeadLetterRequestLogging(false), actor.WithDeadLetterThrottleCount(1))
	e.props = actor.PropsFromProducer(func() actor.Actor { return &twin{} }, actor.WithMailbox(actor.UnboundedLockfree()),
		actor.WithDispatcher(&e.turns))
	e.pool = pool.New(pool.Options{Running: o.Running, RunningPerKey: max(1, o.Running/2), StartedPerKey: o.Waiting})
	e.catalog = newCatalog(o.Store)
	e.runners = newRunners(e.ctx, o.Drivers)
	e.projects = newProjects(o.Store, e.topicsLost)
	e.topics = newTopics(o.Store, o.TopicCache, e.projects.has)
	e.hub = newHub(e)
	e.tracers = newTracers()
	e.recorders = newRecorders()
	e.waker = newWaker(e)
	e.starter = newStarter(e)
	e.backlog = newBacklog(e)
	e.followers = newFollowers(o.Store)
	e.rollouts = newRollouts(e)
	e.sealer = newSealer(o.Store)
	e.layers = newLayers(o.Store, e.sealer)
	e.registry = newRegistry(e)
	e.searcher = newSearcher(e)
	e.client = &Client{e: e}
	e.routes = newRoutes(o.Store)
	e.outbox = newOutbox(e)
	e.logics = newLogics(e)
	e.derivations = newDerivations(e)
	e.detectors, e.primer = newDetectors(e), newPrimer(e)
	e.rules = automation.NewIndex(o.Store)
	e.world = &world{e: e}
	host, err := newAutomation(e)
	if err != nil {
		return nil, err
	}
	e.automation = host
	e.streams = topic.New(topic.Options{Store: o.Store, Node: o.Node, Full: o.Full, Logger: o.Logger, Metrics: o.Metrics,
		Call:       func(env *cluster.Envelope, done func(cluster.Reply)) { e.cluster.Call(env, done) },
		Owned:      func(s cluster.Slot) *cluster.Ownership { return e.owned[s].Load() },
		LeaseValid: func() bool { return e.cluster.LeaseValid() }, Share: func(id string) uint64 { return e.registry.topicShare(id) }})
	e.sinks = sink.New(sink.Options{Store: o.Store, Topics: e.streams, Owned: func(s cluster.Slot) *cluster.Ownership { return e.owned[s].Load() },
		LeaseValid: func() bool { return e.cluster.LeaseValid() }, Secret: func(m *pb.Sink) (string, error) { return e.secretAt("sink/"+m.Id+"/secret", m.Secret) }, Files: o.SinkFiles, Outgoing: o.Outgoing, Node: o.Node, Logger: o.Logger, Metrics: o.Metrics})
	e.readers = newReaders(e)
	if e.notifiers, err = newNotifiers(e); err != nil {
		return nil, err
	}
	e.intake = newIntake(e)
	e.sources = inflow.New(inflow.Options{Store: o.Store, Ingest: e.fetched, Owned: func(s cluster.Slot) *cluster.Ownership { return e.owned[s].Load() },
		Secret: func(m *pb.Source) (string, error) { return e.secretAt("source/"+m.Id+"/secret", m.Secret) }, Node: o.Node, Cluster: o.ClusterID, Logger: o.Logger, Metrics: o.Metrics})
	e.simulations = simulation.New(simulation.Options{Store: o.Store, Ingest: e.simulated, Make: e.simulatedTwin, ModelOf: e.simulatedModel, Thing: e.simulatedThing,
		Owned: func(s cluster.Slot) *cluster.Ownership { return e.owned[s].Load() }, Node: o.Node, Logger: o.Logger, Metrics: o.Metrics})
	e.interval.init(o.CheckpointMin, o.CheckpointMax)
	for i := range e.shards {
		s, err := newShard(e, i)
		if err != nil {
			return nil, fmt.Errorf("start shard %d: %w", i, err)
		}
		e.shards[i] = s
	}
	e.stats.register(e, o.Metrics)
	return e, nil
}

// SetCluster tells the engine its cluster; before Start.
func (e *Engine) SetCluster(c Cluster) { e.cluster = c }

// SetPublish tells the engine how to send MQTT messages. It may be called at any time.
func (e *Engine) SetPublish(p Publish) { e.publish.Store(&p) }

// SetPast says who answers what rules ask of the history.
func (c *Client) SetPast(p automation.Past) { c.e.past.Store(&p) }

// Registry gives the configuration records.
func (e *Engine) Registry() *Registry { return e.registry }

// Client gives the calls to twins, wherever they live.
func (e *Engine) Client() *Client { return e.client }

// Start begins to watch the configuration and to start the connected twins of the slots that were gained. It returns
// when the watches stand, without waiting for twins.
func (e *Engine) Start(ctx context.Context) error {
	if e.cluster == nil {
		return fmt.Errorf("start actors: no cluster")
	}
	if !e.state.CompareAndSwap(0, 1) {
		return fmt.Errorf("start actors: %w", ErrClosed)
	}
	after := e.store.Revision() // what changes while the records are read is told again
	if err := e.topics.load(); err != nil {
		return fmt.Errorf("start actors: %w", err)
	}
	if err := e.projects.load(); err != nil {
		return fmt.Errorf("start actors: %w", err)
	}
	if err := e.routes.load(); err != nil {
		return fmt.Errorf("start actors: %w", err)
	}
	if err := e.detectors.load(); err != nil {
		return fmt.Errorf("start actors: %w", err)
	}
	if err := e.rules.Load(); err != nil {
		return fmt.Errorf("start actors: %w", err)
	}
	if err := e.rollouts.load(); err != nil {
		return fmt.Errorf("start actors: %w", err)
	}
	if _, err := e.followers.load(); err != nil {
		return fmt.Errorf("start actors: %w", err)
	}
	if err := e.watchRecords(after); err != nil {
		return fmt.Errorf("start actors: %w", err)
	}
	e.ready.Store(true)
	if e.o.Clock == nil {
		e.goFunc(e.ticker)
	}
	e.goFunc(e.waker.run)
	e.goFunc(e.starter.run)
	e.goFunc(e.rollouts.run)
	e.streams.Start()
	e.sinks.Start()
	e.notifiers.Start()
	e.readers.Start()
	e.sources.Start()
	e.simulations.Start()
	e.goFunc(e.outbox.run)
	e.goFunc(e.outbox.clean)
	e.derivations.load()
	e.goFunc(e.derivations.run)
	e.goFunc(e.detectors.run)
	for range primeWorkers {
		e.goFunc(e.primer.run)
	}
	e.goFunc(e.intake.ledger.run)
	return ctx.Err()
}

// goFunc runs f until the engine closes; Close waits for it.
func (e *Engine) goFunc(f func()) {
	e.wg.Add(1)
	go func() {
		defer e.wg.Done()
		f()
	}()
}

// ticker drives the timing wheels.
func (e *Engine) ticker() {
	t := time.NewTicker(tick * time.Millisecond)
	defer t.Stop()
	slow := time.NewTicker(time.Second)
	defer slow.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-slow.C:
			e.slowTick()
		case <-t.C:
			e.Tick()
			if e.restful() {
				t.Stop()
				if !e.rest(slow.C) {
					return
				}
				t.Reset(tick * time.Millisecond)
			}
		}
	}
}

func (e *Engine) slowTick() {
	e.interval.relax()
	e.runners.sweep(time.Minute)
	e.automation.Sweep()
}

// restful says whether nothing needs the tick.
func (e *Engine) restful() bool {
	if e.backlog.count.Load() > 0 || e.room.crowded() {
		return false
	}
	for _, s := range e.shards {
		if !s.wheel.Empty() {
			return false
		}
	}
	return true
}

// rest waits until something needs the tick: a node whose twins are all passive does not wake up for nothing. It says
// whether the engine still lives.
func (e *Engine) rest(slow <-chan time.Time) bool {
	e.resting.Store(true)
	defer e.resting.Store(false)
	for e.restful() {
		select {
		case <-e.ctx.Done():
			return false
		case <-e.roused:
			return true
		case <-slow:
			e.slowTick()
		}
	}
	return true
}

// rouse has the tick go on. Whoever gives it something to do calls it afterwards.
func (e *Engine) rouse() {
	if e.resting.Load() {
		signal(e.roused)
	}
}

// Active says whether an actor is in memory here, or was a moment ago. It waits for the actor's shard.
func (e *Engine) Active(target cluster.Target) bool {
	if e.state.Load() == 2 {
		return false
	}
	answer := make(chan bool, 1)
	e.system.Root.Send(e.shardOf(cluster.SlotOf(target.ID)).pid, &shardAsk{target.ID, answer})
	select {
	case active := <-answer:
		return active
	case <-e.ctx.Done():
		return false
	}
}

func (e *Engine) shardOf(slot cluster.Slot) *shard { return e.shards[int(slot)%shardCount] }

// Handle takes a call for a slot that this node owns.
func (e *Engine) Handle(env *cluster.Envelope, done func(cluster.Reply)) {
	if !e.ready.Load() { // the slots may be here before Start is done: the router waits a moment
		done(cluster.Reply{Err: fmt.Errorf("%s: the node is starting: %w", env.Target.ID, cluster.ErrNotOwner)})
		return
	}
	slot := e.slotOf(env.Target.ID)
	own := e.owned[slot].Load()
	if own == nil || env.Since > own.Since {
		done(cluster.Reply{Err: fmt.Errorf("%s: slot %d: %w", env.Target.ID, slot, cluster.ErrNotOwner)})
		return
	}
	if env.Target.Kind != "twin" && env.Target.Kind != topic.Kind && !automation.IsKind(env.Target.Kind) {
		done(cluster.Reply{Err: fmt.Errorf("kind %q: %w", env.Target.Kind, ErrNotFound)})
		return
	}
	if !e.cluster.LeaseValid() {
		e.stats.drop(dropLease)
		done(cluster.Reply{Err: fmt.Errorf("%s: no lease: %w", env.Target.ID, cluster.ErrUnavailable)})
		return
	}
	if env.Target.Kind == topic.Kind {
		e.streams.Handle(env, own, done)
		return
	}
	if automation.IsKind(env.Target.Kind) {
		e.automation.Handle(env, own, done)
		return
	}
	s := e.shardOf(slot)
	if int(s.queue.Add(1)) > e.o.ShardQueue {
		s.queue.Add(-1)
		e.stats.drop(dropShardFull)
		done(cluster.Reply{Err: fmt.Errorf("%s: shard: %w", env.Target.ID, cluster.ErrOverloaded)})
		return
	}
	s.post(letter{call: &call{env: env, done: done, slot: slot}})
}

// Gained says that this node now owns the slots. What was gained before, and not lost, goes on.
func (e *Engine) Gained(owned []cluster.Ownership) {
	slots := make([]cluster.Slot, 0, len(owned))
	var former []cluster.Slot
	for i := range owned {
		switch old := e.owned[owned[i].Slot].Load(); {
		case old == nil:
		case old.Since == owned[i].Since && bytes.Equal(old.Value, owned[i].Value):
			continue
		default:
			// What runs belongs to an earlier tenure.
			former = append(former, owned[i].Slot)
		}
		slots = append(slots, owned[i].Slot)
	}
	if len(former) > 0 {
		e.Lost(former)
	}
	e.outbox.gained(func() {
		for i := range owned {
			if o := owned[i]; e.owned[o.Slot].Load() == nil {
				e.stats.show(o.Slot, o.Since)
				e.owned[o.Slot].Store(&o)
			}
		}
	})
	e.sinks.Wake()
	e.notifiers.Wake()
	e.readers.Wake()
	e.sources.Wake()
	e.simulations.Wake()
	e.waker.gained(slots)
	e.starter.gained(slots)
	e.hub.gained(slots)
}

// Drain releases every slot: running calls end, everything is checkpointed. Where ctx ends first, running calls are
// cancelled, and Drain returns its error after the actors have stopped, or two seconds later.
func (e *Engine) Drain(ctx context.Context) error {
	var slots []cluster.Slot
	for i := range e.owned {
		if e.owned[i].Load() != nil {
			slots = append(slots, cluster.Slot(i))
		}
	}
	done := make(chan struct{})
	e.letGo(slots, false, false, func() { close(done) })
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	e.stopCalls()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
	}
	return fmt.Errorf("drain actors: %w", ctx.Err())
}

// Close stops everything at once; what was not checkpointed is lost. Drain before it.
func (e *Engine) Close() error {
	if e.state.Swap(2) == 2 {
		return nil
	}
	e.simulations.Close() // as long as somebody answers them
	e.stopCalls()
	var slots []cluster.Slot
	for i := range e.owned {
		slots = append(slots, cluster.Slot(i))
	}
	done := make(chan struct{})
	e.letGo(slots, true, false, func() { close(done) })
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		e.log.Warn("actors did not stop in time")
	}
	e.stop()
	e.searcher.Close()
	e.sources.Close()
	e.sinks.Close()
	e.notifiers.Close()
	e.readers.Close()
	e.streams.Close()
	e.automation.Close()
	e.hub.close()
	e.pool.Close()
	e.wg.Wait()
	e.runners.close()
	for _, s := range e.shards {
		_ = e.system.Root.StopFuture(s.pid).Wait()
	}
	e.system.Shutdown()
	e.turns.Close()
	return nil
}
