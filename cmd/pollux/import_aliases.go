package main

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"sync"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// aliasColumn reads a cell of an alias: it is kept as a twin with the one alias, which the twin of that name is given.
func aliasColumn(column, value string, rec *pb.ConfigRecord) error {
	t := rec.GetTwin()
	if len(t.Aliases) == 0 {
		t.Aliases = []*pb.Alias{{}}
	}
	switch column {
	case "network":
		t.Aliases[0].Network = value
	case "key":
		t.Aliases[0].Key = value
	case "value":
		t.Aliases[0].Value = value
	case "twin":
		t.Id = value
	default:
		return errColumn
	}
	return nil
}

func aliasNames(rec *pb.ConfigRecord, project string) (id string, refs []string) {
	for _, a := range rec.GetTwin().GetAliases() {
		id = project + "/" + a.Network + "/" + a.Key + "/" + a.Value
	}
	return id, nil
}

// aliasWriters is how many twins are given aliases at the same time.
const aliasWriters = 16

// importAliases gives aliases to their twins: those of one twin in their order, and of several side by side.
func importAliases(ctx context.Context, a *app, n *node, group []*planLine, tally *applyTally, project string, dry bool) error {
	results, errs := make([]*pb.ApplyResult, len(group)), make([]error, len(group))
	seed := maphash.MakeSeed()
	var all sync.WaitGroup
	for w := range uint64(aliasWriters) {
		all.Go(func() {
			for i, l := range group {
				if maphash.String(seed, l.rec.GetTwin().Id)%aliasWriters == w {
					results[i], errs[i] = importAlias(ctx, n, l, project, dry)
				}
			}
		})
	}
	all.Wait()
	for i, l := range group {
		if errs[i] != nil {
			return fmt.Errorf("%s: %w; the %d lines before it are done", l.at, errs[i], tally.total)
		}
		if err := a.imported(results[i], tally, l.at, dry); err != nil {
			return err
		}
	}
	return nil
}

// importAlias gives one alias to its twin. An error is of the node; what is wrong with the line is in the result.
func importAlias(ctx context.Context, n *node, l *planLine, project string, dry bool) (*pb.ApplyResult, error) {
	want := &pb.NamedAlias{Alias: l.rec.GetTwin().Aliases[0], Twin: l.rec.GetTwin().Id}
	if !strings.Contains(want.Twin, "/") {
		want.Twin = project + "/" + want.Twin
	}
	out := &pb.ApplyResult{Kind: "alias", Id: l.id}
	refused := func(why string) (*pb.ApplyResult, error) {
		out.Outcome, out.Error, out.Changes = pb.ApplyOutcome_APPLY_OUTCOME_REFUSED, why, nil
		return out, nil
	}
	if !strings.HasPrefix(want.Twin, project+"/") {
		return refused(want.Twin + " is in another project than " + project)
	}
	_, err := n.twins.GetTwin(ctx, req(&pb.GetTwinRequest{Id: want.Twin}))
	if err == nil {
		err = giveAlias(ctx, n, want, out, project, dry)
	}
	switch code := connect.CodeOf(err); {
	case err == nil:
		return out, nil
	case code == connect.CodeNotFound, code == connect.CodeInvalidArgument, code == connect.CodeAlreadyExists, code == connect.CodeFailedPrecondition,
		code == connect.CodeResourceExhausted, code == connect.CodeAborted:
		var ce *connect.Error
		errors.As(err, &ce)
		return refused(ce.Message())
	}
	return out, err
}

// giveAlias says in out what it did, or would do.
func giveAlias(ctx context.Context, n *node, want *pb.NamedAlias, out *pb.ApplyResult, project string, dry bool) error {
	old, err := n.aliases.GetAlias(ctx, req(&pb.GetAliasRequest{Project: project, Alias: want.Alias}))
	switch {
	case connect.CodeOf(err) == connect.CodeNotFound:
		if out.Outcome = pb.ApplyOutcome_APPLY_OUTCOME_CREATED; dry {
			return nil
		}
		_, err = n.aliases.CreateAlias(ctx, req(&pb.CreateAliasRequest{Project: project, Named: want}))
		return err
	case err != nil:
		return err
	case old.Msg.Named.Twin == want.Twin:
		out.Outcome = pb.ApplyOutcome_APPLY_OUTCOME_UNCHANGED
		return nil
	}
	out.Outcome = pb.ApplyOutcome_APPLY_OUTCOME_CHANGED
	if out.Changes = []*pb.FieldChange{{Field: "twin", Old: old.Msg.Named.Twin, New: want.Twin}}; dry {
		return nil
	}
	_, err = n.aliases.UpdateAlias(ctx, req(&pb.UpdateAliasRequest{Project: project, Named: want}))
	return err
}
