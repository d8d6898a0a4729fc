package pollux

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
)

// status is the node as operators see it (rpc.Cluster).
type status struct{ n *Node }

func (s status) Ready() error {
	if err := s.n.Err(); err != nil {
		return err
	}
	if !s.n.cluster.LeaseValid() {
		return fmt.Errorf("this node has no lease now: %w", rpc.ErrNoQuorum)
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
		FaultyTwins: uint64(e.Faulty), QuarantinedTwins: uint64(e.Quarantined), Drivers: drivers, StartTime: timestamppb.New(n.started), HistoryLag: n.feeder.Lag(),
		CheckpointIntervalMs: uint32(e.CheckpointInterval.Milliseconds()), Addresses: n.addresses(), Refused: map[string]uint64{},
	}
	if text := n.disk.Warning(); text != "" {
		out.DiskWarnings = []string{text}
	}
	waits := n.engine.Outbox()
	out.OutboxMessages = uint64(waits.Messages)
	for _, l := range waits.Still {
		out.OutboxHeld = append(out.OutboxHeld, &pb.OutboxLane{To: l.To, Node: n.conf.Name, Messages: uint64(l.Messages), Bytes: uint64(l.Bytes),
			Since: timestamppb.New(l.Moved), Error: l.Err})
	}
	unmet, err := n.cluster.UnmetActors()
	if err != nil {
		return nil, err
	}
	for selector, count := range unmet {
		if out.UnmetSelectors == nil {
			out.UnmetSelectors = map[string]uint32{}
		}
		out.UnmetSelectors[selector] = uint32(count)
	}
	for why, count := range n.cluster.Refused() {
		out.Refused["router "+why] = count
	}
	for why, count := range e.Dropped {
		if why != "no_twin" { // the broker counts these as unowned
			out.Refused["twins "+why] = count
		}
	}
	if count := n.unpublished.Get(); count > 0 {
		out.Refused["mqtt to other nodes"] = count
	}
	if count := n.turnedAway.Get(); count > 0 {
		out.Refused["http turned_away files"] = count
	}
	if n.broker != nil {
		b := n.broker.Stats()
		for why, count := range b.Refused {
			out.Refused["mqtt "+why] = count
		}
		for what, count := range map[string]uint64{"queue": b.DroppedQueue, "outbound": b.DroppedOut, "peer": b.DroppedPeer} {
			if count > 0 {
				out.Refused["mqtt dropped "+what] = count
			}
		}
		for why, count := range b.TurnedAway {
			out.Refused["mqtt turned_away "+why] = count
		}
		for why, count := range b.Closed {
			if !ordinaryEnd[why] {
				out.Refused["mqtt closed "+why] = count
			}
		}
	}
	return out, nil
}

func (n *Node) addresses() map[string]string {
	a := map[string]string{"http": n.URL()}
	if n.MQTTAddr() != "" {
		a["mqtt"] = n.MQTTAddr()
	}
	return a
}

// Nodes implements rpc.Cluster: every member as this node sees it, with the figures of this one.
func (s status) Nodes(context.Context) ([]*pb.Node, error) {
	n := s.n
	byID := map[string]cluster.Server{}
	for _, r := range n.raft.Servers() {
		byID[r.ID] = r
	}
	leader := n.raft.Leader()
	var all []*pb.Node
	for _, m := range n.cluster.Members() {
		node := &pb.Node{Id: m.ID, Name: m.Name, Incarnation: m.Incarnation, State: n.stateOf(m), AvailabilityZone: m.AvailabilityZone,
			Version: m.Version, Site: m.Site, Labels: m.Labels, Weight: float64(max(m.Weight, 1)),
			Addresses: map[string]string{"http": m.HTTP, "peer": m.Peer, "gossip": m.Gossip}}
		if m.MQTT != mqttOff {
			node.Addresses["mqtt"] = m.MQTT
		}
		if r, ok := byID[m.ID]; ok {
			node.Role = r.Suffrage
			if m.ID == leader {
				node.Role = "leader"
			}
			if !r.Heard.IsZero() {
				node.RaftContactTime = timestamppb.New(r.Heard)
			}
		}
		if m.ID == n.self.id {
			n.figures(node)
		}
		all = append(all, node)
	}
	return all, nil
}

// stateOf puts together what records and gossip say.
func (n *Node) stateOf(m cluster.Member) string {
	switch {
	case m.State == cluster.StateActive && m.ID != n.self.id && !n.alive(m.ID):
		return "suspect"
	case m.State == cluster.StateActive:
		return "alive"
	}
	return m.State.String()
}

// figures are what only the node itself knows.
func (n *Node) figures(to *pb.Node) {
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	to.Addresses = n.addresses()
	to.Addresses["peer"], to.Addresses["gossip"] = n.peerAddr, n.gossip.Address()
	to.Actors = uint64(n.engine.Stats().Active)
	to.MemoryBytes, to.GuestMemoryBytes, to.DiskBytes = mem.Sys-mem.HeapReleased, uint64(n.sandbox.GuestBytes()), diskUse(n.conf.Data)
	to.DiskFreeBytes, to.DiskSizeBytes = n.disk.Room()
	to.CpuShare, to.StartTime = cpuShare(time.Since(n.started)), timestamppb.New(n.started)
	to.LeaseMs = max(0, n.cluster.LeaseLeft().Milliseconds())
	to.Goroutines = uint32(runtime.NumGoroutine())
	to.AppliedIndex = n.store.AppliedIndex()
	to.HistoryComplete = n.exporter.Complete()
	to.CertificateExpireTime = timestamppb.New(n.creds.identity.Expires())
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

// Where implements rpc.Cluster.
func (s status) Where(id string) *pb.Placement {
	n := s.n
	at, _ := n.cluster.Where(id)
	p := &pb.Placement{Id: id, Slot: uint32(at.Slot), Node: at.Node, Incarnation: at.Incarnation, Since: at.Since,
		Target: n.cluster.Target(at.Slot), State: "settled",
		Active: at.Node == n.self.id && n.engine.Active(cluster.Target{Kind: "twin", ID: id})}
	p.Selector = n.cluster.SelectorOf(at.Slot)
	if unmet := n.cluster.Unmet(at.Slot); unmet != "" {
		p.State, p.Awaited = "unavailable", "no node satisfies "+unmet
		return p
	}
	if p.Target != p.Node {
		p.State = string(cluster.MoveWaiting)
		for _, m := range n.cluster.Moves() {
			if m.Slot == at.Slot && m.State != cluster.MoveDone {
				p.State = string(m.State)
			}
		}
	}
	return p
}

// peersDoor is the way to the other nodes (rpc.Peers).
type peersDoor struct{ n *Node }

func (p peersDoor) Nodes() []string {
	var ids []string
	for _, m := range p.n.cluster.Members() {
		if lives(m) && (m.ID == p.n.self.id || p.n.alive(m.ID)) {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

func (p peersDoor) Self() string { return p.n.self.id }

func (p peersDoor) Owner(twin string) string {
	at, _ := p.n.cluster.Where(twin)
	return at.Node
}

func (p peersDoor) HTTP(node string) (connect.HTTPClient, string, error) { return p.n.peers.HTTP(node) }

// ordinaryEnd are the ends of MQTT connections that are nobody's fault, or counted among those turned away.
var ordinaryEnd = map[string]bool{"disconnected": true, "lost": true, "taken_over": true, "administrative": true, "taken": true,
	"not_authenticated": true, "clients": true}
