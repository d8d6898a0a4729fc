package httpclient

import (
	"io"
	"net/http"
	"net/url"

	"github.com/icholy/digest"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

// credentials puts the side's credentials and headers on each request.
func credentials(s *side) http.RoundTripper {
	var trip http.RoundTripper = &bounded{s.pool}
	o := &s.options
	if o.Auth == "digest" {
		trip = &digest.Transport{Username: o.User, Password: o.Password, Transport: trip}
	}
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		for name, value := range o.Headers {
			if r.Header.Get(name) == "" && value != "" {
				r.Header.Set(name, value)
			}
		}
		switch {
		case r.Header.Get("Authorization") != "":
		case o.Auth == "basic":
			r.SetBasicAuth(o.User, o.Password)
		case o.Auth == "bearer":
			r.Header.Set("Authorization", "Bearer "+o.Token)
		}
		return trip.RoundTrip(r)
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// bounded cuts bodies, also those that only a retry reads.
type bounded struct{ next http.RoundTripper }

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := b.next.RoundTrip(r)
	if err != nil || res.StatusCode == http.StatusSwitchingProtocols {
		return res, err
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(res.Body, limitOf(r)+1), res.Body}
	return res, nil
}

type limitKey struct{}

func limitOf(r *http.Request) int64 {
	if n, ok := r.Context().Value(limitKey{}).(int); ok && n > 0 {
		return int64(n)
	}
	return maxBody
}

// boundedJar keeps a device from filling the node with cookies.
type boundedJar struct{ http.CookieJar }

// maxCookies of a host.
const maxCookies = 32

func (j *boundedJar) SetCookies(u *url.URL, cookies []*http.Cookie) {
	room := maxCookies - len(j.Cookies(u))
	var fit []*http.Cookie
	for _, k := range cookies {
		known := false
		for _, old := range j.Cookies(u) {
			known = known || old.Name == k.Name
		}
		if len(k.Name)+len(k.Value) > 4096 || !known && room <= 0 {
			continue
		}
		if !known {
			room--
		}
		fit = append(fit, k)
	}
	j.CookieJar.SetCookies(u, fit)
}

// Handshake gives a client that begins another protocol by an HTTP/1.1 request to the twin's own address: with the
// credentials and headers of the binding, and no redirects. secure says whether it goes by TLS.
func Handshake(o transport.Options, a *transport.Address, secure bool) (client *http.Client, closeIdle func(), err error) {
	u := *a.URL
	b := &o.Binding
	u.Scheme, b.Transport.Scheme = "http", drivers.SchemeHTTP
	if secure {
		u.Scheme, b.Transport.Scheme = "https", drivers.SchemeHTTPS
	}
	b.URI, b.HTTP = u.String(), nil
	c, err := New(o)
	if err != nil {
		return nil, nil, err
	}
	c.own.pool.ForceAttemptHTTP2 = false
	return &http.Client{Transport: roundTrip(c.route), Jar: c.own.jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, c.own.pool.CloseIdleConnections, nil
}
