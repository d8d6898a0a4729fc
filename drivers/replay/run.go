package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// callTimeout bounds one replayed call: nothing outside is waited for.
const callTimeout = 30 * time.Second

// Difference is something that a version does otherwise than what was recorded.
type Difference struct {
	// Call counts the recorded calls from 1; 0: the state at the end.
	Call  int       `json:"call"`
	Time  time.Time `json:"time"`
	Event string    `json:"event"`
	// What differs: error, send, output, property NAME, event, timer, memory …
	What     string `json:"what"`
	Recorded string `json:"recorded"`
	Replayed string `json:"replayed"`
}

// Result of a replay.
type Result struct {
	// From and To are the versions, as NAME@VERSION.
	From string `json:"from"`
	To   string `json:"to"`
	// Calls that were replayed; Missed were dropped when it was recorded.
	Calls  int    `json:"calls"`
	Missed uint64 `json:"missed"`
	// Failed calls of the recording, and of the replay.
	FailedBefore int          `json:"failed_before"`
	FailedNow    int          `json:"failed_now"`
	Differences  []Difference `json:"differences"`
	// Truncated: there are more differences than are listed.
	Truncated bool `json:"truncated,omitempty"`
}

// maxDifferences are listed.
const maxDifferences = 1000

// Clock is what a replayed driver sees as the present: the time of the recorded call. Give its Now to the sandbox.
type Clock struct{ now time.Time }

// Now is the present.
func (c *Clock) Now() time.Time {
	if c.now.IsZero() {
		return time.Now()
	}
	return c.now
}

// player replays one recording.
type player struct {
	run    drivers.Runner
	clock  *Clock
	result *Result
	start  *pb.RecordedStart
	// now is the state by the replay, before that of the recording.
	now, before *state
	at          time.Time
	began       bool
}

// Run calls a driver with what was recorded, and compares. clock may be nil. An error means that the replay could not be
// made; what the driver does otherwise is in the result.
func Run(ctx context.Context, parts []*pb.RecordTwinResponse, run drivers.Runner, clock *Clock) (*Result, error) {
	if clock == nil {
		clock = &Clock{}
	}
	m := run.Manifest()
	p := &player{run: run, clock: clock, result: &Result{To: m.Name + "@" + m.Version, Differences: []Difference{}}}
	for _, part := range parts {
		p.at, clock.now = part.Time.AsTime(), part.Time.AsTime()
		p.result.Missed += part.Missed
		switch x := part.Part.(type) {
		case *pb.RecordTwinResponse_Start:
			if err := p.begin(ctx, x.Start); err != nil {
				return nil, err
			}
		case *pb.RecordTwinResponse_Call:
			if p.start == nil {
				return nil, ErrEmpty
			}
			if err := p.call(ctx, x.Call); err != nil {
				return nil, err
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	if p.start == nil {
		return nil, ErrEmpty
	}
	p.compareStates()
	return p.result, nil
}

// begin takes what the driver has from now on. Another version than the recorded one is first told to take the state over.
func (p *player) begin(ctx context.Context, s *pb.RecordedStart) error {
	p.start = s
	if p.result.From == "" {
		p.result.From = s.Driver + "@" + s.Version
	}
	text := s.StateJson
	if text == "" {
		if p.now != nil {
			return nil // it goes on with what it has
		}
		text = "{}"
	}
	var err error
	if p.before, err = readState(text); err != nil {
		return err
	}
	if p.now, err = readState(text); err != nil {
		return err
	}
	if p.began || s.Version == p.run.Manifest().Version {
		p.began = true
		return nil
	}
	p.began = true
	from, err := json.Marshal(map[string]string{"from": s.Version})
	if err != nil {
		return err
	}
	for _, e := range []struct {
		kind  drivers.Event
		input []byte
	}{{drivers.EventMigrate, from}, {drivers.EventLoad, []byte(`{"reason":"version"}`)}} {
		eff, _, err := p.handle(ctx, e.kind, e.input, nil)
		if err != nil {
			p.differ(0, e.kind, "error", "", err.Error())
			continue
		}
		p.now.apply(eff)
	}
	return nil
}

// handle makes one call. Its error is the driver's.
func (p *player) handle(ctx context.Context, kind drivers.Event, input []byte, answers []*pb.RecordedHostCall) (*effects, []*pb.RecordedHostCall, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	tap := &Tap{Host: newAnswers(answers)}
	text, err := p.now.json()
	if err != nil {
		return nil, nil, err
	}
	eff, err := p.run.Handle(ctx, drivers.Call{Event: kind, Tenant: "replay", Input: input, State: func() []byte { return text },
		Settings: []byte(p.start.SettingsJson)}, tap)
	return effectsOf(&eff), tap.Calls, err
}

// call replays one recorded call.
func (p *player) call(ctx context.Context, c *pb.RecordedCall) error {
	was := &effects{}
	if c.EffectsJson != "" {
		if err := json.Unmarshal([]byte(c.EffectsJson), was); err != nil {
			return fmt.Errorf("recorded effects: %w", err)
		}
	}
	p.result.Calls++
	kind := drivers.Event(c.Event)
	now, host, err := p.handle(ctx, kind, c.Input, c.Host)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	failed := ""
	if err != nil {
		failed, now = failure(err), &effects{}
		p.result.FailedNow++
	}
	if c.Error != "" {
		p.result.FailedBefore++
	}
	n := p.result.Calls
	if failed != c.Error {
		p.differ(n, kind, "error", c.Error, failed)
	}
	p.compareHost(n, kind, c.Host, host)
	p.compareEffects(n, kind, was, now)
	p.before.apply(was)
	p.now.apply(now)
	return nil
}

// failure words an error as a recording does: without the driver's version, which is another one.
func failure(err error) string { return ErrorText(err) }

// ErrorText words a call's error for a recording.
func ErrorText(err error) string {
	var refusal *drivers.DriverError
	if errors.As(err, &refusal) {
		return fmt.Sprintf("refused with code %d: %s", refusal.Code, refusal.Message)
	}
	return err.Error()
}

func (p *player) differ(call int, kind drivers.Event, what, recorded, replayed string) {
	if len(p.result.Differences) >= maxDifferences {
		p.result.Truncated = true
		return
	}
	p.result.Differences = append(p.result.Differences, Difference{Call: call, Time: p.at, Event: eventName(kind), What: what, Recorded: recorded, Replayed: replayed})
}

func eventName(k drivers.Event) string {
	names := map[drivers.Event]string{drivers.EventLoad: "load", drivers.EventConnected: "connected", drivers.EventDisconnected: "disconnected",
		drivers.EventReceived: "received", drivers.EventCommand: "command", drivers.EventTimer: "timer", drivers.EventUnload: "unload",
		drivers.EventMigrate: "migrate", drivers.EventSubscription: "subscription", drivers.EventWebhook: "webhook", drivers.EventAnswer: "answer",
		drivers.EventScan: "scan"}
	if n, ok := names[k]; ok {
		return n
	}
	return fmt.Sprintf("event %d", k)
}
