package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// The kinds that are more than a record of one table.

func modelKind() ConfigKind {
	return ConfigKind{Name: "model", Refs: func(*pb.ConfigRecord, func(kind, id string)) {},
		draft: func(_ context.Context, r *Registry, d *draft, rec *pb.ConfigRecord, a applying) error {
			return r.draftModel(d, rec.GetModel(), a.project)
		},
		export: func(_ context.Context, r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
			return exportEach(r, tableThings, project, func() *pb.Model { return &pb.Model{} }, func(m *pb.Model) *pb.ConfigRecord {
				return recordOf("model", &pb.Model{Id: m.Id, ThingJson: m.ThingJson})
			}, yield)
		}}
}

func twinKind() ConfigKind {
	return ConfigKind{Name: "twin",
		Refs: func(rec *pb.ConfigRecord, ref func(kind, id string)) {
			t := rec.GetTwin()
			ref("zone", t.Zone)
			ref("twin", t.Via)
			ref("model", t.Model)
			for _, x := range t.Reads {
				ref("topic", x.GetTopic())
			}
		},
		draft: func(ctx context.Context, r *Registry, d *draft, rec *pb.ConfigRecord, a applying) error {
			return r.draftTwin(ctx, d, rec.GetTwin(), a)
		},
		export: func(_ context.Context, r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
			return exportTwins(r, project, yield)
		}}
}

// channelKind: channels are kept by the owners of their topics, and asked of them. A document says how one reads; where it stands
// is not configuration.
func channelKind() ConfigKind {
	return ConfigKind{Name: "channel", Refs: func(rec *pb.ConfigRecord, ref func(kind, id string)) { ref("topic", rec.GetChannel().GetTopic()) },
		draft: func(_ context.Context, r *Registry, d *draft, rec *pb.ConfigRecord, a applying) error {
			return r.draftChannel(d, rec.GetChannel(), a)
		},
		export: func(_ context.Context, r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
			var page []*pb.ConfigRecord
			for c, err := range topic.Settings(r.store, project+"/") {
				if err != nil {
					return fmt.Errorf("export channels: %w", err)
				}
				if t, err := r.Topic(c.Topic); err != nil || unlisted(t) {
					if err = onlyOther(err, ErrNotFound); err != nil {
						return err
					}
					continue
				}
				page = append(page, recordOf("channel", &pb.PutChannelRequest{Topic: c.Topic, Name: c.Name, Settings: c.Settings}))
				if len(page) == exportPage {
					if err := yield(page); err != nil {
						return err
					}
					page = nil
				}
			}
			if len(page) == 0 {
				return nil
			}
			return yield(page)
		}}
}

func (r *Registry) draftChannel(d *draft, m *pb.PutChannelRequest, a applying) error {
	m = proto.Clone(m).(*pb.PutChannelRequest)
	if err := d.name("channel", a.project, &m.Topic); err != nil {
		return err
	}
	d.result.Id += "/" + m.Name
	if t, err := r.Topic(m.Topic); err != nil || t.Deleting {
		return errors.Join(invalid("/topic", "there is no topic %s", m.Topic), onlyOther(err, ErrNotFound))
	}
	var old proto.Message
	for c, err := range topic.Settings(r.store, topic.ChannelPrefix(m.Topic)) {
		if err != nil {
			return err
		}
		if c.Name == m.Name {
			old = &pb.PutChannelRequest{Settings: topic.Complete(c.Settings)}
		}
	}
	if err := d.compare(old, &pb.PutChannelRequest{Settings: topic.Complete(m.Settings)}); err != nil {
		return err
	}
	if !d.outcome(old != nil) && !a.dry {
		d.call = func(ctx context.Context) error {
			if _, err := r.e.streams.PutChannel(ctx, m); err != nil {
				return fmt.Errorf("channel %s: %w", strings.Join([]string{m.Topic, m.Name}, "/"), err)
			}
			return nil
		}
	}
	return nil
}

// onlyOther gives err unless it is what is known already.
func onlyOther(err, known error) error {
	if errors.Is(err, known) {
		return nil
	}
	return err
}
