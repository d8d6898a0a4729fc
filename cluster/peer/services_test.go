package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/pki"
	peerv1 "github.com/polluxhq/pollux/proto/pollux/peer/v1"
)

func TestProposals(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	full := errors.New("log is full")
	sentinels := map[string]error{"full": full}
	var mu sync.Mutex
	var log [][]byte
	a := c.open("a", func(o *Options) { o.Errors = sentinels })
	c.open("b", func(o *Options) {
		o.Errors = sentinels
		o.Propose = func(entry []byte, done func([]byte, error)) {
			if len(entry) == 0 {
				done(nil, fmt.Errorf("propose: %w", full))
				return
			}
			mu.Lock()
			log = append(log, entry)
			mu.Unlock()
			go done(append([]byte("did "), entry[0]), nil)
		}
		o.CommitIndex = func(ctx context.Context) (uint64, error) {
			if _, ok := ctx.Deadline(); !ok {
				return 0, errors.New("no deadline")
			}
			mu.Lock()
			defer mu.Unlock()
			return uint64(len(log)), nil
		}
	})
	var all sync.WaitGroup
	for i := range 200 {
		all.Add(1)
		entry := bytes.Repeat([]byte{byte(i)}, 1+i*1000)
		a.Propose(t.Context(), "b", entry, func(result []byte, err error) {
			defer all.Done()
			if err != nil || string(result) != "did "+string([]byte{byte(i)}) {
				t.Errorf("%q, %v", result, err)
			}
		})
		clear(entry) // it is the caller's again
	}
	all.Wait()
	for i, entry := range log {
		if !bytes.Equal(entry, bytes.Repeat([]byte{byte(i)}, 1+i*1000)) {
			t.Fatalf("entry %d has %d bytes of %d", i, len(entry), entry[0])
		}
	}
	got := make(chan error, 1)
	a.Propose(t.Context(), "b", nil, func(_ []byte, err error) { got <- err })
	if err := <-got; !errors.Is(err, full) || errors.Is(err, cluster.ErrUnknown) {
		t.Errorf("%v", err)
	}
	a.Propose(t.Context(), "b", make([]byte, MaxMessage+1), func(_ []byte, err error) { got <- err })
	if err := <-got; !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if index, err := a.CommitIndex(ctx, "b"); index != 200 || err != nil {
		t.Errorf("%d, %v", index, err)
	}
	if _, err := a.CommitIndex(t.Context(), "a"); !errors.Is(err, cluster.ErrUnavailable) {
		t.Errorf("a node without: %v", err)
	}
}

// memoryBlobs keeps blobs in memory; damage changes what it gives.
type memoryBlobs struct {
	mu     sync.Mutex
	all    map[string][]byte
	damage bool
}

var errNoBlob = errors.New("no such blob")

func (m *memoryBlobs) Blob(digest string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.all[digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", digest, errNoBlob)
	}
	if m.damage {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
	}
	return b, nil
}

