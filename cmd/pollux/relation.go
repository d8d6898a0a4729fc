package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func relationCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "relation",
		Aliases: []string{"relations"},
		Short:   "Typed links between twins, zones and systems",
		Long: `A relation says what one thing is to another: a pump feeds a boiler, a meter measures a zone. It is its two ends and its type, so
that these are its id: FROM/TYPE/TO. Ends are twins by their ids, or zone:ID and system:ID. An end that is deleted takes its
relations with it.`,
		Example: "  pollux relation create pump feeds boiler\n  pollux relation create meter measures zone:cellar\n  pollux relation list --of boiler\n" +
			"  pollux walk default/cellar/pump/@feeds",
	}))
	cmd.AddCommand(relationCreate(a), relationGet(a), relationList(a), relationUpdate(a), watcher(a, "relation", "relations"),
		remover(a, "rm FROM/TYPE/TO", "Remove a relation; its ends stay", "  pollux relation rm pump/feeds/boiler", "relation",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.relations.DeleteRelation(ctx, req(&pb.DeleteRelationRequest{Id: id}))
				return err
			}))
	return cmd
}

// watcher makes the command that follows the records of one kind.
func watcher(a *app, kind, many string) *cobra.Command {
	var after uint64
	cmd := &cobra.Command{
		Use: "watch", Short: "Print the " + many + " that there are, then each change", Args: exactly(),
		Long:    "Prints the " + many + " that there are, then each change as it is committed, until it is stopped (Ctrl-C).",
		Example: "  pollux " + kind + " watch\n  pollux " + kind + " watch -o json",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.watchRecords(cmd.Context(), kind, after) },
	}
	cmd.Flags().Uint64Var(&after, "after", 0, "only changes after this revision")
	return cmd
}

// ofRelation are the flags of what a relation has besides its ends.
type ofRelation struct {
	title      string
	attributes []string
}

func (f *ofRelation) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.title, "title", "", "name for people")
	cmd.Flags().StringArrayVar(&f.attributes, "attribute", nil, "what else is known of it, as `NAME=VALUE`; JSON, else text; many times, '' for nothing")
}

func (f *ofRelation) into(m *pb.Relation) error {
	m.Title = f.title
	for _, text := range f.attributes {
		if text == "" {
			continue
		}
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return usagef("--attribute %q: want NAME=VALUE", text)
		}
		if m.Attributes == nil {
			m.Attributes = &structpb.Struct{Fields: map[string]*structpb.Value{}}
		}
		m.Attributes.Fields[name] = cellValue(value)
	}
	return nil
}

