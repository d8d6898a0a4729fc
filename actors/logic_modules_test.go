package actors_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/httpclient"
	"github.com/polluxhq/pollux/drivers/transport"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// web lets logic make requests.
func web(o *actors.Options) {
	o.HTTP = func(b drivers.Binding) (drivers.HTTPClient, error) {
		c, err := httpclient.New(transport.Options{Binding: b, Logger: slog.New(slog.DiscardHandler), Metrics: metrics.NewSet()})
		if err != nil {
			return nil, err // not a nil pointer that is no nil interface
		}
		return c, nil
	}
}

// example uploads an example of the documentation.
func (n *node) example(file string) {
	n.t.Helper()
	drivertest.NeedEngine(n.t)
	text, err := os.ReadFile("../deploy/examples/logic/" + file)
	if err != nil {
		n.t.Fatal(err)
	}
	n.source(string(text))
}

// discord is a server as Discord's webhooks are: what it was told, and what it answers first.
type discord struct {
	*httptest.Server
	mu      sync.Mutex
	answers []int // statuses of the next requests; then 200
	told    []string
	keys    map[string]int
}

func newDiscord(t *testing.T) *discord {
	d := &discord{keys: map[string]int{}}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			Username, Content string
			Embeds            []struct {
				Title, Description string
				Color              int
				Fields             []struct{ Name, Value string }
			}
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.answers) > 0 {
			status := d.answers[0]
			d.answers = d.answers[1:]
			w.Header().Set("Retry-After", "0.01")
			w.WriteHeader(status)
			fmt.Fprint(w, `{"message":"Unknown Webhook"}`)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || json.Unmarshal(body, &m) != nil || len(m.Embeds) != 1 || r.URL.String() != "/api/webhooks/1/sesame?wait=true" || r.Method != http.MethodPost {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		key := r.Header.Get("Idempotency-Key")
		if d.keys[key]++; d.keys[key] == 1 {
			e := m.Embeds[0]
			d.told = append(d.told, fmt.Sprint(m.Username, "|", m.Content, "|", e.Title, "|", e.Description, "|", e.Color, "|", e.Fields))
		}
		fmt.Fprintf(w, `{"id":"m%d"}`, len(d.told))
	}))
	atEnd(t, d.Close)
	return d
}

func (d *discord) says() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return strings.Join(d.told, "\n")
}

func (d *discord) next(statuses ...int) {
	d.mu.Lock()
	d.answers = statuses
	d.mu.Unlock()
}

// discordTwin makes the logic's twin.
func (n *node) discordTwin(d *discord) {
	n.t.Helper()
	n.example("discord.js")
	n.twin(fmt.Sprintf(`{"id":"discord","driver":"discord","settings":{"webhook":%q}}`, d.URL+"/api/webhooks/1/sesame"))
}

// outcome waits until the message of a key is through.
func (n *node) outcome(notifier, key string) *pb.NotificationOutcome {
	n.t.Helper()
	var out *pb.NotificationOutcome
	until(n.t, key+" is through", func() bool {
		res, err := n.reg.Notifications(ctx(n.t), &pb.ListNotificationsRequest{Notifier: notifier})
		if err != nil {
			return false
		}
		for _, m := range res.Notifications {
			if m.Id == key && m.Outcome.GetState() > pb.NotificationState_NOTIFICATION_STATE_QUEUED {
				out = m.Outcome
				return true
			}
		}
		return false
	})
	return out
}

func (n *node) notify(m *pb.Notification) {
	n.t.Helper()
	if _, err := n.reg.Notify(ctx(n.t), m, "test"); err != nil {
		n.t.Fatal(err)
	}
}

