package notify_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/standard-webhooks/standard-webhooks/libraries/go"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// receiver is an HTTP server that can be stopped, and started again at the same address. It remembers what it has taken, and by keys
// what it was sent again.
type receiver struct {
	t      *testing.T
	addr   string
	verify *standardwebhooks.Webhook
	// answer overrides what it says, where it is not nil; false: it has not taken it.
	answer func(w http.ResponseWriter, r *http.Request, body string) bool

	mu     sync.Mutex
	server *http.Server
	bodies []string
	paths  []string
	heads  []http.Header
	keys   map[string]int
	forged int
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{t: t, keys: map[string]int{}}
	var err error
	if r.verify, err = standardwebhooks.NewWebhookRaw([]byte("open sesame")); err != nil {
		t.Fatal(err)
	}
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *receiver) start() {
	r.t.Helper()
	addr := r.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	var l net.Listener
	var err error
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if l, err = net.Listen("tcp", addr); err == nil {
			break
		}
		if time.Now().After(end) {
			r.t.Fatal(err)
		}
	}
	r.addr = l.Addr().String()
	s := &http.Server{Handler: r}
	r.mu.Lock()
	r.server = s
	r.mu.Unlock()
	go func() { _ = s.Serve(l) }()
}

func (r *receiver) stop() {
	r.mu.Lock()
	s := r.server
	r.mu.Unlock()
	_ = s.Close()
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answer != nil && !r.answer(w, q, string(body)) {
		return
	}
	if r.verify.Verify(body, q.Header) != nil {
		r.forged++
	}
	if id := q.Header.Get("Webhook-Id"); id != "" {
		r.keys[id]++
	}
	r.bodies, r.paths, r.heads = append(r.bodies, string(body)), append(r.paths, q.URL.Path), append(r.heads, q.Header.Clone())
}

// texts are the bodies of the messages taken, the first ones of each key.
func (r *receiver) texts() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	seen := map[string]bool{}
	for _, body := range r.bodies {
		var m struct{ ID, Body string }
		if err := json.Unmarshal([]byte(body), &m); err != nil {
			return err.Error()
		}
		if !seen[m.ID] {
			all = append(all, m.Body)
		}
		seen[m.ID] = true
	}
	return strings.Join(all, " ")
}

func (r *receiver) conf() *pb.Notifier_Webhook {
	return &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Url: "http://" + r.addr + "/in"}}
}

// A receiver verifies what is signed, by another implementation of the standard. While it is away messages wait, a rule that tells again
// after a crash is known by its key, and another node goes on where the first one stood.
func TestSignedWebhookOverAnOutage(t *testing.T) {
	r, to := newRig(t), newReceiver(t)
	first, second := r.host("n1"), r.host("n2")
	r.give(first)
	r.notifier(&pb.Notifier{Id: "default/hook", Kind: to.conf(), Secret: "open sesame"})
	r.texts(first, "default/hook", 1, 3)
	r.until(first, "default/hook", "three are there", func(s *pb.NotifierState) bool { return s.Acknowledged == 3 })
	to.stop()
	r.texts(first, "default/hook", 3, 3) // the third one again
	r.until(first, "default/hook", "it waits", func(s *pb.NotifierState) bool { return s.Failures >= 3 })
	r.give(second)
	r.until(second, "default/hook", "the other node has it", func(s *pb.NotifierState) bool { return s.Node == "n2" && s.Failures >= 4 })
	to.start()
	r.until(second, "default/hook", "all are there", func(s *pb.NotifierState) bool { return s.Acknowledged == 5 })
	if got := to.texts(); got != "1 2 3 4 5" {
		t.Errorf("received: %s", got)
	}
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.forged > 0 || len(to.keys) != 5 {
		t.Errorf("%d of %d were not signed as they should; keys: %v", to.forged, len(to.bodies), to.keys)
	}
	for _, n := range r.outbox(second, "default/hook") {
		if n.Outcome.Repeated {
			t.Errorf("the receiver has keys: %v", n)
		}
	}
}

