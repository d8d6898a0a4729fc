package simulation

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/drivers/scenario"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxBatch messages are on their way at a time.
	maxBatch = 500
	// makers of twins work side by side.
	makers = 8
	// lastStep is how long a run that is ended goes on with its step. What has no result by then is sent again, with its step, by the next run.
	lastStep = 2 * time.Second
	// tellEvery is how often a simulation that runs writes where it is, and tellSteps after how many steps it does so at the latest: what is said again
	// after a crash has to be among the last 256 messages of each twin, which is as many as it knows again.
	tellEvery = time.Second
	tellSteps = 128
	// makeAgain and makeAgainMost bound the pause, doubling, after which twins that could not be made are tried again.
	makeAgain, makeAgainMost = time.Second, time.Minute
)

// play makes the twins that are missing, and steps until the scenario or the life is over, or what is played of the past has come to the present.
func (r *run) play() (err error) {
	if r.s, err = Read(r.m); err != nil {
		return err
	}
	speed := 1.0
	if r.m.Speed != nil {
		speed = *r.m.Speed
	}
	r.course = scenario.NewCourse(r.s, int(r.state.Steps), speed) //nolint:gosec // it was one
	r.state.Length, r.state.Twins, r.state.Ended = durationpb.New(r.s.Length), uint32(len(r.s.Twins)), false
	if r.m.Model != "" {
		if err := r.populate(); err != nil {
			return err
		}
	}
	r.player = scenario.NewPlayer(r.s)
	r.fitter, r.missing = NewFitter(r.s, r.player), make(map[int]bool, len(r.s.Twins))
	for i := range r.s.Twins {
		r.missing[i] = true
	}
	var cancel context.CancelFunc
	r.stepping, cancel = context.WithCancel(context.WithoutCancel(r.life.Ctx))
	defer cancel()
	defer context.AfterFunc(r.life.Ctx, func() { time.AfterFunc(lastStep, cancel) })()
	var from time.Time
	if r.m.From != nil {
		from = r.m.From.AsTime()
	}
	r.course.Start(time.Now())
	r.course.GoOn(time.Now(), r.state.Time.AsTime())
	for !r.course.Over() && !r.course.Ahead(from, time.Now()) {
		if err := r.wait(); err != nil {
			return err
		}
		r.fit()
		if err := r.step(); err != nil {
			return err
		}
		if r.untold++; time.Since(r.told) < tellEvery && r.untold < tellSteps {
			continue
		}
		if err := r.write(r.life.Ctx); err != nil {
			return err
		}
	}
	r.state.Ended = true
	return nil
}

// wait returns when the next step is due.
func (r *run) wait() error {
	for wait := r.course.Wait(time.Now()); ; wait = r.course.Wait(time.Now()) {
		if wait <= 0 {
			return r.life.Ctx.Err()
		}
		if wait > tellEvery && time.Since(r.told) >= tellEvery {
			if err := r.write(r.life.Ctx); err != nil { // what was done is shown before a long rest
				return err
			}
		}
		select {
		case <-r.life.Ctx.Done():
			return r.life.Ctx.Err()
		case <-time.After(wait):
		}
	}
}

