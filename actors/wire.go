package actors

import (
	"context"
	"errors"
	"os"
	"strings"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/mqtt"
	"github.com/polluxhq/pollux/storage"
)

// WireErrors are the errors that callers of twins test for with errors.Is, by the names under which they go from node to
// node. How a command ended is no error on the way, but a message of its own.
func WireErrors() map[string]error {
	return map[string]error{
		"cluster.not_owner":   cluster.ErrNotOwner,
		"cluster.unavailable": cluster.ErrUnavailable,
		"cluster.unknown":     cluster.ErrUnknown,
		"cluster.overloaded":  cluster.ErrOverloaded,
		"cluster.cycle":       cluster.ErrCycle,
		"cluster.deadline":    cluster.ErrDeadline,
		"cluster.selector":    cluster.ErrSelector,

		"actors.not_found": ErrNotFound,
		"actors.exists":    ErrExists,
		"actors.revision":  ErrRevision,
		"actors.invalid":   ErrInvalid,
		"actors.in_use":    ErrInUse,
		"actors.stopped":   ErrStopped,
		"actors.fault":     ErrFault,
		"actors.no_twin":   ErrNoTwin,
		"actors.closed":    ErrClosed,

		"topic.not_found":  topic.ErrNotFound,
		"topic.no_channel": topic.ErrNoChannel,
		"topic.deleting":   topic.ErrDeleting,
		"topic.too_large":  topic.ErrTooLarge,
		"topic.too_many":   topic.ErrTooMany,

		"automation.not_found": automation.ErrNotFound,

		"mqtt.unowned":        mqtt.ErrUnowned,
		"mqtt.refused":        mqtt.ErrRefused,
		"mqtt.not_authorized": mqtt.ErrNotAuthorized,
		"mqtt.topic":          mqtt.ErrTopic,
		"mqtt.quota":          mqtt.ErrQuota,
		"mqtt.invalid":        mqtt.ErrInvalid,

		"drivers.denied":       drivers.ErrDenied,
		"drivers.timeout":      drivers.ErrTimeout,
		"drivers.disconnected": drivers.ErrDisconnected,
		"drivers.too_large":    drivers.ErrTooLarge,
		"drivers.rate_limited": drivers.ErrRateLimited,
		"drivers.invalid":      drivers.ErrInvalid,

		"storage.guard":     storage.ErrGuard,
		"storage.busy":      storage.ErrBusy,
		"storage.unknown":   storage.ErrUnknown,
		"storage.too_large": storage.ErrTooLarge,
		"storage.closed":    storage.ErrClosed,

		"context.deadline": context.DeadlineExceeded,
		"context.canceled": context.Canceled,
		"os.deadline":      os.ErrDeadlineExceeded,
	}
}

// arrived gives an error that came from another node the form that it had there, where its text tells.
func arrived(err error) error {
	var known *InvalidError
	if !errors.Is(err, ErrInvalid) || errors.As(err, &known) {
		return err
	}
	_, rest, ok := strings.Cut(err.Error(), "invalid /")
	path, reason, found := strings.Cut(rest, ": ")
	if !ok || !found {
		return err
	}
	return &reinvalid{text: err.Error(), err: err, field: &InvalidError{Path: "/" + path, Reason: reason}}
}

// reinvalid is an InvalidError that came from another node.
type reinvalid struct {
	text  string
	err   error
	field *InvalidError
}

func (e *reinvalid) Error() string   { return e.text }
func (e *reinvalid) Unwrap() []error { return []error{e.err, e.field} }
