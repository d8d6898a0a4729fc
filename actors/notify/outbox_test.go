package notify_test

import (
	"context"
	"errors"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/notify"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func mqtt(topic string) *pb.Notifier_Mqtt {
	return &pb.Notifier_Mqtt{Mqtt: &pb.MqttNotifier{Topic: topic}}
}

func (r *rig) told() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.published, "|")
}

// An outbox is bounded: what leaves it unsent is counted, and the rest goes out in its order.
func TestBoundedOutbox(t *testing.T) {
	r := newRig(t)
	h := r.give(r.host("n1"))
	m := &pb.Notifier{Id: "default/m", Kind: mqtt("told/${values.n}"), Body: "${body}", Subject: "", Keep: 5, Paused: true}
	r.notifier(m)
	r.texts(h, m.Id, 1, 12)
	for end := time.Now().Add(patience); len(r.outbox(h, m.Id)) != 5; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the outbox has %d messages", len(r.outbox(h, m.Id)))
		}
	}
	m.Paused = false
	r.notifier(m)
	s := r.until(h, m.Id, "five are sent", func(s *pb.NotifierState) bool { return s.Sent == 5 })
	if s.Dropped != 7 || s.Failed != 0 || s.Acknowledged != 0 {
		t.Errorf("%v", s)
	}
	if got := r.told(); got != "told/? Alarm\n8|told/? Alarm\n9|told/? Alarm\n10|told/? Alarm\n11|told/? Alarm\n12" {
		t.Errorf("told %q", got)
	}
	if got := r.states(h, m.Id); got != "8 sent, 9 sent, 10 sent, 11 sent, 12 sent" {
		t.Errorf("outbox: %s", got)
	}
	res, err := h.List(t.Context(), &pb.ListNotificationsRequest{Notifier: m.Id, State: pb.NotificationState_NOTIFICATION_STATE_FAILED})
	if err != nil || len(res.Notifications) > 0 {
		t.Errorf("failed ones: %v, %v", res, err)
	}
}

// What was urgent and sent in quiet hours is not dropped when it leaves the outbox, in which others wait before it.
func TestDroppedIsNotSent(t *testing.T) {
	r := newRig(t)
	r.at("2026-03-01T23:00:00Z")
	h := r.give(r.host("n1"))
	m := &pb.Notifier{Id: "default/m", Kind: mqtt("t"), Keep: 5, Quiet: []*pb.Window{{From: "23:00", To: "07:00"}}, Zone: "Europe/Berlin"}
	r.notifier(m)
	r.texts(h, m.Id, 1, 1)
	r.send(h, &pb.Notification{Notifier: m.Id, Body: "2", Urgent: true})
	r.until(h, m.Id, "the urgent one is sent", func(s *pb.NotifierState) bool { return s.Sent == 1 })
	r.texts(h, m.Id, 3, 4)
	r.send(h, &pb.Notification{Notifier: m.Id, Body: "7", Urgent: true})
	r.until(h, m.Id, "the other urgent one, too", func(s *pb.NotifierState) bool { return s.Sent == 2 })
	r.texts(h, m.Id, 8, 2)
	for end := time.Now().Add(patience); len(r.outbox(h, m.Id)) != 5; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the outbox has %d messages", len(r.outbox(h, m.Id)))
		}
	}
	m.Paused = true // the next run begins with what is there
	r.notifier(m)
	r.at("2026-03-02T06:00:00Z")
	m.Paused = false
	r.notifier(m)
	s := r.until(h, m.Id, "it is at the end", func(s *pb.NotifierState) bool { return s.Position == 10 })
	// Of nine the last five are there: 5, 6, 7, 8 and 9. 7 is sent already, as is 2; 1, 3 and 4 are dropped.
	if s.Sent != 6 || s.Dropped != 3 {
		t.Errorf("%d sent, %d dropped; want 6 and 3", s.Sent, s.Dropped)
	}
}

