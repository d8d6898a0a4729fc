package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/emersion/go-smtp"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// outlivePatience is how long the test waits for what must come, on a machine that does much else.
const outlivePatience = 2 * time.Minute

// provider takes messages as a real one does. The answer to one of them it holds back until it is let go.
type provider struct {
	holds   string
	holding chan struct{} // closed once it has that message
	letGo   chan struct{}

	mu    sync.Mutex
	taken []takenMessage
}

// takenMessage is one with what its sender knows it by; empty: nothing.
type takenMessage struct{ key, text string }

func newProvider(holds string) *provider {
	return &provider{holds: holds, holding: make(chan struct{}), letGo: make(chan struct{})}
}

// take notes a message, and returns when it is to be answered.
func (p *provider) take(key, text string) {
	p.mu.Lock()
	first := text == p.holds && !slices.ContainsFunc(p.taken, func(x takenMessage) bool { return x.text == text })
	p.taken = append(p.taken, takenMessage{key, text})
	p.mu.Unlock()
	if first {
		close(p.holding)
		select {
		case <-p.letGo:
		case <-time.After(outlivePatience):
		}
	}
}

// all gives what was taken.
func (p *provider) all() []takenMessage {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.taken)
}

// order gives the texts, each when it came first.
func (p *provider) order() (texts []string) {
	for _, x := range p.all() {
		if !slices.Contains(texts, x.text) {
			texts = append(texts, x.text)
		}
	}
	return texts
}

// NewSession, Mail, Rcpt, Data, Reset and Logout are an SMTP server's.
func (p *provider) NewSession(*smtp.Conn) (smtp.Session, error) { return p, nil }
func (p *provider) Mail(string, *smtp.MailOptions) error        { return nil }
func (p *provider) Rcpt(string, *smtp.RcptOptions) error        { return nil }
func (p *provider) Reset()                                      {}
func (p *provider) Logout() error                               { return nil }
func (p *provider) Data(r io.Reader) error {
	m, err := mail.ReadMessage(r)
	if err != nil {
		return err
	}
	p.take(m.Header.Get("Message-Id"), m.Header.Get("Subject"))
	return nil
}

// mailServer is a real SMTP server (github.com/emersion/go-smtp) in front of a provider.
func mailServer(t *testing.T, p *provider) (port uint32) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := smtp.NewServer(p)
	s.Domain = "localhost"
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-ended })
	return uint32(l.Addr().(*net.TCPAddr).Port)
}

// hookServer is a real HTTP server in front of a provider; key is the header by which the sender names a message.
func hookServer(t *testing.T, p *provider, key string, text func(body string) string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		p.take(r.Header.Get(key), text(string(body)))
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s.URL
}

// outlive is what outlives the node that has it.
type outlive struct {
	t      *testing.T
	c      *harness.Cluster
	victim *harness.Node
	twins  map[cluster.Slot]string // a twin's id for a slot: placements are told by twins
}

// named gives a name whose address, such as rule/default/NAME, the victim has, or, where others is set, another node.
func (o *outlive) named(base string, others bool, address string) string {
	o.t.Helper()
	if o.twins == nil {
		o.twins = map[cluster.Slot]string{}
		for i := range 100_000 {
			id := "default/at-" + strconv.Itoa(i)
			o.twins[cluster.SlotOf(id)] = id
		}
	}
	for i := range 1000 {
		name := base + strconv.Itoa(i)
		at := o.twins[cluster.SlotOf(address+name)]
		if at == "" {
			continue
		}
		r, err := o.c.Node(0).Cluster().GetPlacement(o.t.Context(), connect.NewRequest(&pb.GetPlacementRequest{Id: at}))
		if err != nil {
			o.t.Fatal(err)
		}
		if (r.Msg.Placement.NodeName != o.victim.Name) == others {
			return name
		}
	}
	o.t.Fatalf("no name for %s", base)
	return ""
}

// survivor gives a node that is not killed.
func (o *outlive) survivor() *harness.Node {
	all := slices.DeleteFunc(o.c.Nodes(), func(n *harness.Node) bool { return n == o.victim })
	return all[0]
}

