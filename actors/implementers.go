package actors

import (
	"errors"
	"slices"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Implementers gives the drivers that implement each standard interface in the version that twins get which ask for none.
func (r *Registry) Implementers() (map[string][]string, error) {
	by := map[string][]string{}
	last := ""
	for rec, err := range r.store.Scan(tableDrivers, "", "") {
		if err != nil {
			return nil, err
		}
		d, err := decodeDriver(rec)
		if err != nil {
			return nil, err
		}
		if d.Name == last {
			continue
		}
		last = d.Name
		s, err := r.e.catalog.resolve(d.Name)
		if err != nil {
			continue // it went meanwhile
		}
		for _, name := range s.manifest.Interfaces {
			by[name] = append(by[name], d.Name)
		}
	}
	return by, nil
}

// members narrows a filter's ids to the twins of its system.
func (r *Registry) members(f *pb.TwinFilter) ([]string, error) {
	if f.System == "" {
		return f.Ids, nil
	}
	id, err := CanonicalID(f.System)
	if err != nil {
		return nil, err
	}
	if f.Project != "" && f.Project != ProjectOf(id) {
		return nil, invalid("/filter/system", "%s is in another project than %s", id, f.Project)
	}
	s, err := get(r.store, tableSystems, id, &pb.System{})
	if errors.Is(err, ErrNotFound) {
		return nil, invalid("/filter/system", "there is no system %s", id)
	}
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for _, m := range s.Members {
		if len(f.Ids) == 0 || slices.ContainsFunc(f.Ids, func(id string) bool { return id == m.Twin || "default/"+id == m.Twin }) {
			ids = append(ids, m.Twin)
		}
	}
	return ids, nil
}
