package transport

import (
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct {
		uri  string
		port int
		want string
	}{
		{"tcp://10.0.0.7:4352", 0, "10.0.0.7:4352"},
		{"tcp://10.0.0.7", 4352, "10.0.0.7:4352"},
		{"tcp://10.0.0.7:1", 4352, "10.0.0.7:1"},
		{"tcp://projector.local/", 4352, "projector.local:4352"},
		{"tcp://[fe80::1]", 23, "[fe80::1]:23"},
		{"tcp://[::1]:99", 23, "[::1]:99"},
	} {
		got, err := ParseAddress(c.uri, &drivers.TransportOptions{Scheme: "tcp", DefaultPort: c.port})
		if err != nil || got.HostPort() != c.want {
			t.Errorf("%s: got %+v, %v, want %q", c.uri, got, err, c.want)
		}
	}
	for uri, want := range map[string]string{
		"":                   "scheme",
		"udp://h:1":          "scheme",
		"h:1":                "scheme",
		"tcp://":             "no host",
		"tcp://:80":          "no host",
		"tcp://h":            "no port",
		"tcp://h:0":          "port",
		"tcp://h:70000":      "port",
		"tcp://h:x":          "port",
		"tcp://u:secret@h:1": "user",
		"tcp://h:1/path":     "more than",
		"tcp://h:1?q=1":      "more than",
	} {
		_, err := ParseAddress(uri, &drivers.TransportOptions{Scheme: "tcp"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want something with %q", uri, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the password: %v", uri, err)
		}
	}
}

func TestBackoffGrowsWithinItsBounds(t *testing.T) {
	low := Backoff{Jitter: func() float64 { return 0 }}.WithDefaults()
	high := Backoff{Jitter: func() float64 { return 0.999 }}.WithDefaults()
	for i, want := range []time.Duration{1, 2, 4, 8, 8, 8} {
		if got := low.Delay(i + 1); got != want*time.Second {
			t.Errorf("failure %d: got %v, want %v", i+1, got, want*time.Second)
		}
		if got := high.Delay(i + 1); got <= low.Delay(i+1) || got > 10*time.Second {
			t.Errorf("failure %d with jitter: got %v", i+1, got)
		}
	}
	if got := low.Delay(1 << 20); got > 10*time.Second {
		t.Errorf("after a million failures: %v", got)
	}
}
