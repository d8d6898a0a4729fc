// Package broker is a twin's connection to another's MQTT broker (3.1.1). The node's own broker is package mqtt, and
// its devices need no address. A message is a frame: topic, a zero byte, payload.
package broker

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

const (
	// keepAlive finds a broker that is gone within about one and a half of it.
	keepAlive = 30 * time.Second
	// pingTimeout is how long the broker's answer to a ping is waited for.
	pingTimeout = 10 * time.Second
	// publishTimeout holds where the caller's context has no deadline.
	publishTimeout = 10 * time.Second
)

// leaveWithin is how long the broker is told good-bye, in milliseconds.
const leaveWithin = 500

// Conn is a twin's connection to a broker.
type Conn struct {
	*transport.Conn
	publish []string

	mu   sync.Mutex
	live *session
}

// Open opens mqtt:// and mqtts:// with an address. The twin hears the topics of Subscribe, and publishes to those of Publish.
func Open(o transport.Options) (drivers.Conn, error) {
	t := &o.Binding.Transport
	a, err := transport.ParseAddress(o.Binding.URI, t)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", t.Scheme, err)
	}
	var secure *tls.Config
	if t.Scheme == drivers.SchemeMQTTS {
		if secure, err = transport.TLSConfig(t.TLS, a.Host); err != nil {
			return nil, fmt.Errorf("open %s %s: %w", t.Scheme, a.HostPort(), err)
		}
	}
	reach := transport.ReachOf(&o, a)
	filters := len(distinct(t.Subscribe))
	c := &Conn{publish: t.Publish}
	dial := func(ctx context.Context) (transport.Session, error) {
		s := &session{publish: t.Publish, messages: make(chan []byte), lost: make(chan struct{}), closed: make(chan struct{})}
		opts := s.options(&o, a)
		opts.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) {
			conn, err := reach.Dial(ctx, "tcp", a.HostPort())
			if err != nil {
				return nil, err
			}
			if secure == nil {
				return &bounded{Conn: conn, filters: filters}, nil
			}
			sealed := tls.Client(conn, secure)
			if err := sealed.HandshakeContext(ctx); err != nil {
				_ = conn.Close()
				return nil, fmt.Errorf("tls with %s: %w", a.HostPort(), err)
			}
			return &bounded{Conn: sealed, filters: filters}, nil
		})
		if err := s.connect(ctx, opts, t.Subscribe); err != nil {
			return nil, err
		}
		c.mu.Lock()
		c.live = s
		c.mu.Unlock()
		return s, nil
	}
	inner, err := transport.Open(o, transport.Kind{Name: a.HostPort(), Dial: dial})
	if err != nil {
		return nil, err
	}
	c.Conn = inner
	return c, nil
}

// Publish sends a message to one of the twin's topics; drivers.ErrDenied for others. With QoS 1 and 2 it waits for the
// broker's word.
func (c *Conn) Publish(ctx context.Context, topic string, payload []byte, qos byte, retain bool) error {
	c.mu.Lock()
	s := c.live
	c.mu.Unlock()
	if s == nil || s.ended() {
		return fmt.Errorf("publish to %q: %w", topic, transport.ErrNotConnected)
	}
	if err := s.allowed(topic); err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	c.Note(transport.Sent, join(topic, payload))
	if err := s.send(ctx, topic, payload, qos, retain); err != nil {
		return fmt.Errorf("publish to %q: %w", topic, err)
	}
	return nil
}

type session struct {
	client   paho.Client
	publish  []string
	messages chan []byte
	lost     chan struct{} // closed when the connection is lost, why says the reason
	why      error
	closed   chan struct{}
	once     sync.Once
}

func (s *session) options(o *transport.Options, a *transport.Address) *paho.ClientOptions {
	b := o.Binding.Transport.Broker
	if b == nil {
		b = &drivers.BrokerOptions{}
	}
	id := b.ClientID
	if id == "" {
		h := fnv.New64a()
		_, _ = io.WriteString(h, o.Binding.Twin) // never fails
		id = fmt.Sprintf("pollux-%016x", h.Sum64())
	}
	alive := keepAlive
	if b.KeepAliveS > 0 {
		alive = time.Duration(b.KeepAliveS) * time.Second
	}
	opts := paho.NewClientOptions().AddBroker("tcp://" + a.HostPort()).SetClientID(id).SetCleanSession(true).
		SetAutoReconnect(false).SetConnectRetry(false).SetOrderMatters(true).SetKeepAlive(alive).SetPingTimeout(pingTimeout).
		SetProtocolVersion(4).SetWriteTimeout(publishTimeout).SetDefaultPublishHandler(s.heard).SetConnectionLostHandler(func(_ paho.Client, err error) {
		if s.why = err; errors.Is(err, io.EOF) {
			s.why = io.EOF
		}
		close(s.lost) // once: there is no reconnecting
	})
	if b.User != "" || b.Password != "" {
		opts.SetUsername(b.User).SetPassword(b.Password)
	}
	return opts
}