func (o *outlive) notifier(m *pb.Notifier) string {
	o.t.Helper()
	m.RetryMin, m.RetryMax = durationpb.New(50*time.Millisecond), durationpb.New(500*time.Millisecond)
	if _, err := o.survivor().Notifiers().CreateNotifier(o.t.Context(), connect.NewRequest(&pb.CreateNotifierRequest{Notifier: m})); err != nil {
		o.t.Fatal(err)
	}
	return m.Id
}

// raise raises an alarm that escalates by a message for topic late.
func (o *outlive) raise(name string, after time.Duration) {
	o.t.Helper()
	_, err := o.survivor().Automation().RaiseAlarm(o.t.Context(), connect.NewRequest(&pb.RaiseAlarmRequest{Id: "default/" + name, Text: "look",
		Escalate: []*pb.Escalation{{After: durationpb.New(after), Actions: []*pb.Action{{Do: &pb.Action_Publish{
			Publish: &pb.PublishAction{Topic: "default/late", Payload: structpb.NewStringValue(name)}}}}}}}))
	if err != nil {
		o.t.Fatal(err)
	}
}

func (o *outlive) change(m *pb.ChangeAlarmRequest) {
	o.t.Helper()
	if _, err := o.survivor().Automation().ChangeAlarm(o.t.Context(), connect.NewRequest(m)); err != nil {
		o.t.Fatal(err)
	}
}

func (o *outlive) alarm(name string) *pb.GetAlarmResponse {
	o.t.Helper()
	var m *connect.Response[pb.GetAlarmResponse]
	until(o.t, "alarm "+name, func() (ok bool) {
		ctx, cancel := context.WithTimeout(o.t.Context(), 10*time.Second)
		defer cancel()
		var err error
		m, err = o.survivor().Automation().GetAlarm(ctx, connect.NewRequest(&pb.GetAlarmRequest{Id: "default/" + name}))
		return err == nil
	})
	return m.Msg
}

// read gives the payloads of a topic.
func (o *outlive) read(topic string) (all []string) {
	ctx, cancel := context.WithTimeout(o.t.Context(), 10*time.Second)
	defer cancel()
	s, err := o.survivor().Topics().Subscribe(ctx, connect.NewRequest(&pb.SubscribeRequest{Topic: topic, UntilEnd: true,
		Start: &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}}))
	if err != nil {
		return nil
	}
	defer s.Close()
	for s.Receive() {
		for _, d := range s.Msg().Messages {
			all = append(all, string(d.Message.Payload))
		}
	}
	return all
}

// tell changes what hall says, again and again until that is acknowledged.
func (o *outlive) tell(text string) {
	o.t.Helper()
	for end := time.Now().Add(outlivePatience); ; {
		ctx, cancel := context.WithTimeout(o.t.Context(), 5*time.Second)
		_, err := o.survivor().Twins().SetDesired(ctx, connect.NewRequest(&pb.SetDesiredRequest{Id: "default/hall", Property: "said", Value: structpb.NewStringValue(text)}))
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			o.t.Fatalf("%s: %v", text, err)
		}
	}
}

