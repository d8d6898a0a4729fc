package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
	"github.com/polluxhq/pollux/drivers/transport"
)

// peer is the twin's device as the script plays it. It is there, or away; while it is there and the twin wants a
// connection, they are connected.
type peer struct {
	clock *clock
	// deliver brings a message of an MQTT device to the node.
	deliver func(m script.Message)
	// presence tells the node of an MQTT device that it is there, or not.
	presence func(online bool)
	// client makes the client of a twin whose device is an HTTP server.
	client func(drivers.Binding) (drivers.HTTPClient, error)
	// note hears what goes between the two.
	note func(text string)

	mu      sync.Mutex
	away    bool
	refusal string // why attempts to connect fail
	conn    *conn
	sent    []sent
	rules   []*rule
	busy    int // what is on its way to the twin
	faults  *faults
}

// sent is a frame that the driver wrote, or a message that it published.
type sent struct {
	topic    string
	data     []byte
	answered bool // by a rule: it may be expected, and need not be
}

func (s *sent) String() string { return script.ShowMessage(s.topic, s.data) }

// rule answers on its own.
type rule struct {
	*script.Rule
	used int
}

func (r *rule) spent() bool { return r.Times > 0 && r.used >= r.Times }

// conn is the twin's connection to the peer.
type conn struct {
	p    *peer
	sink drivers.Sink
	tok  *transport.Tokenizer // nil: frames go as they are
	// events are what the sink is to hear, in order; done is closed once the connection's goroutine has ended.
	events chan func(drivers.Sink)
	quit   chan struct{}
	done   chan struct{}
	up     bool
	closed bool
	// broker: it is an MQTT broker's; frames are topic, a zero byte, payload.
	broker bool
}

var errAway = fmt.Errorf("the device is away: %w", drivers.ErrDisconnected)

// room of what a connection's sink has yet to hear.
const room = 4096

// dial implements actors.Dialer for every scheme.
func (p *peer) dial(b drivers.Binding, sink drivers.Sink, _ actors.Trace) (drivers.Conn, error) {
	c := &conn{p: p, sink: sink, events: make(chan func(drivers.Sink), room), quit: make(chan struct{}), done: make(chan struct{})}
	switch b.Transport.Scheme {
	case drivers.SchemeTCP, drivers.SchemeTLS, drivers.SchemeSSH, drivers.SchemeSerial, drivers.SchemeTCPIn:
		tok, err := transport.NewTokenizer(b.Transport.Tokenizer)
		if err != nil {
			return nil, err
		}
		c.tok = tok
	}
	var out drivers.Conn = c
	switch b.Transport.Scheme {
	case drivers.SchemeHTTP, drivers.SchemeHTTPS:
		client, err := p.client(b)
		if err != nil {
			return nil, err
		}
		out = &httpConn{c, client}
	case drivers.SchemeMQTT, drivers.SchemeMQTTS:
		c.broker = true
		out = &brokerConn{c}
	}
	go c.run()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = c
	p.meet()
	return out, nil
}

// httpConn is the connection of a twin whose device is an HTTP server.
type httpConn struct {
	*conn
	web drivers.HTTPClient
}

// Do implements drivers.HTTPClient.
func (c *httpConn) Do(ctx context.Context, r drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	return c.web.Do(ctx, r)
}

// Close implements drivers.Conn.
func (c *httpConn) Close() error { return errors.Join(c.conn.Close(), c.web.Close()) }

// brokerConn is the connection of a twin to a broker of its own.
type brokerConn struct{ *conn }

// Publish sends a message to that broker.
func (c *brokerConn) Publish(_ context.Context, topic string, payload []byte, qos byte, retain bool) error {
	c.p.mu.Lock()
	up := c.up
	c.p.mu.Unlock()
	if !up {
		return errAway
	}
	return c.p.publish(topic, payload, qos, retain)
}

// StartTLS has the bytes that follow sealed, which a script does not see.
func (c *conn) StartTLS(context.Context) error {
	c.p.note("starttls")
	return nil
}

// Reset drops the connection and dials again.
func (c *conn) Reset() {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.part("the driver closed the connection")
	c.p.meet()
}

// run tells the sink what happens, in order.
func (c *conn) run() {
	defer close(c.done)
	for {
		select {
		case fn := <-c.events:
			fn(c.sink)
			c.p.mu.Lock()
			c.p.busy--
			c.p.mu.Unlock()
		case <-c.quit:
			return
		}
	}
}

// tell queues an event. The peer's lock is held.
func (c *conn) tell(fn func(drivers.Sink)) {
	if c.closed {
		return
	}
	select {
	case c.events <- fn:
		c.p.busy++
	default: // the twin does not listen any more
	}
}

// meet connects the two, if both want it. The lock is held.
func (p *peer) meet() {
	c := p.conn
	switch {
	case c == nil || c.closed || c.up:
	case p.refusal != "":
		why := errors.New(p.refusal)
		c.tell(func(s drivers.Sink) {
			if f, ok := s.(drivers.FailureSink); ok {
				f.Failed(why)
			}
		})
	case !p.away:
		c.up = true
		p.note("connected")
		if c.tok != nil {
			c.tok.Reset()
		}
		c.tell(drivers.Sink.Connected)
	}
}

