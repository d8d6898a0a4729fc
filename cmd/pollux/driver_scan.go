package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func driverScan(a *app) *cobra.Command {
	var project, network, options string
	var timeout time.Duration
	var port uint16
	cmd := &cobra.Command{
		Use:   "scan NAME[@VERSION] --network CIDR",
		Short: "Look for a driver's devices in a network",
		Long: `Has a driver look for its devices in a network, from the node that you speak to, and lists what answers. What is no
twin yet is in the inbox afterwards (pollux inbox list). Nothing outside of the network is spoken to, and the scan ends
after --timeout.`,
		Example: `  pollux driver scan bacnet --network 10.0.0.0/24
  pollux driver scan knx --network 192.168.1.0/24 --timeout 10s
  pollux driver scan pjlink --network 10.0.0.0/24               projectors of class 2, which take up to ten seconds
  pollux driver scan esphome --network 10.0.0.0/24              by multicast DNS, as shelly
  pollux driver scan http-json --network 10.0.0.0/24            by SSDP
  pollux driver scan modbus --network 10.0.0.9 --options '{"units": [1, 2]}'
  pollux driver scan modbus --network 10.0.0.9 --port 1502      where they do not listen at the usual port
  pollux inbox list                                             what was found and is no twin yet
  pollux inbox claim NETWORK/KEY/VALUE NAME                     makes a twin of it`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case network == "":
				return usagef("--network: which network is to be looked through, such as 10.0.0.0/24")
			case options != "" && !json.Valid([]byte(options)):
				return usagef("--options %q: want JSON, such as '{\"units\": [1, 2]}'", options)
			case timeout < 0 || timeout > time.Minute:
				return usagef("--timeout %s: a minute is the most", timeout)
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			ask := &pb.ScanRequest{Driver: args[0], Project: project, Network: network, OptionsJson: options, Port: uint32(port)}
			if timeout > 0 {
				ask.Timeout = durationpb.New(timeout)
			}
			res, err := n.drivers.Scan(cmd.Context(), req(ask))
			if err != nil {
				return n.notInstalled(cmd.Context(), args[0], err)
			}
			return a.show(res.Msg, func(w io.Writer) { drawScan(w, res.Msg) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&network, "network", "", "network to look through, such as 10.0.0.0/24, or one address; 1,024 addresses at most")
	f.DurationVar(&timeout, "timeout", 0, "how long answers are waited for; default: as the driver says")
	f.Uint16Var(&port, "port", 0, "port at which the devices listen; default: the driver's")
	f.StringVar(&options, "options", "", "the scan's options as the driver knows them, JSON")
	f.StringVar(&project, "project", "", "project whose inbox gets what is found; default: default")
	return cmd
}

// notInstalled says how to install the driver whose absence is why something was not found; other errors stay as they are.
func (n *node) notInstalled(ctx context.Context, name string, err error) error {
	if connect.CodeOf(err) != connect.CodeNotFound {
		return err
	}
	name, _, _ = strings.Cut(name, "@")
	if _, missing := n.drivers.GetDriver(ctx, req(&pb.GetDriverRequest{Name: name})); connect.CodeOf(missing) != connect.CodeNotFound {
		return err
	}
	catalog, listed := n.drivers.ListCatalog(ctx, req(&pb.ListCatalogRequest{}))
	if listed == nil && slices.ContainsFunc(catalog.Msg.Drivers, func(d *pb.Driver) bool { return d.Name == name }) {
		return fmt.Errorf("driver %s is not installed yet; pollux carries it: pollux driver add %s", name, name)
	}
	return fmt.Errorf("there is no driver %s: pollux driver list shows what is installed, pollux driver catalog what pollux carries", name)
}

func drawScan(w io.Writer, r *pb.ScanResponse) {
	if len(r.Found) > 0 {
		row(w, "FOUND", "NAME", "DRIVER", "MODEL", "ADDRESS")
		for _, x := range r.Found {
			row(w, x.GetAlias().GetNetwork()+" "+x.GetAlias().GetKey()+"="+x.GetAlias().GetValue(), dash(x.Name), dash(x.Driver), dash(x.Model), dash(x.Uri))
		}
		row(w)
	}
	row(w, fmt.Sprintf("%d found; %d sent, %d answers", len(r.Found), r.Sent, r.Answers))
	for _, note := range r.Notes {
		row(w, "  "+note)
	}
}
