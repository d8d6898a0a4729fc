package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func ingestCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:   "ingest",
		Short: "Messages of devices: what came in, and what became of it",
		Long: `Messages come by HTTP (POST /v1/ingest/PROJECT/TWIN, or by the alias of a twin), by MQTT, by InfluxDB's line protocol and
by the API. Each is stored, is in its project's inbox because nobody knows its sender, was here before, or was refused: then
` + "`pollux ingest refusals`" + ` says why.`,
		Example: `  pollux ingest send lobby '{"temperature":21.5}'
  pollux ingest status
  pollux ingest refusals --twin lobby
  pollux ingest unknown provision --rule "network=lora* model=sensor name={value}"`,
	}))
	cmd.AddCommand(ingestStatus(a), ingestRefusals(a), ingestUnknown(a), ingestTimes(a), ingestPubSub(a), ingestSend(a))
	return cmd
}

func ingestStatus(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "status", Short: "Count what came in, by project and door", Args: exactly(),
		Long: `Counts what came in. received = stored + refused + inbox + duplicate + in flight, where all but what is in flight is committed
together with what it counts, so that it is right after any crash.`,
		Example: "  pollux ingest status\n  pollux ingest status --project hotel -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.ingest.GetIngestStatus(cmd.Context(), req(&pb.GetIngestStatusRequest{Project: project, Fresh: true}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { ingestTable(w, res.Msg, project) })
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}

// ingestTable prints the counts, of one project where it is named.
func ingestTable(w io.Writer, s *pb.GetIngestStatusResponse, project string) {
	switch {
	case len(s.Counts) > 0:
		row(w, "PROJECT", "DOOR", "RECEIVED", "STORED", "REFUSED", "INBOX", "DUPLICATE", "IN FLIGHT")
	case project != "":
		fmt.Fprintln(w, "nothing has come in for the project "+project)
	default:
		fmt.Fprintln(w, "nothing has come in yet")
	}
	for _, c := range s.Counts {
		row(w, c.Project, c.Door, fmt.Sprint(c.Received), fmt.Sprint(c.Stored), fmt.Sprint(c.Refused), fmt.Sprint(c.Inbox),
			fmt.Sprint(c.Duplicate), fmt.Sprint(c.InFlight))
	}
	if s.InboxEntries > 0 {
		fmt.Fprintln(w)
		row(w, fmt.Sprintf("%d unknown senders or devices: pollux inbox list", s.InboxEntries))
	}
	if s.Refusals > 0 {
		fmt.Fprintln(w)
		row(w, fmt.Sprintf("%d refusals are listed: pollux ingest refusals", s.Refusals))
	}
}

