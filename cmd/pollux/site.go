package main

import (
	"cmp"
	"context"
	"io"
	"strings"

	"connectrpc.com/connect"
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
	cmd.AddCommand(zonePut(a), zoneGet(a), zoneList(a), watcher(a, "zone", "zones"), settingsCommand(a, settingsOfZone),
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
	var place string
	cmd := &cobra.Command{
		Use: "put ID", Aliases: []string{"create", "update"},
		Short:   "Create or change a zone",
		Long:    putHelp,
		Example: "  pollux zone put aula --parent hq --kind room --title \"Great hall\"\n  pollux zone put aula --title Aula",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			if place != "" {
				if z.Place, err = parsePlace(place); err != nil {
					return err
				}
			}
			z.Id = args[0]
			put := func() (*pb.Zone, error) {
				res, err := n.site.PutZone(cmd.Context(), req(&pb.PutZoneRequest{Zone: &z}))
				if err != nil {
					return nil, err
				}
				return res.Msg.Zone, nil
			}
			made, err := putPart(&z.Revision, put, func() (uint64, error) {
				old, err := n.zone(cmd.Context(), args[0])
				if err != nil {
					return 0, err
				}
				keep(cmd, "parent", &z.Parent, old.Parent)
				keep(cmd, "title", &z.Title, old.Title)
				keep(cmd, "kind", &z.Kind, old.Kind)
				keep(cmd, "place", &z.Place, old.Place)
				return old.Revision, nil
			})
			if err != nil {
				return err
			}
			return a.show(made, func(w io.Writer) { row(w, "zone "+made.Id+" is there") })
		},
	}
	cmd.Flags().StringVar(&z.Parent, "parent", "", "zone that it is part of")
	cmd.Flags().StringVar(&z.Title, "title", "", "name for people")
	cmd.Flags().StringVar(&place, "place", "", "where it is, for sunrise and sunset: `LATITUDE,LONGITUDE`; '' for where its parent is")
	cmd.Flags().StringVar(&z.Kind, "kind", "", "region, building, level, room, or a word of your own")
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
			all, err := n.zones(cmd.Context(), project)
			if err != nil {
				return err
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
	cmd.AddCommand(systemPut(a), systemGet(a), systemList(a), watcher(a, "system", "systems"), systemStart(a), systemStop(a), systemCall(a), settingsCommand(a, settingsOfSystem),
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
		Short:   "Create or change a system",
		Long:    putHelp + "\nMembers are given together: --member replaces all of them.",
		Example: "  pollux system put room1 --title \"Room 1\" --member Display_1=beamer --member Display_2=screen\n  pollux system put room1 --zone aula",
		Args:    exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := &pb.System{Id: args[0], Title: title, Zone: zone, Revision: revision}
			for _, m := range members {
				if m == "" {
					continue
				}
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
			put := func() (*pb.System, error) {
				res, err := n.site.PutSystem(cmd.Context(), req(&pb.PutSystemRequest{System: s}))
				if err != nil {
					return nil, err
				}
				return res.Msg.System, nil
			}
			made, err := putPart(&s.Revision, put, func() (uint64, error) {
				old, err := n.system(cmd.Context(), args[0])
				if err != nil {
					return 0, err
				}
				keep(cmd, "title", &s.Title, old.Title)
				keep(cmd, "zone", &s.Zone, old.Zone)
				keep(cmd, "member", &s.Members, old.Members)
				return old.Revision, nil
			})
			if err != nil {
				return err
			}
			return a.show(made, func(w io.Writer) { row(w, "system "+made.Id+" is there") })
		},
	}
	cmd.Flags().StringVar(&title, "title", "", "name for people")
	cmd.Flags().StringVar(&zone, "zone", "", "zone that it is in")
	cmd.Flags().StringArrayVar(&members, "member", nil, "twin as `NAME=TWIN`, in order; many times, '' for none")
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
			all, err := n.systems(cmd.Context(), project)
			if err != nil {
				return err
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

const putHelp = `Creates what is not there yet. Of what is there, it changes what the flags name and leaves the rest. If somebody else
changes it at the same time, nothing is changed and the command fails.`

// putPart makes a record by put, or changes the one that is there: old keeps of it what the command line does not name, and gives its revision. Where a
// revision is asked for it is there.
func putPart[T any](revision *uint64, put func() (T, error), old func() (uint64, error)) (made T, err error) {
	if *revision == 0 {
		if made, err = put(); connect.CodeOf(err) != connect.CodeAlreadyExists {
			return made, err
		}
	}
	now, err := old()
	if err != nil {
		return made, err
	}
	*revision = cmp.Or(*revision, now)
	return put()
}

// keep takes the former value of what the command line does not name.
func keep[T any](cmd *cobra.Command, flag string, to *T, old T) {
	if !cmd.Flags().Changed(flag) {
		*to = old
	}
}

// zones of a project, or of all.
func (n *node) zones(ctx context.Context, project string) (*pb.ListZonesResponse, error) {
	all := &pb.ListZonesResponse{}
	for token := ""; ; {
		res, err := n.site.ListZones(ctx, req(&pb.ListZonesRequest{Project: project, PageSize: pageSize, PageToken: token}))
		if err != nil {
			return nil, err
		}
		all.Zones = append(all.Zones, res.Msg.Zones...)
		if token = res.Msg.NextPageToken; token == "" {
			return all, nil
		}
	}
}

// systems of a project, or of all.
func (n *node) systems(ctx context.Context, project string) (*pb.ListSystemsResponse, error) {
	all := &pb.ListSystemsResponse{}
	for token := ""; ; {
		res, err := n.site.ListSystems(ctx, req(&pb.ListSystemsRequest{Project: project, PageSize: pageSize, PageToken: token}))
		if err != nil {
			return nil, err
		}
		all.Systems = append(all.Systems, res.Msg.Systems...)
		if token = res.Msg.NextPageToken; token == "" {
			return all, nil
		}
	}
}

func (n *node) zone(ctx context.Context, id string) (*pb.Zone, error) {
	res, err := n.site.GetZone(ctx, req(&pb.GetZoneRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	return res.Msg.Zone, nil
}

func (n *node) system(ctx context.Context, id string) (*pb.System, error) {
	res, err := n.site.GetSystem(ctx, req(&pb.GetSystemRequest{Id: id}))
	if err != nil {
		return nil, err
	}
	return res.Msg.System, nil
}

// whole gives an id with its project.
func whole(id string) (project, full string) {
	if project, _, ok := strings.Cut(id, "/"); ok {
		return project, id
	}
	return "default", "default/" + id
}
