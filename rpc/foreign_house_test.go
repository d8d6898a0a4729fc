package rpc_test

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// foreign is two projects that have the same things. What only the vault has to say is in a word and a number that nobody in the hall sends.
type foreign struct {
	*house
	t           *testing.T
	random      *rand.Rand
	hall, vault string
	secrets     []string
	keys        map[string]string // of the hall, by role
	tokens      []string          // of pages of an admin's lists of the vault
	asked       map[string]int    // by procedure: how often it was answered
	begun       time.Time
	// spy is the name of a logic that a twin of the hall has.
	spy string
	// sparse: the request that is made up now has little in it.
	sparse bool
}

// foreignSecretNumber begins each value of the vault.
const foreignSecretNumber = "73157315"

// kindsOfThings is what fills a project: a procedure and its request on a line. Every thing has the name pump, so that an id fits each kind, and one that
// nobody knows.
const kindsOfThings = `
ProjectService/CreateProject {"settings":{"project":"PROJ"}}
ModelService/CreateModel {"model":{"id":"PROJ/pump","thingJson":MODEL}}
ModelService/CreateModel {"model":{"id":"PROJ/WORD-model","thingJson":MODEL}}
SiteService/PutZone {"zone":{"id":"PROJ/pump","title":"WORD zone","place":{"latitude":52.5,"longitude":13.4}}}
SiteService/PutZone {"zone":{"id":"PROJ/WORD-zone","title":"WORD zone","parent":"PROJ/pump"}}
TwinService/CreateTwin {"twin":{"id":"PROJ/pump","model":"pump","zone":"pump","labels":{"floor":"WORD","common":"yes"},"aliases":[{"network":"plant","key":"serial","value":"7"}]}}
TwinService/CreateTwin {"twin":{"id":"PROJ/WORD-twin","model":"WORD-model","zone":"WORD-zone","labels":{"WORD":"WORD"},"aliases":[{"network":"plant","key":"serial","value":"WORD"}]}}
TwinService/CreateTwin {"twin":{"id":"PROJ/echo","driver":"echo","zone":"pump","settings":{"topic":"PROJ","greeting":"WORD "},"labels":{"common":"yes"}}}
TwinService/CreateTwin {"twin":{"id":"PROJ/sum","model":"pump","derived":{"sum":"sum(related(\"-feeds\").level)"}}}
SiteService/PutSystem {"system":{"id":"PROJ/pump","title":"WORD system","zone":"pump","members":[{"name":"Pump_1","twin":"pump"},{"name":"WORD_1","twin":"WORD-twin"}]}}
SiteService/PutSystem {"system":{"id":"PROJ/WORD-system","title":"WORD","members":[{"name":"Echo_1","twin":"echo"}]}}
RelationService/CreateRelation {"relation":{"from":"PROJ/pump","type":"feeds","to":"PROJ/echo","title":"WORD relation","attributes":{"a":"WORD"}}}
RelationService/CreateRelation {"relation":{"from":"PROJ/pump","type":"feeds","to":"PROJ/WORD-twin"}}
RelationService/CreateRelation {"relation":{"from":"PROJ/pump","type":"feeds","to":"PROJ/sum"}}
AliasService/CreateAlias {"project":"PROJ","named":{"alias":{"network":"plant","key":"serial","value":"8"},"twin":"PROJ/echo"}}
TopicService/CreateTopic {"topic":{"id":"PROJ/pump","title":"WORD topic"}}
TopicService/CreateTopic {"topic":{"id":"PROJ/WORD-topic"}}
TopicService/PutChannel {"topic":"PROJ/pump","name":"pump","start":{"oldest":true},"settings":{"maxAttempts":1}}
TopicService/PutChannel {"topic":"PROJ/pump","name":"WORD","start":{"oldest":true}}
TopicService/PutRoute {"route":{"id":"PROJ/pump","topics":["pump"],"twins":["pump"],"when":"kind != \"WORD\""}}
SinkService/CreateSink {"sink":{"id":"PROJ/pump","title":"WORD","topic":"pump","url":"file:WORD","paused":true}}
SourceService/CreateSource {"source":{"id":"PROJ/pump","title":"WORD","url":"kafka://WORD.example:1/readings","paused":true}}
SimulationService/CreateSimulation {"simulation":{"id":"PROJ/pump","title":"WORD","paused":true,"scenario":"twins: [pump]\nvalues: {level: {keys: {0s: NUMBER}}}"}}
AutomationService/PutSchedule {"schedule":{"id":"PROJ/pump","title":"WORD","paused":true,"timing":{"cron":"0 0 1 1 *"},"actions":[{"set":{"to":{"twin":"pump"},"property":"level","value":NUMBER}}]}}
AutomationService/PutRule {"rule":{"id":"PROJ/pump","title":"WORD","when":[{"property":{"of":{"twins":["pump"]},"names":["level"]}}],"if":"value > 1e12","then":[{"raise":{"text":"WORD"}}]}}
AutomationService/PutRule {"rule":{"id":"PROJ/hook","title":"WORD","when":[{"webhook":{"secret":"WORD-hook-secret"}}],"then":[{"raise":{"alarm":"hook","text":"WORD"}}]}}
AutomationService/RaiseAlarm {"id":"PROJ/pump","text":"WORD alarm","severity":"ALARM_SEVERITY_WARNING","twin":"PROJ/pump"}
AnalyticsService/CreateDetector {"detector":{"id":"PROJ/pump","title":"WORD","property":"level","kind":"DETECTOR_KIND_STATISTICS"}}
NotifierService/CreateNotifier {"notifier":{"id":"PROJ/pump","title":"WORD","log":{},"body":"WORD ${body}"}}
NotifierService/Notify {"notification":{"notifier":"PROJ/pump","subject":"WORD","body":"WORD"}}
SettingsService/SetSettings {"scope":{"zone":"PROJ/pump"},"values":{"greeting":"WORD"}}
TopicService/Publish {"topic":"PROJ/pump","messages":[{"key":"pump","payload":"PAYLOAD"},{"key":"WORD","payload":"PAYLOAD"}]}
IngestService/Ingest {"project":"PROJ","messages":[{"twin":"pump","payload":"LEVEL"},{"twin":"WORD-twin","payload":"LEVEL"},{"twin":"pump","payload":"WRONG"},
	{"alias":{"network":"plant","key":"serial","value":"stranger"},"payload":"LEVEL"},{"alias":{"network":"plant","key":"serial","value":"WORD-stranger"},"payload":"LEVEL"}]}
TwinService/Invoke {"id":"PROJ/echo","action":"say","input":{"text":"WORD"}}
TwinService/Invoke {"id":"PROJ/echo","action":"fail","input":{"text":"WORD"}}
TwinService/SetDesired {"id":"PROJ/echo","property":"level","value":73}
`

