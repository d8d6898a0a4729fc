package peer

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/net/http2"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/pki"
)

// TestRefusals: whoever is not of this cluster gets nothing through, and both sides can read why.
func TestRefusals(t *testing.T) {
	ours, theirs, twin := newTestCluster(t), newTestCluster(t), newTestCluster(t)
	theirs.id = "cother"
	var err error
	if theirs.ca, err = pki.NewAuthority("cother"); err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	ran := false
	b := ours.open("b", func(o *Options) {
		o.Logger = logTo(&log)
		o.Calls = func(_ *cluster.Envelope, done func(cluster.Reply)) { ran = true; done(cluster.Reply{}) }
		o.Admit = func(node string) error {
			if node == "expelled" {
				return errors.New("node expelled was removed from the cluster")
			}
			return nil
		}
	})
	addr := b.Addr().String()
	for _, c := range []struct {
		name        string
		from        *testCluster
		node, meant string
		want        error
		here, there string // what each side says
		trusting    bool   // it takes any certificate
	}{
		{name: "another cluster", from: theirs, node: "a", meant: "b", want: pki.ErrWrongCluster,
			here: "certificate is of cluster ctest, this is cother", there: "it wanted cluster cother, this is ctest"},
		{name: "the same id, another authority", from: twin, node: "a", meant: "b", want: pki.ErrUntrusted,
			here: "certificate of node b is signed by no authority of this cluster", there: "bad certificate"},
		{name: "another node", from: ours, node: "a", meant: "x", want: pki.ErrWrongNode,
			here: "certificate is of node b, x was meant", there: "it wanted node x, this is b"},
		{name: "expelled", from: ours, node: "expelled", meant: "b", want: ErrRefused,
			here: "node expelled was removed from the cluster", there: "node expelled was removed from the cluster"},
	} {
		var own syncBuffer
		a := c.from.open(c.node, func(o *Options) { o.Logger = logTo(&own) })
		c.from.setAddress(c.meant, addr)
		b.said.Lock()
		clear(b.lastSaid)
		b.said.Unlock()
		r := ask(t, a, c.meant, envelope("x", "secret"))
		if !errors.Is(r.Err, c.want) || !errors.Is(r.Err, cluster.ErrUnavailable) || errors.Is(r.Err, cluster.ErrUnknown) {
			t.Errorf("%s: %v", c.name, r.Err)
		}
		if !strings.Contains(r.Err.Error(), c.here) {
			t.Errorf("%s: the caller reads %v", c.name, r.Err)
		}
		eventually(t, c.name+": a line at the other side", func() bool { return strings.Contains(log.String(), c.there) })
		eventually(t, c.name+": a line at this side", func() bool { return strings.Contains(own.String(), c.here) })
		if _, err := a.RaftLayer().Dial(raft.ServerAddress(addr), patience); c.meant == "b" && err == nil {
			t.Errorf("%s: raft got through", c.name)
		}
		a.Close()
		ours.setAddress("b", addr)
	}
	if ran {
		t.Error("a call ran")
	}
}

