package automation

import (
	"encoding/json"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// listenWait is how long a look at a topic waits for a message.
const listenWait = 20 * time.Second

// listens says whether the rule reads topics: it then stays in memory, where its slot is.
func (r *rule) listens() bool { return r.has(func(t *pb.Trigger) bool { return t.GetTopic() != nil }) }

// listen has the rule's topics read, each by a goroutine of its own, as long as the configuration and the unit's life last.
func (r *rule) listen(t *turn) {
	if r.u.leaving.Load() || r.off() != "" {
		return
	}
	for _, x := range r.conf.When {
		topic := x.GetTopic().GetTopic()
		if topic == "" || r.ears[topic] {
			continue
		}
		r.ears[topic] = true
		// What was published since the rule was put counts, however late the rule began.
		at, after, u := r.u.rec.Read[topic], r.u.configured, r.u
		ctx := u.hearing
		u.running.Add(1)
		u.h.wg.Add(1)
		go func() {
			defer u.h.wg.Done()
			defer u.left()
			for wait := time.Second; ctx.Err() == nil; {
				patience := listenWait
				if at == 0 {
					patience = 0 // where it begins is written down before anything else
				}
				messages, next, err := u.h.o.World.Read(ctx, topic, at, after, patience)
				if err != nil && ctx.Err() == nil {
					u.post(func(*turn) { r.u.rec.Error = "topic " + topic + ": " + err.Error() })
					select {
					case <-ctx.Done():
					case <-time.After(wait):
					}
					wait = min(2*wait, 30*time.Second)
				}
				if err != nil || len(messages) == 0 && next == at || ctx.Err() != nil {
					continue
				}
				wait = time.Second
				if !r.take(topic, at, next, messages) {
					return
				}
				at = next
			}
		}()
	}
}

// take has messages of a topic looked at in one turn, and waits for its commit: what they have done and how far the topic is read are one transaction.
func (r *rule) take(topic string, at, next uint64, messages []*pb.TopicMessage) bool {
	done := make(chan error, 1)
	posted := r.u.post(func(t *turn) {
		if r.u.leaving.Load() || !r.u.known || r.u.rec.Read[topic] != at {
			done <- r.u.notOwner()
			return
		}
		for _, m := range messages {
			if r.off() == "" {
				r.evaluate(t, saidOf(m))
			}
		}
		if r.u.rec.Read == nil {
			r.u.rec.Read = map[string]uint64{}
		}
		r.u.rec.Read[topic], t.dirty = next, true
		t.after = append(t.after, func(err error) { done <- err })
	})
	if !posted {
		return false
	}
	select {
	case err := <-done:
		return err == nil
	case <-r.u.ctx.Done():
		return false
	}
}

// saidOf is what a message of a topic tells a rule. A rule that led to it is known by its header.
func saidOf(m *pb.TopicMessage) Said {
	s := Said{Kind: SaidTopic, Name: m.Key, Now: bodyOf(m.Payload), Time: m.Time.AsTime().UnixMilli(), By: m.Headers[headerBy]}
	if m.Time == nil {
		s.Time = 0
	}
	return s
}

// bodyOf is a payload as a condition reads it: JSON where it is that, else a text.
func bodyOf(payload []byte) json.RawMessage {
	if json.Valid(payload) {
		return payload
	}
	return json.RawMessage(jsonOf(string(payload)))
}

// Posted is what a webhook tells a rule: its body.
func Posted(body []byte, now time.Time) []byte {
	return encodeSaid(Said{Kind: SaidWebhook, Now: bodyOf(body), Time: now.UnixMilli()})
}

// forgetTopics has the rule read its topics as they are configured now: those that it read before, and reads no more, are forgotten.
func (r *rule) forgetTopics(t *turn) {
	r.u.deaf()
	clear(r.ears)
	for topic := range r.u.rec.Read {
		if !r.has(func(x *pb.Trigger) bool { return x.GetTopic().GetTopic() == topic }) {
			delete(r.u.rec.Read, topic)
			t.dirty = true
		}
	}
}
