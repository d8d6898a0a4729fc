package state

import (
	"encoding/hex"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Timestamp converts milliseconds since 1970; 0 gives nil.
func Timestamp(ms int64) *timestamppb.Timestamp {
	if ms == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(ms))
}

// Proto gives a property for the API. Where the device is not there now, good values are stale.
func (p *Property) Proto(live bool) *pb.Property {
	q := pb.Quality(p.Quality())
	if !live && q == pb.Quality_QUALITY_GOOD {
		q = pb.Quality_QUALITY_STALE
	}
	return &pb.Property{Value: p.Value.Proto(), Time: Timestamp(p.Time()), Quality: q}
}

// Proto gives what is asked for the API.
func (d *Desired) Proto() *pb.Desired {
	return &pb.Desired{Value: d.Value.Proto(), Time: Timestamp(d.Time), By: d.By, Revision: d.Revision,
		Progress: pb.Progress(d.Progress), Error: d.Error}
}

// Proto gives the whole state for the API. node is where the twin lives, and since the revision since which that node
// has its slot.
func (r *Record) Proto(node string, since uint64) *pb.TwinState {
	c := r.Shown(since)
	s := &pb.TwinState{
		Revision:      r.Revision,
		DriverVersion: r.Version,
		Status:        &pb.TwinStatus{Connection: c, LastSeen: Timestamp(r.LastSeen), Fault: r.Fault, Node: node},
	}
	if len(r.Properties) > 0 {
		s.Properties = make(map[string]*pb.Property, len(r.Properties))
		for i := range r.Properties {
			s.Properties[r.Properties[i].Name.Value()] = r.Properties[i].Proto(Live(c))
		}
	}
	if len(r.Desired) > 0 {
		s.Desired = make(map[string]*pb.Desired, len(r.Desired))
		for i := range r.Desired {
			s.Desired[r.Desired[i].Name.Value()] = r.Desired[i].Proto()
		}
	}
	if r.More != nil {
		for i := range r.More.Commands {
			if c := &r.More.Commands[i]; !c.Waited {
				s.Commands = append(s.Commands, c.Proto())
			}
		}
		for i := range r.More.Subscriptions {
			x := &r.More.Subscriptions[i]
			s.Subscriptions = append(s.Subscriptions, &pb.TwinSubscription{System: x.System, Twin: x.Name, Property: x.Property})
		}
		if q := &r.More.Quarantine; q.Since > 0 {
			s.Status.Failures, s.Status.RetryTime, s.Status.QuarantineTime = q.Failures, Timestamp(q.Retry), Timestamp(q.Since)
		}
	}
	return s
}

// Proto gives a command that nobody waits for, for the API.
func (c *Command) Proto() *pb.CommandStatus {
	s := &pb.CommandStatus{Id: CommandID(c.ID), Action: c.Action, Phase: pb.CommandPhase(c.Phase), Outcome: pb.Outcome(c.Outcome),
		Message: c.Message, Code: c.Code, By: c.By, Time: Timestamp(c.Time), EndTime: Timestamp(c.End)}
	if c.Output != "" {
		if v, err := ParseValue([]byte(c.Output)); err == nil {
			s.Output = v.Proto()
		}
	}
	return s
}

// CommandID is the name of a command for people: half of its call's id.
func CommandID(id [16]byte) string { return hex.EncodeToString(id[:8]) }
