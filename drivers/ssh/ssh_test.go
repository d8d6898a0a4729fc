package ssh_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	driver "github.com/polluxhq/pollux/drivers/ssh"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
)

var lines = &drivers.Tokenizer{Delimiter: "\n", MaxFrame: 1000}

func newKey(t *testing.T) (signer ssh.Signer, text string) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if signer, err = ssh.NewSignerFromKey(key); err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	return signer, string(pem.EncodeToMemory(block))
}

// serve speaks the server's side over a connection until a shell is there, which it gives as a connection.
func serve(conf *ssh.ServerConfig) func(net.Conn) (net.Conn, error) {
	return func(c net.Conn) (net.Conn, error) {
		sc, channels, requests, err := ssh.NewServerConn(c, conf)
		if err != nil {
			return nil, err
		}
		go ssh.DiscardRequests(requests)
		n, ok := <-channels
		if !ok {
			return nil, io.EOF
		}
		ch, rs, err := n.Accept()
		if err != nil {
			return nil, err
		}
		started := make(chan struct{})
		var once sync.Once
		go func() {
			for r := range rs {
				_ = r.Reply(true, nil)
				if r.Type == "shell" {
					once.Do(func() { close(started) })
				}
			}
		}()
		<-started
		return &shellConn{Conn: c, ch: ch, sc: sc}, nil
	}
}

type shellConn struct {
	net.Conn
	ch ssh.Channel
	sc *ssh.ServerConn
}

func (s *shellConn) Read(b []byte) (int, error)  { return s.ch.Read(b) }
func (s *shellConn) Write(b []byte) (int, error) { return s.ch.Write(b) }

func server(t *testing.T) (conf *ssh.ServerConfig, host ssh.Signer) {
	host, _ = newKey(t)
	conf = &ssh.ServerConfig{PasswordCallback: func(m ssh.ConnMetadata, pass []byte) (*ssh.Permissions, error) {
		if m.User() == "ann" && string(pass) == "secret" {
			return nil, nil
		}
		return nil, fmt.Errorf("wrong")
	}}
	conf.AddHostKey(host)
	return conf, host
}

func TestContract(t *testing.T) {
	conf, host := server(t)
	for name, perCommand := range map[string]bool{"stays": false, "per command": true} {
		t.Run(name, func(t *testing.T) {
			contract.Run(t, contract.Transport{
				Open: driver.Open,
				Options: drivers.TransportOptions{Scheme: "ssh", Tokenizer: lines, PerCommand: perCommand,
					SSH: &drivers.SSHOptions{User: "ann", Password: "secret", HostKey: ssh.FingerprintSHA256(host.PublicKey())}},
				NewPeer: func(t *testing.T) contract.Peer { return contract.NewStreamPeer(t, "ssh", serve(conf)) },
			})
		})
	}
}

