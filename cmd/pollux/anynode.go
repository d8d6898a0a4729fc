package main

import (
	"errors"
	"net"
	"net/http"
	"net/url"
	"sync"
)

// anyNode sends each request to the node that answered last, and to the next one where a node cannot be reached. A request
// that may have reached a node is not sent to another.
type anyNode struct {
	doors []door

	mu sync.Mutex
	at int
}

// door is one node's address.
type door struct {
	base *url.URL
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (n *anyNode) RoundTrip(r *http.Request) (*http.Response, error) {
	first := n.current()
	var failed []error
	for i := range n.doors {
		at := (first + i) % len(n.doors)
		try := r
		if at > 0 || i > 0 {
			var err error
			if try, err = n.aimed(r, at, i > 0); err != nil {
				return nil, errors.Join(append(failed, err)...)
			}
		}
		res, err := n.doors[at].next.RoundTrip(try)
		if err == nil {
			n.keep(at)
			return res, nil
		}
		if failed = append(failed, err); r.Context().Err() != nil || !unsent(err) || r.Body != nil && r.GetBody == nil {
			break
		}
	}
	return nil, errors.Join(failed...)
}

// aimed gives the request as it goes to another address than the first.
func (n *anyNode) aimed(r *http.Request, at int, again bool) (*http.Request, error) {
	r = r.Clone(r.Context())
	from, to := n.doors[0].base, n.doors[at].base
	r.URL.Scheme, r.URL.Host, r.Host = to.Scheme, to.Host, to.Host
	r.URL.Path = to.Path + r.URL.Path[len(from.Path):]
	if again && r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		r.Body = body
	}
	return r, nil
}

// unsent says that no byte of the request left: there was no connection.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

func (n *anyNode) current() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at
}

func (n *anyNode) keep(at int) {
	n.mu.Lock()
	n.at = at
	n.mu.Unlock()
}

func (n *anyNode) url() string { return n.doors[n.current()].base.String() }
