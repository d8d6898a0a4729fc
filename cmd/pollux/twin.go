package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func twinCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "twin",
		Aliases: []string{"twins"},
		Short:   "Create twins, read them and command them",
		Long: `A twin is the living counterpart of one device. Its id is PROJECT/NAME; a bare NAME is in the project
"default".`,
		Example: `  pollux twin create beamer --driver pjlink --uri tcp://10.0.0.7:4352 --label room=aula
  pollux twin list --label room=aula
  pollux twin get beamer
  pollux twin set beamer power on          wait until the device confirms
  pollux twin call beamer refresh          run an action
  pollux twin release beamer               end its quarantine
  pollux twin watch beamer                 every change, live
  pollux twin history beamer lamp_hours --since 24h
  pollux twin trace beamer                 every byte sent and received`,
	}))
	cmd.AddCommand(twinCreate(a), twinGet(a), twinList(a), twinUpdate(a), twinRemove(a), twinCall(a), twinSet(a), twinClear(a), twinRelease(a),
		twinWatch(a), twinTrace(a), twinRecord(a), twinHistory(a), twinLogs(a), twinDescription(a), settingsCommand(a, settingsOfTwin))
	return cmd
}

// bare leaves the default project's name away.
func bare(id string) string { return strings.TrimPrefix(id, "default/") }

func twinCreate(a *app) *cobra.Command {
	var f twinFlags
	cmd := &cobra.Command{
		Use:   "create ID (--driver NAME[@VERSION] | --model NAME)",
		Short: "Create a twin for a device",
		Example: `  pollux twin create beamer --driver pjlink --uri tcp://10.0.0.7:4352 --setting password=secret
  pollux twin create lamp1 --driver tasmota --setting topic=tasmota_1 --label room=aula --zone aula
  pollux twin create pump --driver pjlink --uri tcp://10.1.0.9:4352 --selector 'site=berlin,zone=a'
  pollux twin create room1 --model room --alias lora/eui/70B3D5      without a driver: the model reads its messages

A selector says on which nodes the twin may live; all of its conditions must hold:
  site=berlin  zone!=a  rack in (r1,r2)  disk notin (hdd)  gpu  !tape
site and zone are what the nodes' --site and --availability-zone say, every other name is one of their --label. A twin that
no node satisfies is unavailable until one does.`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.driver == "" && f.model == "" {
				return usagef("--driver or --model is missing: `pollux driver list` and `pollux model list` show what there is")
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			t := &pb.Twin{Id: args[0]}
			if err := f.apply(cmd.Context(), cmd, n, t); err != nil {
				return err
			}
			res, err := n.twins.CreateTwin(cmd.Context(), req(&pb.CreateTwinRequest{Twin: t}))
			if err != nil {
				return err
			}
			a.warn(res.Msg.Warnings)
			return a.show(res.Msg.Twin, func(w io.Writer) {
				fmt.Fprintf(w, "twin %s created; see: pollux twin get %s\n", res.Msg.Twin.Id, bare(res.Msg.Twin.Id))
			})
		},
	}
	f.add(cmd)
	must(cmd.RegisterFlagCompletionFunc("driver", flagCompletion(a.completeDrivers())))
	must(cmd.RegisterFlagCompletionFunc("model", flagCompletion(a.completeModels())))
	return cmd
}

