package rpc

import (
	"context"
	"fmt"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// readTopic serves a topic's messages to one subscription of the socket.
func (c *socket) readTopic(ctx context.Context, id string, r *pb.SubscribeRequest) error {
	defer func() {
		c.mu.Lock()
		delete(c.readers, id)
		c.mu.Unlock()
	}()
	send := sender[*pb.SubscribeResponse](ctx, c, id)
	return c.s.o.Client.Topics().Subscribe(ctx, r, func(m *pb.SubscribeResponse) error {
		if m.Reader != "" {
			c.mu.Lock()
			c.readers[id] = &pb.AckRequest{Topic: r.Topic, Channel: r.Channel, Reader: m.Reader}
			c.mu.Unlock()
		}
		return send(m)
	})
}

// ack settles messages of a subscription. The client hears of it only where it fails.
func (c *socket) ack(ctx context.Context, r *socketRequest) error {
	c.mu.Lock()
	reader := c.readers[r.ID]
	c.mu.Unlock()
	if reader == nil {
		return invalid("id", fmt.Sprintf("%.64q reads no channel", r.ID))
	}
	m := &pb.AckRequest{Topic: reader.Topic, Channel: reader.Channel, Reader: reader.Reader, Offsets: r.Offsets, Failed: r.Failed, Reason: r.Reason}
	if err := c.s.guard.admit(context.WithValue(ctx, principalKey{}, c.p), rpcv1.TopicServiceAckProcedure, m); err != nil {
		return err
	}
	select {
	case c.acks <- struct{}{}:
	case <-ctx.Done():
		return nil
	}
	c.wg.Go(func() {
		defer func() { <-c.acks }()
		waiting, cancel := context.WithTimeout(ctx, topicTimeout)
		defer cancel()
		if _, err := c.s.o.Client.Topics().Ack(waiting, m); err != nil && ctx.Err() == nil {
			c.end(ctx, r.ID, err)
			c.stop(r.ID)
		}
	})
	return nil
}
