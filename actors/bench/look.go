package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/polluxhq/pollux/drivers/script"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// look compares what the twin shows with what the step says, as time passes as long as the step allows.
func (r *rig) look(ctx context.Context, s *script.Step) *Failure {
	var want, got any
	fits := false
	if f := r.waits(s, func() (bool, error) {
		var err error
		want, got, err = r.shown(ctx, s)
		fits = err == nil && script.Within(want, got)
		return fits, err
	}); f != nil || fits {
		return f
	}
	return &Failure{Text: fmt.Sprintf("the %s is not as expected%s", s.Kind, within(s)), Expected: script.JSON(want), Got: script.JSON(got),
		Diff: script.Diff(want, got, true)}
}

// shown gives what the step wants and what there is of it.
func (r *rig) shown(ctx context.Context, s *script.Step) (want, got any, err error) {
	if s.Kind == script.Discovered {
		return r.discoveries(s)
	}
	st, err := r.node.engine.Client().State(ctx, r.id, s.Kind == script.Model)
	if err != nil {
		return nil, nil, err
	}
	all := map[string]any{}
	switch s.Kind {
	case script.Model:
		var model any
		err := json.Unmarshal([]byte(st.ModelJson), &model)
		return s.Input, model, err
	case script.State:
		for name, p := range st.Properties {
			all[name] = p.Value.AsInterface()
		}
	case script.Quality:
		for name, p := range st.Properties {
			all[name] = shortName(p.Quality.String(), "QUALITY_")
		}
	case script.Desired:
		for name, d := range st.Desired {
			all[name] = shortName(d.Progress.String(), "PROGRESS_")
		}
	case script.Status:
		return r.status(s, st)
	}
	return named(s.Values, all)
}

// named keeps of what there is what the step names. null stands for what is not there.
func named(want, all map[string]any) (any, any, error) {
	got := map[string]any{}
	for name := range want {
		if v, ok := all[name]; ok {
			got[name] = v
		}
	}
	return want, got, nil
}

func shortName(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

// status compares the connection and the fault. A fault has to contain what is expected; "" is none.
func (r *rig) status(s *script.Step, st *pb.TwinState) (want, got any, err error) {
	all := map[string]any{"connection": shortName(st.Status.Connection.String(), "CONNECTION_"), "fault": st.Status.Fault, "queued": float64(st.Queued),
		"version": st.DriverVersion}
	for name := range s.Values {
		if _, ok := all[name]; !ok {
			return nil, nil, fmt.Errorf("status has no %q; it has %s", name, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
		}
	}
	wants := maps.Clone(s.Values)
	if part, ok := wants["fault"].(string); ok && part != "" && contains(st.Status.Fault, part) {
		wants["fault"] = st.Status.Fault
	}
	return named(wants, all)
}

// discoveries gives the entry of the inbox that fits, or all there are.
func (r *rig) discoveries(s *script.Step) (want, got any, err error) {
	list, err := r.node.engine.Registry().ListInbox(&pb.ListInboxRequest{Project: r.project}, nil)
	if err != nil {
		return nil, nil, err
	}
	all := []any{}
	for _, e := range list.Entries {
		raw, err := protojson.Marshal(e.Alias)
		if err != nil {
			return nil, nil, err
		}
		entry := map[string]any{}
		if err := json.Unmarshal(raw, &entry); err != nil {
			return nil, nil, err
		}
		entry["driver"], entry["name"] = e.Driver, e.Name
		if e.SettingsJson != "" {
			entry["settings"] = script.Plain(json.RawMessage(e.SettingsJson))
		}
		if script.Within(s.Values, entry) {
			return s.Values, entry, nil
		}
		all = append(all, entry)
	}
	return s.Values, all, nil
}
