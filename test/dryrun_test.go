package test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// site is a project with a document of each kind.
const site = `model: {id: meter, thing: {"@context": https://www.w3.org/2022/wot/td/v1.1, "@type": tm:ThingModel, title: Meter, properties: {power: {type: number, unit: W}, mode: {type: string}, open: {type: boolean}}}}
---
model: {id: floor, thing: {"@context": https://www.w3.org/2022/wot/td/v1.1, "@type": tm:ThingModel, title: Floor, properties: {area: {type: number, "pollux:virtual": true}, half: {type: number, readOnly: true, "pollux:derived": twin.properties.area / 2.0}}}}
---
zone: {id: hq, kind: building, place: {latitude: 52.5, longitude: 13.4}}
---
zone: {id: floor-1, parent: hq}
---
zone: {id: aula, parent: floor-1}
---
zone: {id: cellar, parent: hq}
---
zone_settings: {id: floor-1, values: {topic: lamp, poll_s: 12}}
---
project:
  unknown_senders: UNKNOWN_SENDERS_PROVISION
  rules: [{network: lora, model: meter, zone: aula}]
  quotas: {twins: 20}
---
topic: {id: changes, max_age: 86400s}
---
channel: {topic: changes, name: archive, settings: {max_attempts: 3}}
---
twin: {id: meter-1, model: meter, zone: aula, labels: {floor: "1"}, aliases: [{network: lora, key: eui, value: "1"}]}
---
twin: {id: meter-2, model: meter, zone: cellar, aliases: [{network: lora, key: eui, value: "2"}]}
---
twin: {id: behind, model: meter, via: meter-1}
---
twin: {id: storey, model: floor, zone: floor-1, derived: {load: 'sum(zone.twins().power)'}}
---
twin: {id: beamer, driver: pjlink, uri: "tcp://127.0.0.1:1", zone: aula, stopped: true, settings: {password: hush}}
---
twin: {id: lamp, driver: tasmota, zone: floor-1, stopped: true}
---
twin: {id: brain, driver: aula, stopped: true, reads: [{topic: changes}]}
---
route: {id: all, topics: [changes], when: value != null}
---
route: {id: judged, topics: [changes], run: brain}
---
system: {id: room, zone: aula, members: [{name: Display_1, twin: beamer}, {name: Meter_1, twin: meter-1}]}
---
system_settings: {id: room, values: {poll_s: 20, password: hush hush}}
---
relation: {from: meter-1, type: feeds, to: beamer}
---
relation: {from: storey, type: has, to: "zone:floor-1"}
---
notifier: {id: people, log: {}}
---
notifier: {id: judge, logic: {logic: brain}}
---
schedule: {id: evening, timing: {sun: {set: true, zone_id: aula}}, actions: [{notify: {notifier: people, body: evening}}]}
---
rule: {id: high, when: [{property: {of: {model: meter}, names: [power]}}], if: value > 10.0, then: [{notify: {notifier: people}}]}
---
rule: {id: cold, when: [{property: {of: {zone: cellar}, names: [power]}}], if: value < 1.0, then: [{raise: {text: cold}}]}
---
sink: {id: lake, topic: changes, url: "s3://lake/x?endpoint=127.0.0.1:1&access_key=k&tls=false", secret: hush, paused: true}
---
source: {id: readings, url: "kafka://127.0.0.1:1/readings", paused: true}
---
simulation: {id: day, scenario: "twins: [meter-1]\nvalues: {power: {keys: {0s: 1}}}", model: meter, paused: true}
---
detector: {id: odd, of: {twins: [meter-1]}, property: power, kind: DETECTOR_KIND_EWMA}
---
detector: {id: judged, of: {zone: aula}, property: power, kind: DETECTOR_KIND_MODULE, logic: brain}
`

