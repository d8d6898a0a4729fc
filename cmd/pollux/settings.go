package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// settingsKind is a kind of thing that has settings of its own.
type settingsKind struct {
	name, example, short string
	scope                func(id string) *pb.SettingsScope
	complete             func(*app) completion
}

var (
	settingsOfTwin = settingsKind{"twin", "beamer", "What a twin is set to, where each value comes from, and what was set before",
		func(id string) *pb.SettingsScope {
			return &pb.SettingsScope{Scope: &pb.SettingsScope_Twin{Twin: id}}
		}, (*app).completeTwins}
	settingsOfZone = settingsKind{"zone", "aula", "Settings of all twins in a zone and the zones below it",
		func(id string) *pb.SettingsScope {
			return &pb.SettingsScope{Scope: &pb.SettingsScope_Zone{Zone: id}}
		}, nil}
	settingsOfSystem = settingsKind{"system", "room1", "Settings of all twins of a system",
		func(id string) *pb.SettingsScope {
			return &pb.SettingsScope{Scope: &pb.SettingsScope_System{System: id}}
		}, nil}
	settingsOfDriver = settingsKind{"driver", "pjlink", "Settings of all twins of a driver",
		func(id string) *pb.SettingsScope {
			return &pb.SettingsScope{Scope: &pb.SettingsScope_Driver{Driver: id}}
		}, (*app).completeDrivers}
)

func settingsCommand(a *app, k settingsKind) *cobra.Command {
	use := fmt.Sprintf("  pollux %s settings", k.name)
	cmd := group(&cobra.Command{
		Use:     "settings",
		Aliases: []string{"setting"},
		Short:   k.short,
		Long: k.short + `.

A twin has the settings of its driver, over them those of its zones from the outermost to its own, over them those of its
systems, over them its own; what none of them gives has the default of the driver. Of a zone's or system's settings a
twin has those that its driver knows.`,
		Example: fmt.Sprintf("%[1]s get %[2]s\n%[1]s set %[2]s poll_s=20\n%[1]s history %[2]s\n%[1]s diff %[2]s", use, k.example),
	})
	cmd.AddCommand(settingsGet(a, k, use), settingsSet(a, k, use), settingsHistory(a, k, use), settingsDiff(a, k, use), settingsRestore(a, k, use))
	return cmd
}

func (k settingsKind) completion(a *app) completion {
	if k.complete == nil {
		return nil
	}
	return k.complete(a)
}

