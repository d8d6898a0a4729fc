package actors

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Judge has messages pass the lane of a route, in batches as they do there, commits included. It gives the time of all.
func (e *Engine) Judge(route string, payloads [][]byte) (time.Duration, error) {
	slot := cluster.Slot(0)
	for e.owned[slot].Load() == nil {
		slot++
	}
	var all []outgoing
	for i, p := range payloads {
		all = append(all, outgoing{slot: slot, own: e.owned[slot].Load(), key: fmt.Sprintf("%sbench\x00%032x", slotKey(slot), i), topic: runTopic + route,
			m: &pb.TopicMessage{Key: "default/bench", Payload: p, ContentType: "application/json", Id: fmt.Sprint("bench/", i), Time: timestamppb.New(time.UnixMilli(1)),
				Headers: map[string]string{"pollux-route": route}}})
	}
	began := time.Now()
	for len(all) > 0 {
		done, next, err := e.outbox.judge(runTopic+route, all[:min(len(all), laneBatch)])
		if err != nil || len(next) != done {
			return 0, fmt.Errorf("%d of %d went on: %w", len(next), done, err)
		}
		all = all[done:]
	}
	return time.Since(began), nil
}

// CallRun calls the run of a logic directly, as often as there are messages: the same metered guest with the same input, and nothing around.
func (e *Engine) CallRun(ctx context.Context, id, route string, payloads [][]byte) (time.Duration, error) {
	_, cfg, s, err := e.logics.of(id)
	if err != nil {
		return 0, err
	}
	run, err := e.registry.runner(ctx, s.digest)
	if err != nil {
		return 0, err
	}
	defer e.runners.release(run)
	var inputs [][]byte
	for _, p := range payloads {
		inputs = append(inputs, appendRun(nil, &judged{message: p, twin: "default/bench", by: "route/" + route, at: 1}))
	}
	began := time.Now()
	for _, in := range inputs {
		c := callContext{}
		c.begin(e, e.o.CallTimeout)
		if _, err := run.Handle(&c, drivers.Call{Event: drivers.EventRun, Tenant: "default", Input: in, Settings: cfg.settings, Clock: &c}, drivers.Denied{}); err != nil {
			return 0, err
		}
	}
	return time.Since(began), nil
}
