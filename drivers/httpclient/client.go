// Package httpclient makes the HTTP requests of twins' drivers: to the twin's own address and the hosts that its manifest
// and settings name, and to nothing else, also not by redirects or by names that lead elsewhere.
package httpclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

const (
	// maxRedirects of one request.
	maxRedirects = 10
	// maxHeaderBytes of an answer.
	maxHeaderBytes = 256 << 10
	// maxIdle connections to a host, and maxConns in all, are a device's share.
	maxIdle, maxConns = 2, 8
	// idleTime after which an idle connection is closed.
	idleTime = 90 * time.Second
	// usualPerMinute, usualBurst and usualRetries hold where the manifest says nothing.
	usualPerMinute, usualBurst, usualRetries = 600, 20, 2
	// maxBody is an answer's longest body where the request has no bound, in bytes.
	maxBody = 1 << 20
)

// Client makes one twin's requests.
type Client struct {
	base   *url.URL // nil: relative URLs are refused
	rules  rules
	own    *side // how requests to the twin's own address are made
	others *side // and those to the other hosts
	ctx    context.Context
	cancel context.CancelFunc
	watch  watcher // nil: nobody hears of the requests
}

var _ drivers.HTTPClient = (*Client)(nil)

// watcher hears of a client's requests.
type watcher interface {
	asked(u *url.URL, r *drivers.HTTPRequest)
	answered(u *url.URL, r *drivers.HTTPResponse, err error)
}

// side is how a group of hosts is asked.
type side struct {
	options drivers.HTTPOptions
	tls     *tls.Config // for probes; the pool changes its own
	pool    *http.Transport
	trip    http.RoundTripper // the pool, with credentials
	jar     http.CookieJar
	bucket  *bucket
}

// New makes a client of a binding. A wrong address, certificate or proxy is an error at once. Binding.Transport counts
// where its scheme is http or https.
func New(o transport.Options) (*Client, error) {
	b := &o.Binding
	c := &Client{}
	var address *transport.Address
	if s := b.Transport.Scheme; s == drivers.SchemeHTTP || s == drivers.SchemeHTTPS {
		var err error
		if address, err = transport.ParseAddress(b.URI, &b.Transport); err != nil {
			return nil, err
		}
		base := *address.URL
		base.Fragment = ""
		c.base = &base
	}
	var err error
	if c.rules, err = newRules(address, b.HTTP); err != nil {
		return nil, err
	}
	if c.own, err = c.newSide(o, b.Transport.HTTP, b.Transport.TLS); err != nil {
		return nil, err
	}
	if c.others = c.own; b.HTTP != nil {
		if c.others, err = c.newSide(o, &b.HTTP.HTTPOptions, b.HTTP.TLS); err != nil {
			return nil, err
		}
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c, nil
}

func (c *Client) newSide(o transport.Options, h *drivers.HTTPOptions, t *drivers.TLSOptions) (*side, error) {
	s := &side{}
	if h != nil {
		s.options = *h
	}
	def(&s.options.PerMinute, usualPerMinute)
	def(&s.options.Burst, min(usualBurst, s.options.PerMinute))
	def(&s.options.Retries, usualRetries)
	s.bucket = newBucket(s.options.PerMinute, s.options.Burst)
	conf, err := transport.TLSConfig(t, "") // the host is each request's
	if err != nil {
		return nil, err
	}
	s.tls = conf.Clone()
	s.pool = &http.Transport{
		MaxIdleConnsPerHost: maxIdle, MaxConnsPerHost: maxConns, MaxIdleConns: maxConns, IdleConnTimeout: idleTime,
		MaxResponseHeaderBytes: maxHeaderBytes, TLSClientConfig: conf, TLSHandshakeTimeout: 5 * time.Second, ForceAttemptHTTP2: true,
	}
	proxy := ""
	if s.options.Proxy != "" {
		u, err := url.Parse(s.options.Proxy)
		if err != nil || u.Hostname() == "" || usualPort(u.Scheme) == "" {
			return nil, errors.New("http/proxy: not an address such as http://HOST:PORT")
		}
		proxy = net.JoinHostPort(u.Hostname(), portOf(u))
		s.pool.Proxy = http.ProxyURL(u)
	}
	s.pool.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		return c.dial(ctx, o, network, address, address == proxy)
	}
	s.trip = credentials(s)
	if s.options.Cookies {
		jar, err := cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List})
		if err != nil {
			return nil, err
		}
		s.jar = &boundedJar{jar}
	}
	return s, nil
}

func def(v *int, d int) {
	if *v == 0 {
		*v = d
	}
}

// dial connects to a host that the rules allow, at an address that they allow. A proxy is named by the binding, and
// decides for itself where the hosts' names lead.
func (c *Client) dial(ctx context.Context, o transport.Options, network, address string, proxy bool) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	reach := &transport.Reach{Lookup: o.Lookup, Private: proxy, Outgoing: o.Outgoing}
	if r := c.rules.find(host, port); r != nil {
		reach.Private = reach.Private || r.private
	} else if !proxy {
		return nil, fmt.Errorf("%s is not among the hosts of the twin: %w", address, drivers.ErrDenied)
	}
	return reach.Dial(ctx, network, address)
}

// sideOf gives how a request to that URL is made.
func (c *Client) sideOf(u *url.URL) (*side, error) {
	r, err := c.rules.allow(u)
	switch {
	case err != nil:
		return nil, err
	case r.own:
		return c.own, nil
	}
	return c.others, nil
}

