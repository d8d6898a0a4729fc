package notify

import (
	"crypto/x509"
	"fmt"
	"net"
	"net/mail"
	"net/url"
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func wrong(path, format string, args ...any) error {
	return &automation.FieldError{Path: path, Reason: fmt.Sprintf(format, args...)}
}

// Check says what is wrong with a notifier whose id is complete, as an *automation.FieldError, or nil. secret: it has one.
func (h *Host) Check(m *pb.Notifier, secret bool) error {
	if _, name, _ := strings.Cut(m.Id, "/"); len(name) > MaxName {
		return wrong("/notifier/id", "its name has %d characters, %d are the most", len(name), MaxName)
	}
	if err := h.compile(m, texts{}); err != nil {
		return err
	}
	if _, err := automation.NewWindows(m.Quiet, m.Zone); err != nil {
		f, ok := err.(*automation.FieldError)
		if !ok {
			return err
		}
		return wrong("/notifier"+strings.Replace(f.Path, "/windows", "/quiet", 1), "%s", f.Reason)
	}
	if len(m.Attachments) > 0 && !carries(m) {
		return wrong("/notifier/attachments", "only mail, signed webhooks and logic carry them")
	}
	switch k := m.Kind.(type) {
	case *pb.Notifier_Mail:
		return checkMail(k.Mail, secret)
	case *pb.Notifier_Sms:
		return checkSMS(k.Sms, secret)
	case *pb.Notifier_Webhook:
		return checkHook(k.Webhook, secret)
	case *pb.Notifier_Mqtt:
		if strings.ContainsAny(k.Mqtt.Topic, "#+") && !strings.Contains(k.Mqtt.Topic, "${") {
			return wrong("/notifier/mqtt/topic", "%q is a filter: name one topic", k.Mqtt.Topic)
		}
		return nil
	case *pb.Notifier_Log:
		return nil
	case *pb.Notifier_Logic:
		if m.Secret != "" {
			return wrong("/notifier/secret", "is nothing that a logic gets: what it needs are its own settings")
		}
		return nil
	}
	return wrong("/notifier", "name one of mail, sms, webhook, mqtt, log, logic")
}

func checkMail(m *pb.MailNotifier, secret bool) error {
	if m.User != "" && m.Security == pb.MailSecurity_MAIL_SECURITY_NONE {
		return wrong("/notifier/mail/user", "a password is not sent in the clear: use starttls or tls")
	}
	if m.User != "" && !secret {
		return wrong("/notifier/secret", "is missing: it is the password of %s", m.User)
	}
	for i, text := range append([]string{m.From}, m.To...) {
		if _, err := mail.ParseAddress(text); err != nil {
			path := "/notifier/mail/from"
			if i > 0 {
				path = "/notifier/mail/to/" + strconv.Itoa(i-1)
			}
			return wrong(path, "%q is no address: %s", text, strings.TrimPrefix(err.Error(), "mail: "))
		}
	}
	if m.Ca != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(m.Ca)) {
		return wrong("/notifier/mail/ca", "there is no certificate in it; want PEM")
	}
	return nil
}

func checkSMS(m *pb.SmsNotifier, secret bool) error {
	if t := m.GetTwilio(); t != nil {
		if !secret {
			return wrong("/notifier/secret", "is missing: it is the token of Twilio's account")
		}
		return checkURL("/notifier/sms/twilio/url", t.Url, true)
	}
	if f := m.GetForm(); f != nil {
		return checkURL("/notifier/sms/form/url", f.Url, false)
	}
	return wrong("/notifier/sms", "name twilio or form")
}

func checkHook(m *pb.WebhookNotifier, secret bool) error {
	if err := checkURL("/notifier/webhook/url", m.Url, m.Preset != pb.WebhookPreset_WEBHOOK_PRESET_UNSPECIFIED); err != nil {
		return err
	}
	switch m.Preset {
	case pb.WebhookPreset_WEBHOOK_PRESET_TELEGRAM:
		if !secret {
			return wrong("/notifier/secret", "is missing: it is the bot's token")
		}
	case pb.WebhookPreset_WEBHOOK_PRESET_SLACK, pb.WebhookPreset_WEBHOOK_PRESET_TEAMS:
		if m.Url == "" && !secret {
			return wrong("/notifier/secret", "is missing: it is the webhook's address")
		}
	}
	return nil
}

func checkURL(path, text string, empty bool) error {
	if text == "" && empty {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return wrong(path, "%q is no address; want https://HOST/PATH", text)
	}
	if u.User != nil {
		return wrong(path, "it has a password in it: that is what secret is for")
	}
	return nil
}

// compile compiles all texts of a notifier.
func (h *Host) compile(m *pb.Notifier, t texts) error {
	add := func(path, source string) error {
		if err := t.add(h.words.common, source); err != nil {
			return wrong("/notifier"+path, "%v", err)
		}
		return nil
	}
	if err := add("/subject", m.Subject); err != nil {
		return err
	}
	if err := add("/body", m.Body); err != nil {
		return err
	}
	for i, a := range m.Attachments {
		path := "/attachments/" + strconv.Itoa(i)
		if err := add(path+"/name", a.Name); err != nil {
			return err
		}
		if err := add(path+"/text", a.GetText()); err != nil {
			return err
		}
	}
	if f := m.GetSms().GetForm(); f != nil {
		for name, source := range f.Fields {
			if err := t.add(h.words.form, source); err != nil {
				return wrong("/notifier/sms/form/fields/"+name, "%v", err)
			}
		}
		for name, source := range f.Headers {
			if err := t.add(h.words.form, source); err != nil {
				return wrong("/notifier/sms/form/headers/"+name, "%v", err)
			}
		}
	}
	if q := m.GetMqtt(); q != nil {
		return add("/mqtt/topic", q.Topic)
	}
	return nil
}

// Place is where a notifier's secret goes: another one has to be given a secret of its own.
func Place(m *pb.Notifier) string {
	host := func(text, otherwise string) string {
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			return u.Scheme + "://" + u.Host
		}
		return otherwise
	}
	switch k := m.Kind.(type) {
	case *pb.Notifier_Mail:
		security, port := transportOf(k.Mail)
		return fmt.Sprintf("smtp %s %s %s", security, net.JoinHostPort(k.Mail.Host, strconv.Itoa(port)), k.Mail.User)
	case *pb.Notifier_Sms:
		if t := k.Sms.GetTwilio(); t != nil {
			return host(t.Url, "twilio") + t.Account
		}
		return host(k.Sms.GetForm().GetUrl(), "")
	case *pb.Notifier_Webhook:
		return host(k.Webhook.Url, k.Webhook.Preset.String())
	case *pb.Notifier_Logic:
		return "logic " + k.Logic.Logic
	}
	return ""
}
