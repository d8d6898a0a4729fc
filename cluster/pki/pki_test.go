package pki

import (
	"context"
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func authority(t *testing.T, clusterID string) *Authority {
	t.Helper()
	a, err := NewAuthority(clusterID)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// identity makes a node's identity; ttl may be negative.
func identity(t *testing.T, a *Authority, node string, ttl time.Duration, bundle []byte) *Identity {
	t.Helper()
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := NewRequest(key, node)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := a.Sign(csr, node, a.ClusterID(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	i, err := NewIdentity(key, cert, bundle)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// shake lets a client dial a server over a pipe, and says what each thinks.
func shake(t *testing.T, server, client *tls.Config) (cs tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	s, c := tls.Server(near, server), tls.Client(far, client)
	done := make(chan error, 1)
	go func() {
		err := c.Handshake()
		done <- err
		if err != nil {
			far.Close()
		}
	}()
	serverErr = s.Handshake()
	clientErr = <-done
	return s.ConnectionState(), serverErr, clientErr
}

func TestHandshakeOfTwoNodes(t *testing.T) {
	ca := authority(t, "c1")
	a, b := identity(t, ca, "a", NodeTTL, ca.PEM()), identity(t, ca, "b", NodeTTL, ca.PEM())
	cs, serverErr, clientErr := shake(t, b.ServerTLS("h2"), a.ClientTLS("b", "h2"))
	if serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	if node, err := b.Verify(&cs); node != "a" || err != nil {
		t.Errorf("%q, %v", node, err)
	}
	if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != "h2" || b.Meant(&cs) != nil {
		t.Errorf("%x %q %v", cs.Version, cs.NegotiatedProtocol, b.Meant(&cs))
	}
	if _, serverErr, clientErr := shake(t, b.ServerTLS("h2"), a.ClientTLS("", "h2")); serverErr != nil || clientErr != nil {
		t.Error("any node will do:", serverErr, clientErr)
	}
}

func TestClientRefuses(t *testing.T) {
	ca, other, twin := authority(t, "c1"), authority(t, "c2"), authority(t, "c1")
	a := identity(t, ca, "a", NodeTTL, ca.PEM())
	for name, c := range map[string]struct {
		server *Identity
		want   error
		text   string
	}{
		"another cluster":            {identity(t, other, "b", NodeTTL, other.PEM()), ErrWrongCluster, "certificate is of cluster c2, this is c1"},
		"another node":               {identity(t, ca, "x", NodeTTL, ca.PEM()), ErrWrongNode, "certificate is of node x, b was meant"},
		"same id, another authority": {identity(t, twin, "b", NodeTTL, twin.PEM()), ErrUntrusted, "signed by no authority of this cluster"},
		"a certificate that is over": {identity(t, ca, "b", -time.Minute, ca.PEM()), ErrExpired, "is valid from"},
	} {
		_, serverErr, clientErr := shake(t, c.server.ServerTLS("h2"), a.ClientTLS("b", "h2"))
		if !errors.Is(clientErr, c.want) || !strings.Contains(clientErr.Error(), c.text) {
			t.Errorf("%s: %v", name, clientErr)
		}
		if serverErr == nil {
			t.Errorf("%s: the server noticed nothing", name)
		}
	}
}

func TestServerRefuses(t *testing.T) {
	ca, other, twin := authority(t, "c1"), authority(t, "c2"), authority(t, "c1")
	b := identity(t, ca, "b", NodeTTL, ca.PEM())
	for name, c := range map[string]struct {
		client *Identity
		want   error
	}{
		"another cluster":            {identity(t, other, "a", NodeTTL, other.PEM()), ErrWrongCluster},
		"same id, another authority": {identity(t, twin, "a", NodeTTL, twin.PEM()), ErrUntrusted},
		"a certificate that is over": {identity(t, ca, "a", -time.Minute, ca.PEM()), ErrExpired},
	} {
		cfg := c.client.ClientTLS("b", "h2")
		cfg.VerifyConnection = nil // a client that trusts anybody
		cs, serverErr, _ := shake(t, b.ServerTLS("h2"), cfg)
		if serverErr != nil {
			t.Errorf("%s: the handshake failed, nobody would hear why: %v", name, serverErr)
		}
		if _, err := b.Verify(&cs); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	cs, _, _ := shake(t, b.ServerTLS("h2"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if _, err := b.Verify(&cs); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("no certificate: %v", err)
	}
}

func TestServerHearsWhoWasMeant(t *testing.T) {
	ca, other := authority(t, "c1"), authority(t, "c2")
	b := identity(t, ca, "b", NodeTTL, ca.PEM())
	cs, serverErr, _ := shake(t, b.ServerTLS("h2"), identity(t, ca, "a", NodeTTL, ca.PEM()).ClientTLS("x", "h2"))
	if serverErr == nil || !errors.Is(b.Meant(&cs), ErrWrongNode) {
		t.Errorf("%v, %v", serverErr, b.Meant(&cs))
	}
	cs, serverErr, _ = shake(t, b.ServerTLS("h2"), identity(t, other, "a", NodeTTL, other.PEM()).ClientTLS("b", "h2"))
	if serverErr == nil || !errors.Is(b.Meant(&cs), ErrWrongCluster) {
		t.Errorf("%v, %v", serverErr, b.Meant(&cs))
	}
}

func TestJoinToken(t *testing.T) {
	ca, other := authority(t, "c1"), authority(t, "c2")
	b := identity(t, ca, "b", NodeTTL, ca.PEM())
	token := NewToken(ca.Fingerprint())
	again, err := ParseToken(" " + token.String() + "\n")
	if err != nil || again != token {
		t.Fatalf("%v, %v", again, err)
	}
	if !strings.HasPrefix(token.String(), "pollux1.") {
		t.Error(token.String())
	}
	for _, bad := range []string{"", "pollux1.", "pollux2." + token.String()[8:], token.String()[:40], token.String() + "AA", "pollux1.&&&"} {
		if _, err := ParseToken(bad); !errors.Is(err, ErrToken) || len(bad) > 20 && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	record := token.Record(time.Now().Add(time.Hour))
	if err := record.Check(token.Secret[:], time.Now()); err != nil {
		t.Error(err)
	}
	if err := record.Check(token.Secret[:], time.Now().Add(2*time.Hour)); !errors.Is(err, ErrTokenExpired) {
		t.Error(err)
	}
	wrong := token.Secret
	wrong[3]++
	for _, s := range [][]byte{wrong[:], nil, token.Secret[:19]} {
		if err := record.Check(s, time.Now()); !errors.Is(err, ErrToken) {
			t.Error(err)
		}
	}
	if _, serverErr, clientErr := shake(t, b.ServerTLS("h2"), token.JoinTLS("h2")); serverErr != nil || clientErr != nil {
		t.Error(serverErr, clientErr)
	}
	if _, _, clientErr := shake(t, b.ServerTLS("h2"), NewToken(other.Fingerprint()).JoinTLS("h2")); !errors.Is(clientErr, ErrWrongCluster) {
		t.Error(clientErr)
	}
	// A node of another cluster that shows our authority's certificate beside its own.
	liar := identity(t, other, "b", NodeTTL, other.PEM())
	s := *liar.cur.Load()
	s.cert.Certificate = [][]byte{s.leaf.Raw, ca.cert.Raw}
	liar.cur.Store(&s)
	if _, _, clientErr := shake(t, liar.ServerTLS("h2"), token.JoinTLS("h2")); !errors.Is(clientErr, ErrUntrusted) {
		t.Error(clientErr)
	}
}

func TestRotationOfTheAuthority(t *testing.T) {
	old, fresh := authority(t, "c1"), authority(t, "c1")
	both := append(old.PEM(), fresh.PEM()...)
	a, b := identity(t, old, "a", NodeTTL, old.PEM()), identity(t, old, "b", NodeTTL, old.PEM())
	var told atomic.Int32
	stop := a.Watch(func() { told.Add(1) })
	step := func(what string) {
		t.Helper()
		for _, pair := range [][2]*Identity{{a, b}, {b, a}} {
			cs, serverErr, clientErr := shake(t, pair[0].ServerTLS("h2"), pair[1].ClientTLS(pair[0].Node(), "h2"))
			_, err := pair[0].Verify(&cs)
			if serverErr != nil || clientErr != nil || err != nil {
				t.Fatal(what, serverErr, clientErr, err)
			}
		}
	}
	sign := func(of *Authority, node string) func(context.Context, []byte) ([]byte, error) {
		return func(_ context.Context, csr []byte) ([]byte, error) { return of.Sign(csr, node, "c1", NodeTTL) }
	}
	step("before")
	if err := a.SetBundle(fresh.PEM()); !errors.Is(err, ErrUntrusted) {
		t.Errorf("the own certificate's authority was dropped: %v", err)
	}
	if err := errors.Join(a.SetBundle(both), b.SetBundle(both)); err != nil {
		t.Fatal(err)
	}
	step("both trusted")
	if err := a.Renew(t.Context(), sign(fresh, "a"), ""); err != nil {
		t.Fatal(err)
	}
	if !a.SignedBy(fresh.Fingerprint()) || a.SignedBy(old.Fingerprint()) {
		t.Error("signed by whom?")
	}
	step("a has the fresh one's")
	if err := errors.Join(b.Renew(t.Context(), sign(fresh, "b"), ""), a.SetBundle(fresh.PEM()), b.SetBundle(fresh.PEM())); err != nil {
		t.Fatal(err)
	}
	step("the old one is gone")
	if told.Load() != 3 {
		t.Errorf("told %d times of 3 changes", told.Load())
	}
	stop()
	if err := a.Renew(t.Context(), sign(fresh, "x"), ""); !errors.Is(err, ErrWrongNode) {
		t.Errorf("a certificate of another node was taken: %v", err)
	}
	if told.Load() != 3 {
		t.Error("told after stop, or of what failed")
	}
}

func TestSaveAndLoad(t *testing.T) {
	ca := authority(t, "c1")
	dir := filepath.Join(t.TempDir(), "identity")
	if _, err := Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing there: %v", err)
	}
	i := identity(t, ca, "a", NodeTTL, ca.PEM())
	if err := i.Save(dir); err != nil {
		t.Fatal(err)
	}
	again, err := Load(dir)
	if err != nil || again.Node() != "a" || again.ClusterID() != "c1" || !again.Expires().Equal(i.Expires()) {
		t.Fatalf("%+v, %v", again, err)
	}
	modes := map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, nodeFile): 0o600, filepath.Join(dir, bundleFile): 0o600}
	for name, want := range modes {
		if s, err := os.Stat(name); err != nil || s.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", name, s.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*.tmp")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	data, err := os.ReadFile(filepath.Join(dir, nodeFile))
	if err != nil {
		t.Fatal(err)
	}
	for n := range 40 { // cut anywhere: an error, no panic
		if err := os.WriteFile(filepath.Join(dir, nodeFile), data[:len(data)*n/40], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Load(dir); err == nil {
			t.Errorf("loaded %d of %d bytes", len(data)*n/40, len(data))
		}
	}
	// One that is over is loaded, so that it can be renewed.
	if err := identity(t, ca, "a", -time.Minute, ca.PEM()).Save(dir); err != nil {
		t.Fatal(err)
	}
	old, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(_ context.Context, csr []byte) ([]byte, error) { return ca.Sign(csr, "a", "c1", NodeTTL) }
	if err := old.Renew(t.Context(), sign, dir); err != nil {
		t.Fatal(err)
	}
	if again, err := Load(dir); err != nil || again.Expires().Before(time.Now()) {
		t.Errorf("%v", err)
	}
}

func TestKeepFresh(t *testing.T) {
	ca := authority(t, "c1")
	i := identity(t, ca, "a", 2*time.Second, ca.PEM()) // two thirds of its time, with the hour before, are over
	if left := time.Until(i.RenewAt()); left > 0 {
		t.Fatalf("to be renewed in %v", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	tries := atomic.Int32{}
	go func() {
		defer close(done)
		i.KeepFresh(ctx, Renewal{Every: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
			Sign: func(_ context.Context, csr []byte) ([]byte, error) {
				if tries.Add(1) == 1 {
					return nil, errors.New("no quorum")
				}
				return ca.Sign(csr, "a", "c1", NodeTTL)
			}})
	}()
	for end := time.Now().Add(30 * time.Second); time.Until(i.Expires()) < NodeTTL/2; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not renewed")
		}
	}
	cancel()
	<-done
	if tries.Load() != 2 {
		t.Errorf("signed %d times", tries.Load())
	}
}

func TestAuthority(t *testing.T) {
	ca := authority(t, "c1")
	data, err := ca.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseAuthority(data)
	if err != nil || again.Fingerprint() != ca.Fingerprint() || again.ClusterID() != "c1" {
		t.Fatalf("%v", err)
	}
	identity(t, again, "a", NodeTTL, ca.PEM())
	for _, bad := range [][]byte{nil, ca.PEM(), data[:len(data)/2], []byte("nonsense")} {
		if _, err := ParseAuthority(bad); err == nil {
			t.Errorf("taken: %q", bad)
		}
	}
	key, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := NewRequest(key, "a")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		csr           []byte
		node, cluster string
	}{{csr, "a", "c2"}, {csr, "", "c1"}, {csr, "a/b", "c1"}, {csr, "a b", "c1"}, {nil, "a", "c1"}, {ca.PEM(), "a", "c1"}} {
		if _, err := ca.Sign(c.csr, c.node, c.cluster, NodeTTL); err == nil {
			t.Errorf("signed: %+v", c)
		}
	}
	if _, err := NewAuthority("C/1"); err == nil {
		t.Error("a cluster id that cannot be")
	}
	// A node's certificate signs nobody.
	node := identity(t, ca, "a", NodeTTL, ca.PEM())
	if _, err := newState(node.cur.Load().key, certPEM(node.cur.Load()), certPEM(node.cur.Load())); err == nil {
		t.Error("a node's certificate was taken as an authority")
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("pollux1.AAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if token, err := ParseToken(s); err == nil {
			if again, err := ParseToken(token.String()); err != nil || again != token {
				t.Errorf("%q: %v", s, err)
			}
		}
	})
}
