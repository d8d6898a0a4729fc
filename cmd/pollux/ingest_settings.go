package main

import (
	"context"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// changeProject reads a project's settings, has them changed, and writes them where change says that they are.
func (n *node) changeProject(ctx context.Context, project string, change func(*pb.ProjectSettings) (bool, error)) (*pb.ProjectSettings, error) {
	s, err := n.projectSettings(ctx, project)
	if err != nil {
		return nil, err
	}
	changed, err := change(s)
	if err != nil || !changed {
		return s, err
	}
	res, err := n.ingest.PutProjectSettings(ctx, req(&pb.PutProjectSettingsRequest{Settings: s}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Settings, nil
}

func ingestTimes(a *app) *cobra.Command {
	var project string
	var age, ahead, history time.Duration
	cmd := &cobra.Command{
		Use: "times", Short: "Show or choose how old a message may be, and how far ahead", Args: exactly(),
		Long: `Shows which times a project takes of its messages, after changing what flags name; 0 is the usual one again.

  --max-age      of a message that is to change the present; what is older has to be sent as historical (usually 720h: 30 days)
  --max-history  of any value, for history (usually 9672h: 13 months). What is older is refused: history may not keep it
  --max-ahead    how far a device's clock may be before the node's (usually 10m)`,
		Example: "  pollux ingest times\n  pollux ingest times --project hotel --max-age 24h --max-ahead 1h\n  pollux ingest times --max-history 87600h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			s, err := n.changeProject(cmd.Context(), project, func(s *pb.ProjectSettings) (changed bool, err error) {
				for _, f := range []struct {
					name  string
					value time.Duration
					into  **durationpb.Duration
				}{{"max-age", age, &s.MaxAge}, {"max-history", history, &s.MaxHistoryAge}, {"max-ahead", ahead, &s.MaxAhead}} {
					if !cmd.Flags().Changed(f.name) {
						continue
					}
					changed = true
					if *f.into = nil; f.value != 0 {
						*f.into = durationpb.New(f.value)
					}
				}
				return changed, nil
			})
			if err != nil {
				return err
			}
			return a.show(s, func(w io.Writer) { timesTable(w, s) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&project, "project", "default", "of this project")
	f.DurationVar(&age, "max-age", 0, "of a message that is to change the present, such as 24h")
	f.DurationVar(&history, "max-history", 0, "of any value, such as 87600h")
	f.DurationVar(&ahead, "max-ahead", 0, "ahead of the node's clock, such as 1h")
	return cmd
}

func timesTable(w io.Writer, s *pb.ProjectSettings) {
	row(w, "PROJECT", "MAX AGE", "MAX HISTORY", "MAX AHEAD")
	age, history, ahead := takenTimes(s)
	row(w, s.Project, age, history, ahead)
}

// takenTimes says how old a message may be, how old a value for history, and how far ahead it may be.
func takenTimes(s *pb.ProjectSettings) (age, history, ahead string) {
	text := func(d *durationpb.Duration, usual string) string {
		if d == nil {
			return usual + " (usual)"
		}
		text := d.AsDuration().String()
		for _, none := range []string{"m0s", "h0m"} { // 90h0m0s is 90h
			if strings.HasSuffix(text, none) {
				text = text[:len(text)-2]
			}
		}
		return text
	}
	return text(s.GetMaxAge(), "720h"), text(s.GetMaxHistoryAge(), "9672h"), text(s.GetMaxAhead(), "10m")
}

func ingestPubSub(a *app) *cobra.Command {
	var project string
	var off bool
	p := &pb.PubSubPush{}
	cmd := &cobra.Command{
		Use: "pubsub", Short: "Show or choose who may push from Google Pub/Sub by Google's own token", Args: exactly(),
		Long: `Shows which push subscriptions a project lets in by the OIDC token that Google sends, after changing what flags name; --sender replaces all of them.
The token has to be for the audience, signed by the issuer, and of one of the senders: the service account of the subscription.
Whoever pushes may also show a key of ours, as the token of the URL: that needs nothing here.`,
		Example: "  pollux ingest pubsub --audience https://twins.example/v1/ingest/default/pubsub --sender push@plant.iam.gserviceaccount.com\n" +
			"  pollux ingest pubsub --project hotel\n  pollux ingest pubsub --off",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			s, err := n.changeProject(cmd.Context(), project, func(s *pb.ProjectSettings) (bool, error) {
				switch {
				case off:
					s.PubsubPush = nil
					return true, nil
				case !slices.ContainsFunc([]string{"audience", "sender", "keys", "issuer"}, cmd.Flags().Changed):
					return false, nil
				}
				old := s.PubsubPush
				keep(cmd, "audience", &p.Audience, old.GetAudience())
				keep(cmd, "sender", &p.Senders, old.GetSenders())
				keep(cmd, "keys", &p.KeysUrl, old.GetKeysUrl())
				keep(cmd, "issuer", &p.Issuer, old.GetIssuer())
				if p.Audience == "" || len(p.Senders) == 0 {
					return false, usagef("--audience and --sender go together: an audience alone would let in anybody's service account")
				}
				s.PubsubPush = p
				return true, nil
			})
			if err != nil {
				return err
			}
			return a.show(s, func(w io.Writer) { pushTable(w, s) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&project, "project", "default", "of this project")
	f.StringVar(&p.Audience, "audience", "", "that the subscription names: its --push-auth-token-audience, or else its push endpoint")
	f.StringArrayVar(&p.Senders, "sender", nil, "`EMAIL` of a service account that may push; many times")
	f.StringVar(&p.KeysUrl, "keys", "", "`URL` of the issuer's keys (Google's where it is not given)")
	f.StringVar(&p.Issuer, "issuer", "", "`URL` of the issuer (Google where it is not given)")
	f.BoolVar(&off, "off", false, "nobody")
	return cmd
}

func pushTable(w io.Writer, s *pb.ProjectSettings) {
	p := s.PubsubPush
	if p == nil {
		row(w, "project "+s.Project+": nobody may push by a token of Google's; a key of ours is let in")
		return
	}
	row(w, "PROJECT", "AUDIENCE", "SENDERS", "ISSUER", "KEYS")
	row(w, s.Project, p.Audience, strings.Join(p.Senders, " "), orElse(p.Issuer, "Google"), orElse(p.KeysUrl, "Google's"))
}
