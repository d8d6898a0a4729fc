package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/drivers/scenario"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// makeTwins creates those that are missing.
func (r *scenarioRun) makeTwins(ctx context.Context) error {
	for _, name := range r.s.Twins {
		t := &pb.Twin{Id: r.s.Project + "/" + name, Model: r.create}
		if _, err := r.n.twins.CreateTwin(ctx, req(&pb.CreateTwinRequest{Twin: t})); err != nil && connect.CodeOf(err) != connect.CodeAlreadyExists {
			return fmt.Errorf("create twin %s: %w", t.Id, err)
		}
	}
	return nil
}

// run plays until the scenario or ctx ends, or `quit` is read.
func (r *scenarioRun) run(ctx context.Context) error {
	if r.create != "" {
		if err := r.makeTwins(ctx); err != nil {
			return err
		}
	}
	r.player = scenario.NewPlayer(r.s)
	r.fit(ctx)
	r.course = scenario.NewCourse(r.s, 0, r.speed)
	if !r.paused {
		r.course.Start(time.Now())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan string)
	go readLines(ctx, r.a.in, lines)
	shown := time.Now()
	err := r.play(ctx, lines, &shown)
	r.show()
	if errors.Is(err, errQuit) || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		err = nil
	}
	return err
}

// readLines gives a reader's lines until ctx ends. A reader that blocks for ever is left to the program's end.
func readLines(ctx context.Context, in io.Reader, lines chan<- string) {
	for s := bufio.NewScanner(in); s.Scan(); {
		select {
		case lines <- strings.TrimSpace(s.Text()):
		case <-ctx.Done():
			return
		}
	}
}

var errQuit = errors.New("quit")

// statusEvery is how often the sums are shown.
const statusEvery = 5 * time.Second

func (r *scenarioRun) play(ctx context.Context, lines <-chan string, shown *time.Time) error {
	for !r.course.Over() && !r.course.Ahead(r.from, time.Now()) {
		again, err := r.wait(ctx, lines)
		if err != nil {
			return err
		}
		if again {
			continue
		}
		at := r.course.At()
		if err := r.send(ctx, r.course.Step(), at); err != nil {
			return err
		}
		r.sums.At = at.String()
		if time.Since(*shown) > statusEvery {
			*shown = time.Now()
			r.show()
		}
		r.sums.Skipped += uint64(r.course.Took(time.Now())) * uint64(len(r.s.Twins))
	}
	return nil
}

// wait returns when the next step is due; again: it was reset meanwhile.
func (r *scenarioRun) wait(ctx context.Context, lines <-chan string) (again bool, err error) {
	for {
		var timer <-chan time.Time
		wait := r.course.Wait(time.Now())
		if r.course.Running() {
			timer = time.After(max(wait, 0))
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case line := <-lines:
			if again, err = r.command(line); again || err != nil {
				return again, err
			}
		case <-timer:
			if wait <= 0 {
				return false, nil
			}
		}
	}
}

// command does what a line of standard input says; again: the scenario begins again.
func (r *scenarioRun) command(line string) (again bool, err error) {
	now := time.Now()
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "":
	case "pause":
		r.course.Pause(now)
	case "start":
		r.course.Start(now)
	case "reset":
		r.course.Reset(now)
		r.player.Reset()
		r.laps++
		return true, nil
	case "speed":
		speed, err := parseSpeed(strings.TrimSpace(rest))
		if err != nil {
			r.a.errorf("%v\n", err)
			return false, nil
		}
		r.course.SetSpeed(now, speed)
	case "status":
		r.show()
	case "quit":
		return false, errQuit
	default:
		r.a.errorf("%q: want pause, start, reset, speed N, status or quit\n", word)
	}
	return false, nil
}

const (
	// batchLines and batchBytes bound one request.
	batchLines = 1000
	batchBytes = 512 << 10
)

// send makes and sends the messages of one step.
func (r *scenarioRun) send(ctx context.Context, step int, at time.Duration) error {
	var batch []*pb.IngestMessage
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := r.ingest(ctx, batch)
		batch, size = nil, 0
		return err
	}
	for i, name := range r.s.Twins {
		text, err := r.player.Message(i, at)
		if err != nil {
			return fmt.Errorf("make the message of %s: %w", name, err)
		}
		if text == nil {
			continue
		}
		m := &pb.IngestMessage{Twin: name, Payload: text, Id: fmt.Sprintf("%s-%d-%d", r.id, r.laps, step)}
		if !r.from.IsZero() {
			m.Time, m.Historical = timestamppb.New(r.from.Add(at)), true
		}
		batch = append(batch, m)
		if size += len(text) + 128; len(batch) == batchLines || size > batchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// ingest sends messages, those that were not taken again and again, until each has its result.
func (r *scenarioRun) ingest(ctx context.Context, batch []*pb.IngestMessage) error {
	r.sums.Sent += uint64(len(batch))
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		res, err := r.n.ingest.Ingest(ctx, req(&pb.IngestRequest{Project: r.s.Project, Messages: batch}))
		if err != nil && (ctx.Err() != nil || !passing(err)) {
			return err
		}
		if err == nil {
			batch = r.count(batch, res.Msg)
		}
		if len(batch) == 0 {
			return nil
		}
		r.sums.Retried += uint64(len(batch))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// passing errors are those after which the same messages may be taken.
func passing(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeUnavailable, connect.CodeResourceExhausted, connect.CodeDeadlineExceeded, connect.CodeAborted, connect.CodeUnknown:
		return true
	}
	return false
}

// count adds an answer to the sums and gives the messages that are to be sent again.
func (r *scenarioRun) count(batch []*pb.IngestMessage, res *pb.IngestResponse) (again []*pb.IngestMessage) {
	r.sums.Stored += res.Stored
	r.sums.Refused += res.Refused
	r.sums.Inbox += res.Inbox
	r.sums.Duplicate += res.Duplicate
	for _, x := range res.Results {
		if int(x.Index) >= len(batch) {
			continue
		}
		switch x.Outcome {
		case pb.IngestOutcome_INGEST_OUTCOME_RETRY:
			again = append(again, batch[x.Index])
		case pb.IngestOutcome_INGEST_OUTCOME_REFUSED:
			if !r.reasons[x.Code] {
				r.reasons[x.Code] = true
				r.a.errorf("refused: %s: %s: %s\n", batch[x.Index].Twin, x.Code, printable(x.Reason))
			}
		}
	}
	return again
}

// show prints the sums.
func (r *scenarioRun) show() {
	x := r.sums
	if r.a.output == "json" {
		text, err := json.Marshal(map[string]any{"at": x.At, "sent": x.Sent, "stored": x.Stored, "refused": x.Refused, "inbox": x.Inbox,
			"duplicate": x.Duplicate, "retried": x.Retried, "skipped": x.Skipped})
		if err == nil {
			r.a.printf("%s\n", text)
		}
		return
	}
	r.a.printf("%-12s sent %d  stored %d  refused %d  inbox %d  duplicate %d  retried %d  skipped %d\n",
		x.At, x.Sent, x.Stored, x.Refused, x.Inbox, x.Duplicate, x.Retried, x.Skipped)
}
