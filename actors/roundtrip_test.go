package actors_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// odd is text that a careless writer or reader changes.
const odd = " 007 \u2028\u0085\t\r\n'\"yes\u007f: {}\ufeff 😀"

// wholeProject is a record or more of every kind, in an order in which they can be made. TEXT is odd text.
const wholeProject = `{"model":{"id":"meter","thing_json":"{\"@context\":\"https://www.w3.org/2022/wot/td/v1.1\",\"@type\":\"tm:ThingModel\",\"title\":\"\\ud83d\\ude00\",\"properties\":{\"power\":{\"type\":\"number\",\"maximum\":1.50}}}"}}
{"zone":{"id":"hq","title":"TEXT","kind":"TEXT","place":{"latitude":0,"longitude":0}}}
{"zone":{"id":"aula","parent":"hq","place":{"latitude":-12.5,"longitude":179.99}}}
{"zone_settings":{"id":"hq","values":{"topic":"in-hq","poll":250},"secrets":["mute"]}}
{"zone_settings":{"id":"aula","values":{"poll":700}}}
{"project":{"unknownSenders":"UNKNOWN_SENDERS_PROVISION","rules":[{"network":"TEXT","key":"k*","value":"*","model":"meter","zone":"aula","name":"m-{value}","labels":{"a":"TEXT"}},{"driver":"probe@1.0.0"}],"journalRetention":[{"kind":"event","name":"TEXT","maxAge":"86400s"}],"maxAge":"3600s","maxAhead":"60s","maxHistoryAge":"864000s","sampleRetention":[{"model":"TEXT","property":"TEXT","maxAge":"7200s","downsample":"60s","downsampleMaxAge":"86400s"}],"quotas":{"twins":"100","series":"1","journalBytes":"9007199254740993","topicBytes":"1"},"pubsubPush":{"audience":"TEXT","senders":["a@b"],"keysUrl":"https://keys.example/","issuer":"TEXT"}}}
{"topic":{"id":"changes","title":"TEXT","maxAge":"3600s","maxMessages":"1","maxBytes":"1099511627776"}}
{"topic":{"id":"changes.dead"}}
{"channel":{"topic":"changes","name":"desk","settings":{"ackMode":"ACK_MODE_BY_HAND","ackTimeout":"1s","maxAttempts":1000,"backoffMin":"0.001s","backoffMax":"86400s","maxInFlight":1}}}
{"twin":{"id":"gw","driver":"probe","labels":{"floor":"02","no":"null"},"settings":{"poll":500},"stopped":true}}
{"twin":{"id":"behind","driver":"probe","via":"gw","zone":"aula","aliases":[{"network":"TEXT","key":"k/%","value":"1e3"},{"network":"n","key":"k","value":"007"}],"derived":{"twice":"sum(twins(\"gw\").ups) * 2.0"}}}
{"twin":{"id":"m1","model":"meter","zone":"hq","selector":"zone!=a,gpu"}}
{"twin":{"id":"far","driver":"wire","uri":"tcp://127.0.0.1:1","stopped":true}}
{"twin":{"id":"filter","driver":"filter","system":"room","settings":{"limit":-0.125},"reads":[{"topic":"changes","channel":"filter"}]}}
{"route":{"id":"all","topics":["changes"],"when":"value != null && value < 3.0","properties":["TEXT"],"events":["e"],"twins":["m1"],"zone":"aula","labels":{"a":"b"},"terminate":true,"run":"filter"}}
{"route":{"id":"some","topics":["changes"],"driver":"probe","model":"meter"}}
{"system":{"id":"room","title":"TEXT","zone":"hq","members":[{"name":"TEXT","twin":"m1"},{"name":"Gw_1","twin":"gw"}]}}
{"system_settings":{"id":"room","values":{"topic":"in-room"},"secrets":["mute"]}}
{"relation":{"from":"m1","type":"feeds","to":"zone:aula","title":"TEXT","attributes":{"TEXT":["",null,{},[],"1",1,-0.5,true,{"a":"TEXT"}]}}}
{"relation":{"from":"zone:aula","type":"feeds","to":"system:room"}}
{"relation":{"from":"system:room","type":"feeds","to":"m1"}}
{"notifier":{"id":"desk","title":"TEXT","webhook":{"url":"http://127.0.0.1:1/in"},"paused":true,"body":"TEXT","subject":"TEXT"}}
{"notifier":{"id":"book","log":{}}}
{"schedule":{"id":"over","title":"TEXT","timing":{"calendar":{"times":["07:00"],"dates":["2020-12-24"]},"zone":"Europe/Berlin"},"actions":[{"notify":{"notifier":"desk","subject":"TEXT"}}],"jitter":"1.5s","missed":"MISSED_ALL"}}
{"schedule":{"id":"season","timing":{"cron":"0 7 * * *"},"windows":[{"from":"06:00","to":"08:00","notAfter":"2021-01-01T00:00:00Z"}],"actions":[{"set":{"to":{"twin":"m1"},"property":"p","value":null}}]}}
{"schedule":{"id":"once","timing":{"at":"2020-01-01T00:00:00.000000001Z"},"actions":[{"set":{"to":{"system":"room","name":"Gw"},"property":"p","value":"TEXT"}}],"paused":true}}
{"rule":{"id":"hot","title":"TEXT","when":[{"property":{"of":{"twins":["m1"]},"names":["power"]}},{"topic":{"topic":"changes"}},{"webhook":{"secret":"sixteen characters"}}],"if":"value > 1.0 && 1.0 < 2.0","for":"0.000000001s","then":[{"notify":{"notifier":"book"}},{"raise":{"severity":"ALARM_SEVERITY_ERROR","text":"TEXT","escalate":[{"after":"0s","actions":[{"notify":{"notifier":"desk"}}]}]}}],"otherwise":[{"clear":{}}],"atLeast":0,"priority":100,"disableAfter":4294967295,"stopOnStorm":true}}
{"sink":{"id":"out","title":"TEXT","topic":"changes","url":"s3://lake/x?endpoint=127.0.0.1:1&access_key=k&tls=false","secret":"TEXT","batchMessages":3,"batchWait":"0.001s","oldest":true,"paused":true}}
{"source":{"id":"in","title":"TEXT","url":"kafka://127.0.0.1:1/readings?user=a&sasl=plain","secret":"TEXT","paused":true}}
{"simulation":{"id":"day","title":"TEXT","scenario":"twins: [m1]\nrecord: {csv: x.csv}\n","csv":"time,power\r\n0,1\r\n10,2\r\n","model":"meter","paused":true,"speed":0,"from":"2020-01-01T00:00:00.5Z"}}
{"detector":{"id":"level","title":"TEXT","of":{"twins":["m1"]},"property":"power","kind":"DETECTOR_KIND_STUCK","threshold":1e-9,"window":"60s","tolerance":0.1,"paused":true}}
{"detector":{"id":"judge","property":"power","kind":"DETECTOR_KIND_MODULE","logic":"filter"}}
{"detector":{"id":"week","of":{"zone":"hq","system":"room","labels":{"a":"TEXT"},"model":"meter","driver":"probe","interface":"Powerable"},"property":"power","kind":"DETECTOR_KIND_SEASONAL","timeZone":"Europe/Berlin","output":"w"}}
{"detector":{"id":"spikes","property":"power","kind":"DETECTOR_KIND_EWMA","readings":7}}
` + wholeAutomation + wholeNotifiers

