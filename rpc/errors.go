package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/disk"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
)

var (
	// ErrUnauthenticated: nobody, or nobody known, makes the call.
	ErrUnauthenticated = errors.New("not signed in")
	// ErrForbidden: the caller is known and may not do this.
	ErrForbidden = errors.New("forbidden")
	// ErrNoNode: no member has that id or name.
	ErrNoNode = errors.New("no such node")
	// ErrNotNow: the state of the cluster does not allow it.
	ErrNotNow = errors.New("not possible now")
	// ErrNoQuorum: too few voters answer for anything to be committed.
	ErrNoQuorum = errors.New("no quorum")
	// ErrNoSuchToken: no join token has that id.
	ErrNoSuchToken = errors.New("no such join token")
	// ErrBadBackup: what shall be restored is no whole backup.
	ErrBadBackup = errors.New("damaged backup")
	// errTooMany: a bound of this package is reached.
	errTooMany = errors.New("too many")
)

// invalidError is a request that is wrong at a path.
type invalidError struct{ path, text string }

func (e *invalidError) Error() string { return e.path + ": " + e.text }

func invalid(path, text string) error { return &invalidError{path: path, text: text} }

// meaning of an error at the API's border.
type meaning struct {
	is     error
	code   connect.Code
	reason string
	hint   string
	// outcome of a command that failed so; unspecified where the error says nothing about it.
	outcome pb.Outcome
}

const noQuorumHint = "nothing can be committed until more voters answer: `pollux status` counts them, `pollux cluster nodes` names them"

