// Package source fetches messages of devices from other systems: today from Kafka. A source is an actor of its slot's owner
// (package perslot). The other system is told that a record was read when Pollux has committed what became of it.
package source

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/kafka"
	"github.com/polluxhq/pollux/actors/perslot"
	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// TableSources: id → pb.Source, what was configured.
	TableSources storage.Table = "source"
	// TableStates: id → pb.SourceState, how it does. It is there as long as the source.
	TableStates storage.Table = "sourceat"
)

const (
	// maxPoll records are on their way in at a time: no more than one twin, which all may be for, knows again when they come twice.
	maxPoll = state.MaxIDs
	// tellEvery is how often a source that does well writes its state.
	tellEvery = 2 * time.Second
	// lookEvery is how often one to which nothing comes asks whether its topic is there still: a consumer waits for ever for one that is not.
	lookEvery = 30 * time.Second
	retryMin  = 500 * time.Millisecond
	retryMax  = 30 * time.Second
	// noTimestamp is what Kafka has as the time of a record that has none, in milliseconds.
	noTimestamp = -1
)

// Message is a record on its way in.
type Message struct {
	Project string
	// Twin is its name in the project, or else Alias is the sender's.
	Twin    string
	Alias   *pb.Alias
	Payload []byte
	// Time in milliseconds since 1970; 0: it says none.
	Time int64
	// ID by which it is known when it comes again.
	ID string
}

// Options of a Host.
type Options struct {
	Store *storage.Store
	// Ingest takes a message in. It does not block; done is called once, when what became of the message is committed, with an error
	// where it has to be tried again.
	Ingest func(m *Message, done func(error))
	// Owned gives the record of a slot that this node owns, or nil.
	Owned func(cluster.Slot) *cluster.Ownership
	// Secret opens a source's secret.
	Secret func(m *pb.Source) (string, error)
	// Node and Cluster are this node's id, and the cluster's.
	Node    string
	Cluster string
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// Host runs the sources of the slots that this node owns. Safe for concurrent use.
type Host struct {
	*perslot.Host
	o Options

	read, failures *metrics.Counter
}

// New makes a host. Close it.
func New(o Options) *Host {
	h := &Host{o: o, read: o.Metrics.GetOrCreateCounter("pollux_source_read_total"), failures: o.Metrics.GetOrCreateCounter("pollux_source_failures_total")}
	h.Host = perslot.New(perslot.Options{Store: o.Store, Kind: "source", Table: TableSources, Owned: o.Owned, Logger: o.Logger, Run: h.run,
		Wanted: func(rec storage.Record) (bool, error) {
			m := &pb.Source{}
			err := proto.Unmarshal(rec.Value, m)
			return !m.Paused, err
		}})
	return h
}

// Check says what is wrong with a source's URL, or nil.
func Check(text string) error {
	_, err := read(text)
	return err
}

func read(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%.200q is no URL", text)
	}
	return u, kafka.Check(u, "group", "network", "key")
}

// run is the life of a source: under one ownership of its slot and one revision of its record.
type run struct {
	h    *Host
	m    *pb.Source
	life *perslot.Run
	u    *url.URL
	c    *kgo.Client

	mu     sync.Mutex // for positions and cluster of the state, behind and given
	state  *pb.SourceState
	behind map[string]bool // partitions whose group is further than the state
	given  bool            // there are partitions that it had not before
	// revision of the state's record: what others have written, as of a source that was made anew, is not overwritten.
	revision uint64
	told     time.Time
	news     bool      // records were read since
	seen     time.Time // the topic was there
}

func (h *Host) run(life *perslot.Run) error {
	r := &run{h: h, m: &pb.Source{}, life: life, state: &pb.SourceState{}}
	if err := proto.Unmarshal(life.Record.Value, r.m); err != nil {
		return fmt.Errorf("source %s: %w", life.Record.Key, err)
	}
	r.m.Id = life.Record.Key
	rec, ok, err := h.o.Store.Get(TableStates, r.m.Id)
	if err == nil && ok {
		err = proto.Unmarshal(rec.Value, r.state)
	}
	if err != nil {
		return fmt.Errorf("read state: %w", err)
	}
	r.state.Node, r.revision = h.o.Node, rec.Revision
	if r.u, err = read(r.m.Url); err != nil {
		return err
	}
	defer func() {
		if r.c != nil {
			r.c.CloseAllowingRebalance()
		}
		if r.news {
			r.last()
		}
	}()
	for pause := retryMin; ; pause = min(2*pause, retryMax) {
		began := time.Now()
		err := r.consume()
		if life.Ctx.Err() != nil || errors.Is(err, perslot.ErrMoved) {
			return err
		}
		h.failures.Inc()
		if err := r.failed(err); err != nil {
			return err
		}
		if time.Since(began) > time.Minute {
			pause = retryMin // it did well for a while
		}
		select {
		case <-life.Ctx.Done():
			return life.Ctx.Err()
		case <-time.After(pause):
		}
	}
}

