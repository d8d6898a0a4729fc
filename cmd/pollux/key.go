package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func keyCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "key",
		Aliases: []string{"keys"},
		Short:   "API keys, and the MQTT passwords of devices",
		Long: `Roles: admin may do everything, operator reads and commands twins, viewer reads, device speaks MQTT within the
topics of its twin. A key's secret is shown once.`,
		Example: `  pollux key create --role viewer --name grafana
  pollux key create --role operator --project hotel --expires 720h
  pollux key create --device lamp1
  pollux key list`,
	}))
	cmd.AddCommand(keyCreate(a), keyList(a),
		remover(a, "rm ID", "Delete a key; what uses it is shut out at once", "  pollux key rm k3jq5z7m2xwa", "key",
			func(ctx context.Context, n *node, id string) error {
				_, err := n.keys.DeleteKey(ctx, req(&pb.DeleteKeyRequest{Id: id}))
				return err
			}))
	return cmd
}

func keyCreate(a *app) *cobra.Command {
	var name, role, project, device string
	var expires time.Duration
	cmd := &cobra.Command{
		Use:   "create --role ROLE | --device TWIN",
		Short: "Create a key and print its secret, once",
		Example: `  pollux key create --role viewer --name grafana
  pollux key create --device lamp1         MQTT user lamp1, with the printed password`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case device != "" && role != "" && role != "device":
				return usagef("--device goes with role device, not %s", role)
			case device != "":
				role = "device"
			case role == "":
				return usagef("--role or --device is missing")
			}
			if expires < 0 {
				return usagef("--expires %s: want how long it is valid, such as 720h; 0 is for ever", expires)
			}
			k := &pb.Key{Name: name, Role: role, Project: project, Device: device}
			if expires > 0 {
				k.ExpireTime = timestamppb.New(time.Now().Add(expires))
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.keys.CreateKey(cmd.Context(), req(&pb.CreateKeyRequest{Key: k}))
			if err != nil {
				return err
			}
			a.warnNoTwin(cmd.Context(), n, res.Msg.Key.Device)
			return a.show(res.Msg, func(w io.Writer) {
				if d := res.Msg.Key.Device; d != "" {
					fmt.Fprintf(w, "MQTT user\t%s\nMQTT password\t%s\n", d, res.Msg.Secret)
				} else {
					fmt.Fprintf(w, "%s\n", res.Msg.Secret)
				}
				a.errorf("key %s created; its secret is not shown again\n", res.Msg.Key.Id)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what it is for; shown as who did something")
	cmd.Flags().StringVar(&role, "role", "", "admin, operator or viewer")
	cmd.Flags().StringVar(&project, "project", "", "only for this project (default: all)")
	cmd.Flags().StringVar(&device, "device", "", "MQTT password of this twin's device")
	cmd.Flags().DurationVar(&expires, "expires", 0, "valid for so long, such as 720h (default: for ever)")
	must(cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions([]string{"admin", "operator", "viewer"}, cobra.ShellCompDirectiveNoFileComp)))
	must(cmd.RegisterFlagCompletionFunc("device", flagCompletion(a.completeTwins())))
	return cmd
}

// warnNoTwin says where a device's key is for a twin that is not there: the broker turns the device away until it is.
func (a *app) warnNoTwin(ctx context.Context, n *node, device string) {
	if device == "" {
		return
	}
	_, err := n.twins.GetTwin(ctx, req(&pb.GetTwinRequest{Id: device}))
	if connect.CodeOf(err) == connect.CodeNotFound {
		a.errorf("warning: there is no twin %s; the key is of no use until there is one: `pollux twin create %s --driver NAME`\n", bare(device), bare(device))
	}
}

func keyList(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the keys, without their secrets", Example: "  pollux key list",
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListKeysResponse{}
			for token := ""; ; {
				res, err := n.keys.ListKeys(cmd.Context(), req(&pb.ListKeysRequest{PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Keys = append(all.Keys, res.Msg.Keys...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			slices.SortStableFunc(all.Keys, func(x, y *pb.Key) int {
				return cmp.Or(x.GetCreateTime().AsTime().Compare(y.GetCreateTime().AsTime()), cmp.Compare(x.Revision, y.Revision))
			})
			now := time.Now()
			return a.show(all, func(w io.Writer) {
				row(w, "ID", "NAME", "ROLE", "PROJECT", "DEVICE", "CREATED", "EXPIRES")
				for _, k := range all.Keys {
					project, expires := k.Project, "never"
					if project == "" {
						project = "(all)"
					}
					if k.ExpireTime != nil {
						expires = timeText(k.ExpireTime, now)
					}
					row(w, k.Id, dash(k.Name), k.Role, project, dash(bare(k.Device)), ago(k.CreateTime, now), expires)
				}
			})
		},
	}
}

func loginCommand(a *app) *cobra.Command {
	return a.client(&cobra.Command{
		Use:   "login",
		Short: "Print a one-time link that opens the console, signed in",
		Long: `Prints a link that signs one browser in with the rights of your key: once, within ten minutes.
The session lasts a week and ends at once when the key is deleted.`,
		Example: "  pollux login\n  xdg-open $(pollux login)",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.keys.CreateLoginLink(cmd.Context(), req(&pb.CreateLoginLinkRequest{}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { fmt.Fprintln(w, n.url()+res.Msg.Path) })
		},
	})
}
