package pollux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/simulation"
	"github.com/polluxhq/pollux/actors/sink"
	"github.com/polluxhq/pollux/actors/source"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/backup"
)

// actsLast are the tables whose records somebody acts on when he sees them, by what others have: states, positions, messages. Keys come behind
// the twins, so that no device is let in before its twin is there.
var actsLast = []storage.Table{topic.TableTopics, "twin", "start", rpc.TableKey, sink.TableSinks, notify.TableNotifiers, simulation.TableSimulations,
	automation.TableSchedules, automation.TableRules, source.TableSources}

// Backup implements rpc.Cluster. A node that was cut off has old state, and says no.
func (s status) Backup(ctx context.Context, w io.Writer, history bool) (*pb.BackupSummary, error) {
	n := s.n
	if err := s.Ready(); err != nil {
		return nil, err
	}
	// What was acknowledged by any node is in it.
	if err := n.raft.Barrier(ctx); err != nil {
		return nil, meaning{err, rpc.ErrNoQuorum}
	}
	o := backup.Options{Store: n.store, References: n.engine.Registry().Digests, Cluster: n.clusterID, Version: Version, Last: actsLast}
	if history {
		o.History, o.Journal = n.exporter, n.journal
	}
	sum, err := backup.Write(ctx, w, o)
	if errors.Is(err, backup.ErrIncomplete) {
		err = meaning{fmt.Errorf("%w: ask another node, or leave history out (--without-history)", err), rpc.ErrNotNow}
	}
	if err != nil {
		return nil, err
	}
	return summaryOf(sum), nil
}

// Restore implements rpc.Cluster.
func (s status) Restore(ctx context.Context, r io.Reader) (*pb.BackupSummary, error) {
	n := s.n
	sum, err := backup.Restore(ctx, r, backup.RestoreOptions{Store: n.store, TempDir: n.conf.Data,
		Fresh: []storage.Table{rpc.TableKey, rpc.TableSession, actors.TableSeals}, Quiet: []storage.Table{"state", "model", "wake"}, Logger: n.log})
	switch {
	case errors.Is(err, backup.ErrNotEmpty):
		err = meaning{err, rpc.ErrNotNow}
	case errors.Is(err, backup.ErrDamaged), errors.Is(err, backup.ErrNewer):
		err = meaning{err, rpc.ErrBadBackup}
	}
	if err != nil {
		return nil, err
	}
	return summaryOf(sum), nil
}

// meaning says to the API what an error is, and to people nothing more.
type meaning struct {
	error
	is error
}

func (m meaning) Unwrap() []error { return []error{m.error, m.is} }

func summaryOf(s backup.Summary) *pb.BackupSummary {
	return &pb.BackupSummary{ClusterId: s.Cluster, Revision: s.Revision, Time: timestamppb.New(s.Time), Records: s.Records, Blobs: s.Blobs, Samples: s.Samples}
}

// watchRestores has the actors look at all of their slots again once a restore is complete: what they hold then came in
// quietly.
func (n *Node) watchRestores() error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.closeLater("restores", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			changes, err := n.store.Watch(ctx, backup.TableRestore, "", n.store.Revision())
			if err == nil {
				for batch := range changes {
					for _, c := range batch {
						if c.Deleted {
							n.lookAgain()
						}
					}
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	return nil
}

// lookAgain has the actors drop and gain what this node owns. A slot that moves meanwhile is put right: the cluster's own
// word about it may have come in between.
func (n *Node) lookAgain() {
	all := make([]cluster.Slot, cluster.SlotSpace)
	for s := range all {
		all[s] = cluster.Slot(s)
	}
	given := n.owned(all)
	n.log.Info("a backup was restored: looking at all twins again", "slots", len(given))
	for slots := slices.Collect(maps.Keys(given)); len(slots) > 0; {
		n.engine.Lost(slots)
		n.engine.Gained(slices.Collect(maps.Values(given)))
		now := n.owned(slots)
		slots = slices.DeleteFunc(slots, func(s cluster.Slot) bool { return now[s].Since == given[s].Since })
		given = n.owned(slots)
	}
}

// owned gives those of the slots that this node owns now.
func (n *Node) owned(slots []cluster.Slot) map[cluster.Slot]cluster.Ownership {
	out := make(map[cluster.Slot]cluster.Ownership, len(slots))
	for _, s := range slots {
		if o, ok := n.cluster.Owned(s); ok {
			out[s] = o
		}
	}
	return out
}
