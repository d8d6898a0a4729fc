package rpc

import (
	"context"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage/history"
	"github.com/polluxhq/pollux/storage/journal"
)

// Samples is the history as rules see it.
type Samples interface {
	// Expired counts what rules would let go now. It may take as long as the project has series.
	Expired(ctx context.Context, project string, rules history.SampleRules, now time.Time) (history.Curation, error)
}

// seriesCounter is a history in the node's own process: one elsewhere is not asked every few seconds.
type seriesCounter interface {
	// SeriesToday counts the project's series that have samples of today.
	SeriesToday(project string) (uint64, error)
}

// JournalRules are a project's rules as the journal takes them.
func JournalRules(list []*pb.RetentionRule, longest time.Duration) journal.Rules {
	out := journal.Rules{Default: longest}
	for _, r := range list {
		out.List = append(out.List, journal.Rule{Kind: r.Kind, Name: r.Name, MaxAge: r.MaxAge.AsDuration()})
	}
	return out
}

// SampleRules are a project's rules as history takes them.
func SampleRules(r *actors.Registry, project string, list []*pb.SampleRetention) (rules history.SampleRules, err error) {
	models := &actors.SeriesModels{}
	if slices.ContainsFunc(list, func(x *pb.SampleRetention) bool { return x.Model != "" }) {
		if models, err = r.SeriesModels(project); err != nil {
			return rules, err
		}
		rules.ModelsOf = models.Of
	}
	for _, x := range list {
		rules.List = append(rules.List, history.SampleRule{Model: models.ID(x.Model), Property: x.Property, MaxAge: x.MaxAge.AsDuration(),
			Step: x.Downsample.AsDuration(), StepMaxAge: x.DownsampleMaxAge.AsDuration()})
	}
	return rules, nil
}

// Uses says what a project takes, of each resource that a quota may be of. Where the samples are elsewhere the series are not among them.
func Uses(r *actors.Registry, j *journal.Journal, samples Samples, s *pb.ProjectSettings) (uses []*pb.QuotaUse, err error) {
	limits := actors.QuotaLimits(s.GetQuotas())
	series, counted := samples.(seriesCounter)
	journalBytes := func(p string) (uint64, error) {
		// What is in memory would be counted when it goes to the disk, many times a small quota at once: it would bite before it was told of.
		if limit := limits[actors.QuotaJournalBytes]; limit > 0 {
			if err := j.Flush(limit / 20); err != nil {
				return 0, err
			}
		}
		return j.Usage(p)
	}
	for _, of := range []struct {
		resource string
		count    func(string) (uint64, error)
	}{
		{actors.QuotaTwins, r.ProjectTwins}, {actors.QuotaJournalBytes, journalBytes}, {actors.QuotaTopicBytes, r.ProjectTopicBytes},
		{actors.QuotaSeries, func(p string) (uint64, error) { return series.SeriesToday(p) }},
	} {
		if of.resource == actors.QuotaSeries && !counted {
			continue
		}
		n, err := of.count(s.Project)
		if err != nil {
			return nil, err
		}
		uses = append(uses, &pb.QuotaUse{Resource: of.resource, Used: n, Limit: limits[of.resource]})
	}
	return uses, nil
}

func (h *historyService) PreviewRetention(ctx context.Context, r *connect.Request[pb.PreviewRetentionRequest]) (*connect.Response[pb.PreviewRetentionResponse], error) {
	o := &h.s.o
	list, samples := r.Msg.Rules, r.Msg.SampleRules
	if r.Msg.Current {
		settings, err := o.Registry.ProjectSettings(r.Msg.Project)
		if err != nil {
			return nil, err
		}
		list, samples = settings.JournalRetention, settings.SampleRetention
	} else if err := actors.CheckJournalRetention("/rules", list); err != nil {
		return nil, err
	} else if err := actors.CheckSampleRetention("/sample_rules", samples); err != nil {
		return nil, err
	}
	o.Journal.CatchUp(ctx, journalPatience)
	c, kinds, err := o.Journal.Expired(ctx, r.Msg.Project, JournalRules(list, o.Retention), time.Now(), false)
	if err != nil {
		return nil, err
	}
	_, here := o.Samples.(seriesCounter)
	out := &pb.PreviewRetentionResponse{Entries: c.Entries, Bytes: c.Bytes, Kinds: kinds, DefaultMaxAge: durationpb.New(o.Retention), Elsewhere: !here}
	if c.Entries > 0 {
		out.Oldest, out.Newest = timestamppb.New(time.UnixMilli(c.Oldest)), timestamppb.New(time.UnixMilli(c.Newest))
	}
	if out.UsedBytes, err = o.Journal.Usage(r.Msg.Project); err != nil {
		return nil, err
	}
	if o.Samples != nil {
		rules, err := SampleRules(o.Registry, r.Msg.Project, samples)
		if err != nil {
			return nil, err
		}
		would, err := o.Samples.Expired(ctx, r.Msg.Project, rules, time.Now())
		if err != nil {
			return nil, err
		}
		out.Samples, out.Series, out.Properties = would.Samples, would.Series, would.Properties
	}
	return connect.NewResponse(out), nil
}

func (h *historyService) GetRetentionStatus(ctx context.Context, r *connect.Request[pb.GetRetentionStatusRequest]) (*connect.Response[pb.GetRetentionStatusResponse], error) {
	if _, here := h.s.o.Samples.(seriesCounter); !here && !isLocal(ctx) {
		// The leader applies the rules on a server elsewhere. Where it cannot be asked this node says what it knows.
		if leader, err := h.s.leader(ctx); err == nil && leader != "" && leader != h.s.o.Peers.Self() {
			if res, err := fromHistory(ctx, h.s, []string{leader}, func(p *peerClients) (*connect.Response[pb.GetRetentionStatusResponse], error) {
				return p.history.GetRetentionStatus(ctx, connect.NewRequest(r.Msg))
			}); err == nil {
				return res, nil
			}
		}
	}
	settings, err := h.s.o.Registry.ProjectSettings(r.Msg.Project)
	if err != nil {
		return nil, err
	}
	settings.Project = r.Msg.Project
	out := &pb.GetRetentionStatusResponse{Rules: settings.JournalRetention, SampleRules: settings.SampleRetention}
	if r.Msg.Preview {
		res, err := h.PreviewRetention(ctx, connect.NewRequest(&pb.PreviewRetentionRequest{Project: r.Msg.Project, Current: true}))
		if err != nil {
			return nil, err
		}
		out.Preview = res.Msg
	}
	if out.Uses, err = Uses(h.s.o.Registry, h.s.o.Journal, h.s.o.Samples, settings); err != nil {
		return nil, err
	}
	if h.s.o.Curation != nil {
		out.Curation = h.s.o.Curation(r.Msg.Project)
	}
	return connect.NewResponse(out), nil
}

// ofRetention: the project whose past it is.
func ofRetention(m any, p *Principal) (Resource, error) {
	switch msg := m.(type) {
	case *pb.PreviewRetentionRequest:
		return ofOneProject("project", &msg.Project, p)
	case *pb.GetRetentionStatusRequest:
		return ofOneProject("project", &msg.Project, p)
	}
	return Resource{}, errWrongMessage
}
