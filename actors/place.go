package actors

import (
	"slices"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// zonesAround gives a zone and those that it is in, from its own to the outermost. Zones that are gone end it.
func zonesAround(s *storage.Store, zone string) ([]string, error) {
	var chain []string
	for zone != "" && len(chain) < maxDepth {
		chain = append(chain, zone)
		rec, ok, err := s.Get(tableZones, zone)
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		z, err := decode(rec, &pb.Zone{})
		if err != nil {
			return nil, err
		}
		zone = z.Parent
	}
	return chain, nil
}

// inZone says whether a zone is another one, or in it.
func inZone(s *storage.Store, zone, in string) bool {
	if zone == in || zone == "" {
		return zone == in
	}
	chain, err := zonesAround(s, zone)
	return err == nil && slices.Contains(chain, in)
}

// zonesWithin gives a zone and all below it.
func (r *Registry) zonesWithin(zone string) ([]string, error) {
	all := []string{zone}
	for i := 0; i < len(all); i++ {
		prefix := usePrefix("zone-parent", all[i])
		for rec, err := range r.store.Scan(tableUses, prefix, "") {
			if err != nil {
				return nil, err
			}
			all = append(all, rec.Key[len(prefix):])
		}
	}
	return all, nil
}
