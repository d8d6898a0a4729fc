package automation

import (
	"fmt"
	"strings"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// maxSubject of a notification, in bytes; more is cut off.
const maxSubject = 900

// notification makes the message of an action, with its texts filled in. number is the step's.
func (r *runner) notification(a *pb.NotifyAction, number int) *pb.Notification {
	text := func(source string) string { return r.u.h.programs.text(source, r.scope) }
	n := &pb.Notification{Notifier: inProject(r.scope.project, a.Notifier), Id: r.key(number, ""), Subject: text(a.Subject), Body: text(a.Body),
		Urgent: a.Urgent, By: r.u.address, Twin: r.run.Subject, Time: r.run.Time, Values: map[string]string{"cause": jsonOf(r.run.Cause)}}
	if r.run.Due != nil {
		n.Time = r.run.Due // what it attaches is of the time when it was due
	}
	for name, value := range r.run.Values {
		n.Values[name] = value
	}
	if n.Subject == "" {
		n.Subject = r.subject()
	}
	if n.Body == "" {
		n.Body = r.body()
	}
	if len(n.Subject) > maxSubject {
		n.Subject = n.Subject[:maxSubject]
	}
	n.Subject = strings.ToValidUTF8(n.Subject, "?")
	for _, to := range a.To {
		n.To = append(n.To, text(to))
	}
	for _, f := range a.Attachments {
		x := &pb.Attachment{Name: text(f.Name), Content: f.Content}
		if _, ok := f.Content.(*pb.Attachment_Text); ok {
			x.Content = &pb.Attachment_Text{Text: text(f.GetText())}
		}
		n.Attachments = append(n.Attachments, x)
	}
	return n
}

// subject is what a message says that has none: who says it, and about what.
func (r *runner) subject() string {
	if r.scope.change.Kind == KindAlarm {
		m, _ := r.scope.change.Value.Any().(map[string]any)
		return fmt.Sprintf("%v: %v", m["severity"], m["text"])
	}
	_, twin, _ := strings.Cut(r.scope.subject, "/")
	return strings.TrimSpace(r.scope.name + " " + twin)
}

func (r *runner) body() string {
	lines := []string{r.run.Cause}
	if r.scope.change.Kind == KindAlarm {
		lines = append(lines, "alarm: "+r.scope.change.Name)
	} else if v := r.run.Values["value"]; v != "" && r.scope.change.Name != "" {
		lines = append(lines, r.scope.change.Name+": "+v)
	}
	if r.scope.subject != "" {
		lines = append(lines, "twin: "+r.scope.subject)
	}
	return strings.Join(append(lines, "time: "+r.run.Time.AsTime().UTC().Format(time.RFC3339), "by: "+r.u.address), "\n")
}

// checkNotify says what is wrong with an action that notifies, or nil. That its notifier is there is not looked at.
func (h *Host) checkNotify(path string, a *pb.NotifyAction) error {
	texts := append([]string{a.Subject, a.Body}, a.To...)
	names := []string{"/subject", "/body"}
	for i := range a.To {
		names = append(names, fmt.Sprintf("/to/%d", i))
	}
	for i, f := range a.Attachments {
		texts, names = append(texts, f.Name, f.GetText()), append(names, fmt.Sprintf("/attachments/%d/name", i), fmt.Sprintf("/attachments/%d/text", i))
	}
	for i, text := range texts {
		if err := h.programs.template(text); err != nil {
			return wrong(path+names[i], "%v", err)
		}
	}
	return nil
}
