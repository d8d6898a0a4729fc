package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

var kafkaTopic = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

func checkKafka(u *place) error {
	for _, b := range strings.Split(u.Host, ",") {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return wrong("want kafka://HOST:PORT,HOST:PORT/TOPIC: %q is no HOST:PORT", b)
		}
	}
	if !kafkaTopic.MatchString(strings.TrimPrefix(u.Path, "/")) {
		return wrong("want kafka://HOST:PORT/TOPIC: %q is no topic of Kafka", u.Path)
	}
	_, err := kafkaOptions(u)
	return err
}

// kafkaOptions are those of the connection.
func kafkaOptions(u *place) ([]kgo.Opt, error) {
	o := []kgo.Opt{kgo.SeedBrokers(strings.Split(u.Host, ",")...), kgo.ClientID("pollux")}
	secure, err := u.yes("tls", false)
	if err != nil {
		return nil, err
	}
	if secure {
		o = append(o, kgo.DialTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	user := u.Query().Get("user")
	switch u.Query().Get("sasl") {
	case "":
		if user != "" {
			return nil, wrong("user without sasl: want plain, scram-sha-256 or scram-sha-512")
		}
	case "plain":
		o = append(o, kgo.SASL(plain.Auth{User: user, Pass: u.secret}.AsMechanism()))
	case "scram-sha-256":
		o = append(o, kgo.SASL(scram.Auth{User: user, Pass: u.secret}.AsSha256Mechanism()))
	case "scram-sha-512":
		o = append(o, kgo.SASL(scram.Auth{User: user, Pass: u.secret}.AsSha512Mechanism()))
	default:
		return nil, wrong("sasl is plain, scram-sha-256 or scram-sha-512")
	}
	return o, nil
}

// kafka produces each message as a record with its key, headers and time. The producer is idempotent and waits for all replicas in sync;
// records of one key go to one partition, in their order.
type kafka struct{ c *kgo.Client }

func openKafka(_ context.Context, u *place, _ *Options, _ string) (Target, error) {
	o, err := kafkaOptions(u)
	if err != nil {
		return nil, err
	}
	c, err := kgo.NewClient(append(o, kgo.DefaultProduceTopic(strings.TrimPrefix(u.Path, "/")), kgo.RequiredAcks(kgo.AllISRAcks()))...)
	if err != nil {
		return nil, fmt.Errorf("kafka %s: %w", u.Host, err)
	}
	return &kafka{c}, nil
}

func (k *kafka) Deliver(ctx context.Context, b *Batch) error {
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
	err := k.c.ProduceSync(ctx, records...).FirstErr()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.InvalidRecord), errors.Is(err, kerr.InvalidTimestamp):
		return fmt.Errorf("kafka: %w: %w", ErrRefused, err)
	}
	return fmt.Errorf("kafka: %w", err)
}

func (k *kafka) Close() { k.c.CloseAllowingRebalance() }