// param of the URL, or what it is without one.
func (r *run) param(name, otherwise string) string {
	if v := r.u.Query().Get(name); v != "" {
		return v
	}
	return otherwise
}

// group of a source whose URL names none. A - in the project is doubled: no two sources share a group, which would give each a part.
func group(id string) string {
	project, name, _ := strings.Cut(id, "/")
	return "pollux-" + strings.ReplaceAll(project, "-", "--") + "-" + name
}

// open makes the client a member of the group. A group that has no position begins with the oldest record.
func (r *run) open() error {
	r.mu.Lock()
	r.behind = map[string]bool{}
	r.mu.Unlock()
	secret, err := r.h.o.Secret(r.m)
	if err != nil {
		return err
	}
	o, err := kafka.Options(r.u, secret)
	if err != nil {
		return err
	}
	r.c, err = kgo.NewClient(append(o, kgo.ConsumerGroup(r.param("group", group(r.m.Id))), kgo.ConsumeTopics(kafka.Topic(r.u)),
		kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(), kgo.AdjustFetchOffsetsFn(r.adjust), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	return r.look()
}

// adjust notes where the group begins. It has it go on where the state says, if that came out of a backup: what was read since is not here,
// whatever the group says, nor is what a partition had that is not in it.
func (r *run) adjust(_ context.Context, all map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Positions == nil {
		r.state.Positions = map[string]int64{}
	}
	if r.state.Cluster == "" {
		r.state.Cluster = r.h.o.Cluster
	}
	for topic, partitions := range all {
		for p, at := range partitions {
			place, group := fmt.Sprintf("%s/%d", topic, p), at.EpochOffset().Offset
			switch ours, ok := r.state.Positions[place]; {
			case r.state.Cluster != r.h.o.Cluster && ours < group:
				partitions[p] = kgo.NewOffset().At(ours)
				r.behind[place] = true
				r.h.o.Logger.Warn("source reads again what a backup, put back, does not have", "source", r.m.Id, "partition", place, "from", ours)
			case !ok:
				r.state.Positions[place] = max(0, group)
				r.given = true
			}
		}
	}
	return all, nil
}

// passed notes that records were read. Where all that the state was behind is under way again, it is this cluster's.
func (r *run) passed(records []*kgo.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range records {
		place := fmt.Sprintf("%s/%d", x.Topic, x.Partition)
		r.state.Positions[place] = x.Offset + 1
		delete(r.behind, place)
	}
	if len(r.behind) == 0 {
		r.state.Cluster = r.h.o.Cluster
	}
}

// look asks whether the topic is there, and may be read. It makes none.
func (r *run) look() error {
	ctx, cancel := context.WithTimeout(r.life.Ctx, kafka.Timeout)
	defer cancel()
	q, t := kmsg.NewPtrMetadataRequest(), kmsg.NewMetadataRequestTopic()
	name := kafka.Topic(r.u)
	t.Topic = &name
	q.Topics = append(q.Topics, t)
	res, err := q.RequestWith(ctx, r.c)
	if err != nil {
		return fmt.Errorf("kafka: %w", err)
	}
	for _, t := range res.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return fmt.Errorf("kafka: topic %s: %w", name, err)
		}
	}
	r.seen = time.Now()
	return nil
}

