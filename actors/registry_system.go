package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"google.golang.org/protobuf/proto"
)

// GetZone gives a zone.
func (r *Registry) GetZone(id string) (*pb.Zone, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	return get(r.store, tableZones, id, &pb.Zone{})
}

// GetSystem gives a system.
func (r *Registry) GetSystem(id string) (*pb.System, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	return get(r.store, tableSystems, id, &pb.System{})
}

// SetSystemStopped has all members of a system stopped, or run again, one by one. What cannot be done is in the member's
// result; the error is the system's own.
func (r *Registry) SetSystemStopped(ctx context.Context, id string, stopped bool, by string) ([]*pb.MemberResult, error) {
	s, err := r.GetSystem(id)
	if err != nil {
		return nil, err
	}
	results := make([]*pb.MemberResult, len(s.Members))
	for i, m := range s.Members {
		results[i] = &pb.MemberResult{Name: m.Name, Twin: m.Twin}
		if results[i].Changed, err = r.setStopped(ctx, m.Twin, stopped, by); err != nil {
			results[i].Error = err.Error()
		}
	}
	return results, nil
}

// setStopped changes one twin, unless it is so already.
func (r *Registry) setStopped(ctx context.Context, id string, stopped bool, by string) (changed bool, err error) {
	for range attempts {
		var t *pb.Twin
		if t, err = r.GetTwin(id); err != nil {
			return false, err
		}
		if t.Stopped == stopped {
			return false, nil
		}
		t = proto.Clone(t).(*pb.Twin)
		t.Stopped, t.UpdateBy = stopped, by
		if _, err = r.UpdateTwin(ctx, t); !errors.Is(err, ErrRevision) {
			return err == nil, err
		}
	}
	return false, err
}

// sideBySide bounds the members that are called at a time.
const sideBySide = 32

// InvokeSystem runs an action of the members that req.Member means, side by side, and gives what became of each in the order of
// the system. It blocks until all have ended. ErrInvalid: no member is meant.
func (c *Client) InvokeSystem(ctx context.Context, req *pb.InvokeSystemRequest, principal string) ([]*pb.MemberResult, error) {
	s, err := c.e.registry.GetSystem(req.Id)
	if err != nil {
		return nil, err
	}
	var results []*pb.MemberResult
	for _, m := range s.Members {
		if meant(req.Member, m.Name) {
			results = append(results, &pb.MemberResult{Name: m.Name, Twin: m.Twin})
		}
	}
	if len(results) == 0 {
		return nil, invalid("/member", "%s has no member %q", s.Id, req.Member)
	}
	var all sync.WaitGroup
	room := make(chan struct{}, sideBySide)
	for _, res := range results {
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			c.invokeMember(ctx, req, res, principal)
		})
	}
	all.Wait()
	return results, nil
}

// meant says whether a name means a member: its own, or that of its kind, which is without the number.
func meant(want, name string) bool {
	if want == "" || want == name {
		return true
	}
	kind, number, ok := strings.Cut(strings.TrimPrefix(name, want), "_")
	return ok && kind == "" && number != "" && strings.HasPrefix(name, want) && strings.Trim(number, "0123456789") == ""
}

func (c *Client) invokeMember(ctx context.Context, req *pb.InvokeSystemRequest, res *pb.MemberResult, principal string) {
	var options *pb.CommandOptions
	if req.Options != nil {
		options = proto.Clone(req.Options).(*pb.CommandOptions)
	}
	answer, err := c.Invoke(ctx, &pb.InvokeRequest{Id: res.Twin, Action: req.Action, Input: req.Input, Options: options}, principal)
	if err == nil {
		res.Outcome, res.Output = answer.Outcome, answer.Output
		return
	}
	res.Outcome, res.Error = pb.Outcome_OUTCOME_REJECTED, err.Error()
	var failed *CommandError
	if errors.As(err, &failed) {
		res.Outcome, res.Error = failed.Outcome, failed.Message
	}
	if ctx.Err() != nil {
		res.Outcome, res.Error = pb.Outcome_OUTCOME_UNKNOWN, fmt.Sprintf("given up: %v", context.Cause(ctx))
	}
}
