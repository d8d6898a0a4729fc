package automation

import (
	"context"

	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// runLogic gives a logic a message: what the action says, or what the firing is about. Its run may be given it again.
func (r *runner) runLogic(ctx context.Context, a *pb.RunLogicAction) outcome {
	payload, err := r.payload(a.Message, a.Expr)
	if err != nil {
		return outcome{err: err}
	}
	message, err := state.ParseValue(payload)
	if err != nil {
		return outcome{err: err}
	}
	stop, err := r.u.h.o.World.RunLogic(ctx, r.scope.project, a.Logic, r.scope.subject, message, r.by())
	res := r.verdict(err)
	res.stop = stop
	return res
}
