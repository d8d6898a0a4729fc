package actors

import (
	"fmt"
	"slices"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Topics gives the MQTT filters of a twin's device, as the twin's settings make them: where it may publish (what the twin
// listens to, the driver's device_publish, and the topics that spell one of its aliases) and what it may subscribe to (where the driver publishes, and its
// device_subscribe). Those of a driver that does not speak MQTT are none, and none is another project's. ErrNotFound where there is no such twin.
func (r *Registry) Topics(id string) (publish, subscribe []string, err error) {
	if id, err = CanonicalID(id); err != nil {
		return nil, nil, err
	}
	t, err := r.e.readTwin(id)
	if err != nil {
		return nil, nil, err
	}
	if t == nil {
		return nil, nil, fmt.Errorf("twin %s: %w", id, ErrNotFound)
	}
	s, err := r.e.catalog.forTwin(t)
	if err != nil {
		return nil, nil, err
	}
	settings, err := r.e.fullSettings(t, s)
	if err != nil {
		return nil, nil, err
	}
	if publish, subscribe, _, err = s.bindings(t.Uri, settings); err != nil {
		return nil, nil, err
	}
	if tr := s.via(t.Uri); tr.OwnBroker(t.Uri) {
		morePublish, err := filters(tr.DevicePublish, settings)
		if err != nil {
			return nil, nil, err
		}
		moreSubscribe, err := filters(tr.DeviceSubscribe, settings)
		if err != nil {
			return nil, nil, err
		}
		publish, subscribe = append(publish, morePublish...), append(subscribe, moreSubscribe...)
	}
	for _, a := range t.Aliases {
		if !strings.ContainsAny(a.Network+a.Key+a.Value, "/+#\x00") {
			publish = append(publish, ProjectOf(id)+"/"+a.Network+"/"+a.Key+"/"+a.Value+"/#")
		}
	}
	others := func(filter string) bool { return r.e.othersTopic(ProjectOf(id), filter) != "" }
	return slices.DeleteFunc(distinct(publish), others), slices.DeleteFunc(distinct(subscribe), others), nil
}

// Warnings says what is allowed of a twin's configuration, and may not be meant: that another twin is bound to one of its
// MQTT filters, too.
func (r *Registry) Warnings(t *pb.Twin) []string {
	stored, err := get(r.store, tableTwins, t.GetId(), &pb.Twin{})
	if err != nil {
		return nil
	}
	s, err := r.e.catalog.forTwin(stored)
	if err != nil {
		return nil
	}
	full, err := r.e.fullSettings(stored, s)
	if err != nil {
		return nil
	}
	subscribe, _, _, err := s.bindings(stored.Uri, full)
	if err != nil {
		return nil
	}
	var all []string
	for _, filter := range distinct(subscribe) {
		for _, other := range r.bound(filter, maxNamed+1) {
			switch {
			case other == stored.Id:
			case ProjectOf(other) == ProjectOf(stored.Id):
				all = append(all, fmt.Sprintf("the twin %s has the MQTT topic %q, too: both get its messages", other, filter))
			default:
				all = append(all, fmt.Sprintf("a twin of another project has the MQTT topic %q, too: both get its messages", filter))
			}
		}
	}
	return all[:min(len(all), maxNamed)]
}

// maxNamed bounds the twins that a warning names.
const maxNamed = 10

// bound gives some of the twins that are bound to a filter.
func (r *Registry) bound(filter string, limit int) (ids []string) {
	for rec, err := range r.store.Scan(tableTopics, filter+"\x00", "") {
		if err != nil || len(ids) == limit {
			break
		}
		ids = append(ids, rec.Key[len(filter)+1:])
	}
	return ids
}

// claimed says whether a device of the inbox has a twin that does not name its alias: one that is bound to its topics.
func (r *Registry) claimed(x *pb.InboxEntry) bool {
	filters, err := r.topicsOf(x)
	if err != nil {
		return false
	}
	project, _, _ := strings.Cut(x.Id, "/")
	for _, filter := range filters {
		for _, id := range r.bound(filter, maxNamed) {
			if id != x.Via && ProjectOf(id) == project {
				return true
			}
		}
	}
	return false
}

// topicsOf gives the MQTT filters that a twin for a device of the inbox would have.
func (r *Registry) topicsOf(x *pb.InboxEntry) ([]string, error) {
	if x.Driver == "" {
		return nil, nil
	}
	s, err := r.e.catalog.resolve(x.Driver)
	if err != nil || !s.ownBroker("") {
		return nil, err
	}
	given := []byte(x.SettingsJson)
	if len(given) == 0 {
		given = noSettings
	}
	full, _, err := s.apply(given)
	if err != nil {
		return nil, err
	}
	subscribe, _, _, err := s.bindings("", full)
	return subscribe, err
}

// claims gives the inbox's records of devices that a twin of these topics speaks for.
func (r *Registry) claims(p *prepared) (keys []string) {
	if len(p.indexes[tableTopics]) == 0 {
		return nil
	}
	project := ProjectOf(p.twin.Id)
	var texts []string
	for _, v := range p.twin.Settings.GetFields() {
		if s := v.GetStringValue(); s != "" {
			texts = append(texts, s)
		}
	}
	for rec, err := range r.store.Scan(tableInbox, project+"/", "") {
		if err != nil {
			break
		}
		x, err := decode(rec, &pb.InboxEntry{})
		if err != nil || x.Via == p.twin.Id || !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(x.SettingsJson, s) }) {
			continue
		}
		filters, err := r.topicsOf(x)
		if err == nil && slices.ContainsFunc(filters, func(f string) bool { return p.indexes[tableTopics][topicKey(f, p.twin.Id)] != nil }) {
			keys = append(keys, rec.Key)
		}
		if len(keys) == maxDiscovered {
			break
		}
	}
	return keys
}

func distinct(filters []string) []string {
	slices.Sort(filters)
	return slices.Compact(filters)
}