// In quiet hours what is urgent goes out, and all else at their end, in its order.
func TestQuietHours(t *testing.T) {
	r := newRig(t)
	r.at("2026-03-01T23:00:00Z")
	h := r.give(r.host("n1"))
	r.notifier(&pb.Notifier{Id: "default/m", Kind: mqtt("t"), Subject: "${urgent}", Quiet: []*pb.Window{{From: "23:00", To: "07:00"}}, Zone: "Europe/Berlin"})
	r.texts(h, "default/m", 1, 1)
	r.send(h, &pb.Notification{Notifier: "default/m", Body: "2", Urgent: true})
	s := r.until(h, "default/m", "the urgent one is sent", func(s *pb.NotifierState) bool { return s.Sent == 1 })
	if got := r.told(); got != "t true\n2" {
		t.Errorf("told %q", got)
	}
	if got := r.states(h, "default/m"); got != "1 queued, 2 sent" || s.Position != 1 {
		t.Errorf("outbox: %s; %v", got, s)
	}
	s = r.until(h, "default/m", "it says why it waits", func(s *pb.NotifierState) bool { return s.WaitFor != "" })
	if s.WaitFor != "the end of the quiet hours" || s.WaitUntil.AsTime().Format(time.RFC3339) != "2026-03-02T06:00:00Z" {
		t.Errorf("%v", s)
	}
	r.at("2026-03-02T06:00:00Z")
	r.texts(h, "default/m", 3, 1)
	r.until(h, "default/m", "all are sent", func(s *pb.NotifierState) bool { return s.Sent == 3 && s.Position == 4 })
	if got := r.told(); got != "t true\n2|t false\n1|t false\n3" {
		t.Errorf("told %q", got)
	}
}

// More than the limit waits for the next span.
func TestLimit(t *testing.T) {
	r := newRig(t)
	r.at("2026-03-01T12:00:00Z")
	h := r.give(r.host("n1"))
	r.notifier(&pb.Notifier{Id: "default/m", Kind: mqtt("t"), Limit: 2, LimitPer: durationpb.New(time.Minute)})
	r.texts(h, "default/m", 1, 5)
	for n, at := range []string{"2026-03-01T12:01:00Z", "2026-03-01T12:02:00Z"} {
		s := r.until(h, "default/m", "it waits", func(s *pb.NotifierState) bool { return s.WaitFor == "its limit" && s.Sent == uint64(2*n+2) })
		if got := s.WaitUntil.AsTime().Format(time.RFC3339); got != at {
			t.Errorf("it waits until %s, want %s", got, at)
		}
		r.at(at)
	}
	r.until(h, "default/m", "all are sent", func(s *pb.NotifierState) bool { return s.Sent == 5 })
}

// A message that nobody takes is given up, and holds up nobody behind it for longer.
func TestGivenUp(t *testing.T) {
	r := newRig(t)
	h := r.give(r.host("n1"))
	r.notifier(&pb.Notifier{Id: "default/m", Kind: mqtt("${body}"), GiveUp: durationpb.New(time.Second)})
	r.send(h, &pb.Notification{Notifier: "default/m", Body: "down"})
	r.until(h, "default/m", "it is given up", func(s *pb.NotifierState) bool { return s.Failed == 1 })
	if o := r.outbox(h, "default/m")[0].Outcome; o.Error != "given up after 1s: the broker is down" || o.Tries < 2 {
		t.Errorf("%v", o)
	}
	r.send(h, &pb.Notification{Notifier: "default/m", Body: "up"}, &pb.Notification{Notifier: "default/m", Body: "a/#"})
	r.until(h, "default/m", "the next ones are through", func(s *pb.NotifierState) bool { return s.Sent == 1 && s.Failed == 2 })
}

// An owner that goes in the middle of a try leaves a mark where the provider has no keys: the message may have been sent twice.
func TestPerhapsTwice(t *testing.T) {
	r, to := newRig(t), newReceiver(t)
	first, second := r.host("n1"), r.host("n2")
	r.give(first)
	begun, again := make(chan struct{}), false
	to.answer = func(_ http.ResponseWriter, q *http.Request, _ string) bool {
		if !again {
			again = true
			close(begun)
			<-q.Context().Done()
		}
		return true
	}
	r.notifier(&pb.Notifier{Id: "default/t", Secret: "x", Kind: &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Preset: pb.WebhookPreset_WEBHOOK_PRESET_TELEGRAM,
		Url: "http://" + to.addr, To: []string{"7"}}}})
	r.texts(first, "default/t", 1, 2)
	<-begun
	r.give(second)
	r.until(second, "default/t", "both are there", func(s *pb.NotifierState) bool { return s.Acknowledged == 2 })
	all := r.outbox(second, "default/t")
	if !all[0].Outcome.Repeated || all[0].Outcome.Tries != 2 || all[1].Outcome.Repeated {
		t.Errorf("%v", all)
	}
}

// What somebody else publishes to an outbox is sent, where it can be read.
func TestForeignMessages(t *testing.T) {
	r := newRig(t)
	h := r.give(r.host("n1"))
	r.notifier(&pb.Notifier{Id: "default/m", Kind: mqtt("t")})
	if _, err := r.topics.Publish(t.Context(), &pb.PublishRequest{Topic: notify.OutboxOf("default/m"), Messages: []*pb.TopicMessage{
		{Payload: []byte("not JSON")}, {Payload: []byte(`{"subject":"from a route","other":1}`)}}}); err != nil {
		t.Fatal(err)
	}
	r.until(h, "default/m", "both are through", func(s *pb.NotifierState) bool { return s.Failed == 1 && s.Sent == 1 })
	if got := r.told(); got != "t from a route" {
		t.Errorf("told %q", got)
	}
	if _, err := h.Send(t.Context(), &pb.Notification{Notifier: "default/none"}); !errors.Is(err, notify.ErrNotFound) {
		t.Errorf("to nobody: %v", err)
	}
}

