package rpc_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

// deliberateWays are what somebody would try who knows what the vault has.
const deliberateWays = `
AutomationService/TestRule {"rule":{"id":"HALL/t","when":[{"property":{"of":{"twins":["pump"]}}}],"if":"EXPR","then":[{"stop":true}]},"twin":"HALL/pump","name":"level"}
AutomationService/TestRule {"rule":{"id":"HALL/t","when":[{"property":{"of":{"twins":["VAULT/pump"]}}}],"then":[{"stop":true}]},"twin":"VAULT/pump","name":"level"}
AutomationService/TestRule {"rule":{"id":"HALL/t","when":[{"property":{"of":{"zone":"VAULT/pump"}}}],"then":[{"call":{"to":{"zone":"VAULT/pump"},"action":"say"}}]},"twin":"HALL/pump","name":"level"}
AutomationService/DryRunRule {"rule":{"id":"HALL/t","when":[{"property":{"of":{"twins":["VAULT/pump"]}}}],"then":[{"stop":true}]}}
AutomationService/DryRunRule {"rule":{"id":"HALL/t","when":[{"property":{"of":{"system":"VAULT/pump"}}}],"if":"EXPR","then":[{"stop":true}]}}
AutomationService/DryRunRule {"rule":{"id":"HALL/t","when":[{"event":{"of":{"twins":["pump"]}}},{"topic":{"topic":"VAULT/pump"}}],"if":"EXPR","then":[{"stop":true}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["pump"]}}}],"then":[{"set":{"to":{"twin":"VAULT/echo"},"property":"level","value":1}}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["pump"]}}}],"then":[{"call":{"to":{"ALL":"VAULT/pump"},"action":"say","input":{"text":"x"}}}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["pump"]}}}],"then":[{"publish":{"topic":"VAULT/pump","payload":1}}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["pump"]}}}],"then":[{"mqtt":{"topic":"topics/VAULT/pump/k","payload":"1"}}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["pump"]}}}],"then":[{"mqtt":{"topic":"VAULT/plant/serial/7","payload":"{\"level\":1}","qos":1}}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["pump"]}}}],"then":[{"mqtt":{"topic":"${\"topics/\" + \"VAULT\"}/pump/k","payload":"1"}}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["pump"]}}}],"then":[{"raise":{"alarm":"VAULT/pump","text":"x"}}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["pump"]}}}],"then":[{"clear":{"alarm":"VAULT/pump"}}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["pump"]}}}],"then":[{"notify":{"notifier":"VAULT/pump","body":"x"}}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["pump"]}}}],"then":[{"logic":{"logic":"VAULT/echo"}}]}}
AutomationService/PutRule {"rule":{"id":"HALL/RANDOM","when":[{"property":{"of":{"twins":["VAULT/pump"]}}},{"topic":{"topic":"VAULT/pump"}}],"then":[{"stop":true}]}}
AutomationService/PutSchedule {"schedule":{"id":"HALL/s","timing":{"sun":{"twinId":"VAULT/pump"}},"actions":[{"stop":true}]}}
AutomationService/PutSchedule {"schedule":{"id":"HALL/s","timing":{"sun":{"zoneId":"VAULT/pump"}},"actions":[{"stop":true}]}}
AutomationService/PutSchedule {"schedule":{"id":"HALL/s","timing":{"every":{"period":"0.2s"}},"actions":[{"set":{"to":{"ALL":"VAULT/pump"},"property":"level","value":1}}]}}
AutomationService/PutSchedule {"schedule":{"id":"HALL/s2","timing":{"every":{"period":"0.2s"}},"actions":[{"set":{"to":{"labels":{"common":"yes"}},"property":"level","value":1}}]}}
AutomationService/ListSchedules {"twin":"VAULT/pump"}
AutomationService/ListRules {"twin":"VAULT/pump"}
AutomationService/ListAlarmSpells {"filter":{"project":"HALL","twin":"VAULT/pump"}}
AutomationService/ListAlarmSpells {}
AutomationService/GetAlarmStatistics {}
AutomationService/GetAlarmStatistics {"filter":{"project":"VAULT"}}
AutomationService/CountAlarms {}
AutomationService/FillRuleTemplate {"id":"HALL/f","template":"threshold","values":{"twin":"VAULT/pump"}}
TwinService/CreateTwin {"twin":{"id":"HALL/RANDOM","model":"pump","derived":{"spy":"EXPR"}}}
TwinService/CreateTwin {"twin":{"id":"HALL/RANDOM","model":"VAULT/pump"}}
TwinService/CreateTwin {"twin":{"id":"HALL/RANDOM","driver":"echo","settings":{"topic":"VAULT"}}}
TwinService/CreateTwin {"twin":{"id":"HALL/RANDOM","model":"pump","reads":[{"topic":"VAULT/pump","channel":"pump"}]}}
TwinService/ListTwins {"filter":{"where":"EXPR"}}
TwinService/ListTwins {"filter":{"project":"HALL","ids":["VAULT/pump"]}}
TwinService/ListTwins {"filter":{"project":"HALL","zone":"VAULT/pump"}}
TwinService/ListTwins {"filter":{"project":"HALL","system":"VAULT/pump"}}
TwinService/ListTwins {"filter":{"project":"HALL","model":"VAULT/pump"}}
TwinService/ListTwins {"filter":{"labels":{"common":"yes"}}}
TwinService/WatchTwins {"filter":{"where":"EXPR"},"events":true}
TwinService/WatchTwins {"filter":{"system":"VAULT/pump"}}
TwinService/WatchTwins {"filter":{"project":"HALL","ids":["VAULT/pump"]}}
TwinService/ReleaseTwins {"filter":{"ids":["VAULT/pump"]}}
TwinService/ReleaseTwins {"filter":{"labels":{"common":"yes"}}}
HistoryService/QuerySeries {"filter":{"project":"HALL","ids":["VAULT/pump"]},"property":"level","step":"60s"}
HistoryService/QuerySeries {"filter":{"ids":["VAULT/pump","HALL/pump"]},"property":"level","step":"60s"}
HistoryService/QuerySeries {"filter":{"zone":"VAULT/pump"},"property":"level","step":"60s","groupBy":["zone"]}
HistoryService/QuerySeries {"filter":{"where":"EXPR"},"property":"level","step":"60s","groupBy":["model"]}
HistoryService/ListJournal {"project":"HALL","twin":"VAULT/pump"}
HistoryService/ListJournal {"text":"quok"}
HistoryService/ListJournal {"project":"HALL","twin":"../VAULT/pump"}
TwinService/QueryHistory {"id":"HALL/pump\",project=\"VAULT","property":"level"}
TwinService/QueryHistory {"id":"HALL/pump","property":"level\" or project=\"VAULT"}
TwinService/QueryHistory {"id":"HALL/pump","property":"text","aggregate":"last"}
SearchService/Search {"query":"quok","countFacets":true}
SearchService/Search {"query":"","countFacets":true,"where":"EXPR"}
SearchService/Search {"query":"pump","countFacets":true,"facets":[{"name":"project","value":"VAULT"}]}
SearchService/Search {"query":"quok","kinds":["event"]}
SearchService/Search {"query":"quok","kinds":["driver"],"countFacets":true}
SearchService/Search {"facets":[{"name":"zone","value":"VAULT/pump"}],"countFacets":true}
SearchService/Search {"near":{"place":{"lat":52.5,"lon":13.4},"metres":1000},"countFacets":true}
RelationService/Walk {"path":"HALL/pump/pump/feeds/VAULT/pump","state":true}
RelationService/ListRelations {"of":"VAULT/pump"}
RelationService/ListRelations {"from":"VAULT/pump"}
RelationService/CreateRelation {"relation":{"id":"HALL/pump/feeds/pump","from":"HALL/pump","type":"feeds","to":"VAULT/pump"}}
RelationService/CreateRelation {"relation":{"from":"HALL/pump","type":"feeds","to":"VAULT/pump"}}
RelationService/CreateRelation {"relation":{"from":"VAULT/pump","type":"feeds","to":"HALL/pump"}}
RelationService/CreateRelation {"relation":{"from":"zone:VAULT/pump","type":"feeds","to":"HALL/pump"}}
AliasService/CreateAlias {"project":"HALL","named":{"project":"VAULT","alias":{"network":"plant","key":"serial","value":"RANDOM"},"twin":"VAULT/pump"}}
AliasService/UpdateAlias {"project":"HALL","named":{"project":"VAULT","alias":{"network":"plant","key":"serial","value":"7"},"twin":"VAULT/pump"}}
AliasService/GetAlias {"project":"HALL","alias":{"network":"../VAULT/plant","key":"serial","value":"7"}}
AliasService/ListAliases {"twin":"VAULT/pump"}
KeyService/CreateKey {"key":{"role":"device","device":"VAULT/pump","project":"HALL"}}
KeyService/CreateKey {"key":{"role":"device","device":"VAULT/pump"}}
KeyService/CreateKey {"key":{"role":"admin","project":"VAULT"}}
KeyService/CreateKey {"key":{"role":"viewer","device":"VAULT/pump","project":"HALL"}}
KeyService/ListKeys {"pageSize":1000}
TopicService/PutRoute {"route":{"id":"HALL/r","topics":["VAULT/pump"]}}
TopicService/PutRoute {"route":{"id":"HALL/r","topics":["pump"],"twins":["VAULT/pump"]}}
TopicService/PutRoute {"route":{"id":"HALL/r","topics":["pump"],"zone":"VAULT/pump","model":"VAULT/pump"}}
TopicService/PutRoute {"route":{"id":"HALL/r","topics":["pump"],"run":"VAULT/echo"}}
TopicService/PutRoute {"route":{"id":"HALL/r","topics":["pump"],"when":"EXPR"}}
TopicService/Subscribe {"topic":"VAULT/pump","start":{"oldest":true}}
TopicService/Subscribe {"topic":"VAULT/pump.dead","channel":"spy","start":{"oldest":true}}
TopicService/Ack {"topic":"HALL/pump","channel":"VAULT","reader":"1","offsets":["1"]}
SinkService/CreateSink {"sink":{"id":"HALL/s","topic":"VAULT/pump","url":"file:spy","oldest":true}}
SinkService/CreateSink {"sink":{"id":"HALL/s","topic":"pump","url":"file:../VAULT/spy","oldest":true}}
SimulationService/CreateSimulation {"simulation":{"id":"HALL/RANDOM","paused":true,"scenario":"twins: [pump]\nrecord: {twin: VAULT/pump}"}}
SimulationService/CreateSimulation {"simulation":{"id":"HALL/RANDOM","scenario":"twins: [VAULT/pump]\nevery: 1s\nvalues: {level: {keys: {0s: 1}}}"}}
SimulationService/CreateSimulation {"simulation":{"id":"HALL/RANDOM","paused":true,"model":"VAULT/pump","scenario":"name: x{n}\ncount: 1\nvalues: {level: {keys: {0s: 1}}}"}}
SimulationService/SteerSimulations {"ids":["VAULT/pump"],"deed":1}
AnalyticsService/CreateDetector {"detector":{"id":"HALL/d","property":"level","kind":"DETECTOR_KIND_STATISTICS","of":{"twins":["VAULT/pump"]}}}
AnalyticsService/CreateDetector {"detector":{"id":"HALL/d","property":"level","kind":"DETECTOR_KIND_STATISTICS","of":{"zone":"VAULT/pump"}}}
AnalyticsService/TryDetector {"twin":"HALL/pump","detector":{"id":"VAULT/pump","property":"level","kind":"DETECTOR_KIND_STATISTICS"}}
AnalyticsService/TryDetector {"twin":"HALL/pump","id":"VAULT/pump"}
AnalyticsService/TryDetector {"twin":"VAULT/pump","id":"HALL/pump"}
NotifierService/CreateNotifier {"notifier":{"id":"HALL/n","logic":{"logic":"VAULT/echo"}}}
NotifierService/CreateNotifier {"notifier":{"id":"HALL/n2","log":{},"attachments":[{"name":"a.csv","history":{"of":{"twins":["VAULT/pump"]},"properties":["level"]}}]}}
NotifierService/CreateNotifier {"notifier":{"id":"HALL/RANDOM","mqtt":{"topic":"topics/VAULT/pump/k"}}}
NotifierService/Notify {"notification":{"notifier":"HALL/pump","twin":"VAULT/pump","body":"${twin.properties.text}","attachments":[{"name":"a.csv","history":{"of":{"zone":"VAULT/pump"},"properties":["level","text"]}}]}}
NotifierService/Notify {"notification":{"notifier":"HALL/pump","body":"x","attachments":[{"name":"a.csv","history":{"of":{"twins":["VAULT/pump"]},"properties":["level"]}}]}}
NotifierService/ListNotifications {"notifier":"HALL/pump"}
SiteService/PutZone {"zone":{"id":"HALL/z","parent":"VAULT/pump"}}
SiteService/PutSystem {"system":{"id":"HALL/s","zone":"VAULT/pump"}}
SiteService/PutSystem {"system":{"id":"HALL/s","members":[{"name":"A_1","twin":"VAULT/pump"}]}}
SiteService/ClaimInbox {"id":"VAULT/plant/serial/stranger","twin":{"id":"HALL/c","model":"pump"}}
SiteService/ClaimInbox {"id":"HALL/plant/serial/stranger","twin":{"id":"VAULT/c","model":"pump"}}
BulkService/Apply {"project":"HALL","dryRun":true,"records":[{"twin":{"id":"VAULT/pump","model":"pump"}}]}
BulkService/Apply {"project":"HALL","each":true,"records":[{"twin":{"id":"HALL/a","model":"VAULT/pump"}},{"zone":{"id":"HALL/a","parent":"VAULT/pump"}},{"zone":{"id":"VAULT/pump","title":"x"}},{"topic":{"id":"VAULT/pump"}},{"channel":{"topic":"VAULT/pump","name":"pump"}},{"project":{"project":"VAULT"}}]}
BulkService/Apply {"project":"HALL","each":true,"records":[{"zoneSettings":{"id":"VAULT/pump","values":{"greeting":"x"}}},{"systemSettings":{"id":"VAULT/pump","values":{"greeting":"x"}}},{"relation":{"from":"HALL/pump","type":"feeds","to":"VAULT/pump"}},{"rule":{"id":"VAULT/pump"}},{"sink":{"id":"HALL/x","topic":"VAULT/pump","url":"file:x"}}]}
BulkService/Apply {"project":"HALL","each":true,"dryRun":true,"records":[{"simulation":{"id":"HALL/y","scenario":"twins: [pump]\nrecord: {twin: VAULT/pump}"}},{"detector":{"id":"HALL/y","property":"level","kind":1,"of":{"twins":["VAULT/pump"]}}},{"route":{"id":"HALL/y","topics":["VAULT/pump"]}}]}
BulkService/DryRun {"project":"HALL","groups":[{"records":[{"twin":{"id":"VAULT/pump","model":"pump"}},{"model":{"id":"VAULT/pump","thingJson":"{}"}}]}]}
BulkService/Export {"project":"VAULT"}
BulkService/Export {}
IngestService/Ingest {"project":"HALL","messages":[{"twin":"VAULT/pump","payload":"eyJsZXZlbCI6MX0="},{"twin":"../VAULT/pump","payload":"eyJsZXZlbCI6MX0="}]}
IngestService/Ingest {"messages":[{"twin":"VAULT/pump","payload":"eyJsZXZlbCI6MX0="}]}
IngestService/Ingest {"project":"HALL","messages":[{"alias":{"network":"../VAULT/plant","key":"serial","value":"7"},"payload":"eyJsZXZlbCI6MX0="}]}
IngestService/IngestStream {"request":{"project":"VAULT","messages":[{"twin":"pump","payload":"eyJsZXZlbCI6MX0="}]}}
IngestService/GetIngestStatus {}
IngestService/ListRefusals {}
LogicService/TryLogic {"file":"SPY","event":"run","message":{"value":1},"twin":"HALL/pump"}
LogicService/TryLogic {"file":"SPY","event":"run","message":{"value":1},"twin":"VAULT/pump"}
LogicService/TryLogic {"file":"SPY","event":"load"}
LogicService/TryLogic {"project":"HALL","id":"VAULT/echo","event":"run","message":1}
LogicService/RunLogic {"id":"HALL/echo","twin":"VAULT/pump","message":1}
LogicService/ListLogics {}
LogicService/RunLogic {"id":"HALL/spy","message":{"value":1}}
LogicService/RunLogic {"id":"HALL/spy","twin":"HALL/pump","message":{"value":1}}
TwinService/GetTwin {"id":"HALL/spy"}
TwinService/GetTwin {"id":"HALL/x1"}
TwinService/GetTwin {"id":"HALL/x2"}
TwinService/GetTwin {"id":"HALL/x3"}
HistoryService/ListJournal {"twin":"HALL/spy"}
AutomationService/ListFirings {"start":"2026-01-01T00:00:00Z","end":"2026-01-31T00:00:00Z"}
AutomationService/ListFirings {"project":"VAULT","start":"2026-01-01T00:00:00Z","end":"2026-01-31T00:00:00Z"}
AutomationService/WhyRule {"id":"HALL/x1"}
AutomationService/WhyRule {"id":"HALL/pump","subject":"VAULT/pump"}
AutomationService/GetSchedule {"id":"HALL/s2"}
TwinService/UpdateTwin {"twin":{"id":"HALL/pump","model":"pump","zone":"VAULT/pump"}}
TwinService/UpdateTwin {"twin":{"id":"HALL/pump","model":"pump","via":"VAULT/pump"}}
TwinService/UpdateTwin {"twin":{"id":"HALL/pump","model":"VAULT/pump"}}
TwinService/UpdateTwin {"twin":{"id":"HALL/pump","model":"pump","system":"VAULT/pump"}}
TwinService/UpdateTwin {"twin":{"id":"HALL/spy","driver":"SPYNAME","system":"VAULT/pump"}}
TwinService/UpdateTwin {"twin":{"id":"HALL/spy","driver":"SPYNAME","reads":[{"topic":"VAULT/pump","channel":"pump"}]}}
TwinService/UpdateTwin {"twin":{"id":"HALL/sum","model":"pump","derived":{"sum":"EXPR"}}}
TwinService/GetTwin {"id":"HALL/sum"}
ModelService/UpdateModel {"model":{"id":"HALL/pump","thingJson":MODEL}}
RelationService/UpdateRelation {"relation":{"id":"HALL/pump/feeds/echo","title":"x"}}
RelationService/GetRelation {"id":"HALL/pump/feeds/echo"}
RelationService/GetRelation {"id":"VAULT/pump/feeds/echo"}
RelationService/DeleteRelation {"id":"VAULT/pump/feeds/echo"}
SiteService/InvokeSystem {"id":"HALL/plain-system","action":"say","input":{"text":"x"}}
SiteService/InvokeSystem {"id":"VAULT/pump","action":"say","input":{"text":"x"}}
SiteService/IgnoreInbox {"id":"VAULT/plant/serial/stranger"}
SiteService/IgnoreInbox {"id":"HALL/plant/serial/stranger"}
TwinService/TraceTwin {"id":"HALL/echo"}
IngestService/PutProjectSettings {"settings":{"project":"HALL","rules":[{"pattern":"*","model":"VAULT/pump","zone":"VAULT/pump"}]}}
IngestService/PutProjectSettings {"settings":{"project":"VAULT","unknownSenders":"UNKNOWN_SENDERS_REFUSE"}}
SettingsService/GetSettings {"scope":{"driver":"echo"}}
SettingsService/GetSettings {"scope":{"twin":"HALL/echo"}}
SettingsService/ListSettingsVersions {"scope":{"zone":"HALL/pump"}}
SettingsService/ListSettingsVersions {"scope":{"zone":"VAULT/pump"}}
SettingsService/DiffSettings {"scope":{"zone":"VAULT/pump"},"to":"1"}
WatchService/Watch {"kind":"project"}
WatchService/Watch {"kind":"key"}
WatchService/Watch {"kind":"inbox"}
WatchService/Watch {"kind":"driver"}
ClusterService/GetStatus {}
ClusterService/CheckCluster {}
ClusterService/GetPlacement {"id":"VAULT/pump"}
ClusterService/GetPlacement {"node":"test"}
ClusterService/ListSlots {"map":true}
DriverService/ListDrivers {}
DriverService/ListRollouts {"driver":"echo"}
DriverService/GetRollout {"driver":"echo"}
DriverService/Scan {"driver":"echo","project":"VAULT","network":"10.0.0.0/30"}
ProjectService/ListProjects {}
ProjectService/CreateProject {"settings":{"project":"VAULT"}}
ProjectService/DeleteProject {"project":"VAULT"}
`

