// Package ssh carries a twin's bytes to a shell on its device, or to a command that runs there; or each frame is a command
// of its own. The device's key is pinned: without that a stranger in the network would get the password.
package ssh

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

// dialTimeout: a small device takes seconds for the key exchange.
const dialTimeout = 10 * time.Second

// Open opens ssh://.
func Open(o transport.Options) (drivers.Conn, error) {
	t := &o.Binding.Transport
	a, err := transport.ParseAddress(o.Binding.URI, t)
	if err != nil {
		return nil, fmt.Errorf("open ssh: %w", err)
	}
	opts := t.SSH
	if opts == nil {
		opts = &drivers.SSHOptions{}
	}
	conf, err := clientConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("open ssh %s: %w", a.HostPort(), err)
	}
	reach := transport.ReachOf(&o, a)
	limit := transport.DefaultMaxFrame
	if t.Tokenizer != nil && t.Tokenizer.MaxFrame > 0 {
		limit = t.Tokenizer.MaxFrame
	}
	dial := func(ctx context.Context) (transport.Session, error) {
		client, err := connect(ctx, reach, a.HostPort(), conf)
		if err != nil {
			return nil, err
		}
		if opts.Exec {
			return newRuns(client, limit), nil
		}
		s, err := newShell(ctx, client, opts)
		if err != nil {
			_ = client.Close()
			return nil, err
		}
		return s, nil
	}
	c, err := transport.Open(o, transport.Kind{Name: a.HostPort(), Dial: dial, Stream: !opts.Exec, PerCommand: t.PerCommand, DialTimeout: dialTimeout})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func clientConfig(o *drivers.SSHOptions) (*ssh.ClientConfig, error) {
	conf := &ssh.ClientConfig{User: o.User, ClientVersion: "SSH-2.0-Pollux"}
	if err := pin(conf, strings.TrimSpace(o.HostKey)); err != nil {
		return nil, err
	}
	if o.User == "" {
		return nil, errors.New("ssh/user: is empty")
	}
	if o.Key != "" {
		signer, err := ssh.ParsePrivateKey([]byte(o.Key))
		if err != nil {
			return nil, fmt.Errorf("ssh/key: %w", err)
		}
		conf.Auth = append(conf.Auth, ssh.PublicKeys(signer))
	}
	if o.Password != "" {
		conf.Auth = append(conf.Auth, ssh.Password(o.Password), ssh.KeyboardInteractive(
			func(_, _ string, questions []string, _ []bool) ([]string, error) {
				answers := make([]string, len(questions))
				for i := range answers {
					answers[i] = o.Password
				}
				return answers, nil
			}))
	}
	return conf, nil
}

// pin trusts one key alone.
func pin(conf *ssh.ClientConfig, want string) error {
	if want == "" {
		return errors.New("ssh/host_key: is empty: without it anybody could be the device")
	}
	var fits func(ssh.PublicKey) bool
	if strings.HasPrefix(want, "SHA256:") {
		want = strings.TrimRight(want, "=")
		fits = func(k ssh.PublicKey) bool {
			return subtle.ConstantTimeCompare([]byte(ssh.FingerprintSHA256(k)), []byte(want)) == 1
		}
	} else {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(want))
		if err != nil {
			return fmt.Errorf("ssh/host_key: neither SHA256:… nor a key as in authorized_keys: %w", err)
		}
		pinned := key.Marshal()
		fits = func(k ssh.PublicKey) bool { return subtle.ConstantTimeCompare(k.Marshal(), pinned) == 1 }
		conf.HostKeyAlgorithms = algorithms(key.Type())
	}
	conf.HostKeyCallback = func(_ string, _ net.Addr, k ssh.PublicKey) error {
		if !fits(k) {
			return fmt.Errorf("the device shows the key %s %s, not the one that is pinned", k.Type(), ssh.FingerprintSHA256(k))
		}
		return nil
	}
	return nil
}

// algorithms in which a key of that type signs.
func algorithms(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// connect dials and logs in, within ctx.
func connect(ctx context.Context, reach *transport.Reach, address string, conf *ssh.ClientConfig) (*ssh.Client, error) {
	conn, err := reach.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(conn, address, conf)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("log in to %s: %w", address, err)
	}
	return ssh.NewClient(c, channels, requests), nil
}

// shell is a Session with a shell, or with one command that goes on.
type shell struct {
	client  *ssh.Client
	stdin   io.WriteCloser
	out     *io.PipeReader
	buf     []byte
	session *ssh.Session
}

func newShell(ctx context.Context, client *ssh.Client, o *drivers.SSHOptions) (*shell, error) {
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	defer stop()
	session, err := client.NewSession()
	if err != nil {
		return nil, fmt.Errorf("open a session: %w", err)
	}
	s := &shell{client: client, session: session, buf: make([]byte, transport.ReadChunk)}
	var in *io.PipeWriter
	s.out, in = io.Pipe()
	session.Stdout, session.Stderr = in, in
	if s.stdin, err = session.StdinPipe(); err != nil {
		return nil, err
	}
	if o.Terminal != "" {
		modes := ssh.TerminalModes{ssh.ECHO: 0}
		if err := session.RequestPty(o.Terminal, 50, 250, modes); err != nil {
			return nil, fmt.Errorf("ask for a terminal %s: %w", o.Terminal, err)
		}
	}
	if o.Command != "" {
		err = session.Start(o.Command)
	} else {
		err = session.Shell()
	}
	if err != nil {
		return nil, fmt.Errorf("start the shell: %w", err)
	}
	go func() {
		err := session.Wait()
		if err == nil {
			err = io.EOF
		}
		_ = in.CloseWithError(ended(err))
		_ = client.Close()
	}()
	return s, nil
}

// ended words the end of a shell.
func ended(err error) error {
	var missing *ssh.ExitMissingError
	if errors.As(err, &missing) {
		return io.EOF
	}
	return err
}

// Receive implements transport.Session.
func (s *shell) Receive() ([]byte, error) {
	n, err := s.out.Read(s.buf)
	if n > 0 {
		return s.buf[:n], nil
	}
	return nil, err
}

// Send implements transport.Session.
func (s *shell) Send(ctx context.Context, frame []byte) (int, error) {
	return transport.WriteClosing(ctx, s.stdin, func() { _ = s.Close() }, frame)
}

// Close implements transport.Session.
func (s *shell) Close() error {
	_ = s.out.CloseWithError(net.ErrClosed) // what the shell says from now on is for nobody
	return s.client.Close()
}
