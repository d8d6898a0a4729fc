package peer

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/cluster"
	peerv1 "github.com/polluxhq/pollux/proto/pollux/peer/v1"
)

// codes pairs the errors of blobs and enrolment with Connect's codes, the first that fits.
var codes = []struct {
	err  error
	code connect.Code
}{
	{ErrTooLarge, connect.CodeOutOfRange},
	{ErrDamaged, connect.CodeDataLoss},
	{ErrRefused, connect.CodePermissionDenied},
	{ErrUnsupported, connect.CodeUnimplemented},
	{cluster.ErrOverloaded, connect.CodeResourceExhausted},
	{cluster.ErrUnavailable, connect.CodeUnavailable},
	{context.DeadlineExceeded, connect.CodeDeadlineExceeded},
	{context.Canceled, connect.CodeCanceled},
}

func toCode(err error) error {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return connect.NewError(c.code, err)
		}
	}
	return connect.NewError(connect.CodeUnknown, err)
}

// fromCode wraps the error that a code stands for.
func fromCode(err error) error {
	var c *connect.Error
	if !errors.As(err, &c) {
		return err
	}
	for _, known := range codes {
		if known.code == c.Code() && !errors.Is(err, known.err) {
			return fmt.Errorf("%w: %s", known.err, c.Message())
		}
	}
	return err
}

// withDetail sends an error with the names of its sentinels.
func (p *Peers) withDetail(err error) error {
	f, _ := p.failureOf(err)
	out := connect.NewError(connect.CodeUnknown, err)
	if d, err := connect.NewErrorDetail(&peerv1.Failure{Text: f.text, Names: f.names}); err == nil {
		out.AddDetail(d)
	}
	return out
}

// fromDetail is the other side of withDetail.
func (p *Peers) fromDetail(err error) error {
	var c *connect.Error
	if !errors.As(err, &c) {
		return err
	}
	for _, d := range c.Details() {
		if m, err := d.Value(); err == nil {
			if f, ok := m.(*peerv1.Failure); ok {
				return p.errorOf(&failure{text: f.GetText(), names: f.GetNames()}, nil)
			}
		}
	}
	return fromCode(err)
}
