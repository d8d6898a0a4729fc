package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// pageSize of lists that the command line walks through.
const pageSize = 500

func driverCommand(a *app) *cobra.Command {
	cmd := group(a.client(&cobra.Command{
		Use:     "driver",
		Aliases: []string{"drivers"},
		Short:   "Write, test, install and list drivers: the files that speak to devices",
		Example: `  pollux driver catalog              what pollux carries
  pollux driver add pjlink           install one of them
  pollux driver get pjlink           properties, actions and settings
  pollux driver new my-lamp          begin your own
  pollux driver test ./my-lamp       run its tests, without a device and without a node
  pollux driver push ./my-lamp       install it`,
	}))
	cmd.AddCommand(driverNew(a), driverBuild(a), driverPack(a), driverTest(a), driverPush(a), driverDev(a), driverLogs(a),
		driverVersions(a), driverRollout(a), driverRollback(a), driverAdd(a), driverCatalog(a), driverList(a), driverGet(a), driverRemove(a),
		driverVerify(a), driverSchema(a), driverRelease(a), driverInterfaces(a), driverReplay(a), driverScan(a), settingsCommand(a, settingsOfDriver))
	return cmd
}

func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	file, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(file)) > limit {
		return nil, fmt.Errorf("%s is larger than %s", path, bytesText(uint64(limit)))
	}
	return file, nil
}

func driverAdd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "add NAME",
		Short:   "Install a driver that pollux carries",
		Example: "  pollux driver catalog              shows the names\n  pollux driver add pjlink",
		Args:    exactly("NAME"),
		ValidArgsFunction: a.complete(func(cmd *cobra.Command, n *node) ([]string, error) {
			res, err := n.drivers.ListCatalog(cmd.Context(), req(&pb.ListCatalogRequest{}))
			if err != nil {
				return nil, err
			}
			return names(res.Msg.Drivers, (*pb.Driver).GetName), nil
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.drivers.AddFromCatalog(cmd.Context(), req(&pb.AddFromCatalogRequest{Name: args[0]}))
			if err != nil {
				return err
			}
			if d := res.Msg.Driver; res.Msg.Differs {
				return a.show(res.Msg, func(w io.Writer) {
					fmt.Fprintf(w, "%s@%s is there already, from another build of pollux, and stays: a version keeps its file\n", d.Name, d.Version)
				})
			}
			return a.installed(res.Msg, res.Msg.Driver, res.Msg.Created)
		},
	}
}

func (a *app) installed(m message, d *pb.Driver, created bool) error {
	return a.show(m, func(w io.Writer) {
		if created {
			fmt.Fprintf(w, "installed %s@%s (%s, sha256 %.12s)\n", d.Name, d.Version, bytesText(d.Size), d.Digest)
			return
		}
		fmt.Fprintf(w, "%s@%s is there already, with the same bytes\n", d.Name, d.Version)
	})
}

func driverCatalog(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "catalog",
		Short:   "List the drivers that pollux carries",
		Example: "  pollux driver catalog",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.drivers.ListCatalog(cmd.Context(), req(&pb.ListCatalogRequest{}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				row(w, "NAME", "VERSION", "TRANSPORT", "SIZE", "TITLE")
				for _, d := range res.Msg.Drivers {
					row(w, d.Name, d.Version, dash(strings.Join(d.Transports, ",")), bytesText(d.Size), d.Title)
				}
			})
		},
	}
}

func driverList(a *app) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the installed drivers",
		Example: "  pollux driver list\n  pollux driver list --name pjlink -o json",
		Args:    exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			all := &pb.ListDriversResponse{}
			for token := ""; ; {
				res, err := n.drivers.ListDrivers(cmd.Context(), req(&pb.ListDriversRequest{Name: name, PageSize: pageSize, PageToken: token}))
				if err != nil {
					return err
				}
				all.Drivers = append(all.Drivers, res.Msg.Drivers...)
				if token = res.Msg.NextPageToken; token == "" {
					break
				}
			}
			now := time.Now()
			return a.show(all, func(w io.Writer) {
				row(w, "NAME", "VERSION", "TWINS", "TRANSPORT", "SIZE", "INSTALLED", "TITLE")
				for _, d := range all.Drivers {
					row(w, d.Name, d.Version, d.Twins, dash(strings.Join(d.Transports, ",")), bytesText(d.Size), ago(d.CreateTime, now), d.Title)
				}
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "only the versions of this driver")
	return cmd
}

func driverGet(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "get NAME[@VERSION]",
		Short:   "Show a driver: its properties, actions, events and settings",
		Example: "  pollux driver get pjlink\n  pollux driver get pjlink@1.0.0 -o json",
		Args:    exactly("NAME"),

		ValidArgsFunction: a.completeDrivers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			name, version, _ := strings.Cut(args[0], "@")
			res, err := n.drivers.GetDriver(cmd.Context(), req(&pb.GetDriverRequest{Name: name, Version: version}))
			if err != nil {
				return err
			}
			return a.show(res.Msg.Driver, func(w io.Writer) { describeDriver(w, res.Msg.Driver) })
		},
	}
}

func driverRemove(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME[@VERSION]",
		Aliases: []string{"remove", "delete"},
		Short:   "Remove a driver that no twin uses",
		Long:    "Removes a version, or, without one, every version. Refused while twins are pinned to it, or where nothing else is left for those that are not.",
		Example: "  pollux driver rm pjlink@1.0.0",
		Args:    exactly("NAME"),

		ValidArgsFunction: a.completeDrivers(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			name, version, _ := strings.Cut(args[0], "@")
			if _, err := n.drivers.DeleteDriver(cmd.Context(), req(&pb.DeleteDriverRequest{Name: name, Version: version})); err != nil {
				return err
			}
			return a.removed("driver", args[0])
		},
	}
}

// removed says what is gone; as JSON or YAML there is nothing to say.
func (a *app) removed(kind, id string) error {
	if a.table() {
		a.printf("%s %s removed\n", kind, id)
	}
	return nil
}