func open(t *testing.T, uri string, o drivers.SSHOptions) (drivers.Conn, *contract.Recorder) {
	t.Helper()
	sink := &contract.Recorder{}
	c, err := driver.Open(transport.Options{Sink: sink, Backoff: transport.Backoff{Min: 10 * time.Millisecond, Max: 10 * time.Millisecond},
		Binding: drivers.Binding{URI: uri, Transport: drivers.TransportOptions{Scheme: "ssh", Tokenizer: lines, SSH: &o}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, sink
}

func TestWhoIsTrusted(t *testing.T) {
	conf, host := server(t)
	other, _ := newKey(t)
	peer := contract.NewStreamPeer(t, "ssh", serve(conf))
	line := func(s ssh.Signer) string { return string(ssh.MarshalAuthorizedKey(s.PublicKey())) }
	for name, c := range map[string]struct {
		o    drivers.SSHOptions
		want string
	}{
		"the key":           {drivers.SSHOptions{User: "ann", Password: "secret", HostKey: line(host)}, "connected"},
		"another key":       {drivers.SSHOptions{User: "ann", Password: "secret", HostKey: line(other)}, "not the one that is pinned"},
		"another's print":   {drivers.SSHOptions{User: "ann", Password: "secret", HostKey: ssh.FingerprintSHA256(other.PublicKey())}, "not the one that is pinned"},
		"a wrong password":  {drivers.SSHOptions{User: "ann", Password: "guess", HostKey: line(host)}, "unable to authenticate"},
		"nothing to log in": {drivers.SSHOptions{User: "ann", HostKey: line(host)}, "unable to authenticate"},
	} {
		t.Run(name, func(t *testing.T) {
			_, sink := open(t, peer.URI(), c.o)
			sink.Await(t, "an outcome", func(e []string) bool { return len(e) > 0 })
			if e := sink.Events()[0]; !strings.Contains(e, c.want) {
				t.Fatalf("got %q, want %q", e, c.want)
			}
		})
	}
	for want, o := range map[string]drivers.SSHOptions{
		"ssh/host_key: is empty": {User: "ann"},
		"ssh/host_key: neither":  {User: "ann", HostKey: "ssh-rsa nonsense"},
		"ssh/user":               {HostKey: line(host)},
		"ssh/key":                {User: "ann", HostKey: line(host), Key: "none"},
	} {
		_, err := driver.Open(transport.Options{Sink: &contract.Recorder{}, Binding: drivers.Binding{URI: peer.URI(), Transport: drivers.TransportOptions{Scheme: "ssh", SSH: &o}}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// opensshd runs OpenSSH's server, as whoever runs the test.
func opensshd(t *testing.T) (uri, hostKey, clientKey string) {
	sshd, err := exec.LookPath("sshd")
	if err != nil {
		drivertest.Missing(t, "sshd is not installed: apt-get install openssh-server")
	}
	dir := t.TempDir()
	_, hostText := newKey(t)
	client, clientText := newKey(t)
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	hostFile := write("host", hostText)
	keys := write("authorized_keys", string(ssh.MarshalAuthorizedKey(client.PublicKey())))
	host, err := ssh.ParsePrivateKey([]byte(hostText))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	l.Close()
	conf := write("sshd_config", fmt.Sprintf("ListenAddress 127.0.0.1\nPort %d\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n",
		addr.Port, hostFile, keys))
	if os.Getuid() == 0 { // its directory for privilege separation
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			drivertest.Missing(t, "sshd cannot run here: %v", err)
		}
	}
	cmd := exec.Command(sshd, "-D", "-e", "-f", conf)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	said := bufio.NewScanner(stderr)
	for said.Scan() {
		if strings.Contains(said.Text(), "Server listening") {
			go func() {
				for said.Scan() {
				}
			}()
			return "ssh://" + addr.String(), ssh.FingerprintSHA256(host.PublicKey()), clientText
		}
	}
	t.Fatal("sshd ended at once")
	return
}

func TestOpenSSH(t *testing.T) {
	uri, hostKey, key := opensshd(t)
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	o := drivers.SSHOptions{User: me.Username, Key: key, HostKey: hostKey}
	has := func(sink *contract.Recorder, frame string) {
		t.Helper()
		sink.Await(t, "the frame "+frame, func([]string) bool {
			for _, f := range sink.Frames() {
				if strings.TrimRight(string(f), "\r") == frame {
					return true
				}
			}
			return false
		})
	}
	t.Run("shell", func(t *testing.T) {
		c, sink := open(t, uri, o)
		sink.Await(t, "the connection", func(e []string) bool { return len(e) > 0 && e[0] == "connected" })
		if err := c.Send(ctx, []byte("echo $((6 * 7)) here\n")); err != nil {
			t.Fatal(err)
		}
		has(sink, "42 here")
		if err := c.Send(ctx, []byte("exit 3\n")); err != nil {
			t.Fatal(err)
		}
		sink.Await(t, "the end of the shell", func(e []string) bool { return len(e) > 1 })
		if e := sink.Events()[1]; !strings.Contains(e, "exited with status 3") {
			t.Errorf("got %q", e)
		}
	})
	t.Run("terminal", func(t *testing.T) {
		o := o
		o.Terminal = "vt100"
		c, sink := open(t, uri, o)
		sink.Await(t, "the connection", func(e []string) bool { return len(e) > 0 && e[0] == "connected" })
		if err := c.Send(ctx, []byte("test -t 0 && echo a $TERM\n")); err != nil {
			t.Fatal(err)
		}
		has(sink, "a vt100")
	})
	t.Run("command", func(t *testing.T) {
		o := o
		o.Command = "while read x; do echo got $x; done"
		c, sink := open(t, uri, o)
		sink.Await(t, "the connection", func(e []string) bool { return len(e) > 0 && e[0] == "connected" })
		if err := c.Send(ctx, []byte("one\ntwo\n")); err != nil {
			t.Fatal(err)
		}
		has(sink, "got two")
	})
	t.Run("exec", func(t *testing.T) {
		o := o
		o.Exec = true
		c, sink := open(t, uri, o)
		sink.Await(t, "the connection", func(e []string) bool { return len(e) > 0 && e[0] == "connected" })
		for _, cmd := range []string{"echo out; echo err >&2; exit 4", "kill -9 $$", "head -c 5000 /dev/zero | tr '\\0' x"} {
			if err := c.Send(ctx, []byte(cmd)); err != nil {
				t.Fatal(err)
			}
			n := len(sink.Frames())
			sink.Await(t, "the result", func([]string) bool { return len(sink.Frames()) > n || len(sink.Frames()) == 3 })
		}
		sink.Await(t, "three results", func([]string) bool { return len(sink.Frames()) == 3 })
		all := map[string]bool{}
		for _, f := range sink.Frames() {
			all[string(f)] = true
		}
		if !all["4\x00out\nerr\n"] && !all["4\x00err\nout\n"] || !all["\x00"] || !all["0\x00"+strings.Repeat("x", 1000)] {
			t.Errorf("got %q", sink.Frames())
		}
	})
}

// FuzzReader gives the client garbage in place of a server's words.
func FuzzReader(f *testing.F) {
	f.Add([]byte("SSH-2.0-x\r\n\x00\x00\x00\x0c\x0a\x14"))
	f.Add([]byte("220 mail\r\n"))
	_, host := server(&testing.T{})
	f.Fuzz(func(t *testing.T, in []byte) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			c, err := l.Accept()
			if err == nil {
				_, _ = c.Write(in)
				c.Close()
			}
			l.Close()
		}()
		sink := &contract.Recorder{}
		c, err := driver.Open(transport.Options{Sink: sink, Backoff: transport.Backoff{Min: time.Hour, Max: time.Hour},
			Binding: drivers.Binding{URI: "ssh://" + l.Addr().String(), Transport: drivers.TransportOptions{Scheme: "ssh",
				SSH: &drivers.SSHOptions{User: "u", Password: "p", HostKey: ssh.FingerprintSHA256(host.PublicKey())}}}})
		if err != nil {
			t.Fatal(err)
		}
		sink.Await(t, "a failure", func(e []string) bool { return len(e) == 1 && strings.HasPrefix(e[0], "failed: ") })
		c.Close()
	})
}