// recordsOf applies records one by one, as `pollux apply` does with what depends on each other, and gives the outcomes that are not want.
func (n *node) recordsOf(lines []string, want string) (others []string) {
	n.t.Helper()
	for _, line := range lines {
		for _, got := range n.apply(&pb.ApplyRequest{Records: configs(n.t, line)}) {
			if !strings.HasPrefix(got, want+" ") {
				others = append(others, got)
			}
		}
	}
	return others
}

// A project that is exported and applied to an empty cluster is the same project: every kind, whatever text is in it. Applied again
// nothing changes, here or there. The project has every field that a record can have, so that one that is added tomorrow is held too.
func TestRoundTrip(t *testing.T) {
	drivertest.NeedEngine(t)
	n := newNode(t)
	other := open(t, vfs.NewMem(), 1)
	for _, n := range []*node{n, other} {
		n.driver("probe", "1.0.0", "")
		n.driver("wire", "1.0.0", tcpTransport)
		n.logic("filter.js")
	}
	lines := wholeLines(t)
	for _, k := range actors.ConfigKinds() {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, `{"`+k.Name+`"`) }) {
			t.Errorf("no %s is tried", k.Name)
		}
	}
	if others := n.recordsOf(lines, "created"); len(others) > 0 {
		t.Fatalf("not made: %q", others)
	}
	if others := n.recordsOf(lines, "unchanged"); len(others) > 0 {
		t.Errorf("not kept as it was given: %q", others)
	}
	// What reads an outbox comes and goes with it.
	if _, err := n.client.Topics().PutChannel(ctx(t), &pb.PutChannelRequest{Topic: "default/desk.outbox", Name: "peek"}); err != nil {
		t.Fatal(err)
	}
	all := n.exported("default")
	if lost := without(t, all); len(lost) > 0 {
		t.Errorf("no record that is exported has %q: either none is tried with it (wholeProject), or it is lost", lost)
	}
	if others := n.recordsOf(all, "unchanged"); len(others) > 0 {
		t.Errorf("applied where it is from: %q", others)
	}
	// Secrets are not told: for another cluster they are given.
	given := strings.Split(strings.ReplaceAll(strings.Join(all, "\n"), `"secret":"***"`, `"secret":"s"`), "\n")
	if others := other.recordsOf(given, "created"); len(others) > 0 {
		t.Fatalf("applied elsewhere: %q", others)
	}
	if others := other.recordsOf(all, "unchanged"); len(others) > 0 {
		t.Errorf("applied again: %q", others)
	}
	if again := other.exported("default"); !slices.Equal(again, all) {
		for i := range min(len(all), len(again)) {
			if all[i] != again[i] {
				t.Errorf("%s\nbecame %s", all[i], again[i])
			}
		}
	}
}
