package actors

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	secretMask = "***"
	// traceQueue bounds the chunks that wait for one reader; maxTraceChunk a chunk.
	traceQueue    = 1024
	maxTraceChunk = 64 << 10
	// maxTraces bounds the readers on a node.
	maxTraces = 256
)

// tracers are those who watch the bytes of twins. While nobody does, a chunk costs one atomic load.
type tracers struct {
	count atomic.Int32
	mu    sync.RWMutex
	byID  map[string][]*TraceStream
	masks map[string]*masking // by twin
}

func newTracers() *tracers {
	return &tracers{byID: map[string][]*TraceStream{}, masks: map[string]*masking{}}
}

// secrets tells what of a twin must not be shown: these texts, and where there are some, what of the frames that are sent
// matches computed.
func (r *tracers) secrets(id string, texts []string, computed []*regexp.Regexp) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.masks[id]
	delete(r.masks, id)
	if len(texts) == 0 {
		return
	}
	m := newMasking(texts)
	m.computed = computed
	if old != nil {
		m.held = old.held
	}
	r.masks[id] = m
}

func (r *tracers) sent(id, topic string, data []byte) {
	r.trace(id, pb.TraceTwinResponse_DIRECTION_SENT, topic, data)
}

func (r *tracers) received(id, topic string, data []byte) {
	r.trace(id, pb.TraceTwinResponse_DIRECTION_RECEIVED, topic, data)
}

// note tells of a connection that was opened, closed, or could not be opened.
func (r *tracers) note(id, text string) {
	r.trace(id, pb.TraceTwinResponse_DIRECTION_NOTE, "", []byte(text))
}

// trace gives a chunk to those who watch. data is copied. What is sent, and what comes over MQTT, is whole; what comes
// from a connection is masked across the borders of its chunks.
func (r *tracers) trace(id string, d pb.TraceTwinResponse_Direction, topic string, data []byte) {
	if r.count.Load() == 0 {
		return
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	streams := r.byID[id]
	if len(streams) == 0 {
		return
	}
	masks := r.masks[id]
	switch {
	case masks == nil:
		data = bytes.Clone(data)
	case d == pb.TraceTwinResponse_DIRECTION_RECEIVED && topic == "":
		if data = masks.stream(data); len(data) == 0 {
			return
		}
	default:
		if d == pb.TraceTwinResponse_DIRECTION_NOTE && masks.end() {
			push(streams, pb.TraceTwinResponse_DIRECTION_RECEIVED, "", []byte(secretMask))
		}
		data = masks.whole(data)
		if d == pb.TraceTwinResponse_DIRECTION_SENT {
			data = masks.sent(data)
		}
	}
	push(streams, d, topic, data[:min(len(data), maxTraceChunk)])
}

func push(streams []*TraceStream, d pb.TraceTwinResponse_Direction, topic string, data []byte) {
	m := &pb.TraceTwinResponse{Time: state.Timestamp(time.Now().UnixMilli()), Direction: d, Topic: topic, Data: data}
	for _, s := range streams {
		s.push(m)
	}
}

func (r *tracers) add(id string) (*TraceStream, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count.Load() >= maxTraces {
		return nil, false
	}
	s := &TraceStream{r: r, id: id, queue: make(chan *pb.TraceTwinResponse, traceQueue), done: make(chan struct{})}
	if m := r.masks[id]; m != nil && len(r.byID[id]) == 0 {
		m.end() // of what was received meanwhile nothing is known
	}
	r.byID[id] = append(r.byID[id], s)
	r.count.Add(1)
	return s, true
}

// moved ends the traces of twins whose slots leave this node; slotOf says where a twin lives.
func (r *tracers) moved(slots []cluster.Slot, slotOf func(id string) cluster.Slot) {
	if r.count.Load() == 0 {
		return
	}
	gone := make(map[cluster.Slot]bool, len(slots))
	for _, s := range slots {
		gone[s] = true
	}
	var ended []*TraceStream
	r.mu.RLock()
	for id, streams := range r.byID {
		if gone[slotOf(id)] {
			ended = append(ended, streams...)
		}
	}
	r.mu.RUnlock()
	for _, s := range ended {
		s.moved.Store(true)
		s.Close()
	}
}

// TraceStream gives every byte that a twin's transport sends and receives, and notes on its connection. The texts of
// secrets are masked, and what a driver computes from them, such as a digest of a password, where its manifest says how
// that looks (trace_secrets). A slow reader misses some, and is told how many.
type TraceStream struct {
	r      *tracers
	id     string
	queue  chan *pb.TraceTwinResponse
	missed atomic.Uint64
	done   chan struct{}
	once   sync.Once
	moved  atomic.Bool
}

func (s *TraceStream) push(m *pb.TraceTwinResponse) {
	select {
	case s.queue <- m:
	default:
		s.missed.Add(1)
	}
}

// Next waits for the next chunk. The message is the caller's. cluster.ErrNotOwner: the twin's slot left this node; its
// next owner has the rest.
func (s *TraceStream) Next(ctx context.Context) (*pb.TraceTwinResponse, error) {
	select {
	case m := <-s.queue:
		// Other readers share the message.
		return &pb.TraceTwinResponse{Time: m.Time, Direction: m.Direction, Data: m.Data, Topic: m.Topic, Missed: s.missed.Swap(0)}, nil
	case <-s.done:
		select {
		case m := <-s.queue:
			return &pb.TraceTwinResponse{Time: m.Time, Direction: m.Direction, Data: m.Data, Topic: m.Topic, Missed: s.missed.Swap(0)}, nil
		default:
		}
		if s.moved.Load() {
			return nil, fmt.Errorf("trace twin %s: it moves: %w", s.id, cluster.ErrNotOwner)
		}
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Close ends the trace.
func (s *TraceStream) Close() {
	s.once.Do(func() {
		close(s.done)
		s.r.mu.Lock()
		defer s.r.mu.Unlock()
		kept := s.r.byID[s.id][:0:0]
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
