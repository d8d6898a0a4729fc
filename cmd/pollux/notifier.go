package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func notifierCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use: "notifier", Aliases: []string{"notifiers"}, Short: "Tell people: mail, text messages, chats, webhooks",
		Long: `A notifier tells somebody what happened. Rules, schedules and alarms use it by the action notify (--notify), and you by "send". Each has an
outbox in the store: what is in it is sent in its order, and tried again until the provider takes it, also when nodes die meanwhile.

Which kind (one of):
  --mail HOST[:PORT]    mail by SMTP; with --from, --to, and --user with the password as secret
  --twilio ACCOUNT      text messages by Twilio; with --from, --to, the token as secret
  --sms URL             text messages by a form; with --field NAME=TEXT for each of its fields, --to
  --webhook URL         JSON, signed with the secret (standardwebhooks.com)
  --telegram            a bot's message; the bot's token as secret, chats as --to
  --slack, --teams      a channel's webhook, whose address is the secret
  --ntfy                topics of ntfy as --to; an access token as secret, where there is one
  --mqtt TOPIC          a message of the cluster's broker
  --logic ID            the run of a logic of your own; with --to where each gets a message of his own
  --log                 a line in the node's log

Attachments, and quiet hours of several times, come in a file: pollux apply -f, as "-o yaml" of get shows them.`,
		Example: "  pollux notifier create mail --mail smtp.example.com --from house@example.com --to kim@example.com --user house --secret-file password.txt\n" +
			"  pollux notifier test mail\n  pollux rule put too-hot --on room1.temperature --if 'value > 28' --notify mail\n  pollux notifier outbox mail",
	}))
	cmd.AddCommand(notifierCreate(a), notifierUpdate(a), notifierList(a), notifierGet(a), notifierTest(a), notifierSend(a), notifierOutbox(a),
		notifierPause(a, "pause", true), notifierPause(a, "resume", false), watcher(a, "notifier", "notifiers"),
		remover(a, "rm ID", "Remove a notifier and its outbox, with what waits there", "  pollux notifier rm mail", "notifier",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.notifiers.DeleteNotifier(ctx, req(&pb.DeleteNotifierRequest{Id: id}))
				return err
			}))
	return cmd
}

// notifierFlags are what can be configured of a notifier.
type notifierFlags struct {
	title, mail, twilio, sms, webhook, mqtt, logic               string
	telegram, slack, teams, ntfy, log, keyed                     bool
	from, user, security, caFile, url, secretFile, subject, body string
	to, fields, headers                                          []string
	quiet, zone                                                  string
	limit, keep, qos                                             uint32
	retain                                                       bool
	limitPer, retryMin, retryMax, giveUp                         time.Duration
}

