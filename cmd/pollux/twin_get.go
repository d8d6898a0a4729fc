package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func twinGet(a *app) *cobra.Command {
	var model bool
	var consistency string
	cmd := &cobra.Command{
		Use:               "get ID",
		Short:             "Show a twin: configuration, status, reported and desired values",
		Long:              "Shows a twin. In the table long values are cut to the width of the terminal; a file or another program, and -o json, has all of them.",
		Example:           "  pollux twin get beamer\n  pollux twin get beamer --model -o json\n  pollux twin get beamer --consistency local",
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			whose, err := consistencyOf(consistency)
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.twins.GetTwin(cmd.Context(), req(&pb.GetTwinRequest{Id: args[0], Model: model, Consistency: whose}))
			if err != nil {
				return err
			}
			t := res.Msg.Twin
			return a.show(t, func(w io.Writer) { describeTwin(w, t, time.Now(), widthOf(a.out)) })
		},
	}
	cmd.Flags().BoolVar(&model, "model", false, "include the Thing Model as refined by what the unit really has")
	cmd.Flags().StringVar(&consistency, "consistency", "owner",
		"whose word: `owner` asks the twin where it lives, local takes what the node that answers has committed, at once")
	must(cmd.RegisterFlagCompletionFunc("consistency", cobra.FixedCompletions([]string{"owner", "local"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func consistencyOf(word string) (pb.Consistency, error) {
	switch word {
	case "owner":
		return pb.Consistency_CONSISTENCY_OWNER, nil
	case "local":
		return pb.Consistency_CONSISTENCY_LOCAL, nil
	}
	return 0, usagef("--consistency %q: want owner or local", word)
}

// describeTwin shows a twin. Values are cut where lines would be longer than width.
func describeTwin(w io.Writer, t *pb.Twin, now time.Time, width int) {
	s := t.GetState()
	field := func(name, value string) {
		if value != "" {
			row(w, name, value)
		}
	}
	row(w, "Twin", t.Id)
	field("Driver", driverText(t))
	field("Model", bare(t.Model))
	field("Address", t.Uri)
	field("Connection", connectionText(t, s.GetStatus()))
	field("Last seen", ago(s.GetStatus().GetLastSeen(), now))
	field("Traffic", trafficText(s.GetStatus().GetTraffic()))
	field("Last error", s.GetStatus().GetTraffic().GetLastError())
	field("Fault", s.GetStatus().GetFault())
	troubleRows(field, t, now)
	field("Node", s.GetStatus().GetNode())
	field("Zone", t.Zone)
	field("Via", t.Via)
	field("System", t.System)
	field("Reads", readsList(t.Reads))
	field("Labels", labelText(t.Labels))
	field("Aliases", strings.Join(names(t.Aliases, func(x *pb.Alias) string { return x.Network + "/" + x.Key + "/" + x.Value }), " "))
	field("May live on", t.Selector)
	for _, k := range slices.Sorted(maps.Keys(t.GetSettings().GetFields())) {
		field("Setting "+k, valueText(t.Settings.Fields[k]))
	}
	for _, k := range slices.Sorted(maps.Keys(t.Derived)) {
		field("Computed "+k, t.Derived[k])
	}
	if s.GetQueued() > 0 {
		field("Queued", fmt.Sprint(s.Queued))
	}
	propertyRows(w, s, now, width)
	if len(s.GetCommands()) > 0 {
		fmt.Fprintln(w)
		row(w, "COMMAND", "ACTION", "BY", "ASKED", "HOW FAR")
		for _, c := range s.Commands {
			row(w, c.Id, c.Action, dash(c.By), timeText(c.Time, now), commandText(c))
		}
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

// driverText is the driver as asked for and, where that says less, the version that runs.
func driverText(t *pb.Twin) string {
	runs := t.GetState().GetDriverVersion()
	if runs == "" {
		runs = t.GetDriverVersion()
	}
	if runs == "" || strings.HasSuffix(t.Driver, "@"+runs) {
		return t.Driver
	}
	return t.Driver + " (version " + runs + ")"
}

// commandText is how far a command got that nobody waits for.
func commandText(c *pb.CommandStatus) string {
	if c.Phase != pb.CommandPhase_COMMAND_PHASE_ENDED {
		return enumText(c.Phase, "COMMAND_PHASE_")
	}
	text := enumText(c.Outcome, "OUTCOME_")
	if c.Message != "" {
		text += ": " + c.Message
	}
	if c.Output != nil {
		text += " " + valueText(c.Output)
	}
	return text
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

// propertyRows shows what is reported and asked for.
func propertyRows(w io.Writer, s *pb.TwinState, now time.Time, width int) {
	all := make(map[string]bool)
	for k := range s.GetProperties() {
		all[k] = true
	}
	for k := range s.GetDesired() {
		all[k] = true
	}
	if len(all) == 0 {
		return
	}
	table := [][]string{{"PROPERTY", "REPORTED", "QUALITY", "TIME", "DESIRED", "PROGRESS"}}
	for _, k := range slices.Sorted(maps.Keys(all)) {
		p, d := s.Properties[k], s.Desired[k]
		table = append(table, []string{k, valueText(p.GetValue()), qualityText(p), timeText(p.GetTime(), now), desiredText(d), progressText(d)})
	}
	fitted(table, width, 1, 4)
	fmt.Fprintln(w)
	for _, line := range table {
		row(w, line[0], line[1], line[2], line[3], line[4], line[5])
	}
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
	switch {
	case d.Error != "":
		text += ": " + d.Error
	case d.WaitsFor != "":
		text += ": " + d.WaitsFor
	}
	return text
}

// troubleRows tell of a driver that fails, or does too much, and of what the twin follows.
func troubleRows(field func(name, value string), t *pb.Twin, now time.Time) {
	s := t.GetState()
	st := s.GetStatus()
	switch {
	case st.GetQuarantineTime() != nil:
		field("Quarantine", fmt.Sprintf("since %s, after %d failures; tried again in %s, or at once by: pollux twin release %s",
			timeText(st.QuarantineTime, now), st.Failures, in(st.RetryTime, now), bare(t.Id)))
	case st.GetFailures() > 0:
		field("Failures", fmt.Sprintf("%d in a row; tried again in %s", st.Failures, in(st.RetryTime, now)))
	}
	var over []string
	for _, k := range slices.Sorted(maps.Keys(s.GetOverQuota())) {
		over = append(over, fmt.Sprintf("%d %s", s.OverQuota[k], k))
	}
	field("Over quota", strings.Join(over, ", "))
	var sifted []string
	for _, k := range slices.Sorted(maps.Keys(s.GetFiltered())) {
		sifted = append(sifted, fmt.Sprintf("%d %s", s.Filtered[k], k))
	}
	field("Filtered", strings.Join(sifted, ", "))
	for _, name := range slices.Sorted(maps.Keys(s.GetDerived())) {
		field("Derived", derivedText(name, s.Derived[name]))
	}
	for _, x := range s.GetSubscriptions() {
		name := bare(x.Twin)
		if x.System != "" {
			name = bare(x.System) + "/" + x.Twin
		}
		field("Follows", x.Property+" of "+name)
	}
}

// in is how long it is until then.
func in(at *timestamppb.Timestamp, now time.Time) string {
	return max(at.AsTime().Sub(now), 0).Round(time.Second).String()
}

func labelText(labels map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		parts = append(parts, k+"="+labels[k])
	}
	return strings.Join(parts, " ")
}

// trafficText tells what went over the twin's connection.
func trafficText(t *pb.Traffic) string {
	if t == nil || t.ReceivedFrames+t.SentFrames+t.ReceivedBytes+t.SentBytes+t.Reconnects+t.Errors == 0 {
		return ""
	}
	text := fmt.Sprintf("%d bytes in, %d out; %d frames in, %d out", t.ReceivedBytes, t.SentBytes, t.ReceivedFrames, t.SentFrames)
	if t.Reconnects > 0 {
		text += fmt.Sprintf("; %d reconnects", t.Reconnects)
	}
	if t.Errors > 0 {
		text += fmt.Sprintf("; %d errors", t.Errors)
	}
	return text
}

// derivedText says how the computation of a property goes.
func derivedText(name string, d *pb.DerivedState) string {
	text := name + " = " + d.Expression
	switch {
	case d.Error != "":
		text += ": " + d.Error
	case d.WithoutValue > 0:
		text += fmt.Sprintf(", of %d twins, of which %d have no good value", d.Sources, d.WithoutValue)
	case d.Sources > 0:
		text += fmt.Sprintf(", of %d twins", d.Sources)
	}
	return text
}
