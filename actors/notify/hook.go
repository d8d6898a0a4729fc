package notify

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	telegramURL = "https://api.telegram.org"
	ntfyURL     = "https://ntfy.sh"
	jsonKind    = "application/json"
	// How long texts may be, in characters.
	maxTelegram, maxSlack, maxTeams, maxNtfy = 4096, 40_000, 25_000, 4000
)

// hook posts JSON, in the form of its preset.
type hook struct {
	web
	conf   *pb.WebhookNotifier
	secret string
	key    []byte // that signs
	send   func(ctx context.Context, x *letter) (string, error)
}

func newHook(m *pb.WebhookNotifier, secret string) (*hook, error) {
	w := &hook{web: newWeb(), conf: m, secret: secret}
	switch m.Preset {
	case pb.WebhookPreset_WEBHOOK_PRESET_TELEGRAM:
		w.send = w.telegram
	case pb.WebhookPreset_WEBHOOK_PRESET_SLACK:
		w.send = w.slack
	case pb.WebhookPreset_WEBHOOK_PRESET_TEAMS:
		w.send = w.teams
	case pb.WebhookPreset_WEBHOOK_PRESET_NTFY:
		w.send = w.ntfy
	default:
		w.send, w.key = w.signed, []byte(secret)
		if text, ok := strings.CutPrefix(secret, "whsec_"); ok {
			key, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return nil, fmt.Errorf("secret: what follows whsec_ is no base64")
			}
			w.key = key
		}
	}
	return w, nil
}

func (w *hook) deliver(ctx context.Context, x *letter) (string, error) { return w.send(ctx, x) }

// url is the address: as configured, or the secret, or the provider's.
func (w *hook) url(otherwise string) string {
	if w.conf.Url != "" {
		return strings.TrimSuffix(w.conf.Url, "/")
	}
	return otherwise
}

func (w *hook) headers() http.Header {
	h := http.Header{}
	for name, text := range w.conf.Headers {
		h.Set(name, text)
	}
	return h
}

// hooked is a message as a signed webhook gets it.
type hooked struct {
	ID       string           `json:"id"`
	Time     time.Time        `json:"time"`
	Notifier string           `json:"notifier"`
	Subject  string           `json:"subject"`
	Body     string           `json:"body"`
	Urgent   bool             `json:"urgent,omitempty"`
	To       []string         `json:"to,omitempty"`
	By       string           `json:"by,omitempty"`
	Twin     string           `json:"twin,omitempty"`
	Values   map[string]any   `json:"values,omitempty"`
	Files    []map[string]any `json:"attachments,omitempty"`
}

// signed posts a message as Standard Webhooks has it (standardwebhooks.com, version 1): webhook-id stands for the key of the message, the
// same for each try, webhook-timestamp the time of the try in seconds, and webhook-signature `v1,` with the HMAC-SHA-256 of
// `ID.TIMESTAMP.BODY` in base64.
func (w *hook) signed(ctx context.Context, x *letter) (string, error) {
	m := hooked{ID: x.key, Time: x.n.Time.AsTime(), Notifier: x.n.Notifier, Subject: x.subject, Body: x.body, Urgent: x.n.Urgent, To: x.n.To, By: x.n.By,
		Twin: x.n.Twin, Values: map[string]any{}}
	for name, text := range x.n.Values {
		m.Values[name] = json.RawMessage(text)
		if !json.Valid([]byte(text)) {
			m.Values[name] = text
		}
	}
	for _, f := range x.files {
		m.Files = append(m.Files, map[string]any{"name": f.name, "type": f.kind, "data": f.data})
	}
	body, err := json.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errRefused, err)
	}
	h, at := w.headers(), strconv.FormatInt(time.Now().Unix(), 10)
	id := webhookID(x.key)
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", at)
	h.Set("Idempotency-Key", x.key)
	if len(w.key) > 0 {
		mac := hmac.New(sha256.New, w.key)
		fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
		h.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	answer, err := w.post(ctx, w.conf.Url, jsonKind, body, h)
	if err != nil {
		return "", err
	}
	return said(answer), nil
}

// webhookID has no full stop, as the standard wants it.
func webhookID(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "msg_" + hex.EncodeToString(sum[:16])
}

func (w *hook) json(ctx context.Context, url string, m any, h http.Header) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errRefused, err)
	}
	return w.post(ctx, url, jsonKind, body, h)
}

// telegram calls a bot's sendMessage (core.telegram.org/bots/api).
func (w *hook) telegram(ctx context.Context, x *letter) (string, error) {
	answer, err := w.json(ctx, w.url(telegramURL)+"/bot"+w.secret+"/sendMessage", map[string]any{"chat_id": x.to, "text": cut(x.text(), maxTelegram)}, w.headers())
	var said struct {
		Result struct {
			ID int64 `json:"message_id"`
		}
		Parameters struct {
			RetryAfter int `json:"retry_after"`
		}
	}
	_ = json.Unmarshal(answer, &said)
	if after := said.Parameters.RetryAfter; err != nil && after > 0 {
		err = &laterError{time.Duration(after) * time.Second, err}
	}
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("message %d", said.Result.ID), nil
}

// slack posts to an incoming webhook (api.slack.com/messaging/webhooks).
func (w *hook) slack(ctx context.Context, x *letter) (string, error) {
	text := escapeSlack.Replace(x.body)
	if x.subject != "" {
		text = strings.TrimSpace("*" + escapeSlack.Replace(x.subject) + "*\n" + text)
	}
	answer, err := w.json(ctx, w.url(w.secret), map[string]any{"text": cut(text, maxSlack)}, w.headers())
	if err != nil {
		return "", err
	}
	return said(answer), nil
}

// escapeSlack hides what Slack takes for links and mentions.
var escapeSlack = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// teams posts an adaptive card to a workflow's webhook (learn.microsoft.com/microsoftteams, adaptivecards.io 1.4).
func (w *hook) teams(ctx context.Context, x *letter) (string, error) {
	block := func(text string, more map[string]any) map[string]any {
		b := map[string]any{"type": "TextBlock", "wrap": true, "text": cut(text, maxTeams)}
		for k, v := range more {
			b[k] = v
		}
		return b
	}
	var blocks []map[string]any
	if x.subject != "" {
		blocks = append(blocks, block(x.subject, map[string]any{"weight": "Bolder", "size": "Medium"}))
	}
	if x.body != "" {
		blocks = append(blocks, block(x.body, nil))
	}
	answer, err := w.json(ctx, w.url(w.secret), map[string]any{"type": "message", "attachments": []any{map[string]any{
		"contentType": "application/vnd.microsoft.card.adaptive",
		"content":     map[string]any{"$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.4", "body": blocks},
	}}}, w.headers())
	if err != nil {
		return "", err
	}
	return said(answer), nil
}

// ntfy publishes as JSON (docs.ntfy.sh/publish).
func (w *hook) ntfy(ctx context.Context, x *letter) (string, error) {
	m := map[string]any{"topic": x.to, "message": cut(x.body, maxNtfy)}
	if x.subject != "" {
		m["title"] = x.subject
	}
	if x.n.Urgent {
		m["priority"] = 5
	}
	h := w.headers()
	if w.secret != "" {
		h.Set("Authorization", "Bearer "+w.secret)
	}
	answer, err := w.json(ctx, w.url(ntfyURL), m, h)
	if err != nil {
		return "", err
	}
	var said struct{ ID string }
	_ = json.Unmarshal(answer, &said)
	return strings.TrimSpace("message " + said.ID), nil
}