func (f *notifierFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.title, "title", "", "name for people")
	fl.StringVar(&f.mail, "mail", "", "mail by the SMTP server `HOST[:PORT]`")
	fl.StringVar(&f.twilio, "twilio", "", "text messages by this `ACCOUNT` of Twilio's")
	fl.StringVar(&f.sms, "sms", "", "text messages by a form posted to this `URL`")
	fl.StringVar(&f.webhook, "webhook", "", "signed JSON posted to this `URL`")
	fl.BoolVar(&f.telegram, "telegram", false, "messages of a Telegram bot")
	fl.BoolVar(&f.slack, "slack", false, "a Slack channel")
	fl.BoolVar(&f.teams, "teams", false, "a Teams channel")
	fl.BoolVar(&f.ntfy, "ntfy", false, "topics of ntfy")
	fl.StringVar(&f.mqtt, "mqtt", "", "the MQTT `TOPIC`; may have ${EXPRESSION} in it")
	fl.Uint32Var(&f.qos, "qos", 1, "of --mqtt: 0, 1 or 2")
	fl.BoolVar(&f.retain, "retain", false, "of --mqtt: the broker keeps the last message for whoever subscribes later")
	fl.StringVar(&f.logic, "logic", "", "the run of the logic `ID`, which brings it to whomever it knows")
	fl.BoolVar(&f.keyed, "keyed", false, "of --logic: whom it tells knows a repetition by the message's key")
	fl.BoolVar(&f.log, "log", false, "the log of its node")
	fl.StringVar(&f.from, "from", "", "`SENDER`: an address of mail, a number of text messages")
	fl.StringSliceVar(&f.to, "to", nil, "`RECIPIENTS`: addresses, numbers, chats or topics")
	fl.StringVar(&f.user, "user", "", "`NAME` at the mail server, or at the form's")
	fl.StringVar(&f.security, "security", "", "of mail: `starttls`, tls or none")
	fl.StringVar(&f.caFile, "ca-file", "", "of mail: `FILE` with certificates, PEM, that vouch for the server")
	fl.StringArrayVar(&f.fields, "field", nil, "of --sms: `NAME=TEXT`; the text may have ${to}, ${body} and ${secret} in it; many times")
	fl.StringArrayVar(&f.headers, "header", nil, "of --sms and webhooks: `NAME=TEXT`; many times, '' for none")
	fl.StringVar(&f.url, "url", "", "another `URL` of Twilio, Telegram or ntfy than the provider's own")
	fl.StringVar(&f.secretFile, "secret-file", "", "`FILE` with the password, token, address or signing key; - is the input, '' for none")
	fl.StringVar(&f.subject, "subject", "", "template of the subject, as in '[${project}] ${subject}'")
	fl.StringVar(&f.body, "body", "", "template of the text, as in '${body}\n${values.value}'")
	fl.StringVar(&f.quiet, "quiet", "", "quiet hours `FROM-TO`, as in 22:00-06:00: what is not urgent waits for their end; - for none")
	fl.StringVar(&f.zone, "zone", "", "whose clocks count, as in Europe/Berlin")
	fl.Uint32Var(&f.limit, "limit", 0, "so many messages at most within --limit-per; more wait")
	fl.DurationVar(&f.limitPer, "limit-per", 0, "see --limit (1m where it is not given)")
	fl.DurationVar(&f.retryMin, "retry-min", 0, "first wait after a try that failed; it doubles (1s)")
	fl.DurationVar(&f.retryMax, "retry-max", 0, "longest wait (5m)")
	fl.DurationVar(&f.giveUp, "give-up", 0, "give a message up after so `LONG` (24h)")
	fl.Uint32Var(&f.keep, "keep", 0, "messages that the outbox keeps, sent and unsent (10,000)")
}

// kind gives the kind that the flags name, or nil.
func (f *notifierFlags) kind() (n int, m *pb.Notifier) {
	m = &pb.Notifier{}
	hook := func(p pb.WebhookPreset, url string) *pb.Notifier_Webhook {
		return &pb.Notifier_Webhook{Webhook: &pb.WebhookNotifier{Preset: p, Url: url}}
	}
	if f.mail != "" {
		n++
		m.Kind = &pb.Notifier_Mail{Mail: &pb.MailNotifier{}}
	}
	if f.twilio != "" {
		n++
		m.Kind = &pb.Notifier_Sms{Sms: &pb.SmsNotifier{Provider: &pb.SmsNotifier_Twilio{Twilio: &pb.TwilioSms{Account: f.twilio}}}}
	}
	if f.sms != "" {
		n++
		m.Kind = &pb.Notifier_Sms{Sms: &pb.SmsNotifier{Provider: &pb.SmsNotifier_Form{Form: &pb.FormSms{Url: f.sms}}}}
	}
	if f.webhook != "" {
		n++
		m.Kind = hook(pb.WebhookPreset_WEBHOOK_PRESET_UNSPECIFIED, f.webhook)
	}
	for _, p := range []struct {
		set    bool
		preset pb.WebhookPreset
	}{{f.telegram, pb.WebhookPreset_WEBHOOK_PRESET_TELEGRAM}, {f.slack, pb.WebhookPreset_WEBHOOK_PRESET_SLACK},
		{f.teams, pb.WebhookPreset_WEBHOOK_PRESET_TEAMS}, {f.ntfy, pb.WebhookPreset_WEBHOOK_PRESET_NTFY}} {
		if p.set {
			n++
			m.Kind = hook(p.preset, "")
		}
	}
	if f.mqtt != "" {
		n++
		m.Kind = &pb.Notifier_Mqtt{Mqtt: &pb.MqttNotifier{Topic: f.mqtt, Qos: 1}}
	}
	if f.logic != "" {
		n++
		m.Kind = &pb.Notifier_Logic{Logic: &pb.LogicNotifier{Logic: f.logic}}
	}
	if f.log {
		n++
		m.Kind = &pb.Notifier_Log{Log: &pb.LogNotifier{}}
	}
	return n, m
}

