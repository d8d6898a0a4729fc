package pollux

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/records"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/gossip"
	"github.com/polluxhq/pollux/cluster/peer"
	"github.com/polluxhq/pollux/cluster/pki"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/inbound"
	"github.com/polluxhq/pollux/drivers/mqtt"
	"github.com/polluxhq/pollux/drivers/sockets"
	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/disk"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
)

// Version of this build; the program sets it before Open.
var Version = "dev"

// Node is a running node. Open makes it, Close ends it.
type Node struct {
	conf    Config
	log     *slog.Logger
	metrics *metrics.Set
	started time.Time
	self    identity
	// clusterID is the cluster's, the same on all of its nodes.
	clusterID string

	// life ends when the node begins to close; what other nodes are asked meanwhile is given up.
	life    context.Context
	endLife context.CancelFunc
	// hadState: the data directory had records before this start.
	hadState bool
	creds    *credentials
	// trustSeen and trustAt: which record of trust this node follows, and since when. They belong to keepTrust.
	trustSeen    uint64
	trustAt      time.Time
	peerListener net.Listener
	// offered is the authority with which processes of this user on this machine can join without a token.
	offered pki.Fingerprint
	// peerAddr is where other nodes reach this one.
	peerAddr string
	peers    *peer.Peers
	gossip   *gossip.Gossip
	// Closed once the part can be used: gossip, raft, cluster, server. Peers may ask before.
	gossiping, voting, member, serving chan struct{}
	rpc                                *rpc.Server
	brought                            brought
	// outgoing are connections to this machine of twins and sinks, whom the broker does not take for local clients.
	outgoing *sockets.Outgoing
	// unpublished counts messages that did not get to another node's broker.
	unpublished *metrics.Counter
	// turnedAway counts connections over HTTP that would have left too few files.
	turnedAway *metrics.Counter

	store    *storage.Store
	raft     *cluster.Raft
	history  history.History
	exporter exporter
	feeder   feeder
	journal  *journal.Journal
	disk     *disk.Watch
	curator  *curator
	pusher   *history.Pusher
	sandbox  *drivers.Sandbox
	engine   *actors.Engine
	cluster  *cluster.Node
	broker   *mqtt.Broker
	// routing is the broker, for other nodes, which may come before it is there.
	routing atomic.Pointer[mqtt.Broker]
	hub     *inbound.Hub
	callers *inbound.Acceptor // nil: no device may call in here
	keys    *rpc.Keyring
	server  *http.Server
	http    net.Listener
	tls     *tls.Config

	failOnce sync.Once
	failed   chan struct{}
	err      error

	// undo closes what was opened, last first.
	undo []step
}

// exporter gives a node's history to another one, or to a backup, and says whether it is the whole of it.
type exporter interface {
	history.Exporter
	Complete() bool
}

// feeder brings samples from the log to history.
type feeder interface {
	Lag() uint64
	SyncCursor() error
	Close()
}

type step struct {
	name string
	do   func(ctx context.Context) error
}

// Open starts a node and returns when it serves. ctx bounds the start only. What was opened is closed where it fails.
func Open(ctx context.Context, c Config, log *slog.Logger) (*Node, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	n := &Node{conf: c, log: log, metrics: metrics.NewSet(), started: time.Now(), failed: make(chan struct{}), outgoing: sockets.NewOutgoing(),
		gossiping: make(chan struct{}), voting: make(chan struct{}), member: make(chan struct{}), serving: make(chan struct{})}
	n.unpublished = n.metrics.NewCounter("pollux_mqtt_unpublished_total")
	n.turnedAway = n.metrics.NewCounter(`pollux_http_turned_away_total{reason="files"}`)
	n.life, n.endLife = context.WithCancel(context.Background())
	if err := n.open(ctx); err != nil {
		closing, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		return nil, errors.Join(err, n.Close(closing))
	}
	return n, nil
}

// open starts the parts in the order in which they stand on each other.
func (n *Node) open(ctx context.Context) error {
	for _, part := range []func(context.Context) error{
		n.listen, n.listenPeers, n.openDir, n.watchDisk, n.openStore, n.openCredentials, n.openPeers, n.openGossip, n.openRaft, n.openHistory, n.openJournal, n.openActors,
		n.joinCluster, n.startActors, n.curate, n.keepHouse, n.openBroker, n.openDoor,
	} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) closeLater(name string, do func(context.Context) error) {
	n.undo = append(n.undo, step{name, do})
}

