package transport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/drivers"
)

// Address is a twin's address, taken apart.
type Address struct {
	Scheme string
	// Host is a name or an IP address, with its zone; empty for serial lines and what calls in.
	Host string
	// Port is 0 where the scheme has none.
	Port int
	// Path of a serial line, an HTTP or a WebSocket address.
	Path string
	// Query as written.
	Query url.Values
	// Private: the host's name may stand for a private address.
	Private bool
	// URL as given, with its port completed.
	URL *url.URL
}

// HostPort gives host:port, brackets as needed.
func (a *Address) HostPort() string { return net.JoinHostPort(a.Host, strconv.Itoa(a.Port)) }

// usualPorts complete addresses where the manifest has no default_port.
var usualPorts = map[string]int{
	drivers.SchemeHTTP: 80, drivers.SchemeHTTPS: 443, drivers.SchemeWS: 80, drivers.SchemeWSS: 443, drivers.SchemeSSH: 22,
	drivers.SchemeMQTT: 1883, drivers.SchemeMQTTS: 8883,
}

// Example gives an address of a scheme, for messages.
func Example(scheme string) string {
	switch scheme {
	case drivers.SchemeSerial:
		return "serial:///dev/ttyUSB0"
	case drivers.SchemeTCPIn, drivers.SchemeUDPIn:
		return scheme + "://:5000?from=10.0.0.7"
	case drivers.SchemeWebhook:
		return "webhook:?from=10.0.0.7"
	case drivers.SchemeTCP, drivers.SchemeTLS, drivers.SchemeUDP:
		return scheme + "://HOST:PORT"
	}
	return scheme + "://HOST"
}

// CheckAddress says what is wrong with a twin's address for a transport, or nil.
func CheckAddress(uri string, t *drivers.TransportOptions) error {
	_, err := ParseAddress(uri, t)
	return err
}

// ParseAddress takes a twin's address apart. Its errors never show a password.
func ParseAddress(uri string, t *drivers.TransportOptions) (*Address, error) {
	if len(uri) > 512 {
		return nil, fmt.Errorf("address: %d bytes, more than 512", len(uri))
	}
	u, err := url.Parse(uri)
	if err != nil {
		var detail *url.Error
		if errors.As(err, &detail) {
			err = detail.Err
		}
		return nil, fmt.Errorf("address %q: %w", hidden(uri), err)
	}
	fail := func(format string, args ...any) (*Address, error) {
		return nil, fmt.Errorf("address %q: %s", u.Redacted(), fmt.Sprintf(format, args...))
	}
	a := &Address{Scheme: u.Scheme, Host: u.Hostname(), Path: u.Path, Query: u.Query(), URL: u}
	if u.Scheme != t.Scheme {
		return fail("scheme %q: want %s", u.Scheme, Example(t.Scheme))
	}
	if u.User != nil {
		return fail("a user does not belong into it; the driver's settings have one")
	}
	if u.Fragment != "" && u.Fragment != "private" {
		return fail("#%s: only #private is known", u.Fragment)
	}
	a.Private = t.PrivateNames || u.Fragment == "private"
	switch t.Scheme {
	case drivers.SchemeSerial:
		err = a.checkSerial()
	case drivers.SchemeTCPIn, drivers.SchemeUDPIn, drivers.SchemeWebhook:
		err = a.checkInbound(t)
	default:
		err = a.checkHost(t)
	}
	if err != nil {
		return fail("%v", err)
	}
	return a, nil
}

// hidden leaves out what may be a password, in an address that cannot be read.
func hidden(uri string) string {
	if at := strings.LastIndexByte(uri, '@'); at >= 0 {
		return "…" + uri[at:]
	}
	return uri
}

