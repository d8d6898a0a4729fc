package automation

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/polluxhq/pollux/actors/derive"
	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// scope is what expressions of a firing, or of an evaluation, may read.
type scope struct {
	world   World
	project string
	name    string
	subject string
	twin    *expr.Twin
	change  expr.Change
	due     time.Time
	count   int
	now     time.Time
	// read notes what was read, for those who ask why; nil: nobody does.
	read map[string]string
}

// input has the words that the expression has.
func (s *scope) input(x *program) (*expr.Input, error) {
	u := x.Uses()
	in := &expr.Input{Now: s.now, Twin: s.twin, Change: &s.change}
	vars, err := s.aggregates(x.aggregates)
	if err != nil {
		return nil, err
	}
	if x.past {
		vars[pastWord] = newLazy(s.past)
	}
	if u.Word("twins") {
		vars["twins"] = newLazy(s.twinByName)
	}
	if u.Word("system") {
		id := s.world.SystemOf(s.subject)
		members := s.world.Members(id)
		vars["system"] = newLazy(func(name string) (any, bool) {
			switch name {
			case "id":
				return id, id != ""
			}
			return s.twinByName(members[name])
		})
	}
	if u.Word("zone") {
		vars["zone"] = s.zone()
	}
	if u.Word("rule") {
		vars["rule"] = s.name
	}
	if u.Word("due") {
		vars["due"] = s.due
	}
	if u.Word("count") {
		vars["count"] = float64(s.count)
	}
	if len(vars) > 0 {
		in.Vars = vars
	}
	s.note(u)
	return in, nil
}

// aggregates computes those that an expression reads, of what is committed.
func (s *scope) aggregates(all []derive.Aggregate) (map[string]any, error) {
	if len(all) == 0 {
		return map[string]any{}, nil
	}
	var config *pb.Twin
	if s.twin != nil {
		config = s.twin.Config
	}
	if config == nil {
		config = &pb.Twin{Id: s.project + "/"}
	}
	vars, err := derive.Vars(all, func(set *derive.Set) ([]string, error) { return s.world.Sources(config, set) },
		func(id, property string) (derive.Reading, bool) {
			v, ok := s.world.View(id)
			if !ok || v.State == nil {
				return derive.Reading{}, false
			}
			p := v.State.Property(state.Intern(property))
			if p == nil {
				return derive.Reading{}, false
			}
			return derive.Reading{Value: p.Value, Good: p.Quality() == uint8(pb.Quality_QUALITY_GOOD)}, true
		})
	if err != nil {
		return nil, err
	}
	for i := range all {
		v, ok := vars[derive.Word(i)]
		if !ok {
			return nil, fmt.Errorf("%s: %w: no twin of it has a good value", &all[i], expr.ErrMissing)
		}
		if s.read != nil {
			if x, is := v.(state.Value); is {
				s.read[all[i].String()] = string(x.AppendJSON(nil))
			} else {
				s.read[all[i].String()] = jsonOf(v)
			}
		}
	}
	return vars, nil
}

// note keeps the values that an expression reads of its twin.
func (s *scope) note(u *expr.Uses) {
	if s.read == nil || s.twin == nil || s.twin.State == nil {
		return
	}
	for i := range s.twin.State.Properties {
		if p := &s.twin.State.Properties[i]; !u.All && u.Reads(p.Name.Value()) {
			s.read["twin.properties."+p.Name.Value()] = string(p.Value.AppendJSON(nil))
		}
	}
	for _, f := range u.Fields {
		switch f {
		case "status":
			s.read["twin.status"] = jsonOf(expr.StatusWord(s.twin.State.Shown(s.twin.Since)))
		case "zone":
			s.read["twin.zone"] = jsonOf(s.twin.Config.Zone)
		}
	}
}

// twinByName gives a twin as expressions see others: a map of its values by their names.
func (s *scope) twinByName(id string) (any, bool) {
	if id == "" {
		return nil, false
	}
	if !strings.Contains(id, "/") {
		id = s.project + "/" + id
	}
	if !strings.HasPrefix(id, s.project+"/") {
		return nil, false
	}
	v, ok := s.world.View(id)
	if !ok {
		return nil, false
	}
	properties := map[string]any{}
	status := expr.StatusWord(0)
	if v.State != nil {
		status = expr.StatusWord(v.State.Shown(v.Since))
		for i := range v.State.Properties {
			p := &v.State.Properties[i]
			properties[p.Name.Value()] = p.Value.Any()
		}
	}
	return map[string]any{"id": id, "zone": v.Config.Zone, "status": status,
		"properties": newLazy(func(name string) (any, bool) {
			x, ok := properties[name]
			if ok && s.read != nil {
				s.read[id+"."+name] = jsonOf(x)
			}
			return x, ok
		})}, true
}

func (s *scope) zone() map[string]any {
	id := ""
	if s.twin != nil {
		id = s.twin.Config.Zone
	}
	z := s.world.Zone(id)
	if z == nil {
		return map[string]any{"id": id, "title": "", "kind": "", "within": []string{}}
	}
	var up []string
	for at, n := z, 0; at != nil && n < 32; at, n = s.world.Zone(at.Parent), n+1 {
		up = append(up, at.Id)
	}
	return map[string]any{"id": z.Id, "title": z.Title, "kind": z.Kind, "within": up}
}

// scopeOf is what the expressions of a run may read: what it was decided by, and all else as it is now.
func (u *unit) scopeOf(run *pb.Run) (*scope, error) {
	project, name, _ := strings.Cut(u.id, "/")
	s := &scope{world: u.h.o.World, project: project, name: name, subject: run.Subject, now: u.h.o.Now(), due: run.Time.AsTime()}
	if run.Due != nil {
		s.due = run.Due.AsTime()
	}
	if run.Subject != "" {
		if v, ok := u.h.o.World.View(run.Subject); ok {
			s.twin = v
		}
	}
	var err error
	text := func(name string, to *string) {
		if v := run.Values[name]; v != "" && err == nil {
			err = json.Unmarshal([]byte(v), to)
		}
	}
	text("kind", &s.change.Kind)
	text("name", &s.change.Name)
	for name, to := range map[string]*state.Value{"value": &s.change.Value, "previous": &s.change.Previous} {
		if v := run.Values[name]; v != "" && err == nil {
			*to, err = state.ParseValue([]byte(v))
		}
	}
	s.change.Time = run.Time.AsTime().UnixMilli()
	if err != nil {
		return nil, fmt.Errorf("values of run %d of %s: %w", run.Number, u.address, err)
	}
	return s, nil
}
