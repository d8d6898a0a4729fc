package rpc

import (
	"context"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

type settingsService struct{ s *Server }

func (s *settingsService) GetSettings(_ context.Context, r *connect.Request[pb.GetSettingsRequest]) (*connect.Response[pb.GetSettingsResponse], error) {
	res, err := s.s.o.Registry.GetSettings(r.Msg.Scope, r.Msg.Version)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *settingsService) SetSettings(ctx context.Context, r *connect.Request[pb.SetSettingsRequest]) (*connect.Response[pb.SetSettingsResponse], error) {
	res, err := s.s.o.Registry.SetSettings(ctx, r.Msg, principalFrom(ctx).Name)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

func (s *settingsService) ListSettingsVersions(_ context.Context, r *connect.Request[pb.ListSettingsVersionsRequest]) (*connect.Response[pb.ListSettingsVersionsResponse], error) {
	all, err := s.s.o.Registry.ListSettingsVersions(r.Msg.Scope)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.ListSettingsVersionsResponse{Versions: all}), nil
}

func (s *settingsService) DiffSettings(_ context.Context, r *connect.Request[pb.DiffSettingsRequest]) (*connect.Response[pb.DiffSettingsResponse], error) {
	res, err := s.s.o.Registry.DiffSettings(r.Msg.Scope, r.Msg.From, r.Msg.To)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(res), nil
}

// scoped is a request for the settings of a scope.
type scoped interface{ GetScope() *pb.SettingsScope }

// settingsAction: whoever may read or change a thing may read or change its settings.
func settingsAction(m any) Action {
	r, ok := m.(scoped)
	if !ok {
		return ActionNone
	}
	_, write := m.(*pb.SetSettingsRequest)
	pick := func(read, change Action) Action {
		if write {
			return change
		}
		return read
	}
	switch r.GetScope().GetScope().(type) {
	case *pb.SettingsScope_Driver:
		return pick(ActionDriverRead, ActionDriverWrite)
	case *pb.SettingsScope_Zone, *pb.SettingsScope_System:
		return pick(ActionSiteRead, ActionSiteWrite)
	case *pb.SettingsScope_Twin:
		return pick(ActionTwinRead, ActionTwinConfigure)
	}
	return ActionNone
}

// settingsResource completes the scope's id in place.
func settingsResource(m any, _ *Principal) (Resource, error) {
	r, ok := m.(scoped)
	if !ok {
		return Resource{}, errWrongMessage
	}
	switch x := r.GetScope().GetScope().(type) {
	case *pb.SettingsScope_Driver:
		return Resource{Project: Everywhere, Kind: "driver", ID: x.Driver}, nil
	case *pb.SettingsScope_Zone:
		return named("zone", "scope.zone", &x.Zone)
	case *pb.SettingsScope_System:
		return named("system", "scope.system", &x.System)
	case *pb.SettingsScope_Twin:
		return named("twin", "scope.twin", &x.Twin)
	}
	return Resource{}, invalid("scope", "is missing: name a driver, zone, system or twin")
}
