package main

import (
	"errors"
	"net"
	"strings"
	"testing"

	"connectrpc.com/connect"
)

// What a hint says is for whoever types: a key is given by a flag, a port by another.
func TestHints(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, busy := net.Listen("tcp", l.Addr().String())
	for _, x := range []struct {
		err  error
		want string
	}{
		{connect.NewError(connect.CodeUnauthenticated, errors.New("not signed in")), "POLLUX_API_KEY"},
		{busy, "--http"},
	} {
		if got := hintOf(x.err); !strings.Contains(got, x.want) {
			t.Errorf("%v: %q, want %s in it", x.err, got, x.want)
		}
	}
}