// meanings is ordered: the first that matches counts. Everything else is CodeInternal.
var meanings = []meaning{
	{is: ErrUnauthenticated, code: connect.CodeUnauthenticated, reason: "unauthenticated",
		hint: "send `Authorization: Bearer plx_…`; the node's own key is in DATA/admin.key, or sign in with `pollux login`"},
	{is: ErrForbidden, code: connect.CodePermissionDenied, reason: "forbidden",
		hint: "use a key with a higher role or another project: `pollux key list`, `pollux key create --role ROLE`"},
	{is: errNoSuchKey, code: connect.CodeNotFound, reason: "not_found", hint: "`pollux key list` shows the ids"},
	{is: errTooMany, code: connect.CodeResourceExhausted, reason: "too_many", hint: "close some and try again"},
	{is: actors.ErrQuota, code: connect.CodeResourceExhausted, reason: "quota", hint: "delete some, or let an administrator raise the quota: `pollux retention quota`"},
	{is: errStopping, code: connect.CodeUnavailable, reason: "stopping"},
	{is: errLoginUsed, code: connect.CodeUnauthenticated, reason: "login_used", hint: "get a new link with `pollux login`"},

	{is: ErrNoQuorum, code: connect.CodeUnavailable, reason: "no_quorum", outcome: pb.Outcome_OUTCOME_REJECTED,
		hint: noQuorumHint},
	{is: cluster.ErrNoQuorum, code: connect.CodeUnavailable, reason: "no_quorum", outcome: pb.Outcome_OUTCOME_REJECTED,
		hint: noQuorumHint},
	{is: ErrNoNode, code: connect.CodeNotFound, reason: "not_found", hint: "`pollux cluster nodes` lists them"},
	{is: cluster.ErrNoMember, code: connect.CodeNotFound, reason: "not_found", hint: "`pollux cluster nodes` lists them"},
	{is: cluster.ErrState, code: connect.CodeFailedPrecondition, reason: "not_now"},
	{is: ErrNotNow, code: connect.CodeFailedPrecondition, reason: "not_now"},
	{is: ErrNoSuchToken, code: connect.CodeNotFound, reason: "not_found", hint: "`pollux cluster token list` shows the ids"},
	{is: ErrBadBackup, code: connect.CodeInvalidArgument, reason: "bad_backup"},
	{is: errors.ErrUnsupported, code: connect.CodeUnimplemented, reason: "unsupported"},

	{is: errNoSuchService, code: connect.CodeNotFound, reason: "not_found"},

	{is: actors.ErrNotFound, code: connect.CodeNotFound, reason: "not_found"},
	{is: fs.ErrNotExist, code: connect.CodeNotFound, reason: "not_found", hint: "`pollux driver catalog` lists what there is"},
	{is: actors.ErrExists, code: connect.CodeAlreadyExists, reason: "exists"},
	{is: actors.ErrRevision, code: connect.CodeAborted, reason: "revision",
		hint: "somebody else changed it: read it again and repeat the change"},
	{is: actors.ErrInvalid, code: connect.CodeInvalidArgument, reason: "invalid"},
	{is: actors.ErrNotNow, code: connect.CodeFailedPrecondition, reason: "not_now"},
	{is: actors.ErrNoSource, code: connect.CodeFailedPrecondition, reason: "no_source", hint: "drivers in JavaScript have one"},
	{is: actors.ErrInUse, code: connect.CodeFailedPrecondition, reason: "in_use", hint: "change or delete its users first"},
	{is: actors.ErrStopped, code: connect.CodeFailedPrecondition, reason: "stopped",
		hint: "start it: `pollux twin update ID --stopped=false`", outcome: pb.Outcome_OUTCOME_REJECTED},
	{is: actors.ErrFault, code: connect.CodeUnavailable, reason: "fault",
		hint: "`pollux twin get ID` shows the fault, `pollux twin logs ID` the driver's log", outcome: pb.Outcome_OUTCOME_REJECTED},
	{is: actors.ErrClosed, code: connect.CodeUnavailable, reason: "stopping", hint: "the node is stopping"},

	{is: drivers.ErrBusy, code: connect.CodeResourceExhausted, reason: "busy", hint: "try again in a moment"},

	{is: topic.ErrNotFound, code: connect.CodeNotFound, reason: "not_found", hint: "`pollux topic list` shows the topics"},
	{is: topic.ErrNoChannel, code: connect.CodeNotFound, reason: "not_found", hint: "`pollux topic get TOPIC` shows its channels"},
	{is: topic.ErrDeleting, code: connect.CodeFailedPrecondition, reason: "deleting", hint: "delete it once more, if that was interrupted"},
	{is: topic.ErrTooLarge, code: connect.CodeInvalidArgument, reason: "too_large"},
	{is: topic.ErrTooMany, code: connect.CodeResourceExhausted, reason: "too_many", hint: "close some and try again"},
	{is: topic.ErrReaderLost, code: connect.CodeUnavailable, reason: "unavailable", hint: "subscribe again; `pollux status` shows whether nodes are missing"},

	{is: journal.ErrQuery, code: connect.CodeInvalidArgument, reason: "invalid"},
	{is: journal.ErrClosed, code: connect.CodeUnavailable, reason: "stopping", hint: "the node is stopping"},
	{is: automation.ErrNotFound, code: connect.CodeNotFound, reason: "not_found", hint: "`pollux schedule list`, `pollux rule list` and `pollux alarm list --all` show what there is"},

	{is: notify.ErrNotFound, code: connect.CodeNotFound, reason: "not_found", hint: "`pollux notifier list` shows what there is"},

	{is: history.ErrQuery, code: connect.CodeInvalidArgument, reason: "invalid"},
	{is: history.ErrUnavailable, code: connect.CodeUnavailable, reason: "history_unavailable",
		hint: "the metrics server does not answer; samples wait in the queue"},
	{is: history.ErrClosed, code: connect.CodeUnavailable, reason: "stopping", hint: "the node is stopping"},

	{is: storage.ErrCompacted, code: connect.CodeOutOfRange, reason: "compacted",
		hint: "the changes asked for are not kept any more: watch again without after_revision"},
	{is: storage.ErrGuard, code: connect.CodeAborted, reason: "revision",
		hint: "somebody else changed it: read it again and repeat the change"},
	{is: storage.ErrBusy, code: connect.CodeResourceExhausted, reason: "busy", hint: "try again in a moment",
		outcome: pb.Outcome_OUTCOME_REJECTED},
	{is: storage.ErrUnknown, code: connect.CodeUnknown, reason: "unknown",
		hint: "read the current state before you repeat it", outcome: pb.Outcome_OUTCOME_UNKNOWN},
	{is: storage.ErrTooLarge, code: connect.CodeInvalidArgument, reason: "too_large"},
	{is: storage.ErrNoSuchBlob, code: connect.CodeUnavailable, reason: "no_blob", hint: "the driver's file has not reached this node yet"},
	{is: storage.ErrClosed, code: connect.CodeUnavailable, reason: "stopping", hint: "the node is stopping"},

	{is: disk.ErrLow, code: connect.CodeResourceExhausted, reason: "disk_low", hint: "make room on the node's disk, or give it a larger one",
		outcome: pb.Outcome_OUTCOME_REJECTED},

	{is: cluster.ErrUnknown, code: connect.CodeUnknown, reason: "unknown",
		hint: "read the twin's state before you repeat it", outcome: pb.Outcome_OUTCOME_UNKNOWN},
	{is: cluster.ErrOverloaded, code: connect.CodeResourceExhausted, reason: "overloaded", hint: "try again in a moment",
		outcome: pb.Outcome_OUTCOME_REJECTED},
	{is: cluster.ErrSelector, code: connect.CodeUnavailable, reason: "no_node",
		hint:    "start a node that satisfies it (`pollux cluster nodes` shows their sites, zones and labels), or change it: `pollux twin update ID --selector …`",
		outcome: pb.Outcome_OUTCOME_REJECTED},
	{is: cluster.ErrUnavailable, code: connect.CodeUnavailable, reason: "unavailable",
		hint: "the node that it needs cannot be reached now; `pollux status` shows why", outcome: pb.Outcome_OUTCOME_REJECTED},
	{is: cluster.ErrNotOwner, code: connect.CodeUnavailable, reason: "not_owner", hint: "the twin is moving; try again",
		outcome: pb.Outcome_OUTCOME_REJECTED},
	{is: cluster.ErrCycle, code: connect.CodeFailedPrecondition, reason: "cycle",
		hint: "the call's chain comes back to its own twin", outcome: pb.Outcome_OUTCOME_REJECTED},
	{is: cluster.ErrDeadline, code: connect.CodeDeadlineExceeded, reason: "deadline",
		outcome: pb.Outcome_OUTCOME_REJECTED},

	{is: context.DeadlineExceeded, code: connect.CodeDeadlineExceeded, reason: "deadline"},
	{is: context.Canceled, code: connect.CodeCanceled, reason: "canceled"},
	{is: os.ErrDeadlineExceeded, code: connect.CodeDeadlineExceeded, reason: "too_slow"},
	{is: io.ErrUnexpectedEOF, code: connect.CodeCanceled, reason: "closed"},
}