// Allow completes the URL of a request and says whether the twin's binding allows it, as Do does.
func (c *Client) Allow(text string) (*url.URL, error) {
	u, _, err := c.allow(text)
	return u, err
}

func (c *Client) allow(text string) (*url.URL, *side, error) {
	u, err := c.resolve(text)
	if err != nil {
		return nil, nil, fmt.Errorf("http: %w", err)
	}
	s, err := c.sideOf(u)
	if err != nil {
		return nil, nil, fmt.Errorf("http: %w", err)
	}
	return u, s, nil
}

// Do implements drivers.HTTPClient. transport.ErrNotConnected says that the host was not reached, transport.ErrClosed that the
// client was closed, before the request or during it.
func (c *Client) Do(ctx context.Context, request drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	u, s, err := c.allow(request.URL)
	if err != nil {
		return drivers.HTTPResponse{}, err
	}
	if request.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, request.Timeout)
		defer cancel()
	}
	ctx, cancel := context.WithCancel(context.WithValue(ctx, limitKey{}, request.MaxBytes))
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	if c.watch != nil {
		c.watch.asked(u, &request)
	}
	res, err := c.attempts(ctx, s, u, &request)
	if c.watch != nil {
		c.watch.answered(u, &res, err)
	}
	if err != nil {
		if c.ctx.Err() != nil {
			err = transport.ErrClosed
		}
		return res, fmt.Errorf("http: %s %s: %w", request.Method, u.Redacted(), unreached(plain(err)))
	}
	return res, nil
}

// unreached marks what did not come to the host at all.
func unreached(err error) error {
	if op := (*net.OpError)(nil); errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect") {
		return fmt.Errorf("%w: %w", transport.ErrNotConnected, err)
	}
	return err
}

// plain takes the URL off an error, which is said already.
func plain(err error) error {
	var e *url.Error
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}

func (c *Client) resolve(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the url cannot be read: %w", drivers.ErrInvalid)
	case u.User != nil:
		return nil, fmt.Errorf("a user does not belong into the url: %w", drivers.ErrInvalid)
	case !u.IsAbs() && c.base == nil:
		return nil, fmt.Errorf("%q is relative, and the twin's address is none of http: %w", text, drivers.ErrInvalid)
	case c.base != nil:
		u = c.base.ResolveReference(u)
	}
	u.Fragment = ""
	if u.Host == "" {
		return nil, fmt.Errorf("%q has no host: %w", text, drivers.ErrInvalid)
	}
	return u, nil
}

// once makes one attempt, redirects included.
func (c *Client) once(ctx context.Context, s *side, u *url.URL, request *drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	if err := s.bucket.take(ctx); err != nil {
		return drivers.HTTPResponse{}, err
	}
	req, err := http.NewRequestWithContext(ctx, request.Method, u.String(), bytes.NewReader(request.Body))
	if err != nil {
		return drivers.HTTPResponse{}, fmt.Errorf("%w: %w", drivers.ErrInvalid, err)
	}
	req.Header = request.Headers.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	for _, name := range []string{"Host", "Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Te", "Trailer", "Proxy-Authorization"} {
		req.Header.Del(name)
	}
	if req.Header.Get("User-Agent") == "" {
		req.Header.Set("User-Agent", "Pollux")
	}
	client := http.Client{Transport: roundTrip(c.route), Jar: s.jar, CheckRedirect: c.redirect}
	res, err := client.Do(req)
	if err != nil {
		return drivers.HTTPResponse{}, err
	}
	defer res.Body.Close()
	if res.StatusCode < 100 || res.StatusCode > 599 {
		return drivers.HTTPResponse{}, fmt.Errorf("the answer's status %d is none of HTTP", res.StatusCode)
	}
	limit := limitOf(req)
	body, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	switch {
	case err != nil:
		return drivers.HTTPResponse{}, err
	case int64(len(body)) > limit:
		return drivers.HTTPResponse{}, fmt.Errorf("the answer is longer than %d bytes: %w", limit, drivers.ErrTooLarge)
	}
	return drivers.HTTPResponse{Status: res.StatusCode, Headers: res.Header, Body: body}, nil
}

// route makes each hop by the side of its host, so that credentials stay with those whom they are for.
func (c *Client) route(r *http.Request) (*http.Response, error) {
	s, err := c.sideOf(r.URL)
	if err != nil {
		return nil, err
	}
	return s.trip.RoundTrip(r)
}

// redirect follows within the hosts that are allowed, and never from https to http.
func (c *Client) redirect(r *http.Request, via []*http.Request) error {
	last := via[len(via)-1]
	switch {
	case len(via) > maxRedirects:
		return fmt.Errorf("more than %d redirects: %w", maxRedirects, drivers.ErrDenied)
	case last.URL.Scheme == "https" && r.URL.Scheme == "http":
		return fmt.Errorf("a redirect from https to http: %w", drivers.ErrDenied)
	}
	if _, err := c.rules.allow(r.URL); err != nil {
		return fmt.Errorf("a redirect: %w", err)
	}
	if !strings.EqualFold(last.URL.Host, r.URL.Host) {
		for _, name := range []string{"Authorization", "Cookie", "Proxy-Authorization"} {
			r.Header.Del(name) // the driver's own, too
		}
	}
	return nil
}

// Close implements drivers.HTTPClient.
func (c *Client) Close() error {
	c.cancel()
	c.own.pool.CloseIdleConnections()
	c.others.pool.CloseIdleConnections()
	return nil
}