const foreignModel = `{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"pollux":"https://pollux.dev/ns#"}],"@type":"tm:ThingModel","title":"WORD model","pollux:unknown":"refuse",
	"properties":{"level":{"type":"number","unit":"Cel"},"text":{"type":"string"}},"events":{"rang":{"data":{"type":"string"}}}}`

// things gives the lines for a project.
func things(project, word, number string) [][2]string {
	payload := base64.StdEncoding.EncodeToString
	model, _ := json.Marshal(strings.ReplaceAll(foreignModel, "WORD", word))
	words := strings.NewReplacer("PROJ", project, "WORD", word, "NUMBER", number, "MODEL", string(model),
		"LEVEL", payload(fmt.Appendf(nil, `{"level":%s,"text":%q}`, number, word)), "WRONG", payload(fmt.Appendf(nil, `{"level":%q}`, word)), "PAYLOAD", payload(fmt.Appendf(nil, `{"said":%q}`, word)))
	var all [][2]string
	for line := range strings.Lines(strings.ReplaceAll(kindsOfThings, "\n\t", "")) {
		if name, body, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			all = append(all, [2]string{"/pollux.v1." + name, words.Replace(body)})
		}
	}
	return all
}

// openForeign fills both projects. The hall's name is the beginning of the vault's.
func openForeign(t *testing.T, seed uint64) *foreign {
	t.Helper()
	drivertest.NeedEngine(t)
	f := &foreign{house: openHouse(t), t: t, random: rand.New(rand.NewPCG(seed, 29)), hall: fresh("hall"), asked: map[string]int{}, begun: time.Now()}
	f.vault = f.hall + "-vault"
	word := fresh("quokka")
	f.secrets = []string{word, foreignSecretNumber}
	for shift := range 3 { // as it is in base64, wherever it begins
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + word))
		f.secrets = append(f.secrets, text[(shift*8+5)/6:len(text)-4])
	}
	f.spy = fresh("spy")
	for _, file := range [][]byte{drivertest.Echo(t), []byte(spyLogic(f.spy, f.vault))} {
		if _, err := rpcv1.NewDriverServiceClient(f.http(f.admin), f.url).UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: file})); err != nil {
			t.Fatal(err)
		}
	}
	crypt := f.hall + "-" + word // which nobody in the hall has ever heard of
	for _, p := range [][3]string{{f.hall, "plain", "21.5"}, {f.vault, word, foreignSecretNumber + ".25"}, {crypt, word, foreignSecretNumber + ".25"}} {
		for _, x := range things(p[0], p[1], p[2]) {
			if status, body := f.call(t, f.admin, x[0], x[1]); status != http.StatusOK && !strings.Contains(x[1], `"fail"`) {
				t.Fatalf("%s %s: %d %s", x[0], x[1], status, body)
			}
		}
	}
	f.must("TwinService/CreateTwin", fmt.Sprintf(`{"twin":{"id":"%s/spy","driver":%q}}`, f.hall, f.spy))
	f.deadLetter()
	f.keys = map[string]string{}
	for _, role := range []string{"admin", "operator", "viewer"} {
		_, f.keys[role] = f.newKey(t, &pb.Key{Role: role, Project: f.hall, Name: role})
		f.newKey(t, &pb.Key{Role: role, Project: f.vault, Name: word + role})
	}
	f.collectTokens()
	return f
}