func settingsGet(a *app, k settingsKind, use string) *cobra.Command {
	var version uint64
	cmd := &cobra.Command{
		Use:               "get ID",
		Short:             "Show the settings; secrets read ***",
		Example:           fmt.Sprintf("%[1]s get %[2]s\n%[1]s get %[2]s --version 3", use, k.example),
		Args:              exactly("ID"),
		ValidArgsFunction: k.completion(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.settings.GetSettings(cmd.Context(), req(&pb.GetSettingsRequest{Scope: k.scope(args[0]), Version: version}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { drawSettings(w, res.Msg, time.Now()) })
		},
	}
	cmd.Flags().Uint64Var(&version, "version", 0, "as they were in this version")
	return cmd
}

func drawSettings(w io.Writer, r *pb.GetSettingsResponse, now time.Time) {
	if len(r.Values) > 0 {
		row(w, "SETTING", "VALUE", "FROM", "")
		for _, v := range r.Values {
			row(w, v.Name, valueText(v.Value), strings.Replace(v.Source, " default/", " ", 1), v.Title)
		}
		return
	}
	s := r.Settings
	if s.GetVersion() == 0 {
		row(w, "nothing is set here")
		return
	}
	row(w, fmt.Sprintf("version %d, by %s, %s", s.Version, dash(s.By), ago(s.Time, now)))
	flat := leavesOf("", s.Values)
	for _, name := range slices.Sorted(maps.Keys(flat)) {
		row(w, name, valueText(flat[name]))
	}
}

// leavesOf gives nested values by their joined names.
func leavesOf(prefix string, s *structpb.Struct) map[string]*structpb.Value {
	out := map[string]*structpb.Value{}
	for k, v := range s.GetFields() {
		if inner := v.GetStructValue(); inner != nil && len(inner.Fields) > 0 {
			maps.Copy(out, leavesOf(prefix+k+"/", inner))
		} else {
			out[prefix+k] = v
		}
	}
	return out
}

func settingsSet(a *app, k settingsKind, use string) *cobra.Command {
	var file string
	var replace bool
	var version uint64
	var secrets []string
	cmd := &cobra.Command{
		Use:   "set ID [NAME=VALUE...]",
		Short: "Change settings",
		Long: `Changes the settings that are named and leaves the rest. An empty value removes one, so that it comes from elsewhere
again. Names within objects are joined by slashes. Running twins get the change at once; their connections stay, unless what
they are made of changed. If the settings of one twin would not fit its driver any more, nothing is changed.

A secret on the command line is seen by others on this machine: give it in a file, or by standard input (--from -).`,
		Example: fmt.Sprintf("%[1]s set %[2]s poll_s=20\n%[1]s set %[2]s poll_s=                     as it comes from elsewhere\n"+
			"echo '{\"password\":\"…\"}' | pollux %[3]s settings set %[2]s --from -", use, k.example, k.name),
		ValidArgsFunction: k.completion(a),
		Args:              atLeast("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && file == "" && len(secrets) == 0 {
				return usagef("what to set? give NAME=VALUE, or a file by --from")
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			r := &pb.SetSettingsRequest{Scope: k.scope(args[0]), Replace: replace, Version: version, Secrets: secrets}
			if r.Values, err = valuesFrom(cmd, file); err != nil {
				return err
			}
			if err := n.typed(cmd.Context(), k, args[0], args[1:], r.Values); err != nil {
				return err
			}
			return a.setSettings(cmd, n, r)
		},
	}
	cmd.Flags().StringVar(&file, "from", "", "JSON object of settings, in a file or by standard input (-)")
	cmd.Flags().BoolVar(&replace, "replace", false, "remove what is not named")
	cmd.Flags().Uint64Var(&version, "version", 0, "only if it is still at this version")
	cmd.Flags().StringArrayVar(&secrets, "secret", nil, "name that is secret here, besides those that drivers say are; many times")
	return cmd
}

func (a *app) setSettings(cmd *cobra.Command, n *node, r *pb.SetSettingsRequest) error {
	res, err := n.settings.SetSettings(cmd.Context(), req(r))
	if err != nil {
		return err
	}
	return a.show(res.Msg, func(w io.Writer) {
		row(w, fmt.Sprintf("version %d; twins with other settings now: %d", res.Msg.Settings.GetVersion(), res.Msg.Twins))
	})
}

// valuesFrom reads a JSON object.
func valuesFrom(cmd *cobra.Command, file string) (*structpb.Struct, error) {
	out := &structpb.Struct{Fields: map[string]*structpb.Value{}}
	if file == "" {
		return out, nil
	}
	var text []byte
	var err error
	if file == "-" {
		text, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1<<20))
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}
	if err := out.UnmarshalJSON(text); err != nil {
		return nil, usagef("--from %s: want a JSON object: %v", file, err)
	}
	return out, nil
}

// typed adds NAME=VALUE arguments to values, read by the schemas of the drivers that have such a setting.
func (n *node) typed(ctx context.Context, k settingsKind, id string, list []string, values *structpb.Struct) error {
	schemas := n.settingSchemas(ctx, k, id)
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return usagef("%q: want NAME=VALUE", text)
		}
		parts := strings.Split(name, "/")
		s := schemas[parts[0]]
		at := values
		for _, p := range parts[:len(parts)-1] {
			inner := at.Fields[p].GetStructValue()
			if inner == nil {
				inner = &structpb.Struct{Fields: map[string]*structpb.Value{}}
				at.Fields[p] = structpb.NewStructValue(inner)
			}
			at = inner
		}
		for _, p := range parts[1:] {
			s = s.Properties[p]
		}
		v := structpb.NewNullValue()
		if value != "" {
			var err error
			if v, err = parseValue(value, s); err != nil {
				return err
			}
		}
		at.Fields[parts[len(parts)-1]] = v
	}
	return nil
}

