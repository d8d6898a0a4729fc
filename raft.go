package pollux

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/actors/records"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/gossip"
)

// lost lists the nodes that a recovery of the quorum has given up.
func (n *Node) lost() func() []string { return cluster.LostNodes(records.Of(n.store, n.log)) }

// firstVoters gives the voters of a new cluster, nil where this node does not make one. It waits until as many nodes as
// are expected have come.
func (n *Node) firstVoters(ctx context.Context) ([]raft.Server, error) {
	if n.creds.founder == nil {
		return nil, nil
	}
	if n.conf.BootstrapExpect == 1 {
		return []raft.Server{{ID: raft.ServerID(n.self.id), Address: raft.ServerAddress(n.peerAddr)}}, nil
	}
	token := n.creds.accept(n.creds.founder.Fingerprint(), founderTokenTTL)
	file := filepath.Join(n.creds.dir, joinTokenName)
	if err := writeSecret(file, []byte(token+"\n")); err != nil {
		return nil, fmt.Errorf("write join token: %w", err)
	}
	n.log.Info("a new cluster begins when all expected nodes are here", "expected", n.conf.BootstrapExpect, "join", n.peerAddr, "token_file", file)
	hints := n.gossip.Events()
	for told := 0; ; {
		var servers []raft.Server
		for _, m := range n.gossip.Members() {
			if m.State == gossip.Alive && m.Peer != "" {
				servers = append(servers, raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Peer)})
			}
		}
		if len(servers) >= n.conf.BootstrapExpect {
			n.log.Info("all expected nodes are here", "nodes", len(servers))
			// More may have come; they join as all later ones do.
			at := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == n.self.id })
			servers[0], servers[at] = servers[at], servers[0]
			return servers[:n.conf.BootstrapExpect], nil
		}
		if len(servers) != told {
			told = len(servers)
			n.log.Info("waiting for nodes", "here", told, "expected", n.conf.BootstrapExpect)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %d nodes, %d are here: %w", n.conf.BootstrapExpect, told, context.Cause(ctx))
		case <-hints:
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// gone says whether a node, by its id or peer address, is about to leave or has left, by gossip.
func (n *Node) gone(node string) bool {
	return slices.ContainsFunc(n.gossip.Members(), func(m gossip.Member) bool {
		return (m.ID == node || m.Peer == node) && (m.Leaving || m.State == gossip.Left)
	})
}

// openRaft takes part in consensus; it returns when this node has all that was committed before.
func (n *Node) openRaft(ctx context.Context) error {
	first, err := n.firstVoters(ctx)
	if err != nil {
		return err
	}
	r, err := cluster.OpenRaft(cluster.RaftOptions{ID: n.self.id, Log: n.store.LogStore(), Stable: n.store.StableStore(),
		Snapshots: n.store.SnapshotStore(), FSM: n.store.FSM(), Logger: n.log, Metrics: n.metrics,
		Transport: cluster.NewRaftTransport(n.peers.RaftLayer(), n.addressOf, n.log), Bootstrap: first,
		Forward: func(leader string, entry []byte, done func([]byte, error)) {
			n.peers.Propose(n.life, leader, entry, done)
		},
		RemoteIndex: n.peers.CommitIndex, Applied: n.store.AppliedIndex, WaitApplied: n.store.WaitApplied,
		Healthy: n.alive, Gone: n.gone, Lost: n.lost(), Fatal: n.fail})
	if err != nil {
		return err
	}
	n.raft = r
	close(n.voting)
	n.closeLater("raft", func(context.Context) error { return r.Close() })
	if err := n.reconcile(); err != nil {
		return err
	}
	if err := n.waitCaughtUp(ctx); err != nil {
		return err
	}
	if err := n.store.Start(proposer{r}, n.self.id, n.self.incarnation); err != nil {
		return err
	}
	n.store.SetBlobPeers(blobPeers{n})
	if err := n.settleFounding(ctx); err != nil {
		return err
	}
	if err := n.offerLocally(); err != nil {
		return err
	}
	return n.keepTrust(ctx)
}

// waitCaughtUp waits as long as it takes: without a quorum there is nothing that this node could do.
func (n *Node) waitCaughtUp(ctx context.Context) error {
	for since, say := time.Now(), time.Duration(0); ; {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := n.raft.WaitLeader(try)
		if err == nil {
			err = n.raft.Barrier(try)
		}
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if err := n.Err(); err != nil {
			return err
		}
		alone := !n.hearsOthers()
		if waited := time.Since(since); waited > say {
			say = min(2*waited, waited+time.Minute)
			n.log.Info("waiting for the cluster: no leader is in reach, or this node is not taken in yet", "seconds", int(waited.Seconds()), "last", err)
			if alone && say > time.Minute {
				n.log.Warn("this node hears no other one; if all of them have other addresses now, start it with --join and the peer address of one")
			}
		}
		if alone && len(n.conf.Join) > 0 {
			if found := n.askForGossip(ctx); len(found) > 0 {
				if _, err := n.gossip.Join(ctx, found); err != nil {
					n.log.Debug("join by gossip", "error", err)
				}
			}
		}
	}
}

// reconcile has this node, while it leads, keep raft's members as gossip and the records have them.
func (n *Node) reconcile() error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.closeLater("reconcile", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	o := cluster.ReconcileOptions{Raft: n.raft, Gossip: n.gossip, Members: n.members, Expect: n.expect,
		StableAfter: n.conf.StableAfter, BlobsComplete: n.blobsComplete, Records: records.Of(n.store, n.log), Logger: n.log, Metrics: n.metrics}
	go func() {
		defer close(done)
		cluster.Reconcile(ctx, o)
	}()
	return nil
}

// expect is the number of voters that the cluster was founded for. The founder committed it: whoever leads goes by it.
func (n *Node) expect() int {
	if t, _, err := n.readTrust(); err == nil && t != nil && t.Expect > 0 {
		return t.Expect
	}
	return n.conf.BootstrapExpect
}