// What is wrong with a notifier is said, and where.
func TestCheck(t *testing.T) {
	r := newRig(t)
	h := r.host("n1")
	mail := func(m *pb.MailNotifier) *pb.Notifier_Mail {
		m.Host = "mail.example.com"
		if m.From == "" {
			m.From = "a@example.com"
		}
		return &pb.Notifier_Mail{Mail: m}
	}
	hook := func(p pb.WebhookPreset, url string) *pb.Notifier_Webhook {
		return &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Preset: p, Url: url}}
	}
	for _, c := range []struct {
		m    *pb.Notifier
		path string
	}{
		{&pb.Notifier{}, "/notifier"},
		{&pb.Notifier{Id: "default/" + strings.Repeat("x", 101), Kind: mqtt("t")}, "/notifier/id"},
		{&pb.Notifier{Kind: mqtt("t"), Subject: "${subjet}"}, "/notifier/subject"},
		{&pb.Notifier{Kind: mqtt("t"), Body: "${1 +}"}, "/notifier/body"},
		{&pb.Notifier{Kind: mqtt("a/#")}, "/notifier/mqtt/topic"},
		{&pb.Notifier{Kind: mqtt("t"), Zone: "Atlantis"}, "/notifier/zone"},
		{&pb.Notifier{Kind: mqtt("t"), Quiet: []*pb.Window{{From: "25:00"}}}, "/notifier/quiet/0/from"},
		{&pb.Notifier{Kind: mqtt("t"), Attachments: []*pb.Attachment{{Name: "x"}}}, "/notifier/attachments"},
		{&pb.Notifier{Kind: mail(&pb.MailNotifier{User: "kim"})}, "/notifier/secret"},
		{&pb.Notifier{Kind: mail(&pb.MailNotifier{User: "kim", Security: pb.MailSecurity_MAIL_SECURITY_NONE})}, "/notifier/mail/user"},
		{&pb.Notifier{Kind: mail(&pb.MailNotifier{From: "nobody"})}, "/notifier/mail/from"},
		{&pb.Notifier{Kind: mail(&pb.MailNotifier{To: []string{"a@example.com", "b"}})}, "/notifier/mail/to/1"},
		{&pb.Notifier{Kind: mail(&pb.MailNotifier{Ca: "x"})}, "/notifier/mail/ca"},
		{&pb.Notifier{Kind: hook(pb.WebhookPreset_WEBHOOK_PRESET_UNSPECIFIED, "")}, "/notifier/webhook/url"},
		{&pb.Notifier{Kind: hook(pb.WebhookPreset_WEBHOOK_PRESET_UNSPECIFIED, "https://a:b@example.com")}, "/notifier/webhook/url"},
		{&pb.Notifier{Kind: hook(pb.WebhookPreset_WEBHOOK_PRESET_SLACK, "")}, "/notifier/secret"},
		{&pb.Notifier{Kind: hook(pb.WebhookPreset_WEBHOOK_PRESET_TELEGRAM, "")}, "/notifier/secret"},
		{&pb.Notifier{Kind: &pb.Notifier_Sms{Sms: &pb.SmsNotifier{Provider: &pb.SmsNotifier_Form{Form: &pb.FormSms{Url: "https://example.com",
			Fields: map[string]string{"text": "${nothing}"}}}}}}, "/notifier/sms/form/fields/text"},
	} {
		var f *automation.FieldError
		if err := h.Check(c.m, false); !errors.As(err, &f) || f.Path != c.path {
			t.Errorf("%v: %v, want %s", c.m, err, c.path)
		}
	}
}

// A message that goes past the outbox is answered at once, and nothing is kept of it.
func TestTry(t *testing.T) {
	r, b := newRig(t), newMailbox(t)
	h := r.give(r.host("n1"))
	m := &pb.Notifier{Id: "default/mail", Kind: b.conf(&pb.MailNotifier{To: []string{"kim@example.com"}}), Secret: "sesame"}
	n := &pb.Notification{Notifier: m.Id, Id: "test", Subject: "Test", Time: timestamppb.Now()}
	if o, err := h.Try(t.Context(), m, n); err != nil || o.State != pb.NotificationState_NOTIFICATION_STATE_ACKNOWLEDGED || o.Receipt == "" || len(b.all()) != 1 {
		t.Errorf("%v, %v; %d mails", o, err, len(b.all()))
	}
	m.Secret = "wrong"
	if o, err := h.Try(t.Context(), m, n); err != nil || o.State != pb.NotificationState_NOTIFICATION_STATE_FAILED || !strings.Contains(o.Error, "Authentication failed") {
		t.Errorf("%v, %v", o, err)
	}
}

