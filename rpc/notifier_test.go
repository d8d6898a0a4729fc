package rpc_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestNotifierService walks through the procedures of a notifier's life: what is sent arrives, its secret is never shown, and not sent
// elsewhere; a schedule sends a report of what the history has.
func TestNotifierService(t *testing.T) {
	h, p := openHouse(t), fresh("notify")
	notifiers := rpcv1.NewNotifierServiceClient(h.http(h.admin), h.url)
	var mu sync.Mutex
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err == nil && strings.HasPrefix(r.Header.Get("Webhook-Signature"), "v1,") {
			bodies = append(bodies, string(body))
		}
	}))
	defer server.Close()
	conf := func(url string) *pb.Notifier {
		return &pb.Notifier{Id: p + "/hook", Kind: &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Url: url}}, Secret: "sesame"}
	}
	if _, err := notifiers.CreateNotifier(t.Context(), req(&pb.CreateNotifierRequest{Notifier: conf("gopher://x")})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("no address: %v", err)
	}
	made, err := notifiers.CreateNotifier(t.Context(), req(&pb.CreateNotifierRequest{Notifier: conf(server.URL)}))
	if err != nil || made.Msg.Notifier.Secret != "" || !made.Msg.Notifier.HasSecret {
		t.Fatalf("created: %v, %v", made, err)
	}
	tried, err := notifiers.TestNotifier(t.Context(), req(&pb.TestNotifierRequest{Id: p + "/hook"}))
	if err != nil || tried.Msg.Outcome.State != pb.NotificationState_NOTIFICATION_STATE_ACKNOWLEDGED {
		t.Errorf("test: %v, %v", tried, err)
	}
	for range 2 { // the second one is known
		if _, err := notifiers.Notify(t.Context(), req(&pb.NotifyRequest{Notification: &pb.Notification{Notifier: p + "/hook", Id: "k", Subject: "one"}})); err != nil {
			t.Fatal(err)
		}
	}
	outbox := func(n int) []*pb.Notification {
		t.Helper()
		for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			res, err := notifiers.ListNotifications(t.Context(), req(&pb.ListNotificationsRequest{Notifier: p + "/hook", State: pb.NotificationState_NOTIFICATION_STATE_ACKNOWLEDGED}))
			if err != nil {
				t.Fatal(err)
			}
			if len(res.Msg.Notifications) == n {
				return res.Msg.Notifications
			}
			if time.Now().After(end) {
				rest, _ := notifiers.ListNotifications(t.Context(), req(&pb.ListNotificationsRequest{Notifier: p + "/hook"}))
				now, _ := notifiers.GetNotifier(t.Context(), req(&pb.GetNotifierRequest{Id: p + "/hook"}))
				t.Fatalf("never %d acknowledged: %v; the notifier is at %v", n, rest, now)
			}
		}
	}
	if all := outbox(1); all[0].By == "" || all[0].Outcome.Tries != 1 {
		t.Errorf("outbox: %v", all)
	}
	h.report(t, p)
	outbox(2)
	mu.Lock()
	var m struct {
		Subject     string
		Attachments []struct {
			Name string
			Data []byte
		}
	}
	if err := json.Unmarshal([]byte(bodies[len(bodies)-1]), &m); err != nil || len(m.Attachments) != 1 {
		t.Fatalf("%v: %v", err, bodies)
	}
	lines := strings.Split(strings.TrimSpace(string(m.Attachments[0].Data)), "\r\n")
	if m.Subject != "Report" || m.Attachments[0].Name != "levels.csv" || lines[0] != "time,lamp.level (percent)" || !strings.HasSuffix(lines[len(lines)-1], ",7") {
		t.Errorf("report: %+v: %q", m, lines)
	}
	mu.Unlock()
	got, err := notifiers.GetNotifier(t.Context(), req(&pb.GetNotifierRequest{Id: p + "/hook"}))
	if err != nil || got.Msg.Notifier.State.Acknowledged != 2 || got.Msg.Notifier.Secret != "" {
		t.Fatalf("%v, %v", got, err)
	}
	next := got.Msg.Notifier
	next.GetWebhook().Url = "https://elsewhere.example/in"
	if _, err := notifiers.UpdateNotifier(t.Context(), req(&pb.UpdateNotifierRequest{Notifier: next})); connect.CodeOf(err) != connect.CodeInvalidArgument ||
		!strings.Contains(err.Error(), "not sent to another host") {
		t.Errorf("another host for the same secret: %v", err)
	}
	next.GetWebhook().Url = server.URL + "/v2"
	if changed, err := notifiers.UpdateNotifier(t.Context(), req(&pb.UpdateNotifierRequest{Notifier: next})); err != nil || !changed.Msg.Notifier.HasSecret {
		t.Errorf("updated: %v, %v", changed, err)
	}
	if got, err = notifiers.GetNotifier(t.Context(), req(&pb.GetNotifierRequest{Id: p + "/hook"})); err != nil {
		t.Fatal(err)
	}
	without := got.Msg.Notifier
	if changed, err := notifiers.UpdateNotifier(t.Context(), req(&pb.UpdateNotifierRequest{Notifier: without, RemoveSecret: true})); err != nil || changed.Msg.Notifier.HasSecret {
		t.Errorf("without its secret: %v, %v", changed, err)
	}
	list, err := notifiers.ListNotifiers(t.Context(), req(&pb.ListNotifiersRequest{Project: p}))
	if err != nil || len(list.Msg.Notifiers) != 1 || list.Msg.Notifiers[0].Secret != "" {
		t.Errorf("list: %v, %v", list, err)
	}
	if _, err := notifiers.DeleteNotifier(t.Context(), req(&pb.DeleteNotifierRequest{Id: p + "/hook"})); err != nil {
		t.Fatal(err)
	}
	if _, err := notifiers.GetNotifier(t.Context(), req(&pb.GetNotifierRequest{Id: p + "/hook"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a notifier that was deleted: %v", err)
	}
}

// report has a schedule send the level of a twin, once the history has it.
func (h *house) report(t *testing.T, p string) {
	t.Helper()
	h.echo(t, p+"/lamp")
	if _, err := h.ingests().Ingest(t.Context(), req(&pb.IngestRequest{Project: p, Messages: []*pb.IngestMessage{{Twin: "lamp", Payload: []byte(`{"level":7}`)}}})); err != nil {
		t.Fatal(err)
	}
	past := rpcv1.NewHistoryServiceClient(h.http(h.admin), h.url)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		res, err := past.QuerySeries(t.Context(), req(&pb.QuerySeriesRequest{Filter: &pb.TwinFilter{Project: p, Ids: []string{p + "/lamp"}}, Property: "level",
			Step: durationpb.New(time.Hour)}))
		if err == nil && len(res.Msg.Series) == 1 && res.Msg.Series[0].Values[len(res.Msg.Series[0].Values)-1] == 7 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the history never has it: %v, %v", res, err)
		}
	}
	_, err := rpcv1.NewAutomationServiceClient(h.http(h.admin), h.url).PutSchedule(t.Context(), req(&pb.PutScheduleRequest{Schedule: &pb.Schedule{Id: p + "/daily",
		Timing: &pb.Timing{When: &pb.Timing_At{At: timestamppb.New(time.Now().Add(300 * time.Millisecond))}},
		Actions: []*pb.Action{{Do: &pb.Action_Notify{Notify: &pb.NotifyAction{Notifier: "hook", Subject: "Report", Attachments: []*pb.Attachment{{Name: "levels.csv",
			Content: &pb.Attachment_History{History: &pb.HistoryTable{Properties: []string{"level"}}}}}}}}}}}))
	if err != nil {
		t.Fatal(err)
	}
}
