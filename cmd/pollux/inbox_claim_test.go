package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What a twin needs that is claimed can be said with it: a driver may want a setting that whoever found the device did not know.
func TestClaimWithSettings(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	echo := filepath.Join(t.TempDir(), "echo.wasm")
	if err := os.WriteFile(echo, drivertest.Echo(t), 0o600); err != nil {
		t.Fatal(err)
	}
	says(t, env, "", 0, "driver", "push", echo)
	says(t, env, "", 0, "ingest", "send", "claim/eui/1", "{}")
	says(t, env, "twin default/claimed has the alias claim/eui/1", 0, "inbox", "claim", "claim/eui/1", "claimed", "--driver", "echo", "--setting", "topic=1", "--setting", "greeting=42")
	r := cli(t.Context(), env, "twin", "get", "claimed")
	for _, want := range []string{"Setting topic     1\n", "Setting greeting  42\n", "claim/eui/1"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("no %q in %s", want, r.out)
		}
	}
	says(t, env, "", 0, "twin", "rm", "claimed")
	says(t, env, "", 0, "driver", "rm", "echo@1.0.0")
}

// A setting that is given changes one of those that were found, and leaves the others.
func TestClaimKeepsWhatWasFound(t *testing.T) {
	found := &pb.InboxEntry{Driver: "echo", SettingsJson: `{"topic":"lamp","greeting":"hello"}`}
	for driver, want := range map[string]int{"": 2, "echo": 2, "other": 0} {
		twin := &pb.Twin{Driver: driver}
		if err := asFound(twin, found); err != nil || len(twin.GetSettings().GetFields()) != want || driver == "" && twin.Driver != "echo" {
			t.Errorf("%q: %v, %v", driver, twin, err)
		}
	}
	if twin := (&pb.Twin{Model: "meter"}); asFound(twin, found) != nil || twin.Settings != nil || twin.Driver != "" {
		t.Error(twin)
	}
}

// A key that would have been over at once is none that is for ever.
func TestKeyOfThePast(t *testing.T) {
	r := says(t, []string{"POLLUX_DATA=" + dataOfNode(t)}, "", 2, "key", "create", "--role", "viewer", "--expires", "-1h")
	if !strings.Contains(r.err, "--expires -1h0m0s: want how long it is valid") {
		t.Error(r.err)
	}
}