func twinUpdate(a *app) *cobra.Command {
	var f twinFlags
	cmd := &cobra.Command{
		Use:   "update ID",
		Short: "Change a twin's configuration",
		Long: `Changes what the flags name and leaves the rest. NAME= without a value removes a label or a setting.
If somebody else changes the twin at the same time, nothing is changed and the command fails.`,
		Example: `  pollux twin update beamer --uri tcp://10.0.0.8
  pollux twin update beamer --driver pjlink@1.1.0 --label room=hall --label old=
  pollux twin update beamer --selector site=berlin     it moves to a node in berlin; --selector= lets it live anywhere
  pollux twin update beamer --stopped
  pollux twin update beamer --stopped=false`,
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			got, err := n.twins.GetTwin(cmd.Context(), req(&pb.GetTwinRequest{Id: args[0]}))
			if err != nil {
				return err
			}
			t := got.Msg.Twin
			t.State = nil
			if err := f.apply(cmd.Context(), cmd, n, t); err != nil {
				return err
			}
			res, err := n.twins.UpdateTwin(cmd.Context(), req(&pb.UpdateTwinRequest{Twin: t}))
			if err != nil {
				return err
			}
			a.warn(res.Msg.Warnings)
			return a.show(res.Msg.Twin, func(w io.Writer) {
				fmt.Fprintf(w, "twin %s updated, revision %d\n", res.Msg.Twin.Id, res.Msg.Twin.Revision)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func twinList(a *app) *cobra.Command {
	var f filterFlags
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List twins with their status and the values that say most",
		Example: "  pollux twin list\n  pollux twin list --label room=aula --status disconnected\n  pollux twin list --faulty -o json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.filter()
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			all, err := n.listTwins(cmd.Context(), filter, limit)
			if err != nil {
				return err
			}
			now := time.Now()
			var models map[string]model
			if a.table() {
				models = n.models(cmd.Context(), all.Twins)
			}
			err = a.show(all, func(w io.Writer) { listTwins(w, all.Twins, models, now) })
			if err == nil && all.NextPageToken != "" {
				a.errorf("there are more; --limit 0 lists all\n")
			}
			return err
		},
	}
	f.add(cmd)
	cmd.Flags().IntVar(&limit, "limit", 1000, "at most so many; 0: all")
	return cmd
}

func listTwins(w io.Writer, twins []*pb.Twin, models map[string]model, now time.Time) {
	row(w, "ID", "DRIVER", "STATUS", "LAST SEEN", "LABELS", "STATE")
	for _, t := range twins {
		s := t.GetState().GetStatus()
		state := models[kindText(t)].telling(t.GetState().GetProperties())
		if s.GetFault() != "" {
			state = "fault: " + s.Fault
		}
		row(w, bare(t.Id), kindText(t), connectionText(t, s), ago(s.GetLastSeen(), now), dash(labelText(t.Labels)), dash(state))
	}
}

// listTwins walks through the pages; limit 0 takes all.
func (n *node) listTwins(ctx context.Context, filter *pb.TwinFilter, limit int) (*pb.ListTwinsResponse, error) {
	all := &pb.ListTwinsResponse{}
	for token := ""; ; {
		size := pageSize
		if limit > 0 {
			size = min(size, limit-len(all.Twins))
		}
		res, err := n.twins.ListTwins(ctx, req(&pb.ListTwinsRequest{Filter: filter, PageSize: uint32(size), PageToken: token, State: true}))
		if err != nil {
			return nil, err
		}
		all.Twins = append(all.Twins, res.Msg.Twins...)
		all.NextPageToken = res.Msg.NextPageToken
		if token = res.Msg.NextPageToken; token == "" || limit > 0 && len(all.Twins) >= limit {
			return all, nil
		}
	}
}

func twinRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:               "rm ID…",
		Aliases:           []string{"remove", "delete"},
		Short:             "Delete twins; their history stays",
		Example:           "  pollux twin rm beamer",
		Args:              atLeast("ID"),
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			for _, id := range args {
				if _, err := n.twins.DeleteTwin(cmd.Context(), req(&pb.DeleteTwinRequest{Id: id})); err != nil {
					return fmt.Errorf("%s: %w", id, err)
				}
				if err := a.removed("twin", id); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// model gives a twin's Thing Model as refined.
func (n *node) model(ctx context.Context, id string) (thing, error) {
	var m thing
	res, err := n.twins.GetTwin(ctx, req(&pb.GetTwinRequest{Id: id, Model: true}))
	if err != nil {
		return m, err
	}
	if text := res.Msg.Twin.GetState().GetModelJson(); text != "" {
		if err := json.Unmarshal([]byte(text), &m); err != nil {
			return m, fmt.Errorf("model of %s: %w", id, err)
		}
	}
	return m, nil
}