// part ends the connection. The lock is held.
func (p *peer) part(why string) {
	c := p.conn
	if c == nil || !c.up {
		return
	}
	c.up = false
	if why == "" {
		why = "the device closed the connection"
	}
	p.note("disconnected: " + why)
	c.tell(func(s drivers.Sink) { s.Disconnected(errors.New(why)) })
}

func (p *peer) connect() {
	p.mu.Lock()
	p.away, p.refusal = false, ""
	p.meet()
	p.mu.Unlock()
	p.presence(true)
}

func (p *peer) disconnect(why string) {
	p.mu.Lock()
	p.away = true
	p.part(why)
	p.mu.Unlock()
	p.presence(false)
}

// refuse has attempts to connect fail.
func (p *peer) refuse(why string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away, p.refusal = true, why
	p.part(why)
	p.meet()
}

// say sends what the device says. Its error says why it cannot.
func (p *peer) say(m script.Message) error {
	if m.Topic != "" {
		p.mu.Lock()
		pieces := p.faults.pieces(m.Data, false)
		p.mu.Unlock()
		for _, m.Data = range pieces {
			p.bring(m)
		}
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.feed(m.Data)
}

// bring brings an MQTT message by the twin's own broker, where it has one, or else by the node's.
func (p *peer) bring(m script.Message) {
	p.mu.Lock()
	c := p.conn
	if c == nil || !c.broker {
		p.mu.Unlock()
		p.deliver(m)
		return
	}
	defer p.mu.Unlock()
	p.note("<- " + script.ShowMessage(m.Topic, m.Data))
	c.tell(received(append(append([]byte(m.Topic), 0), m.Data...)))
}

// feed gives bytes to the connection, cut as the transport cuts them. The lock is held.
func (p *peer) feed(data []byte) error {
	c := p.conn
	switch {
	case c == nil || c.closed:
		return errors.New("the twin has no connection")
	case !c.up:
		return errors.New("the device is not connected; connect it first")
	}
	p.note("<- " + script.Show(data))
	for _, piece := range p.faults.pieces(data, c.tok != nil) {
		if c.tok == nil {
			c.tell(received(piece))
			continue
		}
		c.tok.Push(piece)
		for {
			frame, ok, err := c.tok.Next()
			if err != nil {
				p.part(err.Error())
				p.meet()
				return nil
			}
			if !ok {
				break
			}
			c.tell(received(frame))
		}
	}
	return nil
}

func received(frame []byte) func(drivers.Sink) {
	frame = append([]byte(nil), frame...)
	return func(s drivers.Sink) { s.Received(frame) }
}

// Send implements drivers.Conn.
func (c *conn) Send(_ context.Context, frame []byte) error {
	c.p.mu.Lock()
	if !c.up {
		c.p.mu.Unlock()
		return errAway
	}
	then := c.p.hear("", frame)
	c.p.mu.Unlock()
	then()
	return nil
}

// publish takes an MQTT message of the driver.
func (p *peer) publish(topic string, payload []byte, _ byte, _ bool) error {
	p.mu.Lock()
	then := p.hear(topic, payload)
	p.mu.Unlock()
	then()
	return nil
}

// hear notes what the driver sent. What it returns answers by the first rule that fits. The lock is held, and must not
// be then.
func (p *peer) hear(topic string, data []byte) (then func()) {
	then = func() {}
	p.note("-> " + script.ShowMessage(topic, data))
	s := sent{topic: topic, data: append([]byte(nil), data...)}
	for _, r := range p.rules {
		if r.Frame == nil || r.spent() {
			continue
		}
		groups, ok := r.Frame.Matches(topic, s.data)
		if !ok {
			continue
		}
		r.used++
		s.answered = true
		after := r.After + p.faults.late()
		then = func() { p.clock.AfterFunc(after, func() { p.answer(r.With, groups) }) }
		break
	}
	p.sent = append(p.sent, s)
	return then
}

// answer says what a rule has for an answer; \1 to \9 in it stand for the groups of what it answers.
func (p *peer) answer(with []script.Message, groups [][]byte) {
	for _, m := range with {
		m.Data = script.Expand(m.Data, groups)
		if m.Topic != "" {
			p.bring(m)
			continue
		}
		p.mu.Lock()
		_ = p.feed(m.Data) // who is not connected any more does not hear it
		p.mu.Unlock()
	}
}

// Close implements drivers.Conn.
func (c *conn) Close() error {
	c.p.mu.Lock()
	first := !c.closed
	c.closed, c.up = true, false
	c.p.mu.Unlock()
	if first {
		close(c.quit)
	}
	<-c.done
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	if first {
		c.p.busy -= len(c.events)
	}
	return nil
}

// take gives the next thing that the driver sent: the first that is not answered by a rule, or an earlier one that
// fits. What was answered and does not fit is passed over.
func (p *peer) take(f *script.Frame) (s *sent, fits bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.sent {
		if _, ok := f.Matches(p.sent[i].topic, p.sent[i].data); ok {
			s := p.sent[i]
			p.sent = p.sent[i+1:]
			return &s, true
		}
		if !p.sent[i].answered {
			s := p.sent[i]
			return &s, false
		}
	}
	return nil, false
}

// unexpected gives the first thing that was sent and that no rule answered.
func (p *peer) unexpected() *sent {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.sent {
		if !p.sent[i].answered {
			return &p.sent[i]
		}
	}
	return nil
}

func (p *peer) quiet() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.busy == 0
}