// consume reads until something fails.
func (r *run) consume() error {
	if r.c != nil {
		r.c.CloseAllowingRebalance()
		r.c = nil
	}
	if err := r.open(); err != nil {
		return err
	}
	for {
		ctx, cancel := context.WithTimeout(r.life.Ctx, tellEvery)
		f := r.c.PollRecords(ctx, maxPoll)
		cancel()
		if err := r.life.Ctx.Err(); err != nil {
			return err
		}
		for _, e := range f.Errors() {
			var lost *kgo.ErrDataLoss
			switch {
			case errors.Is(e.Err, context.DeadlineExceeded): // nothing came
			case errors.As(e.Err, &lost): // the client goes on by itself; a new one would be told the same again
				r.h.failures.Inc()
				r.h.o.Logger.Warn("source: the broker has lost records", "source", r.m.Id, "err", lost)
			default:
				return fmt.Errorf("kafka: %s/%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		records := f.Records()
		if len(records) > 0 {
			if err := r.take(records); err != nil {
				return err
			}
		}
		r.c.AllowRebalance()
		if len(records) > 0 {
			r.seen = time.Now()
		} else if time.Since(r.seen) > lookEvery {
			if err := r.look(); err != nil {
				return err
			}
		}
		if err := r.well(len(records)); err != nil {
			return err
		}
	}
}

// take brings records in, and tells Kafka that they were read when all of them are committed.
func (r *run) take(records []*kgo.Record) error {
	left := records
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		var err error
		if left, err = r.ingest(left); len(left) == 0 {
			break
		}
		if r.life.Ctx.Err() != nil {
			return r.life.Ctx.Err()
		}
		if err := r.failed(err); err != nil {
			return err
		}
		select {
		case <-r.life.Ctx.Done():
			return r.life.Ctx.Err()
		case <-time.After(pause):
		}
	}
	ctx, cancel := context.WithTimeout(r.life.Ctx, kafka.Timeout)
	defer cancel()
	if err := r.c.CommitRecords(ctx, records...); err != nil {
		return fmt.Errorf("kafka: commit offsets: %w", err) // they come again, and are known by their ids
	}
	r.passed(records)
	return nil
}

// ingest takes records in at once, in their order, and gives those that have to be tried again, with the first reason: also those that
// have no result when the run is ended, since an engine that closes may give none.
func (r *run) ingest(records []*kgo.Record) (left []*kgo.Record, err error) {
	type answer struct {
		at  int
		err error
	}
	answers := make(chan answer, len(records))
	for i, x := range records {
		r.h.o.Ingest(r.message(x), func(err error) { answers <- answer{i, err} })
	}
	taken := make([]bool, len(records))
	for range records {
		select {
		case a := <-answers:
			taken[a.at] = a.err == nil
			err = cmp.Or(err, a.err)
			continue
		case <-r.life.Ctx.Done():
			err = r.life.Ctx.Err()
		}
		break
	}
	for i, x := range records {
		if !taken[i] {
			left = append(left, x)
		}
	}
	return left, err
}

// message has an id by its place and its time: a topic that is made anew, or that another broker has, begins with the same places.
func (r *run) message(x *kgo.Record) *Message {
	project, _, _ := strings.Cut(r.m.Id, "/")
	at := x.Timestamp.UnixMilli()
	m := &Message{Project: project, Payload: x.Value, Time: at, ID: fmt.Sprintf("%.190s/%d/%d/%d", x.Topic, x.Partition, x.Offset, at)}
	if at == noTimestamp || x.Timestamp.IsZero() {
		m.Time = 0
	}
	for _, h := range x.Headers {
		if h.Key == "twin" {
			m.Twin = string(h.Value)
		}
	}
	if m.Twin == "" {
		m.Alias = &pb.Alias{Network: r.param("network", "kafka"), Key: r.param("key", x.Topic), Value: string(x.Key)}
	}
	return m
}

// well notes that records were read.
func (r *run) well(n int) error {
	r.h.read.Add(n)
	r.state.Read += uint64(n)
	if n > 0 {
		r.state.ReadTime = timestamppb.Now()
	}
	mended := r.state.Failures > 0
	r.mu.Lock()
	r.news, r.given = r.news || r.given, false
	r.mu.Unlock()
	r.state.Error, r.state.ErrorTime, r.state.Failures = "", nil, 0
	r.news = r.news || n > 0
	if !mended && (!r.news || time.Since(r.told) < tellEvery) {
		return nil
	}
	return r.write()
}

// failed notes why something failed.
func (r *run) failed(err error) error {
	if r.state.Error == "" {
		r.state.ErrorTime = timestamppb.Now()
		r.h.o.Logger.Warn("source waits", "source", r.m.Id, "err", err)
	}
	r.state.Failures++
	r.state.Error = perslot.Short(err.Error())
	return r.write()
}

// last writes how much was read by the end of the run, which may have ended because the record was changed or the node is to stop.
func (r *run) last() {
	rec, there, err := r.h.o.Store.Get(TableSources, r.m.Id)
	if err != nil || !there {
		return // what is removed has no state
	}
	if r.revision == 0 && rec.Revision != r.life.Record.Revision {
		return // it may be another one of the name, made since, whose own state has yet to come
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.life.Ctx), tellEvery)
	defer cancel()
	if err := r.commit(ctx, []storage.Guard{r.life.Owner(), {Table: TableSources, Key: r.m.Id, Revision: rec.Revision},
		{Table: TableStates, Key: r.m.Id, Revision: r.revision}}); err != nil {
		r.h.o.Logger.Debug("last state of a source", "source", r.m.Id, "err", err)
	}
}

// write commits the state, if the slot and the record are still those of this run. What cannot be written now is with the next one.
func (r *run) write() error {
	ctx, cancel := context.WithTimeout(r.life.Ctx, 10*time.Second)
	defer cancel()
	return r.commit(ctx, r.life.Guards())
}

func (r *run) commit(ctx context.Context, guards []storage.Guard) error {
	r.mu.Lock()
	value, err := proto.Marshal(r.state)
	r.mu.Unlock()
	if err != nil {
		return fmt.Errorf("state: %w", err)
	}
	revision, err := r.h.o.Store.Commit(ctx, &storage.Txn{Guards: guards, Writes: []storage.Write{{Table: TableStates, Key: r.m.Id, Value: value, Quiet: true}}})
	if errors.Is(err, storage.ErrGuard) {
		return fmt.Errorf("%w: %w", perslot.ErrMoved, err)
	}
	if err == nil {
		r.revision, r.told, r.news = revision, time.Now(), false
	}
	return nil
}
