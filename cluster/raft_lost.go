package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// recordLost is the record of the cluster's table that lists the nodes which recoveries have given up, one on a line.
const recordLost = "lost"

// LostNodes reads which nodes recoveries have given up, from the records, at most once a second. It is for
// RaftOptions.Lost: a group of those that were given up must not lead anybody of the group that went on.
func LostNodes(r Records) func() []string {
	var mu sync.Mutex
	var ids []string
	var read time.Time
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(read) < time.Second {
			return ids
		}
		if value, err := r.Get(tableCluster, recordLost); err == nil {
			ids, read = strings.Fields(string(value)), time.Now()
		}
		return ids
	}
}

// recordLostNodes writes into the records whom this node knows to be given up.
func recordLostNodes(ctx context.Context, r Records, lost []string) error {
	for {
		before, err := r.Get(tableCluster, recordLost)
		if err != nil {
			return fmt.Errorf("read the lost nodes: %w", err)
		}
		all := strings.Fields(string(before))
		for _, id := range lost {
			if !slices.Contains(all, id) {
				all = append(all, id)
			}
		}
		if len(all) == len(strings.Fields(string(before))) {
			return nil
		}
		err = commit(ctx, r, Txn{Guards: []TableRecord{record(tableCluster, recordLost, before)},
			Writes: []TableRecord{record(tableCluster, recordLost, []byte(strings.Join(all, "\n")))}})
		if err == nil || !errors.Is(err, ErrConflict) {
			return err
		}
	}
}

// Lost lists the nodes that recoveries have given up, as far as this node knows.
func (r *Raft) Lost() []string { return r.links.lostNodes() }

func (w *linkWatch) lostNodes() []string {
	all := slices.Clone(w.lost)
	if w.recorded != nil {
		all = append(all, w.recorded()...)
	}
	return all
}

func (w *linkWatch) isLost(id string) bool {
	return slices.Contains(w.lost, id) || (w.recorded != nil && slices.Contains(w.recorded(), id))
}

// refuseLost answers what comes from nodes that were given up, and hands on the rest.
func (w *linkWatch) refuseLost(ctx context.Context, from <-chan raft.RPC) <-chan raft.RPC {
	to := make(chan raft.RPC)
	go func() {
		for {
			select {
			case rpc := <-from:
				if w.refused(rpc) {
					continue
				}
				select {
				case to <- rpc:
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return to
}

var errLost = errors.New("this node was given up by a recovery; start it with an empty data directory")

func (w *linkWatch) refused(rpc raft.RPC) bool {
	q, ok := rpc.Command.(raft.WithRPCHeader)
	if !ok || !w.isLost(string(q.GetRPCHeader().ID)) {
		return false
	}
	w.logger.Debug("raft: refused a node that was given up", "node", string(q.GetRPCHeader().ID))
	rpc.Respond(nil, errLost)
	return true
}
