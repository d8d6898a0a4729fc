package rpc

import (
	"context"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage/journal"
)

// JournalRules are a project's rules as the journal takes them.
func JournalRules(list []*pb.RetentionRule, longest time.Duration) journal.Rules {
	out := journal.Rules{Default: longest}
	for _, r := range list {
		out.List = append(out.List, journal.Rule{Kind: r.Kind, Name: r.Name, MaxAge: r.MaxAge.AsDuration()})
	}
	return out
}

func (h *historyService) PreviewRetention(ctx context.Context, r *connect.Request[pb.PreviewRetentionRequest]) (*connect.Response[pb.PreviewRetentionResponse], error) {
	list := r.Msg.Rules
	if r.Msg.Current {
		settings, err := h.s.o.Registry.ProjectSettings(r.Msg.Project)
		if err != nil {
			return nil, err
		}
		list = settings.JournalRetention
	}
	h.s.o.Journal.CatchUp(ctx, journalPatience)
	c, kinds, err := h.s.o.Journal.Expired(ctx, r.Msg.Project, JournalRules(list, h.s.o.Retention), time.Now(), false)
	if err != nil {
		return nil, err
	}
	out := &pb.PreviewRetentionResponse{Entries: c.Entries, Bytes: c.Bytes, Kinds: kinds, DefaultMaxAge: durationpb.New(h.s.o.Retention)}
	if c.Entries > 0 {
		out.Oldest, out.Newest = timestamppb.New(time.UnixMilli(c.Oldest)), timestamppb.New(time.UnixMilli(c.Newest))
	}
	if out.UsedBytes, err = h.s.o.Journal.Usage(r.Msg.Project); err != nil {
		return nil, err
	}
	return connect.NewResponse(out), nil
}

// ofRetention: the project whose journal it is.
func ofRetention(m any, p *Principal) (Resource, error) {
	msg, ok := m.(*pb.PreviewRetentionRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	return ofOneProject("project", &msg.Project, p)
}
