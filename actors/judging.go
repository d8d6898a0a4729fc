package actors

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/analytics"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// A detector of the kind module has a logic judge. The reading goes into the outbox with the value, and from there into the detector's lane
// (logic_lane.go); what the logic says of it comes back to the twin, which reports it with the reading's time.

const (
	// judgeTopic begins the place in the outbox of readings that a logic is to judge, verdictTopic that of what it said of them.
	judgeTopic   = "judge/"
	verdictTopic = "verdict/"
)

// askLogic gives a reading to the logic of a detector, with the transaction that commits it.
func (t *twin) askLogic(j *judge, at int64, value float64) {
	place := judgeTopic + j.Id
	if why := t.e.outbox.crowded(place, j.Logic); why != "" {
		t.e.stats.drop(dropReadings)
		return
	}
	t.post(place, j.Id, appendReading(nil, j.detector, at, value), at, "")
}

// appendReading is the message of a run that judges a reading.
func appendReading(b []byte, d *detector, at int64, value float64) []byte {
	b = append(appendString(append(b, `{"property":`...), d.Property), `,"value":`...)
	b = strconv.AppendFloat(b, value, 'g', -1, 64)
	b = strconv.AppendInt(append(b, `,"time":`...), at, 10)
	b = strconv.AppendFloat(append(b, `,"threshold":`...), d.settings.Threshold, 'g', -1, 64)
	return append(b, '}')
}

// asked gives who asks by the lane of a detector; nil where nobody does any more.
func (x *detectors) asked(id string) *asker {
	d := x.find(id)
	if d == nil || d.Paused || d.settings.Kind != analytics.Module {
		return nil
	}
	return &asker{logic: d.Logic, by: detectorScope + id, scope: d.scope(), copies: 1, count: func([]*judged) {}, next: func(all []outgoing, m outgoing, j *judged) []outgoing {
		v, err := d.verdict(j)
		if err != nil {
			x.e.logics.complain(d.Logic, err)
		}
		if v == nil {
			return all
		}
		v.Time = j.at
		y := outgoing{slot: m.slot, own: m.own, key: m.key, topic: verdictTopic + id}
		payload, err := proto.Marshal(v)
		if err != nil {
			return all // it is of numbers
		}
		y.m = &pb.TopicMessage{Key: j.twin, Payload: payload, Id: m.m.Id, Time: timestamppb.New(msTime(j.at))}
		y.value = outgoingValue(y.topic, y.m, "")
		return append(all, y)
	}}
}

// verdict reads what a logic says of a reading; nil: nothing.
func (d *detector) verdict(j *judged) (*actorv1.Judged, error) {
	if j.err != nil || j.verdict != pb.Verdict_VERDICT_REPLACE {
		return nil, nil // its failure is counted and told already
	}
	doc := wire.Value(j.out)
	score, ok := doc.Get("score").Float()
	if !ok || math.IsNaN(score) || math.IsInf(score, 0) {
		return nil, fmt.Errorf(`%s: a verdict is {"score":NUMBER}, with anomaly and expected where they are known, and not %s`, d.Id, clip(string(j.out), 100))
	}
	v := &actorv1.Judged{Detector: d.Id, Score: score, Anomaly: score >= d.settings.Threshold}
	if yes, ok := doc.Get("anomaly").Bool(); ok {
		v.Anomaly = yes
	}
	if x, ok := doc.Get("expected").Float(); ok && !math.IsNaN(x) && !math.IsInf(x, 0) {
		v.Expected = &x
	}
	return v, nil
}

// tellVerdicts brings verdicts to their twins, those of a twin in their order, and returns when they have committed them. One that is told
// again is the same value at the same time.
func (o *outbox) tellVerdicts(ctx context.Context, detector string, messages []*pb.TopicMessage) error {
	answers := make(chan error, len(messages))
	until, _ := ctx.Deadline()
	for _, m := range messages {
		v := &actorv1.Judged{}
		if err := proto.Unmarshal(m.Payload, v); err != nil {
			return fmt.Errorf("verdict of %s: %w", detector, err)
		}
		o.e.cluster.Call(&cluster.Envelope{ID: newCallID(), Target: cluster.Target{Kind: "twin", ID: m.Key}, Message: v, Deadline: until},
			func(r cluster.Reply) { answers <- r.Err })
	}
	var failed error
	for range messages {
		select {
		case err := <-answers:
			if err != nil && !errors.Is(err, ErrNotFound) {
				failed = err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return failed
}

// judged takes what a logic says of a reading.
func (t *twin) judged(m *actorv1.Judged, c *call) {
	j := t.detectors().find(m.Detector)
	if j == nil || !j.asks {
		c.answer(takenReply) // the detector is gone
		return
	}
	v := analytics.Verdict{Ready: true, Score: m.Score, Anomaly: m.Anomaly, Expected: math.NaN()}
	if m.Expected != nil {
		v.Expected = *m.Expected
	}
	j.last = v
	j.seen++
	if !j.wrote {
		j.wrote, j.dirty = true, true // who deletes the detector knows by it that there is something said
	}
	var x verdicts
	x.add(j, &v, m.Time)
	t.takeVerdicts(&x)
	t.soil()
	t.whenSaved(func(err error) {
		if err != nil {
			c.refuse(err)
			return
		}
		c.answer(takenReply)
	})
}

// complain notes that a logic gave an answer of which nothing can be made.
func (l *logics) complain(id string, err error) {
	l.mu.Lock()
	x := l.by[id]
	l.mu.Unlock()
	if x == nil {
		return
	}
	x.failed.Add(1)
	x.mu.Lock()
	again := x.last == err.Error()
	x.last = err.Error()
	x.mu.Unlock()
	if !again {
		l.tell(id, []*pb.LogLine{{Time: timestamppb.New(l.e.now()), Level: "error", Text: clip(err.Error(), 1024)}})
	}
}

// troubled says what keeps a logic from answering on this node, or what its run failed at last; "": nothing.
func (l *logics) troubled(id string) string {
	if t, err := l.e.readTwin(id); err == nil && t == nil {
		return "there is no logic " + id
	}
	if why := l.resting(id); why != "" {
		return why
	}
	return l.last(id)
}

// last is what a logic's run failed at last on this node, with the version that it has.
func (l *logics) last(id string) string {
	l.mu.Lock()
	x := l.by[id]
	l.mu.Unlock()
	if x == nil {
		return ""
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.last
}

// sweepCells removes what logics keep of this node's twins for detectors that are gone.
func (x *detectors) sweepCells() {
	var gone []storage.Write
	for rec, err := range x.e.store.Scan(tableLogicStates, "", "") {
		if err != nil {
			x.e.log.Error("what logics keep for detectors", "err", err)
			return
		}
		part := strings.SplitN(rec.Key, "\x00", 4)
		if len(part) < 4 || x.e.owned[x.e.slotOf(part[0])].Load() == nil {
			continue
		}
		who, ok := strings.CutPrefix(part[3], detectorScope)
		if !ok || slices.ContainsFunc(x.of(ProjectOf(who)), func(d *detector) bool { return d.scope() == part[3] }) {
			continue
		}
		gone = append(gone, storage.Write{Table: tableLogicStates, Key: rec.Key, Quiet: true})
	}
	for batch := range slices.Chunk(gone, 500) {
		ctx, cancel := context.WithTimeout(x.e.ctx, 30*time.Second)
		_, err := x.e.store.Commit(ctx, &storage.Txn{Writes: batch})
		cancel()
		if err != nil {
			x.e.log.Warn("forget what logics keep for detectors", "err", err)
			return
		}
	}
}
