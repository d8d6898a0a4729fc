package notify

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/polluxhq/pollux/actors/perslot"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// errRefused: the provider will never take this message.
var errRefused = errors.New("refused")

// laterError: the provider says when it may be tried again.
type laterError struct {
	after time.Duration
	err   error
}

func (e *laterError) Error() string { return e.err.Error() }
func (e *laterError) Unwrap() error { return e.err }

// provider brings letters to those whom they are for.
type provider interface {
	// deliver hands a letter over, and blocks until the provider has answered. receipt is what it said; "": it does not say anything. An
	// error of errRefused is for good.
	deliver(ctx context.Context, x *letter) (receipt string, err error)
	close()
}

// letter is a message for one recipient, with its texts filled in.
type letter struct {
	// key tells a repetition of the same letter.
	key, to, subject, body string
	files                  []file
	n                      *pb.Notification
	// fill puts values into another text of the notifier's.
	fill func(source string) string
}

// text is subject and body where there is one text only.
func (x *letter) text() string {
	switch {
	case x.subject == "":
		return x.body
	case x.body == "":
		return x.subject
	}
	return x.subject + "\n" + x.body
}

// file goes with a letter.
type file struct {
	name, kind string
	data       []byte
}

// way is how a notifier's messages leave.
type way struct {
	h        *Host
	m        *pb.Notifier
	secret   string
	texts    texts
	provider provider
	// each recipient gets a letter of its own; keyed: the provider, or the recipient, knows a repetition by its key.
	each, keyed bool
	to          []string
}

// open makes the way of a notifier.
func (h *Host) open(m *pb.Notifier) (*way, error) {
	w := &way{h: h, m: m, texts: texts{}}
	if err := h.compile(m, w.texts); err != nil {
		return nil, err
	}
	var err error
	if w.secret, err = h.o.Secret(m); err != nil {
		return nil, err
	}
	switch k := m.Kind.(type) {
	case *pb.Notifier_Mail:
		w.each, w.keyed, w.to = true, true, k.Mail.To
		w.provider, err = newMail(k.Mail, w.secret)
	case *pb.Notifier_Sms:
		w.each, w.to = true, k.Sms.To
		w.provider = newSMS(k.Sms, w.secret)
	case *pb.Notifier_Webhook:
		w.to = k.Webhook.To
		switch k.Webhook.Preset {
		case pb.WebhookPreset_WEBHOOK_PRESET_UNSPECIFIED:
			w.keyed = true
		case pb.WebhookPreset_WEBHOOK_PRESET_TELEGRAM, pb.WebhookPreset_WEBHOOK_PRESET_NTFY:
			w.each = true
		}
		w.provider, err = newHook(k.Webhook, w.secret)
	case *pb.Notifier_Mqtt:
		project, _, _ := strings.Cut(m.Id, "/")
		w.provider = &mqttWay{conf: k.Mqtt, project: project, publish: h.o.Publish}
	case *pb.Notifier_Logic:
		w.each, w.keyed, w.to = len(k.Logic.To) > 0, k.Logic.Keyed, k.Logic.To
		w.provider = &logicWay{conf: k.Logic, id: m.Id, ask: h.o.Ask}
	case *pb.Notifier_Log:
		w.provider = &logWay{log: h.o.Logger, id: m.Id}
	default:
		err = errors.New("this node does not know such a notifier: it is older than the cluster")
	}
	if err != nil {
		return nil, fmt.Errorf("notifier %s: %w", m.Id, err)
	}
	return w, nil
}

func (w *way) close() { w.provider.close() }

// recipients are whom the message is for, each of whom gets a letter; "" where the letter is for all of them.
func (w *way) recipients(n *pb.Notification) ([]string, error) {
	switch {
	case !w.each:
		return []string{""}, nil
	case len(n.To) > 0:
		return n.To, nil
	case len(w.to) > 0:
		return w.to, nil
	}
	return nil, fmt.Errorf("%w: neither the message nor the notifier says to whom", errRefused)
}

// send sends a letter to one recipient, and notes the receipt.
func (w *way) send(ctx context.Context, n *pb.Notification, to string, out *pb.NotificationOutcome) error {
	in := input(n, to, w.secret)
	x := &letter{key: n.Id, to: to, n: n, subject: n.Subject, body: n.Body, fill: func(source string) string { return w.texts.fill(source, in) }}
	if to != "" {
		x.key += "@" + to
	} else if len(n.To) == 0 {
		n.To = w.to
	}
	if w.m.Subject != "" {
		x.subject = x.fill(w.m.Subject)
	}
	if w.m.Body != "" {
		x.body = x.fill(w.m.Body)
	}
	x.subject = strings.Join(strings.Fields(x.subject), " ") // one line: it becomes a header
	var err error
	if x.files, err = w.files(ctx, n, x.fill); err != nil {
		return err
	}
	receipt, err := w.provider.deliver(ctx, x)
	if err != nil {
		if to != "" {
			err = fmt.Errorf("%s: %w", to, err)
		}
		return err
	}
	if out.Receipt != "" && receipt != "" {
		receipt = out.Receipt + ", " + receipt
	}
	out.Receipt = perslot.Short(receipt)
	return nil
}

// files makes the attachments, the notifier's first.
func (w *way) files(ctx context.Context, n *pb.Notification, fill func(string) string) (all []file, err error) {
	if !carries(w.m) {
		return nil, nil // there is no place for them
	}
	add := func(a *pb.Attachment, name, text string) error {
		f := file{name: name, kind: "text/plain; charset=utf-8", data: []byte(text)}
		if t := a.GetHistory(); t != nil {
			if f.data, f.kind, err = w.h.table(ctx, n, t); err != nil {
				return fmt.Errorf("attachment %s: %w", name, err)
			}
		}
		all = append(all, f)
		return nil
	}
	for _, a := range w.m.Attachments {
		if err := add(a, fill(a.Name), fill(a.GetText())); err != nil {
			return nil, err
		}
	}
	for _, a := range n.Attachments {
		if err := add(a, a.Name, a.GetText()); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// carries says whether attachments have a place where messages of the notifier go.
func carries(m *pb.Notifier) bool {
	hook := m.GetWebhook()
	return m.GetMail() != nil || m.GetLogic() != nil || hook != nil && hook.Preset == pb.WebhookPreset_WEBHOOK_PRESET_UNSPECIFIED
}

// through sets the state of a message that all of its recipients have.
func (w *way) through(out *pb.NotificationOutcome) {
	out.State = pb.NotificationState_NOTIFICATION_STATE_SENT
	if out.Receipt != "" {
		out.State = pb.NotificationState_NOTIFICATION_STATE_ACKNOWLEDGED
	}
}

// hide gives an error's text without the secret, which may be a part of an address.
func (w *way) hide(err error) string {
	text := err.Error()
	for _, s := range []string{w.secret, url.PathEscape(w.secret), url.QueryEscape(w.secret)} {
		if s != "" {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	return text
}