// translate gives the error that a client sees: a code, the message, and an ErrorInfo. It is the only place where
// codes are chosen.
func translate(err error) error {
	if err == nil {
		return nil
	}
	var ce *connect.Error
	if errors.As(err, &ce) {
		// A link to another node is lost with an error of the transport; what that means for the call counts for more.
		lost := ErrorInfoOf(err) == nil && (errors.Is(err, cluster.ErrUnknown) || errors.Is(err, cluster.ErrUnavailable))
		if !lost {
			return err
		}
	}
	var tooLarge *http.MaxBytesError
	var wrong *invalidError
	var field *actors.InvalidError
	var failed *actors.CommandError
	var refused *drivers.DriverError
	switch {
	case errors.As(err, &tooLarge):
		return withInfo(connect.CodeResourceExhausted, fmt.Errorf("the body is larger than %d bytes", tooLarge.Limit),
			&pb.ErrorInfo{Reason: "too_large"})
	case errors.As(err, &wrong):
		return withInfo(connect.CodeInvalidArgument, err, &pb.ErrorInfo{Reason: "invalid", Path: wrong.path})
	case errors.As(err, &field):
		return withInfo(connect.CodeInvalidArgument, err, &pb.ErrorInfo{Reason: "invalid", Path: field.Path})
	case errors.As(err, &failed):
		return commandFailed(err, failed)
	case errors.As(err, &refused):
		return withInfo(connect.CodeFailedPrecondition, err, &pb.ErrorInfo{Reason: "driver_refused",
			DriverCode: refused.Code, Outcome: pb.Outcome_OUTCOME_REJECTED})
	}
	for i := range meanings {
		if m := &meanings[i]; errors.Is(err, m.is) {
			return withInfo(m.code, err, &pb.ErrorInfo{Reason: m.reason, Hint: m.hint, Outcome: m.outcome})
		}
	}
	return withInfo(connect.CodeInternal, err, &pb.ErrorInfo{Reason: "internal", Hint: "the node's log may say more"})
}

// commandFailed keeps what the caller must know: whether it was done.
func commandFailed(err error, e *actors.CommandError) error {
	info := &pb.ErrorInfo{Reason: "rejected", Outcome: e.Outcome, DriverCode: e.Code}
	switch e.Outcome {
	case pb.Outcome_OUTCOME_REJECTED:
		return withInfo(connect.CodeFailedPrecondition, err, info)
	case pb.Outcome_OUTCOME_TIMED_OUT:
		info.Reason, info.Hint = "timed_out", "the device did not answer in time and may have done it; `pollux twin trace ID` shows its bytes"
		return withInfo(connect.CodeDeadlineExceeded, err, info)
	}
	info.Reason, info.Hint = "unknown", "read the twin's state before you repeat it"
	return withInfo(connect.CodeUnknown, err, info)
}

func withInfo(code connect.Code, err error, info *pb.ErrorInfo) error {
	ce := connect.NewError(code, err)
	if detail, derr := connect.NewErrorDetail(info); derr == nil {
		ce.AddDetail(detail)
	}
	return ce
}

// ErrorInfoOf reads the detail of an error that a client got; nil where it has none.
func ErrorInfoOf(err error) *pb.ErrorInfo {
	var ce *connect.Error
	if !errors.As(err, &ce) {
		return nil
	}
	for _, d := range ce.Details() {
		if m, derr := d.Value(); derr == nil {
			if info, ok := m.(*pb.ErrorInfo); ok {
				return info
			}
		}
	}
	return nil
}
