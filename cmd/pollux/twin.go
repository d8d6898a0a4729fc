package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

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
  pollux twin call beamer refresh            run an action
  pollux twin watch beamer                 every change, live
  pollux twin history beamer lamp_hours --since 24h
  pollux twin trace beamer                 every byte sent and received`,
	}))
	cmd.AddCommand(twinCreate(a), twinGet(a), twinList(a), twinUpdate(a), twinRemove(a), twinCall(a), twinSet(a),
		twinWatch(a), twinTrace(a), twinHistory(a), twinLogs(a))
	return cmd
}

// bare leaves the default project's name away.
func bare(id string) string { return strings.TrimPrefix(id, "default/") }

// twinFlags are the fields of a twin as flags.
type twinFlags struct {
	driver, uri, zone, via  string
	settings, labels, alias []string
	stopped                 bool
}

func (f *twinFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.driver, "driver", "", "driver as NAME (the newest) or NAME@VERSION")
	fl.StringVar(&f.uri, "uri", "", "address of the device, such as tcp://10.0.0.7:4352")
	fl.StringArrayVar(&f.settings, "setting", nil, "setting as NAME=VALUE; many times (see: pollux driver get)")
	fl.StringArrayVar(&f.labels, "label", nil, "label as NAME=VALUE; many times")
	fl.StringArrayVar(&f.alias, "alias", nil, "outside name as NETWORK/KEY/VALUE; many times")
	fl.StringVar(&f.zone, "zone", "", "zone that the device is in")
	fl.StringVar(&f.via, "via", "", "gateway twin that speaks for it")
	fl.BoolVar(&f.stopped, "stopped", false, "hold no connection and take no commands")
}

// apply changes what the command line names, and leaves the rest. An empty value of a label or setting removes it.
func (f *twinFlags) apply(ctx context.Context, cmd *cobra.Command, n *node, t *pb.Twin) error {
	set := cmd.Flags().Changed
	for _, s := range []struct {
		flag     string
		from, to *string
	}{{"driver", &f.driver, &t.Driver}, {"uri", &f.uri, &t.Uri}, {"zone", &f.zone, &t.Zone}, {"via", &f.via, &t.Via}} {
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

func twinCreate(a *app) *cobra.Command {
	var f twinFlags
	cmd := &cobra.Command{
		Use:   "create ID --driver NAME[@VERSION]",
		Short: "Create a twin for a device",
		Example: `  pollux twin create beamer --driver pjlink --uri tcp://10.0.0.7:4352 --setting password=secret
  pollux twin create lamp1 --driver tasmota --setting topic=tasmota_1 --label room=aula --zone aula`,
		Args: exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.driver == "" {
				return usagef("--driver is missing: `pollux driver list` shows what is installed")
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
			return a.show(res.Msg.Twin, func(w io.Writer) {
				fmt.Fprintf(w, "twin %s created; see: pollux twin get %s\n", res.Msg.Twin.Id, bare(res.Msg.Twin.Id))
			})
		},
	}
	f.add(cmd)
	must(cmd.RegisterFlagCompletionFunc("driver", flagCompletion(a.completeDrivers())))
	return cmd
}

// flagCompletion asks as if no argument were there yet.
func flagCompletion(c completion) completion {
	return func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return c(cmd, nil, typed)
	}
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
  pollux twin update beamer --stopped`,
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
			return a.show(res.Msg.Twin, func(w io.Writer) {
				fmt.Fprintf(w, "twin %s updated, revision %d\n", res.Msg.Twin.Id, res.Msg.Twin.Revision)
			})
		},
	}
	f.add(cmd)
	return cmd
}

func twinGet(a *app) *cobra.Command {
	var model bool
	cmd := &cobra.Command{
		Use:               "get ID",
		Short:             "Show a twin: configuration, status, reported and desired values",
		Example:           "  pollux twin get beamer\n  pollux twin get beamer --model -o json",
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.twins.GetTwin(cmd.Context(), req(&pb.GetTwinRequest{Id: args[0], Model: model}))
			if err != nil {
				return err
			}
			t := res.Msg.Twin
			return a.show(t, func(w io.Writer) { describeTwin(w, t, time.Now()) })
		},
	}
	cmd.Flags().BoolVar(&model, "model", false, "include the Thing Model as refined by what the unit really has")
	return cmd
}