// A dry run says of each record what applying it says, in a project with nothing in it as in one that the files have been applied to before: of
// files that are right, and of those in which something is wrong that only what is in them elsewhere tells.
func TestDryRunSaysWhatApplyDoes(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "pjlink")
	n.Must("driver", "add", "tasmota")
	n.Must("logic", "push", filepath.Join("..", "deploy", "examples", "room", "aula.js"))
	p := 0
	for _, c := range []struct {
		name string
		edit []string // what stands where in the files, by turns
		// fresh is what is refused in a project without anything, early in one of the site, in words of the error; "": nothing.
		fresh, early string
	}{
		{name: "all as it is"},
		{"a condition for a number is one for a text", []string{"value > 10.0", `value > "10"`}, "power of model meter is a number", "power of model meter is a number"},
		{"a condition on a text is one for a number", []string{"names: [power]}}], if: value > 10.0", "names: [mode]}}], if: value < 15"}, "mode of model meter", "mode of model meter"},
		{"a condition by the twins of a zone", []string{"value < 1.0", `value == "off"`}, "power of", "power of"},
		{"a property is of another type now", []string{"power: {type: number, unit: W}", "power: {type: string}", "value < 1.0", "value < 2.0", "value > 10.0", `value == "a"`},
			"power of", "power of"},
		{"a property is gone, and what named it goes by nothing", []string{"power: {type: number, unit: W}, ", "", "value < 1.0", `value < "x"`}, "", ""},
		{"a twin goes to a zone with another condition", []string{"model: meter, zone: cellar", "model: floor, zone: cellar", "{zone: cellar}, names: [power]", "{zone: cellar}, names: [area]",
			"value < 1.0", `value == "a"`}, "area of", "area of"},
		{"a zone's twins are gone, and the condition with them", []string{"zone: cellar, aliases", "zone: hq, aliases", "value < 1.0", `value == "a"`}, "", ""},
		{"a zone in a zone that there is not", []string{"parent: floor-1", "parent: floor-2"}, "there is no zone", "there is no zone"},
		{"zones in each other", []string{"id: hq, kind", "id: hq, parent: aula, kind"}, "there is no zone", "is below"},
		{"zones change places", []string{"id: floor-1, parent: hq", "id: floor-1", "id: hq, kind", "id: hq, parent: floor-1, kind"}, "", ""},
		{"a twin in a zone that there is not", []string{"model: meter, zone: cellar", "model: meter, zone: attic"}, "there is no", "there is no"},
		{"a twin of a model that there is not", []string{"id: behind, model: meter", "id: behind, model: metre"}, "there is no model", "there is no model"},
		{"a twin of another kind", []string{"id: behind, model: meter", "id: behind, driver: nope"}, "there is no driver", "goes over to another"},
		{"a setting that the driver does not have", []string{"settings: {password: hush", "settings: {pasword: hush"}, "pasword", "pasword"},
		{"another secret", []string{"settings: {password: hush", "settings: {password: hash"}, "", ""},
		{"a secret to keep", []string{"settings: {password: hush", `settings: {password: "***"`}, "none to keep", ""},
		{"settings of a zone that there is not", []string{"zone_settings: {id: floor-1", "zone_settings: {id: floor-2"}, "not found", "not found"},
		{"settings that no driver has", []string{"topic: lamp, poll_s", "topik: lamp, poll_s"}, "no installed driver", "no installed driver"},
		{"settings beyond what a driver takes", []string{"poll_s: 20", "poll_s: 1"}, "poll_s", "poll_s"},
		{"settings that a twin of the zone needs", []string{"topic: lamp, poll_s", "poll_s"}, "minLength", "lamp"},
		{"settings that the zone has from the one around it", []string{"zone_settings: {id: floor-1, values", "zone_settings: {id: hq, values"}, "", ""},
		{"a twin that has no more settings where it goes", []string{"tasmota, zone: floor-1", "tasmota, zone: cellar"}, "topic", "topic"},
		{"a twin that has what it needs itself", []string{"topic: lamp, poll_s", "poll_s", "stopped: true}\n---\ntwin: {id: brain", "settings: {topic: lamp}, stopped: true}\n---\ntwin: {id: brain"}, "", "lamp"},
		{"other settings of a system", []string{"password: hush hush", "password: hash"}, "", ""},
		{"a formula with a property that the model has", []string{"derived: {load:", "derived: {area:"}, "has a property of that name", "has a property of that name"},
		{"a formula that the model has by now", []string{"area: {type: number,", "load: {type: number}, area: {type: number,"}, "has a property of that name", "has a property of that name"},
		{"a formula of itself", []string{"properties.area", "properties.half"}, "depend on itself", "depend on itself"},
		{"an alias twice in one group", []string{`value: "2"`, `value: "1"`}, "another twin of the group has it", "already exists"},
		{"an alias goes over to one of a later group", []string{`labels: {floor: "1"}, aliases: [{network: lora, key: eui, value: "1"}]`, "labels: {}", "via: meter-1",
			`via: meter-1, aliases: [{network: lora, key: eui, value: "1"}]`}, "", ""},
		{"an alias that one of an earlier group has", []string{"via: meter-1", `via: meter-1, aliases: [{network: lora, key: eui, value: "1"}]`}, "already exists", "already exists"},
		{"quota: one too few", []string{"twins: 20", "twins: 6"}, "6 twins of 6", ""},
		{"quota: one more twin than there are", []string{"twins: 20", "twins: 7", "twin: {id: behind,", "twin: {id: more, model: meter}\n---\ntwin: {id: behind,"}, "7 twins of 7", "7 twins of 7"},
		{"quota: just enough", []string{"twins: 20", "twins: 7"}, "", ""},
		{"a logic that is none", []string{"run: brain", "run: meter-1"}, "no logic", "no logic"},
		{"a detector's logic that is none", []string{"logic: brain}\n", "logic: behind}\n"}, "no logic", "no logic"},
		{"a notifier's logic that there is not", []string{"judge, logic: {logic: brain}", "judge, logic: {logic: brian}"}, "there is no logic", "there is no logic"},
		{"topics that no logic reads", []string{"id: meter-2, model: meter,", "id: meter-2, model: meter, reads: [{topic: changes}],"}, "only a logic", "only a logic"},
		{"a topic that there is not", []string{"topics: [changes], when", "topics: [change], when"}, "there is no topic", "there is no topic"},
		{"a channel of a topic that there is not", []string{"channel: {topic: changes", "channel: {topic: change"}, "there is no topic", "there is no topic"},
		{"another channel", []string{"max_attempts: 3", "max_attempts: 4"}, "", ""},
		{"a member that there is not", []string{"twin: beamer}", "twin: screen}"}, "there is no twin", "there is no twin"},
		{"a member less", []string{"{name: Display_1, twin: beamer}, ", ""}, "", ""},
		{"a relation to nobody", []string{"feeds, to: beamer", "feeds, to: screen"}, "there is no twin", "there is no twin"},
		{"a notifier that there is not", []string{"notifier: people, body", "notifier: nobody, body"}, "there is no notifier", "there is no notifier"},
		{"a provision rule with a zone that there is not", []string{"model: meter, zone: aula}]", "model: meter, zone: hall}]"}, "there is no zone", "there is no zone"},
		{"a provision rule with a model that there is not", []string{"model: meter, zone: aula}]", "model: metre, zone: aula}]"}, "there is no model", "there is no model"},
		{"a sink of a topic that there is not", []string{"lake, topic: changes", "lake, topic: change"}, "there is no topic", "there is no topic"},
		{"a sink's secret for another host", []string{"127.0.0.1:1&access_key=k&tls=false\", secret: hush", "127.0.0.2:1&access_key=k&tls=false\", secret: \"***\""}, "none to keep", "another host"},
		{"a simulation of a model that there is not", []string{"model: meter, paused", "model: metre, paused"}, "there is no model", "there is no model"},
		{"a scenario that is none", []string{"power: {keys: {0s: 1}}", "power: {keys: {0s: 1}, kees: 1}"}, "kees", "kees"},
		{"more than a group of twins", []string{"twin: {id: behind,", manyTwins(230) + "twin: {id: behind,", "twins: 20", "twins: 300"}, "", ""},
		{"more than a group of twins, and the quota ends in the second", []string{"twin: {id: behind,", manyTwins(230) + "twin: {id: behind,", "twins: 20", "twins: 220"}, "220 twins of 220", "220 twins of 220"},
	} {
		t.Run(c.name, func(t *testing.T) {
			is := site
			for i := 0; i < len(c.edit); i += 2 {
				if strings.Count(is, c.edit[i]) != 1 {
					t.Fatalf("%q is %d times in the files", c.edit[i], strings.Count(is, c.edit[i]))
				}
				is = strings.Replace(is, c.edit[i], c.edit[i+1], 1)
			}
			for _, early := range []bool{false, true} {
				p++
				project, want := fmt.Sprintf("site-%d", p), c.fresh
				if early {
					want = c.early
					if _, refused := bring(t, n, project, site); refused != "" {
						t.Fatal(refused)
					}
				}
				tried, _ := bring(t, n, project, is, "--dry-run")
				done, refused := bring(t, n, project, is)
				if (want == "") != (refused == "") || !strings.Contains(refused, want) {
					t.Errorf("early %v: refused was %q, want %q", early, refused, want)
				}
				if documents := strings.Count(is, "\n---\n") + 1; len(tried) != documents || len(done) > documents || refused == "" && len(done) < documents {
					t.Fatalf("early %v: of %d documents %d were tried, %d done", early, documents, len(tried), len(done))
				}
				for i, x := range done {
					if !proto.Equal(tried[i], x) {
						t.Errorf("early %v: the dry run said\n%v, apply\n%v", early, tried[i], x)
					}
				}
			}
		})
	}
}

