package actors

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/replay"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// recordQueue and recordBytes bound what waits for one reader of a recording, in parts and bytes.
	recordQueue = 1024
	recordBytes = 8 << 20
	// maxRecordPart bounds one part: a call with more than that is missed.
	maxRecordPart = 1 << 20
	// maxRecords bounds the readers on a node.
	maxRecords = 32
)

// recorders are those who record twins. While nobody does, a call of a driver costs one atomic load.
type recorders struct {
	count atomic.Int32
	mu    sync.RWMutex
	byID  map[string][]*RecordStream
}

func newRecorders() *recorders { return &recorders{byID: map[string][]*RecordStream{}} }

// of gives those who record a twin now.
func (r *recorders) of(id string) []*RecordStream {
	if r.count.Load() == 0 {
		return nil
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byID[id]
}

func (r *recorders) add(id string) (*RecordStream, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count.Load() >= maxRecords {
		return nil, false
	}
	s := &RecordStream{r: r, id: id, queue: make(chan *pb.RecordTwinResponse, recordQueue), done: make(chan struct{})}
	r.byID[id] = append(r.byID[id][:len(r.byID[id]):len(r.byID[id])], s)
	r.count.Add(1)
	return s, true
}

// moved ends the recordings of twins whose slots leave this node.
func (r *recorders) moved(slots []cluster.Slot, slotOf func(id string) cluster.Slot) {
	if r.count.Load() == 0 {
		return
	}
	var ended []*RecordStream
	r.mu.RLock()
	for id, streams := range r.byID {
		if slices.Contains(slots, slotOf(id)) {
			ended = append(ended, streams...)
		}
	}
	r.mu.RUnlock()
	for _, s := range ended {
		s.moved.Store(true)
		s.Close()
	}
}

// RecordStream gives the calls of a twin's driver, secrets masked, in their order. A slow reader misses some, and is told
// how many.
type RecordStream struct {
	r      *recorders
	id     string
	queue  chan *pb.RecordTwinResponse
	bytes  atomic.Int64
	missed atomic.Uint64
	done   chan struct{}
	once   sync.Once
	moved  atomic.Bool
	mu     sync.Mutex
	// start is the last start that was given.
	start *pb.RecordedStart
}

// push gives a part, or counts it as missed.
func (s *RecordStream) push(m *pb.RecordTwinResponse) bool {
	n := int64(proto.Size(m))
	if n <= maxRecordPart && s.bytes.Add(n) <= recordBytes {
		select {
		case s.queue <- m:
			return true
		default:
		}
	}
	if n <= maxRecordPart {
		s.bytes.Add(-n)
	}
	s.missed.Add(1)
	return false
}

// Next waits for the next part. cluster.ErrNotOwner: the twin's slot left this node; its next owner has the rest.
func (s *RecordStream) Next(ctx context.Context) (*pb.RecordTwinResponse, error) {
	give := func(m *pb.RecordTwinResponse) (*pb.RecordTwinResponse, error) {
		s.bytes.Add(-int64(proto.Size(m)))
		return &pb.RecordTwinResponse{Time: m.Time, Part: m.Part, Missed: s.missed.Swap(0)}, nil
	}
	select {
	case m := <-s.queue:
		return give(m)
	case <-s.done:
		select {
		case m := <-s.queue:
			return give(m)
		default:
		}
		if s.moved.Load() {
			return nil, fmt.Errorf("record twin %s: it moves: %w", s.id, cluster.ErrNotOwner)
		}
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the recording.
func (s *RecordStream) Close() {
	s.once.Do(func() {
		close(s.done)
		s.r.mu.Lock()
		defer s.r.mu.Unlock()
		var kept []*RecordStream
		for _, o := range s.r.byID[s.id] {
			if o != s {
				kept = append(kept, o)
			}
		}
		if s.r.byID[s.id] = kept; len(kept) == 0 {
			delete(s.r.byID, s.id)
		}
		s.r.count.Add(-1)
	})
}

// Record begins to record a twin's driver. Close the stream; it also ends with ctx.
func (c *Client) Record(ctx context.Context, id string) (*RecordStream, error) {
	id, err := CanonicalID(id)
	if err != nil {
		return nil, err
	}
	if t, err := c.e.readTwin(id); err != nil || t == nil {
		if err == nil {
			err = ErrNotFound
		}
		return nil, fmt.Errorf("record twin %s: %w", id, err)
	}
	s, ok := c.e.recorders.add(id)
	if !ok {
		c.e.stats.drop(dropTraceLimit)
		return nil, fmt.Errorf("record twin %s: %d recordings: %w", id, maxRecords, cluster.ErrOverloaded)
	}
	context.AfterFunc(ctx, s.Close)
	return s, nil
}

// recorded makes the call, and gives it to those who record the twin.
func (r *run) recorded(streams []*RecordStream) (drivers.Effects, error) {
	at := state.Timestamp(r.e.stamp())
	before := r.call.State()
	tap := &replay.Tap{Host: &r.host}
	began := r.e.now()
	eff, err := r.runner.Handle(&r.ctx, r.call, tap)
	mask := newMasking(r.cfg.secrets)
	mask.computed = r.spec.traceSecrets
	c := &pb.RecordedCall{Event: int32(r.call.Event), Input: mask.whole(r.call.Input), Took: durationpb.New(r.e.now().Sub(began))}
	if json.Valid(r.call.Input) {
		c.Input = mask.json(r.call.Input)
	}
	for _, h := range tap.Calls {
		h.Data, h.Target, h.Error = mask.sent(mask.whole(h.Data)), string(mask.whole([]byte(h.Target))), string(mask.whole([]byte(h.Error)))
		if json.Valid(h.Answer) {
			h.Answer = mask.json(h.Answer)
		} else {
			h.Answer = mask.whole(h.Answer)
		}
		c.Host = append(c.Host, h)
	}
	if err != nil {
		c.Error = string(mask.whole([]byte(replay.ErrorText(err))))
	} else if text, fails := replay.EffectsJSON(&eff); fails == nil {
		c.EffectsJson = string(mask.json([]byte(text)))
	}
	start := &pb.RecordedStart{Id: r.en.id, Driver: r.spec.name, Version: r.spec.version, Digest: r.spec.digest,
		SettingsJson: string(r.maskedSettings())}
	for _, s := range streams {
		s.tell(at, start, c, func() string { return string(mask.json(before)) })
	}
	return eff, err
}

// tell gives a call, and before it what it began with where that is news.
func (s *RecordStream) tell(at *timestamppb.Timestamp, start *pb.RecordedStart, c *pb.RecordedCall, state func() string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.start == nil || s.start.Digest != start.Digest || s.start.SettingsJson != start.SettingsJson {
		own := proto.Clone(start).(*pb.RecordedStart)
		if s.start == nil {
			own.StateJson = state()
		}
		if !s.push(&pb.RecordTwinResponse{Time: at, Part: &pb.RecordTwinResponse_Start{Start: own}}) {
			return // without it the call says nothing
		}
		s.start = own
	}
	s.push(&pb.RecordTwinResponse{Time: at, Part: &pb.RecordTwinResponse_Call{Call: c}})
}

// maskedSettings are the call's settings without their secrets.
func (r *run) maskedSettings() []byte {
	var settings map[string]any
	if json.Unmarshal(r.call.Settings, &settings) != nil {
		return noSettings
	}
	maskSecrets(r.spec.model, settings)
	text, err := json.Marshal(settings)
	if err != nil {
		return noSettings
	}
	return text
}

// json masks the texts of a JSON document. What is no JSON is masked as it stands.
func (m *masking) json(doc []byte) []byte {
	if len(m.secrets) == 0 {
		return bytes.Clone(doc)
	}
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if d.Decode(&v) != nil {
		return m.whole(doc)
	}
	text, err := json.Marshal(m.texts(v))
	if err != nil {
		return m.whole(doc)
	}
	return text
}

func (m *masking) texts(v any) any {
	switch x := v.(type) {
	case string:
		return string(m.whole([]byte(x)))
	case []any:
		for i := range x {
			x[i] = m.texts(x[i])
		}
	case map[string]any:
		for k := range x {
			x[k] = m.texts(x[k])
		}
	}
	return v
}
