package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
)

// explain prints an error and, below it, what to do.
func (a *app) explain(err error) {
	if text := a.found.gone(err); text != "" {
		a.errorf("%s\n", text)
		return
	}
	text := err.Error()
	var ce *connect.Error
	if errors.As(err, &ce) {
		text = strings.Replace(text, ce.Error(), ce.Message(), 1)
	}
	a.errorf("%s\n", text)
	if hint := join(hintOf(err), a.elsewhere(err)); hint != "" {
		fmt.Fprintf(a.err, "  hint: %s\n", hint)
	}
}

// bareID is an id of the project default in an error.
var bareID = regexp.MustCompile(` default/([^\s:]+)`)

// elsewhere says how what is in another project is named, where a name alone was taken for one of the project default.
func (a *app) elsewhere(err error) string {
	id := bareID.FindStringSubmatch(err.Error())
	code := connect.CodeOf(err)
	if code != connect.CodeNotFound && code != connect.CodePermissionDenied || id == nil || !slices.Contains(a.args, id[1]) {
		return ""
	}
	return fmt.Sprintf("%[1]s alone is of the project default; in another one it is PROJECT/%[1]s: pollux search %[1]s", id[1])
}

func hintOf(err error) string {
	var dns *net.DNSError
	var unknownCA x509.UnknownAuthorityError
	var otherName x509.HostnameError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is a node running? start one with: pollux serve\n        another address is given by --url or POLLUX_URL"
	case errors.Is(err, syscall.EADDRINUSE):
		return "something else listens there, perhaps another node; another port is given by --http, --mqtt, --peer or --gossip, and 0 is any that is free"
	case errors.As(err, &dns):
		return "check the host in --url or POLLUX_URL"
	case errors.As(err, &unknownCA):
		return "the node's certificate is not signed by an authority that this machine knows; --insecure skips the check"
	case errors.As(err, &otherName):
		return "the node's certificate is made for other names than the one in --url; --insecure skips the check"
	case strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "the node speaks plain HTTP: use http:// in --url"
	case strings.Contains(err.Error(), "malformed HTTP response"), strings.Contains(err.Error(), "client sent an HTTP request to an HTTPS server"):
		return "the node speaks TLS: use https:// in --url"
	}
	if connect.CodeOf(err) == connect.CodeUnauthenticated {
		return "give a key by --key or POLLUX_API_KEY, or by --data the directory of this machine's node, which has its own"
	}
	info := rpc.ErrorInfoOf(err)
	hint := info.GetHint()
	switch info.GetOutcome() {
	case pb.Outcome_OUTCOME_UNKNOWN:
		hint = join(hint, "whether the device did it cannot be told")
	case pb.Outcome_OUTCOME_TIMED_OUT:
		hint = join(hint, "the device did not answer in time; it may have done it")
	}
	if hint == "" && connect.CodeOf(err) == connect.CodeUnimplemented {
		hint = "does the address in --url belong to a Pollux node of this version?"
	}
	if hint == "" && errors.Is(err, context.DeadlineExceeded) {
		hint = "the node did not answer in time: pollux status"
	}
	return hint
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}