// Each preset speaks its provider's language, and takes its errors for what they are.
func TestPresets(t *testing.T) {
	r := newRig(t)
	h := r.give(r.host("n1"))
	for _, c := range []struct {
		name   string
		m      func(url string) *pb.Notifier
		path   string
		body   string
		answer string
		header [2]string
		want   string
	}{
		{"telegram", func(url string) *pb.Notifier {
			return &pb.Notifier{Secret: "12:token", Kind: &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Preset: pb.WebhookPreset_WEBHOOK_PRESET_TELEGRAM, Url: url, To: []string{"-100"}}}}
		}, "/bot12:token/sendMessage", `{"chat_id":"-100","text":"Alarm\n<7> & more"}`, `{"ok":true,"result":{"message_id":42}}`, [2]string{}, "message 42"},
		{"slack", func(url string) *pb.Notifier {
			return &pb.Notifier{Secret: url + "/services/T0/B0/x", Kind: &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Preset: pb.WebhookPreset_WEBHOOK_PRESET_SLACK}}}
		}, "/services/T0/B0/x", `{"text":"*Alarm*\n&lt;7&gt; &amp; more"}`, "ok", [2]string{}, "ok"},
		{"teams", func(url string) *pb.Notifier {
			return &pb.Notifier{Secret: url + "/workflows/y", Kind: &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Preset: pb.WebhookPreset_WEBHOOK_PRESET_TEAMS}}}
		}, "/workflows/y", `{"type":"message","attachments":[{"contentType":"application/vnd.microsoft.card.adaptive","content":{"$schema":"http://adaptivecards.io/schemas/adaptive-card.json",
			"type":"AdaptiveCard","version":"1.4","body":[{"type":"TextBlock","wrap":true,"text":"Alarm","weight":"Bolder","size":"Medium"},{"type":"TextBlock","wrap":true,"text":"<7> & more"}]}}]}`,
			"", [2]string{}, "ok"},
		{"ntfy", func(url string) *pb.Notifier {
			return &pb.Notifier{Secret: "tk_x", Kind: &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Preset: pb.WebhookPreset_WEBHOOK_PRESET_NTFY, Url: url, To: []string{"house"}}}}
		}, "", `{"topic":"house","message":"<7> & more","title":"Alarm"}`, `{"id":"abc"}`, [2]string{"Authorization", "Bearer tk_x"}, "message abc"},
		{"twilio", func(url string) *pb.Notifier {
			return &pb.Notifier{Secret: "tok", Kind: &pb.Notifier_Sms{Sms: &pb.SmsNotifier{To: []string{"+49301"}, Provider: &pb.SmsNotifier_Twilio{Twilio: &pb.TwilioSms{Account: "AC1", From: "+1555", Url: url}}}}}
		}, "/2010-04-01/Accounts/AC1/Messages.json", "Body=Alarm%0A%3C7%3E+%26+more&From=%2B1555&To=%2B49301", `{"sid":"SM1","status":"queued"}`, [2]string{"Authorization", "Basic QUMxOnRvaw=="}, "SM1 queued"},
		{"form", func(url string) *pb.Notifier {
			return &pb.Notifier{Secret: "k3y", Kind: &pb.Notifier_Sms{Sms: &pb.SmsNotifier{To: []string{"+49301"}, Provider: &pb.SmsNotifier_Form{Form: &pb.FormSms{Url: url + "/send",
				Fields: map[string]string{"to": "${to}", "text": "${body}", "p": "${secret}"}}}}}}
		}, "/send", "p=k3y&text=%3C7%3E+%26+more&to=%2B49301", "100", [2]string{"Idempotency-Key", "x@+49301"}, "100"},
	} {
		to := newReceiver(t)
		to.answer = func(w http.ResponseWriter, _ *http.Request, _ string) bool {
			fmt.Fprint(w, c.answer)
			return true
		}
		m := c.m("http://" + to.addr)
		m.Id = "default/" + c.name
		r.notifier(m)
		r.send(h, &pb.Notification{Notifier: m.Id, Id: "x", Subject: "Alarm", Body: "<7> & more"})
		r.until(h, m.Id, c.name, func(s *pb.NotifierState) bool { return s.Acknowledged == 1 })
		if o := r.outbox(h, m.Id)[0].Outcome; o.Receipt != c.want {
			t.Errorf("%s: receipt %q, want %q", c.name, o.Receipt, c.want)
		}
		to.mu.Lock()
		if strings.TrimSuffix(to.paths[0], "/") != c.path || !sameJSON(to.bodies[0], c.body) || c.header[0] != "" && to.heads[0].Get(c.header[0]) != c.header[1] {
			t.Errorf("%s: %s %s %v", c.name, to.paths[0], to.bodies[0], to.heads[0])
		}
		to.mu.Unlock()
	}
}

func sameJSON(a, b string) bool {
	if a == b {
		return true
	}
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return false
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}

// 429 waits as long as it says, 503 comes again, 400 is a failure of that message alone; an address with a secret in it shows nowhere.
func TestAnswers(t *testing.T) {
	r, to := newRig(t), newReceiver(t)
	h := r.give(r.host("n1"))
	n := 0
	to.answer = func(w http.ResponseWriter, _ *http.Request, body string) bool {
		if n++; n == 1 {
			w.Header().Set("Retry-After", "7")
			http.Error(w, "slowly", http.StatusTooManyRequests)
		} else if n == 2 {
			http.Error(w, "later", http.StatusServiceUnavailable)
		} else if strings.Contains(body, "bad") {
			http.Error(w, "no_text", http.StatusBadRequest)
		} else {
			return true
		}
		return false
	}
	r.notifier(&pb.Notifier{Id: "default/slack", Secret: "http://" + to.addr + "/secret-path", Kind: &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Preset: pb.WebhookPreset_WEBHOOK_PRESET_SLACK}}})
	r.texts(h, "default/slack", 1, 1)
	r.send(h, &pb.Notification{Notifier: "default/slack", Body: "bad"})
	r.texts(h, "default/slack", 2, 1)
	r.until(h, "default/slack", "all are through", func(s *pb.NotifierState) bool { return s.Acknowledged == 2 && s.Failed == 1 })
	if got := r.states(h, "default/slack"); got != "1 acknowledged, bad failed, 2 acknowledged" {
		t.Errorf("outbox: %s", got)
	}
	to.stop()
	r.texts(h, "default/slack", 3, 1)
	if s := r.until(h, "default/slack", "it fails", func(s *pb.NotifierState) bool { return s.Failures >= 1 }); strings.Contains(s.Error, "secret-path") {
		t.Errorf("the error shows the secret: %s", s.Error)
	}
	if text := r.logged(); strings.Contains(text, "secret-path") || !strings.Contains(text, "waits for its provider") {
		t.Errorf("logged: %s", text)
	}
}
