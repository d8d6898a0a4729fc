package pollux

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/storage/history"
)

const (
	// curateFirst is how long after its start a node deletes for the first time what the projects' rules let go: others go first.
	curateFirst = time.Minute
	// quotasEvery is how often the leader looks at the projects' quotas.
	quotasEvery = 5 * time.Second
	// rulesEvery is how often is looked, while a project's past is deleted, whether its rules are still the same.
	rulesEvery = 100 * time.Millisecond
)

// curator deletes what the projects' rules let go, from this node's journal and history. Each node does so with its own: what goes follows
// from committed rules and the entry's or the sample's time, so there is nothing to agree on. Of a server for history that all nodes
// share the leader does, which is the one that pushes.
type curator struct {
	n *Node

	mu   sync.Mutex
	runs map[string]*pb.Curation // by project
}

// curate starts the curator.
func (n *Node) curate(context.Context) error {
	c := &curator{n: n, runs: map[string]*pb.Curation{}}
	n.curator = c
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		every := n.conf.RetentionInterval
		for rest(ctx, min(every, curateFirst)); ctx.Err() == nil; rest(ctx, every) {
			c.run(ctx)
		}
	})
	running.Go(func() {
		for rest(ctx, quotasEvery); ctx.Err() == nil; rest(ctx, quotasEvery) {
			if err := c.quotas(ctx); err != nil && ctx.Err() == nil {
				n.log.Warn("quotas of projects are not looked at", "error", err)
			}
		}
	})
	n.closeLater("curator", func(context.Context) error {
		cancel()
		running.Wait()
		return nil
	})
	return nil
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// run curates all projects once.
func (c *curator) run(ctx context.Context) {
	names, err := c.n.journal.Projects()
	projects := map[string]bool{}
	for _, name := range names {
		projects[name] = true
	}
	err = errors.Join(err, c.n.engine.Registry().Settled(func(s *pb.ProjectSettings) error {
		projects[s.Project] = true
		return nil
	}))
	if err != nil {
		c.n.log.Warn("retention: projects cannot be listed", "error", err)
		return
	}
	for name := range projects {
		for held := false; !held && ctx.Err() == nil; {
			held = c.project(ctx, name)
		}
	}
}

// project applies a project's rules, as they are now; false: they were replaced, and it stopped at that.
func (c *curator) project(ctx context.Context, name string) (held bool) {
	run := &pb.Curation{Node: c.n.conf.Name, StartTime: timestamppb.Now(), Running: "journal"}
	c.set(name, run)
	s, err := c.n.engine.Registry().ProjectSettings(name)
	held = true
	if err == nil {
		s.Project = name
		holding, stop := c.whileHeld(ctx, s)
		err = c.apply(holding, s, run)
		held = holding.Err() == nil || ctx.Err() != nil
		stop()
	}
	run.Running, run.EndTime = "", timestamppb.Now()
	if err != nil && held && ctx.Err() == nil {
		run.Error = err.Error()
		c.n.metrics.GetOrCreateCounter("pollux_curate_errors_total").Inc()
		c.n.log.Warn("a project's past is not curated; it is tried again", "project", name, "error", err)
	}
	if run.Entries+run.Samples > 0 {
		c.n.log.Info("what is older than a project's rules is deleted", "project", name, "journal_entries", run.Entries, "samples", run.Samples,
			"of_them_in_aggregates", run.Rolled, "series", run.Series)
	}
	c.set(name, run)
	return held
}

// whileHeld gives a context that ends when the project's rules are others than these: a large past takes long, and nothing may go by a rule
// that was taken away. The caller calls stop.
func (c *curator) whileHeld(ctx context.Context, s *pb.ProjectSettings) (holding context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var looking sync.WaitGroup
	looking.Go(func() {
		for rest(ctx, rulesEvery); ctx.Err() == nil; rest(ctx, rulesEvery) {
			if now, err := c.n.engine.Registry().ProjectSettings(s.Project); err == nil && !proto.Equal(rulesOf(now), rulesOf(s)) {
				cancel(history.ErrOtherRules)
			}
		}
	})
	return ctx, func() {
		cancel(nil)
		looking.Wait()
	}
}

