package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
)

// applyTally has nodes apply records, prints the results and counts them.
type applyTally struct {
	a     *app
	dry   bool
	count map[pb.ApplyOutcome]int
	total int
}

func newTally(a *app, dry bool) *applyTally {
	return &applyTally{a: a, dry: dry, count: map[pb.ApplyOutcome]int{}}
}

// dryRun asks the node what it would make of groups that are applied one after the other, and gives told the result of each of their lines.
func (t *applyTally) dryRun(ctx context.Context, n *node, project string, groups [][]*planLine, each bool, told func(x *pb.ApplyResult, at string) error) error {
	if len(groups) == 0 {
		return nil
	}
	r := &pb.DryRunRequest{Project: project, Each: each}
	var lines []*planLine
	for _, group := range groups {
		lines = append(lines, group...)
		g := &pb.ApplyGroup{}
		for _, l := range group {
			g.Records = append(g.Records, l.rec)
		}
		r.Groups = append(r.Groups, g)
	}
	stream, err := n.bulk.DryRun(ctx, req(r))
	if err != nil {
		return tooMuch(err)
	}
	defer stream.Close()
	for stream.Receive() {
		for _, x := range stream.Msg().Results {
			if len(lines) == 0 {
				return errors.New("dry run: the node told of more records than it was given")
			}
			if err := told(x, lines[0].at); err != nil {
				return err
			}
			lines = lines[1:]
		}
	}
	switch err := tooMuch(stream.Err()); {
	case len(lines) == 0 || errors.Is(err, errTooMuch):
		return err
	case err != nil:
		return fmt.Errorf("%s: %w", lines[0].at, err)
	}
	return fmt.Errorf("%s: the node told nothing of it", lines[0].at)
}

var errTooMuch = errors.New("a dry run is one request: try a part of it at a time")

// tooMuch says what can be done where the request is larger than a node takes.
func tooMuch(err error) error {
	if connect.CodeOf(err) == connect.CodeResourceExhausted && rpc.ErrorInfoOf(err).GetReason() == "too_large" {
		return fmt.Errorf("%w: %w", errTooMuch, err)
	}
	return err
}

// group has the node make a group of records, and gives their results in their order; with an error those of the records before the one that it is
// about.
func (t *applyTally) group(ctx context.Context, n *node, project string, group []*planLine, each bool) ([]*pb.ApplyResult, error) {
	r := &pb.ApplyRequest{Project: project, Each: each}
	for _, l := range group {
		r.Records = append(r.Records, l.rec)
	}
	res, err := n.bulk.Apply(ctx, req(r))
	if err == nil {
		return res.Msg.Results, nil
	}
	half := len(group) / 2
	if half == 0 || rpc.ErrorInfoOf(err).GetReason() != "too_large" {
		return nil, err
	}
	// It is too much for one request, or for one transaction.
	first, err := t.group(ctx, n, project, group[:half], each)
	if err != nil || !each && slices.ContainsFunc(first, isRefused) {
		return first, err
	}
	second, err := t.group(ctx, n, project, group[half:], each)
	return append(first, second...), err
}

func isRefused(x *pb.ApplyResult) bool {
	return x.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_REFUSED
}

var outcomeWords = map[pb.ApplyOutcome]string{pb.ApplyOutcome_APPLY_OUTCOME_CREATED: "created", pb.ApplyOutcome_APPLY_OUTCOME_CHANGED: "changed",
	pb.ApplyOutcome_APPLY_OUTCOME_UNCHANGED: "unchanged", pb.ApplyOutcome_APPLY_OUTCOME_REFUSED: "refused", pb.ApplyOutcome_APPLY_OUTCOME_LEFT: "left"}

func (t *applyTally) add(x *pb.ApplyResult, at string) error {
	t.count[x.Outcome]++
	t.total++
	a := t.a
	if !a.table() {
		return a.line(x, nil)
	}
	name := x.Kind + " " + bare(x.Id)
	switch x.Outcome {
	case pb.ApplyOutcome_APPLY_OUTCOME_CREATED:
		a.printf("+ %s\n", printable(name))
	case pb.ApplyOutcome_APPLY_OUTCOME_CHANGED:
		a.printf("~ %s\n", printable(name))
		for _, c := range x.Changes {
			a.printf("    %s: %s -> %s\n", printable(c.Field), printable(dash(c.Old)), printable(dash(c.New)))
		}
	case pb.ApplyOutcome_APPLY_OUTCOME_REFUSED:
		a.printf("! %s (%s): %s\n", printable(name), at, printable(x.Error))
	}
	return nil
}

// end prints the sum.
func (t *applyTally) end(of int) error {
	var parts []string
	for _, o := range []pb.ApplyOutcome{pb.ApplyOutcome_APPLY_OUTCOME_CREATED, pb.ApplyOutcome_APPLY_OUTCOME_CHANGED,
		pb.ApplyOutcome_APPLY_OUTCOME_UNCHANGED, pb.ApplyOutcome_APPLY_OUTCOME_REFUSED, pb.ApplyOutcome_APPLY_OUTCOME_LEFT} {
		if n := t.count[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, outcomeWords[o]))
		}
	}
	if rest := of - t.total; rest > 0 {
		parts = append(parts, fmt.Sprintf("%d not tried", rest))
	}
	sum := strings.Join(parts, ", ")
	if sum == "" {
		sum = "there is no record"
	}
	if t.dry {
		sum = "dry run, nothing is committed: " + sum
	}
	if t.a.table() {
		t.a.printf("%s\n", sum)
	}
	if n := t.count[pb.ApplyOutcome_APPLY_OUTCOME_REFUSED]; n > 0 {
		return fmt.Errorf("%d of %d records refused", n, of)
	}
	return nil
}
