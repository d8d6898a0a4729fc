package topic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Subscribe reads a topic until ctx ends, send fails, or the topic does. send is called by one goroutine, and may block: then
// no more is asked for. It never returns nil before ctx ends, but for req.UntilEnd.
func (h *Host) Subscribe(ctx context.Context, req *pb.SubscribeRequest, send func(*pb.SubscribeResponse) error) error {
	if req.Channel == "" {
		return h.tail(ctx, req, send)
	}
	return h.SubscribeAfter(ctx, req, 0, send)
}

// SubscribeAfter reads a channel as Subscribe does; one that there is not yet begins with what was committed after a revision of the store.
func (h *Host) SubscribeAfter(ctx context.Context, req *pb.SubscribeRequest, revision uint64, send func(*pb.SubscribeResponse) error) error {
	s := &subscription{h: h, req: req, after: revision, reader: h.o.Node + "-" + newName(), room: int(req.MaxInFlight), holds: map[uint64]int{}}
	if s.room == 0 {
		s.room = defaultRoom
	}
	h.subs.mu.Lock()
	h.subs.byReader[s.reader] = s
	h.subs.mu.Unlock()
	defer func() {
		h.subs.mu.Lock()
		delete(h.subs.byReader, s.reader)
		h.subs.mu.Unlock()
		h.o.Call(s.envelope(&actorv1.TopicLeave{Channel: req.Channel, Reader: s.reader}, 5*time.Second), func(cluster.Reply) {})
	}()
	return s.run(ctx, send)
}

// tail reads without a channel.
func (h *Host) tail(ctx context.Context, req *pb.SubscribeRequest, send func(*pb.SubscribeResponse) error) error {
	at, end, started := uint64(0), uint64(0), false
	for ctx.Err() == nil {
		wait := tailWait
		if !started {
			wait = 0 // to learn where it begins
		}
		answer, err := h.tailOnce(ctx, req.Topic, &actorv1.TopicTail{Offset: at, Start: req.Start}, wait)
		if err != nil {
			return err
		}
		if !started {
			started, end = true, answer.Next
			if err := send(&pb.SubscribeResponse{}); err != nil {
				return err
			}
		}
		at = answer.Offset
		out := &pb.SubscribeResponse{Missed: answer.Missed}
		for _, m := range answer.Messages {
			if !req.UntilEnd || m.Offset < end {
				out.Messages = append(out.Messages, &pb.Delivery{Message: m, Attempt: 1})
			}
		}
		if len(out.Messages) > 0 || out.Missed > 0 {
			if err := send(out); err != nil {
				return err
			}
		}
		if req.UntilEnd && at >= end {
			return nil
		}
	}
	return context.Cause(ctx)
}

