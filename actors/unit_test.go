package actors

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
)

func TestVersionOrder(t *testing.T) {
	order := []string{"0.9.0", "1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.2.0", "1.10.0", "2.0.0"}
	for i := range order {
		for j := range order {
			got := compareVersions(order[i], order[j])
			if i < j && got >= 0 || i > j && got <= 0 || i == j && got != 0 {
				t.Errorf("%s against %s: %d", order[i], order[j], got)
			}
		}
	}
	if compareVersions("1.0.0+a", "1.0.0+b") != 0 {
		t.Error("build metadata counts")
	}
}

func TestNewest(t *testing.T) {
	for want, all := range map[string][]string{
		"1.0.1":     {"1.0.0", "1.0.1", "1.0.2-rc1"},
		"1.0.2":     {"1.0.2-rc1", "1.0.2", "1.0.1"},
		"1.0.2-rc2": {"1.0.2-rc1", "1.0.2-rc2", "1.0.1-rc9"},
		"1.0.0+a-b": {"2.0.0-rc1+c", "1.0.0+a-b", "0.9.0"},
	} {
		best := ""
		for _, v := range all {
			if newer(v, best) {
				best = v
			}
		}
		if best != want {
			t.Errorf("of %v the newest is %s, want %s", all, best, want)
		}
	}
}

func TestTopicMatching(t *testing.T) {
	for _, c := range []struct {
		filter, topic string
		want          bool
	}{
		{"a/b", "a/b", true}, {"a/b", "a/c", false}, {"a/b", "a/b/c", false}, {"a/+", "a/b", true}, {"a/+", "a", false},
		{"+/b", "a/b", true}, {"+/+", "a/b", true}, {"a/#", "a/b/c", true}, {"a/#", "a", true}, {"a/#", "b", false}, {"#", "a/b", true},
		{"#", "$SYS/x", false}, {"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true}, {"a/+/c", "a//c", true}, {"a+/b", "a+/b", false},
		{"a/#/b", "a/x/b", false},
	} {
		if got := matchTopic(c.filter, c.topic); got != c.want {
			t.Errorf("%q on %q: %v", c.filter, c.topic, got)
		}
	}
	s, err := shapeOf("a/+/c/#")
	if err != nil {
		t.Fatal(err)
	}
	back, err := parseShape(s.key())
	if err != nil || back != s {
		t.Errorf("shape %v survives as %v, %v", s, back, err)
	}
}

func TestSubstitute(t *testing.T) {
	settings := map[string]any{"topic": "lamp", "n": 7.0, "yes": true, "no": false, "empty": "", "wild": "a/+", "slash": "/x", "list": []any{}}
	for _, c := range []struct{ in, out string }{
		{"tele/{topic}/+", "tele/lamp/+"}, {"{n}/x", "7/x"}, {"{yes}config/+", "config/+"}, {"plain", "plain"}, {"{topic}{n}", "lamp7"},
	} {
		if got, err := substitute(c.in, settings); err != nil || got != c.out {
			t.Errorf("%s gives %q, %v", c.in, got, err)
		}
	}
	for _, in := range []string{"{nope}/x", "{no}/x", "{empty}/x"} {
		if _, err := substitute(in, settings); !errors.Is(err, errNoTopic) {
			t.Errorf("%s: %v, want it left out", in, err)
		}
	}
	for _, in := range []string{"{wild}/x", "{slash}", "{list}", "{open"} {
		if _, err := substitute(in, settings); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v, want it refused", in, err)
		}
	}
}

func TestSecrets(t *testing.T) {
	m, err := drivers.NewModel(&drivers.Manifest{Model: []byte(`{}`), Settings: []byte(`{"type":"object","properties":{
		"user":{"type":"string"},"password":{"type":"string","writeOnly":true},
		"login":{"type":"object","properties":{"pin":{"type":"string","writeOnly":true}}}}}`)})
	if err != nil {
		t.Fatal(err)
	}
	fresh := func() map[string]any {
		return map[string]any{"user": "u", "password": "geheim", "login": map[string]any{"pin": "1234"}}
	}
	got := secretsOf(m, fresh())
	slices.Sort(got)
	if !slices.Equal(got, []string{"1234", "geheim"}) {
		t.Errorf("secrets %v", got)
	}
	shown := fresh()
	maskSecrets(m, shown)
	if shown["password"] != "***" || shown["login"].(map[string]any)["pin"] != "***" || shown["user"] != "u" {
		t.Errorf("shown %v", shown)
	}
	unmaskSecrets(m.Secrets(), shown, fresh())
	if shown["password"] != "geheim" || shown["login"].(map[string]any)["pin"] != "1234" {
		t.Errorf("unmasked %v", shown)
	}
	none := map[string]any{"password": "***"}
	unmaskSecrets(m.Secrets(), none, map[string]any{})
	if _, there := none["password"]; there {
		t.Errorf("a mask became a password: %v", none)
	}
}

func TestKeysOfTables(t *testing.T) {
	id, slot := "default/pump-1", cluster.Slot(0x2a01)
	due, got, ok := parseWake(wakeKey(slot, id, 1_700_000_000_123))
	if !ok || due != 1_700_000_000_123 || got != id {
		t.Errorf("wake key read as %d %q %v", due, got, ok)
	}
	if wakeKey(slot, id, 9) >= wakeKey(slot, id, 10) || wakeKey(slot, id, 1<<40) >= wakeKey(slot, id, 1<<41) {
		t.Error("wake keys are not in the order of their times")
	}
	if !strings.HasPrefix(wakeKey(slot, id, 9), slotKey(slot)) || parseSlotID(slotIDKey(slot, id)) != id {
		t.Errorf("slot keys %q %q", wakeKey(slot, id, 9), slotIDKey(slot, id))
	}
	for _, bad := range []string{"", "x", "0001/xyz", "0001/00000000000zz/a"} {
		if _, _, ok := parseWake(bad); ok {
			t.Errorf("%q was read as a wake key", bad)
		}
	}
	if aliasKey("p", "a/b", "c", "d") == aliasKey("p", "a", "b/c", "d") {
		t.Error("parts of an alias run together")
	}
	for _, id := range []string{"Pump", "a/b/c", "/a", "a/", "-a", "a b", strings.Repeat("a", 129)} {
		if _, err := CanonicalID(id); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q is an id: %v", id, err)
		}
	}
}

func TestMergedPatches(t *testing.T) {
	got, err := mergePatches([]byte(`{"properties":{"a":{"type":"number"},"b":null}}`), []byte(`{"properties":{"c":{},"a":null}}`))
	if err != nil || string(got) != `{"properties":{"a":null,"b":null,"c":{}}}` {
		t.Errorf("merged %s, %v", got, err)
	}
	if _, err := mergePatches(nil, []byte(`[1]`)); err == nil {
		t.Error("a patch that is no object was taken")
	}
}
