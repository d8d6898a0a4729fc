package actors_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (n *node) notifier(m *pb.Notifier) *pb.Notifier {
	n.t.Helper()
	m.RetryMin, m.RetryMax = durationpb.New(10*time.Millisecond), durationpb.New(50*time.Millisecond)
	m, err := n.reg.PutNotifier(ctx(n.t), m)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// An alarm tells by notifiers, at once and when nobody looks at it; the message says what it is about where the action does not.
func TestAlarmNotifies(t *testing.T) {
	n, c := clocked(t, "2026-03-01T07:00:00Z")
	n.sensors("a")
	n.notifier(&pb.Notifier{Id: "oncall", Kind: &pb.Notifier_Mqtt{Mqtt: &pb.MqttNotifier{Topic: "oncall"}}, Body: " "})
	n.rule(`{"id":"hot","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"if":"value > 30",
		"then":[{"raise":{"severity":"ALARM_SEVERITY_ERROR","text":"${twin.name} has ${value}","escalate":[
			{"after":"0s","actions":[{"notify":{"notifier":"oncall"}}]},
			{"after":"600s","actions":[{"notify":{"notifier":"oncall","subject":"still: ${value.text}","urgent":true}}]}]}}],
		"otherwise":[{"clear":{}}]}`)
	n.absorb("a", `{"level":31}`, 0)
	told := func(want string) {
		t.Helper()
		until(t, "it was told "+want, func() bool {
			n.engine.Tick()
			n.mu.Lock()
			defer n.mu.Unlock()
			return strings.TrimSpace(strings.ReplaceAll(strings.Join(n.published, "|"), "\n", "")) == want
		})
	}
	told("oncall error: a has 31")
	c.to(t, "2026-03-01T07:10:00Z", n)
	told("oncall error: a has 31 |oncall still: a has 31")
	_, err := n.reg.PutRule(ctx(t), &pb.Rule{Id: "x", When: []*pb.Trigger{{On: &pb.Trigger_Property{Property: &pb.PropertyTrigger{}}}},
		Then: []*pb.Action{{Do: &pb.Action_Notify{Notify: &pb.NotifyAction{Notifier: "nobody"}}}}})
	if err == nil || !strings.Contains(err.Error(), "/rule/then/0/notify/notifier") {
		t.Errorf("a notifier that is not there: %v", err)
	}
	if err := n.reg.DeleteTopic(ctx(t), "oncall.outbox"); err == nil || !strings.Contains(err.Error(), "outbox of notifier") {
		t.Errorf("an outbox is deleted: %v", err)
	}
	if err := n.reg.DeleteNotifier(ctx(t), "oncall"); err != nil {
		t.Fatal(err)
	}
	if _, err := n.reg.Notifier(ctx(t), "oncall"); !errors.Is(err, actors.ErrNotFound) || n.records("notice", "default/oncall") > 0 {
		t.Errorf("afterwards: %v; %d outcomes", err, n.records("notice", "default/oncall"))
	}
}

// A crash while the provider is away: all that rules decided to tell is told when both are back, in its order, and once by its keys.
func TestNotificationsSurviveACrash(t *testing.T) {
	fs := vfs.NewCrashableMem()
	n := open(t, fs, 1)
	n.sensors("a")
	var mu sync.Mutex
	var order []string
	seen, up := map[string]int{}, false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var m struct{ ID, Subject string }
		mu.Lock()
		defer mu.Unlock()
		if err != nil || json.Unmarshal(body, &m) != nil || !up {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		if seen[m.ID]++; seen[m.ID] == 1 {
			order = append(order, m.Subject)
		}
	}))
	defer server.Close()
	n.notifier(&pb.Notifier{Id: "hook", Kind: &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Url: server.URL}}, Secret: "sesame"})
	n.rule(`{"id":"each","when":[{"property":{"of":{"twins":["a"]},"names":["level"]}}],"each":true,"then":[{"notify":{"notifier":"hook","subject":"${value}"}}]}`)
	const all = 8
	want := make([]string, all)
	for i := range all {
		want[i] = fmt.Sprint(i + 1)
		n.absorb("a", fmt.Sprintf(`{"level":%d}`, i+1), 0)
		until(t, "the message is in the outbox", func() bool {
			res, err := n.reg.Notifications(ctx(t), &pb.ListNotificationsRequest{Notifier: "hook"})
			return err == nil && len(res.Notifications) == i+1
		})
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{}) // as after a loss of power
	n.close()
	n = open(t, crashed, 2)
	mu.Lock()
	up = true
	mu.Unlock()
	until(t, "all are told", func() bool {
		m, err := n.reg.Notifier(ctx(t), "hook")
		return err == nil && m.State.Acknowledged == all && m.State.Queued == 0
	})
	mu.Lock()
	defer mu.Unlock()
	if strings.Join(order, " ") != strings.Join(want, " ") || len(seen) != all {
		t.Errorf("told %v, by %d keys", order, len(seen))
	}
}

// Notifiers are configuration: their secrets are sealed, never shown, and kept where a document does not know them; rules come behind them.
func TestApplyNotifiers(t *testing.T) {
	n := newNode(t)
	n.sensors("a")
	const chat = `{"notifier":{"id":"desk","webhook":{"url":"http://127.0.0.1:1/in"},"secret":"hush","paused":true}}`
	const rule = `{"rule":{"id":"r","when":[{"property":{"names":["level"]}}],"then":[{"notify":{"notifier":"desk"}}]}}`
	sameLines(t, "no notifier", n.apply(&pb.ApplyRequest{Records: configs(t, rule)}), "refused rule default/r /rule/then/0/notify/notifier")
	for _, line := range []string{chat, rule} {
		n.apply(&pb.ApplyRequest{Records: configs(t, line)})
		if again := n.apply(&pb.ApplyRequest{Records: configs(t, line)}); len(again) != 1 || !strings.HasPrefix(again[0], "unchanged") {
			t.Errorf("%s again: %v", line, again)
		}
	}
	sameLines(t, "a secret", n.apply(&pb.ApplyRequest{Records: configs(t, strings.Replace(chat, "hush", "hush hush", 1))}), `changed notifier default/desk secret:"***"->"***"`)
	sameLines(t, "another host", n.apply(&pb.ApplyRequest{Records: configs(t, strings.NewReplacer("hush", "***", "127.0.0.1:1", "evil:1").Replace(chat))}),
		"refused notifier default/desk /notifier/secret")
}

// A notifier that is made anew counts nothing as dropped that the one before it had.
func TestANotifierMadeAnewHasDroppedNothing(t *testing.T) {
	n := newNode(t)
	for range 2 {
		n.notifier(&pb.Notifier{Id: "oncall", Kind: &pb.Notifier_Mqtt{Mqtt: &pb.MqttNotifier{Topic: "oncall"}}})
		for range 3 {
			if _, err := n.reg.Notify(ctx(t), &pb.Notification{Notifier: "oncall", Subject: "x"}, "test"); err != nil {
				t.Fatal(err)
			}
		}
		var s *pb.NotifierState
		until(t, "all are sent", func() bool {
			m, err := n.reg.Notifier(ctx(t), "oncall")
			if err != nil {
				t.Fatal(err)
			}
			s = m.State
			return s.Sent == 3
		})
		if s.Dropped > 0 || s.Failed > 0 {
			t.Errorf("%v", s)
		}
		if err := n.reg.DeleteNotifier(ctx(t), "oncall"); err != nil {
			t.Fatal(err)
		}
	}
}