func ingestRefusals(a *app) *cobra.Command {
	r := &pb.ListRefusalsRequest{}
	var last uint32
	cmd := &cobra.Command{
		Use: "refusals", Short: "List what was refused and why, the newest first", Args: exactly(),
		Long: `Lists messages that were refused, with the reason and the first bytes of what they said. The last 10,000 of a project are
kept.`,
		Example: "  pollux ingest refusals\n  pollux ingest refusals --code malformed --last 10\n  pollux ingest refusals --twin lobby -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			if r.Twin != "" {
				_, r.Twin = whole(r.Twin)
			}
			all := &pb.ListRefusalsResponse{}
			for uint32(len(all.Refusals)) < last {
				r.PageSize = min(pageSize, last-uint32(len(all.Refusals)))
				res, err := n.ingest.ListRefusals(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Refusals = append(all.Refusals, res.Msg.Refusals...)
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { refusalTable(w, all.Refusals, time.Now()) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Project, "project", "", "only of this project")
	f.StringVar(&r.Code, "code", "", "only of this code, such as malformed")
	f.StringVar(&r.Twin, "twin", "", "only of this twin")
	f.StringVar(&r.Door, "door", "", "only of this door, such as http")
	f.Uint32Var(&last, "last", 100, "how many")
	return cmd
}

func refusalTable(w io.Writer, all []*pb.Refusal, now time.Time) {
	row(w, "WHEN", "DOOR", "FOR", "CODE", "REASON", "PAYLOAD")
	for _, x := range all {
		whose := bare(x.Twin)
		if whose == "" && x.Alias != nil {
			whose = aliasText(x.Alias)
		}
		row(w, ago(x.Time, now), x.Door, dash(whose), x.Code, x.Reason, payloadText(x.Payload, x.Size))
	}
}

// payloadText is the head of a payload for a line of a table.
func payloadText(b []byte, size uint32) string {
	const shown = 60
	text := strings.ToValidUTF8(string(b[:min(len(b), shown)]), "·")
	if int(size) > min(len(b), shown) {
		text += fmt.Sprintf("… (%d bytes)", size)
	}
	return dash(text)
}

func aliasText(a *pb.Alias) string {
	return a.GetNetwork() + "/" + a.GetKey() + "/" + a.GetValue()
}

var unknownChoices = map[string]pb.UnknownSenders{"inbox": pb.UnknownSenders_UNKNOWN_SENDERS_INBOX,
	"refuse": pb.UnknownSenders_UNKNOWN_SENDERS_REFUSE, "provision": pb.UnknownSenders_UNKNOWN_SENDERS_PROVISION}

func ingestUnknown(a *app) *cobra.Command {
	var project string
	var rules []string
	cmd := &cobra.Command{
		Use: "unknown [inbox|refuse|provision]", Short: "Choose what becomes of senders that nobody knows", Args: between(0, "CHOICE"),
		Long: `Without an argument, shows what the project has chosen for messages whose alias no twin has.

  inbox      they are shown by ` + "`pollux inbox list`" + `, to be claimed or ignored
  refuse     they are refused
  provision  a twin is made by the first rule that matches, and gets the message; others go to the inbox

A rule is words: network=, key= and value= are patterns of the alias, in which * is any text; driver= or model=, zone=,
name= and labels.NAME= are the twin's, where a name may hold {network}, {key} and {value}. Rules given replace those there were; --rule none
takes them away.`,
		Example: `  pollux ingest unknown
  pollux ingest unknown refuse --project hotel
  pollux ingest unknown provision --rule "network=lora key=eui model=sensor zone=aula name=sensor-{value}"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			s, err := n.projectSettings(cmd.Context(), project)
			if err != nil {
				return err
			}
			if len(args) > 0 || len(rules) > 0 {
				if len(args) > 0 {
					choice, ok := unknownChoices[args[0]]
					if !ok {
						return usagef("%q: want inbox, refuse or provision", args[0])
					}
					s.UnknownSenders = choice
				}
				if len(rules) > 0 {
					if s.Rules, err = parseRules(rules); err != nil {
						return err
					}
				}
				res, err := n.ingest.PutProjectSettings(cmd.Context(), req(&pb.PutProjectSettingsRequest{Settings: s}))
				if err != nil {
					return err
				}
				s = res.Msg.Settings
			}
			return a.show(s, func(w io.Writer) { unknownTable(w, s) })
		},
	}
	cmd.Flags().StringVar(&project, "project", "default", "of this project")
	cmd.Flags().StringArrayVar(&rules, "rule", nil, "a rule of provision, as `WORDS`; many times, the first that matches counts; none: no rules")
	return cmd
}

func (n *node) projectSettings(ctx context.Context, project string) (*pb.ProjectSettings, error) {
	res, err := n.ingest.GetProjectSettings(ctx, req(&pb.GetProjectSettingsRequest{Project: project}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Settings, nil
}

func parseRules(texts []string) ([]*pb.ProvisionRule, error) {
	var rules []*pb.ProvisionRule
	if len(texts) == 1 && texts[0] == "none" {
		return nil, nil
	}
	for _, text := range texts {
		r := &pb.ProvisionRule{}
		fields := map[string]*string{"network": &r.Network, "key": &r.Key, "value": &r.Value, "driver": &r.Driver, "model": &r.Model,
			"zone": &r.Zone, "name": &r.Name}
		for _, word := range strings.Fields(text) {
			name, value, ok := strings.Cut(word, "=")
			if label, is := strings.CutPrefix(name, "labels."); ok && is && label != "" {
				if r.Labels == nil {
					r.Labels = map[string]string{}
				}
				r.Labels[label] = value
				continue
			}
			if !ok || fields[name] == nil {
				return nil, usagef("--rule %q: %q is none of network=, key=, value=, driver=, model=, zone=, name=, labels.NAME=", text, word)
			}
			*fields[name] = value
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func unknownTable(w io.Writer, s *pb.ProjectSettings) {
	for _, name := range slices.Sorted(maps.Keys(unknownChoices)) {
		if unknownChoices[name] == s.UnknownSenders {
			row(w, "project "+s.Project+": unknown senders: "+name)
		}
	}
	provisionTable(w, s.Rules)
}

func provisionTable(w io.Writer, rules []*pb.ProvisionRule) {
	if len(rules) == 0 {
		return
	}
	row(w, "NETWORK", "KEY", "VALUE", "DRIVER", "MODEL", "ZONE", "NAME", "LABELS")
	for _, r := range rules {
		name := r.Name
		if name == "" {
			name = "{value}"
		}
		row(w, pattern(r.Network), pattern(r.Key), pattern(r.Value), dash(r.Driver), dash(r.Model), dash(bare(r.Zone)), name, dash(labelText(r.Labels)))
	}
}

// pattern shows the empty pattern as what it matches.
func pattern(s string) string {
	if s == "" {
		return "*"
	}
	return s
}

func ingestSend(a *app) *cobra.Command {
	var id string
	var historical bool
	var at string
	cmd := &cobra.Command{
		Use: "send TWIN|NETWORK/KEY/VALUE PAYLOAD", Short: "Send a message as a device would", Args: exactly("TWIN", "PAYLOAD"),
		Long:    "Sends one message for a twin, by its name or by an alias, and waits until it is committed.",
		Example: "  pollux ingest send lobby '{\"temperature\":21.5}'\n  pollux ingest send lora/eui/70b3d5 '{\"rssi\":-80}' --id m1",
		RunE: func(cmd *cobra.Command, args []string) error {
			project, m, err := messageFor(args[0])
			if err != nil {
				return err
			}
			m.Payload, m.Id, m.Historical = []byte(args[1]), id, historical
			if at != "" {
				t, err := time.Parse(time.RFC3339, at)
				if err != nil {
					return usagef("--time %q: want such as 2026-01-31T12:00:00Z", at)
				}
				m.Time = timestamppb.New(t)
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.ingest.Ingest(cmd.Context(), req(&pb.IngestRequest{Project: project, Messages: []*pb.IngestMessage{m}}))
			if err != nil {
				return err
			}
			if r := res.Msg; r.Stored+r.Inbox+r.Duplicate == 0 && len(r.Results) > 0 {
				return fmt.Errorf("%s: %s", strings.ToLower(strings.TrimPrefix(r.Results[0].Outcome.String(), "INGEST_OUTCOME_")),
					strings.TrimPrefix(r.Results[0].Code+": "+r.Results[0].Reason, ": "))
			}
			return a.show(res.Msg, func(w io.Writer) { row(w, sentText(res.Msg)) })
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "by which the message is known when it is sent again")
	cmd.Flags().StringVar(&at, "time", "", "when it was measured, such as 2026-01-31T12:00:00Z")
	cmd.Flags().BoolVar(&historical, "historical", false, "for history only: the current state stays")
	return cmd
}

func sentText(r *pb.IngestResponse) string {
	switch {
	case r.Stored > 0:
		return "stored"
	case r.Duplicate > 0:
		return "a message of this id was here before"
	}
	return "nobody knows the sender: it is in the inbox (pollux inbox list)"
}

// messageFor reads whom a message is for: [PROJECT/]TWIN, or [PROJECT/]NETWORK/KEY/VALUE.
func messageFor(text string) (project string, m *pb.IngestMessage, err error) {
	parts := strings.Split(text, "/")
	switch len(parts) {
	case 1:
		return "default", &pb.IngestMessage{Twin: text}, nil
	case 2:
		return parts[0], &pb.IngestMessage{Twin: parts[1]}, nil
	case 3:
		return "default", &pb.IngestMessage{Alias: &pb.Alias{Network: parts[0], Key: parts[1], Value: parts[2]}}, nil
	case 4:
		return parts[0], &pb.IngestMessage{Alias: &pb.Alias{Network: parts[1], Key: parts[2], Value: parts[3]}}, nil
	}
	return "", nil, usagef("%q: want TWIN, PROJECT/TWIN, NETWORK/KEY/VALUE or PROJECT/NETWORK/KEY/VALUE", text)
}
