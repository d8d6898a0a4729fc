package actors_test

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// exported gives a project's records, one per line of JSON.
func (n *node) exported(project string) (all []string) {
	n.t.Helper()
	err := n.reg.Export(ctx(n.t), project, func(page []*pb.ConfigRecord) error {
		for _, rec := range page {
			text, err := protojson.Marshal(rec)
			if err != nil {
				return err
			}
			all = append(all, string(text))
		}
		return nil
	})
	if err != nil {
		n.t.Fatal(err)
	}
	return all
}

// Topics, channels, routes and what a project does with messages are configuration like twins are.
func TestApplyMessages(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	const topics, channel = `{"topic":{"id":"alarms","title":"Alarms","maxMessages":"500"}}`, `{"channel":{"topic":"alarms","name":"desk","settings":{"maxAttempts":3}}}`
	const route, project = `{"route":{"id":"hot","topics":["alarms"],"when":"value > 30.0"}}`,
		`{"project":{"unknownSenders":"UNKNOWN_SENDERS_PROVISION","rules":[{"network":"lora","driver":"probe","zone":"hall"}]}}`

	// In a dry run what groups before it make counts as there.
	sameLines(t, "dry run", n.tried(configs(t, topics, `{"zone":{"id":"hall"}}`), configs(t, channel, route, project)), "created topic default/alarms",
		"created zone default/hall", "created channel default/alarms/desk", "created route default/hot", "created project default")
	sameLines(t, "no topic", n.apply(&pb.ApplyRequest{Each: true, Records: configs(t, channel, route, project, `{"project":{"project":"other"}}`)}),
		"refused channel default/alarms/desk /topic: invalid /topic: there is no topic default/alarms", "refused route default/hot /route/topics/0",
		"refused project default /settings/rules/0/zone", "refused project other /project")

	for _, line := range []string{`{"zone":{"id":"hall"}}`, topics, channel, route, project} {
		sameLines(t, line, n.apply(&pb.ApplyRequest{Records: configs(t, line)}), "created ")
		sameLines(t, line, n.apply(&pb.ApplyRequest{Records: configs(t, line)}), "unchanged ")
	}
	sameLines(t, "a topic", n.apply(&pb.ApplyRequest{Records: configs(t, strings.Replace(topics, "500", "600", 1))}),
		`changed topic default/alarms max_messages:"500"->"600"`)
	sameLines(t, "a channel", n.apply(&pb.ApplyRequest{Records: configs(t, strings.Replace(channel, "3", "4", 1))}),
		`changed channel default/alarms/desk settings.max_attempts:3->4`)
	sameLines(t, "a route", n.apply(&pb.ApplyRequest{Records: configs(t, strings.Replace(route, "30", "31", 1))}),
		`changed route default/hot when:"value > 30.0"->"value > 31.0"`)
	if s, err := n.reg.ProjectSettings("default"); err != nil || len(s.Rules) != 1 || s.Rules[0].Zone != "default/hall" {
		t.Errorf("%v, %v", s, err)
	}

	// What is exported changes nothing where it came from.
	all := n.exported("default")
	if len(all) != 5 {
		t.Fatalf("%d records: %q", len(all), all)
	}
	for _, line := range all {
		sameLines(t, line, n.apply(&pb.ApplyRequest{Records: configs(t, line)}), "unchanged ")
		if strings.Contains(line, "revision") {
			t.Error(line)
		}
	}
}

// Sinks, sources and simulations are configuration; secrets are sealed, never shown, and kept where a document does not know them.
func TestApplyWaysInAndOut(t *testing.T) {
	n := newNode(t)
	n.sensors()
	const sink = `{"sink":{"id":"out","topic":"changes","url":"s3://lake/x?endpoint=127.0.0.1:1&access_key=k&tls=false","secret":"hush","paused":true}}`
	const source = `{"source":{"id":"in","url":"kafka://127.0.0.1:1/readings","paused":true}}`
	const sim = `{"simulation":{"id":"day","scenario":"twins: [a]\nvalues: {level: {keys: {0s: 1}}}","model":"sensor","paused":true}}`
	sameLines(t, "no topic", n.apply(&pb.ApplyRequest{Records: configs(t, sink)}), "refused sink default/out /sink/topic")
	sameLines(t, "dry run", n.tried(configs(t, `{"topic":{"id":"changes"}}`), configs(t, sink)), "created topic default/changes", "created sink default/out")
	for _, line := range []string{`{"topic":{"id":"changes"}}`, sink, source, sim} {
		sameLines(t, line, n.apply(&pb.ApplyRequest{Records: configs(t, line)}), "created ")
		sameLines(t, line, n.apply(&pb.ApplyRequest{Records: configs(t, line)}), "unchanged ")
	}
	sameLines(t, "a secret", n.apply(&pb.ApplyRequest{Records: configs(t, strings.Replace(sink, "hush", "hush hush", 1))}), `changed sink default/out secret:"***"->"***"`)
	sameLines(t, "another host", n.apply(&pb.ApplyRequest{Records: configs(t, strings.NewReplacer("hush", "***", "127.0.0.1:1", "evil:1").Replace(sink))}),
		"refused sink default/out /sink/secret")
	sameLines(t, "no secret", n.apply(&pb.ApplyRequest{Records: configs(t, strings.Replace(source, `"paused"`, `"secret":"***","paused"`, 1))}),
		"refused source default/in /source/secret")
	all := n.exported("default")
	found := 0
	for _, line := range all {
		if strings.Contains(line, "hush") || strings.Contains(line, "sealed") || strings.Contains(line, "beginTime") {
			t.Error(line)
		}
		if strings.Contains(line, `"***"`) {
			found++
		}
		sameLines(t, line, n.apply(&pb.ApplyRequest{Records: configs(t, line)}), "unchanged ")
	}
	if len(all) != 5 || found != 1 {
		t.Errorf("exported %q", all)
	}
}

// Every field of a ConfigRecord has its kind, and every kind its field: one alone would be refused by all.
func TestConfigKinds(t *testing.T) {
	fields := (&pb.ConfigRecord{}).ProtoReflect().Descriptor().Fields()
	kinds := map[string]bool{}
	for _, k := range actors.ConfigKinds() {
		kinds[k.Name] = true
		if fields.ByName(protoreflect.Name(k.Name)) == nil {
			t.Errorf("ConfigRecord has no %s", k.Name)
		}
	}
	for i := range fields.Len() {
		if name := string(fields.Get(i).Name()); !kinds[name] {
			t.Errorf("no kind is called %s", name)
		}
	}
}
