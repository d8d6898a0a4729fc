package actors

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// indexes are the records by which a twin is found.
func indexes(t *pb.Twin, s *spec, settings map[string]any, slot cluster.Slot) (map[storage.Table]map[string][]byte, error) {
	ix := map[storage.Table]map[string][]byte{tableUses: {}, tableAliases: {}, tableStart: {}, tableTopics: {}, tableShapes: {}, tableReadings: {}}
	yes := []byte{1}
	project := ProjectOf(t.Id)
	if t.Model != "" {
		ix[tableUses][useKey("model", t.Model, t.Id)] = yes
	} else {
		_, version, err := parseRef(t.Driver)
		if err != nil {
			return nil, err
		}
		ix[tableUses][useKey("driver", s.name, t.Id)] = append([]byte{}, version...)
	}
	if t.Zone != "" {
		ix[tableUses][useKey("zone", t.Zone, t.Id)] = yes
	}
	if t.Via != "" {
		ix[tableUses][useKey("twin", t.Via, t.Id)] = yes
	}
	if len(t.Derived) > 0 {
		ix[tableUses][useKey("derived", "", t.Id)] = yes
	}
	for k, v := range t.Labels {
		ix[tableUses][useKey("label", project+"\x00"+k+"\x00"+v, t.Id)] = yes
	}
	for _, a := range t.Aliases {
		ix[tableAliases][aliasKey(project, a.Network, a.Key, a.Value)] = []byte(t.Id)
	}
	if s.dials(t.Uri) && !t.Stopped {
		ix[tableStart][slotIDKey(slot, t.Id)] = yes
	}
	if len(t.Reads) > 0 && !t.Stopped {
		value, err := proto.MarshalOptions{Deterministic: true}.Marshal(&actorv1.Readings{Reads: t.Reads})
		if err != nil {
			return nil, fmt.Errorf("topics of %s: %w", t.Id, err)
		}
		ix[tableReadings][t.Id] = value
	}
	if tr := s.via(t.Uri); tr != nil && (tr.Scheme == drivers.SchemeTCPIn || tr.Scheme == drivers.SchemeUDPIn) {
		ix[tableUses][useKey("inbound", "", t.Id)] = yes
	}
	subscribe, _, _, err := s.bindings(t.Uri, settings)
	if err != nil {
		return nil, err
	}
	for _, filter := range subscribe {
		shape, err := shapeOf(filter)
		if err != nil || len(filter) > 512 {
			return nil, invalid("/settings", "%q is no MQTT filter", filter)
		}
		ix[tableTopics][topicKey(filter, t.Id)] = yes
		ix[tableShapes][shape.key()] = yes
	}
	return ix, nil
}

// diff writes what is new and deletes what is not needed any more. Shapes stay: they are few, and others may use them.
func (r *Registry) diff(old, now map[storage.Table]map[string][]byte) []storage.Write {
	var w []storage.Write
	for table, records := range now {
		for key, value := range records {
			if was, ok := old[table][key]; ok && string(was) == string(value) {
				continue
			}
			if table == tableShapes {
				if _, ok, err := r.store.Get(table, key); err == nil && ok {
					continue
				}
			}
			w = append(w, storage.Write{Table: table, Key: key, Value: value})
		}
	}
	for table, records := range old {
		for key := range records {
			if _, kept := now[table][key]; !kept && table != tableShapes {
				w = append(w, storage.Write{Table: table, Key: key})
			}
		}
	}
	return w
}

// indexesOf are the index records that a stored twin has; where its driver is gone, those that do not need it.
func (r *Registry) indexesOf(t *pb.Twin, slot cluster.Slot) map[storage.Table]map[string][]byte {
	s, err := r.e.catalog.forTwin(t)
	if err == nil {
		if full, err := r.e.fullSettings(t, s); err == nil {
			if ix, err := indexes(t, s, full, slot); err == nil {
				return ix
			}
		}
	}
	name, _, _ := parseRef(t.Driver)
	ix, err := indexes(t, &spec{name: name}, nil, slot)
	if err != nil {
		return nil
	}
	return ix
}

// joins marks a gateway that gets a new user, so that its deletion, which may be under way, notices.
func joins(old, via string) []storage.Write {
	if via == "" || via == old {
		return nil
	}
	return []storage.Write{{Table: tableUses, Key: joinKey(via), Value: []byte{1}}}
}

// freeAliases guards that the new aliases are nobody else's.
func freeAliases(p *prepared, old map[storage.Table]map[string][]byte) []storage.Guard {
	var g []storage.Guard
	for key := range p.indexes[tableAliases] {
		if _, mine := old[tableAliases][key]; !mine {
			g = append(g, storage.Guard{Table: tableAliases, Key: key})
		}
	}
	return g
}
