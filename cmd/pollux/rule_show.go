package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func showRule(w io.Writer, m *pb.Rule, st *pb.RuleState, now time.Time) {
	row(w, "rule", m.Id)
	if m.Title != "" {
		row(w, "title", printable(m.Title))
	}
	for _, t := range m.When {
		row(w, "on", printable(triggerText(t)))
	}
	row(w, "if", dash(printable(m.If)))
	if m.Until != "" {
		row(w, "until", printable(m.Until))
	}
	for _, x := range []struct {
		name string
		d    *durationpb.Duration
	}{{"for", m.For}, {"settle", m.Settle}, {"once per", m.OncePer}, {"repeat", m.Repeat}} {
		if x.d != nil {
			row(w, x.name, x.d.AsDuration())
		}
	}
	showWindows(w, m.Windows, m.Zone)
	for _, a := range m.Then {
		row(w, "then", printable(actionText(a)))
	}
	for _, a := range m.Otherwise {
		row(w, "otherwise", printable(actionText(a)))
	}
	showRuleNumbers(w, m)
	if m.Paused {
		row(w, "paused", "yes")
	}
	showRuleState(w, st, now)
}

// showRuleNumbers prints what is set of a rule's switches and limits.
func showRuleNumbers(w io.Writer, m *pb.Rule) {
	for _, x := range []struct {
		name string
		on   bool
	}{{"each", m.Each}, {"together", m.Together}, {"stop on storm", m.StopOnStorm}} {
		if x.on {
			row(w, x.name, "yes")
		}
	}
	for _, x := range []struct {
		name string
		n    uint32
	}{{"at least", m.AtLeast}, {"priority", m.Priority}, {"disable after", m.DisableAfter}, {"limit", m.Limit}} {
		if x.n > 0 {
			row(w, x.name, x.n)
		}
	}
}

func showWindows(w io.Writer, windows []*pb.Window, zone string) {
	for _, x := range windows {
		row(w, "only", strings.TrimSpace(windowText(x)+" "+zone))
	}
}

// windowText says a window in a few words.
func windowText(x *pb.Window) string {
	text := x.From + "-" + x.To
	if len(x.Weekdays) > 0 {
		text += " " + strings.Join(x.Weekdays, ",")
	}
	if x.NotBefore != nil {
		text += " from " + x.NotBefore.AsTime().Format(time.RFC3339)
	}
	if x.NotAfter != nil {
		text += " until " + x.NotAfter.AsTime().Format(time.RFC3339)
	}
	return text
}

// actionText says an action in a few words, with its condition.
func actionText(a *pb.Action) string {
	text := automation.Describe(a)
	if p := a.GetParallel(); p != nil {
		text = "at once: " + strings.Join(names(p.Actions, actionText), "; ")
	}
	if a.If != "" {
		text += fmt.Sprintf(", if %s", a.If)
	}
	return text
}