// settingSchemas gives the settings that can be meant. Where the node cannot tell, it checks the values itself.
func (n *node) settingSchemas(ctx context.Context, k settingsKind, id string) map[string]schema {
	out := map[string]schema{}
	name := ""
	switch k.name {
	case "driver":
		name = id
	case "twin":
		if res, err := n.twins.GetTwin(ctx, req(&pb.GetTwinRequest{Id: id, Consistency: pb.Consistency_CONSISTENCY_LOCAL})); err == nil {
			name, _, _ = strings.Cut(res.Msg.Twin.Driver, "@")
		}
	}
	res, err := n.drivers.ListDrivers(ctx, req(&pb.ListDriversRequest{PageSize: 1000, Name: name}))
	if err != nil {
		return out
	}
	for _, d := range res.Msg.Drivers {
		if name == "" || d.Name == name {
			maps.Copy(out, readManifest(d.ManifestJson).Settings.Properties)
		}
	}
	return out
}

func settingsHistory(a *app, k settingsKind, use string) *cobra.Command {
	return &cobra.Command{
		Use:               "history ID",
		Short:             "List the versions that are kept: who set what, and when",
		Example:           fmt.Sprintf("%s history %s", use, k.example),
		Args:              exactly("ID"),
		ValidArgsFunction: k.completion(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.settings.ListSettingsVersions(cmd.Context(), req(&pb.ListSettingsVersionsRequest{Scope: k.scope(args[0])}))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) {
				row(w, "VERSION", "BY", "WHEN", "SETTINGS")
				for _, v := range res.Msg.Versions {
					text, _ := json.Marshal(v.Values.AsMap()) // what came as JSON can be written as JSON
					row(w, v.Version, dash(v.By), ago(v.Time, time.Now()), string(text))
				}
			})
		},
	}
}

func settingsDiff(a *app, k settingsKind, use string) *cobra.Command {
	return &cobra.Command{
		Use:   "diff ID [FROM [TO]]",
		Short: "Compare two versions",
		Long:  "Compares two versions of what is set here: without TO the present one, without FROM the one before it. Of a secret it shows only that it changed.",
		Example: fmt.Sprintf("%[1]s diff %[2]s              what the last change did\n%[1]s diff %[2]s 3            what changed since version 3\n"+
			"%[1]s diff %[2]s 3 5", use, k.example),
		ValidArgsFunction: k.completion(a),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 3 {
				return usagef("want ID [FROM [TO]]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			r := &pb.DiffSettingsRequest{Scope: k.scope(args[0])}
			for i, to := range []*uint64{&r.From, &r.To} {
				if len(args) <= i+1 {
					break
				}
				var err error
				if *to, err = strconv.ParseUint(args[i+1], 10, 64); err != nil {
					return usagef("%q is no version: `%s history %s` lists them", args[i+1], strings.TrimSpace(use), args[0])
				}
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.settings.DiffSettings(cmd.Context(), req(r))
			if err != nil {
				return err
			}
			return a.show(res.Msg, func(w io.Writer) { drawSettingsDiff(w, res.Msg) })
		},
	}
}

func drawSettingsDiff(w io.Writer, r *pb.DiffSettingsResponse) {
	if len(r.Changes) == 0 {
		row(w, fmt.Sprintf("versions %d and %d are the same", r.From, r.To))
		return
	}
	row(w, "SETTING", fmt.Sprintf("VERSION %d", r.From), fmt.Sprintf("VERSION %d", r.To))
	for _, c := range r.Changes {
		row(w, c.Name, valueText(c.Before), valueText(c.After))
	}
}

func settingsRestore(a *app, k settingsKind, use string) *cobra.Command {
	return &cobra.Command{
		Use:               "restore ID VERSION",
		Short:             "Set what a former version set",
		Example:           fmt.Sprintf("%s restore %s 3", use, k.example),
		Args:              exactly("ID", "VERSION"),
		ValidArgsFunction: k.completion(a),
		RunE: func(cmd *cobra.Command, args []string) error {
			version, err := strconv.ParseUint(args[1], 10, 64)
			if err != nil || version == 0 {
				return usagef("%q is no version: `%s history %s` lists them", args[1], strings.TrimSpace(use), args[0])
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			return a.setSettings(cmd, n, &pb.SetSettingsRequest{Scope: k.scope(args[0]), Restore: version})
		},
	}
}
