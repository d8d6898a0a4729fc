package pollux

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// status is the node as operators see it (rpc.Cluster).
type status struct{ n *Node }

func (s status) Ready() error {
	if err := s.n.Err(); err != nil {
		return err
	}
	if !s.n.cluster.LeaseValid() {
		return errors.New("this node has no lease now")
	}
	return nil
}

func (s status) Status(context.Context) (*pb.GetStatusResponse, error) {
	n := s.n
	r, e := n.raft.Status(), n.engine.Stats()
	twins, err := n.engine.Registry().CountTwins()
	if err != nil {
		return nil, err
	}
	drivers, err := n.engine.Registry().CountDrivers()
	if err != nil {
		return nil, err
	}
	out := &pb.GetStatusResponse{
		ClusterId: n.clusterID, Version: Version, Node: n.self.id, Leader: r.Leader, Revision: n.store.Revision(), AppliedIndex: r.Applied,
		FailuresTolerated: uint32(r.Tolerated), Twins: twins, ActiveTwins: uint64(e.Active), ConnectedTwins: uint64(e.Connected),
		FaultyTwins: uint64(e.Faulty), Drivers: drivers, StartTime: timestamppb.New(n.started), HistoryLag: n.feeder.Lag(),
		CheckpointIntervalMs: uint32(e.CheckpointInterval.Milliseconds()), Addresses: n.addresses(), Refused: map[string]uint64{},
	}
	for why, count := range n.cluster.Refused() {
		out.Refused["router "+why] = count
	}
	for why, count := range e.Dropped {
		if why != "no_twin" { // the broker counts these as unowned
			out.Refused["twins "+why] = count
		}
	}
	if n.broker != nil {
		b := n.broker.Stats()
		for why, count := range b.Refused {
			out.Refused["mqtt "+why] = count
		}
		for why, count := range b.TurnedAway {
			out.Refused["mqtt turned_away "+why] = count
		}
	}
	return out, nil
}

func (n *Node) addresses() map[string]string {
	a := map[string]string{"http": n.URL()}
	if n.broker != nil {
		a["mqtt"] = n.MQTTAddr()
	}
	return a
}

func (s status) Nodes(context.Context) ([]*pb.Node, error) {
	n := s.n
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	return []*pb.Node{{
		Id: n.self.id, Name: n.conf.Name, Incarnation: n.self.incarnation, State: "alive", Role: n.raft.Status().Role,
		AvailabilityZone: n.conf.AvailabilityZone, Version: Version, Addresses: n.addresses(),
		Slots: uint32(n.cluster.SlotsByNode()[n.self.id]), Actors: uint64(n.engine.Stats().Active),
		MemoryBytes: mem.Sys - mem.HeapReleased, GuestMemoryBytes: uint64(n.sandbox.GuestBytes()), DiskBytes: diskUse(n.conf.Data),
		CpuShare: cpuShare(time.Since(n.started)), StartTime: timestamppb.New(n.started),
		LeaseMs: n.cluster.LeaseLeft().Milliseconds(), Goroutines: uint32(runtime.NumGoroutine()),
	}}, nil
}

// cpuShare is the processor time of this process since its start, in cores.
func cpuShare(since time.Duration) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil || since <= 0 {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / float64(since.Nanoseconds())
}

// diskUse adds up the files below dir; what vanishes meanwhile does not count.
func diskUse(dir string) uint64 {
	var sum uint64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			sum += uint64(info.Size())
		}
		return nil
	})
	return sum
}

func (s status) Where(id string) *pb.Placement {
	n := s.n
	at, _ := n.cluster.Where(id)
	return &pb.Placement{Id: id, Slot: uint32(at.Slot), Node: at.Node, Incarnation: at.Incarnation, Since: at.Since,
		Active: at.Node == n.self.id && n.engine.Active(cluster.Target{Kind: "twin", ID: id})}
}
