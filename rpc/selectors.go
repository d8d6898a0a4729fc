package rpc

import (
	"fmt"

	"github.com/polluxhq/pollux/cluster"
)

// Selectors are what somebody wrote about his twins: a key of one project sees those that twins of that project have.

// classesOf counts the twins that the key's project has in each class of slots, but for the common one; nil: the key is of all projects.
func (s *Server) classesOf(p *Principal) (map[cluster.Class]uint32, error) {
	if p.Project == "" {
		return nil, nil
	}
	twins := map[cluster.Class]uint32{}
	for rec, err := range s.o.Store.Scan(cluster.TablePlace, p.Project+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("read places of twins: %w", err)
		}
		class, err := cluster.DecodeClass(rec.Value)
		if err != nil {
			return nil, fmt.Errorf("place of twin %s: %w", rec.Key, err)
		}
		twins[class]++
	}
	return twins, nil
}

// ownUnmet gives of the selectors that no node satisfies those that the caller may see, with the number of twins that he may see.
func (s *Server) ownUnmet(p *Principal, unmet map[string]uint32) (map[string]uint32, error) {
	if p.Project == "" || len(unmet) == 0 {
		return unmet, nil
	}
	twins, err := s.classesOf(p)
	if err != nil {
		return nil, err
	}
	own := map[string]uint32{}
	slots := s.o.Cluster.Slots()
	for i := range slots {
		n := twins[cluster.Slot(i).Class()]
		if _, none := unmet[slots[i].Selector]; none && n > 0 {
			own[slots[i].Selector] = n
		}
	}
	return own, nil
}
