package actors

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/search"
	"github.com/polluxhq/pollux/actors/simulation"
	"github.com/polluxhq/pollux/actors/sink"
	inflow "github.com/polluxhq/pollux/actors/source"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Search gives the node's index of configuration. It is made when it is first asked.
func (e *Engine) Search() *search.Searcher { return e.searcher }

// newSearcher makes the index of the kinds of records that can be found. Kinds whose titles are found in others come first.
func newSearcher(e *Engine) *search.Searcher {
	return search.New(search.Options{Store: e.store, Logger: e.log, Metrics: e.o.Metrics, States: tableStates,
		Since: func(id string) uint64 { _, since := e.where(id); return since },
		Sight: func(id string) (*expr.Twin, error) {
			t, err := e.readTwin(id)
			if err != nil || t == nil {
				return nil, err
			}
			st, since := e.stored(id)
			view := e.sight(t, st, since)
			return &view, nil
		},
		Sources: []search.Source{
			{Kind: search.KindDriver, Table: tableDrivers, ID: func(key string) string { name, _, _ := strings.Cut(key, "/"); return name },
				Read: func(name string) (*search.Entry, error) { return driverEntry(e.store, name) }},
			source(e.store, search.KindModel, tableThings, modelEntry),
			source(e.store, search.KindZone, tableZones, func(z *pb.Zone) *search.Entry {
				return &search.Entry{ID: z.Id, Title: z.Title, Zone: z.Parent, Words: []string{z.Kind}}
			}),
			source(e.store, search.KindSystem, tableSystems, systemEntry),
			source(e.store, "topic", topic.TableTopics, func(t *pb.Topic) *search.Entry { return &search.Entry{ID: t.Id, Title: t.Title} }),
			source(e.store, "route", tableRoutes, e.routeEntry),
			source(e.store, "schedule", automation.TableSchedules, func(m *pb.Schedule) *search.Entry { return &search.Entry{ID: m.Id, Title: m.Title} }),
			source(e.store, "rule", automation.TableRules, func(m *pb.Rule) *search.Entry {
				return &search.Entry{ID: m.Id, Title: m.Title, Words: []string{m.If, m.Until}}
			}),
			source(e.store, "alarm", automation.TableAlarms, func(m *pb.Alarm) *search.Entry {
				return &search.Entry{ID: m.Id, Title: m.Text, Zone: m.Zone, Words: []string{m.Twin, m.By, m.AssignedTo}}
			}),
			source(e.store, "relation", tableRelations, func(m *pb.Relation) *search.Entry {
				return &search.Entry{ID: m.Id, Title: m.Title, Words: []string{m.From, m.Type, m.To}}
			}),
			source(e.store, "sink", sink.TableSinks, func(m *pb.Sink) *search.Entry {
				return &search.Entry{ID: m.Id, Title: m.Title, Words: append(hostOf(m.Url), m.Topic)}
			}),
			source(e.store, "source", inflow.TableSources, func(m *pb.Source) *search.Entry {
				return &search.Entry{ID: m.Id, Title: m.Title, Words: hostOf(m.Url)}
			}),
			source(e.store, "notifier", notify.TableNotifiers, func(m *pb.Notifier) *search.Entry {
				return &search.Entry{ID: m.Id, Title: m.Title}
			}),
			source(e.store, "simulation", simulation.TableSimulations, func(m *pb.Simulation) *search.Entry {
				return &search.Entry{ID: m.Id, Title: m.Title, Model: m.Model}
			}),
			source(e.store, "detector", tableDetectors, func(m *pb.Detector) *search.Entry {
				return &search.Entry{ID: m.Id, Title: m.Title, Words: []string{m.Property}}
			}),
			source(e.store, search.KindTwin, tableTwins, e.twinEntry),
		}})
}

