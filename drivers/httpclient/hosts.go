package httpclient

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

// rule allows a host.
type rule struct {
	host string // in lower case; of a wildcard, what stands behind the star, with its dot
	wild bool
	port string // "": 80 and 443
	// own: it is the twin's own address, whose credentials are the transport's.
	own bool
	// private: names may stand for private addresses. literal: an address may be private.
	private, literal bool
}

// rules are the hosts that a twin's requests may go to.
type rules []rule

// newRules makes them of the twin's own address (nil: none) and the manifest's http.
func newRules(own *transport.Address, reach *drivers.HTTPReach) (rules, error) {
	var all rules
	if own != nil {
		all = append(all, rule{host: canonical(own.Host), port: strconv.Itoa(own.Port), own: true, private: own.Private, literal: true})
	}
	if reach == nil {
		return all, nil
	}
	for _, text := range reach.Hosts {
		host, port := split(text)
		r := rule{host: canonical(host), port: port}
		if rest, ok := strings.CutPrefix(r.host, "*"); ok {
			r.host, r.wild = rest, true
		}
		all = append(all, r)
	}
	for _, text := range reach.Named {
		r, err := named(text)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// named makes a rule of a host, or of a URL, that a setting holds.
func named(text string) (rule, error) {
	r := rule{literal: true}
	text, r.private = strings.CutSuffix(text, "#private")
	if !strings.Contains(text, "://") {
		var host string
		host, r.port = split(text)
		r.host = canonical(host)
		if r.host == "" || strings.ContainsAny(r.host, "/*@ ") {
			return r, fmt.Errorf("http/hosts: %q is no host", text)
		}
		return r, nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || usualPort(u.Scheme) == "" {
		return r, fmt.Errorf("http/hosts: the setting is no address such as https://HOST")
	}
	r.host, r.port = canonical(u.Hostname()), portOf(u)
	return r, nil
}

func split(text string) (host, port string) {
	if ip, err := netip.ParseAddr(text); err == nil {
		return ip.String(), ""
	}
	if host, port, err := net.SplitHostPort(text); err == nil {
		return host, port
	}
	return strings.Trim(text, "[]"), ""
}

func canonical(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.Unmap().String()
	}
	return host
}

func usualPort(scheme string) string {
	switch scheme {
	case "http":
		return "80"
	case "https":
		return "443"
	}
	return ""
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return usualPort(u.Scheme)
}

// find gives the rule that allows host:port, or nil. The twin's own address comes first; where several rules name the host,
// each gives what it allows: a manifest's does not take away what a setting says.
func (rs rules) find(host, port string) *rule {
	host = canonical(host)
	var found *rule
	for _, r := range rs {
		switch {
		case !r.names(host, port):
		case found == nil:
			found = &r
		default:
			found.private = found.private || r.private
			found.literal = found.literal || r.literal
		}
	}
	return found
}

func (r *rule) names(host, port string) bool {
	switch {
	case r.port == "" && port != "80" && port != "443", r.port != "" && r.port != port:
		return false
	case r.wild:
		return len(host) > len(r.host) && strings.HasSuffix(host, r.host)
	}
	return host == r.host
}

// allow gives the rule for a URL, or an error that names its host.
func (rs rules) allow(u *url.URL) (*rule, error) {
	if usualPort(u.Scheme) == "" {
		return nil, fmt.Errorf("%q is neither http nor https: %w", u.Scheme, drivers.ErrInvalid)
	}
	r := rs.find(u.Hostname(), portOf(u))
	if r == nil {
		return nil, fmt.Errorf("%s is not among the hosts of the twin: %w", net.JoinHostPort(u.Hostname(), portOf(u)), drivers.ErrDenied)
	}
	if canonical(u.Hostname()) == "localhost" && !r.literal {
		return nil, fmt.Errorf("localhost: only a setting or the twin's address may name it: %w", drivers.ErrDenied)
	}
	if ip, err := netip.ParseAddr(canonical(u.Hostname())); err == nil && !r.literal && !transport.Public(ip) {
		return nil, fmt.Errorf("%s is no public address: only a setting or the twin's address may name it: %w", ip, drivers.ErrDenied)
	}
	return r, nil
}
