package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// notifierKind says in a word what a notifier is, and where its messages go.
func notifierKind(m *pb.Notifier) (kind, to string) {
	switch k := m.Kind.(type) {
	case *pb.Notifier_Mail:
		return "mail", strings.Join(k.Mail.To, ", ")
	case *pb.Notifier_Sms:
		return "sms", strings.Join(k.Sms.To, ", ")
	case *pb.Notifier_Webhook:
		if k.Webhook.Preset == 0 {
			return "webhook", k.Webhook.Url
		}
		return enumText(k.Webhook.Preset, "WEBHOOK_PRESET_"), strings.Join(k.Webhook.To, ", ")
	case *pb.Notifier_Mqtt:
		return "mqtt", k.Mqtt.Topic
	case *pb.Notifier_Logic:
		return "logic", bare(k.Logic.Logic)
	case *pb.Notifier_Log:
		return "log", ""
	}
	return "?", ""
}

// notifierStatus says in words how a notifier does.
func notifierStatus(m *pb.Notifier) string {
	s := m.GetState()
	switch {
	case m.Paused:
		return "paused"
	case s.GetError() != "":
		return fmt.Sprintf("failing since %s: %s", s.ErrorTime.AsTime().Local().Format(time.DateTime), s.Error)
	case s.GetWaitFor() != "":
		return fmt.Sprintf("waits for %s until %s", s.WaitFor, s.WaitUntil.AsTime().Local().Format(time.DateTime))
	case s.GetPosition() == 0:
		return "ready"
	}
	return "running"
}

func notifierList(a *app) *cobra.Command {
	r := &pb.ListNotifiersRequest{PageSize: pageSize}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the notifiers and how they do", Example: "  pollux notifier list\n  pollux notifier list --project hotel", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListNotifiersResponse{}
			for {
				res, err := n.notifiers.ListNotifiers(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Notifiers = append(all.Notifiers, res.Msg.Notifiers...)
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) {
				row(w, "ID", "KIND", "TO", "SENT", "ACKNOWLEDGED", "FAILED", "DROPPED", "NODE", "STATUS")
				for _, m := range all.Notifiers {
					kind, to := notifierKind(m)
					s := m.GetState()
					row(w, bare(m.Id), kind, dash(to), s.GetSent(), s.GetAcknowledged(), s.GetFailed(), s.GetDropped(), dash(s.GetNode()), notifierStatus(m))
				}
			})
		},
	}
	cmd.Flags().StringVar(&r.Project, "project", "", "only of this project")
	return cmd
}

func notifierGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get ID", Short: "Show a notifier and how it does", Example: "  pollux notifier get mail\n  pollux notifier get mail -o yaml", Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.notifiers.GetNotifier(cmd.Context(), req(&pb.GetNotifierRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Notifier, func(w io.Writer) { describeNotifier(w, res.Msg.Notifier) })
		},
	}
}

func describeNotifier(w io.Writer, m *pb.Notifier) {
	s, secret := m.State, "none"
	if m.HasSecret {
		secret = "sealed"
	}
	kind, to := notifierKind(m)
	row(w, "notifier", m.Id)
	row(w, "title", dash(m.Title))
	row(w, "kind", kind)
	row(w, "to", dash(to))
	showNotifierKind(w, m)
	row(w, "secret", secret)
	row(w, "status", notifierStatus(m))
	row(w, "queued", s.GetQueued())
	row(w, "sent", fmt.Sprintf("%d, %d of them acknowledged", s.GetSent(), s.GetAcknowledged()))
	row(w, "failed", s.GetFailed())
	row(w, "dropped", s.GetDropped())
	for _, q := range m.Quiet {
		row(w, "quiet", strings.TrimSpace(windowText(q)+" "+m.Zone))
	}
	if m.Limit > 0 {
		per := "1m0s"
		if m.LimitPer != nil {
			per = m.LimitPer.AsDuration().String()
		}
		row(w, "limit", fmt.Sprintf("%d in %s", m.Limit, per))
	}
	showNotifierTexts(w, m)
	row(w, "node", dash(s.GetNode()))
}

// showNotifierKind prints what is set of the way that it is sent.
func showNotifierKind(w io.Writer, m *pb.Notifier) {
	set := func(name, text string) {
		if text != "" {
			row(w, name, printable(text))
		}
	}
	headers := m.GetWebhook().GetHeaders()
	switch k := m.Kind.(type) {
	case *pb.Notifier_Mail:
		server := k.Mail.Host
		if k.Mail.Port != 0 {
			server = fmt.Sprintf("%s:%d", server, k.Mail.Port)
		}
		row(w, "server", fmt.Sprintf("%s, from %s", server, k.Mail.From))
		if k.Mail.Security != 0 {
			row(w, "security", enumText(k.Mail.Security, "MAIL_SECURITY_"))
		}
		set("user", k.Mail.User)
	case *pb.Notifier_Sms:
		set("account", k.Sms.GetTwilio().GetAccount())
		set("from", k.Sms.GetTwilio().GetFrom())
		set("url", cmp.Or(k.Sms.GetTwilio().GetUrl(), k.Sms.GetForm().GetUrl()))
		set("fields", labelText(k.Sms.GetForm().GetFields()))
		set("user", k.Sms.GetForm().GetUser())
		headers = k.Sms.GetForm().GetHeaders()
	case *pb.Notifier_Webhook:
		set("url", k.Webhook.Url)
	case *pb.Notifier_Mqtt:
		row(w, "qos", k.Mqtt.Qos)
		if k.Mqtt.Retain {
			row(w, "retain", "yes")
		}
	case *pb.Notifier_Logic:
		set("tells", strings.Join(k.Logic.To, ", "))
		if k.Logic.Keyed {
			row(w, "keyed", "yes")
		}
	}
	set("headers", labelText(headers))
}

