package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func ofDriver(name string) *pb.SettingsScope {
	return &pb.SettingsScope{Scope: &pb.SettingsScope_Driver{Driver: name}}
}
func ofZone(id string) *pb.SettingsScope {
	return &pb.SettingsScope{Scope: &pb.SettingsScope_Zone{Zone: id}}
}
func ofSystem(id string) *pb.SettingsScope {
	return &pb.SettingsScope{Scope: &pb.SettingsScope_System{System: id}}
}
func ofTwin(id string) *pb.SettingsScope {
	return &pb.SettingsScope{Scope: &pb.SettingsScope_Twin{Twin: id}}
}

// sets changes a scope's settings, and gives how many twins have others now.
func (n *node) sets(scope *pb.SettingsScope, doc string) uint64 {
	n.t.Helper()
	res, err := n.reg.SetSettings(ctx(n.t), &pb.SetSettingsRequest{Scope: scope, Values: settings(n.t, doc)}, "ann")
	if err != nil {
		n.t.Fatal(err)
	}
	return res.Twins
}

// values gives what a twin has, as name=value (source).
func (n *node) values(id string) string {
	n.t.Helper()
	res, err := n.reg.GetSettings(ofTwin(id), 0)
	if err != nil {
		n.t.Fatal(err)
	}
	var all []string
	for _, v := range res.Values {
		all = append(all, fmt.Sprintf("%s=%s (%s)", v.Name, text(v.Value), v.Source))
	}
	return strings.Join(all, ", ")
}

func (n *node) zone(id, parent string) {
	n.t.Helper()
	old := uint64(0)
	if list, err := n.reg.ListZones(&pb.ListZonesRequest{}, nil); err == nil {
		for _, z := range list.Zones {
			if z.Id == "default/"+id {
				old = z.Revision
			}
		}
	}
	if _, err := n.reg.PutZone(ctx(n.t), &pb.Zone{Id: id, Parent: parent, Revision: old}); err != nil {
		n.t.Fatal(err)
	}
}

