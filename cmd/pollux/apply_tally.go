package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
)

// applyTally has nodes apply records, prints the results and counts them.
type applyTally struct {
	a     *app
	dry   bool
	count map[pb.ApplyOutcome]int
	total int
	// made is what a dry run would have made by now: "kind/id".
	made map[string]bool
}

func newTally(a *app, dry bool) *applyTally {
	return &applyTally{a: a, dry: dry, count: map[pb.ApplyOutcome]int{}, made: map[string]bool{}}
}

// group has the node make a group of records, and gives their results in their order; with an error those of the records before the one that it is
// about.
func (t *applyTally) group(ctx context.Context, n *node, project string, group []*planLine, each bool) ([]*pb.ApplyResult, error) {
	r := &pb.ApplyRequest{Project: project, DryRun: t.dry, Each: each}
	plan := map[string]bool{}
	for _, l := range group {
		r.Records = append(r.Records, l.rec)
		for _, ref := range l.refs {
			if t.made[ref] {
				plan[ref] = true
			}
		}
	}
	r.Planned = slices.Sorted(maps.Keys(plan))
	res, err := n.bulk.Apply(ctx, req(r))
	if err == nil {
		for _, x := range res.Msg.Results {
			if t.dry && x.Outcome == pb.ApplyOutcome_APPLY_OUTCOME_CREATED {
				t.made[x.Kind+"/"+x.Id] = true
			}
		}
		return res.Msg.Results, nil
	}
	half := len(group) / 2
	if half == 0 || rpc.ErrorInfoOf(err).GetReason() != "too_large" {
		return nil, err
	}
	// It is too much for one request, or for one transaction.
	first, err := t.group(ctx, n, project, group[:half], each)
	if err != nil || !t.dry && !each && slices.ContainsFunc(first, isRefused) {
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
