// Package mqtt is the node's MQTT broker, 3.1, 3.1.1 and 5.
//
// Clients may be at any node: sessions, subscriptions, queues and retained messages are records of the store, and brokers of
// different nodes tell each other what is for whom. What clients publish goes to subscribers and to a Handler, and is
// acknowledged when it is committed. See DESIGN.md.
//
// Its border: it does not know twins. It promises that nothing is acknowledged before it is committed, that
// acknowledgements come in the order of the messages, that a session which outlives its connection outlives its node, and that
// no client makes it hold more than the Limits allow.
package mqtt

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/sockets"
	"github.com/polluxhq/pollux/storage"
)

// ErrClosed says that the broker is closed.
var ErrClosed = errors.New("broker closed")

// Message is one publish. It belongs to the handler, payload included.
type Message struct {
	// Client id and User as they connected; User is empty for an anonymous client.
	Client, User string
	Topic        string
	Payload      []byte
	QoS          byte
	Retain       bool
	// Will: the broker sends it for a client that was lost.
	Will bool
	// Grant of the client; shared, not to be changed. Of the will of a client whose node is lost it has the key only.
	Grant *Grant
	// Found is the handler's, to keep what it found out about the topic: messages of one connection to one topic share it, and are delivered one
	// after the other. nil where nobody keeps it.
	Found *any
}

// Handler takes what clients publish. Its methods are called concurrently.
type Handler interface {
	// Deliver hands over one message; calls for one connection come in the order of its messages. It must not block.
	// done is to be called exactly once, from any goroutine and also from within Deliver, and does not block:
	// nil when the message is committed, an error that wraps a *Refusal when it is refused for good. Any other error means
	// that it may work later: it is not acknowledged, and the connection is closed so that the client sends again.
	// As long as done is not called, the message counts against the client's limits; at these the client is not read.
	Deliver(m *Message, done func(error))
	// Authenticate checks a client's credentials. It may block for a read of the store. The error's text is logged, not
	// sent.
	Authenticate(client, user string, password []byte) (Grant, error)
}

// Refuser is a Handler that hears of the messages which the broker refuses by itself: those on topics that their client has not been granted,
// those that a durable topic does not take, and those that are too large, of which nothing but the client is known. It must not block. The message is
// its own.
type Refuser interface {
	Refused(m *Message, why *Refusal)
}

// Options of a broker.
type Options struct {
	// Addr to listen on, such as 127.0.0.1:1883; empty: nowhere, and the broker only passes on.
	Addr string
	// Store keeps sessions, queues and retained messages; it outlives the broker.
	Store *storage.Store
	// Cluster reaches other nodes; nil: there are none. Their messages go to Receive.
	Cluster Cluster
	// Node is this node's id, Incarnation higher than in any earlier life of it. Empty: a broker alone.
	Node        string
	Incarnation uint64
	// Topics are the durable topics; nil: topics of that form are like all others.
	Topics Topics
	// TLS of the listener; nil: plain TCP.
	TLS     *tls.Config
	Handler Handler
	// AllowAnonymous lets clients in that give neither user nor password, to all topics but $-ones.
	AllowAnonymous bool
	// Made says whether the node itself has made the other end of a connection, for a twin or a sink: such a client is never anonymous. nil: none is.
	Made   func(accepted net.Conn) bool
	Limits Limits
	// Logger; nil: none.
	Logger *slog.Logger
	// Metrics gets the broker's counters and gauges; nil: none.
	Metrics *metrics.Set
}

