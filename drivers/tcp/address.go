package tcp

import (
	"fmt"
	"net"
	"net/url"
	"strconv"
)

// ParseAddress gives the host:port of a URI such as tcp://10.0.0.7:4352 or tcp://[::1]; defaultPort completes a URI
// without one, 0 meaning that there is none.
func ParseAddress(uri string, defaultPort int) (string, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return "", fmt.Errorf("address %q: %w", uri, err)
	}
	switch {
	case u.Scheme != "tcp":
		return "", fmt.Errorf("address %q: scheme %q: want tcp://HOST:PORT", uri, u.Scheme)
	case u.User != nil:
		return "", fmt.Errorf("address %q: a user does not belong into it", u.Redacted())
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "", u.Opaque != "":
		return "", fmt.Errorf("address %q: more than HOST:PORT after tcp://", uri)
	case u.Hostname() == "":
		return "", fmt.Errorf("address %q: no host", uri)
	}
	port := u.Port()
	if port == "" {
		if defaultPort == 0 {
			return "", fmt.Errorf("address %q: no port, and the driver has no default", uri)
		}
		port = strconv.Itoa(defaultPort)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("address %q: port %q: want 1 to 65535", uri, port)
	}
	return net.JoinHostPort(u.Hostname(), strconv.FormatUint(n, 10)), nil
}