func (a *Address) checkHost(t *drivers.TransportOptions) error {
	u := a.URL
	web := t.Scheme == drivers.SchemeHTTP || t.Scheme == drivers.SchemeHTTPS || t.Scheme == drivers.SchemeWS || t.Scheme == drivers.SchemeWSS
	switch {
	case u.Opaque != "", !web && (u.Path != "" && u.Path != "/" || u.RawQuery != ""):
		return fmt.Errorf("more than HOST:PORT after %s://", t.Scheme)
	case a.Host == "":
		return errors.New("no host")
	}
	if err := a.setPort(u.Port(), t); err != nil {
		return err
	}
	ip, err := netip.ParseAddr(a.Host)
	switch {
	case err != nil:
	case ip.IsUnspecified():
		return fmt.Errorf("%s is no device's address", a.Host)
	case ip.IsMulticast() && t.Scheme != drivers.SchemeUDP:
		return fmt.Errorf("%s is a multicast group: only udp reaches one", a.Host)
	case ip == limitedBroadcast && (t.UDP == nil || !t.UDP.Broadcast):
		return fmt.Errorf("%s is a broadcast address, which the driver's transport does not allow (udp/broadcast)", a.Host)
	}
	u.Host = a.HostPort()
	if len(a.Host) > 253 || strings.ContainsAny(a.Host, " /\\\x00") {
		return fmt.Errorf("%q is no host", a.Host)
	}
	return nil
}

func (a *Address) setPort(port string, t *drivers.TransportOptions) error {
	switch {
	case port != "":
	case t.DefaultPort != 0:
		port = strconv.Itoa(t.DefaultPort)
	case usualPorts[t.Scheme] != 0:
		port = strconv.Itoa(usualPorts[t.Scheme])
	default:
		return errors.New("no port, and the driver has no default")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("port %q: want 1 to 65535", port)
	}
	a.Port = int(n)
	return nil
}

// DefaultSerialPaths are the serial lines that twins may name.
func DefaultSerialPaths() []string {
	return []string{"/dev/tty[A-Z]*", "/dev/serial/by-id/*", "/dev/serial/by-path/*", "/dev/cu.*"}
}

func (a *Address) checkSerial() error {
	switch {
	case a.Host != "" || !strings.HasPrefix(a.Path, "/dev/") || path.Clean(a.Path) != a.Path:
		return errors.New("want serial:///dev/NAME")
	case a.URL.RawQuery != "":
		return errors.New("more than a path after serial://; baud rate and parity are the driver's")
	}
	return nil
}

func (a *Address) checkInbound(t *drivers.TransportOptions) error {
	u := a.URL
	switch {
	case a.Host != "", u.Path != "" && u.Path != "/", u.Opaque != "":
		return fmt.Errorf("want %s: who may call in is said by ?from=", Example(t.Scheme))
	}
	for name := range a.Query {
		if name != "from" {
			return fmt.Errorf("?%s= is not known; there is from", name)
		}
	}
	if t.Scheme != drivers.SchemeWebhook {
		if err := a.setPort(u.Port(), t); err != nil {
			return err
		}
	} else if u.Port() != "" {
		return errors.New("a webhook comes to the node's own address: no port")
	}
	_, err := a.Callers(t)
	return err
}

// Callers lists the networks whose callers are taken for the twin's device: those of the address and those of the
// manifest whose settings are filled in.
func (a *Address) Callers(t *drivers.TransportOptions) ([]netip.Prefix, error) {
	var all []netip.Prefix
	texts := strings.Split(a.Query.Get("from"), ",")
	if t.Inbound != nil {
		texts = append(texts, t.Inbound.From...)
	}
	for _, text := range texts {
		if text = strings.TrimSpace(text); text == "" || strings.Contains(text, "{") {
			continue
		}
		p, err := ParseNetwork(text)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// ParseNetwork reads a network such as 10.0.0.0/24, or a single address.
func ParseNetwork(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	ip, err := netip.ParseAddr(text)
	if err != nil || ip.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is no network such as 10.0.0.0/24, and no address", text)
	}
	ip = ip.Unmap()
	return netip.PrefixFrom(ip, ip.BitLen()), nil
}
