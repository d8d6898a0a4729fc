package actors

import (
	"context"
	"fmt"
	"strings"

	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// progress counts the twins of a rollout as they are now. With very many the figures may be some seconds old.
func (r *Registry) progress(o *pb.Rollout) error {
	n, err := r.count(fmt.Sprintf("rollout %s %d %s %d", o.Driver, o.Number, o.Phase, o.Share), false, func() (map[string]uint64, error) {
		n := map[string]uint64{}
		err := r.eachUnpinned(o.Driver, func(t *pb.Twin) error {
			n["twins"]++
			yes, err := chosen(r.store, o, t)
			if err != nil {
				return err
			}
			if yes {
				n["chosen"]++
			}
			rec, ok, err := r.store.Get(tableStates, t.Id)
			if err != nil || !ok {
				return err
			}
			st, err := state.Decode(rec.Value)
			if err == nil && st.Version == o.Version {
				n["moved"]++
			}
			return err
		})
		return n, err
	})
	o.Twins, o.Chosen, o.Moved = n["twins"], n["chosen"], n["moved"]
	return err
}

// eachUnpinned calls fn with each twin that asks for the driver without a version.
func (r *Registry) eachUnpinned(name string, fn func(*pb.Twin) error) error {
	prefix := usePrefix("driver", name)
	for use, err := range r.store.Scan(tableUses, prefix, "") {
		if err != nil {
			return err
		}
		if len(use.Value) > 0 {
			continue
		}
		if err := r.visit(strings.TrimPrefix(use.Key, prefix), fn); err != nil {
			return err
		}
	}
	return nil
}

// moveTopics writes the index records of those twins that have another version by one release than by the other, where
// the versions bind them to other topics.
func (r *Registry) moveTopics(ctx context.Context, was, now *pb.Release) error {
	differ := map[[2]string]bool{}
	err := r.eachUnpinned(now.Driver, func(t *pb.Twin) error {
		pair, err := r.versionsWith(was, now, t)
		if err != nil || pair[0] == pair[1] {
			return err
		}
		a, errA := r.e.catalog.resolve(now.Driver + "@" + pair[0])
		b, errB := r.e.catalog.resolve(now.Driver + "@" + pair[1])
		if errA != nil || errB != nil {
			return nil // a version that is gone: the twin shows it
		}
		d, known := differ[pair]
		if !known {
			d = !sameBinding(a, b)
			differ[pair] = d
		}
		if !d {
			return nil
		}
		return r.reindexTwin(ctx, t.Id, a, b)
	})
	if err != nil {
		return fmt.Errorf("topics of the twins of %s: %w", now.Driver, err)
	}
	return nil
}

// versionsWith gives the versions that a twin has by two releases.
func (r *Registry) versionsWith(was, now *pb.Release, t *pb.Twin) (pair [2]string, err error) {
	for i, rel := range []*pb.Release{was, now} {
		ref, err := refWith(r.store, rel, t)
		if err != nil {
			return pair, err
		}
		if _, pair[i], err = parseRef(ref); err != nil {
			return pair, err
		}
		if pair[i] == "" {
			pair[i] = rel.Version
		}
	}
	return pair, nil
}
