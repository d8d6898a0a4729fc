package rpc

import (
	"context"
	"sort"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// topicTimeout bounds a call to a topic's owner whose caller sets no deadline: time enough for a slot to move.
const topicTimeout = 30 * time.Second

type topicService struct{ s *Server }

func (s *topicService) topics() *topic.Host { return s.s.o.Client.Topics() }

func (s *topicService) CreateTopic(ctx context.Context, r *connect.Request[pb.CreateTopicRequest]) (*connect.Response[pb.CreateTopicResponse], error) {
	r.Msg.Topic.Revision = 0
	t, err := s.s.o.Registry.PutTopic(ctx, r.Msg.Topic)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateTopicResponse{Topic: t}), nil
}

func (s *topicService) GetTopic(ctx context.Context, r *connect.Request[pb.GetTopicRequest]) (*connect.Response[pb.GetTopicResponse], error) {
	t, err := s.s.o.Registry.Topic(r.Msg.Id)
	if err != nil {
		return nil, err
	}
	if !t.Deleting {
		ctx, cancel := context.WithTimeout(ctx, topicTimeout)
		defer cancel()
		if t.State, err = s.topics().State(ctx, t.Id); err != nil {
			return nil, err
		}
	}
	return connect.NewResponse(&pb.GetTopicResponse{Topic: t}), nil
}

func (s *topicService) ListTopics(ctx context.Context, r *connect.Request[pb.ListTopicsRequest]) (*connect.Response[pb.ListTopicsResponse], error) {
	res, err := paged("topic", &r.Msg.PageToken, func() (*pb.ListTopicsResponse, error) {
		return s.s.o.Registry.ListTopics(r.Msg, projectsOf(principalFrom(ctx)))
	}, func(res *pb.ListTopicsResponse) *string { return &res.NextPageToken })
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *topicService) UpdateTopic(ctx context.Context, r *connect.Request[pb.UpdateTopicRequest]) (*connect.Response[pb.UpdateTopicResponse], error) {
	if r.Msg.Topic.Revision == 0 {
		return nil, invalid("topic.revision", "is missing: read the topic first")
	}
	t, err := s.s.o.Registry.PutTopic(ctx, r.Msg.Topic)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.UpdateTopicResponse{Topic: t}), nil
}

func (s *topicService) DeleteTopic(ctx context.Context, r *connect.Request[pb.DeleteTopicRequest]) (*connect.Response[pb.DeleteTopicResponse], error) {
	if err := s.s.o.Registry.DeleteTopic(ctx, r.Msg.Id); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.DeleteTopicResponse{}), nil
}

func (s *topicService) Publish(ctx context.Context, r *connect.Request[pb.PublishRequest]) (*connect.Response[pb.PublishResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.PublishResponse, error) { return s.topics().Publish(ctx, r.Msg) })
}

// bounded makes a call to a topic's owner.
func bounded[M any](ctx context.Context, call func(context.Context) (*M, error)) (*connect.Response[M], error) {
	ctx, cancel := context.WithTimeout(ctx, topicTimeout)
	defer cancel()
	m, err := call(ctx)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(m), nil
}

func (s *topicService) Subscribe(ctx context.Context, r *connect.Request[pb.SubscribeRequest], out *connect.ServerStream[pb.SubscribeResponse]) error {
	return s.topics().Subscribe(ctx, r.Msg, out.Send)
}

func (s *topicService) Ack(ctx context.Context, r *connect.Request[pb.AckRequest]) (*connect.Response[pb.AckResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.AckResponse, error) { return s.topics().Ack(ctx, r.Msg) })
}

func (s *topicService) PutChannel(ctx context.Context, r *connect.Request[pb.PutChannelRequest]) (*connect.Response[pb.PutChannelResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.PutChannelResponse, error) { return s.topics().PutChannel(ctx, r.Msg) })
}

func (s *topicService) ListChannels(ctx context.Context, r *connect.Request[pb.ListChannelsRequest]) (*connect.Response[pb.ListChannelsResponse], error) {
	after, err := afterToken("channel", r.Msg.PageToken)
	if err != nil {
		return nil, err
	}
	return bounded(ctx, func(ctx context.Context) (*pb.ListChannelsResponse, error) {
		all, err := s.topics().Channels(ctx, r.Msg.Topic)
		if err != nil {
			return nil, err
		}
		all = all[sort.Search(len(all), func(i int) bool { return all[i].Name > after }):]
		size := int(r.Msg.PageSize)
		if size == 0 {
			size = defaultPage
		}
		res := &pb.ListChannelsResponse{Channels: all}
		if len(all) > size {
			res.Channels = all[:size]
			res.NextPageToken = pageToken("channel", all[size-1].Name)
		}
		return res, nil
	})
}

func (s *topicService) DeleteChannel(ctx context.Context, r *connect.Request[pb.DeleteChannelRequest]) (*connect.Response[pb.DeleteChannelResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.DeleteChannelResponse, error) {
		return s.topics().DeleteChannel(ctx, r.Msg)
	})
}