// Settings are merged from driver, zones, systems and twin; each change reaches the running twin, whose connection stays.
func TestSettingsMerge(t *testing.T) {
	n := newNode(t)
	d := newDevice(t, nil)
	n.driver("wire", "1.0.0", tcpTransport)
	n.zone("site", "")
	n.zone("room", "site")
	n.twin(`{"id":"a","driver":"wire","zone":"room","uri":"` + d.uri() + `"}`)
	n.twin(`{"id":"b","driver":"wire","uri":"` + d.uri() + `"}`)
	n.wait("a", "ups", "1")
	n.wait("a", "topic", `"probe"`)
	if _, err := n.reg.PutSystem(ctx(t), &pb.System{Id: "sys", Members: []*pb.System_Member{{Name: "Wire_1", Twin: "a"}}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		scope *pb.SettingsScope
		value string
		twins uint64
	}{
		{ofDriver("wire"), "of-driver", 2}, {ofZone("site"), "of-site", 1}, {ofZone("room"), "of-room", 1},
		{ofSystem("sys"), "of-system", 1}, {ofTwin("a"), "own", 1},
	} {
		if got := n.sets(c.scope, fmt.Sprintf(`{"topic":%q}`, c.value)); got != c.twins {
			t.Errorf("%s: %d twins have other settings, want %d", c.value, got, c.twins)
		}
		n.wait("a", "topic", fmt.Sprintf("%q", c.value))
	}
	n.wait("b", "topic", `"of-driver"`)
	n.wait("a", "reason", `"settings"`)
	if got := n.prop("a", "ups"); got != "1" {
		t.Errorf("connected %s times: a change of settings cost the connection", got)
	}
	n.sets(ofZone("site"), `{"mute":true}`)
	if got, want := n.values("a"), `mute=true (zone default/site), topic="own" (twin default/a)`; got != want {
		t.Errorf("a has %s, want %s", got, want)
	}
	// Back, scope by scope.
	for _, c := range []struct {
		scope *pb.SettingsScope
		want  string
	}{
		{ofTwin("a"), "of-system"}, {ofSystem("sys"), "of-room"}, {ofZone("room"), "of-site"}, {ofZone("site"), "of-driver"}, {ofDriver("wire"), "probe"},
	} {
		n.sets(c.scope, `{"topic":null}`)
		n.wait("a", "topic", fmt.Sprintf("%q", c.want))
	}
	if got, want := n.values("b"), `topic="probe" (default)`; got != want {
		t.Errorf("b has %s, want %s", got, want)
	}
}

// What is in a zone or a system changes settings, too.
func TestSettingsFollowThePlace(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.zone("one", "")
	n.zone("two", "")
	n.zone("room", "one")
	n.twin(`{"id":"a","driver":"probe","zone":"room"}`)
	n.sets(ofZone("one"), `{"topic":"in-one"}`)
	n.sets(ofZone("two"), `{"topic":"in-two"}`)
	n.wait("a", "topic", `"in-one"`)
	n.zone("room", "two")
	n.wait("a", "topic", `"in-two"`)
	n.update("a", func(tw *pb.Twin) { tw.Zone = "" })
	n.wait("a", "topic", `"probe"`)
	sys, err := n.reg.PutSystem(ctx(t), &pb.System{Id: "sys"})
	if err != nil {
		t.Fatal(err)
	}
	n.sets(ofSystem("sys"), `{"topic":"in-sys"}`)
	sys.Members = []*pb.System_Member{{Name: "P_1", Twin: "a"}}
	if sys, err = n.reg.PutSystem(ctx(t), sys); err != nil {
		t.Fatal(err)
	}
	n.wait("a", "topic", `"in-sys"`)
	sys.Members = nil
	if _, err = n.reg.PutSystem(ctx(t), sys); err != nil {
		t.Fatal(err)
	}
	n.wait("a", "topic", `"probe"`)
}

// MQTT topics that name a setting follow it, wherever that is set.
func TestSettingsMoveTopics(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	n.zone("room", "")
	n.twin(`{"id":"a","driver":"bus","zone":"room"}`)
	n.deliver("dev/probe/x", `{"level":1}`, 1)
	n.wait("a", "level", "1")
	n.sets(ofZone("room"), `{"topic":"aula"}`)
	n.deliver("dev/aula/x", `{"level":2}`, 1)
	n.wait("a", "level", "2")
	if err := n.offer("dev/probe/x", `{"level":3}`, 1); !errors.Is(err, actors.ErrNoTwin) {
		t.Errorf("the topic before: %v", err)
	}
}

// Secrets are sealed in the store, read ***, keep their value where they are sent back so, and reach the driver.
func TestSettingsSecrets(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.zone("room", "")
	const secret = "correct-horse-battery"
	n.twin(`{"id":"a","driver":"probe","zone":"room","settings":{"secret":"` + secret + `-1"}}`)
	n.twin(`{"id":"b","driver":"probe","zone":"room"}`)
	n.sets(ofDriver("probe"), `{"secret":"`+secret+`-2"}`)
	n.sets(ofZone("room"), `{"secret":"`+secret+`-3"}`)
	n.sets(ofTwin("a"), `{"secret":"`+secret+`-4"}`)
	for id, want := range map[string]string{"a": `"` + secret + `-4"`, "b": `"` + secret + `-3"`} {
		until(t, "the driver has the secret in clear", func() bool { return n.must(id, "whisper", "") == want })
	}
	view := n.store.View()
	defer view.Close()
	tables, err := view.Tables()
	if err != nil {
		t.Fatal(err)
	}
	sealed := 0
	for _, table := range tables {
		for rec, err := range view.Scan(table, "", "") {
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(rec.Value), secret) {
				t.Errorf("%s %s holds the secret in clear", table, rec.Key)
			}
			sealed += strings.Count(string(rec.Value), "sealed:1:")
		}
	}
	if sealed != 5 { // a's record, its two versions, the driver's and the zone's
		t.Errorf("%d sealed secrets in the store, want 5", sealed)
	}
	if got, want := n.values("a"), `secret="***" (twin default/a), topic="probe" (default)`; got != want {
		t.Errorf("a has %s, want %s", got, want)
	}
	if got, want := n.values("b"), `secret="***" (zone default/room), topic="probe" (default)`; got != want {
		t.Errorf("b has %s, want %s", got, want)
	}
	tw, err := n.reg.GetTwin("a")
	if err != nil || tw.Settings.Fields["secret"].GetStringValue() != "***" {
		t.Errorf("a: %v, %v", tw, err)
	}
	before := n.sealedOf("a")
	tw.Labels = map[string]string{"x": "y"}
	if _, err := n.reg.UpdateTwin(ctx(t), tw); err != nil {
		t.Fatal(err)
	}
	if after := n.sealedOf("a"); before != after || !strings.HasPrefix(after, "sealed:1:") {
		t.Errorf("a secret sent back as *** was sealed anew")
	}
	d, err := n.reg.DiffSettings(ofTwin("a"), 0, 0)
	if err != nil || len(d.Changes) != 1 || d.From != 1 || d.To != 2 || !d.Changes[0].Secret || text(d.Changes[0].Before) != `"***"` || text(d.Changes[0].After) != `"***"` {
		t.Errorf("difference of a secret: %v, %v", d, err)
	}
	// A secret of another place cannot be smuggled in.
	stolen := before
	_, err = n.reg.SetSettings(ctx(t), &pb.SetSettingsRequest{Scope: ofTwin("b"), Values: settings(t, `{"secret":"`+stolen+`"}`)}, "eve")
	if err == nil || !strings.Contains(err.Error(), "may not begin with") {
		t.Errorf("a sealed text as a value: %v", err)
	}
	n.rewrite("b", func(tw *pb.Twin) { tw.Settings = settings(t, `{"secret":"`+stolen+`"}`) })
	until(t, "the twin says so", func() bool { return strings.Contains(n.state("b").Status.Fault, "sealed with a key that is not here") })
}