func (n *Node) openDir(context.Context) error {
	if err := os.MkdirAll(n.conf.Data, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w", err)
	}
	if n.conf.TLSCert == "" {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(n.conf.TLSCert, n.conf.TLSKey)
	if err != nil {
		return fmt.Errorf("tls-cert = %q: %w", n.conf.TLSCert, err)
	}
	n.tls = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	return nil
}

// clientVanished is after how long without a sign a client over HTTP is taken to be gone: a notebook that was closed, a network that forgot
// the connection. It is before the 30 s after which what a topic's reader holds comes again and counts as failed, where nobody failed: nobody
// was there. Devices are given longer: many sleep, with their connection.
const clientVanished = 25 * time.Second

// listen takes the HTTP address before anything is opened, so that a busy port leaves no traces. Nobody is answered
// before openDoor: who connects meanwhile waits.
func (n *Node) listen(context.Context) error {
	l, err := net.Listen("tcp", n.conf.HTTP)
	if err != nil {
		return fmt.Errorf("http = %q: %w", n.conf.HTTP, err)
	}
	door := sockets.NewDoor(l, "http", n.log, n.turnedAway.Inc)
	door.Vanished = clientVanished
	n.http = door
	if n.conf.MQTT != mqttOff {
		probe, err := net.Listen("tcp", n.conf.MQTT)
		if err != nil {
			return errors.Join(fmt.Errorf("mqtt = %q: %w", n.conf.MQTT, err), l.Close())
		}
		if err := probe.Close(); err != nil {
			return errors.Join(fmt.Errorf("mqtt = %q: %w", n.conf.MQTT, err), l.Close())
		}
	}
	n.closeLater("http address", func(context.Context) error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return nil
}

func (n *Node) watchDisk(context.Context) error {
	w, err := disk.Open(disk.Options{Dir: n.conf.Data, Node: n.conf.Name, Reserve: n.conf.DiskReserve, Logger: n.log, Metrics: n.metrics})
	if err != nil {
		return err
	}
	n.disk = w
	n.closeLater("disk", func(context.Context) error { w.Close(); return nil })
	return nil
}

func (n *Node) openStore(context.Context) error {
	s, err := storage.Open(storage.Options{Dir: filepath.Join(n.conf.Data, "store"), Logger: n.log, Metrics: n.metrics,
		StateCacheBytes: n.conf.StoreCache, KeepJournal: true, Fatal: n.fail})
	if err != nil {
		return err
	}
	n.store = s
	n.closeLater("store", func(context.Context) error { return s.Close() })
	n.hadState, err = cluster.HasState(cluster.RaftOptions{Log: s.LogStore(), Stable: s.StableStore(), Snapshots: s.SnapshotStore()})
	if err != nil {
		return err
	}
	n.self, err = nextIdentity(s)
	return err
}

func (n *Node) openHistory(ctx context.Context) error {
	dir := filepath.Join(n.conf.Data, "history")
	var sink interface {
		history.History
		history.Sink
		history.MetricSink
		exporter
	}
	follow := history.FeedOptions{Logger: n.log, Metrics: n.metrics}
	if n.conf.MetricsURL != "" {
		remote, err := history.OpenRemote(history.RemoteOptions{URL: n.conf.MetricsURL, Dir: dir, QueueBytes: n.conf.MetricsDisk,
			Retention: n.conf.MetricsRetention, MemoryAllowedBytes: n.conf.MetricsMemory, Logger: n.log, Metrics: n.metrics, Fatal: n.fail})
		if err != nil {
			return err
		}
		sink = remote
		n.feeder = history.Share(context.Background(), n.store, remote, history.ShareOptions{Node: n.self.id, Active: n.raft.IsLeader, Gone: n.isGone, Feed: follow})
	} else {
		embedded, err := history.OpenEmbedded(history.Options{Dir: dir, Retention: n.conf.MetricsRetention,
			MemoryAllowedBytes: n.conf.MetricsMemory, Logger: n.log, Metrics: n.metrics, Fatal: n.fail})
		if err != nil {
			return err
		}
		sink = embedded
		n.feeder = history.Feed(context.Background(), n.store, embedded, follow)
	}
	n.history, n.exporter = sink, sink
	n.closeLater("history", func(context.Context) error { return n.closeHistory() })
	if e, ok := sink.(*history.Embedded); ok {
		n.keepHistory(e)
	}
	n.pusher = history.Push(sink, history.PushOptions{Node: n.conf.Name, Interval: n.conf.MetricsInterval,
		Gather: history.GatherNode(n.metrics), Logger: n.log, Metrics: n.metrics})
	return nil
}

// isGone says whether a node is no member any more, or a dead one.
func (n *Node) isGone(node string) bool {
	rec, ok, err := n.store.Get(cluster.TableMember, node)
	if err != nil || !ok {
		return err == nil
	}
	m, err := cluster.DecodeMember(node, rec.Value)
	return err == nil && (m.State == cluster.StateDead || m.State == cluster.StateLeft || m.State == cluster.StateExpelled)
}

// openJournal starts what follows the log beside history.
func (n *Node) openJournal(context.Context) error {
	j, err := journal.Open(journal.Options{Dir: filepath.Join(n.conf.Data, "journal"), Logger: n.log, Metrics: n.metrics, Fatal: n.fail})
	if err != nil {
		return err
	}
	n.journal = j
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { j.Follow(ctx, n.store) })
	running.Go(func() {
		j.KeepComplete(ctx, func(ctx context.Context) (io.ReadCloser, error) { return n.fromVoter(ctx, journalPath, "journal") })
	})
	n.closeLater("journal", func(context.Context) error {
		cancel()
		running.Wait()
		return j.Close()
	})
	return nil
}

// closeHistory closes the sink between the feeder and its cursor, so that the next start has nothing to repeat.
func (n *Node) closeHistory() error {
	if n.pusher != nil {
		n.pusher.Close()
	}
	if n.feeder != nil {
		n.feeder.Close()
	}
	err := n.history.Close()
	if err == nil && n.feeder != nil {
		err = n.feeder.SyncCursor()
	}
	return err
}

// compiledDir keeps compiled drivers.
func (n *Node) compiledDir() string { return filepath.Join(n.conf.Data, "compiled") }

func (n *Node) openActors(context.Context) error {
	s, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: n.compiledDir(),
		Compiler: n.conf.DriverCompiler, MemoryBudget: n.conf.GuestMemory, Logger: n.log, Metrics: n.metrics})
	if err != nil {
		return err
	}
	n.sandbox = s
	n.closeLater("sandbox", func(context.Context) error { return s.Close() })
	if err := n.openInbound(); err != nil {
		return err
	}
	e, err := actors.New(actors.Options{Store: n.store, Drivers: n.loadDriver,
		Dialers: n.dialers(), HTTP: n.httpClient, Logger: n.log, Metrics: n.metrics, Node: n.self.id, ClusterID: n.clusterID, Full: n.disk.Low,
		SinkFiles: cmp.Or(n.conf.SinkFiles, filepath.Join(n.conf.Data, "sinks")), Outgoing: n.outgoing,
		IdleTimeout: n.conf.PassivateAfter, StartRate: n.conf.ConnectRate,
		QuarantineAfter: n.conf.QuarantineAfter})
	if err != nil {
		return err
	}
	n.engine = e
	n.closeLater("actors", func(context.Context) error { return e.Close() })
	return nil
}