// Broker is a running broker.
type Broker struct {
	handler     Handler
	anonymous   bool
	made        func(net.Conn) bool
	limits      Limits
	tls         *tls.Config
	log         *slog.Logger
	stats       *stats
	listener    net.Listener // nil: none
	store       *storage.Store
	cluster     Cluster
	self        string
	incarnation uint64
	topics      Topics

	closing       atomic.Bool
	stop          chan struct{}   // closed first
	ctx           context.Context // ends when connections are through
	cancel        context.CancelFunc
	stopFollowing context.CancelFunc
	wg            sync.WaitGroup
	handshakes    atomic.Int64
	pending       atomic.Int64 // bytes handed to the handler and not done
	pendingWills  atomic.Int64
	willsTaken    chan string  // clients whose session may be settled
	outbound      atomic.Int64 // bytes that wait for clients to take them
	largeBuffers  atomic.Int64 // bytes of read buffers beyond the common size
	quiet         throttle

	generation atomic.Uint64 // changes with every subscription, so that sessions may remember who listens
	lastKey    atomic.Int64
	turn       atomic.Uint64 // of members of shared subscriptions
	index      index
	clients    clients
	retained   retained
	writer     writer
	writerGone chan struct{}

	audienceMu sync.Mutex
	audiences  map[string]*audience

	linksMu sync.Mutex
	links   map[string]*link
	heard   map[string]heard

	mu       sync.Mutex
	conns    map[*session]struct{} // every open connection
	sessions map[*session]struct{} // those that are authenticated
	byID     map[string]*session   // the one connection that has a client id
	held     map[string]*inbox     // QoS 2 state by client id
}

// Open listens and serves until Close. Errors name the address or the limit.
func Open(o Options) (*Broker, error) {
	switch {
	case o.Handler == nil:
		return nil, errors.New("open mqtt broker: no handler")
	case o.Store == nil:
		return nil, errors.New("open mqtt broker: no store")
	}
	limits, err := o.Limits.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open mqtt broker: %w", err)
	}
	b := newBroker(o, limits)
	if o.Addr != "" {
		l, err := net.Listen("tcp", o.Addr)
		if err != nil {
			return nil, fmt.Errorf("open mqtt broker: %w", err)
		}
		b.listener = sockets.NewDoor(l, "mqtt", b.log, func() { b.stats.turnedAway("files") })
	}
	if err := b.begin(); err != nil {
		return nil, errors.Join(fmt.Errorf("open mqtt broker: %w", err), b.Close())
	}
	return b, nil
}

func newBroker(o Options, l Limits) *Broker {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Node == "" {
		o.Node, o.Incarnation = "alone", newNumber()
	}
	b := &Broker{
		handler: o.Handler, anonymous: o.AllowAnonymous, made: o.Made, limits: l, tls: o.TLS, log: o.Logger, stop: make(chan struct{}),
		store: o.Store, cluster: o.Cluster, self: o.Node, incarnation: o.Incarnation, topics: o.Topics, writerGone: make(chan struct{}),
		willsTaken: make(chan string, 256),
		conns:      map[*session]struct{}{}, sessions: map[*session]struct{}{}, byID: map[string]*session{}, held: map[string]*inbox{},
		audiences: map[string]*audience{}, links: map[string]*link{}, heard: map[string]heard{},
	}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.clients.byID = map[string]*client{}
	b.retained.wake = make(chan struct{}, 1)
	b.writer = writer{b: b, wake: make(chan struct{}, 1)}
	b.stats = newStats(o.Metrics, b)
	return b
}

// begin starts the parts in their order; sessions are known before the first client comes.
func (b *Broker) begin() error {
	go b.writer.run()
	b.retained.mu.Lock()
	b.recountLocked()
	b.retained.mu.Unlock()
	if err := b.follow(); err != nil {
		return err
	}
	b.wg.Add(2)
	go b.sweep()
	go b.keepRetained()
	if b.listener != nil {
		b.wg.Add(1)
		go b.accept()
	}
	return nil
}

// Addr is the address that the broker listens on; nil: nowhere.
func (b *Broker) Addr() net.Addr {
	if b.listener == nil {
		return nil
	}
	return b.listener.Addr()
}

// deliver hands a message to the handler, or to the durable topic that it is for.
func (b *Broker) deliver(m *Message, done func(error)) {
	if b.topics != nil && isDurable(m.Topic) {
		b.publishDurable(m, nil, done)
		return
	}
	b.handler.Deliver(m, done)
}

