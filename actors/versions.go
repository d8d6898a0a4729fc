package actors

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// tableReleases: driver's name → pb.Release, where what twins get is not simply the newest version.
const tableReleases storage.Table = "release"

// active gives the rollout that goes on, or nil.
func active(rel *pb.Release) *pb.Rollout {
	if n := len(rel.GetRollouts()); n > 0 && goesOn(rel.Rollouts[n-1]) {
		return rel.Rollouts[n-1]
	}
	return nil
}

func goesOn(o *pb.Rollout) bool {
	return o.Phase == pb.RolloutPhase_ROLLOUT_PHASE_RUNNING || o.Phase == pb.RolloutPhase_ROLLOUT_PHASE_PAUSED
}

// readRelease reads a driver's release; nil where there is none.
func readRelease(s *storage.Store, name string) (*pb.Release, error) {
	rel, err := get(s, tableReleases, name, &pb.Release{})
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return rel, err
}

// release gives a driver's release as it is now, or nil. It is shared, and not to be changed.
func (c *catalog) release(name string) (*pb.Release, error) {
	c.mu.Lock()
	rel, known := c.releases[name]
	change := c.change
	c.mu.Unlock()
	if known {
		return rel, nil
	}
	rel, err := readRelease(c.store, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.change == change {
		c.releases[name] = rel
	}
	return rel, nil
}

// meant gives the version for those that ask for none, as the driver's release says; "": the newest.
func (c *catalog) meant(name string) (string, error) {
	rel, err := c.release(name)
	if err != nil || rel == nil {
		return "", err
	}
	_, ok, err := c.store.Get(tableDrivers, driverKey(name, rel.Version))
	if err != nil || !ok {
		return "", err
	}
	return rel.Version, nil
}

// tally gives the counts of a version.
func (c *catalog) tally(name, version string) *tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tallyLocked(name, version)
}

func (c *catalog) tallyLocked(name, version string) *tally {
	key := name + "@" + version
	t := c.tallies[key]
	if t == nil {
		t = &tally{}
		c.tallies[key] = t
	}
	return t
}

// failures gives what the twins of a driver failed at last on this node, by version.
func (c *catalog) failures(name string) map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]string{}
	for key, t := range c.tallies {
		if version, ok := strings.CutPrefix(key, name+"@"); ok {
			if last := t.proto().Last; last != "" {
				out[version] = last
			}
		}
	}
	return out
}

// forTwin gives the version that a twin has.
func (c *catalog) forTwin(t *pb.Twin) (*spec, error) {
	ref, err := c.refOf(t)
	if err != nil {
		return nil, err
	}
	return c.resolve(ref)
}

// refOf gives what a twin's driver means for this twin: a version by name where a rollout has chosen it. Of a twin without a
// driver it is its model.
func (c *catalog) refOf(t *pb.Twin) (string, error) {
	if t.Driver == "" && t.Model != "" {
		return modelRef + t.Model, nil
	}
	name, version, err := parseRef(t.Driver)
	if err != nil || version != "" {
		return t.Driver, err
	}
	rel, err := c.release(name)
	if err != nil {
		return "", err
	}
	return refWith(c.store, rel, t)
}

// refWith is refOf with that release, which may be nil, of a twin that asks for no version.
func refWith(s *storage.Store, rel *pb.Release, t *pb.Twin) (string, error) {
	o := active(rel)
	if o == nil {
		return t.Driver, nil
	}
	yes, err := chosen(s, o, t)
	if err != nil || !yes {
		return t.Driver, err
	}
	return o.Driver + "@" + o.Version, nil
}

// chosen says whether a rollout has chosen a twin.
func chosen(s *storage.Store, o *pb.Rollout, t *pb.Twin) (bool, error) {
	sel := o.Selector
	if sel == nil {
		return percentile(t.Id) < o.Share, nil
	}
	if len(sel.Ids) > 0 && !slices.Contains(sel.Ids, t.Id) {
		return false, nil
	}
	for k, v := range sel.Labels {
		if got, ok := t.Labels[k]; !ok || got != v {
			return false, nil
		}
	}
	if sel.Zone == "" {
		return true, nil
	}
	chain, err := zonesAround(s, t.Zone)
	return slices.Contains(chain, sel.Zone), err
}

// percentile of a twin, 0 to 99: the same for ever, so that a growing share keeps those that it has. It is independent
// of the slot, lest a share be one node's twins.
func percentile(id string) uint32 {
	d := xxhash.New()
	_, _ = d.WriteString("share\x00") // it never fails
	_, _ = d.WriteString(id)
	return uint32(d.Sum64() % 100)
}

// current gives the version of those twins that ask for none and are in no rollout.
func (r *Registry) current(name string) (string, error) {
	s, err := r.e.catalog.resolve(name)
	if err != nil {
		return "", err
	}
	return s.version, nil
}

// releaseWrite commits a release.
func releaseWrite(rel *pb.Release) (storage.Guard, storage.Write, error) {
	guard := storage.Guard{Table: tableReleases, Key: rel.Driver, Revision: rel.Revision}
	value, err := encode(rel)
	if err != nil {
		return guard, storage.Write{}, fmt.Errorf("release of %s: %w", rel.Driver, err)
	}
	return guard, storage.Write{Table: tableReleases, Key: rel.Driver, Value: value}, nil
}

// maxRollouts are kept.
const maxRollouts = 20

func addRollout(rel *pb.Release, o *pb.Rollout) {
	o.Number = 1
	if n := len(rel.Rollouts); n > 0 {
		o.Number = rel.Rollouts[n-1].Number + 1
	}
	rel.Rollouts = append(rel.Rollouts, o)
	if n := len(rel.Rollouts) - maxRollouts; n > 0 {
		rel.Rollouts = slices.Delete(rel.Rollouts, 0, n)
	}
}