// showNotifierTexts prints what is set of its texts and of its outbox.
func showNotifierTexts(w io.Writer, m *pb.Notifier) {
	for _, x := range [][2]string{{"subject", m.Subject}, {"body", m.Body},
		{"attachments", strings.Join(names(m.Attachments, func(x *pb.Attachment) string { return x.Name }), ", ")}} {
		if x[1] != "" {
			row(w, x[0], printable(x[1]))
		}
	}
	for _, x := range []struct {
		name string
		d    *durationpb.Duration
	}{{"retry from", m.RetryMin}, {"retry up to", m.RetryMax}, {"give up after", m.GiveUp}} {
		if x.d != nil {
			row(w, x.name, x.d.AsDuration())
		}
	}
	if m.Keep > 0 {
		row(w, "keeps", m.Keep)
	}
}

func notifierTest(a *app) *cobra.Command {
	r := &pb.TestNotifierRequest{}
	cmd := &cobra.Command{
		Use: "test ID", Short: "Send a message at once, and show what the provider says", Args: exactly("ID"),
		Long:    "Sends a message past the outbox, once and at once, and shows what the provider says. The command fails where the provider does not take it.",
		Example: "  pollux notifier test mail\n  pollux notifier test mail --to lee@example.com --body 'Can you read this?'",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Id = args[0]
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.notifiers.TestNotifier(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			o := res.Msg.Outcome
			if err := a.show(res.Msg, func(w io.Writer) {
				if o.Error == "" {
					row(w, strings.TrimSpace(enumText(o.State, "NOTIFICATION_STATE_")+" "+printable(o.Receipt)))
				}
			}); err != nil || o.Error == "" {
				return err
			}
			return fmt.Errorf("the provider did not take it: %s", printable(o.Error))
		},
	}
	messageFlags(cmd, &r.Subject, &r.Body, &r.To)
	return cmd
}

func messageFlags(cmd *cobra.Command, subject, body *string, to *[]string) {
	cmd.Flags().StringVar(subject, "subject", "", "what is it about")
	cmd.Flags().StringVar(body, "body", "", "the text")
	cmd.Flags().StringSliceVar(to, "to", nil, "`RECIPIENTS` instead of the notifier's own")
}

func notifierSend(a *app) *cobra.Command {
	m := &pb.Notification{}
	cmd := &cobra.Command{
		Use: "send ID", Short: "Put a message into the outbox", Args: exactly("ID"),
		Long:    "Puts a message into a notifier's outbox, and returns when it is committed. One of the same --key is there once.",
		Example: "  pollux notifier send mail --subject 'Lift' --body 'The lift is out of order until noon.'\n  pollux notifier send mail --subject Backup --body done --key backup-2026-03-01",
		RunE: func(cmd *cobra.Command, args []string) error {
			m.Notifier = args[0]
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.notifiers.Notify(cmd.Context(), req(&pb.NotifyRequest{Notification: m}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { row(w, fmt.Sprintf("message %d is in the outbox", res.Msg.Offset)) })
		},
	}
	messageFlags(cmd, &m.Subject, &m.Body, &m.To)
	cmd.Flags().StringVar(&m.Id, "key", "", "by which a repetition is known")
	cmd.Flags().StringVar(&m.Twin, "twin", "", "`TWIN` that it is about")
	cmd.Flags().BoolVar(&m.Urgent, "urgent", false, "also in quiet hours")
	return cmd
}

func notifierOutbox(a *app) *cobra.Command {
	r := &pb.ListNotificationsRequest{}
	var state string
	var limit int
	cmd := &cobra.Command{
		Use: "outbox ID", Short: "Show what is in a notifier's outbox, and what became of it", Args: exactly("ID"),
		Long:    "Shows the messages of a notifier's outbox, the newest first: queued, sent (the provider took it), acknowledged (and said so) or failed.",
		Example: "  pollux notifier outbox mail\n  pollux notifier outbox mail --state failed --limit 1000",
		RunE: func(cmd *cobra.Command, args []string) error {
			if state != "" {
				v, ok := pb.NotificationState_value["NOTIFICATION_STATE_"+strings.ToUpper(state)]
				if !ok || v == 0 {
					return usagef("--state %q: want queued, sent, acknowledged or failed", state)
				}
				r.State = pb.NotificationState(v)
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListNotificationsResponse{}
			for r.Notifier = args[0]; len(all.Notifications) < limit; {
				r.PageSize = uint32(min(pageSize, limit-len(all.Notifications)))
				res, err := n.notifiers.ListNotifications(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Notifications = append(all.Notifications, res.Msg.Notifications...)
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { listNotifications(w, all.Notifications, time.Now()) })
		},
	}
	cmd.Flags().StringVar(&state, "state", "", "only `queued`, sent, acknowledged or failed ones")
	cmd.Flags().IntVar(&limit, "limit", 100, "so many at most")
	return cmd
}

func listNotifications(w io.Writer, all []*pb.Notification, now time.Time) {
	row(w, "NUMBER", "TIME", "STATE", "TRIES", "SUBJECT", "BY", "RECEIPT OR ERROR")
	for _, m := range all {
		o := m.Outcome
		text := o.GetReceipt()
		if o.GetError() != "" {
			text = o.GetError()
		}
		state := enumText(o.GetState(), "NOTIFICATION_STATE_")
		if o.GetRepeated() {
			state += ", perhaps twice"
		}
		row(w, o.GetOffset(), timeText(m.Time, now), state, o.GetTries(), dash(printable(m.Subject)), dash(printable(m.By)), dash(printable(text)))
	}
}