func (m *memoryBlobs) StoreBlob(_ context.Context, digest string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all[digest] = data
	return nil
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func TestBlobs(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	store := &memoryBlobs{all: map[string][]byte{}}
	with := func(o *Options) {
		o.Errors, o.MaxBlob = map[string]error{"no_blob": errNoBlob}, 3<<20
	}
	a := c.open("a", with)
	b := c.open("b", func(o *Options) { with(o); o.Blobs = store })
	for _, size := range []int{0, 1, blobChunk, blobChunk + 1, 3 << 20} {
		data := make([]byte, size)
		rand.Read(data)
		if err := a.PutBlob(t.Context(), "b", sum(data), data); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if got, err := a.GetBlob(t.Context(), "b", sum(data)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
	big := make([]byte, 3<<20+1)
	if err := a.PutBlob(t.Context(), "b", sum(big), big); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	store.all[sum(big)] = big
	if _, err := a.GetBlob(t.Context(), "b", sum(big)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if _, err := a.GetBlob(t.Context(), "b", sum([]byte("nobody has this"))); !errors.Is(err, errNoBlob) {
		t.Errorf("no such blob: %v", err)
	}
	if err := a.PutBlob(t.Context(), "b", sum([]byte("x")), []byte("y")); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged on the way there: %v", err)
	}
	if _, err := store.Blob(sum([]byte("x"))); err == nil {
		t.Error("a damaged blob was stored")
	}
	if b.m.damaged.Get() != 1 {
		t.Error("not counted")
	}
	data := make([]byte, 2<<20)
	rand.Read(data)
	store.all[sum(data)], store.damage = data, true
	if _, err := a.GetBlob(t.Context(), "b", sum(data)); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged on the way back: %v", err)
	}
	for _, bad := range []string{"", "zz", "../../etc/passwd", strings.ToUpper(sum(data))} {
		if err := a.PutBlob(t.Context(), "b", bad, data); err == nil {
			t.Errorf("put %q", bad)
		}
		if _, err := a.GetBlob(t.Context(), "b", bad); err == nil {
			t.Errorf("got %q", bad)
		}
	}
	if err := a.PutBlob(t.Context(), "a", sum(data), data); err == nil {
		t.Error("a node without blobs took one")
	}
}

// TestBlobAnnounced: a size that is not kept to.
func TestBlobAnnounced(t *testing.T) {
	c := newTestCluster(t)
	store := &memoryBlobs{all: map[string][]byte{}}
	a := c.open("a", nil)
	c.open("b", func(o *Options) { o.Blobs = store })
	data := make([]byte, 1000)
	for _, size := range []uint64{0, 999, 1001, DefaultMaxBlob + 1, 1 << 63} {
		client, err := a.service("b")
		if err != nil {
			t.Fatal(err)
		}
		stream := client.PutBlob(t.Context())
		stream.Send(&peerv1.PutBlobRequest{Digest: sum(data), Size: size})
		stream.Send(&peerv1.PutBlobRequest{Data: data})
		if _, err := stream.CloseAndReceive(); err == nil {
			t.Errorf("announced %d of 1000 bytes, and it was taken", size)
		}
	}
	if len(store.all) > 0 {
		t.Error("stored")
	}
}

func TestAPIOfAnotherNode(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	a := c.open("a", nil)
	c.open("b", func(o *Options) {
		o.API = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s %s for %s", r.Header.Get(HeaderPeer), r.URL.Path, r.Header.Get("Pollux-Principal"))
		})
	})
	client, base, err := a.HTTP("b")
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(http.MethodGet, base+"/pollux.v1.ClusterService/GetStatus", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Pollux-Principal", "ada")
	req.Header.Set(HeaderPeer, "somebody else") // a node does not speak for another
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if text, _ := io.ReadAll(res.Body); string(text) != "a /pollux.v1.ClusterService/GetStatus for ada" {
		t.Errorf("%s", text)
	}
	// The address of another node: its certificate gives it away.
	addr, _ := c.address("b")
	c.setAddress("x", addr)
	client, base, err = a.HTTP("x")
	if err != nil {
		t.Fatal(err)
	}
	req, err = http.NewRequest(http.MethodGet, base+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Do(req); !errors.Is(err, pki.ErrWrongNode) {
		t.Errorf("%v", err)
	}
}

// TestUnreadAnswersAreBounded: of an answer that nobody reads another node sends little, and other answers come meanwhile.
func TestUnreadAnswersAreBounded(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	a := c.open("a", nil)
	const all = 3 << 20
	wrote := make(chan int, 1)
	c.open("b", func(o *Options) {
		o.API = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/watch" {
				return
			}
			control := http.NewResponseController(w)
			_ = control.SetWriteDeadline(time.Now().Add(time.Second)) // what is not held up is through by then
			n := 0
			for chunk := make([]byte, 8<<10); n < all; n += len(chunk) {
				if _, err := w.Write(chunk); err != nil {
					break
				}
			}
			wrote <- n
		})
	})
	client, base, err := a.HTTP("b")
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) *http.Response {
		req, err := http.NewRequest(http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	res := get("/watch")
	defer res.Body.Close()
	get("/other").Body.Close()
	if n := <-wrote; n > 2*maxUnread {
		t.Errorf("%d bytes were sent to who read none of them", n)
	}
}

// TestCloseEndsRequests: a request that is still being answered ends with the peers of either side.
func TestCloseEndsRequests(t *testing.T) {
	noLeaks(t)
	for _, side := range []string{"a", "b"} {
		c := newTestCluster(t)
		nodes := map[string]*Peers{"a": c.open("a", nil)}
		nodes["b"] = c.open("b", func(o *Options) {
			o.API = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.WriteHeader(http.StatusOK)
				http.NewResponseController(w).Flush()
				<-r.Context().Done()
			})
		})
		client, base, err := nodes["a"].HTTP("b")
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequest(http.MethodGet, base+"/watch", nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { _, err := io.ReadAll(res.Body); ended <- err }()
		nodes[side].Close()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("it ended as if all had been said")
			}
		case <-time.After(patience):
			t.Errorf("%s closed, the request goes on", side)
		}
		res.Body.Close()
	}
}