// lists are those of the hall, of whatever is seen where no project is named, and behind a place in those of the vault.
func (f *foreign) lists() (all []string) {
	for _, x := range vaultLists(f.hall) {
		name, _, _ := strings.Cut(x, " ")
		all = append(all, x, name+" {}", name+` {"pageToken":"`+pickOf(f.random, f.tokens)+`"}`)
	}
	for _, name := range []string{"Model/Model", "Site/Zone", "Site/System", "Topic/Topic", "Topic/Route", "Sink/Sink", "Source/Source", "Simulation/Simulation", "Automation/Schedule", "Automation/Rule", "Automation/Alarm",
		"Analytics/Detector", "Notifier/Notifier", "Twin/Twin"} {
		for _, project := range []string{f.hall, f.vault} {
			all = append(all, strings.Replace(name, "/", "Service/Get", 1)+` {"id":"`+project+`/pump"}`)
		}
	}
	return all
}

// deliberate gives the ways, with an expression each.
func (f *foreign) deliberate() []string {
	all := f.lists()
	spy := base64.StdEncoding.EncodeToString([]byte(spyLogic("spy", f.vault)))
	model, _ := json.Marshal(strings.ReplaceAll(foreignModel, "WORD", "plain"))
	for line := range strings.Lines(deliberateWays) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		expression, _ := json.Marshal(f.expression())
		all = append(all, strings.NewReplacer("HALL", f.hall, "VAULT", f.vault, `"EXPR"`, string(expression), "SPYNAME", f.spy, "SPY", spy, "MODEL", string(model), "RANDOM", pickOf(f.random, []string{"x1", "x2", "x3"}),
			"ALL", pickOf(f.random, []string{"twin", "zone", "system", "model"})).Replace(line))
	}
	return all
}
