package rpc

import (
	"errors"
	"testing"
)

// TestAuthorizeMatrix holds who may do what. The last column is the only yes there is.
func TestAuthorizeMatrix(t *testing.T) {
	yes := map[Action][]Role{
		ActionTwinRead:      {RoleViewer, RoleOperator, RoleAdmin},
		ActionTwinUse:       {RoleOperator, RoleAdmin},
		ActionTwinTrace:     {RoleOperator, RoleAdmin},
		ActionTwinConfigure: {RoleAdmin},
		ActionDriverRead:    {RoleViewer, RoleOperator, RoleAdmin},
		ActionDriverWrite:   {RoleAdmin},
		ActionSiteRead:      {RoleViewer, RoleOperator, RoleAdmin},
		ActionSiteWrite:     {RoleAdmin},
		ActionClusterRead:   {RoleViewer, RoleOperator, RoleAdmin},
		ActionKeyRead:       {RoleAdmin},
		ActionKeyWrite:      {RoleAdmin},
		ActionSessionCreate: {RoleViewer, RoleOperator, RoleAdmin},
		ActionMetricsRead:   {RoleViewer, RoleOperator, RoleAdmin},
		ActionReflect:       {RoleViewer, RoleOperator, RoleAdmin},
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
