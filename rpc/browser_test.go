package rpc

import (
	"errors"
	"net/http"
	"testing"
)

func TestSameOrigin(t *testing.T) {
	const host = "pollux.example:8080"
	for _, tt := range []struct {
		name, method string
		h            map[string]string
		ok           bool
	}{
		{"our own page", "POST", map[string]string{"Sec-Fetch-Site": "same-origin"}, true},
		{"another site", "POST", map[string]string{"Sec-Fetch-Site": "cross-site"}, false},
		{"a neighbour of our domain", "POST", map[string]string{"Sec-Fetch-Site": "same-site"}, false},
		{"another site with our origin claimed", "POST", map[string]string{"Sec-Fetch-Site": "cross-site", "Origin": "http://" + host}, false},
		{"a link from another site", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, true},
		{"a form of another site", "POST", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, false},
		{"an image of another site", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, false},
		{"a socket of another site", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "websocket", "Upgrade": "websocket"}, false},
		{"a socket as a navigation", "GET", map[string]string{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Upgrade": "websocket"}, false},
		{"typed into the address bar", "GET", map[string]string{"Sec-Fetch-Site": "none"}, true},
		{"an old browser's own page", "POST", map[string]string{"Origin": "http://" + host}, true},
		{"an old browser, another site", "POST", map[string]string{"Origin": "http://evil.example"}, false},
		{"an old browser, our name in theirs", "POST", map[string]string{"Origin": "http://" + host + ".evil.example"}, false},
		{"an old browser, another port", "POST", map[string]string{"Origin": "http://pollux.example"}, false},
		{"an old browser, a sandboxed frame", "POST", map[string]string{"Origin": "null"}, false},
		{"a socket without origin", "GET", map[string]string{"Upgrade": "websocket"}, false},
		{"a read without a word", "GET", nil, true},
		{"a write without a word", "POST", nil, false},
	} {
		h := make(http.Header)
		for k, v := range tt.h {
			h.Set(k, v)
		}
		err := sameOrigin(tt.method, host, h)
		if (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want allowed %v", tt.name, err, tt.ok)
		}
		if err != nil && !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v does not wrap ErrForbidden", tt.name, err)
		}
	}
}
