package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

type ingestService struct{ s *Server }

// maxStreamResults are the results that a stream is answered with; its sums count all.
const maxStreamResults = 1000

func (s *ingestService) Ingest(ctx context.Context, r *connect.Request[pb.IngestRequest]) (*connect.Response[pb.IngestResponse], error) {
	res, err := s.s.takeIn(ctx, connectLines(r.Msg), r.Msg.Atomic)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *ingestService) IngestStream(ctx context.Context, in *connect.ClientStream[pb.IngestStreamRequest]) (*connect.Response[pb.IngestStreamResponse], error) {
	sums := &pb.IngestResponse{}
	before, requests := uint32(0), 1
	for ; in.Receive(); requests++ {
		req := in.Msg().GetRequest()
		res, err := s.s.takeIn(ctx, connectLines(req), req.GetAtomic())
		if err != nil {
			return nil, inStream(err, requests, sums)
		}
		sums.Stored += res.Stored
		sums.Refused += res.Refused
		sums.Inbox += res.Inbox
		sums.Duplicate += res.Duplicate
		sums.Retry += res.Retry
		for _, x := range res.Results {
			if len(sums.Results) < maxStreamResults {
				x.Index += before
				sums.Results = append(sums.Results, x)
			}
		}
		before += uint32(len(req.GetMessages()))
	}
	if err := in.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, inStream(err, requests, sums)
	}
	return connect.NewResponse(&pb.IngestStreamResponse{Sums: sums}), nil
}

// inStream says of the error that ends a stream at which request it came, and what became of those before.
func inStream(err error, request int, before *pb.IngestResponse) error {
	var ce *connect.Error
	if err = translate(err); !errors.As(err, &ce) {
		return err
	}
	told := connect.NewError(ce.Code(), fmt.Errorf("request %d of the stream: %s; of the messages before it %d were stored, %d refused, %d are in the inbox, "+
		"%d were duplicates, %d have to be sent again", request, ce.Message(), before.Stored, before.Refused, before.Inbox, before.Duplicate, before.Retry))
	for _, d := range ce.Details() {
		told.AddDetail(d)
	}
	return told
}

// connectLines are the messages of a request. Whether a payload has to be JSON is its twin's affair here.
func connectLines(r *pb.IngestRequest) []intakeLine {
	lines := make([]intakeLine, len(r.GetMessages()))
	for i, x := range r.GetMessages() {
		m := &actors.Ingest{Door: "connect", Project: r.Project, Twin: x.GetTwin(), Alias: x.GetAlias(), Payload: x.GetPayload(),
			Historical: x.GetHistorical(), ID: x.GetId(), Commit: !r.Accepted}
		lines[i].m = m
		if x.GetTime() != nil {
			m.Time = max(1, x.Time.AsTime().UnixMilli())
		}
		if (m.Twin == "") == (m.Alias == nil) {
			lines[i].bad("either a twin or an alias is needed")
		}
	}
	return lines
}

func (s *ingestService) GetIngestStatus(ctx context.Context, r *connect.Request[pb.GetIngestStatusRequest]) (*connect.Response[pb.GetIngestStatusResponse], error) {
	res, err := s.s.o.Registry.IngestStatus(r.Msg.Project, r.Msg.Fresh, projectsOf(principalFrom(ctx)))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *ingestService) ListRefusals(ctx context.Context, r *connect.Request[pb.ListRefusalsRequest]) (*connect.Response[pb.ListRefusalsResponse], error) {
	res, err := paged("refusal", &r.Msg.PageToken, func() (*pb.ListRefusalsResponse, error) {
		return s.s.o.Registry.ListRefusals(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListRefusalsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *ingestService) GetProjectSettings(_ context.Context, r *connect.Request[pb.GetProjectSettingsRequest]) (*connect.Response[pb.GetProjectSettingsResponse], error) {
	settings, err := s.s.o.Registry.ProjectSettings(r.Msg.Project)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.GetProjectSettingsResponse{Settings: settings}), nil
}

func (s *ingestService) PutProjectSettings(ctx context.Context, r *connect.Request[pb.PutProjectSettingsRequest]) (*connect.Response[pb.PutProjectSettingsResponse], error) {
	settings, err := s.s.o.Registry.PutProjectSettings(ctx, r.Msg.Settings)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.PutProjectSettingsResponse{Settings: settings}), nil
}

// deniedIngest lists each message of a request that is for another project than its sender's.
func (s *Server) deniedIngest(p *Principal, action Action, r Resource, m any) {
	if action != ActionIngest {
		return
	}
	req, _ := m.(*pb.IngestRequest)
	if stream, ok := m.(*pb.IngestStreamRequest); ok {
		req = stream.GetRequest()
	}
	for _, x := range req.GetMessages() {
		s.foreign(p, &actors.Ingest{Door: "connect", Payload: x.GetPayload(), ID: x.GetId()}, r.Project)
	}
}

// ingested: messages to a project; a request without one is for the caller's, or the project default.
func ingested(m any, p *Principal) (Resource, error) {
	var project *string
	switch m := m.(type) {
	case *pb.IngestRequest:
		project = &m.Project
	case *pb.IngestStreamRequest:
		if m.Request == nil {
			return Resource{}, invalid("request", "is missing")
		}
		project = &m.Request.Project
	default:
		return Resource{}, errWrongMessage
	}
	return ofOneProject("message", project, p)
}
