package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// heldField is how the command line has a field of a record: the words that change it, those that empty it, and what the table of get shows.
type heldField struct {
	set, clear []string
	shown      string
	why        string // there are no such words
}

// heldRecord is a record with its fields, and the commands that are to change one and leave the others.
type heldRecord struct {
	record      string   // as in a file for apply
	get, change []string // words of the commands, with the record's id
	within      string   // where in what get prints it is
	// Change replaces the record by what its flags say: base are those that it cannot do without.
	replaces bool
	base     []string
	fields   map[string]heldField
}

// notSet are fields of records that nobody sets by a field of their own.
var notSet = []string{"id", "revision", "state", "deleting", "create_time", "update_time", "update_by", "begin_time", "has_secret", "counts", "driver_digest",
	"driver_version", "project"}

// heldWhole are the kinds that have no commands for single fields: a model is its file, a channel is put whole, settings have names of their own.
var heldWhole = []string{"model", "channel", "zone_settings", "system_settings"}

// heldSetup is what the records below name.
const heldSetup = `model: {id: meter, thing: {"@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": tm:ThingModel, title: Meter, properties: {power: {type: number}}}}
---
model: {id: other, thing: {"@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": tm:ThingModel, title: Other, properties: {power: {type: number}}}}
---
zone: {id: hq}
---
zone: {id: aula}
---
topic: {id: changes}
---
topic: {id: more}
---
twin: {id: m1, model: meter}
---
twin: {id: m2, model: meter}
---
system: {id: room}
---
system: {id: hall}
---
relation: {from: m1, type: feeds, to: m2}
---
notifier: {id: book, log: {}}
`

// heldRecords have each field of each kind of record at least once.
func heldRecords(dir string) []heldRecord {
	return slices.Concat(heldPlaces(), heldFlows(dir), heldAutomation(dir))
}

// revision gives that of the record.
func (h *heldRecord) revision(t *testing.T, env []string) string {
	t.Helper()
	var m struct{ Revision string }
	if r := cli(t.Context(), env, append(slices.Clone(h.get), "-o", "json")...); json.Unmarshal([]byte(r.out), &m) != nil || m.Revision == "" {
		t.Fatalf("%v: %s%s", h.get, r.out, r.err)
	}
	return m.Revision
}

// configured gives the record that get prints.
func (h *heldRecord) configured(t *testing.T, env []string, like proto.Message) proto.Message {
	t.Helper()
	r := cli(t.Context(), env, append(slices.Clone(h.get), "-o", "json")...)
	if r.code != 0 {
		t.Fatalf("%v: %s", h.get, r.err)
	}
	text := json.RawMessage(r.out)
	if h.within != "" {
		var all map[string]json.RawMessage
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		text = all[h.within]
	}
	m := like.ProtoReflect().New().Interface()
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, m); err != nil {
		t.Fatalf("%v: %v in %s", h.get, err, r.out)
	}
	for i := range m.ProtoReflect().Descriptor().Fields().Len() {
		if f := m.ProtoReflect().Descriptor().Fields().Get(i); slices.Contains(notSet, string(f.Name())) {
			m.ProtoReflect().Clear(f)
		}
	}
	return m
}

// put makes the record what its file says.
func (h *heldRecord) put(t *testing.T, env []string) proto.Message {
	t.Helper()
	lines, err := parseConfig(strings.NewReader(h.record), "record", "held")
	if err != nil {
		t.Fatal(err)
	}
	says(t, env, "", 0, "apply", "--project", "held", "-f", bulkFile(t, "record.yaml", h.record))
	var m proto.Message
	lines[0].rec.ProtoReflect().Range(func(_ protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		m = v.Message().Interface()
		return false
	})
	return m
}

// heldAsCode has all that is there exported as YAML, and applies it where it is from.
func heldAsCode(t *testing.T, env []string) {
	t.Helper()
	all := cli(t.Context(), env, "export", "held")
	unchanged := fmt.Sprintf("dry run, nothing is committed: %d unchanged", strings.Count("\n"+all.out, "\n---\n"))
	says(t, env, unchanged, 0, "apply", "--project", "held", "-f", bulkFile(t, "all.yaml", all.out), "--dry-run")
	shown := cli(t.Context(), env, "topic", "get", "held/t", "-o", "yaml")
	says(t, env, "dry run, nothing is committed: 1 unchanged", 0, "apply", "--project", "held", "-f", bulkFile(t, "topic.yaml", shown.out), "--dry-run")
}

