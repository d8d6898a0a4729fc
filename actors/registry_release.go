package actors

import (
	"errors"
	"fmt"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// released gives what an upload writes of the driver's release, guarded.
func (r *Registry) released(name, version string, stage bool) ([]storage.Guard, []storage.Write, error) {
	rel, err := readRelease(r.store, name)
	if err != nil {
		return nil, nil, err
	}
	if rel == nil {
		rel = &pb.Release{Driver: name}
		old, err := findDriver(r.store, name, "")
		switch {
		case errors.Is(err, ErrNotFound): // the first version
		case err != nil:
			return nil, nil, err
		case stage:
			rel.Version = old.Version
		}
		if rel.Version == "" {
			return []storage.Guard{{Table: tableReleases, Key: name}}, nil, nil
		}
	} else if stage || active(rel) != nil || !newer(version, rel.Version) {
		return []storage.Guard{{Table: tableReleases, Key: name, Revision: rel.Revision}}, nil, nil
	} else {
		rel.Previous, rel.Version = rel.Version, version
	}
	guard, write, err := releaseWrite(rel)
	return []storage.Guard{guard}, []storage.Write{write}, err
}

func (r *Registry) presented(d *pb.Driver, created bool, err error) (*pb.Driver, bool, error) {
	if err != nil {
		return nil, false, err
	}
	return d, created, r.presentDriver(d)
}

// presentDriver fills in what is not in the record.
func (r *Registry) presentDriver(d *pb.Driver) (err error) {
	d.Twins, err = r.driverTwins(d)
	if current, fails := r.current(d.Name); fails == nil {
		d.Current = current == d.Version
	}
	if n, fails := r.Quarantined(d.Name, d.Version); fails == nil {
		d.Quarantined = uint64(n)
	}
	return err
}

// driverTwins counts the twins that use a version, now.
func (r *Registry) driverTwins(d *pb.Driver) (uint64, error) {
	uses, err := r.count("driver "+d.Name, false, func() (map[string]uint64, error) {
		uses := map[string]uint64{}
		for rec, err := range r.store.Scan(tableUses, usePrefix("driver", d.Name), "") {
			if err != nil {
				return nil, err
			}
			version := string(rec.Value)
			if version == "" {
				if version, err = r.rolled(d.Name, strings.TrimPrefix(rec.Key, usePrefix("driver", d.Name))); err != nil {
					return nil, err
				}
			}
			uses[version]++
		}
		return uses, nil
	})
	if err != nil {
		return 0, fmt.Errorf("twins of driver %s: %w", d.Name, err)
	}
	n := uses[d.Version]
	if current, err := r.current(d.Name); err == nil && current == d.Version {
		n += uses[""]
	}
	return n, nil
}

// rolled gives the version that a rollout brings to a twin which asks for none, or "".
func (r *Registry) rolled(name, id string) (string, error) {
	rel, err := r.e.catalog.release(name)
	o := active(rel)
	if err != nil || o == nil {
		return "", err
	}
	t := &pb.Twin{Id: id, Driver: name}
	if o.Selector != nil {
		if t, err = get(r.store, tableTwins, id, t); err != nil {
			return "", nil //nolint:nilerr // it is gone
		}
		t.Id = id
	}
	ref, err := refWith(r.store, rel, t)
	if err != nil {
		return "", err
	}
	_, version, err := parseRef(ref)
	return version, err
}