// Whoever gives another port than a node's peer port is told so.
func TestEnrollWhereNoNodeIs(t *testing.T) {
	token := pki.NewToken(newTestCluster(t).ca.Fingerprint())
	for what, answer := range map[string]string{"hangs up": "", "says something else": "220 smtp.example ready\r\n"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1<<16))
			_, _ = io.WriteString(c, answer)
			_ = c.Close()
		}()
		if _, err := Enroll(t.Context(), l.Addr().String(), token, "fresh", "", nil); !errors.Is(err, errNoPeerPort) {
			t.Errorf("it %s: %v", what, err)
		}
	}
}

func TestEnroll(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	token := pki.NewToken(c.ca.Fingerprint())
	record := token.Record(time.Now().Add(time.Hour))
	var asked EnrollRequest
	var mu sync.Mutex
	now := time.Now()
	a := c.open("a", func(o *Options) {
		o.Enroll = func(_ context.Context, r EnrollRequest) (EnrollResponse, error) {
			mu.Lock()
			defer mu.Unlock()
			asked = r
			if r.TokenID != record.ID {
				return EnrollResponse{}, fmt.Errorf("token %s is not known: %w", r.TokenID, pki.ErrToken)
			}
			if err := record.Check(r.Secret, now); err != nil {
				return EnrollResponse{}, err
			}
			cert, err := c.ca.Sign(r.CSR, r.Node, c.id, pki.NodeTTL)
			return EnrollResponse{Cert: cert, CA: c.ca.PEM(), ClusterID: c.id, GossipKeys: [][]byte{{1, 2}, {3}}, Gossip: []string{"h:1"},
				Peers: []string{"h:2", "h:3"}}, err
		}
	})
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(key, "fresh")
	if err != nil {
		t.Fatal(err)
	}
	addr := a.Addr().String()
	res, err := Enroll(t.Context(), addr, token, "fresh", "Fresh one", csr)
	if err != nil {
		t.Fatal(err)
	}
	if res.ClusterID != c.id || len(res.GossipKeys) != 2 || res.Gossip[0] != "h:1" || len(res.Peers) != 2 || asked.Name != "Fresh one" || asked.Remote == "" {
		t.Errorf("%+v from %+v", res, asked)
	}
	id, err := pki.NewIdentity(key, res.Cert, res.CA)
	if err != nil {
		t.Fatal(err)
	}
	fresh := c.open("fresh", func(o *Options) { o.Identity = id })
	if r := ask(t, fresh, "a", envelope("x", "I am in")); r.Err != nil {
		t.Error(r.Err)
	}

	wrong := token
	wrong.Secret[0]++
	if _, err := Enroll(t.Context(), addr, wrong, "fresh", "", csr); !errors.Is(err, pki.ErrToken) {
		t.Errorf("wrong secret: %v", err)
	}
	if _, err := Enroll(t.Context(), addr, pki.NewToken(c.ca.Fingerprint()), "fresh", "", csr); !errors.Is(err, pki.ErrToken) {
		t.Errorf("unknown token: %v", err)
	}
	mu.Lock()
	now = now.Add(2 * time.Hour)
	mu.Unlock()
	if _, err := Enroll(t.Context(), addr, token, "fresh", "", csr); !errors.Is(err, pki.ErrTokenExpired) {
		t.Errorf("expired: %v", err)
	}
	mu.Lock()
	asked = EnrollRequest{}
	mu.Unlock()
	other, err := pki.NewAuthority("cother")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Enroll(t.Context(), addr, pki.NewToken(other.Fingerprint()), "fresh", "", csr); !errors.Is(err, pki.ErrWrongCluster) {
		t.Errorf("a token of another cluster: %v", err)
	}
	if asked.Secret != nil {
		t.Error("the secret was told to a node of another cluster")
	}
	if _, err := Enroll(t.Context(), "127.0.0.1:1", token, "fresh", "", csr); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody there: %v", err)
	}
	if _, err := Enroll(t.Context(), fresh.Addr().String(), token, "fresh", "", csr); err == nil {
		t.Error("a node that enrols nobody did")
	}
}

