package sink

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/polluxhq/pollux/actors/kafka"
)

func checkKafka(u *place) error {
	if err := kafka.Check(u.URL); err != nil {
		return wrong("%v", err)
	}
	return nil
}

// producer makes each message a record with its key, headers and time. It is idempotent and waits for all replicas in sync;
// records of one key go to one partition, in their order.
type producer struct{ c *kgo.Client }

func openKafka(ctx context.Context, u *place, _ *Options, _ string) (Target, error) {
	o, err := kafka.Options(u.URL, u.secret)
	if err != nil {
		return nil, err
	}
	c, err := kgo.NewClient(append(o, kgo.DefaultProduceTopic(kafka.Topic(u.URL)), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordDeliveryTimeout(kafka.Timeout))...)
	if err != nil {
		return nil, fmt.Errorf("kafka %s: %w", u.Host, err)
	}
	ctx, cancel := context.WithTimeout(ctx, kafka.Timeout)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("kafka: %w", err)
	}
	return &producer{c}, nil
}

func (p *producer) Deliver(ctx context.Context, b *Batch) error {
	records := make([]*kgo.Record, len(b.Messages))
	for i, m := range b.Messages {
		r := &kgo.Record{Value: m.Payload, Timestamp: timeOf(m)}
		if m.Key != "" {
			r.Key = []byte(m.Key)
		}
		for name, value := range m.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(value)})
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: "pollux-id", Value: []byte(m.Id)},
			kgo.RecordHeader{Key: "pollux-offset", Value: strconv.AppendUint(nil, m.Offset, 10)})
		records[i] = r
	}
	err := p.c.ProduceSync(ctx, records...).FirstErr()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.InvalidTimestamp):
		return fmt.Errorf("kafka: %w: %w", ErrRefused, err)
	}
	return fmt.Errorf("kafka: %w", err)
}

func (p *producer) Close() { p.c.CloseAllowingRebalance() }
