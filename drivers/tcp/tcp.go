// Package tcp carries a twin's bytes over TCP, with or without TLS: a connection that stays, or one per command.
package tcp

import (
	"context"
	"crypto/tls"
	"fmt"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

// Open opens tcp:// and tls://. With tcp:// and tls options the driver may begin TLS in mid-session.
func Open(o transport.Options) (drivers.Conn, error) {
	t := &o.Binding.Transport
	a, err := transport.ParseAddress(o.Binding.URI, t)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", t.Scheme, err)
	}
	var secure *tls.Config
	if t.TLS != nil || t.Scheme == drivers.SchemeTLS {
		if secure, err = transport.TLSConfig(t.TLS, a.Host); err != nil {
			return nil, fmt.Errorf("open %s %s: %w", t.Scheme, a.HostPort(), err)
		}
	}
	reach := transport.ReachOf(&o, a)
	dial := func(ctx context.Context) (transport.Session, error) {
		conn, err := reach.Dial(ctx, "tcp", a.HostPort())
		if err != nil {
			return nil, err
		}
		if t.Scheme == drivers.SchemeTCP {
			return transport.NewStream(conn, secure), nil
		}
		sealed := tls.Client(conn, secure)
		if err := sealed.HandshakeContext(ctx); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("tls with %s: %w", a.HostPort(), err)
		}
		return transport.NewStream(sealed, nil), nil
	}
	c, err := transport.Open(o, transport.Kind{Name: a.HostPort(), Dial: dial, Stream: true, PerCommand: t.PerCommand})
	if err != nil {
		return nil, err
	}
	return c, nil
}