// TestAutomationOutlivesItsNode kills the node that has a rule, notifiers and alarms, while the rule acts, each notifier's provider has a message
// and has not answered, and an alarm is about to escalate. The rule acts once on each change, in a topic, which knows messages; what is to be sent is
// sent, in its order, with the same key where providers have keys, and declared as repeated where they have none; the alarm escalates once and not before its time; what
// is acknowledged or shelved stays so.
func TestAutomationOutlivesItsNode(t *testing.T) {
	o := &outlive{t: t, c: harness.StartCluster(t, harness.ClusterOptions{})}
	o.victim = o.c.Follower()
	n := o.survivor()
	model := filepath.Join(t.TempDir(), "room.json")
	if err := os.WriteFile(model, []byte(ruleModel), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("model", "create", "room", "--file", model)
	n.Must("twin", "create", "hall", "--model", "room")
	n.Must("topic", "create", "told")
	n.Must("topic", "create", "late")

	messages := []string{"m0", "m1", "m2", "m3"}
	providers := map[string]*provider{"hook": newProvider("m1"), "form": newProvider("m1"), "mail": newProvider("m1")}
	free := sync.OnceFunc(func() {
		for _, p := range providers {
			close(p.letGo)
		}
	})
	t.Cleanup(free)
	notifiers := map[string]string{
		"hook": o.notifier(&pb.Notifier{Id: "default/" + o.named("hook", false, "notifier/default/"), Secret: "open sesame", Kind: &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{
			Url: hookServer(t, providers["hook"], "Webhook-Id", func(body string) string {
				var m struct{ Body string }
				_ = json.Unmarshal([]byte(body), &m)
				return m.Body
			})}}}),
		"form": o.notifier(&pb.Notifier{Id: "default/" + o.named("form", false, "notifier/default/"), Kind: &pb.Notifier_Sms{Sms: &pb.SmsNotifier{To: []string{"+4912345"},
			Provider: &pb.SmsNotifier_Form{Form: &pb.FormSms{Url: hookServer(t, providers["form"], "X-None", func(body string) string { return strings.TrimPrefix(body, "text=") }),
				Fields: map[string]string{"text": "${body}"}}}}}}),
		"mail": o.notifier(&pb.Notifier{Id: "default/" + o.named("mail", false, "notifier/default/"), Kind: &pb.Notifier_Mail{Mail: &pb.MailNotifier{Host: "127.0.0.1",
			Port: mailServer(t, providers["mail"]), Security: pb.MailSecurity_MAIL_SECURITY_NONE, From: "house@example.com", To: []string{"kim@example.com"}}}}),
	}
	rule := o.named("tell", false, "rule/default/")
	if _, err := n.Automation().PutRule(t.Context(), connect.NewRequest(&pb.PutRuleRequest{Rule: &pb.Rule{Id: "default/" + rule, Each: true,
		When: []*pb.Trigger{{On: &pb.Trigger_Property{Property: &pb.PropertyTrigger{Of: &pb.Selection{Twins: []string{"hall"}}, Names: []string{"said"}}}}},
		Then: []*pb.Action{{Do: &pb.Action_Mqtt{Mqtt: &pb.MqttAction{Topic: "told", Payload: "${value}"}}},
			{Do: &pb.Action_Publish{Publish: &pb.PublishAction{Topic: "default/told", Expr: "value"}}}}}})); err != nil {
		t.Fatal(err)
	}
	for _, id := range notifiers {
		for _, text := range messages {
			if _, err := n.Notifiers().Notify(t.Context(), connect.NewRequest(&pb.NotifyRequest{Notification: &pb.Notification{Notifier: id, Id: text, Subject: text, Body: text}})); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, p := range providers {
		select {
		case <-p.holding:
		case <-time.After(outlivePatience):
			t.Fatalf("%s has taken %v", name, p.all())
		}
	}
	escalates, acknowledged, shelved := o.named("escalates", false, "alarm/default/"), o.named("acknowledged", false, "alarm/default/"), o.named("shelved", false, "alarm/default/")
	for _, name := range []string{acknowledged, shelved} {
		o.raise(name, time.Minute)
	}
	o.change(&pb.ChangeAlarmRequest{Id: "default/" + acknowledged, Change: &pb.ChangeAlarmRequest_Acknowledge{Acknowledge: true}})
	o.change(&pb.ChangeAlarmRequest{Id: "default/" + shelved, Change: &pb.ChangeAlarmRequest_Shelve{Shelve: durationpb.New(time.Hour)}})
	const after = 4 * time.Second
	o.raise(escalates, after)

	var want []string
	for i := range 18 { // the record of a rule shows 20
		text := fmt.Sprint("change ", i)
		if i == 6 {
			o.victim.Kill() // while the rule acts on the last ones
			free()
		}
		o.tell(text)
		want = append(want, text)
	}
	o.acted(rule, want)
	for name, p := range providers {
		until(t, name+" has all messages", func() bool { return len(p.order()) == len(messages) })
		o.sent(name, p, notifiers[name], messages)
	}
	until(t, "the alarm escalates", func() bool { return len(o.read("default/late")) > 0 })
	m := o.alarm(escalates)
	if got := o.read("default/late"); len(got) != 1 || len(m.Runs) != 1 || m.Runs[0].Time.AsTime().Before(m.Alarm.RaiseTime.AsTime().Add(after)) {
		t.Errorf("escalations told of: %v; the alarm: %v", got, m)
	}
	if m := o.alarm(acknowledged); !m.Alarm.Acknowledged || len(m.Runs) != 0 {
		t.Errorf("what was acknowledged: %v", m)
	}
	if m := o.alarm(shelved); m.Alarm.ShelvedUntil.AsTime().Before(time.Now()) || len(m.Runs) != 0 {
		t.Errorf("what was shelved: %v", m)
	}
}

// acted waits until the rule has told topic told of all changes, and holds it to once. Its record says of each that it was done; what a broker was
// given may have been given again, which only the record tells.
func (o *outlive) acted(rule string, want []string) {
	o.t.Helper()
	var got map[string]int
	until(o.t, "the rule has acted on each change", func() bool {
		got = map[string]int{}
		for _, payload := range o.read("default/told") {
			var text string
			if err := json.Unmarshal([]byte(payload), &text); err != nil {
				o.t.Fatal(err)
			}
			got[text]++
		}
		return !slices.ContainsFunc(want, func(text string) bool { return got[text] == 0 })
	})
	for text, times := range got {
		if times != 1 {
			o.t.Errorf("%q has led to %d messages", text, times)
		}
	}
	until(o.t, "the record says that all is done", func() bool {
		ctx, cancel := context.WithTimeout(o.t.Context(), 10*time.Second)
		defer cancel()
		r, err := o.survivor().Automation().WhyRule(ctx, connect.NewRequest(&pb.WhyRuleRequest{Id: "default/" + rule}))
		return err == nil && len(r.Msg.Runs) == len(got) &&
			!slices.ContainsFunc(r.Msg.Runs, func(x *pb.Run) bool { return x.State != pb.RunState_RUN_STATE_DONE || len(x.Steps) != 2 })
	})
}

// sent checks what a provider has taken, and that the record says it.
func (o *outlive) sent(name string, p *provider, id string, want []string) {
	o.t.Helper()
	if got := p.order(); !slices.Equal(got, want) {
		o.t.Errorf("%s has taken %v", name, got)
	}
	keys := map[string]string{}
	times := map[string]int{}
	for _, x := range p.all() {
		times[x.text]++
		if was, ok := keys[x.text]; ok && was != x.key {
			o.t.Errorf("%s: %s came as %q and as %q", name, x.text, was, x.key)
		}
		keys[x.text] = x.key
		if (x.key == "") != (name == "form") {
			o.t.Errorf("%s: %s came by key %q", name, x.text, x.key)
		}
	}
	var all []*pb.Notification
	until(o.t, name+" is through", func() bool {
		ctx, cancel := context.WithTimeout(o.t.Context(), 10*time.Second)
		defer cancel()
		r, err := o.survivor().Notifiers().ListNotifications(ctx, connect.NewRequest(&pb.ListNotificationsRequest{Notifier: id}))
		if err != nil {
			return false
		}
		all = r.Msg.Notifications
		return len(all) == len(want) && !slices.ContainsFunc(all, func(m *pb.Notification) bool { return m.Outcome.GetEnd() == nil })
	})
	for _, m := range all {
		if m.Outcome.State != pb.NotificationState_NOTIFICATION_STATE_SENT && m.Outcome.State != pb.NotificationState_NOTIFICATION_STATE_ACKNOWLEDGED {
			o.t.Errorf("%s: %s is %v", name, m.Body, m.Outcome)
		}
		if times[m.Body] > 1 && name == "form" && !m.Outcome.Repeated {
			o.t.Errorf("%s came %d times, and it is not said: %v", m.Body, times[m.Body], m.Outcome)
		}
	}
	if times["m1"] < 2 {
		o.t.Errorf("%s has taken m1 once: its answer had nobody to hear it", name)
	}
}