// TestStrangers: a certificate of another authority, or none, behind a client that trusts anybody.
func TestStrangers(t *testing.T) {
	ours, theirs := newTestCluster(t), newTestCluster(t)
	theirs.id = "cother"
	var err error
	if theirs.ca, err = pki.NewAuthority("cother"); err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	b := ours.open("b", func(o *Options) {
		o.Logger = logTo(&log)
		o.Enroll = nil
		o.API = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "the secret") })
	})
	bad := theirs.identity("a").ClientTLS("b", protoH2)
	bad.VerifyConnection = nil
	for name, cfg := range map[string]*tls.Config{
		"certificate is of cluster cother, this is ctest": bad,
		"no certificate": {InsecureSkipVerify: true, NextProtos: []string{protoH2}},
	} {
		for _, path := range []string{"/api", exchangePath, "/pollux.peer.v1.PeerService/GetBlob"} {
			conn, err := tls.Dial("tcp", b.Addr().String(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			cc, err := (&http2.Transport{}).NewClientConn(conn)
			if err != nil {
				t.Fatal(err)
			}
			req, err := http.NewRequest(http.MethodPost, "https://b"+path, strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			res, err := cc.RoundTrip(req)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			text, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != http.StatusForbidden || !strings.Contains(string(text), name) {
				t.Errorf("%s %s: %d %s %v", name, path, res.StatusCode, text, err)
			}
			conn.Close()
		}
		cfg := cfg.Clone()
		cfg.NextProtos = []string{protoRaft}
		conn, err := tls.Dial("tcp", b.Addr().String(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if why, err := readWelcome(conn); err != nil || !strings.Contains(why, name) {
			t.Errorf("raft: %q, %v", why, err)
		}
		conn.Close()
	}
	if !strings.Contains(log.String(), "certificate is of cluster cother") {
		t.Errorf("the log does not say why: %s", log.String())
	}
}

func TestGarbage(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	a := c.open("a", nil)
	b := c.open("b", nil)
	random := make([]byte, 4096)
	rand.Read(random)
	for name, bytes := range map[string][]byte{
		"random": random, "http": []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "empty": {},
		"half a client hello": {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00}, "mqtt": {0x10, 0x0c, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 0},
	} {
		before := b.m.refused("handshake").Get()
		conn, err := net.Dial("tcp", b.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.Write(bytes)
		conn.(*net.TCPConn).CloseWrite()
		conn.SetDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: not closed", name)
		}
		conn.Close()
		eventually(t, name+" counted", func() bool { return b.m.refused("handshake").Get() == before+1 })
	}
	// A node of ours that goes mad: any bytes after the handshake.
	for range 20 {
		conn, err := tls.Dial("tcp", b.Addr().String(), a.o.Identity.ClientTLS("b", protoH2))
		if err != nil {
			t.Fatal(err)
		}
		rand.Read(random)
		conn.Write(random)
		conn.SetDeadline(time.Now().Add(patience))
		io.Copy(io.Discard, conn)
		conn.Close()
	}
	if r := ask(t, a, "b", envelope("x", "fine")); r.Err != nil {
		t.Error(r.Err)
	}
}

// rawStream opens an Exchange stream to say what a link never would.
func rawStream(t *testing.T, a *Peers, body io.Reader) (*http.Response, func()) {
	t.Helper()
	conn, err := tls.Dial("tcp", addressOf(t, a, "b"), a.o.Identity.ClientTLS("b", protoH2))
	if err != nil {
		t.Fatal(err)
	}
	cc, err := (&http2.Transport{}).NewClientConn(conn)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodPost, "https://b"+exchangePath, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/connect+proto")
	req.Header.Set("Connect-Protocol-Version", "1")
	res, err := cc.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	return res, func() { conn.Close() }
}

func addressOf(t *testing.T, p *Peers, node string) string {
	t.Helper()
	addr, ok := p.o.Address(node)
	if !ok {
		t.Fatal("no address of", node)
	}
	return addr
}

// frame is a message as Connect's streams carry it.
func frame(b []byte) string {
	return string(append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...))
}

func TestBadBatchesOverTheWire(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	a := c.open("a", nil)
	var log syncBuffer
	c.open("b", func(o *Options) { o.Logger = logTo(&log) })
	hello := frame(appendHello(nil, reqHello, "a", 1, 0))
	for name, c := range map[string]struct{ body, want string }{
		"malformed":        {hello + frame([]byte{0xff, 0xff}), "malformed batch"},
		"no hello":         {frame(appendIndexQuery(nil, 1, 0)), "hello"},
		"hello of another": {frame(appendHello(nil, reqHello, "x", 1, 0)), "certificate is of node a, x says hello"},
		"oversized":        {hello + frame(make([]byte, readMax+1)), "larger than configured max"},
		"cut off":          {hello + frame(make([]byte, 100))[:50], "promised 100 bytes"},
		"json":             {`{"hello":1}`, ""},
	} {
		res, done := rawStream(t, a, strings.NewReader(c.body))
		text, _ := io.ReadAll(res.Body)
		if !strings.Contains(string(text), c.want) {
			t.Errorf("%s: answered %q", name, text)
		}
		done()
	}
	if r := ask(t, a, "b", envelope("x", "fine")); r.Err != nil {
		t.Error(r.Err)
	}
	if !strings.Contains(log.String(), "peer stream closed") {
		t.Errorf("nothing in the log: %s", log.String())
	}
}

// TestSilentPeer: a port that takes connections and says nothing holds nobody up for longer than a dial may take.
func TestSilentPeer(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	a := c.open("a", func(o *Options) { o.DialTimeout = 200 * time.Millisecond })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c.setAddress("mute", l.Addr().String())
	if r := ask(t, a, "mute", envelope("x", "")); !errors.Is(r.Err, cluster.ErrUnavailable) {
		t.Error(r.Err)
	}
}
