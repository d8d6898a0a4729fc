package rpc

import (
	"errors"
	"strings"
	"testing"
)

// TestAuthorizeMatrix holds who may do what. The last column is the only yes there is.
func TestAuthorizeMatrix(t *testing.T) {
	yes := map[Action][]Role{
		ActionTwinRead:       {RoleViewer, RoleOperator, RoleAdmin},
		ActionTwinUse:        {RoleOperator, RoleAdmin},
		ActionTwinTrace:      {RoleOperator, RoleAdmin},
		ActionTwinConfigure:  {RoleAdmin},
		ActionDriverRead:     {RoleViewer, RoleOperator, RoleAdmin},
		ActionDriverWrite:    {RoleAdmin},
		ActionSiteRead:       {RoleViewer, RoleOperator, RoleAdmin},
		ActionSiteWrite:      {RoleAdmin},
		ActionTopicRead:      {RoleViewer, RoleOperator, RoleAdmin},
		ActionTopicUse:       {RoleOperator, RoleAdmin},
		ActionTopicWrite:     {RoleAdmin},
		ActionIngest:         {RoleOperator, RoleAdmin},
		ActionClusterRead:    {RoleViewer, RoleOperator, RoleAdmin},
		ActionClusterOperate: {RoleAdmin},
		ActionKeyRead:        {RoleAdmin},
		ActionKeyWrite:       {RoleAdmin},
		ActionSessionCreate:  {RoleViewer, RoleOperator, RoleAdmin},
		ActionMetricsRead:    {RoleViewer, RoleOperator, RoleAdmin},
		ActionReflect:        {RoleViewer, RoleOperator, RoleAdmin},
	}
	// What a key of one project may do on what belongs to no project.
	shared := map[Action]bool{ActionDriverRead: true, ActionClusterRead: true, ActionSessionCreate: true, ActionReflect: true}
	for a := ActionNone; a <= actionCount; a++ {
		for role := RoleNone; role <= RoleAdmin; role++ {
			may := false
			for _, r := range yes[a] {
				may = may || r == role
			}
			for _, c := range []struct {
				scope, project string
				want           bool
			}{
				{"", "hotel", may},
				{"", Everywhere, may},
				{"", "", false},
				{"hotel", "hotel", may},
				{"hotel", "school", false},
				{"hotel", Everywhere, may && shared[a]},
				{"hotel", "", false},
			} {
				p := &Principal{ID: "k", Name: "k", Role: role, Project: c.scope}
				err := Authorize(p, a, Resource{Project: c.project, Kind: "twin", ID: "x"})
				if (err == nil) != c.want {
					t.Errorf("role %q of project %q: %s on project %q: got %v, want allowed %v", role, c.scope, a, c.project, err, c.want)
				}
				if err != nil && !errors.Is(err, ErrForbidden) {
					t.Errorf("%s: %v does not wrap ErrForbidden", a, err)
				}
			}
		}
	}
	if err := Authorize(nil, ActionTwinRead, Resource{Project: "hotel"}); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("nobody: %v", err)
	}
}

func TestRoles(t *testing.T) {
	for r := RoleDevice; r <= RoleAdmin; r++ {
		got, err := ParseRole(r.String())
		if err != nil || got != r {
			t.Errorf("%s: got %s, %v", r, got, err)
		}
	}
	for _, s := range []string{"", "root", "Admin"} {
		if r, err := ParseRole(s); err == nil {
			t.Errorf("%q was read as %s", s, r)
		}
	}
}

func TestForbiddenSaysWhatOnce(t *testing.T) {
	viewer := &Principal{Name: "wall", Role: RoleViewer, Project: "hotel"}
	for text, err := range map[string]error{
		"may not twin.use on twin hotel/lamp":             Authorize(viewer, ActionTwinUse, Resource{Project: "hotel", Kind: "twin", ID: "hotel/lamp"}),
		"may not twin.read on twin of project school":     Authorize(viewer, ActionTwinRead, Resource{Project: "school", Kind: "twin"}),
		"may not metrics.read on metrics of all projects": Authorize(viewer, ActionMetricsRead, Resource{Project: Everywhere, Kind: "metrics"}),
	} {
		if err == nil || !strings.HasSuffix(err.Error(), text) {
			t.Errorf("got %v, want …%s", err, text)
		}
	}
}
