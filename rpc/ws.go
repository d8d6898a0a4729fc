package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/VictoriaMetrics/metrics"
	"github.com/coder/websocket"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

const (
	// maxSockets per node.
	maxSockets = 1000
	// maxSubscriptions per socket.
	maxSubscriptions = 64
	// maxSocketMessage in bytes, from the client; a filter with 1,000 ids fits.
	maxSocketMessage = 512 << 10
	// heartbeatEvery: proxies close what is silent for a minute.
	heartbeatEvery = 15 * time.Second
	// maxSubscriptionID in bytes.
	maxSubscriptionID = 64
	// maxSocketAcks on their way per socket; more are not read until some are committed.
	maxSocketAcks = 32
)

// socketRequest is what a client sends; see DESIGN.md.
type socketRequest struct {
	Op string `json:"op"`
	// ID is the client's own name of the subscription.
	ID string `json:"id"`
	// Method: Watch, WatchTwins or Subscribe.
	Method  string          `json:"method"`
	Request json.RawMessage `json:"request"`
	// Offsets and Failed are what an ack settles of a Subscribe's messages, with the reason of those that failed.
	Offsets []uint64 `json:"offsets"`
	Failed  []uint64 `json:"failed"`
	Reason  string   `json:"reason"`
}

// socketMessage is what the server sends.
type socketMessage struct {
	Op      string          `json:"op"`
	ID      string          `json:"id,omitempty"`
	Message json.RawMessage `json:"message,omitempty"`
	Code    string          `json:"code,omitempty"`
	Error   string          `json:"error,omitempty"`
	Reason  string          `json:"reason,omitempty"`
	Hint    string          `json:"hint,omitempty"`
}

// sockets is the WebSocket door: the two watches and the readers of topics, several on one connection.
type sockets struct {
	s     *Server
	slots chan struct{}

	opened, refused, dropped *metrics.Counter
}

func newSockets(s *Server) *sockets {
	set := s.o.Metrics
	k := &sockets{s: s, slots: make(chan struct{}, maxSockets),
		opened:  set.GetOrCreateCounter(`pollux_rpc_websockets_total{result="opened"}`),
		refused: set.GetOrCreateCounter(`pollux_rpc_websockets_total{result="refused"}`),
		dropped: set.GetOrCreateCounter(`pollux_rpc_websockets_total{result="too_slow"}`),
	}
	set.GetOrCreateGauge(`pollux_rpc_websockets`, func() float64 { return float64(len(k.slots)) })
	return k
}

// ServeHTTP implements http.Handler.
func (k *sockets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p, err := k.s.o.Keys.principalOf(http.MethodPost, r.Host, r.Header)
	if err == nil && p.Role <= RoleDevice {
		err = forbidden(p, ActionTwinRead, Resource{Project: scopeOf(p), Kind: "twin"})
	}
	if err == nil {
		select {
		case k.slots <- struct{}{}:
			defer func() { <-k.slots }()
		default:
			err = fmt.Errorf("%w WebSockets on this node: %d", errTooMany, maxSockets)
		}
	}
	if err != nil {
		k.refused.Inc()
		k.s.writeError(w, r, err)
		return
	}
	ctx, stop, err := k.s.o.Keys.Follow(r.Context(), p)
	if err != nil {
		k.refused.Inc()
		k.s.writeError(w, r, err)
		return
	}
	defer stop()
	// The origin was checked above where it matters: a key in a header is no browser's doing.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		k.refused.Inc()
		k.s.log.Debug("websocket refused", "error", err)
		return
	}
	k.opened.Inc()
	conn.SetReadLimit(maxSocketMessage)
	c := &socket{k: k, s: k.s, p: p, conn: conn, running: make(map[string]context.CancelFunc),
		readers: make(map[string]*pb.AckRequest), acks: make(chan struct{}, maxSocketAcks)}
	c.run(ctx)
}

// socket is one connection.
type socket struct {
	k    *sockets
	s    *Server
	p    *Principal
	conn *websocket.Conn
	wg   sync.WaitGroup

	mu      sync.Mutex
	running map[string]context.CancelFunc
	// readers are those of the subscriptions that read a channel; acks bounds the settlements on their way.
	readers map[string]*pb.AckRequest
	acks    chan struct{}
}

func (c *socket) run(parent context.Context) {
	ctx, cancel := context.WithCancelCause(parent)
	c.wg.Go(func() { c.beat(ctx, cancel) })
	status, reason := websocket.StatusNormalClosure, ""
	if err := c.read(ctx); err != nil && ctx.Err() == nil {
		status, reason = websocket.StatusPolicyViolation, err.Error()
	}
	if errors.Is(context.Cause(parent), ErrUnauthenticated) {
		status, reason = websocket.StatusPolicyViolation, "the key or session is over"
	}
	cancel(context.Canceled)
	// Close waits for the peer's answer, bounded by the library; a peer that is gone has none.
	_ = c.conn.Close(status, short123(reason))
	_ = c.conn.CloseNow()
	c.wg.Wait()
}

// short123 keeps to the length that a close frame takes.
func short123(s string) string { return s[:min(len(s), 123)] }