// Publish sends a message to the clients that subscribe to its topic, at any node; the handler does not get it. It does not
// block, nor wait for the commit where a subscriber has a queue or the message is retained. Without a subscriber the message
// is gone, unless retained. The payload may be used again after the call. Errors wrap ErrClosed or a refusal of
// package drivers.
func (b *Broker) Publish(topic string, payload []byte, qos byte, retain bool) error {
	switch {
	case b.closing.Load():
		return fmt.Errorf("publish to %q: %w", topic, ErrClosed)
	case qos > 2:
		return fmt.Errorf("publish to %q: qos %d: %w: want 0 to 2", topic, qos, drivers.ErrInvalid)
	case len(topic)+len(payload)+16 > b.limits.MaxPacket:
		return fmt.Errorf("publish to %q: %w: %d bytes, at most %d", topic, drivers.ErrTooLarge, len(payload), b.limits.MaxPacket)
	}
	if err := checkTopic(topic, b.limits); err != nil {
		return fmt.Errorf("publish to %q: %w: %w", topic, drivers.ErrInvalid, err)
	}
	if b.topics != nil && isDurable(topic) {
		b.publishDurable(&Message{Topic: topic, Payload: append([]byte{}, payload...), QoS: qos}, nil, func(err error) {
			if err != nil {
				b.stats.refused("unavailable")
				b.quiet.log(b.log, slog.LevelWarn, "mqtt message of a twin not published", "topic", topic, "error", err)
			}
		})
		return nil
	}
	m := newMessage(topic, append(make([]byte, 0, len(payload)), payload...), qos, retain, nil, "")
	result := make(chan error, 1)
	b.spread(m, b.audienceOf(topic), func(err error) {
		result <- err
		if err != nil {
			b.stats.refused("unavailable")
			b.quiet.log(b.log, slog.LevelWarn, "mqtt message of a twin not queued", "topic", topic, "error", err)
		}
	})
	select {
	case err := <-result:
		if errors.Is(err, storage.ErrBusy) {
			return fmt.Errorf("publish to %q: %w: %w", topic, drivers.ErrRateLimited, err)
		}
	default: // it is on its way
	}
	b.stats.nodeOut.Inc()
	return nil
}

// Client is a connected client, as operators see it.
type Client struct {
	ID, User, Remote string
	// Version of the protocol: 3 (3.1), 4 (3.1.1), 5.
	Version byte
	Since   time.Time
	// Unacked messages are handed over and not yet committed.
	Unacked int
	Grant   *Grant
}

// Clients lists the connected clients, in no order.
func (b *Broker) Clients() []Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]Client, 0, len(b.sessions))
	for s := range b.sessions {
		list = append(list, s.describe())
	}
	return list
}

// Disconnect closes the connections that match, such as those of a revoked key, and says how many. A client may come
// back if Authenticate lets it.
func (b *Broker) Disconnect(match func(Client) bool) int {
	n := 0
	for _, s := range b.established() {
		if match(s.describe()) {
			s.end("administrative", packets.ErrAdministrativeAction.Code)
			n++
		}
	}
	return n
}

func (b *Broker) established() []*session {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := make([]*session, 0, len(b.sessions))
	for s := range b.sessions {
		list = append(list, s)
	}
	return list
}

// Close stops listening, closes all connections and joins their goroutines. Wills are not delivered for them: it is the
// node that goes, not the devices. The handler may call done afterwards.
func (b *Broker) Close() error {
	if !b.closing.CompareAndSwap(false, true) {
		return nil
	}
	close(b.stop)
	var err error
	if b.listener != nil {
		err = b.listener.Close()
	}
	b.mu.Lock()
	all := make([]*session, 0, len(b.conns))
	for s := range b.conns {
		all = append(all, s)
	}
	b.mu.Unlock()
	for _, s := range all {
		s.end("", packets.ErrServerShuttingDown.Code)
	}
	if b.stopFollowing != nil {
		b.stopFollowing()
	}
	b.wg.Wait()
	b.cancel()
	<-b.writerGone
	b.stats.close()
	if err != nil {
		return fmt.Errorf("close mqtt broker: %w", err)
	}
	return nil
}
