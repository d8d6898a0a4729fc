package pollux

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/storage"
)

// Voter is a node of a consensus group as the data directory of a stopped node knows it.
type Voter struct {
	ID, Name, Address string
	// Self: the directory is this node's. Survives: it is to be in the group after the recovery.
	Self, Survives bool
}

// Recovery says what RecoverQuorum did, or would do.
type Recovery struct {
	// Group before the recovery.
	Group []Voter
	// Index and Term are this node's last entry; 0 where nothing was done. Of several survivors the one with the highest
	// term, then index, has the most.
	Index, Term uint64
}

// RecoverQuorum makes the survivors, given by id or name, a group of their own after the quorum was lost for good. The
// node of the data directory must not run, and is always among the survivors. Where do is false it only looks. Samples of
// the last seconds before the node stopped may be missing in its history afterwards.
func RecoverQuorum(data string, survivors []string, do bool, log *slog.Logger) (Recovery, error) {
	s, err := storage.Open(storage.Options{Dir: filepath.Join(data, "store"), Logger: log, DiscardSamples: true})
	if err != nil {
		return Recovery{}, err
	}
	r, err := recoverStore(s, survivors, do, log)
	return r, errors.Join(err, s.Close())
}

func recoverStore(s *storage.Store, survivors []string, do bool, log *slog.Logger) (Recovery, error) {
	id, err := s.StableStore().Get(keyNodeID)
	if err != nil {
		return Recovery{}, fmt.Errorf("recover: this directory is of no node: %w", err)
	}
	o := cluster.RecoverOptions{ID: string(id), Log: s.LogStore(), Stable: s.StableStore(), Snapshots: s.SnapshotStore(), FSM: s.FSM(), Logger: log}
	group, err := cluster.Configuration(o)
	if err != nil {
		return Recovery{}, err
	}
	names, err := memberNames(s)
	if err != nil {
		return Recovery{}, fmt.Errorf("recover: %w", err)
	}
	var out Recovery
	for _, g := range group {
		out.Group = append(out.Group, Voter{ID: g.ID, Name: names[g.ID], Address: g.Address, Self: g.ID == o.ID, Survives: g.ID == o.ID})
	}
	for _, word := range survivors {
		i := slices.IndexFunc(out.Group, func(v Voter) bool { return v.ID == word || v.Name == word })
		if i < 0 {
			return out, fmt.Errorf("recover: %q is not of this group: %s", word, groupText(out.Group))
		}
		out.Group[i].Survives = true
	}
	if !do {
		return out, nil
	}
	for _, v := range out.Group {
		if v.Survives {
			o.Survivors = append(o.Survivors, cluster.Server{ID: v.ID})
		}
	}
	done, err := cluster.Recover(o)
	out.Index, out.Term = done.Index, done.Term
	if err != nil {
		return out, err
	}
	// The log is gone, and what history had not taken from it: the last seconds. Nobody else may have them, so history is
	// as whole as it can be.
	if err := errors.Join(s.SetSampleCursor(done.Index), s.SetJournalCursor(done.Index)); err != nil {
		return out, fmt.Errorf("recover: history: %w", err)
	}
	return out, nil
}

// memberNames reads the nodes' names in their member records. Those of a node that was killed may be in the log only, before
// the recovery applies it.
func memberNames(s *storage.Store) (map[string]string, error) {
	names := map[string]string{}
	note := func(id string, value []byte) {
		if m, err := cluster.DecodeMember(id, value); err == nil && m.Name != "" {
			names[id] = m.Name
		}
	}
	for rec, err := range s.Scan(storage.Table(cluster.TableMember), "", "") {
		if err != nil {
			return nil, err
		}
		note(rec.Key, rec.Value)
	}
	return names, s.PendingWrites(storage.Table(cluster.TableMember), note)
}

func groupText(group []Voter) string {
	var out []string
	for _, v := range group {
		if v.Name == "" {
			out = append(out, v.ID)
			continue
		}
		out = append(out, v.Name+" ("+v.ID+")")
	}
	return strings.Join(out, ", ")
}
