package sink

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/polluxhq/pollux/actors/kafka"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Target is where a sink's messages go. One goroutine uses it.
type Target interface {
	// Deliver brings a batch, and returns when the other system has it for good. Where it fails the same batch comes again, or a
	// longer one that begins with the same message. An error that wraps ErrRefused is final.
	Deliver(ctx context.Context, b *Batch) error
	// Close gives back what the target holds. It may wait for a second.
	Close()
}

// ErrRefused: the target will not take the batch, whenever it is tried.
var ErrRefused = errors.New("refused by the target")

// Batch is some messages of a topic in their order. It is not empty.
type Batch struct {
	// Sink and Topic are ids.
	Sink, Topic string
	// Begun tells the sink from one of its name before (pb.SinkState).
	Begun    uint64
	Messages []*pb.TopicMessage
}

// first and last give the offsets of a batch.
func (b *Batch) first() uint64 { return b.Messages[0].Offset }
func (b *Batch) last() uint64  { return b.Messages[len(b.Messages)-1].Offset }

// origin tells batches of the same offsets apart: of another sink, or one of that name before, of another topic, and of what an older backup,
// put back, does not have, be it the last message alone. It is the same at each try.
func (b *Batch) origin() string {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s %d", b.Sink, b.Topic, b.Begun)
	for _, m := range []*pb.TopicMessage{b.Messages[0], b.Messages[len(b.Messages)-1]} {
		fmt.Fprintf(h, " %d %d %s", m.Offset, m.PublishTime.AsTime().UnixNano(), m.Id)
	}
	return fmt.Sprintf("%016x", h.Sum64())
}

// project of the sink.
func (b *Batch) project() string {
	project, _, _ := strings.Cut(b.Sink, "/")
	return project
}

// InvalidError says what is wrong with a sink's URL.
type InvalidError struct{ Reason string }

func (e *InvalidError) Error() string { return e.Reason }

func wrong(format string, args ...any) error { return &InvalidError{fmt.Sprintf(format, args...)} }

// place is a URL of a sink, read.
type place struct {
	*url.URL
	secret string
}

// kind is what can be done with the URLs of a scheme.
type kind struct {
	// params that the URL may have.
	params []string
	// check says what is wrong with it.
	check func(u *place) error
	open  func(ctx context.Context, u *place, o *Options, id string) (Target, error)
	// bulk targets are given large batches.
	bulk bool
	// named is one that calls a batch by the messages in it, and takes one of the same name for the same.
	named bool
}

func kinds() map[string]kind {
	hook := kind{check: checkHost, open: openWebhook, named: true}
	mqtt := kind{params: []string{"user", "qos"}, check: checkMQTT, open: openMQTT}
	mongo := kind{params: []string{"user", "auth_source", "mechanism", "replica_set", "tls"}, check: checkMongo, open: openMongo}
	house := kind{params: []string{"user"}, check: checkClickHouse, open: openClickHouse}
	return map[string]kind{
		"http": hook, "https": hook,
		"file":  {check: checkFile, open: openFile, bulk: true, named: true},
		"s3":    {params: []string{"endpoint", "region", "access_key", "tls"}, check: checkS3, open: openS3, bulk: true, named: true},
		"kafka": {params: kafka.Params, check: checkKafka, open: openKafka},
		"mqtt":  mqtt, "mqtts": mqtt,
		"clickhouse": house, "clickhouses": house,
		"mongodb": mongo, "mongodb+srv": mongo,
	}
}

// Check says what is wrong with a sink's URL: an *InvalidError, or nil.
func Check(text string) error {
	_, _, err := read(text)
	return err
}

// SameHost says whether two URLs go to the same place by the same way, as far as a secret is concerned: one that was given for a connection with
// TLS, or for a mechanism that does not say it, is not sent in the clear.
func SameHost(a, b string) bool {
	x, err := url.Parse(a)
	if err != nil {
		return false
	}
	y, err := url.Parse(b)
	if err != nil || x.Scheme != y.Scheme || x.Host != y.Host {
		return false
	}
	p, q := x.Query(), y.Query()
	return !slices.ContainsFunc([]string{"endpoint", "tls", "sasl", "mechanism"}, func(name string) bool { return p.Get(name) != q.Get(name) })
}

func read(text string) (*place, kind, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, kind{}, wrong("%.200q is no URL", text)
	}
	k, ok := kinds()[u.Scheme]
	if !ok {
		return nil, k, wrong("the scheme %q is none of a sink's: want https, file, s3, kafka, mqtt, clickhouse or mongodb", u.Scheme)
	}
	p := &place{URL: u}
	if _, has := u.User.Password(); has {
		return nil, k, wrong("a password does not belong in the URL: give it as the secret")
	}
	if k.params != nil || u.Scheme == "file" {
		for name := range u.Query() {
			if !slices.Contains(k.params, name) {
				return nil, k, wrong("%s has no parameter %q; it may have: %s", u.Scheme, name, strings.Join(k.params, ", "))
			}
		}
	}
	return p, k, k.check(p)
}

func checkHost(u *place) error {
	if u.Hostname() == "" {
		return wrong("the URL names no host")
	}
	return nil
}

// yes reads a parameter that is true or false.
func (u *place) yes(name string, otherwise bool) (bool, error) {
	switch u.Query().Get(name) {
	case "":
		return otherwise, nil
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, wrong("%s is true or false", name)
}

const (
	// deliverTimeout bounds one try.
	deliverTimeout = 2 * time.Minute
	// retryMin and retryMax are the wait after a try that failed; it doubles.
	retryMin = 500 * time.Millisecond
	retryMax = time.Minute
	// batchBytes is what a batch has, in bytes, unless its last message brings it beyond that.
	batchBytes = 16 << 20
)
