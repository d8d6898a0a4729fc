package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// DryRun says what Apply would of groups that it is given one after the other, and commits nothing: they are committed to a fork of the
// store, and each finds what those before it have left there. The right ones of a group that Apply would leave count as made, too: so what
// is wrong elsewhere is told at once. yield is called with results in the order of the records, some at a time, and its first error ends it.
// Otherwise the errors are those of Apply, for the record behind those whose results were given. by is who asks.
func (r *Registry) DryRun(ctx context.Context, req *pb.DryRunRequest, by string, yield func([]*pb.ApplyResult) error) (err error) {
	fork, release, err := r.fork()
	if err != nil {
		return fmt.Errorf("dry run: %w", err)
	}
	defer func() { err = errors.Join(err, release()) }()
	a := applying{project: req.Project, by: by, each: req.Each, dry: true}
	for _, g := range req.Groups {
		if err := fork.dryRun(ctx, g.Records, a, yield); err != nil {
			return err
		}
	}
	return nil
}

// fork gives a registry on a fork of the store, for drafts: what they ask of the engine is read anew from the fork. Release it.
func (r *Registry) fork() (*Registry, func() error, error) {
	e := r.e
	s, release, err := e.store.Fork()
	if err != nil {
		return nil, nil, err
	}
	f := &Engine{o: e.o, store: s, cluster: e.cluster, log: e.log, base: e.base, baseMS: e.baseMS,
		automation: e.automation, notifiers: e.notifiers} // whose checks read no records
	f.o.Store = s
	f.catalog, f.sealer = newCatalog(s), newSealer(s)
	f.layers = newLayers(s, f.sealer)
	f.projects = newProjects(s, func() {})
	f.topics, f.intake = newTopics(s, e.o.TopicCache, f.projects.has), &intake{aliases: newAliases(s, e.o.TopicCache)}
	f.world = &world{e: f}
	f.derivations = newDerivations(f)
	e.derivations.mu.RLock()
	f.derivations.byTwin = maps.Clone(e.derivations.byTwin)
	e.derivations.mu.RUnlock()
	f.registry = newRegistry(f)
	return f.registry, release, nil
}

// dryRun does on a fork what Apply does with a group, and what those who apply do where it is too much for one transaction.
func (r *Registry) dryRun(ctx context.Context, records []*pb.ConfigRecord, a applying, yield func([]*pb.ApplyResult) error) error {
	for n := 1; ; n++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("dry run: %w", err)
		}
		results, g := r.drafts(ctx, records, a)
		_, err := r.store.Commit(ctx, g.txn)
		large := errors.Is(err, storage.ErrTooLarge)
		switch half := len(records) / 2; {
		case large && !g.left && half > 0:
			if err := r.dryRun(ctx, records[:half], a, yield); err != nil {
				return err
			}
			return r.dryRun(ctx, records[half:], a, yield)
		case large && !g.left:
			return fmt.Errorf("apply %d records together: %w", len(records), err)
		case err == nil, large: // a group that is left is not committed, whatever its size
			r.e.catalog.changed()
			r.e.layers.changed()
			if err := g.finish(ctx); err != nil && !g.left {
				return err
			}
			return yield(results)
		case !errors.Is(err, storage.ErrGuard):
			return fmt.Errorf("dry run: %w", err)
		case n == attempts:
			return fmt.Errorf("dry run: %w: %w", ErrRevision, err)
		}
	}
}