// into changes what the flags name.
func (f *notifierFlags) into(cmd *cobra.Command, m *pb.Notifier) (err error) {
	set := cmd.Flags().Changed
	n, kind := f.kind()
	if n > 1 || n == 0 && m.Kind == nil {
		return usagef("say which kind by one of --mail, --twilio, --sms, --webhook, --telegram, --slack, --teams, --ntfy, --mqtt, --logic and --log")
	}
	if n == 1 {
		if mqtt, was := kind.GetMqtt(), m.GetMqtt(); mqtt != nil && was != nil {
			mqtt.Qos = was.Qos
		}
		if hook, was := kind.GetWebhook(), m.GetWebhook(); hook != nil && was != nil && hook.Preset != was.Preset {
			m.Kind = kind.Kind
		} else {
			proto.Merge(m, kind) // of the same kind what no flag names stays
		}
	}
	if err := f.intoKind(set, m); err != nil {
		return err
	}
	for name, do := range map[string]func(){
		"title": func() { m.Title = f.title }, "subject": func() { m.Subject = f.subject }, "body": func() { m.Body = f.body },
		"zone": func() { m.Zone = f.zone }, "limit": func() { m.Limit = f.limit }, "keep": func() { m.Keep = f.keep },
		"limit-per": func() { m.LimitPer = spanOf(f.limitPer) }, "retry-min": func() { m.RetryMin = spanOf(f.retryMin) },
		"retry-max": func() { m.RetryMax = spanOf(f.retryMax) }, "give-up": func() { m.GiveUp = spanOf(f.giveUp) },
	} {
		if set(name) {
			do()
		}
	}
	if set("quiet") {
		m.Quiet = nil
		if from, to, ok := strings.Cut(f.quiet, "-"); f.quiet != "-" && ok {
			m.Quiet = []*pb.Window{{From: from, To: to}}
		} else if f.quiet != "-" {
			return usagef("--quiet %q: want FROM-TO, as in 22:00-06:00", f.quiet)
		}
	}
	if set("secret-file") {
		m.Secret, err = readSecret(cmd, f.secretFile)
	}
	return err
}

// intoKind changes what the flags name of the kind that it is.
func (f *notifierFlags) intoKind(set func(string) bool, m *pb.Notifier) (err error) {
	used := map[string]bool{}
	use := func(name string, do func()) {
		if used[name] = true; set(name) {
			do()
		}
	}
	switch k := m.Kind.(type) {
	case *pb.Notifier_Mail:
		err = f.intoMail(use, k.Mail)
	case *pb.Notifier_Sms:
		use("to", func() { k.Sms.To = f.to })
		if t := k.Sms.GetTwilio(); t != nil {
			use("from", func() { t.From = f.from })
			use("url", func() { t.Url = f.url })
		} else if x := k.Sms.GetForm(); x != nil {
			use("user", func() { x.User = f.user })
			use("field", func() { x.Fields, err = pairs("field", f.fields) })
			use("header", func() { x.Headers, err = filled("header", f.headers) })
		}
	case *pb.Notifier_Logic:
		use("to", func() { k.Logic.To = f.to })
		use("keyed", func() { k.Logic.Keyed = f.keyed })
	case *pb.Notifier_Mqtt:
		use("qos", func() { k.Mqtt.Qos = f.qos })
		use("retain", func() { k.Mqtt.Retain = f.retain })
	case *pb.Notifier_Webhook:
		use("to", func() { k.Webhook.To = f.to })
		use("url", func() { k.Webhook.Url = f.url })
		use("header", func() { k.Webhook.Headers, err = filled("header", f.headers) })
	}
	if err != nil {
		return err
	}
	for _, name := range []string{"to", "from", "user", "security", "ca-file", "field", "header", "url", "keyed", "qos", "retain"} {
		if set(name) && !used[name] {
			return usagef("--%s has no meaning for such a notifier", name)
		}
	}
	return nil
}

// filled are pairs; an empty text is none.
func filled(flag string, list []string) (map[string]string, error) {
	return pairs(flag, slices.DeleteFunc(slices.Clone(list), func(text string) bool { return text == "" }))
}

