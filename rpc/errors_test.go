package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/history"
)

func TestTranslate(t *testing.T) {
	const (
		rejected = pb.Outcome_OUTCOME_REJECTED
		unknown  = pb.Outcome_OUTCOME_UNKNOWN
		silent   = pb.Outcome_OUTCOME_UNSPECIFIED
	)
	for _, tt := range []struct {
		err     error
		code    connect.Code
		reason  string
		outcome pb.Outcome
	}{
		{ErrUnauthenticated, connect.CodeUnauthenticated, "unauthenticated", silent},
		{ErrForbidden, connect.CodePermissionDenied, "forbidden", silent},
		{invalid("twin.id", "is missing"), connect.CodeInvalidArgument, "invalid", silent},
		{actors.ErrNotFound, connect.CodeNotFound, "not_found", silent},
		{actors.ErrExists, connect.CodeAlreadyExists, "exists", silent},
		{actors.ErrRevision, connect.CodeAborted, "revision", silent},
		{&actors.InvalidError{Path: "/settings/port", Reason: "too high"}, connect.CodeInvalidArgument, "invalid", silent},
		{&actors.InUseError{What: "driver a", Users: []string{"b"}}, connect.CodeFailedPrecondition, "in_use", silent},
		{actors.ErrStopped, connect.CodeFailedPrecondition, "stopped", rejected},
		{actors.ErrFault, connect.CodeUnavailable, "fault", rejected},
		{&actors.CommandError{Outcome: rejected, Message: "no"}, connect.CodeFailedPrecondition, "rejected", rejected},
		{&actors.CommandError{Outcome: pb.Outcome_OUTCOME_TIMED_OUT}, connect.CodeDeadlineExceeded, "timed_out", pb.Outcome_OUTCOME_TIMED_OUT},
		{&actors.CommandError{Outcome: unknown}, connect.CodeUnknown, "unknown", unknown},
		{&drivers.DriverError{Code: 7, Message: "no"}, connect.CodeFailedPrecondition, "driver_refused", rejected},
		{cluster.ErrOverloaded, connect.CodeResourceExhausted, "overloaded", rejected},
		{cluster.ErrUnavailable, connect.CodeUnavailable, "unavailable", rejected},
		{cluster.ErrNoQuorum, connect.CodeUnavailable, "no_quorum", rejected},
		{cluster.ErrUnknown, connect.CodeUnknown, "unknown", unknown},
		{fmt.Errorf("link lost: %w: %w", connect.NewError(connect.CodeCanceled, errors.New("reset")), cluster.ErrUnknown), connect.CodeUnknown, "unknown", unknown},
		{fmt.Errorf("%w: %w", connect.NewError(connect.CodeInternal, errors.New("lost")), cluster.ErrUnavailable), connect.CodeUnavailable, "unavailable", rejected},
		{cluster.ErrDeadline, connect.CodeDeadlineExceeded, "deadline", rejected},
		{cluster.ErrCycle, connect.CodeFailedPrecondition, "cycle", rejected},
		{storage.ErrBusy, connect.CodeResourceExhausted, "busy", rejected},
		{drivers.ErrBusy, connect.CodeResourceExhausted, "busy", silent},
		{storage.ErrUnknown, connect.CodeUnknown, "unknown", unknown},
		{storage.ErrCompacted, connect.CodeOutOfRange, "compacted", silent},
		{history.ErrQuery, connect.CodeInvalidArgument, "invalid", silent},
		{context.DeadlineExceeded, connect.CodeDeadlineExceeded, "deadline", silent},
		{context.Canceled, connect.CodeCanceled, "canceled", silent},
		{&http.MaxBytesError{Limit: 7}, connect.CodeResourceExhausted, "too_large", silent},
		{errors.New("anything else"), connect.CodeInternal, "internal", silent},
	} {
		err := translate(fmt.Errorf("while doing it: %w", tt.err))
		info := ErrorInfoOf(err)
		if connect.CodeOf(err) != tt.code || info.GetReason() != tt.reason || info.GetOutcome() != tt.outcome {
			t.Errorf("%v: got %s, %v; want %s, %s, %s", tt.err, connect.CodeOf(err), info, tt.code, tt.reason, tt.outcome)
		}
		if again := translate(err); again != err {
			t.Errorf("%v: translated twice", tt.err)
		}
	}
	if translate(nil) != nil {
		t.Error("no error became one")
	}
	if got := ErrorInfoOf(translate(&actors.InvalidError{Path: "/settings/port"})).GetPath(); got != "/settings/port" {
		t.Errorf("path %q", got)
	}
}
