package cluster

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// RecoverOptions are the stores of a node that is not running, and who is left of its group.
type RecoverOptions struct {
	// ID of this node.
	ID string
	// Log and the others are the store's. It must be opened so that the log can be cut whatever has read it
	// (storage.Options.DiscardSamples).
	Log       raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	FSM       raft.FSM
	// Survivors are the nodes that are left, this one among them, with their peer addresses. It must be the same list on all
	// of them. "" takes the address that the group knew.
	Survivors []Server
	Logger    *slog.Logger
}

// Recovered says what Recover did.
type Recovered struct {
	// Voters are the group from now on; Lost those who were given up.
	Voters, Lost []string
	// Index and Term are the last entry of this node. Of several survivors the one with the highest term, then index, has the
	// most.
	Index, Term uint64
}

// termsAhead is how far the survivors' term is moved on, so that whoever was given up does not lead them again.
const termsAhead = 1000

var (
	keyTerm = []byte("CurrentTerm") // raft's own
	keyLost = []byte("pollux/raft-lost")
)

// Recover makes the survivors a group of their own after the quorum was lost for good. No node may run meanwhile, all
// survivors are recovered with the same list before the first of them starts, and those that are given up must never start
// again with their data: what only they had acknowledged is gone, and they would not know. An entry that was not
// committed yet may count afterwards; where the survivors' logs differ, the furthest counts and the others take its
// state over whole.
func Recover(o RecoverOptions) (Recovered, error) {
	known, err := raft.HasExistingState(o.Log, o.Stable, o.Snapshots)
	if err != nil {
		return Recovered{}, fmt.Errorf("recover: read raft state: %w", err)
	}
	if !known {
		return Recovered{}, errors.New("recover: there is no raft state here: is this the right data directory?")
	}
	cfg := raftConfig(RaftOptions{ID: o.ID, Logger: o.Logger})
	_, transport := raft.NewInmemTransport(raft.ServerAddress(o.ID))
	defer transport.Close()
	machine := presentState{o.FSM}
	look := *cfg
	before, err := raft.GetConfiguration(&look, machine, o.Log, o.Stable, o.Snapshots, transport)
	if err != nil {
		return Recovered{}, fmt.Errorf("recover: read the group: %w", err)
	}
	after, lost, err := survivors(o, before)
	if err != nil {
		return Recovered{}, err
	}
	term, err := o.Stable.GetUint64(keyTerm)
	if err != nil {
		return Recovered{}, fmt.Errorf("recover: read the term: %w", err)
	}
	// First of all, so that a Recover that was broken off keeps the lost ones out too.
	if err := noteLost(o.Stable, lost); err != nil {
		return Recovered{}, err
	}
	if err := raft.RecoverCluster(cfg, machine, o.Log, o.Stable, o.Snapshots, transport, after); err != nil {
		return Recovered{}, fmt.Errorf("recover: %w", err)
	}
	if err := clearLog(o.Log); err != nil {
		return Recovered{}, err
	}
	if err := o.Stable.SetUint64(keyTerm, term+termsAhead); err != nil {
		return Recovered{}, fmt.Errorf("recover: write the term: %w", err)
	}
	return recovered(o, after, lost)
}

// clearLog sees to it that nothing of the log is left: survivors whose logs differ must take over a snapshot, not entries
// that they may have applied otherwise. The first cut may end before entries that are not the state machine's.
func clearLog(log raft.LogStore) error {
	for range 2 {
		first, err := log.FirstIndex()
		if err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		last, err := log.LastIndex()
		if err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		if last == 0 {
			return nil
		}
		if err := log.DeleteRange(first, last); err != nil {
			return fmt.Errorf("recover: %w", err)
		}
	}
	last, err := log.LastIndex()
	if err != nil || last != 0 {
		return errors.Join(fmt.Errorf("recover: entries up to %d are still in the log", last), err)
	}
	return nil
}

func recovered(o RecoverOptions, after raft.Configuration, lost []string) (Recovered, error) {
	snapshots, err := o.Snapshots.List()
	if err != nil || len(snapshots) == 0 {
		return Recovered{}, errors.Join(errors.New("recover: there is no snapshot"), err)
	}
	out := Recovered{Lost: lost, Index: snapshots[0].Index, Term: snapshots[0].Term}
	for _, s := range after.Servers {
		out.Voters = append(out.Voters, string(s.ID))
	}
	return out, nil
}

// survivors makes the new configuration, and says who is not in it.
func survivors(o RecoverOptions, before raft.Configuration) (after raft.Configuration, lost []string, err error) {
	self := false
	for _, s := range o.Survivors {
		server := raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address)}
		i := slices.IndexFunc(before.Servers, func(b raft.Server) bool { return b.ID == server.ID })
		if i < 0 {
			return after, nil, fmt.Errorf("recover: node %s is not of this group: %s", s.ID, names(before))
		}
		if server.Address == "" {
			server.Address = before.Servers[i].Address
		}
		self = self || s.ID == o.ID
		after.Servers = append(after.Servers, server)
	}
	if !self {
		return after, nil, fmt.Errorf("recover: this node, %s, is not among the survivors", o.ID)
	}
	for _, b := range before.Servers {
		if !slices.ContainsFunc(after.Servers, func(a raft.Server) bool { return a.ID == b.ID }) {
			lost = append(lost, string(b.ID))
		}
	}
	return after, lost, nil
}

func names(c raft.Configuration) string {
	var out []string
	for _, s := range c.Servers {
		out = append(out, string(s.ID))
	}
	return strings.Join(out, ", ")
}

// presentState is the state machine for RecoverCluster, which wants to begin from a snapshot: the state on the disk is
// never behind it.
type presentState struct{ raft.FSM }

func (presentState) Restore(io.ReadCloser) error { return nil }

// noteLost remembers who was given up, beside those of earlier times.
func noteLost(stable raft.StableStore, lost []string) error {
	all, err := readLost(stable)
	if err != nil {
		return err
	}
	for _, id := range lost {
		if !slices.Contains(all, id) {
			all = append(all, id)
		}
	}
	if err := stable.Set(keyLost, []byte(strings.Join(all, "\n"))); err != nil {
		return fmt.Errorf("recover: note the lost nodes: %w", err)
	}
	return nil
}

func readLost(stable raft.StableStore) ([]string, error) {
	b, err := stable.Get(keyLost)
	if err != nil && err.Error() != "not found" { // the text that raft itself goes by
		return nil, fmt.Errorf("read the lost nodes: %w", err)
	}
	return strings.Fields(string(b)), nil
}

// Configuration reads the group as the stores of a node that is not running know it.
func Configuration(o RecoverOptions) ([]Server, error) {
	cfg := raftConfig(RaftOptions{ID: o.ID, Logger: o.Logger})
	_, transport := raft.NewInmemTransport(raft.ServerAddress(o.ID))
	defer transport.Close()
	c, err := raft.GetConfiguration(cfg, presentState{o.FSM}, o.Log, o.Stable, o.Snapshots, transport)
	if err != nil {
		return nil, fmt.Errorf("read the group: %w", err)
	}
	var out []Server
	for _, s := range c.Servers {
		x := Server{ID: string(s.ID), Address: string(s.Address), Suffrage: suffrageNonvoter}
		if s.Suffrage == raft.Voter {
			x.Suffrage = suffrageVoter
		}
		out = append(out, x)
	}
	return out, nil
}