// loadDriver gives the runner of a driver's file.
func (n *Node) loadDriver(ctx context.Context, digest string) (drivers.Runner, error) {
	file, err := n.store.FetchBlob(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("read driver %.12s: %w", digest, err)
	}
	return n.sandbox.Load(ctx, file)
}

func (n *Node) openBroker(context.Context) error {
	n.keys = rpc.NewKeyring(n.store, n.log, n.metrics)
	n.closeLater("keys", func(context.Context) error { return n.keys.Close() })
	// Where it listens nowhere it still brings what twins send to clients of other nodes.
	addr := n.conf.MQTT
	if addr == mqttOff {
		addr = ""
	}
	b, err := mqtt.Open(mqtt.Options{Addr: addr, TLS: n.tls, Handler: deviceDoor{n}, AllowAnonymous: n.conf.allowAnonymousMQTT(), Made: n.outgoing.Made,
		Store: n.store, Cluster: n.cluster, Node: n.self.id, Incarnation: n.self.incarnation, Topics: n.engine.Client().MQTT(),
		Logger: n.log, Metrics: n.metrics})
	if err != nil {
		return fmt.Errorf("mqtt = %q: %w", n.conf.MQTT, err)
	}
	n.broker = b
	n.routing.Store(b)
	n.engine.SetPublish(n.publish)
	n.closeLater("broker", func(context.Context) error { return b.Close() })
	n.watchGrants(b)
	return nil
}