var sharedForeign struct {
	once sync.Once
	f    *foreign
}

// shareForeign gives what several tests share, to which none of them does anything that lasts.
func shareForeign(t *testing.T) *foreign {
	t.Helper()
	sharedForeign.once.Do(func() { sharedForeign.f = openForeign(t, 0) })
	if sharedForeign.f == nil {
		t.Fatal("there is none")
	}
	f := *sharedForeign.f
	f.t = t
	return &f
}

// deadLetter has a message of the vault's topic given up.
func (f *foreign) deadLetter() {
	f.t.Helper()
	stream, err := rpcv1.NewTopicServiceClient(f.http(f.admin), f.url).Subscribe(f.t.Context(), req(&pb.SubscribeRequest{Topic: f.vault + "/pump", Channel: "pump"}))
	if err != nil {
		f.t.Fatal(err)
	}
	defer stream.Close()
	reader := ""
	for stream.Receive() {
		reader = cmp.Or(stream.Msg().GetReader(), reader)
		if m := stream.Msg().GetMessages(); len(m) > 0 {
			f.must("TopicService/Ack", fmt.Sprintf(`{"topic":"%s/pump","channel":"pump","reader":%q,"failed":["%d"]}`, f.vault, reader, m[0].GetMessage().GetOffset()))
			return
		}
	}
	f.t.Fatal(stream.Err())
}

// must calls as the administrator of all.
func (f *foreign) must(procedure, body string) string {
	f.t.Helper()
	status, got := f.call(f.t, f.admin, "/pollux.v1."+procedure, body)
	if status != http.StatusOK {
		f.t.Fatalf("%s %s: %d %s", procedure, body, status, got)
	}
	return got
}

// collectTokens takes page tokens of the vault's lists.
func (f *foreign) collectTokens() {
	for _, x := range vaultLists(f.vault) {
		name, body, _ := strings.Cut(x, " ")
		var page struct{ NextPageToken string }
		if err := json.Unmarshal([]byte(f.must(name, strings.Replace(body, "{", `{"pageSize":1,`, 1))), &page); err != nil {
			f.t.Fatal(err)
		}
		if page.NextPageToken != "" {
			f.tokens = append(f.tokens, page.NextPageToken)
		}
	}
	if len(f.tokens) < 5 {
		f.t.Fatalf("%d tokens", len(f.tokens))
	}
}

