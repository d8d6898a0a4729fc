package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// Server is a node's place in the raft group.
type Server struct {
	ID, Address string
	// Suffrage is "voter" or "non-voter".
	Suffrage string
	// LastContact is when it last answered this node; zero: never, or this node does not lead.
	LastContact time.Time
	// Heard is LastContact where that was since this node leads.
	Heard time.Time
	// LastIndex is the last entry in its log as it last said; 0: not known. Only the leader knows.
	LastIndex uint64
	// Behind is how long it took to get what the leader has; only the leader knows, and only where LastIndex is known.
	Behind time.Duration
	// Silent is for how long it has not answered the leader; 0: it answers, or this node does not lead.
	Silent time.Duration
}

// Voter says whether the server votes.
func (s Server) Voter() bool { return s.Suffrage == suffrageVoter }

const (
	suffrageVoter    = "voter"
	suffrageNonvoter = "non-voter"
)

// Servers lists the group as this node knows it. It does not block.
func (r *Raft) Servers() []Server {
	servers, _ := r.servers()
	return servers
}

// servers gives the index of the configuration too, on which a change may stand.
func (r *Raft) servers() ([]Server, uint64) {
	f := r.raft.GetConfiguration()
	leads := r.IsLeader()
	var out []Server
	for _, s := range f.Configuration().Servers {
		x := Server{ID: string(s.ID), Address: string(s.Address), Suffrage: suffrageNonvoter}
		if s.Suffrage == raft.Voter {
			x.Suffrage = suffrageVoter
		}
		switch {
		case s.ID == r.id:
			x.LastContact, x.LastIndex = time.Now(), r.raft.LastIndex()
			x.Heard = x.LastContact
		case leads:
			l := r.links.contact(s.ID)
			x.LastContact, x.Silent = l.lastContact(), l.silent()
			if began := r.leads.since.Load(); began > 0 && x.LastContact.UnixNano() > began {
				x.Heard = x.LastContact
			}
			if behind, known := l.round.behind(r.links.now()); known {
				x.LastIndex, x.Behind = l.index.Load(), behind
			}
		}
		out = append(out, x)
	}
	return out, f.Index()
}

// configWait bounds a change of the configuration, which needs a quorum.
const configWait = 10 * time.Second

// wait waits for a change of the configuration.
func (r *Raft) wait(ctx context.Context, what string, start func() raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- start().Error() }()
	select {
	case err := <-done:
		switch {
		case err == nil:
			return nil
		case errors.Is(err, raft.ErrNotLeader):
			return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
		}
		return fmt.Errorf("%s: %w", what, err)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w: %w", what, ErrUnknown, context.Cause(ctx))
	case <-r.closing:
		return fmt.Errorf("%s: %w: %w", what, ErrUnknown, raft.ErrRaftShutdown)
	}
}

// AddNonvoter brings a node into the group, without a vote; of one that is there it sets the address. Only the leader can.
func (r *Raft) AddNonvoter(ctx context.Context, id, address string) error {
	return r.wait(ctx, "add "+id, func() raft.Future {
		return r.raft.AddNonvoter(raft.ServerID(id), raft.ServerAddress(address), 0, configWait)
	})
}

// AddVoter gives a node a vote; one that was not there is added. Only the leader can.
func (r *Raft) AddVoter(ctx context.Context, id, address string) error {
	return r.wait(ctx, "give "+id+" a vote", func() raft.Future {
		return r.raft.AddVoter(raft.ServerID(id), raft.ServerAddress(address), 0, configWait)
	})
}

// Demote takes a node's vote; it keeps its place. Only the leader can.
func (r *Raft) Demote(ctx context.Context, id string) error {
	return r.wait(ctx, "take the vote of "+id, func() raft.Future { return r.raft.DemoteVoter(raft.ServerID(id), 0, configWait) })
}

// Remove takes a node out of the group. Only the leader can. A leader that removes itself steps down afterwards.
func (r *Raft) Remove(ctx context.Context, id string) error {
	return r.wait(ctx, "remove "+id, func() raft.Future { return r.raft.RemoveServer(raft.ServerID(id), 0, configWait) })
}

// TransferLeadership makes another voter the leader: to, or the one that is furthest where to is "". It returns when this
// node leads no longer; at once where it does not lead. With no other voter it is an error.
func (r *Raft) TransferLeadership(ctx context.Context, to string) error {
	for {
		if !r.IsLeader() {
			return nil
		}
		err := r.wait(ctx, "transfer leadership", func() raft.Future { return r.transfer(to) })
		if err == nil || ctx.Err() != nil || errors.Is(err, errNoSuchVoter) || errors.Is(err, raft.ErrRaftShutdown) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Leave prepares a planned stop: another one leads, and one of two voters has given its vote back, so that the other can
// go on alone. The node must have said in its gossip that it is leaving. It returns at the latest when ctx ends, and then
// the stop may go on all the same.
func (r *Raft) Leave(ctx context.Context) error {
	if err := r.TransferLeadership(ctx, ""); err != nil && !errors.Is(err, errNoSuchVoter) {
		return err
	}
	for {
		voters, self := 0, false
		for _, s := range r.Servers() {
			if s.Voter() {
				voters++
				self = self || s.ID == string(r.id)
			}
		}
		if voters != 2 || !self {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("leave the raft group: %w", context.Cause(ctx))
		case <-r.closing:
			return nil
		case <-time.After(10 * time.Millisecond):
		}
	}
}

var errNoSuchVoter = errors.New("there is no such other voter")

type failedFuture struct{ err error }

func (f failedFuture) Error() error { return f.err }

func (r *Raft) transfer(to string) raft.Future {
	for _, s := range r.Servers() {
		if s.Voter() && s.ID != string(r.id) && (to == "" || s.ID == to) {
			if to == "" {
				return r.raft.LeadershipTransfer()
			}
			return r.raft.LeadershipTransferToServer(raft.ServerID(to), raft.ServerAddress(s.Address))
		}
	}
	return failedFuture{errNoSuchVoter}
}

// RaftStatus is what operators see of raft.
type RaftStatus struct {
	Leader  string
	Role    string // leader, voter or non-voter
	Applied uint64
	// Last is the last entry in the log here.
	Last uint64
	Term uint64
	// Voters is their number.
	Voters int
	// Tolerated is the number of voters that can fail from now on.
	Tolerated int
}

// Status reads the current state; it does not block.
func (r *Raft) Status() RaftStatus {
	s := RaftStatus{Leader: r.Leader(), Applied: r.applied(), Last: r.raft.LastIndex(), Term: r.raft.CurrentTerm(), Role: suffrageNonvoter}
	leads, alive := r.IsLeader(), 0
	for _, server := range r.raft.GetConfiguration().Configuration().Servers {
		if server.Suffrage != raft.Voter {
			continue
		}
		s.Voters++
		self := server.ID == r.id
		if self {
			s.Role = suffrageVoter
		}
		// A follower hears nothing of the others but by gossip.
		if self || (r.o.Healthy == nil && !leads) || r.healthy(server.ID) {
			alive++
		}
	}
	if leads {
		s.Role = "leader"
	}
	s.Tolerated = max(0, alive-(s.Voters/2+1))
	return s
}
