package actors

import (
	"errors"
	"fmt"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

var (
	// ErrNotFound: no such twin, driver, zone, system.
	ErrNotFound = errors.New("not found")
	// ErrExists: there is one of that id, or an alias of another twin.
	ErrExists = errors.New("already exists")
	// ErrRevision: the record is not at the revision that the caller expects.
	ErrRevision = errors.New("changed meanwhile")
	// ErrInvalid: a field is wrong; see InvalidError.
	ErrInvalid = errors.New("invalid")
	// ErrInUse: others need the record; see InUseError.
	ErrInUse = errors.New("in use")
	// ErrStopped: the twin is stopped by its configuration.
	ErrStopped = errors.New("twin is stopped")
	// ErrFault: the twin's driver failed and is not tried again yet. The call did not run.
	ErrFault = errors.New("driver is faulty")
	// ErrNoTwin: no twin is bound to the topic.
	ErrNoTwin = errors.New("no twin owns the topic")
	// ErrNoSource: the driver is a WASM file, whose source is not here.
	ErrNoSource = errors.New("a WASM file has no source here")
	// ErrClosed: the engine, or the stream, is closed.
	ErrClosed = errors.New("closed")
)

// InvalidError is an ErrInvalid that says where.
type InvalidError struct {
	// Path is a JSON pointer into the request or the schema, such as /settings/port.
	Path, Reason string
}

func (e *InvalidError) Error() string { return "invalid " + e.Path + ": " + e.Reason }

// Is makes it an ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == ErrInvalid }

func invalid(path, format string, args ...any) error {
	return &InvalidError{Path: path, Reason: fmt.Sprintf(format, args...)}
}

// InUseError is an ErrInUse that says by whom.
type InUseError struct {
	What string
	// Users are some of those who need it, at most ten.
	Users []string
}

func (e *InUseError) Error() string {
	return e.What + " is in use by " + strings.Join(e.Users, ", ")
}

// Is makes it an ErrInUse.
func (e *InUseError) Is(target error) bool { return target == ErrInUse }

// CommandError says how a command failed, and thereby whether it was done.
type CommandError struct {
	// Outcome: rejected (not done), timed out, or unknown.
	Outcome   pb.Outcome
	Code      int32
	Message   string
	Retryable bool
}

func (e *CommandError) Error() string {
	switch e.Outcome {
	case pb.Outcome_OUTCOME_REJECTED:
		return "rejected: " + e.Message
	case pb.Outcome_OUTCOME_TIMED_OUT:
		return "timed out: " + e.Message
	}
	return "outcome unknown: " + e.Message
}