// sealedOf gives a twin's secret as it is stored.
func (n *node) sealedOf(id string) string {
	n.t.Helper()
	rec, ok, err := n.store.Get("twin", "default/"+id)
	tw := &pb.Twin{}
	if err != nil || !ok || proto.Unmarshal(rec.Value, tw) != nil {
		n.t.Fatal("no record of", id, err)
	}
	return tw.Settings.Fields["secret"].GetStringValue()
}

// Versions tell who and when, can be compared and restored, and are bounded.
func TestSettingsVersions(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.zone("room", "")
	n.twin(`{"id":"a","driver":"probe","zone":"room"}`)
	for i := range 25 {
		n.sets(ofZone("room"), fmt.Sprintf(`{"topic":"t%d","mute":%t}`, i, i%2 == 0))
	}
	n.sets(ofZone("room"), `{"mute":true}`) // nothing new: no version
	all, err := n.reg.ListSettingsVersions(ofZone("room"))
	if err != nil || len(all) != 20 || all[0].Version != 25 || all[19].Version != 6 || all[0].By != "ann" || all[0].Time == nil {
		t.Fatalf("%d versions, %v: %v", len(all), all, err)
	}
	d, err := n.reg.DiffSettings(ofZone("room"), 23, 24)
	if err != nil || len(d.Changes) != 2 || d.Changes[1].Name != "topic" || text(d.Changes[1].Before) != `"t22"` || text(d.Changes[1].After) != `"t23"` {
		t.Errorf("difference: %v, %v", d, err)
	}
	if _, err := n.reg.DiffSettings(ofZone("room"), 2, 24); !errors.Is(err, actors.ErrNotFound) || !strings.Contains(err.Error(), "6 to 25 are kept") {
		t.Errorf("a version that is gone: %v", err)
	}
	if _, err := n.reg.SetSettings(ctx(t), &pb.SetSettingsRequest{Scope: ofZone("room"), Restore: 10, Version: 3}, "bob"); !errors.Is(err, actors.ErrRevision) {
		t.Errorf("with a version that was read long ago: %v", err)
	}
	res, err := n.reg.SetSettings(ctx(t), &pb.SetSettingsRequest{Scope: ofZone("room"), Restore: 10, Version: 25}, "bob")
	if err != nil || res.Settings.Version != 26 || res.Settings.By != "bob" || res.Settings.Values.Fields["topic"].GetStringValue() != "t9" || res.Twins != 1 {
		t.Errorf("restored: %v, %v", res, err)
	}
	n.wait("a", "topic", `"t9"`)
	// A twin's versions come with any change of its configuration.
	n.update("a", func(tw *pb.Twin) { tw.Settings, tw.UpdateBy = settings(t, `{"topic":"mine"}`), "carl" })
	all, err = n.reg.ListSettingsVersions(ofTwin("a"))
	if err != nil || len(all) != 1 || all[0].By != "carl" {
		t.Errorf("versions of a twin: %v, %v", all, err)
	}
}