func TestRaftConnections(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	a, b := c.open("a", nil), c.open("b", nil)
	near, err := a.RaftLayer().Dial(raft.ServerAddress(b.Addr().String()), patience)
	if err != nil {
		t.Fatal(err)
	}
	far, err := b.RaftLayer().Accept()
	if err != nil {
		t.Fatal(err)
	}
	go near.Write([]byte("append entries"))
	buf := make([]byte, 14)
	if _, err := io.ReadFull(far, buf); err != nil || string(buf) != "append entries" {
		t.Errorf("%q, %v", buf, err)
	}
	far.Close()
	if _, err := near.Read(buf); err == nil {
		t.Error("the other side closed, and nothing came of it")
	}
	near.Close()
	// One that is meant must be there: votes of one node must not count for two.
	dial := a.RaftLayer().(interface {
		DialNode(node, address string, timeout time.Duration) (net.Conn, error)
	}).DialNode
	if conn, err := dial("c", b.Addr().String(), patience); err == nil {
		conn.Close()
		t.Error("b was taken for c")
	}
	if conn, err := dial("b", b.Addr().String(), patience); err != nil {
		t.Error(err)
	} else {
		conn.Close()
		if far, err := b.RaftLayer().Accept(); err == nil {
			far.Close()
		}
	}
	// Raft itself over it.
	ta := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: a.RaftLayer(), MaxPool: 2, Timeout: patience})
	tb := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{Stream: b.RaftLayer(), MaxPool: 2, Timeout: patience})
	go func() {
		for rpc := range tb.Consumer() {
			rpc.Respond(&raft.RequestVoteResponse{Term: 7, Granted: true}, nil)
			return
		}
	}()
	var res raft.RequestVoteResponse
	if err := ta.RequestVote("b", tb.LocalAddr(), &raft.RequestVoteRequest{Term: 7}, &res); err != nil || res.Term != 7 {
		t.Errorf("%+v, %v", res, err)
	}
	ta.Close()
	tb.Close()
	if _, err := b.RaftLayer().Accept(); err == nil {
		t.Error("accepted after Close")
	}
	if _, err := a.RaftLayer().Dial(raft.ServerAddress(b.Addr().String()), 300*time.Millisecond); err != nil {
		t.Log(err) // closed or refused; it must not hang
	}
	if r := ask(t, a, "b", envelope("x", "")); r.Err != nil {
		t.Error("calls go on:", r.Err)
	}
}

// TestPlainConnect: Connect's own client, without a line of this package's encoding, is served.
func TestPlainConnect(t *testing.T) {
	c := newTestCluster(t)
	a := c.open("a", nil)
	c.open("b", nil)
	client, err := a.service("b")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream := client.Exchange(ctx)
	if err := stream.Send(&peerv1.ExchangeRequest{Hello: &peerv1.Hello{Version: 1, Node: "a"}}); err != nil {
		t.Fatal(err)
	}
	first, err := stream.Receive()
	if err != nil || first.GetHello().GetNode() != "b" || first.GetHello().GetVersion() != wireVersion {
		t.Fatalf("%v, %v", first, err)
	}
	if err := stream.Send(&peerv1.ExchangeRequest{Now: 5, Types: []*peerv1.TypeName{{Number: 1, Name: "google.protobuf.StringValue"}},
		Calls: []*peerv1.Call{{Ref: 9, Kind: "twin", Target: "default/x", Type: 1, Message: []byte("\x0a\x02hi")}}}); err != nil {
		t.Fatal(err)
	}
	m, err := stream.Receive()
	if err != nil || len(m.GetTypes()) != 1 || len(m.GetResults()) != 1 || m.GetResults()[0].GetRef() != 9 || string(m.GetResults()[0].GetMessage()) != "\x0a\x02hi" {
		t.Fatalf("%v, %v", m, err)
	}
	if err := stream.CloseRequest(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Receive(); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
	if err := stream.CloseResponse(); err != nil && connect.CodeOf(err) != connect.CodeCanceled {
		t.Error(err)
	}
}