// Tables of history have a column for each series with values, and a row for each step.
func TestTables(t *testing.T) {
	r, b := newRig(t), newMailbox(t)
	r.twins = []string{"default/a", "default/b", "default/<c>"}
	nan := math.NaN()
	r.series = func(_ context.Context, q *pb.QuerySeriesRequest) (*pb.QuerySeriesResponse, error) {
		if q.Step.AsDuration() != time.Hour || q.End.AsTime().Sub(q.Start.AsTime()) != 2*time.Hour || len(q.Filter.Ids) != 3 {
			t.Errorf("asked %v", q)
		}
		return &pb.QuerySeriesResponse{Start: q.Start, Step: q.Step, Series: []*pb.HistorySeries{{Twin: "default/a", Unit: "W", Values: []float64{1, nan, 2.5}},
			{Twin: "default/b", Values: []float64{nan, nan, nan}}, {Twin: "default/<c>", Values: []float64{0, 7, nan}}}}, nil
	}
	h := r.give(r.host("n1"))
	r.notifier(&pb.Notifier{Id: "default/mail", Kind: b.conf(&pb.MailNotifier{To: []string{"kim@example.com"}}), Secret: "sesame"})
	table := func(f pb.TableFormat) *pb.Attachment {
		return &pb.Attachment{Name: strings.ToLower(f.String()), Content: &pb.Attachment_History{History: &pb.HistoryTable{Properties: []string{"power"},
			Since: durationpb.New(3 * time.Hour), Zone: "Europe/Berlin", Format: f}}}
	}
	due, _ := time.Parse(time.RFC3339, "2026-03-01T06:00:00Z")
	r.send(h, &pb.Notification{Notifier: "default/mail", Subject: "Report", Time: timestamppb.New(due),
		Attachments: []*pb.Attachment{table(pb.TableFormat_TABLE_FORMAT_CSV), table(pb.TableFormat_TABLE_FORMAT_HTML)}})
	r.until(h, "default/mail", "the report is there", func(s *pb.NotifierState) bool { return s.Acknowledged == 1 })
	p := b.all()[0].decoded(t)
	if want := "time,a.power (W),<c>.power\r\n2026-03-01T05:00:00+01:00,1,0\r\n2026-03-01T06:00:00+01:00,,7\r\n2026-03-01T07:00:00+01:00,2.5,\r\n"; p["table_format_csv"] != want {
		t.Errorf("CSV: %q", p["table_format_csv"])
	}
	if text := p["table_format_html"]; !strings.Contains(text, "<th>&lt;c&gt;.power</th>") || !strings.Contains(text, "<td>2.5</td>") ||
		!strings.Contains(text, "power, 2026-03-01 04:00 to 2026-03-01 07:00 CET") {
		t.Errorf("HTML: %s", text)
	}
	for _, bad := range []*pb.HistoryTable{{Zone: "Atlantis"}, {Aggregate: "mode"}, {Since: durationpb.New(10000 * time.Hour), Step: durationpb.New(time.Second)}} {
		if notify.CheckTable(bad) == nil {
			t.Errorf("%v: no error", bad)
		}
	}
}

// A notifier of the log writes a line there with all that is to be known of the message.
func TestLogged(t *testing.T) {
	r := newRig(t)
	h := r.give(r.host("n1"))
	r.notifier(&pb.Notifier{Id: "default/log", Kind: &pb.Notifier_Log{Log: &pb.LogNotifier{}}, Subject: "[house] ${subject}"})
	r.send(h, &pb.Notification{Notifier: "default/log", Id: "lift-1", Subject: "Lift", Body: "It's stuck", Twin: "default/lift", By: "rule/default/lift"})
	r.until(h, "default/log", "it is sent", func(s *pb.NotifierState) bool { return s.Sent == 1 })
	for _, want := range []string{"level=INFO", `msg=notification`, "notifier=default/log", `subject="[house] Lift"`, `body="It's stuck"`, "twin=default/lift", "by=rule/default/lift", "id=lift-1"} {
		if !strings.Contains(r.logged(), want) {
			t.Errorf("the log has no %s: %s", want, r.logged())
		}
	}
	if got := r.states(h, "default/log"); got != "It's stuck sent" {
		t.Errorf("the outbox: %s", got)
	}
}