// What does not fit is refused with its place, and nothing is changed.
func TestSettingsRefused(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.driverWith("other", "1.0.0", "", func(m map[string]any) {
		m["settings"] = map[string]any{"type": "object", "required": []string{"host"}, "additionalProperties": false,
			"properties": map[string]any{"host": map[string]any{"type": "string"}, "mute": map[string]any{"type": "integer"}}}
	})
	n.zone("room", "")
	n.twin(`{"id":"p","driver":"probe","zone":"room"}`)
	for _, c := range []struct {
		scope     *pb.SettingsScope
		doc, want string
	}{
		{ofDriver("probe"), `{"topik":"x"}`, "invalid /values/topik: the driver probe does not have such a setting"},
		{ofDriver("probe"), `{"topic":7}`, "setting topic: /: got number, want string"},
		{ofZone("room"), `{"nobody":1}`, "invalid /values/nobody: no installed driver has such a setting"},
		{ofZone("room"), `{"mute":3}`, "twin default/p would have settings that do not fit: invalid /settings/mute: got number, want boolean"},
		{ofTwin("p"), `{"poll":1}`, "invalid /settings/poll: minimum: got 1, want 100"},
		{ofZone("nowhere"), `{"topic":"x"}`, "zone default/nowhere: not found"},
		{nil, `{}`, "invalid /scope: is missing"},
	} {
		_, err := n.reg.SetSettings(ctx(t), &pb.SetSettingsRequest{Scope: c.scope, Values: settings(t, c.doc)}, "x")
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v %s:\n got %v\nwant %s", c.scope, c.doc, err, c.want)
		}
	}
	if got := n.values("p"); got != `topic="probe" (default)` {
		t.Errorf("something changed: %s", got)
	}
	// What is required may come from a zone, and may not be taken away then.
	if _, err := n.reg.CreateTwin(ctx(t), &pb.Twin{Id: "o", Driver: "other", Zone: "room"}); !errors.Is(err, actors.ErrInvalid) {
		t.Errorf("without what is required: %v", err)
	}
	n.sets(ofZone("room"), `{"host":"h"}`)
	n.twin(`{"id":"o","driver":"other","zone":"room"}`)
	_, err := n.reg.SetSettings(ctx(t), &pb.SetSettingsRequest{Scope: ofZone("room"), Values: settings(t, `{"host":null}`)}, "x")
	if err == nil || !strings.Contains(err.Error(), "twin default/o would have settings that do not fit") {
		t.Errorf("taken away: %v", err)
	}
}