func (f *notifierFlags) intoMail(use func(string, func()), m *pb.MailNotifier) (err error) {
	use("mail", func() {
		host, port, ok := strings.Cut(f.mail, ":")
		m.Host, m.Port = host, 0
		if ok {
			var n uint64
			if n, err = strconv.ParseUint(port, 10, 16); err != nil {
				err = usagef("--mail %q: want HOST or HOST:PORT", f.mail)
			}
			m.Port = uint32(n)
		}
	})
	use("from", func() { m.From = f.from })
	use("to", func() { m.To = f.to })
	use("user", func() { m.User = f.user })
	use("security", func() {
		v, ok := pb.MailSecurity_value["MAIL_SECURITY_"+strings.ToUpper(f.security)]
		if !ok || v == 0 {
			err = usagef("--security %q: want starttls, tls or none", f.security)
		}
		m.Security = pb.MailSecurity(v)
	})
	use("ca-file", func() {
		text, bad := os.ReadFile(f.caFile)
		if bad != nil {
			err = fmt.Errorf("read certificates: %w", bad)
		}
		m.Ca = string(text)
	})
	return err
}

func notifierCreate(a *app) *cobra.Command {
	var f notifierFlags
	cmd := &cobra.Command{
		Use: "create ID", Short: "Create a notifier", Args: exactly("ID"), Long: "Creates a notifier. See `pollux notifier --help` for the kinds.",
		Example: "  pollux notifier create mail --mail smtp.example.com --from house@example.com --to kim@example.com --user house --secret-file password.txt\n" +
			"  pollux notifier create oncall --ntfy --to acme-house --quiet 22:00-06:00 --zone Europe/Berlin --limit 10\n" +
			"  pollux notifier create chat --slack --secret-file address.txt\n" +
			"  pollux notifier create desk --webhook https://desk.example.com/in --secret-file key.txt",
		RunE: func(cmd *cobra.Command, args []string) error {
			m := &pb.Notifier{Id: args[0]}
			if err := f.into(cmd, m); err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.notifiers.CreateNotifier(cmd.Context(), req(&pb.CreateNotifierRequest{Notifier: m}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Notifier, func(w io.Writer) { row(w, "notifier "+res.Msg.Notifier.Id+" is there") })
		},
	}
	f.add(cmd)
	return cmd
}

// changeNotifier reads a notifier, changes it and writes it.
func changeNotifier(a *app, cmd *cobra.Command, id, done string, change func(*pb.UpdateNotifierRequest) error) error {
	n, err := a.dial()
	if err != nil {
		return err
	}
	old, err := n.notifiers.GetNotifier(cmd.Context(), req(&pb.GetNotifierRequest{Id: id}))
	if err != nil {
		return err
	}
	m := old.Msg.Notifier
	m.State = nil
	r := &pb.UpdateNotifierRequest{Notifier: m}
	if err := change(r); err != nil {
		return err
	}
	res, err := n.notifiers.UpdateNotifier(cmd.Context(), req(r))
	if err != nil {
		return err
	}
	return a.show(res.Msg.Notifier, func(w io.Writer) { row(w, "notifier "+res.Msg.Notifier.Id+" is "+done) })
}

func notifierUpdate(a *app) *cobra.Command {
	var f notifierFlags
	cmd := &cobra.Command{
		Use: "update ID", Short: "Change a notifier", Args: exactly("ID"),
		Long:    "Changes what the flags name and leaves the rest; 0 is the usual one again, and --to, --field and --header replace all of theirs. What waits in the outbox is sent by the new configuration.",
		Example: "  pollux notifier update mail --to kim@example.com,lee@example.com\n  pollux notifier update mail --quiet -\n  pollux notifier update mail --user '' --secret-file ''     without a password from now on",
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeNotifier(a, cmd, args[0], "changed", func(r *pb.UpdateNotifierRequest) error {
				r.RemoveSecret = cmd.Flags().Changed("secret-file") && f.secretFile == ""
				return f.into(cmd, r.Notifier)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func notifierPause(a *app, use string, paused bool) *cobra.Command {
	short, done := "Have a notifier go on", "resumed"
	if paused {
		short, done = "Have a notifier wait; its outbox keeps what comes meanwhile", "paused"
	}
	return &cobra.Command{
		Use: use + " ID", Short: short, Args: exactly("ID"), Example: "  pollux notifier " + use + " mail",
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeNotifier(a, cmd, args[0], done, func(r *pb.UpdateNotifierRequest) error {
				r.Notifier.Paused = paused
				return nil
			})
		},
	}
}
