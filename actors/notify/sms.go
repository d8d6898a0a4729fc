package notify

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	twilioURL = "https://api.twilio.com"
	// maxTwilio is how long a text of Twilio's may be, in characters.
	maxTwilio = 1600
	form      = "application/x-www-form-urlencoded"
)

// newSMS makes the way of text messages.
func newSMS(m *pb.SmsNotifier, secret string) provider {
	if t := m.GetTwilio(); t != nil {
		return &twilio{web: newWeb(), conf: t, token: secret}
	}
	return &formWay{web: newWeb(), conf: m.GetForm(), secret: secret}
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

// twilio sends by Twilio's Messages resource (POST /2010-04-01/Accounts/SID/Messages.json). It knows no keys.
type twilio struct {
	web
	conf  *pb.TwilioSms
	token string
}

func (w *twilio) deliver(ctx context.Context, x *letter) (string, error) {
	at := w.conf.Url
	if at == "" {
		at = twilioURL
	}
	at = strings.TrimSuffix(at, "/") + "/2010-04-01/Accounts/" + url.PathEscape(w.conf.Account) + "/Messages.json"
	fields := url.Values{"To": {x.to}, "Body": {cut(x.text(), maxTwilio)}}
	if strings.HasPrefix(w.conf.From, "MG") {
		fields.Set("MessagingServiceSid", w.conf.From)
	} else {
		fields.Set("From", w.conf.From)
	}
	answer, err := w.post(ctx, at, form, []byte(fields.Encode()), http.Header{"Authorization": {basic(w.conf.Account, w.token)}})
	if err != nil {
		return "", err
	}
	var said struct{ SID, Status string }
	_ = json.Unmarshal(answer, &said) // it took the message
	return strings.TrimSpace(said.SID + " " + said.Status), nil
}

// formWay posts a form, as most providers of text messages take one.
type formWay struct {
	web
	conf   *pb.FormSms
	secret string
}

func (w *formWay) deliver(ctx context.Context, x *letter) (string, error) {
	fields, headers := url.Values{}, http.Header{}
	for name, source := range w.conf.Fields {
		fields.Set(name, x.fill(source))
	}
	for name, source := range w.conf.Headers {
		headers.Set(name, x.fill(source))
	}
	headers.Set("Idempotency-Key", x.key)
	if w.conf.User != "" {
		headers.Set("Authorization", basic(w.conf.User, w.secret))
	}
	answer, err := w.post(ctx, w.conf.Url, form, []byte(fields.Encode()), headers)
	if err != nil {
		return "", err
	}
	return said(answer), nil
}

// said is what a provider answered, in short.
func said(answer []byte) string {
	text := strings.Join(strings.Fields(string(answer)), " ")
	if text == "" {
		return "ok"
	}
	return cut(strings.ToValidUTF8(text, "?"), 100)
}