// TestNotifierByALogic: a notifier whose way is a logic has what others have: receipts, tries after failures, refusals for good, recipients, attachments, a test.
func TestNotifierByALogic(t *testing.T) {
	n := newNode(t, web)
	d := newDiscord(t)
	n.discordTwin(d)
	n.notifier(&pb.Notifier{Id: "chat", Kind: &pb.Notifier_Logic{Logic: &pb.LogicNotifier{Logic: "discord", Keyed: true}}, Subject: "[${project}] ${subject}",
		Attachments: []*pb.Attachment{{Name: "note.txt", Content: &pb.Attachment_Text{Text: "by ${by}"}}}})
	tried, err := n.reg.TestNotifier(ctx(t), &pb.TestNotifierRequest{Id: "chat", Subject: "Test", Body: "it works"}, "test")
	if err != nil || tried.State != pb.NotificationState_NOTIFICATION_STATE_ACKNOWLEDGED || tried.Receipt != "m1" {
		t.Errorf("the test says %v: %v", tried, err)
	}
	d.next(500, 429)
	n.notify(&pb.Notification{Notifier: "chat", Id: "k1", Subject: "Hot", Body: "31 degrees", To: []string{"42"},
		Values: map[string]string{"value": `{"severity":"error"}`}})
	if out := n.outcome("chat", "k1"); out.State != pb.NotificationState_NOTIFICATION_STATE_ACKNOWLEDGED || out.Receipt != "m2" || out.Tries != 3 {
		t.Errorf("after two failures: %v", out)
	}
	d.next(404)
	n.notify(&pb.Notification{Notifier: "chat", Id: "k2", Subject: "Lost"})
	if out := n.outcome("chat", "k2"); out.State != pb.NotificationState_NOTIFICATION_STATE_FAILED || out.Tries != 1 || !strings.Contains(out.Error, "it answers 404") {
		t.Errorf("refused for good: %v", out)
	}
	if want := "Pollux||[default] Test|it works|6323595|[{note.txt by test}]\nPollux|<@42>|[default] Hot|31 degrees|15022389|[{note.txt by test}]"; d.says() != want {
		t.Errorf("it was told\n%s, want\n%s", d.says(), want)
	}
	for _, bad := range []struct {
		m    *pb.Notifier
		path string
	}{{&pb.Notifier{Id: "x", Kind: &pb.Notifier_Logic{Logic: &pb.LogicNotifier{Logic: "nobody"}}}, "/notifier/logic/logic"},
		{&pb.Notifier{Id: "x", Kind: &pb.Notifier_Logic{Logic: &pb.LogicNotifier{Logic: "discord"}}, Secret: "s"}, "/notifier/secret"}} {
		var inv *actors.InvalidError
		if _, err := n.reg.PutNotifier(ctx(t), bad.m); !errors.As(err, &inv) || inv.Path != bad.path {
			t.Errorf("%v: %v, want %s", bad.m, err, bad.path)
		}
	}
}

// TestNotifierByALogicAfterCrash: what is in the outbox when its node ends is sent by the next life, in its order, once by its keys.
func TestNotifierByALogicAfterCrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n := open(t, fs, 1, web)
	d := newDiscord(t)
	n.discordTwin(d)
	n.notifier(&pb.Notifier{Id: "chat", Kind: &pb.Notifier_Logic{Logic: &pb.LogicNotifier{Logic: "discord", Keyed: true}}})
	d.next(200, 503, 503) // the first answer has no id: it is sent, not acknowledged
	var want []string
	for i := range 5 {
		n.notify(&pb.Notification{Notifier: "chat", Id: fmt.Sprint("k", i), Subject: fmt.Sprint(i)})
		if i > 0 {
			want = append(want, fmt.Sprintf("Pollux||%d||6323595|[]", i))
		}
	}
	n.outcome("chat", "k0")
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	n.close()
	n = open(t, crashed, 2, web)
	n.outcome("chat", "k4")
	if d.says() != strings.Join(want, "\n") {
		t.Errorf("it was told\n%s, want\n%s", d.says(), strings.Join(want, "\n"))
	}
}