func (n *Node) joinCluster(ctx context.Context) error {
	self := cluster.Member{ID: n.self.id, Incarnation: n.self.incarnation, Name: n.conf.Name, AvailabilityZone: n.conf.AvailabilityZone,
		Site: n.conf.Site, Labels: n.conf.Labels, Weight: uint32(n.conf.Weight), Peer: n.peerAddr, Gossip: n.gossip.Address(),
		HTTP: n.URL(), MQTT: n.conf.MQTT, Version: Version}
	c, err := cluster.Start(ctx, cluster.Options{Self: self, Clock: n.leaseClock(), Records: records.Of(n.store, n.log), Handler: n.engine, Transport: n.peers, NodeHandler: n.handle,
		Leader: n.raft.IsLeader, Logger: n.log, Metrics: n.metrics, Shift: n.engine.Shift,
		Superseded: n.fail})
	if err != nil {
		return err
	}
	n.cluster = c
	n.engine.SetCluster(c)
	close(n.member)
	n.closeLater("cluster", func(context.Context) error { return c.Close() })
	return nil
}

// leaseClock is the clock of leases; nil: the machine's.
func (n *Node) leaseClock() cluster.Clock {
	if n.conf.ClockRate == 0 || n.conf.ClockRate == 1 {
		return nil
	}
	n.log.Warn("the clock of leases drifts, for a test", "rate", n.conf.ClockRate)
	return &cluster.DriftingClock{Of: &cluster.BootClock{}, Rate: n.conf.ClockRate}
}

func (n *Node) startActors(ctx context.Context) error {
	if err := n.engine.Start(ctx); err != nil {
		return err
	}
	n.closeLater("twins", func(ctx context.Context) error {
		n.cluster.TurnAway() // no slot comes back to this node
		return n.engine.Drain(ctx)
	})
	n.watchCallers()
	return n.watchRestores()
}

// fail ends the node's work: Failed tells, Err says why. It may be called from any goroutine.
func (n *Node) fail(err error) {
	n.failOnce.Do(func() {
		n.err = err
		close(n.failed)
	})
}

// Failed is closed when the node cannot go on; Err then says why. Whoever runs the node ends the process.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Err says why the node failed; nil before Failed is closed.
func (n *Node) Err() error {
	select {
	case <-n.failed:
		return n.err
	default:
		return nil
	}
}

// Close stops the node: doors first, then the twins, which are written to the store, then what they stand on. It
// returns when all is closed, or with what did not close before ctx ended.
func (n *Node) Close(ctx context.Context) error {
	n.endLife()
	var faults []error
	for i := len(n.undo) - 1; i >= 0; i-- {
		if err := within(ctx, n.undo[i].do); err != nil {
			faults = append(faults, fmt.Errorf("close %s: %w", n.undo[i].name, err))
		}
	}
	n.undo = nil
	return errors.Join(faults...)
}

// stepGrace is what a step of closing gets after ctx has ended, so that one that hangs does not keep the others.
const stepGrace = 2 * time.Second

func within(ctx context.Context, do func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(stepGrace):
		return context.Cause(ctx)
	}
}

// Config is what the node was opened with.
func (n *Node) Config() Config { return n.conf }

// ID of the node, the same after every restart.
func (n *Node) ID() string { return n.self.id }

// URL of the API and the console.
func (n *Node) URL() string {
	scheme := "http://"
	if n.tls != nil {
		scheme = "https://"
	}
	return scheme + n.http.Addr().String()
}

// MQTTAddr is HOST:PORT of the broker, "" where there is none.
func (n *Node) MQTTAddr() string {
	if n.broker == nil || n.broker.Addr() == nil {
		return ""
	}
	return n.broker.Addr().String()
}

// Registry of the configuration records, for programs that hold the node in their own process.
func (n *Node) Registry() *actors.Registry { return n.engine.Registry() }

// HTTPClient trusts the node's certificate and reaches nothing else.
func (n *Node) HTTPClient() *http.Client {
	t := &http.Transport{MaxIdleConnsPerHost: 64}
	if n.tls != nil {
		t.TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // this process's own door
	}
	return &http.Client{Transport: t}
}

func (n *Node) writeMetrics(w io.Writer) {
	history.GatherNode(n.metrics)(w)
}
