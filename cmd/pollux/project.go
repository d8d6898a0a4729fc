package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func projectCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use: "project", Aliases: []string{"projects"}, Short: "Projects, and what there is in them",
		Long: `A project is there when it has settings or any record; its name begins the ids of all that is in it. Its settings say what it does with messages
(also: pollux ingest unknown, pollux ingest times), how long it keeps its past, and what it may take (also: pollux retention). "pollux apply" takes
all of it as a file.`,
		Example: "  pollux project list\n  pollux project create hotel\n  pollux project update hotel --unknown refuse --quota twins=1000\n  pollux project get hotel",
	}))
	cmd.AddCommand(projectCreate(a), projectGet(a), projectList(a), projectUpdate(a), watcher(a, "project", "settings of projects"),
		&cobra.Command{
			Use: "rm NAME", Aliases: []string{"remove", "delete"}, Short: "Remove a project that nothing is in", Example: "  pollux project rm hotel", Args: exactly("NAME"),
			RunE: func(cmd *cobra.Command, args []string) error {
				n, err := a.dial()
				if err != nil {
					return err
				}
				if _, err := n.projects.DeleteProject(cmd.Context(), req(&pb.DeleteProjectRequest{Project: args[0]})); err != nil {
					return err
				}
				return a.removed("project", args[0])
			},
		})
	return cmd
}

func projectCreate(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "create NAME", Short: "Make a project", Args: exactly("NAME"), Example: "  pollux project create hotel",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.projects.CreateProject(cmd.Context(), req(&pb.CreateProjectRequest{Settings: &pb.ProjectSettings{Project: args[0]}}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Project, func(w io.Writer) { row(w, "project "+args[0]+" is there") })
		},
	}
}

func projectGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get NAME", Short: "Show a project and what is in it", Args: exactly("NAME"), Example: "  pollux project get hotel\n  pollux project get hotel -o yaml",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.projects.GetProject(cmd.Context(), req(&pb.GetProjectRequest{Project: args[0]}))
			if err != nil {
				return err
			}
			p := res.Msg.Project
			return a.show(p, func(w io.Writer) { describeProject(w, p) })
		},
	}
}

func describeProject(w io.Writer, p *pb.Project) {
	row(w, "project", p.Name)
	row(w, "unknown senders", unknownText(p))
	row(w, "records", dash(recordsText(p)))
	age, history, ahead := takenTimes(p.Settings)
	row(w, "takes messages", "of the last "+age+", of "+history+" for history only, "+ahead+" ahead")
	if push := p.Settings.GetPubsubPush(); push != nil {
		row(w, "Pub/Sub pushes", "of "+printable(strings.Join(push.Senders, ", ")+", for "+push.Audience))
	}
	if rules := len(p.Settings.GetRules()); rules > 0 {
		row(w, "inbox rules", rules)
	}
	limits := actors.QuotaLimits(p.Settings.GetQuotas())
	var quotas []string
	for _, resource := range slices.Sorted(maps.Keys(limits)) {
		quotas = append(quotas, quotaNames[resource]+" "+quotaText(resource, limits[resource]))
	}
	row(w, "quotas", dash(strings.Join(quotas, ", ")))
	if rules := p.Settings.GetRules(); len(rules) > 0 {
		fmt.Fprintln(w)
		provisionTable(w, rules)
	}
	if s := p.Settings; len(s.GetJournalRetention())+len(s.GetSampleRetention()) > 0 {
		fmt.Fprintln(w)
		rulesTable(w, s.JournalRetention, s.SampleRetention, 0, false)
	}
}

func unknownText(p *pb.Project) string {
	return strings.ToLower(strings.TrimPrefix(p.GetSettings().GetUnknownSenders().String(), "UNKNOWN_SENDERS_"))
}

// recordsText counts what a project has, by kind.
func recordsText(p *pb.Project) string {
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(p.Records)) {
		all = append(all, fmt.Sprintf("%s %d", kind, p.Records[kind]))
	}
	return strings.Join(all, ", ")
}

func projectList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the projects", Args: exactly(), Example: "  pollux project list\n  pollux project list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListProjectsResponse{}
			for token := ""; ; {
				res, err := n.projects.ListProjects(cmd.Context(), req(&pb.ListProjectsRequest{PageSize: 100, PageToken: token}))
				if err != nil {
					return err
				}
				all.Projects = append(all.Projects, res.Msg.Projects...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { listProjects(w, all.Projects) })
		},
	}
}

func listProjects(w io.Writer, all []*pb.Project) {
	row(w, "PROJECT", "TWINS", "UNKNOWN SENDERS", "RECORDS")
	for _, p := range all {
		row(w, p.Name, p.Records["twin"], unknownText(p), dash(recordsText(p)))
	}
}

func aliasCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use: "alias", Aliases: []string{"aliases"}, Short: "Outside names of twins, by which messages find them",
		Long: `An alias is a network, a key and a value, such as lora/deveui/a84041. Messages of that sender go to its twin. One alias is of one twin of a project;
a twin has up to 32.`,
		Example: "  pollux alias create lora/deveui/a84041 meter-1\n  pollux alias list --network lora",
	}))
	var project string
	cmd.PersistentFlags().StringVar(&project, "project", "default", "project of the aliases")
	cmd.AddCommand(aliasPut(a, &project, "create", "Give a twin an alias", "there", func(ctx context.Context, n *node, m *pb.NamedAlias) error {
		_, err := n.aliases.CreateAlias(ctx, req(&pb.CreateAliasRequest{Project: project, Named: m}))
		return err
	}), aliasPut(a, &project, "update", "Give an alias to another twin", "changed", func(ctx context.Context, n *node, m *pb.NamedAlias) error {
		_, err := n.aliases.UpdateAlias(ctx, req(&pb.UpdateAliasRequest{Project: project, Named: m}))
		return err
	}), aliasOf(a, &project), aliasList(a), watcher(a, "alias", "aliases"),
		remover(a, "rm ID", "Take an alias from its twin; ID is NETWORK/KEY/VALUE", "  pollux alias rm lora/deveui/a84041", "alias", func(ctx context.Context, n *node, id string) error {
			alias, err := parseAlias(id)
			if err == nil {
				_, err = n.aliases.DeleteAlias(ctx, req(&pb.DeleteAliasRequest{Project: project, Alias: alias}))
			}
			return err
		}))
	return cmd
}

func parseAlias(text string) (*pb.Alias, error) {
	parts := strings.SplitN(text, "/", 3)
	if len(parts) != 3 || parts[0] == "" || parts[1] == "" || parts[2] == "" {
		return nil, usagef("%q: want NETWORK/KEY/VALUE", text)
	}
	return &pb.Alias{Network: parts[0], Key: parts[1], Value: parts[2]}, nil
}

func aliasPut(a *app, project *string, use, short, done string, put func(context.Context, *node, *pb.NamedAlias) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " NETWORK/KEY/VALUE TWIN", Short: short, Args: exactly("NETWORK/KEY/VALUE", "TWIN"),
		Example: "  pollux alias " + use + " lora/deveui/a84041 meter-1\n  pollux alias " + use + " lora/deveui/a84041 meter-1 --project hotel",
		RunE: func(cmd *cobra.Command, args []string) error {
			alias, err := parseAlias(args[0])
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			m := &pb.NamedAlias{Project: *project, Alias: alias, Twin: args[1]}
			if err := put(cmd.Context(), n, m); err != nil {
				return err
			}
			return a.show(m, func(w io.Writer) { row(w, "alias "+args[0]+" is "+done) })
		},
	}
}

func aliasOf(a *app, project *string) *cobra.Command {
	return &cobra.Command{
		Use: "get NETWORK/KEY/VALUE", Short: "Show whose an alias is", Args: exactly("NETWORK/KEY/VALUE"), Example: "  pollux alias get lora/deveui/a84041",
		RunE: func(cmd *cobra.Command, args []string) error {
			alias, err := parseAlias(args[0])
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.aliases.GetAlias(cmd.Context(), req(&pb.GetAliasRequest{Project: *project, Alias: alias}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Named, func(w io.Writer) { listAliases(w, []*pb.NamedAlias{res.Msg.Named}) })
		},
	}
}

func aliasList(a *app) *cobra.Command {
	r := &pb.ListAliasesRequest{PageSize: pageSize}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the aliases of a project, or find some", Args: exactly(),
		Example: "  pollux alias list\n  pollux alias list --network lora --project hotel\n  pollux alias list --twin meter-1\n  pollux alias list --text a8404",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			r.Project = cmd.Flag("project").Value.String()
			all := &pb.ListAliasesResponse{}
			for {
				res, err := n.aliases.ListAliases(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				all.Aliases = append(all.Aliases, res.Msg.Aliases...)
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) { listAliases(w, all.Aliases) })
		},
	}
	cmd.Flags().StringVar(&r.Network, "network", "", "only of this network")
	cmd.Flags().StringVar(&r.Key, "with-key", "", "only of this key of the network")
	cmd.Flags().StringVar(&r.Twin, "twin", "", "only of this twin")
	cmd.Flags().StringVar(&r.Text, "text", "", "only those that have this in them, or in their twin's id")
	return cmd
}

func listAliases(w io.Writer, all []*pb.NamedAlias) {
	row(w, "NETWORK", "KEY", "VALUE", "TWIN")
	for _, m := range all {
		row(w, m.Alias.GetNetwork(), m.Alias.GetKey(), m.Alias.GetValue(), bare(m.Twin))
	}
}
