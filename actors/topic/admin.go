package topic

import (
	"fmt"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func (t *topic) putChannel(r *request, m *pb.PutChannelRequest) error {
	c := t.channels[m.Name]
	if c == nil {
		var err error
		if c, err = t.channel(m.Name, m.Settings, m.Start, 0); err != nil {
			return err
		}
	} else {
		c.set, c.dirty = settings(m.Settings), true
	}
	t.whenSaved(r, &pb.PutChannelResponse{Channel: c.show()})
	return nil
}

func (t *topic) deleteChannel(r *request, m *pb.DeleteChannelRequest) error {
	c := t.channels[m.Name]
	if c == nil {
		return fmt.Errorf("channel %s: %w", m.Name, ErrNoChannel)
	}
	for _, x := range c.readers {
		if x.poll != nil {
			x.poll.fail(fmt.Errorf("channel %s: %w", m.Name, ErrNoChannel))
			x.poll = nil
		}
	}
	delete(t.channels, m.Name)
	t.removed = append(t.removed, m.Name)
	t.whenSaved(r, &pb.DeleteChannelResponse{})
	return nil
}

func (t *topic) seek(r *request, m *pb.SeekChannelRequest) error {
	c := t.channels[m.Name]
	if c == nil {
		return fmt.Errorf("channel %s: %w", m.Name, ErrNoChannel)
	}
	at, err := t.resolve(m.To)
	if err != nil {
		return err
	}
	c.begin(at)
	t.whenSaved(r, &pb.SeekChannelResponse{Channel: c.show()})
	return nil
}