func relationCreate(a *app) *cobra.Command {
	var f ofRelation
	cmd := &cobra.Command{
		Use: "create FROM TYPE TO", Short: "Create a relation from one thing to another", Args: exactly("FROM", "TYPE", "TO"),
		Example: "  pollux relation create pump feeds boiler\n  pollux relation create meter measures zone:cellar --attribute phase=3",
		RunE: func(cmd *cobra.Command, args []string) error {
			m := &pb.Relation{From: args[0], Type: args[1], To: args[2]}
			if err := f.into(m); err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.relations.CreateRelation(cmd.Context(), req(&pb.CreateRelationRequest{Relation: m}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Relation, func(w io.Writer) { row(w, "relation "+res.Msg.Relation.Id+" is there") })
		},
	}
	f.add(cmd)
	return cmd
}

func relationUpdate(a *app) *cobra.Command {
	var f ofRelation
	var revision uint64
	cmd := &cobra.Command{
		Use: "update FROM/TYPE/TO", Short: "Change a relation's title and attributes", Args: exactly("FROM/TYPE/TO"),
		Long:    "Changes what the flags name and leaves the rest; --attribute replaces all of them. Its ends and its type are what a relation is: for others\ncreate another one.",
		Example: "  pollux relation update pump/feeds/boiler --title \"Main loop\"",
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			old, err := n.relations.GetRelation(cmd.Context(), req(&pb.GetRelationRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			m := &pb.Relation{Id: old.Msg.Relation.Id, Revision: revision}
			if err := f.into(m); err != nil {
				return err
			}
			keep(cmd, "title", &m.Title, old.Msg.Relation.Title)
			keep(cmd, "attribute", &m.Attributes, old.Msg.Relation.Attributes)
			keep(cmd, "revision", &m.Revision, old.Msg.Relation.Revision)
			res, err := n.relations.UpdateRelation(cmd.Context(), req(&pb.UpdateRelationRequest{Relation: m}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Relation, func(w io.Writer) { row(w, "relation "+res.Msg.Relation.Id+" is there") })
		},
	}
	f.add(cmd)
	cmd.Flags().Uint64Var(&revision, "revision", 0, "only if it is still at this revision")
	return cmd
}

func relationGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "get FROM/TYPE/TO", Short: "Show a relation", Example: "  pollux relation get pump/feeds/boiler", Args: exactly("FROM/TYPE/TO"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.relations.GetRelation(cmd.Context(), req(&pb.GetRelationRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			m := res.Msg.Relation
			return a.show(m, func(w io.Writer) {
				row(w, "Relation", m.Id)
				row(w, "From", bare(m.From))
				row(w, "Type", m.Type)
				row(w, "To", bare(m.To))
				row(w, "Title", dash(m.Title))
				row(w, "Attributes", dash(attributesText(m.Attributes)))
				row(w, "Revision", fmt.Sprint(m.Revision))
			})
		},
	}
}

func attributesText(s *structpb.Struct) string {
	if len(s.GetFields()) == 0 {
		return ""
	}
	text, err := s.MarshalJSON()
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func relationList(a *app) *cobra.Command {
	r := &pb.ListRelationsRequest{}
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List relations, of all things or of one", Args: exactly(),
		Example: "  pollux relation list\n  pollux relation list --of pump\n  pollux relation list --to boiler --type feeds",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListRelationsResponse{}
			for {
				r.PageSize = pageSize
				res, err := n.relations.ListRelations(cmd.Context(), connect.NewRequest(r))
				if err != nil {
					return err
				}
				all.Relations = append(all.Relations, res.Msg.Relations...)
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) {
				row(w, "FROM", "TYPE", "TO", "TITLE")
				for _, m := range all.Relations {
					row(w, bare(m.From), m.Type, bare(m.To), dash(m.Title))
				}
			})
		},
	}
	cmd.Flags().StringVar(&r.Project, "project", "", "only of this project")
	cmd.Flags().StringVar(&r.Of, "of", "", "only of this twin, zone:ID or system:ID, whichever end it is")
	cmd.Flags().StringVar(&r.From, "from", "", "only those from it")
	cmd.Flags().StringVar(&r.To, "to", "", "only those to it")
	cmd.Flags().StringVar(&r.Type, "type", "", "only of this type")
	return cmd
}

func walkCommand(a *app) *cobra.Command {
	var state bool
	cmd := a.client(&cobra.Command{
		Use:   "walk PATH",
		Short: "Go down the places of a project to twins, and along relations",
		Long: `Goes from a project down its zones to a twin, and along relations, and shows what is there. The path begins with the project;
each further word is one of

  NAME          a zone in the zone before, or a twin in it; behind a system, the name of a member
  system:NAME   a system
  @TYPE         what the things reached so far have a relation of that type to
  @-TYPE        what has a relation of that type to them
  NAME          behind @TYPE: one of the things reached`,
		Example: "  pollux walk default\n  pollux walk default/hq/cellar\n  pollux walk default/hq/cellar/pump/@feeds\n  pollux walk default/hq/cellar/pump/@feeds/boiler/@-measures --state -o json",
		Args:    exactly("PATH"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			r := &pb.WalkRequest{Path: args[0], PageSize: pageSize, State: state}
			var all *pb.WalkResponse
			for {
				res, err := n.relations.Walk(cmd.Context(), req(r))
				if err != nil {
					return err
				}
				if all == nil {
					all = res.Msg
				} else {
					all.Twins = append(all.Twins, res.Msg.Twins...)
				}
				if r.PageToken = res.Msg.NextPageToken; r.PageToken == "" {
					break
				}
			}
			all.NextPageToken = ""
			return a.show(all, func(w io.Writer) { walked(w, all) })
		},
	})
	cmd.Flags().BoolVar(&state, "state", false, "the twins' states too (-o json)")
	return cmd
}

func walked(w io.Writer, at *pb.WalkResponse) {
	if len(at.Zones)+len(at.Systems)+len(at.Twins) == 0 && at.Twin == nil && at.System == nil && at.Zone == nil {
		fmt.Fprintln(w, "nothing is there")
		return
	}
	switch {
	case at.Twin != nil:
		row(w, "Twin", at.Twin.Id)
	case at.System != nil:
		row(w, "System", at.System.Id)
	case at.Zone != nil:
		row(w, "Zone", at.Zone.Id)
	}
	if len(at.TypesFrom) > 0 {
		row(w, "From it", "@"+strings.Join(at.TypesFrom, ", @"))
	}
	if len(at.TypesTo) > 0 {
		row(w, "To it", "@-"+strings.Join(at.TypesTo, ", @-"))
	}
	for _, z := range at.Zones {
		row(w, "zone", bare(z.Id), dash(z.Title))
	}
	for _, s := range at.Systems {
		row(w, "system", bare(s.Id), dash(s.Title))
	}
	for _, t := range at.Twins {
		what := t.Driver
		if what == "" {
			what = bare(t.Model)
		}
		row(w, "twin", bare(t.Id), what)
	}
	if at.Zone == nil && at.System == nil && at.Twin == nil && len(at.Zones)+len(at.Systems)+len(at.Twins) == 0 {
		row(w, "nothing", "is there: no zone, no system, and nothing at the end of such a relation")
	}
}
