package actors

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/types/known/structpb"
)

// tableSettings: scope (driver/NAME, zone/ID, system/ID, twin/ID) → pb.SettingsRecord. A twin's present settings are in
// its own record; here are its versions.
const tableSettings storage.Table = "settings"

// layer is what one scope sets, secrets open. Not to be changed.
type layer struct {
	scope  string
	values map[string]any
}

// layers finds the settings that a twin has from others. What it read it keeps until settings, zones or systems change.
// Safe for concurrent use.
type layers struct {
	store  *storage.Store
	sealer *sealer

	mu     sync.Mutex
	change uint64
	scopes map[string]*layer   // nil: it sets nothing
	zones  map[string][]string // from a zone to the outermost
	some   map[string]bool     // whether there is any system with members
}

func newLayers(s *storage.Store, seals *sealer) *layers {
	return &layers{store: s, sealer: seals, scopes: map[string]*layer{}, zones: map[string][]string{}, some: map[string]bool{}}
}

// maxLayers bounds what is kept of each kind.
const maxLayers = 100_000

// changed forgets what was read.
func (l *layers) changed() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.change++
	clear(l.scopes)
	clear(l.zones)
	clear(l.some)
}

// cached gives an entry of a map of l, read where it is not there.
func cached[T any](l *layers, of map[string]T, key string, read func() (T, error)) (T, error) {
	l.mu.Lock()
	v, ok := of[key]
	change := l.change
	l.mu.Unlock()
	if ok {
		return v, nil
	}
	v, err := read()
	if err != nil {
		return v, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.change == change {
		if len(of) >= maxLayers {
			clear(of)
		}
		of[key] = v
	}
	return v, nil
}

// scope gives what a scope sets, or nil.
func (l *layers) scope(name string) (*layer, error) {
	return cached(l, l.scopes, name, func() (*layer, error) {
		rec, ok, err := l.store.Get(tableSettings, name)
		if err != nil || !ok {
			return nil, err
		}
		r, err := decode(rec, &pb.SettingsRecord{})
		if err != nil || len(r.Versions) == 0 {
			return nil, err
		}
		return l.opened(name, r.Versions[len(r.Versions)-1].Values)
	})
}

// opened gives stored settings with their secrets open; nil where there are none.
func (l *layers) opened(scope string, stored *structpb.Struct) (*layer, error) {
	if len(stored.GetFields()) == 0 {
		return nil, nil
	}
	values := stored.AsMap()
	if err := l.sealer.openSettings(scope, values); err != nil {
		return nil, err
	}
	return &layer{scope, values}, nil
}

func (l *layers) around(zone string) ([]string, error) {
	if zone == "" {
		return nil, nil
	}
	return cached(l, l.zones, zone, func() ([]string, error) { return zonesAround(l.store, zone) })
}

// systemsOf gives the systems that a twin is in, by their ids.
func (l *layers) systemsOf(id string) ([]string, error) {
	const kind = "member\x00"
	some, err := cached(l, l.some, kind, func() (bool, error) {
		for _, err := range l.store.Scan(tableUses, kind, "") {
			return err == nil, err
		}
		return false, nil
	})
	if err != nil || !some {
		return nil, err
	}
	var all []string
	prefix := usePrefix("member", id)
	for rec, err := range l.store.Scan(tableUses, prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("systems of %s: %w", id, err)
		}
		all = append(all, rec.Key[len(prefix):])
	}
	return all, nil
}

// scopesOf names the scopes whose settings a twin has, the weakest first; its own is not among them.
func (l *layers) scopesOf(t *pb.Twin, driver string) ([]string, error) {
	names := []string{"driver/" + driver}
	zones, err := l.around(t.Zone)
	if err != nil {
		return nil, err
	}
	for _, z := range slices.Backward(zones) {
		names = append(names, "zone/"+z)
	}
	systems, err := l.systemsOf(t.Id)
	for _, s := range systems {
		names = append(names, "system/"+s)
	}
	return names, err
}

// guards hold the settings of others that a twin has as they are.
func (l *layers) guards(t *pb.Twin, driver string) ([]storage.Guard, error) {
	names, err := l.scopesOf(t, driver)
	if err != nil {
		return nil, err
	}
	var all []storage.Guard
	for _, name := range names {
		rec, _, err := l.store.Get(tableSettings, name)
		if err != nil {
			return nil, err
		}
		all = append(all, storage.Guard{Table: tableSettings, Key: name, Revision: rec.Revision})
	}
	return all, nil
}

// of gives the layers of a twin's settings, the weakest first, its own last. Of others it has what its driver knows: a
// zone has twins of many drivers. instead, where not nil, stands for the layer of its scope.
func (l *layers) of(t *pb.Twin, s *spec, instead *layer) ([]*layer, error) {
	names, err := l.scopesOf(t, s.name)
	if err != nil {
		return nil, err
	}
	var all []*layer
	for _, name := range names {
		one := instead
		if instead == nil || instead.scope != name {
			if one, err = l.scope(name); err != nil {
				return nil, err
			}
		}
		if one = one.known(s.model); one != nil {
			all = append(all, one)
		}
	}
	own, err := l.opened("twin/"+t.Id, t.Settings)
	if err != nil {
		return nil, err
	}
	if own != nil {
		all = append(all, own)
	}
	return all, nil
}

// known gives what a model has settings for; nil where there is nothing.
func (l *layer) known(m *drivers.Model) *layer {
	if l == nil {
		return nil
	}
	values := map[string]any{}
	for name, v := range l.values {
		if m.HasSetting(name) {
			values[name] = v
		}
	}
	if len(values) == 0 {
		return nil
	}
	return &layer{l.scope, values}
}

// merged puts layers over each other. Nothing of the layers is changed.
func merged(all []*layer) map[string]any {
	out := map[string]any{}
	for _, l := range all {
		mergeSettings(out, l.values)
	}
	return out
}

func mergeSettings(to, from map[string]any) {
	for k, v := range from {
		inner, isMap := v.(map[string]any)
		if !isMap {
			to[k] = v
			continue
		}
		was, wasMap := to[k].(map[string]any)
		if !wasMap {
			was = map[string]any{}
		} else {
			was = maps.Clone(was)
		}
		mergeSettings(was, inner)
		to[k] = was
	}
}

// settingsOf gives what a twin is given in all, before defaults.
func (l *layers) settingsOf(t *pb.Twin, s *spec, instead *layer) (map[string]any, error) {
	all, err := l.of(t, s, instead)
	if err != nil {
		return nil, err
	}
	return merged(all), nil
}

// fullSettings gives all that a twin has, defaults included.
func (e *Engine) fullSettings(t *pb.Twin, s *spec) (map[string]any, error) {
	given, err := e.layers.settingsOf(t, s, nil)
	if err != nil {
		return nil, err
	}
	return s.applyMap(given)
}

// givenJSON is settingsOf as JSON.
func (l *layers) givenJSON(t *pb.Twin, s *spec) ([]byte, error) {
	given, err := l.settingsOf(t, s, nil)
	if err != nil || len(given) == 0 {
		return noSettings, err
	}
	text, err := json.Marshal(given)
	if err != nil {
		return nil, fmt.Errorf("settings of %s: %w", t.Id, err)
	}
	return text, nil
}
