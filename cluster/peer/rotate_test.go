package peer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/polluxhq/pollux/cluster/pki"
)

// TestRotation: certificates, then the authority, are replaced under load, and no call is lost.
func TestRotation(t *testing.T) {
	noLeaks(t)
	c := newTestCluster(t)
	api := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	nodes := map[string]*Peers{}
	for _, n := range []string{"a", "b", "c"} {
		nodes[n] = c.open(n, func(o *Options) { o.API = api })
	}
	var calls, requests atomic.Int64
	stop := make(chan struct{})
	var load sync.WaitGroup
	running := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	for from := range nodes {
		for to := range nodes {
			load.Go(func() {
				for running() {
					if r := ask(t, nodes[from], to, envelope("x", "y")); r.Err != nil {
						t.Errorf("%s to %s: %v", from, to, r.Err)
						return
					}
					calls.Add(1)
				}
			})
		}
	}
	load.Go(func() {
		for running() {
			if err := get(nodes["a"], "b"); err != nil {
				t.Error(err)
				return
			}
			requests.Add(1)
		}
	})
	more := func() {
		t.Helper()
		was, asked := calls.Load(), requests.Load()
		eventually(t, "more calls", func() bool { return t.Failed() || calls.Load() > was+300 && requests.Load() > asked+10 })
	}
	each := func(fn func(i *pki.Identity) error) {
		t.Helper()
		for _, p := range nodes {
			if err := fn(p.o.Identity); err != nil {
				t.Fatal(err)
			}
			more()
		}
	}
	renew := func(of *pki.Authority) func(i *pki.Identity) error {
		return func(i *pki.Identity) error {
			return i.Renew(t.Context(), func(_ context.Context, csr []byte) ([]byte, error) { return of.Sign(csr, i.Node(), c.id, pki.NodeTTL) }, "")
		}
	}
	more()
	before := nodes["a"].m.links.Get()
	each(renew(c.ca))
	eventually(t, "fresh links", func() bool { return nodes["a"].m.links.Get() > before })

	fresh, err := pki.NewAuthority(c.id)
	if err != nil {
		t.Fatal(err)
	}
	both := append(c.ca.PEM(), fresh.PEM()...)
	each(func(i *pki.Identity) error { return i.SetBundle(both) })
	each(renew(fresh))
	each(func(i *pki.Identity) error { return i.SetBundle(fresh.PEM()) })
	close(stop)
	load.Wait()
	t.Logf("%d calls and %d requests during the rotation; links of a: %d up, %d lost", calls.Load(), requests.Load(),
		nodes["a"].m.links.Get(), nodes["a"].m.lost.Get())

	// Who still has a certificate of the old authority is out.
	late := c.open("late", nil)
	if r := ask(t, late, "a", envelope("x", "")); !errors.Is(r.Err, pki.ErrUntrusted) {
		t.Errorf("%v", r.Err)
	}
}

// TestQuickChanges: changes that come while links are being renewed are not missed.
func TestQuickChanges(t *testing.T) {
	c := newTestCluster(t)
	a, b := c.open("a", nil), c.open("b", nil)
	if r := ask(t, a, "b", envelope("x", "")); r.Err != nil {
		t.Fatal(r.Err)
	}
	first := serialAt(b)
	sign := func(_ context.Context, csr []byte) ([]byte, error) { return c.ca.Sign(csr, "a", c.id, pki.NodeTTL) }
	for range 5 {
		if err := a.o.Identity.Renew(t.Context(), sign, ""); err != nil {
			t.Fatal(err)
		}
	}
	want, err := a.o.Identity.ClientTLS("", "h2").GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the last certificate alone in use", func() bool {
		if r := ask(t, a, "b", envelope("x", "")); r.Err != nil {
			t.Fatal(r.Err)
		}
		used := serialAt(b)
		return len(used) == 1 && used[0] == want.Leaf.SerialNumber.String() && used[0] != first[0]
	})
}

// serialAt gives the numbers of the certificates that nodes have at their connections to p.
func serialAt(p *Peers) (all []string) {
	for _, c := range p.inbound() {
		if c.known.Load() {
			all = append(all, c.state.PeerCertificates[0].SerialNumber.String())
		}
	}
	return all
}

func get(p *Peers, node string) error {
	client, base, err := p.HTTP(node)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/", nil)
	if err != nil {
		return err
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(res.Body); string(text) != "ok" {
		return errors.Join(err, errors.New(string(text)))
	}
	return nil
}
