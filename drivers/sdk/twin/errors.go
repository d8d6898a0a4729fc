package twin

import (
	"errors"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// Code is a capability's refusal.
type Code int32

// The refusals of capabilities.
const (
	ErrDenied       Code = -1 // not within what the manifest or the twin's binding allows
	ErrTimeout      Code = -2
	ErrDisconnected Code = -3
	ErrTooLarge     Code = -4
	ErrRateLimited  Code = -5 // over a limit of this call or of this twin
	ErrInvalid      Code = -6 // the request was malformed
)

func (c Code) Error() string {
	switch c {
	case ErrDenied:
		return "denied"
	case ErrTimeout:
		return "timeout"
	case ErrDisconnected:
		return "not connected"
	case ErrTooLarge:
		return "too large"
	case ErrRateLimited:
		return "over a limit"
	case ErrInvalid:
		return "invalid request"
	}
	return "refused by the host"
}

// ErrPending is returned by a command, a property writer or OnAnswer's function where the answer comes later: frames
// then arrive at OnAnswer until it returns something else.
var ErrPending = errors.New("pending")

// Error is a driver's refusal with its own code, as the caller of the command sees it.
type Error struct {
	// Code > 0; 0 becomes 1. Codes of 100 and above are used by the SDK.
	Code      int32
	Message   string
	Retryable bool
	// After is when trying again makes sense, in milliseconds; 0: it does not say.
	After int64
}

func (e *Error) Error() string { return e.Message }

// Codes of the SDK's own errors.
const (
	codeFailed    = 1
	codeUnknown   = 100 // no such command, property
	codeInput     = 101 // the input does not fit the Go type
	codeHost      = 102 // 102 to 107: a capability was refused
	returnDone    = 0
	returnPending = -1
)

// toError makes the refusal that goes to the host.
func toError(err error) *Error {
	if own, ok := errors.AsType[*Error](err); ok {
		out := *own
		if out.Code <= 0 {
			out.Code = codeFailed
		}
		return &out
	}
	if code, ok := errors.AsType[Code](err); ok {
		retry := code == ErrTimeout || code == ErrDisconnected || code == ErrRateLimited
		return &Error{Code: codeHost - 1 - int32(code), Message: err.Error(), Retryable: retry}
	}
	return &Error{Code: codeFailed, Message: err.Error()}
}

func (e *Error) appendJSON(b []byte) []byte {
	b = append(b, `{"code":`...)
	b, _ = wire.Append(b, e.Code)
	b = append(b, `,"message":`...)
	b = wire.AppendString(b, e.Message)
	b = append(b, `,"retryable":`...)
	b, _ = wire.Append(b, e.Retryable)
	if e.After > 0 {
		b, _ = wire.Append(append(b, `,"after":`...), e.After)
	}
	return append(b, '}')
}
