package main

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func zoneCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "zone",
		Aliases: []string{"zones"},
		Short:   "Places in a tree: regions, buildings, levels, rooms",
		Example: "  pollux zone put hq --kind building --title Headquarters\n  pollux zone put aula --parent hq --kind room\n  pollux zone list",
	}))
	cmd.AddCommand(zonePut(a), zoneList(a),
		remover(a, "rm ID", "Remove a zone that nothing is in", "  pollux zone rm aula", "zone",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.site.DeleteZone(ctx, req(&pb.DeleteZoneRequest{Id: id}))
				return err
			}))
	return cmd
}

// remover makes the command that deletes one record.
func remover(a *app, use, short, example, kind string, remove func(context.Context, *node, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use, Aliases: []string{"remove", "delete"}, Short: short, Example: example, Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			if err := remove(cmd.Context(), n, args[0]); err != nil {
				return err
			}
			return a.removed(kind, args[0])
		},
	}
}

func zonePut(a *app) *cobra.Command {
	var z pb.Zone
	cmd := &cobra.Command{
		Use: "put ID", Aliases: []string{"create", "update"},
		Short:   "Create or replace a zone",
		Example: "  pollux zone put aula --parent hq --kind room --title \"Great hall\"",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.site.PutZone(cmd.Context(), req(&pb.PutZoneRequest{Zone: &pb.Zone{
				Id: args[0], Parent: z.Parent, Title: z.Title, Kind: z.Kind, Revision: z.Revision}}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Zone, func(w io.Writer) { row(w, "zone "+res.Msg.Zone.Id+" is there") })
		},
	}
	cmd.Flags().StringVar(&z.Parent, "parent", "", "zone that it is part of")
	cmd.Flags().StringVar(&z.Title, "title", "", "name for people")
	cmd.Flags().StringVar(&z.Kind, "kind", "", "region, building, level, room; free")
	cmd.Flags().Uint64Var(&z.Revision, "revision", 0, "only if it is still at this revision")
	return cmd
}

func zoneList(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the zones", Example: "  pollux zone list", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListZonesResponse{}
			for token := ""; ; {
				res, err := n.site.ListZones(cmd.Context(), req(&pb.ListZonesRequest{Project: project, PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Zones = append(all.Zones, res.Msg.Zones...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) {
				row(w, "ID", "PARENT", "KIND", "TITLE")
				for _, z := range all.Zones {
					row(w, bare(z.Id), dash(bare(z.Parent)), dash(z.Kind), z.Title)
				}
			})
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}

func systemCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "system",
		Aliases: []string{"systems"},
		Short:   "Twins that work together, each with a name such as Display_1",
		Example: "  pollux system put room1 --zone aula --member Display_1=beamer --member Lights_1=lamp1\n  pollux system list",
	}))
	cmd.AddCommand(systemPut(a), systemList(a),
		remover(a, "rm ID", "Remove a system; its twins stay", "  pollux system rm room1", "system",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.site.DeleteSystem(ctx, req(&pb.DeleteSystemRequest{Id: id}))
				return err
			}))
	return cmd
}

func systemPut(a *app) *cobra.Command {
	var title, zone string
	var members []string
	var revision uint64
	cmd := &cobra.Command{
		Use: "put ID", Aliases: []string{"create", "update"},
		Short:   "Create or replace a system",
		Example: "  pollux system put room1 --title \"Room 1\" --member Display_1=beamer --member Display_2=screen",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := &pb.System{Id: args[0], Title: title, Zone: zone, Revision: revision}
			for _, m := range members {
				name, twin, ok := strings.Cut(m, "=")
				if !ok || name == "" || twin == "" {
					return usagef("--member %q: want NAME=TWIN", m)
				}
				s.Members = append(s.Members, &pb.System_Member{Name: name, Twin: twin})
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.site.PutSystem(cmd.Context(), req(&pb.PutSystemRequest{System: s}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.System, func(w io.Writer) { row(w, "system "+res.Msg.System.Id+" is there") })
		},
	}
	cmd.Flags().StringVar(&title, "title", "", "name for people")
	cmd.Flags().StringVar(&zone, "zone", "", "zone that it is in")
	cmd.Flags().StringArrayVar(&members, "member", nil, "twin as NAME=TWIN, in order; many times")
	cmd.Flags().Uint64Var(&revision, "revision", 0, "only if it is still at this revision")
	return cmd
}

func systemList(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the systems", Example: "  pollux system list", Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListSystemsResponse{}
			for token := ""; ; {
				res, err := n.site.ListSystems(cmd.Context(), req(&pb.ListSystemsRequest{Project: project, PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Systems = append(all.Systems, res.Msg.Systems...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) {
				row(w, "ID", "ZONE", "TITLE", "MEMBERS")
				for _, s := range all.Systems {
					members := names(s.Members, func(m *pb.System_Member) string { return m.Name + "=" + bare(m.Twin) })
					row(w, bare(s.Id), dash(bare(s.Zone)), dash(s.Title), dash(strings.Join(members, " ")))
				}
			})
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}

func inboxCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "inbox",
		Short:   "What announced itself and is no twin yet",
		Example: "  pollux inbox list",
	}))
	cmd.AddCommand(inboxList(a))
	return cmd
}

func inboxList(a *app) *cobra.Command {
	var project string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List what announced itself", Args: exactly(),
		Long: `Lists devices that drivers discovered and senders that nobody knows. To take one in, create a twin with its
driver, settings and alias.`,
		Example: "  pollux inbox list\n  pollux inbox list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListInboxResponse{}
			for token := ""; ; {
				res, err := n.site.ListInbox(cmd.Context(), req(&pb.ListInboxRequest{Project: project, PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Entries = append(all.Entries, res.Msg.Entries...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			return a.show(all, func(w io.Writer) {
				row(w, "ALIAS", "NAME", "DRIVER", "SEEN BY", "SETTINGS")
				for _, e := range all.Entries {
					alias := e.GetAlias().GetNetwork() + "/" + e.GetAlias().GetKey() + "/" + e.GetAlias().GetValue()
					row(w, alias, dash(e.Name), dash(e.Driver), dash(bare(e.Via)), dash(e.SettingsJson))
				}
			})
		},
	}
	cmd.Flags().StringVar(&project, "project", "", "only of this project")
	return cmd
}
