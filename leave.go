package pollux

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/polluxhq/pollux/cluster/gossip"
)

// errNoLease: nothing can be handed over.
var errNoLease = errors.New("this node has no lease")

// leaseGrace is how long a node that stops may be without a lease before it gives up: another leader may be on its way.
const leaseGrace = time.Second

// watchLease ends a hand-over with errNoLease.
func (n *Node) watchLease(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for valid := time.Now(); ; {
		if n.cluster.LeaseValid() {
			valid = time.Now()
		} else if time.Since(valid) > leaseGrace {
			stop(errNoLease)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// leave hands everything over before a planned stop, while the doors are still open.
func (n *Node) leave(ctx context.Context) error {
	leaving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go n.watchLease(leaving, stop)
	err := n.cluster.Leave(leaving)
	if err != nil && !n.cluster.LeaseValid() {
		n.log.Warn("not everything is handed over: this node has no lease; others take its slots when they can")
		return nil
	}
	if err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := n.gossip.UpdateMeta(func(m *gossip.Meta) { m.Leaving = true }); err != nil {
		n.log.Debug("tell the others that this node stops", "error", err)
	}
	if err := n.raft.Leave(ctx); err != nil {
		n.log.Warn("another node will be elected, as handing leadership over failed", "error", err)
	}
	return nil
}
