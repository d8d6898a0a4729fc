package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestWatchOfEachKind: projects, models, zones, systems, aliases and relations are watched as they are made, changed and removed.
func TestWatchOfEachKind(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	file := filepath.Join(t.TempDir(), "room.json")
	if err := os.WriteFile(file, []byte(roomThing), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wait := func(out *lines, what string) {
		t.Helper()
		for !strings.Contains(out.String(), what) {
			if ctx.Err() != nil {
				t.Fatalf("%q never came:\n%s", what, out)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	// names are what the lines of each kind have: of the record as it was made, and as it was changed.
	kinds := map[string][2]string{
		"project": {"watched", "UNKNOWN_SENDERS_REFUSE"}, "model": {"watched/sensor", "watched/sensor"}, "zone": {"watched/attic", "Under the roof"},
		"system": {"watched/desk", "The desk"}, "alias": {"lora/eui/w1", `"twin":"watched/w2"`}, "relation": {"watched/w1/feeds/w2", "The pipe"},
	}
	outs := map[string]*lines{}
	for kind := range kinds {
		out := &lines{}
		outs[kind] = out
		wg.Go(func() { runTo(ctx, out, out, env, kind, "watch") })
	}
	for _, out := range outs {
		wait(out, "up to date")
	}
	before := map[string]int{}
	did := func(all ...[]string) {
		t.Helper()
		for _, args := range all {
			if r := cli(ctx, env, args...); r.code != 0 {
				t.Fatalf("%v: %d %s%s", args, r.code, r.out, r.err)
			}
		}
	}
	did([]string{"project", "create", "watched"}, []string{"model", "create", "watched/sensor", "--file", file},
		[]string{"zone", "put", "watched/attic", "--kind", "room"}, []string{"twin", "create", "watched/w1", "--model", "watched/sensor"},
		[]string{"twin", "create", "watched/w2", "--model", "watched/sensor"}, []string{"system", "put", "watched/desk", "--member", "Room_1=watched/w1"},
		[]string{"alias", "create", "lora/eui/w1", "watched/w1", "--project", "watched"}, []string{"relation", "create", "watched/w1", "feeds", "watched/w2"})
	for kind, out := range outs {
		wait(out, kinds[kind][0])
		before[kind] = len(out.String())
	}
	did([]string{"project", "update", "watched", "--unknown", "refuse"}, []string{"model", "update", "watched/sensor", "--file", file},
		[]string{"zone", "put", "watched/attic", "--kind", "room", "--title", "Under the roof"},
		[]string{"system", "put", "watched/desk", "--title", "The desk", "--member", "Room_1=watched/w1"},
		[]string{"alias", "update", "lora/eui/w1", "watched/w2", "--project", "watched"},
		[]string{"relation", "update", "watched/w1/feeds/w2", "--title", "The pipe"})
	grown := func(kind, what string) {
		t.Helper()
		for !strings.Contains(outs[kind].String()[before[kind]:], what) {
			if ctx.Err() != nil {
				t.Fatalf("%s: %q never came:\n%s", kind, what, outs[kind])
			}
			time.Sleep(5 * time.Millisecond)
		}
		before[kind] = len(outs[kind].String())
	}
	for kind := range outs {
		grown(kind, kinds[kind][1])
	}
	did([]string{"relation", "rm", "watched/w1/feeds/w2"}, []string{"alias", "rm", "lora/eui/w1", "--project", "watched"}, []string{"system", "rm", "watched/desk"},
		[]string{"twin", "rm", "watched/w1"}, []string{"twin", "rm", "watched/w2"}, []string{"zone", "rm", "watched/attic"},
		[]string{"model", "rm", "watched/sensor"}, []string{"project", "rm", "watched"})
	for kind := range outs {
		grown(kind, "deleted")
	}
}