// step makes the messages of one step and brings them in. Where it is cut short the state is that of before.
func (r *run) step() (err error) {
	before := proto.CloneOf(r.state)
	defer func() {
		if err != nil {
			r.state = before
		}
	}()
	at := r.course.At()
	id := fmt.Sprintf("%s/%d/%d", r.m.Id, r.m.BeginTime.AsTime().UnixNano(), r.course.Step())
	var batch []*Message
	for i, name := range r.s.Twins {
		text, err := r.player.Message(i, at)
		if err != nil {
			return fmt.Errorf("make the message of %s: %w", name, err)
		}
		if text != nil {
			m := &Message{Project: r.s.Project, Twin: name, Payload: text, ID: id, place: i}
			if r.m.From != nil {
				m.Time, m.Historical = r.m.From.AsTime().Add(at).UnixMilli(), true
			}
			batch = append(batch, m)
		}
		if len(batch) == maxBatch || len(batch) > 0 && i == len(r.s.Twins)-1 {
			if err := r.send(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	now := time.Now()
	r.state.Skipped += uint64(r.course.Took(now)) * uint64(len(r.s.Twins)) //nolint:gosec // never below 0
	r.state.Steps, r.state.At, r.state.Time = uint64(r.course.Step()), durationpb.New(at), timestamppb.New(now)
	return nil
}

// send brings messages in, those that were not taken again and again, until each has its result.
func (r *run) send(batch []*Message) error {
	r.state.Sent += uint64(len(batch))
	r.h.sent.Add(len(batch))
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		if batch = r.ingest(batch); len(batch) == 0 {
			return nil
		}
		r.state.Retried += uint64(len(batch))
		select {
		case <-r.stepping.Done():
			return r.stepping.Err()
		case <-time.After(pause):
		}
	}
}

// ingest brings messages in at once, and gives those that have to be tried again: also those that have no result when the run's time is over,
// since an engine that closes may give none.
func (r *run) ingest(batch []*Message) (left []*Message) {
	type answer struct {
		at int
		Result
	}
	answers := make(chan answer, len(batch))
	for i, m := range batch {
		r.h.o.Ingest(m, func(x Result) { answers <- answer{i, x} })
	}
	settled := make([]bool, len(batch))
	for range batch {
		select {
		case a := <-answers:
			settled[a.at] = r.count(batch[a.at], a.Result)
			continue
		case <-r.stepping.Done():
		}
		break
	}
	for i, m := range batch {
		if !settled[i] {
			left = append(left, m)
		}
	}
	return left
}

// count adds a message's result to the state; false: it has to be tried again.
func (r *run) count(m *Message, x Result) bool {
	switch x.Outcome {
	case pb.IngestOutcome_INGEST_OUTCOME_STORED:
		r.state.Stored++
	case pb.IngestOutcome_INGEST_OUTCOME_REFUSED:
		r.state.Refused++
		r.missing[m.place] = true // it may be gone, and be made anew with another model
		r.state.Error = m.Twin + ": " + x.Reason
	case pb.IngestOutcome_INGEST_OUTCOME_INBOX:
		r.state.Inbox++
	case pb.IngestOutcome_INGEST_OUTCOME_DUPLICATE:
		r.state.Duplicate++
	default:
		return false
	}
	return true
}

// populate makes the twins that are missing. What it fails at may pass, as where nobody leads for a moment or the project has as many as it may: it is
// shown, and tried again.
func (r *run) populate() error {
	for pause := makeAgain; ; pause = min(2*pause, makeAgainMost) {
		err := r.makeTwins()
		if err == nil || r.life.Ctx.Err() != nil {
			r.state.Error = ""
			return err
		}
		r.state.Error = err.Error()
		if err := r.write(r.life.Ctx); err != nil {
			return err
		}
		select {
		case <-r.life.Ctx.Done():
			return r.life.Ctx.Err()
		case <-time.After(pause):
		}
	}
}

// makeTwins makes those that are missing, some side by side.
func (r *run) makeTwins() error {
	ctx, cancel := context.WithCancelCause(r.life.Ctx)
	defer cancel(nil)
	names := make(chan string)
	var all sync.WaitGroup
	for range makers {
		all.Add(1)
		go func() {
			defer all.Done()
			for name := range names {
				if err := r.h.o.Make(ctx, r.s.Project+"/"+name, r.m.Model); err != nil {
					cancel(fmt.Errorf("make twin %s: %w", name, err))
				}
			}
		}()
	}
	for _, name := range r.s.Twins {
		select {
		case names <- name:
		case <-ctx.Done():
		}
	}
	close(names)
	all.Wait()
	return context.Cause(ctx)
}

// fit has the twins that were missing, if they are there now, say their values as their models have them.
func (r *run) fit() {
	for i := range r.missing {
		if model, ok := r.h.o.ModelOf(r.s.Project + "/" + r.s.Twins[i]); ok {
			r.fitter.Fit(i, model, r.h.o.Thing)
			delete(r.missing, i)
		}
	}
}