// source is a kind with one record for each entry.
func source[M interface {
	*T
	proto.Message
}, T any](s *storage.Store, kind string, table storage.Table, entry func(M) *search.Entry) search.Source {
	return search.Source{Kind: kind, Table: table, Read: func(id string) (*search.Entry, error) {
		rec, ok, err := s.Get(table, id)
		if err != nil || !ok {
			return nil, err
		}
		m := M(new(T))
		if err := proto.Unmarshal(rec.Value, m); err != nil {
			return nil, fmt.Errorf("read %s %s: %w", kind, id, err)
		}
		return entry(m), nil
	}}
}

// hostOf gives the scheme and the host of a URL, without what may be a password.
func hostOf(text string) []string {
	u, err := url.Parse(text)
	if err != nil {
		return nil
	}
	return []string{u.Scheme, u.Hostname()}
}

// twinEntry is that of a twin; one with code of the user's is a logic, too.
func (e *Engine) twinEntry(t *pb.Twin) *search.Entry {
	entry := twinEntry(t)
	if t.Driver == "" {
		return entry
	}
	if s, err := e.catalog.forTwin(t); err == nil && s.manifest.Kind == drivers.KindLogic {
		entry.As = search.KindLogic
	}
	return entry
}

func twinEntry(t *pb.Twin) *search.Entry {
	driver, _, _ := strings.Cut(t.Driver, "@")
	e := &search.Entry{ID: t.Id, Driver: driver, Model: t.Model, Zone: t.Zone, Labels: t.Labels, Stopped: t.Stopped, Words: []string{t.Via}}
	e.Words = append(e.Words, hostOf(t.Uri)...)
	for _, a := range t.Aliases {
		e.Words = append(e.Words, a.Key, a.Value)
	}
	if at, ok := expr.ParsePoint(t.Labels["location"]); ok {
		e.At = &at
	}
	return e
}

func modelEntry(m *pb.Model) *search.Entry {
	t := thingText([]byte(m.ThingJson))
	return &search.Entry{ID: m.Id, Title: t.Title, Detail: t.Description, Words: t.words()}
}

// thing is what is found of a Thing Model.
type thing struct {
	Title, Description          string
	Properties, Actions, Events map[string]struct{ Title, Description string }
}

// thingText reads what a Thing Model says; what is none says nothing.
func thingText(text []byte) (t thing) {
	_ = json.Unmarshal(text, &t)
	return t
}

func (t *thing) words() (all []string) {
	for _, kind := range []map[string]struct{ Title, Description string }{t.Properties, t.Actions, t.Events} {
		for name, x := range kind {
			all = append(all, name, x.Title)
		}
	}
	return all
}

func systemEntry(s *pb.System) *search.Entry {
	e := &search.Entry{ID: s.Id, Title: s.Title, Zone: s.Zone}
	for _, m := range s.Members {
		e.Words = append(e.Words, m.Name, NameOf(m.Twin))
	}
	return e
}

// routeEntry is that of a route. A model that it names as people do is the one of its project, as for twins.
func (e *Engine) routeEntry(r *pb.Route) *search.Entry {
	model := r.Model
	if id := within(ProjectOf(r.Id), model); model != "" && e.registry.hasModel(id) {
		model = id
	}
	return &search.Entry{ID: r.Id, Driver: r.Driver, Model: model, Zone: r.Zone, Labels: r.Labels,
		Words: append(append(append([]string{r.When}, r.Topics...), r.Properties...), r.Events...)}
}

// driverEntry is that of the newest version of a driver. Its title is the one of its model, as twins show it.
func driverEntry(s *storage.Store, name string) (*search.Entry, error) {
	d, err := findDriver(s, name, "")
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var manifest struct{ Model json.RawMessage }
	_ = json.Unmarshal([]byte(d.ManifestJson), &manifest) // it was checked when it came
	t := thingText(manifest.Model)
	return &search.Entry{ID: name, Title: cmp.Or(t.Title, d.Title), Names: []string{d.Title}, Detail: cmp.Or(d.Description, t.Description),
		Words: append(append(t.words(), d.Interfaces...), d.Transports...)}, nil
}
