// Package websocket carries a twin's messages over WebSocket. A message is a frame.
package websocket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/transport"
)

// pingEvery finds a device that lost power within twice that.
const pingEvery = 15 * time.Second

// Open opens ws:// and wss://.
func Open(o transport.Options) (drivers.Conn, error) {
	t := &o.Binding.Transport
	a, err := transport.ParseAddress(o.Binding.URI, t)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", t.Scheme, err)
	}
	opts := t.WebSocket
	if opts == nil {
		opts = &drivers.WebSocketOptions{}
	}
	client, closeIdle, err := httpclient.Handshake(o, a, t.Scheme == drivers.SchemeWSS)
	if err != nil {
		return nil, fmt.Errorf("open %s %s: %w", t.Scheme, a.HostPort(), err)
	}
	target := *a.URL
	target.Fragment = ""
	limit, every := int64(transport.DefaultMaxFrame), pingEvery
	if opts.MaxFrame > 0 {
		limit = int64(opts.MaxFrame)
	}
	if opts.PingMS > 0 {
		every = time.Duration(opts.PingMS) * time.Millisecond
	}
	kind := websocket.MessageText
	if opts.Binary {
		kind = websocket.MessageBinary
	}
	dial := func(ctx context.Context) (transport.Session, error) {
		conn, res, err := websocket.Dial(ctx, target.String(), &websocket.DialOptions{HTTPClient: client, Subprotocols: opts.Subprotocols})
		if err != nil {
			if res != nil && res.StatusCode != http.StatusSwitchingProtocols {
				err = fmt.Errorf("the device answers %d %s to the WebSocket handshake", res.StatusCode, http.StatusText(res.StatusCode))
			}
			return nil, err
		}
		conn.SetReadLimit(limit)
		s := &session{conn: conn, kind: kind}
		s.ctx, s.cancel = context.WithCancel(context.Background())
		go s.ping(every)
		return s, nil
	}
	c, err := transport.Open(o, transport.Kind{Name: a.HostPort(), Dial: dial})
	if err != nil {
		closeIdle()
		return nil, err
	}
	return c, nil
}

type session struct {
	conn    *websocket.Conn
	kind    websocket.MessageType
	ctx     context.Context
	cancel  context.CancelFunc
	reading atomic.Bool
	silent  atomic.Bool // a ping was not answered
}

// errSilent: the device does not answer pings.
var errSilent = errors.New("the device does not answer a ping")

// ping holds the device to its answers, but not while the twin has too much waiting: pongs are not read then.
func (s *session) ping(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
		if !s.reading.Load() {
			continue
		}
		ctx, cancel := context.WithTimeout(s.ctx, every)
		err := s.conn.Ping(ctx)
		cancel()
		if err != nil && s.reading.Load() && s.ctx.Err() == nil {
			s.silent.Store(true)
			_ = s.Close()
			return
		}
	}
}

// Receive implements transport.Session.
func (s *session) Receive() ([]byte, error) {
	s.reading.Store(true)
	_, b, err := s.conn.Read(s.ctx)
	s.reading.Store(false)
	switch {
	case err == nil:
		return b, nil
	case s.silent.Load():
		return nil, errSilent
	case errors.Is(err, websocket.ErrMessageTooBig):
		return nil, fmt.Errorf("%w: %w", transport.ErrFrameTooLong, err)
	}
	if status := websocket.CloseStatus(err); status >= 0 {
		return nil, fmt.Errorf("closed by the device: %w", err)
	}
	return nil, err
}

// Send implements transport.Session.
func (s *session) Send(ctx context.Context, frame []byte) (int, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
	}
	if err := s.conn.Write(ctx, s.kind, frame); err != nil {
		return 0, err
	}
	return len(frame), nil
}

// Close implements transport.Session.
func (s *session) Close() error {
	s.cancel()
	return s.conn.CloseNow()
}
