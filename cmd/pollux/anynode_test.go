package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// listed gives a transport over the addresses, in order.
func listed(t *testing.T, addresses ...string) *anyNode {
	t.Helper()
	n := &anyNode{}
	for _, a := range addresses {
		u, err := url.Parse(a)
		if err != nil {
			t.Fatal(err)
		}
		tr := &http.Transport{}
		t.Cleanup(tr.CloseIdleConnections)
		n.doors = append(n.doors, door{u, tr})
	}
	return n
}

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

// TestNextNodeWhereOneCannotBeReached: a request that did not leave goes to the next address, whole, and the one that answered
// is asked first from then on.
func TestNextNodeWhereOneCannotBeReached(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Host+r.URL.Path+" "+string(b))
	}))
	defer s.Close()
	n := listed(t, closedPort(t), closedPort(t)+"/under", s.URL)
	for range 2 {
		res, err := (&http.Client{Transport: n}).Post(n.doors[0].base.String()+"/x", "text/plain", strings.NewReader("whole"))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
	}
	want := strings.TrimPrefix(s.URL, "http://") + "/x whole"
	if len(asked) != 2 || asked[0] != want || asked[1] != want {
		t.Errorf("asked %q, want twice %q", asked, want)
	}
	if n.url() != s.URL {
		t.Errorf("the node that answered is %s", n.url())
	}
	none := listed(t, closedPort(t), closedPort(t))
	if _, err := (&http.Client{Transport: none}).Get(none.doors[0].base.String()); err == nil ||
		!strings.Contains(err.Error(), none.doors[0].base.Host) || !strings.Contains(err.Error(), none.doors[1].base.Host) {
		t.Errorf("with nobody there: %v", err)
	}
}

// TestNoSecondTryOfWhatLeft: what a node may have got is sent to no other.
func TestNoSecondTryOfWhatLeft(t *testing.T) {
	cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			_ = c.Close()
		}
	}))
	defer cut.Close()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the second node was asked") }))
	defer other.Close()
	n := listed(t, cut.URL, other.URL)
	if _, err := (&http.Client{Transport: n}).Post(cut.URL, "text/plain", strings.NewReader("once")); err == nil {
		t.Error("no error")
	}
}