// So does the dry run of a list, of each of its lines, over several groups.
func TestDryRunOfAListSaysWhatImportDoes(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	if _, refused := bring(t, n, "lamps", strings.Split(site, "---")[0]+"---\nproject: {quotas: {twins: 301}}\n"); refused != "" {
		t.Fatal(refused)
	}
	var csv strings.Builder
	csv.WriteString("id,model,via,aliases\n")
	for i := range 450 {
		switch {
		case i%100 == 7:
			fmt.Fprintf(&csv, "lamp-%03d,metre,,\n", i)
		case i%100 == 8: // an alias of an earlier group
			fmt.Fprintf(&csv, "lamp-%03d,meter,,bus:addr:%d\n", i, i-150)
		case i%100 == 9: // behind one of its own group, which begins another
			fmt.Fprintf(&csv, "lamp-%03d,meter,lamp-%03d,\n", i, i-3)
		default:
			fmt.Fprintf(&csv, "lamp-%03d,meter,,bus:addr:%d\n", i, i)
		}
	}
	path := filepath.Join(t.TempDir(), "lamps.csv")
	if err := os.WriteFile(path, []byte(csv.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	tried, first := command(t, n, "import", "twins", path, "--project", "lamps", "-o", "json", "--dry-run")
	done, refused := command(t, n, "import", "twins", path, "--project", "lamps", "-o", "json")
	if len(done) != 450 || len(tried) != 450 || !strings.Contains(refused, "no model") || first != refused {
		t.Fatalf("of 450 %d and %d were done and tried; %s, %s", len(done), len(tried), refused, first)
	}
	quota := 0
	for i, x := range done {
		if !proto.Equal(tried[i], x) {
			t.Errorf("the dry run said\n%v, import\n%v", tried[i], x)
		}
		if strings.Contains(x.Error, "301 twins of 301") {
			quota++
		}
	}
	if quota == 0 {
		t.Error("there was room for all")
	}
}

// manyTwins are documents of n twins, the last thing of which is that another one follows.
func manyTwins(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "twin: {id: t%03d, model: meter, zone: cellar}\n---\n", i)
	}
	return b.String()
}

// bring applies files to a project, and gives what was said of each record, and why the first that was refused was.
func bring(t *testing.T, n *harness.Node, project, files string, flags ...string) (all []*pb.ApplyResult, refused string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "site.yaml")
	if err := os.WriteFile(path, []byte(files), 0o600); err != nil {
		t.Fatal(err)
	}
	return command(t, n, append([]string{"apply", "-f", path, "--project", project, "-o", "json"}, flags...)...)
}

// command gives what a command printed of each record, and why the first that was refused was.
func command(t *testing.T, n *harness.Node, args ...string) (all []*pb.ApplyResult, refused string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, failed := n.Command(ctx, args...)
	for line := range strings.Lines(out) {
		x := &pb.ApplyResult{}
		if !strings.HasPrefix(line, "{") {
			continue
		}
		if err := protojson.Unmarshal([]byte(line), x); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		x.Revision = 0
		if all = append(all, x); x.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_REFUSED && refused == "" {
			refused = x.Error
		}
	}
	if (failed != nil) != (refused != "") {
		t.Fatalf("refused %q, and the command says: %v", refused, failed)
	}
	return all, refused
}