// rulesOf are the settings that say what is deleted.
func rulesOf(s *pb.ProjectSettings) *pb.ProjectSettings {
	return &pb.ProjectSettings{JournalRetention: s.JournalRetention, SampleRetention: s.SampleRetention, Quotas: s.Quotas}
}

// apply lets go what a project's settings say, and notes in run what it did.
func (c *curator) apply(ctx context.Context, s *pb.ProjectSettings, run *pb.Curation) error {
	if err := c.journal(ctx, s, run); err != nil {
		return err
	}
	samples := c.samples()
	if samples == nil || len(s.SampleRetention) == 0 {
		return nil
	}
	rules, err := rpc.SampleRules(c.n.engine.Registry(), s.Project, s.SampleRetention)
	if err != nil {
		return err
	}
	did, err := samples.Curate(ctx, s.Project, rules, time.Now(), func(property string, now history.Curation) {
		run.Running, run.Samples, run.Rolled, run.Series = property, now.Samples, now.Rolled, now.Series
		c.set(s.Project, run)
	})
	run.Samples, run.Rolled, run.Series = did.Samples, did.Rolled, did.Series
	return err
}

// samples is the history that this node curates: its own where that is whole, or the server's for all nodes where it is the one that pushes;
// else nil.
func (c *curator) samples() interface {
	Curate(ctx context.Context, project string, rules history.SampleRules, now time.Time, progress func(string, history.Curation)) (history.Curation, error)
} {
	if e, ok := c.n.history.(*history.Embedded); ok && e.Complete() {
		return e
	}
	// What a new pusher sends once more comes before anything is let go: it would come back behind that.
	if s, ok := c.n.feeder.(*history.Shared); ok && s.Pushing() {
		return s
	}
	return nil
}

// journal lets go what the rules of the journal say, and then what is above its quota.
func (c *curator) journal(ctx context.Context, s *pb.ProjectSettings, run *pb.Curation) error {
	went, _, err := c.n.journal.Expired(ctx, s.Project, rpc.JournalRules(s.JournalRetention, c.n.conf.MetricsRetention), time.Now(), true)
	run.Entries = went.Entries
	if err != nil {
		return err
	}
	if most := s.GetQuotas().GetJournalBytes(); most > 0 {
		went, err = c.n.journal.Shrink(ctx, s.Project, most)
		run.Entries += went.Entries
	}
	return err
}

func (c *curator) set(project string, run *pb.Curation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs[project] = proto.Clone(run).(*pb.Curation)
}

// Curation says how far the node is with a project; nil where it has not begun.
func (c *curator) Curation(project string) *pb.Curation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs[project]
}

// quotas tells of those that are nearly used up, where this node leads.
func (c *curator) quotas(ctx context.Context) error {
	if !c.n.raft.IsLeader() {
		return nil
	}
	var faults []error
	err := c.n.engine.Registry().Settled(func(s *pb.ProjectSettings) error {
		if err := c.tellQuotas(ctx, s); err != nil {
			faults = append(faults, fmt.Errorf("project %s: %w", s.Project, err))
		}
		return nil
	})
	return errors.Join(append(faults, err)...)
}

func (c *curator) tellQuotas(ctx context.Context, s *pb.ProjectSettings) error {
	registry := c.n.engine.Registry()
	var uses []*pb.QuotaUse
	if s.Quotas == nil { // an alarm of when it had some is cleared
		for _, resource := range []string{actors.QuotaTwins, actors.QuotaSeries, actors.QuotaJournalBytes, actors.QuotaTopicBytes} {
			uses = append(uses, &pb.QuotaUse{Resource: resource})
		}
	} else {
		var err error
		if uses, err = rpc.Uses(registry, c.n.journal, c.n.samples(), s); err != nil {
			return err
		}
	}
	for _, u := range uses {
		if err := registry.TellQuota(ctx, s.Project, u.Resource, u.Used, u.Limit); err != nil {
			return fmt.Errorf("tell of the quota of %s: %w", u.Resource, err)
		}
	}
	return nil
}

// samples is the history as rules see it.
func (n *Node) samples() rpc.Samples {
	s, _ := n.history.(rpc.Samples)
	return s
}
