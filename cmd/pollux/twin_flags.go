package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// twinFlags are the fields of a twin as flags.
type twinFlags struct {
	driver, model           string
	uri, zone, via          string
	system                  string
	selector                string
	settings, labels, alias []string
	derived                 []string
	stopped                 bool
}

func (f *twinFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.driver, "driver", "", "driver as `NAME[@VERSION]`; without a version, the newest")
	fl.StringVar(&f.model, "model", "", "model as `NAME`, of a twin without a driver (see: pollux model)")
	fl.StringVar(&f.uri, "uri", "", "address of the device, such as tcp://10.0.0.7:4352")
	fl.StringArrayVar(&f.settings, "setting", nil, "setting as `NAME=VALUE`; many times (see: pollux driver get)")
	fl.StringArrayVar(&f.labels, "label", nil, "label as `NAME=VALUE`; many times")
	fl.StringArrayVar(&f.alias, "alias", nil, "outside name as `NETWORK/KEY/VALUE`; many times, '' for none; they replace those there were")
	fl.StringVar(&f.zone, "zone", "", "zone that the device is in")
	fl.StringVar(&f.via, "via", "", "gateway twin that speaks for it")
	fl.StringVar(&f.system, "system", "", "system that a logic is bound to")
	fl.StringVar(&f.selector, "selector", "", "nodes that the twin may live on, by their site, zone and labels, such as `'site=berlin,zone in (a,b),!gpu'`; empty: all")
	fl.StringArrayVar(&f.derived, "derived", nil, "property that is computed, as `NAME=EXPRESSION`, such as 'total=sum(related(\"feeds\").power)'; many times (docs/relations.md)")
	fl.BoolVar(&f.stopped, "stopped", false, "hold no connection and take no commands")
}

// apply changes what the command line names, and leaves the rest. An empty value of a label, setting or derived property removes it.
func (f *twinFlags) apply(ctx context.Context, cmd *cobra.Command, n *node, t *pb.Twin) error {
	set := cmd.Flags().Changed
	for _, s := range []struct {
		flag     string
		from, to *string
	}{{"driver", &f.driver, &t.Driver}, {"model", &f.model, &t.Model}, {"uri", &f.uri, &t.Uri}, {"zone", &f.zone, &t.Zone}, {"via", &f.via, &t.Via}, {"system", &f.system, &t.System}, {"selector", &f.selector, &t.Selector}} {
		if set(s.flag) {
			*s.to = *s.from
		}
	}
	if set("stopped") {
		t.Stopped = f.stopped
	}
	labels, err := pairs("label", f.labels)
	if err != nil {
		return err
	}
	if t.Labels == nil && len(labels) > 0 {
		t.Labels = make(map[string]string)
	}
	for k, v := range labels {
		if t.Labels[k] = v; v == "" {
			delete(t.Labels, k)
		}
	}
	derived, err := pairs("derived", f.derived)
	if err != nil {
		return err
	}
	if t.Derived == nil && len(derived) > 0 {
		t.Derived = make(map[string]string)
	}
	for k, v := range derived {
		if t.Derived[k] = v; v == "" {
			delete(t.Derived, k)
		}
	}
	if set("alias") {
		if t.Aliases, err = aliases(f.alias); err != nil {
			return err
		}
	}
	return f.applySettings(ctx, n, t)
}

func aliases(list []string) ([]*pb.Alias, error) {
	var out []*pb.Alias
	for _, text := range list {
		if text == "" {
			continue
		}
		parts := strings.SplitN(text, "/", 3)
		if len(parts) != 3 {
			return nil, usagef("--alias %q: want NETWORK/KEY/VALUE", text)
		}
		out = append(out, &pb.Alias{Network: parts[0], Key: parts[1], Value: parts[2]})
	}
	return out, nil
}

// applySettings reads the values by the driver's schema, so that a password of digits stays a string.
func (f *twinFlags) applySettings(ctx context.Context, n *node, t *pb.Twin) error {
	settings, err := pairs("setting", f.settings)
	if err != nil || len(settings) == 0 {
		return err
	}
	name, version, _ := strings.Cut(t.Driver, "@")
	var m manifest
	if name != "" {
		// An unknown driver is the node's to refuse.
		if res, err := n.drivers.GetDriver(ctx, req(&pb.GetDriverRequest{Name: name, Version: version})); err == nil {
			m = readManifest(res.Msg.Driver.GetManifestJson())
		}
	}
	if t.Settings == nil {
		t.Settings = &structpb.Struct{}
	}
	if t.Settings.Fields == nil {
		t.Settings.Fields = make(map[string]*structpb.Value)
	}
	for k, text := range settings {
		if text == "" {
			delete(t.Settings.Fields, k)
			continue
		}
		v, err := parseValue(text, m.Settings.Properties[k])
		if err != nil {
			return err
		}
		t.Settings.Fields[k] = v
	}
	return nil
}

// flagCompletion asks as if no argument were there yet.
func flagCompletion(c completion) completion {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return c(cmd, nil, typed)
	}
}

// filterFlags choose twins.
type filterFlags struct {
	project, driver, zone, model, connection, text string
	iface, system, where                           string
	labels                                         []string
	faulty                                         bool
}

func (f *filterFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.project, "project", "", "only twins of this project")
	fl.StringVar(&f.driver, "driver", "", "only twins of this driver")
	fl.StringVar(&f.model, "model", "", "only twins of this model: the id of one without a driver, else a title")
	fl.StringVar(&f.zone, "zone", "", "only twins in this zone, and in those within")
	fl.StringVar(&f.system, "system", "", "only members of this system")
	fl.StringVar(&f.iface, "interface", "", "only twins whose driver implements this standard interface, such as Powerable")
	fl.StringArrayVar(&f.labels, "label", nil, "only twins with this label, `NAME=VALUE`; many times")
	fl.StringVar(&f.connection, "status", "", "only twins that are connected, connecting, disconnected, sleeping, stopped or none")
	fl.BoolVar(&f.faulty, "faulty", false, "only twins with a fault")
	fl.StringVar(&f.text, "text", "", "only twins whose id contains this")
	fl.StringVar(&f.where, "where", "", "only twins for which this `EXPRESSION` holds, such as 'twin.properties.power == \"on\"' (docs/expressions.md)")
}

func (f *filterFlags) filter() (*pb.TwinFilter, error) {
	labels, err := pairs("label", f.labels)
	if err != nil {
		return nil, err
	}
	out := &pb.TwinFilter{Project: f.project, Driver: f.driver, Zone: f.zone, Model: f.model, Labels: labels,
		Faulty: f.faulty, Text: f.text, Interface: f.iface, System: f.system, Where: f.where}
	if f.connection != "" {
		v, ok := pb.Connection_value["CONNECTION_"+strings.ToUpper(f.connection)]
		if !ok || v == 0 {
			return nil, usagef("--status %q: want connected, connecting, disconnected, sleeping, stopped or none", f.connection)
		}
		out.Connection = pb.Connection(v)
	}
	return out, nil
}
