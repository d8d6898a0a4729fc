// Package mqtt is the node's MQTT broker, 3.1, 3.1.1 and 5.
//
// mochi-mqtt keeps sessions, subscriptions, retained messages and wills. What clients publish does not pass through it:
// this package reads it off the connection, hands it to a Handler, and acknowledges it when the Handler says that it
// is committed. See DESIGN.md.
//
// Its border: it does not know twins. It promises that nothing is acknowledged before it is committed, that
// acknowledgements come in the order of the messages, and that no client makes it hold more than the Limits allow.
package mqtt

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/polluxhq/pollux/drivers"
)

// ErrClosed says that the broker is closed.
var ErrClosed = errors.New("broker closed")

// listenerID names our connections towards mochi.
const listenerID = "pollux"

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
	// Grant of the client; shared, not to be changed.
	Grant *Grant
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

// Options of a broker.
type Options struct {
	// Addr to listen on, such as 127.0.0.1:1883.
	Addr string
	// TLS of the listener; nil: plain TCP.
	TLS     *tls.Config
	Handler Handler
	// AllowAnonymous lets clients in that give neither user nor password, to all topics but $-ones.
	AllowAnonymous bool
	Limits         Limits
	// Logger; nil: none.
	Logger *slog.Logger
	// Metrics gets the broker's counters and gauges; nil: none.
	Metrics *metrics.Set
}

// Broker is a running broker.
type Broker struct {
	handler   Handler
	anonymous bool
	limits    Limits
	tls       *tls.Config
	log       *slog.Logger
	stats     *stats
	server    *mochi.Server
	node      *mochi.Client // the publisher of Publish
	listener  net.Listener

	closing       atomic.Bool
	stop          chan struct{}
	wg            sync.WaitGroup
	handshakes    atomic.Int64
	pending       atomic.Int64 // bytes handed to the handler and not done
	pendingWills  atomic.Int64
	outbound      atomic.Int64 // bytes that wait for clients to take or to acknowledge them
	largeBuffers  atomic.Int64 // bytes of read buffers beyond the common size
	quiet         throttle
	subscriptions atomic.Uint64 // changes with every subscription, so that sessions may remember who listens
	retained      retained

	mu       sync.Mutex
	conns    map[*session]struct{} // every open connection
	sessions map[*session]struct{} // those that are authenticated
	byID     map[string]*session   // the one connection that has a client id
	held     map[string]*inbox     // QoS 2 state by client id
}

// Open listens and serves until Close. Errors name the address or the limit.
func Open(o Options) (*Broker, error) {
	if o.Handler == nil {
		return nil, errors.New("open mqtt broker: no handler")
	}
	limits, err := o.Limits.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("open mqtt broker: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	b := &Broker{
		handler: o.Handler, anonymous: o.AllowAnonymous, limits: limits, tls: o.TLS, log: o.Logger, stop: make(chan struct{}),
		conns: map[*session]struct{}{}, sessions: map[*session]struct{}{}, byID: map[string]*session{}, held: map[string]*inbox{},
	}
	b.retained.init(limits)
	b.server = newServer(limits)
	if err := b.server.AddHook(&hook{b: b}, nil); err != nil {
		return nil, fmt.Errorf("open mqtt broker: %w", err)
	}
	b.node = b.server.NewClient(nil, mochi.LocalListener, "", true)
	b.listener, err = net.Listen("tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("open mqtt broker: %w", err)
	}
	if err := b.server.Serve(); err != nil {
		_ = b.listener.Close()
		return nil, fmt.Errorf("open mqtt broker: %w", err)
	}
	b.dropSysTopics()
	b.stats = newStats(o.Metrics, b)
	b.wg.Add(1)
	go b.accept()
	return b, nil
}

// newServer makes mochi's server with our limits, no listener, and no log of its own: it would log whole packets.
func newServer(l Limits) *mochi.Server {
	c := mochi.NewDefaultServerCapabilities()
	c.MaximumClients = int64(l.Clients)
	c.MaximumMessageExpiryInterval = 0 // or retained messages would vanish after a day
	c.MaximumClientWritesPending = 128 // only handed on from there to the session's own queue
	c.MaximumSessionExpiryInterval = uint32(l.SessionExpiry / time.Second)
	c.MaximumPacketSize = uint32(l.MaxPacket) // checked by the session before mochi allocates anything
	c.ReceiveMaximum = uint16(l.Unacked)
	c.MaximumInflight = uint16(l.OutboundUnacked)
	c.TopicAliasMaximum = topicAliases
	c.Compatibilities.NoInheritedPropertiesOnAck = true
	return mochi.New(&mochi.Options{
		Capabilities: c, Logger: slog.New(slog.DiscardHandler),
		ClientNetReadBufferSize:  256,     // the session reads ahead, mochi need not
		ClientNetWriteBufferSize: 1,       // a packet per write: the session looks at each and gathers them itself
		SysTopicResendInterval:   1 << 32, // s; reading the memory statistics stops the world
	})
}

// dropSysTopics removes the $SYS messages that mochi retains at its start.
func (b *Broker) dropSysTopics() {
	for topic := range b.server.Topics.Retained.GetAll() {
		if strings.HasPrefix(topic, mochi.SysPrefix) {
			b.server.Topics.RetainMessage(packets.Packet{TopicName: topic})
		}
	}
}

// Addr is the address that the broker listens on.
func (b *Broker) Addr() net.Addr { return b.listener.Addr() }

// Publish sends a message to the clients that subscribe to its topic; the handler does not get it. It does not block.
// Without a subscriber the message is gone, unless retained. The payload may be used again after the call. Errors wrap
// ErrClosed or a refusal of package drivers.
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
	if retain && !b.retained.room(topic, len(payload)) {
		return fmt.Errorf("publish to %q: %w: too many retained messages", topic, drivers.ErrRateLimited)
	}
	if err := b.server.InjectPacket(b.node, publishPacket(topic, payload, qos, retain)); err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	b.stats.nodeOut.Inc()
	return nil
}

func publishPacket(topic string, payload []byte, qos byte, retain bool) packets.Packet {
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos, Retain: retain}, TopicName: topic, Payload: payload,
	}
	if qos > 0 {
		pk.PacketID = 1 // asked for, and not used
	}
	return pk
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
	err := b.listener.Close()
	b.mu.Lock()
	all := make([]*session, 0, len(b.conns))
	for s := range b.conns {
		all = append(all, s)
	}
	b.mu.Unlock()
	for _, s := range all {
		s.end("", packets.ErrServerShuttingDown.Code)
	}
	b.wg.Wait()
	if e := b.server.Close(); err == nil {
		err = e
	}
	b.stats.close()
	if err != nil {
		return fmt.Errorf("close mqtt broker: %w", err)
	}
	return nil
}
