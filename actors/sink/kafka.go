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
type producer struct {
	o []kgo.Opt
	c *kgo.Client // nil: the last try failed
}

func openKafka(ctx context.Context, u *place, _ *Options, _ string) (Target, error) {
	o, err := kafka.Options(u.URL, u.secret)
	if err != nil {
		return nil, err
	}
	p := &producer{o: append(o, kgo.DefaultProduceTopic(kafka.Topic(u.URL)), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.RecordDeliveryTimeout(kafka.Timeout))}
	return p, p.connect(ctx)
}

func (p *producer) connect(ctx context.Context) error {
	c, err := kgo.NewClient(p.o...)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, kafka.Timeout)
	defer cancel()
	if err := c.Ping(ctx); err != nil {
		c.Close()
		return fmt.Errorf("kafka: %w", err)
	}
	p.c = c
	return nil
}

func (p *producer) Deliver(ctx context.Context, b *Batch) error {
	if p.c == nil {
		if err := p.connect(ctx); err != nil {
			return err
		}
	}
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
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge), errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.InvalidTimestamp):
		return fmt.Errorf("kafka: %w: %w", ErrRefused, err)
	}
	p.Close() // a client to which the broker gave no producer's id does not ask again, also when it may have one
	return fmt.Errorf("kafka: %w", err)
}

func (p *producer) Close() {
	if p.c != nil {
		p.c.Close()
		p.c = nil
	}
}