// removeHeld leaves the node without the project, as the other tests find it.
func removeHeld(t *testing.T, env []string) {
	t.Helper()
	r := cli(t.Context(), env, "export", "held", "-o", "json")
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	slices.Reverse(lines)
	for _, line := range lines {
		rec := &pb.ConfigRecord{}
		if err := protojson.Unmarshal([]byte(line), rec); err != nil {
			t.Fatalf("%v in %s", err, r.out)
		}
		kind, id := actors.NameRecord(rec, "held", func(string, string) {})
		switch kind {
		case "project", "channel":
		case "route":
			says(t, env, "", 0, "topic", "route", "rm", id)
		case "simulation":
			says(t, env, "", 0, "sim", "rm", id)
		default:
			says(t, env, "", 0, kind, "rm", id)
		}
	}
	until(t, "the project to be gone", func() bool { // with settings it is there until it is removed, with records it cannot be
		r := cli(t.Context(), env, "project", "rm", "held")
		return r.code == 0 || strings.Contains(r.err, "not found")
	})
}

// Whoever changes one thing of a record by the command line leaves all others as they were, can take it away again, and is shown it. Every
// field that a record has is held to that, also one that is added tomorrow.
func TestRecordsAreHeld(t *testing.T) {
	drivertest.NeedEngine(t)
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	dir := t.TempDir()
	echo := filepath.Join(dir, "echo.wasm")
	if err := os.WriteFile(echo, drivertest.Echo(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"secret": "other", "record.csv": "time,power\n0,3\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	says(t, env, "", 0, "driver", "push", echo)
	says(t, env, "", 0, "apply", "--project", "held", "-f", bulkFile(t, "setup.yaml", heldSetup))
	says(t, env, "", 0, "logic", "push", "../../actors/testdata/logic/filter.js", "--as", "held/filter")
	defer func() {
		removeHeld(t, env)
		says(t, env, "", 0, "driver", "rm", "filter@1.0.0")
		says(t, env, "", 0, "driver", "rm", "echo@1.0.0")
	}()
	tried := map[string]map[string]bool{}
	defer heldAsCode(t, env)
	for _, h := range heldRecords(dir) {
		full := h.put(t, env)
		d := full.ProtoReflect().Descriptor()
		if tried[string(d.Name())] == nil {
			tried[string(d.Name())] = map[string]bool{}
			for i := range d.Fields().Len() {
				if name := string(d.Fields().Get(i).Name()); !slices.Contains(notSet, name) {
					tried[string(d.Name())][name] = false
				}
			}
		}
		for name := range h.fields {
			tried[string(d.Name())][name] = true
		}
		t.Run(strings.Join(h.get, " "), func(t *testing.T) { h.hold(t, env, full) })
	}
	kinds := (&pb.ConfigRecord{}).ProtoReflect().Descriptor().Fields()
	for i := range kinds.Len() {
		if f := kinds.Get(i); tried[string(f.Message().Name())] == nil && !slices.Contains(heldWhole, string(f.Name())) {
			t.Errorf("nobody tries what the command line has of a %s", f.Name())
		}
	}
	for kind, fields := range tried {
		for name, ok := range fields {
			if !ok {
				t.Errorf("nobody tries how the command line has %s of a %s", name, kind)
			}
		}
	}
}

func (h *heldRecord) hold(t *testing.T, env []string, full proto.Message) {
	table := cli(t.Context(), env, h.get...)
	for name, how := range h.fields {
		f := full.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
		if f == nil {
			t.Errorf("there is no %s", name)
			continue
		}
		if how.shown != "" && !strings.Contains(table.out, how.shown) {
			t.Errorf("%s: %v does not show %q:\n%s", name, h.get, how.shown, table.out)
		}
		if how.why != "" {
			continue
		}
		h.try(t, env, f, full, how.set, true)
		if len(how.clear) > 0 {
			h.try(t, env, f, full, how.clear, false)
		}
	}
}

// try changes a field of the whole record, and holds all others against what they were.
func (h *heldRecord) try(t *testing.T, env []string, f protoreflect.FieldDescriptor, full proto.Message, words []string, there bool) {
	t.Helper()
	h.put(t, env)
	before := h.configured(t, env, full)
	args := slices.Clone(h.change)
	if h.replaces {
		args = append(args, h.base...)
	}
	if words[0] == "=" { // another command
		args = words[1:]
	} else {
		args = append(args, words...)
	}
	if r := cli(t.Context(), env, args...); r.code != 0 {
		t.Errorf("%s: pollux %s: [%d] %s%s", f.Name(), strings.Join(args, " "), r.code, r.out, r.err)
		return
	}
	after := h.configured(t, env, full)
	if got := after.ProtoReflect().Has(f); got != there && f.Name() != "secret" && f.Kind() != protoreflect.BoolKind {
		t.Errorf("%s is there: %v after pollux %s", f.Name(), got, strings.Join(args, " "))
	}
	if f.Name() != "secret" && !h.replaces && before.ProtoReflect().Get(f).Equal(after.ProtoReflect().Get(f)) {
		t.Errorf("%s is as it was after pollux %s", f.Name(), strings.Join(args, " "))
	}
	if h.replaces {
		return
	}
	before.ProtoReflect().Clear(f)
	after.ProtoReflect().Clear(f)
	if !proto.Equal(before, after) {
		t.Errorf("pollux %s changed more than %s:\n%v\n%v", strings.Join(args, " "), f.Name(), before, after)
	}
}

// Of those who change a record at the same time each is told that it is done, and it is, or is refused: nobody undoes what another one did.
func TestChangesAtOnce(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	says(t, env, "", 0, "apply", "--project", "held", "-f", bulkFile(t, "setup.yaml", heldSetup))
	defer removeHeld(t, env)
	for _, h := range []heldRecord{
		{record: `zone: {id: busy, parent: hq}`, get: []string{"zone", "get", "held/busy"}, change: []string{"zone", "put", "held/busy"}},
		{record: `system: {id: busy, zone: hq}`, get: []string{"system", "get", "held/busy"}, change: []string{"system", "put", "held/busy"}},
		{record: `relation: {from: m1, type: near, to: m2}`, get: []string{"relation", "get", "held/m1/near/m2"}, change: []string{"relation", "update", "held/m1/near/m2"}},
		{record: `twin: {id: busy, model: meter}`, get: []string{"twin", "get", "held/busy"}, change: []string{"twin", "update", "held/busy"}},
		{record: `topic: {id: busy}`, get: []string{"topic", "get", "held/busy"}, change: []string{"topic", "update", "held/busy"}, within: "topic"},
		{record: `sink: {id: busy, topic: changes, url: "https://a:1/x", paused: true}`, get: []string{"sink", "get", "held/busy"}, change: []string{"sink", "update", "held/busy"}},
		{record: `source: {id: busy, url: "kafka://127.0.0.1:1/x", paused: true}`, get: []string{"source", "get", "held/busy"}, change: []string{"source", "update", "held/busy"}},
		{record: `simulation: {id: busy, scenario: "twins: [m1]\nrecord: {csv: x.csv}\n", csv: "time,power\n0,1\n10,2\n", paused: true}`, get: []string{"sim", "get", "held/busy"}, change: []string{"sim", "update", "held/busy"}},
		{record: `notifier: {id: busy, webhook: {url: "http://127.0.0.1:1/"}, paused: true}`, get: []string{"notifier", "get", "held/busy"}, change: []string{"notifier", "update", "held/busy"}},
		{record: `detector: {id: busy, property: power, kind: DETECTOR_KIND_STUCK}`, get: []string{"detector", "get", "held/busy"}, change: []string{"detector", "update", "held/busy"}},
		{record: `project: {unknownSenders: UNKNOWN_SENDERS_INBOX}`, get: []string{"project", "get", "held"}, change: []string{"project", "update", "held"}, within: "settings"},
	} {
		h.atOnce(t, env)
	}
}

// busyWords change a thing each; of every command some are taken.
var busyWords = map[string][][]string{
	"title": {{"--title", "x"}}, "zone": {{"--kind", "x"}, {"--place", "1,2"}}, "system": {{"--member", "A=held/m1"}, {"--zone", "held/aula"}}, "relation": {{"--attribute", "a=1"}},
	"twin": {{"--label", "a=b"}, {"--zone", "held/aula"}, {"--alias", "busy/a/b"}, {"--stopped"}}, "topic": {{"--max-age", "5h"}, {"--max-messages", "5"}}, "sink": {{"--batch", "5"}, {"--batch-wait", "5s"}},
	"project": {{"--max-age", "1d"}, {"--quota", "twins=5"}, {"--unknown", "refuse"}, {"--keep", "event=30d"}}, "source": {{"--from", "kafka://127.0.0.1:1/y"}}, "sim": {{"--speed", "5"}, {"--model", "meter"}}, "notifier": {{"--limit", "5"}, {"--header", "X-A=b"}, {"--keep", "5"}},
	"detector": {{"--threshold", "5"}, {"--tolerance", "5"}, {"--twin", "m1"}},
}

func (h *heldRecord) atOnce(t *testing.T, env []string) {
	t.Helper()
	like := h.put(t, env)
	words := busyWords[h.change[0]]
	if !slices.Contains([]string{"twin", "project"}, h.change[0]) {
		words = append(slices.Clone(words), busyWords["title"]...)
	}
	done := make([]result, len(words))
	var all sync.WaitGroup
	for i, w := range words {
		all.Go(func() { done[i] = cli(t.Context(), env, append(slices.Clone(h.change), w...)...) })
	}
	all.Wait()
	after, some := h.configured(t, env, like), false
	for i, r := range done {
		if r.code != 0 {
			continue
		}
		some = true
		// What was done stands: doing it again changes nothing.
		if r := cli(t.Context(), env, append(slices.Clone(h.change), words[i]...)...); r.code != 0 || !proto.Equal(after, h.configured(t, env, like)) {
			t.Errorf("pollux %s %s was done, and is not there: %v", strings.Join(h.change, " "), strings.Join(words[i], " "), after)
		}
	}
	if !some {
		t.Errorf("nobody could change %v: %v", h.change, done)
	}
}

func heldPlaces() []heldRecord {
	return []heldRecord{
		{record: `zone: {id: z, parent: hq, title: Great hall, kind: room, place: {latitude: 52.5, longitude: 13.4}}`,
			get: []string{"zone", "get", "held/z"}, change: []string{"zone", "put", "held/z"}, fields: map[string]heldField{
				"parent": {set: []string{"--parent", "held/aula"}, clear: []string{"--parent="}, shown: "hq"},
				"title":  {set: []string{"--title", "x"}, clear: []string{"--title="}, shown: "Great hall"},
				"kind":   {set: []string{"--kind", "x"}, clear: []string{"--kind="}, shown: "room"},
				"place":  {set: []string{"--place", "1,2"}, clear: []string{"--place="}, shown: "52.5,13.4"},
			}},
		{record: `system: {id: s, zone: hq, title: Room one, members: [{name: A, twin: m1}, {name: B, twin: m2}]}`,
			get: []string{"system", "get", "held/s"}, change: []string{"system", "put", "held/s"}, fields: map[string]heldField{
				"zone":    {set: []string{"--zone", "held/aula"}, clear: []string{"--zone="}, shown: "hq"},
				"title":   {set: []string{"--title", "x"}, clear: []string{"--title="}, shown: "Room one"},
				"members": {set: []string{"--member", "C=held/m1"}, clear: []string{"--member="}, shown: "B"},
			}},
		{record: `relation: {from: m1, type: feeds, to: m2, title: Loop, attributes: {port: 3, cable: red}}`,
			get: []string{"relation", "get", "held/m1/feeds/m2"}, change: []string{"relation", "update", "held/m1/feeds/m2"}, fields: map[string]heldField{
				"from": {why: "it is what a relation is", shown: "m1"}, "to": {why: "it is what a relation is", shown: "m2"},
				"type":       {why: "it is what a relation is", shown: "feeds"},
				"title":      {set: []string{"--title", "x"}, clear: []string{"--title="}, shown: "Loop"},
				"attributes": {set: []string{"--attribute", "port=4"}, clear: []string{"--attribute="}, shown: `"cable"`},
			}},
		{record: `twin: {id: t1, driver: echo, labels: {floor: "2"}, settings: {topic: lamp, greeting: hello}, zone: hq, aliases: [{network: lora, key: eui, value: "7"}], stopped: true, selector: "!tape",
  derived: {twice: "sum(twins(\"m1\").power) * 2.0"}}`,
			get: []string{"twin", "get", "held/t1"}, change: []string{"twin", "update", "held/t1"}, fields: map[string]heldField{
				"driver":   {set: []string{"--driver", "echo@1.0.0"}, shown: "echo"},
				"labels":   {set: []string{"--label", "room=1"}, clear: []string{"--label", "floor="}, shown: "floor=2"},
				"settings": {set: []string{"--setting", "greeting=x"}, shown: "hello"},
				"zone":     {set: []string{"--zone", "held/aula"}, clear: []string{"--zone="}, shown: "hq"},
				"aliases":  {set: []string{"--alias", "lora/eui/8"}, clear: []string{"--alias="}, shown: "lora/eui/7"},
				"stopped":  {set: []string{"--stopped=false"}, shown: "stopped"},
				"selector": {set: []string{"--selector", "!disk"}, clear: []string{"--selector="}, shown: "!tape"},
				"derived":  {set: []string{"--derived", "one=1.0"}, clear: []string{"--derived", "twice="}, shown: "* 2.0"},
				"uri":      {why: "no driver of this test has one"},
			}},
		{record: `twin: {id: t2, model: meter, via: m1}`, get: []string{"twin", "get", "held/t2"}, change: []string{"twin", "update", "held/t2"}, fields: map[string]heldField{
			"model": {set: []string{"--model", "held/other"}, shown: "meter"},
			"via":   {set: []string{"--via", "held/m2"}, clear: []string{"--via="}, shown: "m1"},
		}},
		{record: `twin: {id: f, driver: filter, system: room, settings: {limit: 3}, labels: {a: b}, reads: [{topic: changes, channel: c}]}`,
			get: []string{"twin", "get", "held/f"}, change: []string{"logic", "push", "../../actors/testdata/logic/filter.js", "--as", "held/f"}, fields: map[string]heldField{
				"system": {set: []string{"--system", "held/hall"}, clear: []string{"--system="}, shown: "room"},
				"reads":  {set: []string{"--topic", "more"}, clear: []string{"--topic="}, shown: "changes=c"},
			}},
		{record: `project: {unknownSenders: UNKNOWN_SENDERS_PROVISION, rules: [{network: lora, key: eui, value: "7*", model: meter, zone: hq, name: "m-{value}", labels: {kind: sensor}}], journalRetention: [{kind: event, name: door, maxAge: 86400s}],
  maxAge: 3600s, maxAhead: 60s, maxHistoryAge: 864000s, sampleRetention: [{model: meter, property: power, maxAge: 7200s, downsample: 60s, downsampleMaxAge: 86400s}], quotas: {twins: 100, series: 7, journalBytes: 1048576, topicBytes: 2097152},
  pubsubPush: {audience: everybody, senders: [push@plant.example], keysUrl: "https://keys.example/", issuer: "https://issuer.example"}}`,
			get: []string{"project", "get", "held"}, change: []string{"project", "update", "held"}, within: "settings", fields: map[string]heldField{
				"unknown_senders":   {set: []string{"--unknown", "refuse"}, shown: "provision"},
				"rules":             {set: []string{"--rule", "network=x model=held/meter"}, shown: "kind=sensor"},
				"journal_retention": {set: []string{"=", "retention", "set", "--project", "held", "event=30d", "samples/meter/power=2h,1m:1d"}, shown: "door"},
				"sample_retention":  {set: []string{"=", "retention", "set", "--project", "held", "event/door=1d", "samples=30d"}, shown: "power"},
				"max_age":           {set: []string{"--max-age", "1d"}, clear: []string{"--max-age", "0"}, shown: "1h"},
				"max_ahead":         {set: []string{"--max-ahead", "1d"}, clear: []string{"--max-ahead", "0"}, shown: "1m"},
				"max_history_age":   {set: []string{"--max-history", "1d"}, clear: []string{"--max-history", "0"}, shown: "240h"},
				"quotas":            {set: []string{"--quota", "twins=5"}, shown: "1.0 MiB"},
				"pubsub_push": {set: []string{"=", "ingest", "pubsub", "--project", "held", "--sender", "x@plant.example"},
					clear: []string{"=", "ingest", "pubsub", "--project", "held", "--off"}, shown: "push@plant.example"},
			}},
		{record: `project: {unknownSenders: UNKNOWN_SENDERS_REFUSE, rules: [{model: meter}]}`,
			get: []string{"project", "get", "held"}, change: []string{"project", "update", "held"}, within: "settings", fields: map[string]heldField{
				"rules": {set: []string{"=", "ingest", "unknown", "--project", "held", "--rule", "network=x model=held/meter"}, clear: []string{"--rule", "none"}},
			}},
	}
}
