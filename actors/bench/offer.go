package bench

import (
	"context"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/script"
)

// offer completes the engine's options with what the script plays.
func (r *rig) offer(*actors.Options) {}

func (r *rig) discover(context.Context, *script.Step) *Failure { return nil }
