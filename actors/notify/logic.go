package notify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// maxLogicFiles bounds the attachments of a message that a logic is given, in bytes: it gets them as one text.
const maxLogicFiles = 1 << 20

// Asked is a message that a logic's run is given.
type Asked struct {
	// Logic, and Twin that the message is about, are complete ids; By is the notifier's address.
	Logic, Twin, By string
	// ID tells a repetition.
	ID      string
	Message []byte // JSON
	Time    time.Time
}

// Answered is what its run says. A refusal that is not Again is for good; After is when it may be tried again, where it says so.
type Answered struct {
	// Stop: the message is not to be sent. Output is JSON, or empty.
	Stop   bool
	Output []byte
	// Refusal is why not; empty: it is sent.
	Refusal string
	Again   bool
	After   time.Duration
}

// logicWay gives messages to the run of a logic, which brings them to somebody.
type logicWay struct {
	conf *pb.LogicNotifier
	id   string
	ask  func(ctx context.Context, a *Asked) (Answered, error)
}

// logicLetter is the message as the run gets it.
type logicLetter struct {
	Notifier    string                     `json:"notifier"`
	Subject     string                     `json:"subject"`
	Body        string                     `json:"body"`
	Text        string                     `json:"text"`
	To          []string                   `json:"to"`
	Urgent      bool                       `json:"urgent"`
	Severity    string                     `json:"severity,omitempty"`
	Twin        string                     `json:"twin,omitempty"`
	By          string                     `json:"by"`
	Time        string                     `json:"time,omitempty"`
	Key         string                     `json:"key"`
	Values      map[string]json.RawMessage `json:"values,omitempty"`
	Attachments []logicFile                `json:"attachments,omitempty"`
}

// logicFile is an attachment: its text, or its bytes in base64 where it is none.
type logicFile struct {
	Name string `json:"name"`
	Type string `json:"type"`
	Text string `json:"text,omitempty"`
	Data []byte `json:"data,omitempty"`
}

func (w *logicWay) deliver(ctx context.Context, x *letter) (string, error) {
	message, err := w.message(x)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errRefused, err)
	}
	a := &Asked{Logic: w.conf.Logic, Twin: x.n.Twin, By: "notifier/" + w.id, ID: x.key, Message: message, Time: x.n.Time.AsTime()}
	said, err := w.ask(ctx, a)
	switch {
	case err != nil:
		return "", err
	case said.Stop:
		return "", fmt.Errorf("%w: the logic stopped it", errRefused)
	case said.Refusal != "" && !said.Again:
		return "", fmt.Errorf("%w: %s", errRefused, said.Refusal)
	case said.Refusal != "" && said.After > 0:
		return "", &laterError{said.After, errors.New(said.Refusal)}
	case said.Refusal != "":
		return "", errors.New(said.Refusal)
	}
	return logicReceipt(said.Output), nil
}

// logicReceipt is what the provider said, of {"receipt":…}.
func logicReceipt(output []byte) string {
	var out struct {
		Receipt any `json:"receipt"`
	}
	if json.Unmarshal(output, &out) != nil || out.Receipt == nil {
		return ""
	}
	if text, ok := out.Receipt.(string); ok {
		return text
	}
	text, err := json.Marshal(out.Receipt)
	if err != nil {
		return ""
	}
	return string(text)
}

func (w *logicWay) message(x *letter) ([]byte, error) {
	m := logicLetter{Notifier: w.id, Subject: x.subject, Body: x.body, Text: x.text(), To: x.n.To, Urgent: x.n.Urgent, Twin: x.n.Twin, By: x.n.By, Key: x.key}
	if x.to != "" {
		m.To = []string{x.to}
	}
	if x.n.Time != nil {
		m.Time = x.n.Time.AsTime().UTC().Format(time.RFC3339)
	}
	for name, value := range x.n.Values {
		if !json.Valid([]byte(value)) {
			continue // it is of a client that says it is JSON, and is none
		}
		if m.Values == nil {
			m.Values = map[string]json.RawMessage{}
		}
		m.Values[name] = json.RawMessage(value)
	}
	m.Severity = severityOf(x.n)
	size := 0
	for _, f := range x.files {
		if size += len(f.data); size > maxLogicFiles {
			return nil, fmt.Errorf("its attachments have more than %d bytes, which is as much as a logic is given", maxLogicFiles)
		}
		out := logicFile{Name: f.name, Type: f.kind}
		if utf8.Valid(f.data) {
			out.Text = string(f.data)
		} else {
			out.Data = f.data
		}
		m.Attachments = append(m.Attachments, out)
	}
	return json.Marshal(m)
}

// severityOf is the severity of the alarm that a message is about, or "".
func severityOf(n *pb.Notification) string {
	var alarm struct {
		Severity string `json:"severity"`
	}
	if json.Unmarshal([]byte(n.Values["value"]), &alarm) != nil {
		return ""
	}
	return alarm.Severity
}

func (w *logicWay) close() {}