// beat tells both sides that the other is there.
func (c *socket) beat(ctx context.Context, cancel context.CancelCauseFunc) {
	tick := time.NewTicker(heartbeatEvery)
	defer tick.Stop()
	for {
		if err := c.write(ctx, &socketMessage{Op: "heartbeat"}); err != nil {
			cancel(err)
			_ = c.conn.CloseNow()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		pinging, done := context.WithTimeout(ctx, writeTimeout)
		err := c.conn.Ping(pinging)
		done()
		if err != nil {
			cancel(err)
			_ = c.conn.CloseNow()
			return
		}
	}
}

// read takes the client's messages until the connection ends. An error is a client that breaks the protocol.
func (c *socket) read(ctx context.Context) error {
	for {
		kind, data, err := c.conn.Read(ctx)
		if err != nil {
			return nil //nolint:nilerr // the connection is over
		}
		if kind != websocket.MessageText {
			return errors.New("want text messages")
		}
		var r socketRequest
		if err := json.Unmarshal(data, &r); err != nil {
			return fmt.Errorf("message is no JSON object of the protocol: %w", err)
		}
		switch r.Op {
		case "subscribe":
			if err := c.subscribe(ctx, &r); err != nil {
				c.end(ctx, r.ID, err)
			}
		case "unsubscribe":
			c.stop(r.ID)
		case "ack":
			if err := c.ack(ctx, &r); err != nil {
				c.end(ctx, r.ID, err)
			}
		case "ping":
			_ = c.write(ctx, &socketMessage{Op: "pong", ID: r.ID})
		default:
			return fmt.Errorf("op %.20q: want subscribe, unsubscribe, ack or ping", r.Op)
		}
	}
}

// subscribe admits the request like a call of the procedure, and starts it.
func (c *socket) subscribe(ctx context.Context, r *socketRequest) error {
	if r.ID == "" || len(r.ID) > maxSubscriptionID {
		return invalid("id", fmt.Sprintf("want 1 to %d bytes", maxSubscriptionID))
	}
	var procedure string
	var m proto.Message
	var serve func(ctx context.Context) error
	switch r.Method {
	case "Watch":
		w := &pb.WatchRequest{}
		procedure, m = rpcv1.WatchServiceWatchProcedure, w
		serve = func(ctx context.Context) error {
			return c.s.watch(ctx, c.p, w, sender[*pb.WatchResponse](ctx, c, r.ID))
		}
	case "WatchTwins":
		w := &pb.WatchTwinsRequest{}
		procedure, m = rpcv1.TwinServiceWatchTwinsProcedure, w
		serve = func(ctx context.Context) error {
			return c.s.watchTwins(ctx, c.p, w, func(m *actors.Told) error { return c.tell(ctx, r.ID, m.JSON) })
		}
	case "Subscribe":
		w := &pb.SubscribeRequest{}
		procedure, m = rpcv1.TopicServiceSubscribeProcedure, w
		serve = func(ctx context.Context) error { return c.readTopic(ctx, r.ID, w) }
	default:
		return invalid("method", fmt.Sprintf("%.50q: want Watch, WatchTwins or Subscribe", r.Method))
	}
	if len(r.Request) > 0 {
		if err := protojson.Unmarshal(r.Request, m); err != nil {
			return invalid("request", err.Error())
		}
	}
	if err := c.s.guard.admit(context.WithValue(ctx, principalKey{}, c.p), procedure, m); err != nil {
		return err
	}
	return c.start(ctx, r.ID, procedure, serve)
}

func (c *socket) start(ctx context.Context, id, procedure string, serve func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running[id] != nil {
		cancel()
		return invalid("id", fmt.Sprintf("%q is subscribed already", id))
	}
	if len(c.running) >= maxSubscriptions {
		cancel()
		return fmt.Errorf("%w subscriptions on one socket: %d", errTooMany, maxSubscriptions)
	}
	c.running[id] = cancel
	c.wg.Go(func() {
		began := time.Now()
		err := serve(ctx)
		ended := ctx.Err() != nil
		c.forget(id)
		cancel()
		if ended {
			err = nil
		}
		c.s.guard.done(ctx, procedure, began, translate(err))
		if err != nil {
			c.end(context.WithoutCancel(ctx), id, err)
		}
	})
	return nil
}

func (c *socket) forget(id string) {
	c.mu.Lock()
	delete(c.running, id)
	c.mu.Unlock()
}

func (c *socket) stop(id string) {
	c.mu.Lock()
	cancel := c.running[id]
	c.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// end tells the client that a subscription is over, and why.
func (c *socket) end(ctx context.Context, id string, err error) {
	err = translate(err)
	m := &socketMessage{Op: "end", ID: id, Code: connect.CodeOf(err).String(), Error: err.Error()}
	var ce *connect.Error
	if errors.As(err, &ce) {
		m.Error = ce.Message()
	}
	if info := ErrorInfoOf(err); info != nil {
		m.Reason, m.Hint = info.Reason, info.Hint
	}
	_ = c.write(ctx, m)
}

// sender writes the messages of one subscription. Whoever has the next message waits for the socket, so a slow client
// is felt where the watch is bounded, and no queue is needed here.
func sender[M proto.Message](ctx context.Context, c *socket, id string) func(M) error {
	return func(m M) error {
		return c.tell(ctx, id, func() ([]byte, error) { return protojson.Marshal(m) })
	}
}

// tell writes a message of a subscription.
func (c *socket) tell(ctx context.Context, id string, encode func() ([]byte, error)) error {
	text, err := encode()
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return c.write(ctx, &socketMessage{Op: "message", ID: id, Message: text})
}

// write gives the client a time to take the message. One that does not loses the connection.
func (c *socket) write(ctx context.Context, m *socketMessage) error {
	data, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	// The library closes the connection when a write's context ends, so a subscription that is stopped must not end the
	// others' socket: the write has a time of its own.
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	err = c.conn.Write(writing, websocket.MessageText, data)
	if err != nil && errors.Is(writing.Err(), context.DeadlineExceeded) {
		c.k.dropped.Inc()
	}
	if err != nil {
		return fmt.Errorf("write to socket: %w", err)
	}
	return nil
}
