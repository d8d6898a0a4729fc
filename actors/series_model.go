package actors

import (
	"cmp"
	"fmt"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// SeriesModels says whose series in history have a label: a model's title, or that of the model that a driver has, as it was when the sample
// was taken. Titles are not unique, and change.
type SeriesModels struct {
	project string
	ids     map[string]bool
	// byLabel has the models' ids, and of a driver the label itself.
	byLabel map[string][]string
}

// SeriesModels reads those of a project, as they are now.
func (r *Registry) SeriesModels(project string) (*SeriesModels, error) {
	m := &SeriesModels{project: project, ids: map[string]bool{}, byLabel: map[string][]string{"": {""}}}
	for rec, err := range r.store.Scan(tableThings, project+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("read models: %w", err)
		}
		thing, err := decode(rec, &pb.Model{})
		if err != nil {
			return nil, err
		}
		label := cmp.Or(presentModel(thing).Title, rec.Key)
		m.ids[rec.Key] = true
		m.byLabel[label] = append(m.byLabel[label], rec.Key)
	}
	drivers := map[string]bool{}
	for rec, err := range r.store.Scan(tableDrivers, "", "") {
		if err != nil {
			return nil, fmt.Errorf("read drivers: %w", err)
		}
		d, err := decodeDriver(rec)
		if err != nil {
			return nil, err
		}
		s, err := parseSpec(d)
		if err != nil {
			return nil, err
		}
		if label := cmp.Or(s.title, s.name); !drivers[label] {
			drivers[label] = true
			m.byLabel[label] = append(m.byLabel[label], label)
		}
	}
	return m, nil
}

// ID is that of the model which a rule names; a name that is no model's is a label, and stays.
func (m *SeriesModels) ID(name string) string {
	if id := within(m.project, name); name != "" && m.ids[id] {
		return id
	}
	return name
}

// Of gives the models that series with a label may be of, and the label where it may be a driver's; none where nobody has the title any more.
func (m *SeriesModels) Of(label string) []string { return m.byLabel[label] }

// ModelKey tells models of twins apart: twins with the same key have the same model, with what the driver has found that a unit really has.
// A description that was not committed yet is not in it.
func (r *Registry) ModelKey(t *pb.Twin) (string, error) {
	spec, err := r.e.catalog.forTwin(t)
	if err != nil {
		return "", err
	}
	patch, _, err := r.store.Get(tableModels, t.Id)
	if err != nil {
		return "", fmt.Errorf("read the model of %s: %w", t.Id, err)
	}
	return spec.digest + string(patch.Value), nil
}
