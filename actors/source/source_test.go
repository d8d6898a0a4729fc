package source

import "testing"

// No two sources have the same group of their own accord: each would be given a part of what both are to read.
func TestGroupsAreApart(t *testing.T) {
	whose := map[string]string{}
	for _, id := range []string{"default/plant", "a/b-c", "a-b/c", "a/b--c", "a-/b-c", "a--b/c", "a-b-c/d", "a-b/c-d", "a/b-c-d"} {
		g := group(id)
		if other, there := whose[g]; there {
			t.Errorf("%s and %s have the group %s", id, other, g)
		}
		whose[g] = id
	}
	if g := group("default/plant"); g != "pollux-default-plant" {
		t.Errorf("the group is %s", g)
	}
}
