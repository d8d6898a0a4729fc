package rpc

import (
	"encoding/json"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// problem is an error of the plain REST API, as RFC 9457 writes it (its type is about:blank, which is left out), with what the
// Connect API says besides.
type problem struct {
	// Title is the status's own phrase.
	Title  string `json:"title"`
	Status int    `json:"status"`
	// Detail is the message.
	Detail string `json:"detail"`
	// Instance is the path that was asked.
	Instance string `json:"instance"`
	// Code and Reason are what to branch on, as in the Connect API.
	Code   string `json:"code"`
	Reason string `json:"reason"`
	// Path of what is wrong in the request: a field of the body, query.NAME or header.NAME.
	Path string `json:"path,omitempty"`
	Hint string `json:"hint,omitempty"`
	// Outcome of a command: rejected, timed_out or unknown.
	Outcome string `json:"outcome,omitempty"`
	// DriverCode is the driver's own error.
	DriverCode int32 `json:"driver_code,omitempty"`
}

// statuses of codes; what is missing is 500. Connect's own differ: there a refused command is 400, and a body that is too large
// is 429.
var statuses = map[connect.Code]int{
	connect.CodeInvalidArgument: http.StatusBadRequest, connect.CodeOutOfRange: http.StatusBadRequest,
	connect.CodeUnauthenticated: http.StatusUnauthorized, connect.CodePermissionDenied: http.StatusForbidden,
	connect.CodeNotFound: http.StatusNotFound, connect.CodeAlreadyExists: http.StatusConflict,
	connect.CodeAborted: http.StatusConflict, connect.CodeFailedPrecondition: http.StatusConflict,
	connect.CodeResourceExhausted: http.StatusTooManyRequests, connect.CodeUnavailable: http.StatusServiceUnavailable,
	connect.CodeDeadlineExceeded: http.StatusGatewayTimeout, connect.CodeUnimplemented: http.StatusNotImplemented,
	// Whether the device did it cannot be known: what stands behind us did not say.
	connect.CodeUnknown: http.StatusBadGateway,
	// Nobody reads it: the client is gone.
	connect.CodeCanceled: 499,
}

// problemOf says of an error what a client of the REST API sees.
func problemOf(err error) (status int, p *problem) {
	err = translate(err)
	code := connect.CodeOf(err)
	p = &problem{Code: code.String(), Detail: plainText(err)}
	if info := ErrorInfoOf(err); info != nil {
		p.Reason, p.Path, p.Hint, p.DriverCode = info.Reason, info.Path, info.Hint, info.DriverCode
		if info.Outcome != pb.Outcome_OUTCOME_UNSPECIFIED {
			p.Outcome = wordOf(info.Outcome.String(), "OUTCOME_")
		}
	}
	status = statuses[code]
	switch {
	case p.Reason == "too_large":
		status = http.StatusRequestEntityTooLarge
	case status == 0:
		status = http.StatusInternalServerError
	}
	return status, p
}

// wordOf is the name of an enum's value as plain JSON has it: OUTCOME_TIMED_OUT is timed_out.
func wordOf(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

func writeProblem(w http.ResponseWriter, r *http.Request, status int, p *problem) {
	p.Status, p.Instance = status, r.URL.Path
	if p.Title = http.StatusText(status); p.Title == "" {
		p.Title = "Client Closed Request"
	}
	h := w.Header()
	h.Set("Content-Type", problemType)
	h.Set("Cache-Control", "no-store")
	switch status {
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="pollux"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(p)
}
