package actors_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func TestCreateRefuses(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.driver("wire", "1.0.0", tcpTransport)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"there","driver":"probe","aliases":[{"network":"n","key":"k","value":"v"}]}`)
	for _, c := range []struct {
		doc, path string
		is        error
	}{
		{`{"id":"there","driver":"probe"}`, "", actors.ErrExists},
		{`{"id":"UPPER","driver":"probe"}`, "/id", actors.ErrInvalid},
		{`{"id":"a","driver":"nope"}`, "/driver", actors.ErrInvalid},
		{`{"id":"a","driver":"probe@9.9.9"}`, "/driver", actors.ErrInvalid},
		{`{"id":"a","driver":"Pr obe"}`, "/driver", actors.ErrInvalid},
		{`{"id":"a","driver":"probe","settings":{"poll":5}}`, "/settings/poll", actors.ErrInvalid},
		{`{"id":"a","driver":"probe","settings":{"nope":5}}`, "/settings", actors.ErrInvalid},
		{`{"id":"a","driver":"probe","uri":"tcp://h:1"}`, "/uri", actors.ErrInvalid},
		{`{"id":"a","driver":"wire"}`, "/uri", actors.ErrInvalid},
		{`{"id":"a","driver":"wire","uri":"udp://h:1"}`, "/uri", actors.ErrInvalid},
		{`{"id":"a","driver":"wire","uri":"tcp://h"}`, "/uri", actors.ErrInvalid},
		{`{"id":"a","driver":"wire","uri":"tcp://h:99999"}`, "/uri", actors.ErrInvalid},
		{`{"id":"a","driver":"wire","uri":"tcp://h:0"}`, "/uri", actors.ErrInvalid},
		{`{"id":"a","driver":"wire","uri":"tcp://:80"}`, "/uri", actors.ErrInvalid},
		{`{"id":"a","driver":"wire","uri":"tcp://h:80/path"}`, "/uri", actors.ErrInvalid},
		{`{"id":"a","driver":"probe","zone":"nowhere"}`, "/zone", actors.ErrInvalid},
		{`{"id":"a","driver":"probe","via":"nobody"}`, "/via", actors.ErrInvalid},
		{`{"id":"a","driver":"probe","labels":{"":"x"}}`, "/labels/", actors.ErrInvalid},
		{`{"id":"a","driver":"probe","aliases":[{"network":"n","key":"k","value":"v"}]}`, "", actors.ErrExists},
		{`{"id":"a","driver":"probe","aliases":[{"network":"n"}]}`, "/aliases/0", actors.ErrInvalid},
	} {
		tw := &pb.Twin{}
		if err := protojson.Unmarshal([]byte(c.doc), tw); err != nil {
			t.Fatal(err)
		}
		_, err := n.reg.CreateTwin(ctx(t), tw)
		var field *actors.InvalidError
		if !errors.Is(err, c.is) || c.path != "" && (!errors.As(err, &field) || field.Path != c.path) {
			t.Errorf("%s: %v, want %v at %q", c.doc, err, c.is, c.path)
		}
	}
	if c, err := n.reg.CountTwins(); err != nil || c != 1 {
		t.Errorf("%d twins, %v", c, err)
	}
}

func TestUpdateNeedsTheRevision(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	made := n.twin(`{"id":"a","driver":"probe","settings":{"secret":"geheim"},"labels":{"x":"1"}}`)
	stale := made.Revision
	made.Labels = map[string]string{"x": "2"}
	now, err := n.reg.UpdateTwin(ctx(t), made)
	if err != nil || now.Revision <= stale || now.Labels["x"] != "2" {
		t.Fatalf("update: %v, %v", now, err)
	}
	made.Revision = stale
	if _, err := n.reg.UpdateTwin(ctx(t), made); !errors.Is(err, actors.ErrRevision) {
		t.Errorf("an update of what was read before: %v", err)
	}
	if err := n.reg.DeleteTwin(ctx(t), "a", stale); !errors.Is(err, actors.ErrRevision) {
		t.Errorf("a delete of what was read before: %v", err)
	}
	k, _ := n.reg.Kind("twin")
	for rec, err := range n.store.Scan(k.Table, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(rec.Value), "geheim") {
			t.Error("the record holds the secret in clear")
		}
		if got := n.must("a", "whisper", ""); got != `"geheim"` {
			t.Errorf("the driver has the secret %s: the masked one replaced the real one", got)
		}
		m, err := k.Decode(rec)
		if err != nil || strings.Contains(protojson.Format(m), "geheim") {
			t.Errorf("a watched record shows the secret: %v, %v", m, err)
		}
	}
}

func TestPages(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	for i := range 25 {
		n.twin(fmt.Sprintf(`{"id":"t%02d","driver":"probe","labels":{"even":"%t"}}`, i, i%2 == 0))
	}
	for _, c := range []struct {
		filter *pb.TwinFilter
		want   int
	}{
		{nil, 25}, {&pb.TwinFilter{Project: "default", Labels: map[string]string{"even": "true"}}, 13},
		{&pb.TwinFilter{Labels: map[string]string{"even": "false"}}, 12}, {&pb.TwinFilter{Driver: "probe"}, 25},
		{&pb.TwinFilter{Text: "t1"}, 10}, {&pb.TwinFilter{Project: "other"}, 0},
		{&pb.TwinFilter{Ids: []string{"t03", "t01", "t03", "nope", "t24"}}, 3},
	} {
		seen := map[string]bool{}
		req := &pb.ListTwinsRequest{Filter: c.filter, PageSize: 4}
		for pages := 0; ; pages++ {
			list, err := n.reg.ListTwins(req, nil)
			if err != nil || pages > 10 {
				t.Fatalf("page %d: %v", pages, err)
			}
			for _, tw := range list.Twins {
				if seen[tw.Id] {
					t.Errorf("%s twice", tw.Id)
				}
				seen[tw.Id] = true
			}
			if req.PageToken = list.NextPageToken; req.PageToken == "" {
				break
			}
		}
		if len(seen) != c.want {
			t.Errorf("%v: %d twins, want %d", c.filter, len(seen), c.want)
		}
	}
}

func TestDrivers(t *testing.T) {
	n := newNode(t)
	d := n.driver("probe", "1.0.0", "")
	if again := n.driver("probe", "1.0.0", ""); again.Revision != d.Revision {
		t.Errorf("the same file again is a new record: %v", again)
	}
	n.twin(`{"id":"a","driver":"probe"}`)
	var used *actors.InUseError
	if err := n.reg.DeleteDriver(ctx(t), "probe", ""); !errors.As(err, &used) || used.Users[0] != "default/a" {
		t.Errorf("delete of a driver in use: %v", err)
	}
	if err := n.reg.DeleteTwin(ctx(t), "a", 0); err != nil {
		t.Fatal(err)
	}
	if err := n.reg.DeleteDriver(ctx(t), "probe", ""); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, err := n.reg.GetDriver("probe", ""); !errors.Is(err, actors.ErrNotFound) {
		t.Errorf("get of a deleted driver: %v", err)
	}
	if list, err := n.reg.ListDrivers(&pb.ListDriversRequest{}); err != nil || len(list.Drivers) != 0 {
		t.Errorf("list: %v, %v", list, err)
	}
}

func TestZonesAndSystems(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	building, err := n.reg.PutZone(ctx(t), &pb.Zone{Id: "building", Title: "Building"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.reg.PutZone(ctx(t), &pb.Zone{Id: "room", Parent: "building"}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.reg.PutZone(ctx(t), &pb.Zone{Id: "room"}); !errors.Is(err, actors.ErrExists) {
		t.Errorf("a zone twice: %v", err)
	}
	building.Parent = "room"
	if _, err := n.reg.PutZone(ctx(t), building); !errors.Is(err, actors.ErrInvalid) {
		t.Errorf("a circle of zones: %v", err)
	}
	n.twin(`{"id":"a","driver":"probe","zone":"room"}`)
	if err := n.reg.DeleteZone(ctx(t), "room"); !errors.Is(err, actors.ErrInUse) {
		t.Errorf("delete of a zone with a twin: %v", err)
	}
	if err := n.reg.DeleteZone(ctx(t), "building"); !errors.Is(err, actors.ErrInUse) {
		t.Errorf("delete of a zone with a zone: %v", err)
	}
	if _, err := n.reg.PutSystem(ctx(t), &pb.System{Id: "s", Zone: "room", Members: []*pb.System_Member{{Name: "Display_1", Twin: "nobody"}}}); !errors.Is(err, actors.ErrInvalid) {
		t.Errorf("a system of nobody: %v", err)
	}
	if _, err := n.reg.PutSystem(ctx(t), &pb.System{Id: "s", Zone: "room", Members: []*pb.System_Member{{Name: "Display_1", Twin: "a"}}}); err != nil {
		t.Fatal(err)
	}
	if err := n.reg.DeleteTwin(ctx(t), "a", 0); err != nil {
		t.Fatal(err)
	}
	if err := n.reg.DeleteZone(ctx(t), "room"); !errors.Is(err, actors.ErrInUse) {
		t.Errorf("delete of a zone with a system: %v", err)
	}
	for _, del := range []func() error{
		func() error { return n.reg.DeleteSystem(ctx(t), "s") }, func() error { return n.reg.DeleteZone(ctx(t), "room") },
		func() error { return n.reg.DeleteZone(ctx(t), "building") },
	} {
		if err := del(); err != nil {
			t.Error(err)
		}
	}
	zones, err := n.reg.ListZones(&pb.ListZonesRequest{}, nil)
	if err != nil || len(zones.Zones) != 0 {
		t.Errorf("zones %v, %v", zones, err)
	}
}

// What a driver finds lands in the inbox, once, and leaves it when a twin claims it.
func TestInbox(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	inbox := func() []*pb.InboxEntry {
		l, err := n.reg.ListInbox(&pb.ListInboxRequest{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return l.Entries
	}
	n.must("a", "discover", `{"text":"4711"}`)
	until(t, "the inbox has it", func() bool { return len(inbox()) == 1 })
	n.must("a", "discover", `{"text":"4711"}`)
	e := inbox()[0]
	if e.Alias.Value != "4711" || e.Via != "default/a" || e.Name != "found 4711" {
		t.Errorf("entry %v", e)
	}
	n.twin(`{"id":"b","driver":"probe","aliases":[{"network":"probe","key":"serial","value":"4711"}]}`)
	if got := inbox(); len(got) != 0 {
		t.Errorf("claimed, and still there: %v", got)
	}
	n.must("a", "discover", `{"text":"4711"}`)
	n.must("a", "discover", `{"text":"4712"}`)
	until(t, "only the unknown one", func() bool { l := inbox(); return len(l) == 1 && l[0].Alias.Value == "4712" })
}

// A twin that has a device's topics speaks for it, also without its alias.
func TestInboxKnowsTopics(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"probe"}`)
	shown := func() string {
		l, err := n.reg.ListInbox(&pb.ListInboxRequest{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range l.Entries {
			all = append(all, e.Alias.Value)
		}
		return strings.Join(all, " ")
	}
	n.twin(`{"id":"early","driver":"bus","settings":{"topic":"one"}}`)
	for i, topic := range []string{"one", "two", "three", "four"} {
		n.must("a", "discover", fmt.Sprintf(`{"text":"%d","topic":%q}`, i, topic))
	}
	until(t, "three are unknown", func() bool { return shown() == "1 2 3" })
	n.twin(`{"id":"late","driver":"bus","settings":{"topic":"two"}}`)
	tw, err := n.reg.GetTwin("early")
	if err != nil {
		t.Fatal(err)
	}
	tw.Settings = settings(t, `{"topic":"three"}`)
	if _, err := n.reg.UpdateTwin(ctx(t), tw); err != nil {
		t.Fatal(err)
	}
	if got := shown(); got != "3" {
		t.Errorf("the inbox has %q", got)
	}
	if count, err := n.store.Count("inbox", ""); err != nil || count != 1 {
		t.Errorf("%d records, %v", count, err)
	}
}

// Two twins may have one topic; whoever makes the second is told.
func TestSharedTopicWarns(t *testing.T) {
	n := newNode(t)
	n.driver("bus", "1.0.0", mqttTransport)
	if w := n.reg.Warnings(n.twin(`{"id":"a","driver":"bus","settings":{"topic":"x"}}`)); len(w) != 0 {
		t.Errorf("alone: %q", w)
	}
	w := n.reg.Warnings(n.twin(`{"id":"b","driver":"bus","settings":{"topic":"x"}}`))
	if len(w) != 2 || !strings.Contains(w[0], "default/a") || !strings.Contains(w[0], "dev/x/+") {
		t.Errorf("warnings %q", w)
	}
	if w := n.reg.Warnings(n.twin(`{"id":"other/c","driver":"bus","settings":{"topic":"x"}}`)); len(w) == 0 || strings.Contains(strings.Join(w, " "), "default") {
		t.Errorf("another project's twins are named, or not mentioned: %q", w)
	}
	n.deliver("dev/x/state", `{"level":1}`, 1)
	n.wait("a", "level", "1")
	n.wait("b", "level", "1")
}

func TestDescribe(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	if _, err := n.set("a", "level2", "1", 0); !errors.Is(err, actors.ErrInvalid) {
		t.Errorf("a property that the model does not have: %v", err)
	}
	n.must("a", "describe", `{"properties":{"level2":{"type":"number"},"on":null}}`)
	s, err := n.client.State(ctx(t), "a", true)
	if err != nil || !strings.Contains(s.ModelJson, "level2") || strings.Contains(s.ModelJson, `"on"`) {
		t.Errorf("model %s, %v", s.GetModelJson(), err)
	}
	if _, err := n.set("a", "level2", "1", 0); err != nil {
		t.Errorf("a property that was described: %v", err)
	}
}

// A gateway is deleted, or gets a new user: never both.
func TestGatewayDeletedWhileNamed(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	deleted := 0
	for i := range 40 {
		gateway := fmt.Sprintf("default/g%d", i)
		n.twin(fmt.Sprintf(`{"id":%q,"driver":"probe"}`, gateway))
		n.twin(fmt.Sprintf(`{"id":"u%d","driver":"probe"}`, i))
		user, err := n.reg.GetTwin(fmt.Sprintf("u%d", i))
		if err != nil {
			t.Fatal(err)
		}
		made := make(chan error, 2)
		go func() {
			_, err := n.reg.CreateTwin(ctx(t), &pb.Twin{Id: fmt.Sprintf("c%d", i), Driver: "probe", Via: gateway})
			made <- err
		}()
		go func() {
			user.Via = gateway
			_, err := n.reg.UpdateTwin(ctx(t), user)
			made <- err
		}()
		gone := n.reg.DeleteTwin(ctx(t), gateway, 0)
		one, two := <-made, <-made
		switch {
		case gone == nil && (one == nil || two == nil):
			t.Fatalf("%s is deleted, and named by a new twin: %v, %v", gateway, one, two)
		case gone == nil:
			deleted++
		case !errors.Is(gone, actors.ErrInUse):
			t.Errorf("delete %s: %v", gateway, gone)
		}
	}
	t.Logf("%d of 40 deletions came first", deleted)
	// Its users gone, a gateway can be deleted, and leaves nothing.
	n.twin(`{"id":"gate","driver":"probe"}`)
	n.twin(`{"id":"behind","driver":"probe","via":"gate"}`)
	if err := n.reg.DeleteTwin(ctx(t), "gate", 0); !errors.Is(err, actors.ErrInUse) {
		t.Errorf("delete a gateway in use: %v", err)
	}
	for _, id := range []string{"behind", "gate"} {
		if err := n.reg.DeleteTwin(ctx(t), id, 0); err != nil {
			t.Error(err)
		}
	}
	for rec, err := range n.store.Scan("use", "join\x00default/gate", "") {
		t.Errorf("%q is left, %v", rec.Key, err)
	}
}

func TestInboxIsBounded(t *testing.T) {
	n := newNode(t, func(o *actors.Options) { o.Inbox = 3 })
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	n.twin(`{"id":"lab/b","driver":"probe"}`)
	size := func(project string) int {
		list, err := n.reg.ListInbox(&pb.ListInboxRequest{Project: project}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(list.Entries)
	}
	for i := range 5 {
		n.must("a", "discover", fmt.Sprintf(`{"text":"d%d"}`, i))
	}
	until(t, "the inbox is full", func() bool { return size("default") == 3 })
	n.must("a", "discover", `{"text":"d1"}`) // known already
	until(t, "what found no room is counted", func() bool { return n.engine.Stats().Dropped["inbox_full"] >= 2 })
	if d := n.engine.Stats().Dropped["inbox_full"]; d != 2 {
		t.Errorf("%d drops", d)
	}
	n.must("lab/b", "discover", `{"text":"d0"}`) // another project's
	until(t, "the other has it", func() bool { return size("lab") == 1 && size("default") == 3 })
	n.twin(`{"id":"c","driver":"probe","aliases":[{"network":"probe","key":"serial","value":"d1"}]}`)
	until(t, "there is room again", func() bool {
		n.must("a", "discover", `{"text":"d4"}`)
		return size("default") == 3
	})
}
