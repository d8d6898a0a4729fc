package drivers

import (
	"context"
	"errors"
	"os"
)

// Refusals of a Host's methods: a driver is told which of them it was (ABI.md lists their codes). Wrap them with %w.
var (
	ErrDenied       = errors.New("denied")
	ErrTimeout      = errors.New("timeout")
	ErrDisconnected = errors.New("not connected")
	ErrTooLarge     = errors.New("too large")
	ErrRateLimited  = errors.New("over a limit")
	ErrInvalid      = errors.New("invalid")
)

// code is what a capability returns: >= 0 is the length of its reply.
type code int32

const (
	codeDenied       code = -1
	codeTimeout      code = -2
	codeDisconnected code = -3
	codeTooLarge     code = -4
	codeRateLimited  code = -5
	codeInvalid      code = -6
)

// codeOf translates a Host's error. What is none of the refusals counts as disconnected: the bytes did not get there.
func codeOf(err error) code {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, ErrDenied):
		return codeDenied
	case errors.Is(err, ErrTimeout), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled),
		errors.Is(err, os.ErrDeadlineExceeded):
		return codeTimeout
	case errors.Is(err, ErrTooLarge):
		return codeTooLarge
	case errors.Is(err, ErrRateLimited):
		return codeRateLimited
	case errors.Is(err, ErrInvalid):
		return codeInvalid
	}
	return codeDisconnected
}