// tailOnce asks for the next messages; while the topic moves it comes again.
func (h *Host) tailOnce(ctx context.Context, id string, m *actorv1.TopicTail, wait time.Duration) (*actorv1.TopicTailAnswer, error) {
	began := time.Now()
	m.Room, m.Wait = maxGive, uint32(wait.Milliseconds())
	for {
		asking, cancel := context.WithTimeout(ctx, 30*time.Second)
		answer, err := ask[*actorv1.TopicTailAnswer](asking, h, id, m)
		cancel()
		if err == nil || !again(err) || time.Since(began) > time.Minute || ctx.Err() != nil {
			return answer, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// subscription is a reader of a channel on this node. It polls the topic's owner, wherever that is.
type subscription struct {
	h      *Host
	req    *pb.SubscribeRequest
	after  uint64
	reader string
	room   int

	mu sync.Mutex
	// holds are the messages that it was given and that were not settled through this node, and which of its calls brought each.
	holds map[uint64]int

	life     uint64
	resume   bool
	mode     pb.AckMode
	answered time.Time // when the last call that was answered was sent
}

// polled is the outcome of a call.
type polled struct {
	number int
	sent   time.Time
	reply  cluster.Reply
}

func (s *subscription) forget(offsets []uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range offsets {
		delete(s.holds, at)
	}
}

// settling gives what becomes of what the reader holds when messages are settled: they are not held any more, but for those that were refused
// and have come again before the answer.
func (s *subscription) settling(m *pb.AckRequest) (done func()) {
	held := map[uint64]int{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, offsets := range [][]uint64{m.Offsets, m.Failed} {
		for _, at := range offsets {
			held[at] = s.holds[at]
		}
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for at, by := range held {
			if s.holds[at] == by {
				delete(s.holds, at)
			}
		}
	}
}

func (s *subscription) envelope(m proto.Message, within time.Duration) *cluster.Envelope {
	return &cluster.Envelope{ID: newCallID(), Target: Target(s.req.Topic), Message: m, Deadline: time.Now().Add(within)}
}

// run polls, and hands what comes to send, which another goroutine calls: a reader that takes its time is still there.
func (s *subscription) run(ctx context.Context, send func(*pb.SubscribeResponse) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	out := make(chan *pb.SubscribeResponse)
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case m := <-out:
				if err := s.send(ctx, m, send); err != nil {
					cancel(err)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	defer wg.Wait()
	err := s.poll(ctx, out)
	cancel(err)
	return err
}

// send hands messages to the reader; where that is their receipt they are settled.
func (s *subscription) send(ctx context.Context, m *pb.SubscribeResponse, send func(*pb.SubscribeResponse) error) error {
	if err := send(m); err != nil {
		return err
	}
	s.mu.Lock()
	receipt := s.mode == pb.AckMode_ACK_MODE_ON_RECEIPT
	s.mu.Unlock()
	if !receipt || len(m.Messages) == 0 {
		return nil
	}
	ack := &pb.AckRequest{Topic: s.req.Topic, Channel: s.req.Channel, Reader: s.reader}
	for _, d := range m.Messages {
		ack.Offsets = append(ack.Offsets, d.Message.Offset)
	}
	s.forget(ack.Offsets) // whatever becomes of the settlement, the reader does not hold them
	s.h.o.Call(s.envelope(ack, 30*time.Second), func(r cluster.Reply) {
		if r.Err != nil {
			s.mu.Lock()
			s.resume = true
			s.mu.Unlock()
		}
	})
	return nil
}

func (s *subscription) poll(ctx context.Context, out chan<- *pb.SubscribeResponse) error {
	var batch *pb.SubscribeResponse
	answers := make(chan polled, 4)
	number, asked, flying, resumes := 0, 0, false, false
	s.answered, s.resume = time.Now(), true
	first := true
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	paused := false
	for {
		if !flying && !paused {
			number++
			room := 0
			if batch == nil {
				room = s.room
			}
			asked, flying = room, true
			resumes = s.ask(ctx, number, room, answers)
		}
		var to chan<- *pb.SubscribeResponse
		if batch != nil {
			to = out
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-pause.C:
			paused = false
		case to <- batch:
			batch = nil
			if asked == 0 && !resumes {
				flying, paused = false, false // asked again, for messages; the call that waits is answered then
			}
		case p := <-answers:
			if p.number != number {
				continue
			}
			flying = false
			m, wait, err := s.take(p)
			if err != nil {
				return err
			}
			if m != nil {
				batch = m
			}
			if first && err == nil && p.reply.Err == nil {
				first = false
				if batch == nil {
					batch = &pb.SubscribeResponse{}
				}
				batch.Reader = s.reader
			}
			if wait > 0 {
				paused = true
				pause.Reset(wait)
			}
		}
	}
}

// ask sends one call, and says whether it tells what the reader holds: such a one has to be heard.
func (s *subscription) ask(ctx context.Context, number, room int, answers chan<- polled) (resumes bool) {
	s.mu.Lock()
	m := &actorv1.TopicRead{Channel: s.req.Channel, Reader: s.reader, Life: s.life, Room: uint32(room), Wait: uint32(readerWait.Milliseconds()),
		Settings: s.req.Settings, Start: s.req.Start, After: s.after, Number: uint64(number)}
	if s.resume || len(s.holds) > 2*s.room+maxGive {
		m.Resume = true
		for at := range s.holds {
			m.Holds = append(m.Holds, at)
		}
		s.resume = false
	}
	s.mu.Unlock()
	sent := time.Now()
	s.h.o.Call(s.envelope(m, time.Until(s.answered.Add(readerEnds))), func(r cluster.Reply) {
		select {
		case answers <- polled{number, sent, r}:
		case <-ctx.Done():
		}
	})
	return m.Resume
}

// take reads an answer. wait says that the next call shall come later.
func (s *subscription) take(p polled) (m *pb.SubscribeResponse, wait time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := p.reply.Err; err != nil {
		// Whatever the owner gave with an answer that was lost, it shall know that it is not here.
		s.resume = true
		late := time.Since(s.answered) > readerEnds-time.Second
		switch {
		case late:
			return nil, 0, fmt.Errorf("%w for %v: %w", ErrReaderLost, readerEnds, err)
		case again(err), errors.Is(err, cluster.ErrOverloaded), errors.Is(err, cluster.ErrDeadline), s.h.ahead(s.req.Topic, err):
			return nil, 50 * time.Millisecond, nil
		}
		return nil, 0, err
	}
	answer, ok := p.reply.Message.(*actorv1.TopicReadAnswer)
	if !ok {
		return nil, 0, fmt.Errorf("topic %s: unexpected reply %T", s.req.Topic, p.reply.Message)
	}
	s.answered = p.sent
	if answer.Resume {
		s.resume = true
		return nil, 0, nil
	}
	s.life, s.mode = answer.Life, answer.AckMode
	if answer.Resumed {
		s.keep(answer.Holds)
	}
	if len(answer.Messages) == 0 {
		return nil, 0, nil
	}
	for _, d := range answer.Messages {
		s.holds[d.Message.Offset] = p.number
	}
	return &pb.SubscribeResponse{Messages: answer.Messages}, 0, nil
}

// keep reduces what the reader holds to what the owner says.
func (s *subscription) keep(holds []uint64) {
	kept := make(map[uint64]int, len(holds))
	for _, at := range holds {
		if by, ok := s.holds[at]; ok {
			kept[at] = by
		}
	}
	s.holds = kept
}

// Page is a part of a topic, as read without a channel.
type Page struct {
	Messages []*pb.TopicMessage
	// Offset is where reading goes on, and Next the offset of the topic's next message at this time.
	Offset, Next uint64
	// Missed messages were removed by the topic's limits before they could be read.
	Missed uint64
}

// Read gives some messages from an offset on (0: from start), and waits for the first of them at most so long. While the topic moves
// it tries again. Messages that a replay means for one channel are among them (HeaderOnly).
func (h *Host) Read(ctx context.Context, id string, at uint64, start *pb.TopicPosition, wait time.Duration) (Page, error) {
	return h.page(ctx, id, &actorv1.TopicTail{Offset: at, Start: start}, wait)
}

// ReadAfter is Read that begins with what was committed after a revision of the store.
func (h *Host) ReadAfter(ctx context.Context, id string, at, revision uint64, wait time.Duration) (Page, error) {
	return h.page(ctx, id, &actorv1.TopicTail{Offset: at, After: revision}, wait)
}

func (h *Host) page(ctx context.Context, id string, m *actorv1.TopicTail, wait time.Duration) (Page, error) {
	a, err := h.tailOnce(ctx, id, m, wait)
	if err != nil {
		return Page{}, err
	}
	return Page{Messages: a.Messages, Offset: a.Offset, Next: a.Next, Missed: a.Missed}, nil
}
