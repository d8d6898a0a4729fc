package transport

import (
	"errors"
	"net"
	"testing"
)

// The same reason has the same words, though the resolver's own text has another port each time.
func TestDialReason(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "read udp 127.0.0.1:43543->127.0.0.53:53: i/o timeout", Name: "lamp",
			Server: "127.0.0.53:53", IsTimeout: true}}, "dial: lookup lamp: the name server does not answer"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "lamp", IsNotFound: true}},
			"dial: lookup lamp: no such host"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "server misbehaving", Name: "lamp"}},
			"dial: lookup lamp: the name cannot be looked up"},
		{errors.New("dial tcp 10.0.0.7:1: i/o timeout"), "dial tcp 10.0.0.7:1: i/o timeout"},
	} {
		if got := dialReason(c.err); got.Error() != c.want || !errors.Is(got, c.err) {
			t.Errorf("%v is told as %v", c.err, got)
		}
	}
}