func (s *topicService) SeekChannel(ctx context.Context, r *connect.Request[pb.SeekChannelRequest]) (*connect.Response[pb.SeekChannelResponse], error) {
	return bounded(ctx, func(ctx context.Context) (*pb.SeekChannelResponse, error) { return s.topics().SeekChannel(ctx, r.Msg) })
}

func (s *topicService) ReplayDeadLetters(ctx context.Context, r *connect.Request[pb.ReplayDeadLettersRequest]) (*connect.Response[pb.ReplayDeadLettersResponse], error) {
	if _, err := s.s.o.Registry.Topic(r.Msg.Topic); err != nil {
		return nil, err
	}
	n, err := s.topics().ReplayDead(ctx, r.Msg.Topic, int(r.Msg.Limit))
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ReplayDeadLettersResponse{Replayed: uint32(n)}), nil
}

// topicProcedures are the lines of the table for topics: to read without a channel is to look; a channel is work.
func topicProcedures() map[string]procedure {
	return map[string]procedure{
		rpcv1.TopicServiceCreateTopicProcedure: {action: ActionTopicWrite, resource: topicConfig(func(m *pb.CreateTopicRequest) *pb.Topic { return m.Topic })},
		rpcv1.TopicServiceUpdateTopicProcedure: {action: ActionTopicWrite, resource: topicConfig(func(m *pb.UpdateTopicRequest) *pb.Topic { return m.Topic })},
		rpcv1.TopicServiceDeleteTopicProcedure: {action: ActionTopicWrite, resource: one("topic", func(m *pb.DeleteTopicRequest) *string { return &m.Id })},
		rpcv1.TopicServiceGetTopicProcedure:    {action: ActionTopicRead, resource: one("topic", func(m *pb.GetTopicRequest) *string { return &m.Id })},
		rpcv1.TopicServiceListTopicsProcedure: {action: ActionTopicRead, resource: listed("topic", func(m *pb.ListTopicsRequest) *string {
			return &m.Project
		})},
		rpcv1.TopicServicePutRouteProcedure:          {action: ActionTopicWrite, resource: routeConfig},
		rpcv1.TopicServiceGetRouteProcedure:          {action: ActionTopicRead, resource: one("route", func(m *pb.GetRouteRequest) *string { return &m.Id })},
		rpcv1.TopicServiceListRoutesProcedure:        {action: ActionTopicRead, resource: listed("route", func(m *pb.ListRoutesRequest) *string { return &m.Project })},
		rpcv1.TopicServiceDeleteRouteProcedure:       {action: ActionTopicWrite, resource: one("route", func(m *pb.DeleteRouteRequest) *string { return &m.Id })},
		rpcv1.TopicServiceReplayRouteProcedure:       {action: ActionTopicUse, resource: one("route", func(m *pb.ReplayRouteRequest) *string { return &m.Id })},
		rpcv1.TopicServicePublishProcedure:           {action: ActionTopicUse, resource: ofTopic(func(m *pb.PublishRequest) *string { return &m.Topic })},
		rpcv1.TopicServiceSubscribeProcedure:         {actionOf: subscribeAction, resource: ofTopic(func(m *pb.SubscribeRequest) *string { return &m.Topic })},
		rpcv1.TopicServiceAckProcedure:               {action: ActionTopicUse, resource: ofTopic(func(m *pb.AckRequest) *string { return &m.Topic })},
		rpcv1.TopicServicePutChannelProcedure:        {action: ActionTopicUse, resource: ofTopic(func(m *pb.PutChannelRequest) *string { return &m.Topic })},
		rpcv1.TopicServiceListChannelsProcedure:      {action: ActionTopicRead, resource: ofTopic(func(m *pb.ListChannelsRequest) *string { return &m.Topic })},
		rpcv1.TopicServiceDeleteChannelProcedure:     {action: ActionTopicUse, resource: ofTopic(func(m *pb.DeleteChannelRequest) *string { return &m.Topic })},
		rpcv1.TopicServiceSeekChannelProcedure:       {action: ActionTopicUse, resource: ofTopic(func(m *pb.SeekChannelRequest) *string { return &m.Topic })},
		rpcv1.TopicServiceReplayDeadLettersProcedure: {action: ActionTopicUse, resource: ofTopic(func(m *pb.ReplayDeadLettersRequest) *string { return &m.Topic })},
	}
}

func topicConfig[M any](conf func(M) *pb.Topic) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		t := conf(msg)
		return named("topic", "topic.id", idOf(t == nil, func() *string { return &t.Id }))
	}
}

func subscribeAction(m any) Action {
	r, ok := m.(*pb.SubscribeRequest)
	switch {
	case !ok:
		return ActionNone
	case r.Channel == "":
		return ActionTopicRead
	}
	return ActionTopicUse
}

// ofTopic: the topic that the request names.
func ofTopic[M any](id func(M) *string) func(any, *Principal) (Resource, error) {
	return func(m any, _ *Principal) (Resource, error) {
		msg, ok := m.(M)
		if !ok {
			return Resource{}, errWrongMessage
		}
		return named("topic", "topic", id(msg))
	}
}
