package actors_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What zones and systems set is configuration: the twins in them have it, all of it is what the document says, and secrets are not shown.
func TestApplySettings(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	const zone, system = `{"zone_settings":{"id":"room","values":{"poll":700,"secret":"hush"}}}`, `{"system_settings":{"id":"sys","values":{"topic":"sys"}}}`
	sameLines(t, "of nothing", n.apply(&pb.ApplyRequest{Each: true, Records: configs(t, zone, system)}),
		"refused zone_settings default/room : zone default/room: not found", "refused system_settings default/sys : system default/sys: not found")
	sameLines(t, "dry run", n.tried(configs(t, `{"zone":{"id":"room"}}`), configs(t, zone), configs(t, `{"system":{"id":"sys"}}`), configs(t, strings.Replace(system, "topic", "topik", 1))),
		"created zone default/room", "created zone_settings default/room", "created system default/sys",
		"refused system_settings default/sys /values/topik: invalid /values/topik: no installed driver has such a setting")
	n.apply(&pb.ApplyRequest{Records: configs(t, `{"zone":{"id":"room"}}`)})
	n.apply(&pb.ApplyRequest{Records: configs(t, `{"twin":{"id":"a","driver":"probe","zone":"room"}}`)})
	n.apply(&pb.ApplyRequest{Records: configs(t, `{"system":{"id":"sys","members":[{"name":"A","twin":"a"}]}}`)})

	sameLines(t, "tried", n.tried(configs(t, zone, system)), "created zone_settings default/room", "created system_settings default/sys")
	sameLines(t, "new", n.apply(&pb.ApplyRequest{Records: configs(t, zone, system)}), "created zone_settings default/room", "created system_settings default/sys")
	if got, want := n.values("a"), `poll=700 (zone default/room), secret="***" (zone default/room), topic="sys" (system default/sys)`; got != want {
		t.Errorf("a has %s, want %s", got, want)
	}
	until(t, "the driver has the secret", func() bool { return n.must("a", "whisper", "") == `"hush"` })
	revision := n.store.Revision()
	sameLines(t, "again", n.apply(&pb.ApplyRequest{Records: configs(t, zone, system, strings.Replace(zone, "hush", "***", 1))}),
		"unchanged zone_settings default/room", "unchanged system_settings default/sys", "refused zone_settings default/room /id")
	if all := n.transactions(revision); len(all) > 0 {
		t.Errorf("what changes nothing was committed: %v", all)
	}
	all := n.exported("default")
	if text := strings.Join(all, "\n"); len(all) != 5 || strings.Contains(text, "hush") || strings.Contains(text, "sealed") || !strings.Contains(text, `"***"`) {
		t.Errorf("exported %s", text)
	}
	for _, line := range all {
		sameLines(t, line, n.apply(&pb.ApplyRequest{Records: configs(t, line)}), "unchanged ")
	}

	sameLines(t, "changed", n.apply(&pb.ApplyRequest{Records: configs(t, `{"zone_settings":{"id":"room","values":{"secret":"hush hush","topic":"shown"},"secrets":["topic"]}}`)}),
		`changed zone_settings default/room secrets:->["topic"] values.poll:700-> values.topic:->"***" values.secret:"***"->"***"`)
	sameLines(t, "what is secret", n.apply(&pb.ApplyRequest{Records: configs(t, `{"system_settings":{"id":"sys","values":{"topic":"sys"},"secrets":["topic"]}}`)}),
		`changed system_settings default/sys secrets:->["topic"]`)
	if got, want := n.values("a"), `secret="***" (zone default/room), topic="***" (system default/sys)`; got != want {
		t.Errorf("a has %s, want %s", got, want)
	}
	sameLines(t, "nothing", n.apply(&pb.ApplyRequest{Records: configs(t, `{"zone_settings":{"id":"room"}}`)}), "changed zone_settings default/room ")
	sameLines(t, "nothing again", n.apply(&pb.ApplyRequest{Records: configs(t, `{"zone_settings":{"id":"room"}}`)}), "unchanged ")
	sameLines(t, "a secret that is not there", n.apply(&pb.ApplyRequest{Records: configs(t, strings.Replace(zone, "hush", "***", 1))}),
		`refused zone_settings default/room /values/secret: invalid /values/secret: is "***", and there is none to keep: give it`)
	sameLines(t, "what does not fit", n.apply(&pb.ApplyRequest{Records: configs(t, `{"zone_settings":{"id":"room","values":{"poll":1}}}`)}),
		"refused zone_settings default/room /values/poll")
}

// Settings that go over from a zone to one in it reach the twins, and what they are bound to, however they are applied together.
func TestApplySettingsTogether(t *testing.T) {
	n := newNode(t)
	n.driver("wire", "1.0.0", mqttTransport)
	n.zone("site", "")
	n.zone("room", "site")
	n.sets(ofZone("site"), `{"topic":"one"}`)
	n.sets(ofZone("room"), `{"topic":"one"}`)
	n.twin(`{"id":"a","driver":"wire","zone":"room"}`)
	n.deliver("dev/one/x", `{"level":1}`, 1)
	n.wait("a", "level", "1")
	sameLines(t, "neither changes it alone", n.apply(&pb.ApplyRequest{Records: configs(t, `{"zone_settings":{"id":"site","values":{"topic":"two"}}}`,
		`{"zone_settings":{"id":"room"}}`)}), "changed zone_settings default/site", "changed zone_settings default/room")
	if got, want := n.values("a"), `topic="two" (zone default/site)`; got != want {
		t.Errorf("a has %s, want %s", got, want)
	}
	n.deliver("dev/two/x", `{"level":2}`, 1)
	n.wait("a", "level", "2")
	if err := n.offer("dev/one/x", `{"level":3}`, 1); !errors.Is(err, actors.ErrNoTwin) {
		t.Errorf("the topic before: %v", err)
	}
}