// TestDetectorByALogic: a logic judges readings; its verdicts are properties with the readings' times, for each detector and twin what it
// remembers alone, also over a crash, and all is gone with the detector.
func TestDetectorByALogic(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n := open(t, fs, 1)
	n.example("hampel.js")
	n.twin(`{"id":"hampel","driver":"hampel"}`)
	sensors(n, "a", "b")
	n.detector(`{"id":"spikes","property":"t","kind":"DETECTOR_KIND_MODULE","logic":"hampel","threshold":6}`)
	n.detector(`{"id":"near","property":"t","kind":"DETECTOR_KIND_MODULE","logic":"hampel","threshold":1000,"output":"near","of":{"twins":["a"]}}`)
	start := time.Now().Add(-time.Hour).Truncate(time.Second)
	read := func(id string, i int, v float64) {
		n.absorb(id, fmt.Sprintf(`{"t":%g}`, v), start.Add(time.Duration(i)*time.Second).UnixMilli())
	}
	for i := range 12 {
		read("a", i, 20+0.1*float64(i%3))
		read("b", i, 5+0.1*float64(i%3))
	}
	n.judged("a", "spikes", "judged 7 readings", func(s *pb.DetectorState) bool { return s != nil && s.Readings == 7 })
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	n.close()
	n = open(t, crashed, 2)
	read("a", 12, 35)
	n.derives("a", "t_hampel_anomaly", "true good")
	n.derives("a", "near_anomaly", "false good")
	a := n.state("a")
	if p := a.Properties["t_hampel_score"]; p == nil || p.Value.GetNumberValue() < 50 || !p.Time.AsTime().Equal(start.Add(12*time.Second)) {
		t.Errorf("the score is %v", p)
	}
	if p := a.Properties["t_hampel_expected"]; p == nil || p.Value.GetNumberValue() < 20 || p.Value.GetNumberValue() > 20.2 {
		t.Errorf("it expected %v", p)
	}
	if s := a.Detectors["default/spikes"]; !s.Ready || !s.Anomaly || s.Output != "t_hampel" || s.Error != "" {
		t.Errorf("its state is %v", s)
	}
	read("b", 12, 5.1)
	until(t, "b is judged by its own past", func() bool {
		p := n.state("b").Properties["t_hampel_score"]
		return p != nil && p.Time.AsTime().Equal(start.Add(12*time.Second)) && p.Value.GetNumberValue() < 6
	})
	if c := n.records("logicstate", "default/a\x00"); c != 2 {
		t.Errorf("%d records of a are kept, want one for each detector", c)
	}
	if err := n.reg.DeleteDetector(ctx(t), "default/spikes"); err != nil {
		t.Fatal(err)
	}
	until(t, "what it said is stale", func() bool { return n.state("a").Properties["t_hampel_score"].Quality == pb.Quality_QUALITY_STALE })
	until(t, "what was kept for it is gone", func() bool {
		return n.records("logicstate", "default/a\x00") == 1 && n.records("logicstate", "default/b\x00") == 0 && n.records("training", "default/b") == 0
	})
	for bad, path := range map[string]string{`{"id":"x","property":"t","kind":"DETECTOR_KIND_MODULE"}`: "/detector/logic",
		`{"id":"x","property":"t","kind":"DETECTOR_KIND_EWMA","logic":"hampel"}`:      "/detector/logic",
		`{"id":"x","property":"t","kind":"DETECTOR_KIND_MODULE","logic":"nobody"}`:    "/detector/logic",
		`{"id":"x","property":"t","kind":"DETECTOR_KIND_MODULE","logic":"default/a"}`: "/detector/logic"} {
		var inv *actors.InvalidError
		m := &pb.Detector{}
		if err := protojson.Unmarshal([]byte(bad), m); err != nil {
			t.Fatal(err)
		}
		if _, err := n.reg.CreateDetector(ctx(t), m); !errors.As(err, &inv) || inv.Path != path {
			t.Errorf("%s: %v, want %s", bad, err, path)
		}
	}
}

// TestDetectorByALogicKnowsThePast: a logic that begins to judge a twin has learned of its past, once.
func TestDetectorByALogicKnowsThePast(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n := open(t, fs, 1)
	n.source(`export default logic({ name: 'level', version: '1.0.0', run({ value }, context) {
		const { twin, script } = context.memory;
		script.all = (script.all ?? 0) + 1;
		const before = twin.mean;
		twin.mean = before === undefined ? value : 0.9 * before + 0.1 * value;
		if (before !== undefined) return context.replace({ score: Math.abs(value - before), expected: before });
	} });`)
	n.twin(`{"id":"level","driver":"level"}`)
	sensors(n, "a")
	now := time.Now()
	n.client.SetReadings(func(context.Context, string, string, time.Time, time.Time, int) (all []actors.Reading, err error) {
		for i := range 100 {
			all = append(all, actors.Reading{Time: now.Add(time.Duration(i-200) * time.Minute).UnixMilli(), Value: 20})
		}
		return all, nil
	})
	n.absorb("a", `{"t":20}`, now.Add(-time.Hour).UnixMilli())
	n.detector(`{"id":"off","property":"t","kind":"DETECTOR_KIND_MODULE","logic":"level","threshold":5}`)
	n.judged("a", "off", "it has learned of the past", func(s *pb.DetectorState) bool { return s.GetReadings() >= 99 && s.Expected == 20 })
	var kept struct{ Mean float64 }
	if !n.keptBy("default/level", "default/a", &kept) || kept.Mean != 20 || n.keptBy("default/level", "", &kept) {
		t.Errorf("it keeps %+v", kept)
	}
	until(t, "it is noted", func() bool { return n.records("training", "default/a") == 1 })
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	n.close()
	n = open(t, crashed, 2)
	n.client.SetReadings(func(context.Context, string, string, time.Time, time.Time, int) ([]actors.Reading, error) {
		t.Error("it learns of the past again")
		return nil, nil
	})
	n.absorb("a", `{"t":35}`, now.UnixMilli())
	n.derives("a", "t_level_anomaly", "true good")
	n.derives("a", "t_level_score", "15 good")
}

