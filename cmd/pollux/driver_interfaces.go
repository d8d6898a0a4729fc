package main

import (
	"io"
	"strings"

	"github.com/spf13/cobra"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func driverInterfaces(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "interfaces [NAME]",
		Short: "List the standard interfaces, and the drivers that implement them",
		Long: `A standard interface is what devices of one kind have in common: names, types and units of properties, actions and
events. A driver's manifest lists those that its model implements (interfaces), and is refused where something of them is missing.`,
		Example: `  pollux driver interfaces
  pollux driver interfaces Climate             what it asks for
  pollux twin list --interface Powerable       the twins that have it`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("one NAME, or none")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.drivers.ListInterfaces(cmd.Context(), req(&pb.ListInterfacesRequest{}))
			if err != nil {
				return err
			}
			if len(args) == 0 {
				return a.show(res.Msg, func(w io.Writer) {
					row(w, "INTERFACE", "DRIVERS", "WHAT IT IS")
					for _, i := range res.Msg.Interfaces {
						row(w, i.Name, dash(strings.Join(i.Drivers, ", ")), i.Description)
					}
				})
			}
			for _, i := range res.Msg.Interfaces {
				if strings.EqualFold(i.Name, args[0]) {
					return a.show(i, func(w io.Writer) { drawInterface(w, i) })
				}
			}
			return usagef("there is no interface %q: `pollux driver interfaces` lists them", args[0])
		},
	}
}

func drawInterface(w io.Writer, i *pb.Interface) {
	row(w, i.Name, i.Description)
	m := readManifest(`{"model":` + i.ModelJson + `}`).Model
	affordances(w, "Properties", m.Properties)
	affordances(w, "Actions", m.Actions)
	affordances(w, "Events", m.Events)
	row(w)
	row(w, "Drivers", dash(strings.Join(i.Drivers, ", ")))
}