func describeTwin(w io.Writer, t *pb.Twin, now time.Time) {
	s := t.GetState()
	field := func(name, value string) {
		if value != "" {
			row(w, name, value)
		}
	}
	row(w, "Twin", t.Id)
	field("Driver", t.Driver)
	field("Address", t.Uri)
	field("Connection", connectionText(t, s.GetStatus()))
	field("Last seen", ago(s.GetStatus().GetLastSeen(), now))
	field("Fault", s.GetStatus().GetFault())
	field("Node", s.GetStatus().GetNode())
	field("Zone", t.Zone)
	field("Via", t.Via)
	field("Labels", labelText(t.Labels))
	for _, k := range slices.Sorted(maps.Keys(t.GetSettings().GetFields())) {
		field("Setting "+k, valueText(t.Settings.Fields[k]))
	}
	if s.GetQueued() > 0 {
		field("Queued", fmt.Sprint(s.Queued))
	}
	all := make(map[string]bool)
	for k := range s.GetProperties() {
		all[k] = true
	}
	for k := range s.GetDesired() {
		all[k] = true
	}
	if len(all) > 0 {
		fmt.Fprintln(w)
		row(w, "PROPERTY", "REPORTED", "QUALITY", "TIME", "DESIRED", "PROGRESS")
	}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		p, d := s.Properties[k], s.Desired[k]
		row(w, k, valueText(p.GetValue()), qualityText(p), timeText(p.GetTime(), now), desiredText(d), progressText(d))
	}
	if s.GetModelJson() != "" {
		var m thing
		if json.Unmarshal([]byte(s.ModelJson), &m) == nil {
			affordances(w, "Properties", m.Properties)
			affordances(w, "Actions", m.Actions)
			affordances(w, "Events", m.Events)
		}
	}
}

func connectionText(t *pb.Twin, s *pb.TwinStatus) string {
	if t.GetStopped() {
		return "stopped"
	}
	if s.GetConnection() == pb.Connection_CONNECTION_UNSPECIFIED {
		return "–"
	}
	return enumText(s.GetConnection(), "CONNECTION_")
}

func qualityText(p *pb.Property) string {
	if p == nil {
		return "–"
	}
	return enumText(p.Quality, "QUALITY_")
}

func desiredText(d *pb.Desired) string {
	if d == nil {
		return "–"
	}
	return valueText(d.Value)
}

func progressText(d *pb.Desired) string {
	if d == nil {
		return "–"
	}
	text := enumText(d.Progress, "PROGRESS_")
	if d.Error != "" {
		text += ": " + d.Error
	}
	return text
}

func labelText(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, " ")
}

// filterFlags choose twins.
type filterFlags struct {
	project, driver, zone, model, connection, text string
	labels                                         []string
	faulty                                         bool
}

func (f *filterFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringVar(&f.project, "project", "", "only twins of this project")
	fl.StringVar(&f.driver, "driver", "", "only twins of this driver")
	fl.StringVar(&f.model, "model", "", "only twins of this model (its title)")
	fl.StringVar(&f.zone, "zone", "", "only twins in this zone")
	fl.StringArrayVar(&f.labels, "label", nil, "only twins with this label, NAME=VALUE; many times")
	fl.StringVar(&f.connection, "status", "", "only twins that are connected, connecting, disconnected, stopped or none")
	fl.BoolVar(&f.faulty, "faulty", false, "only twins with a fault")
	fl.StringVar(&f.text, "text", "", "only twins whose id contains this")
}

func (f *filterFlags) filter() (*pb.TwinFilter, error) {
	labels, err := pairs("label", f.labels)
	if err != nil {
		return nil, err
	}
	out := &pb.TwinFilter{Project: f.project, Driver: f.driver, Zone: f.zone, Model: f.model, Labels: labels,
		Faulty: f.faulty, Text: f.text}
	if f.connection != "" {
		v, ok := pb.Connection_value["CONNECTION_"+strings.ToUpper(f.connection)]
		if !ok || v == 0 {
			return nil, usagef("--status %q: want connected, connecting, disconnected, stopped or none", f.connection)
		}
		out.Connection = pb.Connection(v)
	}
	return out, nil
}

func twinList(a *app) *cobra.Command {
	var f filterFlags
	var limit int
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List twins with their status",
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
			err = a.show(all, func(w io.Writer) {
				row(w, "ID", "DRIVER", "STATUS", "LAST SEEN", "LABELS", "FAULT")
				for _, t := range all.Twins {
					s := t.GetState().GetStatus()
					row(w, bare(t.Id), t.Driver, connectionText(t, s), ago(s.GetLastSeen(), now), dash(labelText(t.Labels)), dash(s.GetFault()))
				}
			})
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