// connect logs in and subscribes, within ctx.
func (s *session) connect(ctx context.Context, opts *paho.ClientOptions, filters []string) error {
	if deadline, ok := ctx.Deadline(); ok {
		opts.SetConnectTimeout(time.Until(deadline))
	}
	s.client = paho.NewClient(opts)
	if err := s.wait(ctx, s.client.Connect); err != nil {
		_ = s.Close()
		return err
	}
	if len(filters) == 0 {
		return nil
	}
	want := map[string]byte{}
	for _, f := range distinct(filters) {
		want[f] = 1
	}
	var token paho.Token
	if err := s.wait(ctx, func() paho.Token { token = s.client.SubscribeMultiple(want, nil); return token }); err != nil {
		_ = s.Close()
		return fmt.Errorf("subscribe: %w", err)
	}
	for filter, granted := range token.(*paho.SubscribeToken).Result() {
		if granted > 2 {
			_ = s.Close()
			return fmt.Errorf("the broker refuses the subscription to %q", filter)
		}
	}
	return nil
}

// wait has the client do something, and waits until the broker has answered. The client itself may wait for a connection
// that is no more.
func (s *session) wait(ctx context.Context, do func() paho.Token) error {
	done := make(chan error, 1)
	go func() {
		t := do()
		select {
		case <-t.Done():
			done <- t.Error()
		case <-s.lost:
		case <-s.closed:
		}
	}()
	select {
	case err := <-done:
		return err
	case <-s.lost:
		return fmt.Errorf("%w: %w", transport.ErrNotConnected, s.why)
	case <-s.closed:
		return transport.ErrNotConnected
	case <-ctx.Done():
		return ctx.Err()
	}
}

// heard hands a message on. While it waits the client reads no further, and the broker feels that.
func (s *session) heard(_ paho.Client, m paho.Message) {
	select {
	case s.messages <- join(m.Topic(), m.Payload()):
	case <-s.closed:
	}
}

// distinct leaves out filters that are there twice, which a subscription holds once.
func distinct(filters []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(filters)))
}

func join(topic string, payload []byte) []byte {
	return append(append([]byte(topic), 0), payload...)
}

// Receive implements transport.Session.
func (s *session) Receive() ([]byte, error) {
	select {
	case m := <-s.messages:
		return m, nil
	case <-s.lost:
		return nil, s.why
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

// Send implements transport.Session: topic, a zero byte, payload, with QoS 0.
func (s *session) Send(ctx context.Context, frame []byte) (int, error) {
	topic, payload, found := bytes.Cut(frame, []byte{0})
	if !found {
		return 0, fmt.Errorf("a message is a topic, a zero byte and a payload: %w", drivers.ErrInvalid)
	}
	if err := s.allowed(string(topic)); err != nil {
		return 0, err
	}
	if err := s.send(ctx, string(topic), payload, 0, false); err != nil {
		return 0, err
	}
	return len(frame), nil
}

func (s *session) send(ctx context.Context, topic string, payload []byte, qos byte, retain bool) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, publishTimeout)
		defer cancel()
	}
	if s.ended() {
		return transport.ErrNotConnected
	}
	return s.wait(ctx, func() paho.Token { return s.client.Publish(topic, qos, retain, payload) })
}

func (s *session) ended() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

// allowed holds the driver to the topics of its manifest.
func (s *session) allowed(topic string) error {
	if topic == "" || strings.ContainsAny(topic, "+#\x00") {
		return fmt.Errorf("%q is no topic: %w", topic, drivers.ErrInvalid)
	}
	for _, f := range s.publish {
		if matches(f, topic) {
			return nil
		}
	}
	return fmt.Errorf("not among the twin's topics: %w", drivers.ErrDenied)
}

// matches says whether a topic is one of a filter (MQTT 3.1.1, 4.7).
func matches(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	for {
		f, restF, moreF := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		t, restT, moreT := strings.Cut(topic, "/")
		switch {
		case f != "+" && f != t:
			return false
		case !moreT && moreF:
			return restF == "#"
		case moreT != moreF:
			return false
		case !moreT:
			return true
		}
		filter, topic = restF, restT
	}
}

// Close implements transport.Session.
func (s *session) Close() error {
	s.once.Do(func() {
		close(s.closed)
		go s.client.Disconnect(leaveWithin) // not awaited: it can hang where the wait is over in the same moment
	})
	return nil
}