// vaultLists are those that tell of a project's things, state and counters.
func vaultLists(project string) []string {
	var all []string
	for line := range strings.Lines(`TwinService/ListTwins {"filter":{"project":"PROJ"}}
ModelService/ListModels {"project":"PROJ"}
SiteService/ListZones {"project":"PROJ"}
SiteService/ListSystems {"project":"PROJ"}
SiteService/ListInbox {"project":"PROJ"}
RelationService/ListRelations {"project":"PROJ"}
AliasService/ListAliases {"project":"PROJ"}
TopicService/ListTopics {"project":"PROJ"}
TopicService/ListChannels {"topic":"PROJ/pump"}
TopicService/ListRoutes {"project":"PROJ"}
SinkService/ListSinks {"project":"PROJ"}
SourceService/ListSources {"project":"PROJ"}
SimulationService/ListSimulations {"project":"PROJ"}
AutomationService/ListSchedules {"project":"PROJ"}
AutomationService/ListRules {"project":"PROJ"}
AutomationService/ListAlarms {"project":"PROJ"}
AnalyticsService/ListDetectors {"project":"PROJ"}
NotifierService/ListNotifiers {"project":"PROJ"}
NotifierService/ListNotifications {"notifier":"PROJ/pump"}
IngestService/ListRefusals {"project":"PROJ"}
HistoryService/ListJournal {"project":"PROJ"}
`) {
		all = append(all, strings.ReplaceAll(strings.TrimSpace(line), "PROJ", project))
	}
	return all
}

var ages = regexp.MustCompile(`,? ?"oldest": ?"[^"]*"`)

// standOfVault is all that the vault has: its lists, its counters, its history, and the messages of its topics.
func (f *foreign) standOfVault() map[string]string {
	f.t.Helper()
	all := map[string]string{}
	for _, x := range append(vaultLists(f.vault), `IngestService/GetIngestStatus {"project":"`+f.vault+`"}`, `IngestService/GetProjectSettings {"project":"`+f.vault+`"}`,
		`SettingsService/ListSettingsVersions {"scope":{"zone":"`+f.vault+`/pump"}}`, `TwinService/GetTwin {"id":"`+f.vault+`/echo"}`, `TwinService/GetTwin {"id":"`+f.vault+`/pump"}`) {
		name, body, _ := strings.Cut(x, " ")
		all[x] = f.must(name, body)
	}
	for what, text := range all { // what the clock alone changes
		all[what] = ages.ReplaceAllString(text, "")
	}
	for _, what := range []string{"samples", "journal"} {
		_, text, _ := f.get(f.t, "/v1/history/"+f.vault+"/export?format=json&start=-48h&end="+f.begun.Add(time.Hour).UTC().Format(time.RFC3339)+"&what="+what, f.admin)
		lines := slices.Sorted(strings.Lines(text))
		all[what] = strings.Join(lines, "")
	}
	for _, topic := range []string{"pump", "pump.dead"} {
		stream, err := rpcv1.NewTopicServiceClient(f.http(f.admin), f.url).Subscribe(f.t.Context(), req(&pb.SubscribeRequest{Topic: f.vault + "/" + topic, UntilEnd: true,
			Start: &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}}))
		if err != nil {
			f.t.Fatal(err)
		}
		for stream.Receive() {
			for _, m := range stream.Msg().GetMessages() {
				all["messages of "+topic] += string(m.GetMessage().GetPayload()) + "\n"
			}
		}
		_ = stream.Close()
	}
	return all
}

// awaitStill waits until the vault has come to rest, and gives what it has.
func (f *foreign) awaitStill() map[string]string {
	f.t.Helper()
	before := f.standOfVault()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		now := f.standOfVault()
		if strings.Contains(now["samples"], `"property":"sum","value":`+foreignSecretNumber) && strings.Contains(now["messages of pump.dead"], f.secrets[0]) && maps.Equal(before, now) {
			return now
		}
		if time.Now().After(end) {
			f.untouched(before)
			f.t.Fatalf("the vault does not come to rest: %s, %s", now["samples"], now["messages of pump.dead"])
		}
		before = now
	}
}

// untouched says what is other with the vault than it was.
func (f *foreign) untouched(before map[string]string) {
	f.t.Helper()
	now := f.standOfVault()
	for _, what := range slices.Sorted(maps.Keys(now)) {
		if a, b := before[what], now[what]; a != b {
			n := 0
			for n < min(len(a), len(b)) && a[n] == b[n] {
				n++
			}
			n = max(0, n-150)
			f.t.Errorf("%s is another:\n…%.500s\n…%.500s", what, a[n:], b[n:])
		}
	}
}

// tells finds what is another's in an answer. The vault's name, which the hall sends, is no secret.
func (f *foreign) tells(answer []byte) string {
	answer = bytes.ToLower(answer)
	for _, s := range f.secrets {
		if bytes.Contains(answer, []byte(strings.ToLower(s))) {
			return s
		}
	}
	return ""
}