// TestTryOfADetectorByALogic: a trial judges as the detector would, and nothing is kept, called or told.
func TestTryOfADetectorByALogic(t *testing.T) {
	n := newNode(t)
	n.example("hampel.js")
	n.twin(`{"id":"hampel","driver":"hampel"}`)
	n.source(`export default logic({ name: 'breaks', version: '1.0.0', run({ value }) { if (value > 30) undefined.x; } });`)
	n.twin(`{"id":"breaks","driver":"breaks"}`)
	n.source(`export default logic({ name: 'calls', version: '1.0.0', async run({ value }, context) {
		await context.other('a').set('t', value); // which is not to be written
		if (value > 30) return context.replace({ score: 7 });
	} });`)
	n.twin(`{"id":"calls","driver":"calls"}`)
	sensors(n, "a")
	start := time.Now().Add(-time.Hour)
	try := func(logic string) (found []int, err error) {
		d, err := n.reg.CheckDetector(&pb.Detector{Id: "default/try", Property: "t", Kind: pb.DetectorKind_DETECTOR_KIND_MODULE, Logic: logic, Threshold: 6})
		if err != nil {
			t.Fatal(err)
		}
		x, err := n.reg.TryDetector(ctx(t), d, "default/a")
		if err != nil {
			t.Fatal(err)
		}
		for i := range 30 {
			value := 20 + 0.1*float64(i%3)
			if i == 20 {
				value = 35
			}
			if v := x.Observe(start.Add(time.Duration(i)*time.Second).UnixMilli(), value); v.Ready && v.Anomaly {
				found = append(found, i)
			}
		}
		return found, x.Close()
	}
	for _, logic := range []string{"hampel", "calls"} {
		if found, err := try(logic); err != nil || !slices.Equal(found, []int{20}) {
			t.Errorf("%s found %v: %v", logic, found, err)
		}
	}
	if found, err := try("breaks"); err == nil || !strings.Contains(err.Error(), "logic default/breaks, at the reading of ") || found != nil {
		t.Errorf("one that breaks: %v, %v", found, err)
	}
	if c := n.records("logicstate", ""); c != 0 {
		t.Errorf("%d records are kept", c)
	}
}

// asking requests what its message says.
const asking = `export default logic({ name: 'asking', version: '1.0.0', settings: { base: { type: 'string' } }, http: { hosts: ['{base}', 'nobody.example'] },
	async run(message, context) {
		const answer = await context.fetch(message.url ?? context.settings.base + message.path, { method: message.method, body: message.body });
		return context.replace({ status: answer.status, text: answer.text() });
	} });`

// TestLogicRequests: a run requests from the hosts that its manifest and settings name, and from no other, not by a redirect either.
func TestLogicRequests(t *testing.T) {
	drivertest.NeedEngine(t)
	n := newNode(t, web, func(o *actors.Options) { o.CallTimeout = 20 * time.Second })
	var elsewhere sync.Map
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { elsewhere.Store(r.URL.Path, true) }))
	defer other.Close()
	own := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(w, r, other.URL+"/reached", http.StatusFound)
		case "/here":
			http.Redirect(w, r, "/there", http.StatusFound)
		case "/gone":
			w.WriteHeader(http.StatusGone)
		default:
			body, _ := io.ReadAll(r.Body) // an empty one shows
			fmt.Fprint(w, r.Method, " ", r.URL.Path, " ", string(body))
		}
	}))
	defer own.Close()
	n.source(asking)
	n.twin(fmt.Sprintf(`{"id":"asking","driver":"asking","settings":{"base":%q}}`, own.URL))
	for _, c := range []struct{ message, want string }{
		{`{"path":"/x","method":"POST","body":"hi"}`, `{"status":200,"text":"POST /x hi"}`},
		{`{"path":"/here"}`, `{"status":200,"text":"GET /there "}`},
		{`{"path":"/gone"}`, `{"status":410,"text":""}`},
		{`{"path":"/away"}`, "denied"},
		{fmt.Sprintf(`{"url":%q}`, other.URL+"/direct"), "denied"},
		{`{"url":"http://169.254.169.254/latest"}`, "denied"},
		{`{"url":"file:///etc/passwd"}`, "invalid"},
	} {
		res, err := n.client.Logic(ctx(t), &pb.RunLogicRequest{Id: "asking", Message: value(t, c.message)}, "test")
		got := ""
		if err != nil {
			got = err.Error()[strings.LastIndex(err.Error(), " ")+1:]
		} else if b, err := json.Marshal(res.Message.AsInterface()); err == nil {
			got = string(b)
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.message, got, c.want)
		}
	}
	elsewhere.Range(func(path, _ any) bool {
		t.Errorf("it reached %v of a host that nobody named", path)
		return true
	})
	// One that makes no requests by its manifest makes none.
	n.source(strings.Replace(strings.Replace(asking, "'asking'", "'mute'", 1), "http: { hosts: ['{base}', 'nobody.example'] },", "", 1))
	n.twin(fmt.Sprintf(`{"id":"mute","driver":"mute","settings":{"base":%q}}`, own.URL))
	if _, err := n.client.Logic(ctx(t), &pb.RunLogicRequest{Id: "mute", Message: value(t, `{"path":"/x"}`)}, "test"); err == nil {
		t.Error("it made a request")
	}
}
