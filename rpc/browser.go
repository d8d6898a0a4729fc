package rpc

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// principalOf finds who makes a request: a bearer token wins, else the session's cookie. The error wraps
// ErrUnauthenticated, or ErrForbidden where another site's page makes a browser send its cookie.
func (k *Keyring) principalOf(method, host string, h http.Header) (*Principal, error) {
	if auth := h.Get("Authorization"); auth != "" {
		scheme, token, _ := strings.Cut(auth, " ")
		if !strings.EqualFold(scheme, "bearer") {
			return nil, fmt.Errorf("%w: want `Authorization: Bearer plx_…`, got scheme %.20q", ErrUnauthenticated, scheme)
		}
		return k.Authenticate(strings.TrimSpace(token))
	}
	cookie := cookieOf(h)
	if cookie == "" {
		return nil, ErrUnauthenticated
	}
	if err := sameOrigin(method, host, h); err != nil {
		return nil, err
	}
	return k.session(cookie)
}

func cookieOf(h http.Header) string {
	for _, line := range h["Cookie"] {
		cookies, err := http.ParseCookie(line)
		if err != nil {
			continue
		}
		for _, c := range cookies {
			if c.Name == SessionCookie {
				return c.Value
			}
		}
	}
	return ""
}

// sameOrigin refuses what a page of another site made a browser send with our cookie. A browser says so itself
// (Sec-Fetch-Site, Origin); a request that is neither a read nor says where it comes from is refused too, as only keys
// are for programs. Reads by links from elsewhere (a dashboard that links to a chart) are navigations, and harmless.
func sameOrigin(method, host string, h http.Header) error {
	read := method == http.MethodGet || method == http.MethodHead
	upgrade := h.Get("Upgrade") != ""
	switch site := h.Get("Sec-Fetch-Site"); site {
	case "same-origin", "none":
		return nil
	case "":
	default:
		if read && !upgrade && h.Get("Sec-Fetch-Mode") == "navigate" {
			return nil
		}
		return fmt.Errorf("%w: the session's cookie came with a %s request", ErrForbidden, site)
	}
	origin := h.Get("Origin")
	if origin == "" {
		if read && !upgrade {
			return nil
		}
		return fmt.Errorf("%w: a session's cookie without Origin; programs use an API key", ErrForbidden)
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" || !strings.EqualFold(u.Host, host) {
		return fmt.Errorf("%w: the session's cookie came from origin %.100q", ErrForbidden, origin)
	}
	return nil
}
