package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Webhook gives a twin's driver an HTTP request that came for the twin, and waits for its answer. Where the driver says
// nothing, the answer has the status 204. The error is a *drivers.DriverError where the driver refused; ErrStopped, ErrFault,
// cluster.ErrOverloaded and the like say that it was not asked.
func (c *Client) Webhook(ctx context.Context, id string, in drivers.WebhookInput) (drivers.WebhookOutput, error) {
	out := drivers.WebhookOutput{}
	id, err := CanonicalID(id)
	if err != nil {
		return out, err
	}
	input, err := json.Marshal(in)
	if err != nil {
		return out, fmt.Errorf("webhook of %s: %w", id, err)
	}
	m, err := c.call(ctx, id, &actorv1.Webhook{Input: string(input)}, "")
	if err != nil {
		return out, err
	}
	a, ok := m.(*actorv1.WebhookAnswer)
	switch {
	case !ok:
		return out, fmt.Errorf("webhook of %s: unexpected reply %T", id, m)
	case a.Code != 0:
		return out, &drivers.DriverError{Code: a.Code, Message: a.Message, Retryable: a.Retryable, After: time.Duration(a.AfterMs) * time.Millisecond}
	case a.Output == "" || a.Output == "null":
		out.Status = 204
		return out, nil
	}
	if err := json.Unmarshal([]byte(a.Output), &out); err != nil {
		return out, &drivers.DriverError{Code: -1, Message: "its answer is no webhook's: " + err.Error()}
	}
	if out.Status == 0 {
		out.Status = 200
	}
	if out.Status < 200 || out.Status > 599 {
		return out, &drivers.DriverError{Code: -1, Message: fmt.Sprintf("its answer has the status %d", out.Status)}
	}
	return out, nil
}

// webhookTopic marks webhooks in a trace.
const webhookTopic = "webhook"

// webhook queues the event of an HTTP request, whose answer is the driver's output.
func (t *twin) webhook(req *actorv1.Webhook, m *call) {
	id, moved, tracers := t.en.id, t.movedByHook(), t.e.tracers
	tracers.received(id, webhookTopic, []byte(req.Input))
	err := t.receivable()
	if err == nil && t.backoff > t.nowMS() {
		err = ErrFault
	}
	if err != nil {
		t.e.stats.drop(dropFault)
		moved.failed(err)
		m.refuse(fmt.Errorf("twin %s: %w", id, err))
		return
	}
	t.seen()
	moved.received(len(req.Input))
	if v := t.spec.via(t.cfg.uri); v != nil && v.Scheme == drivers.SchemeWebhook && !t.sleeping() &&
		pb.Connection(t.st.Connection) != pb.Connection_CONNECTION_CONNECTED {
		t.up() // it speaks, so it is there
	}
	a := &actorv1.WebhookAnswer{}
	t.working().push(event{kind: drivers.EventWebhook, input: []byte(req.Input), durable: true,
		answer: func(output []byte, refusal *drivers.DriverError) {
			a.Output = string(output)
			if refusal != nil {
				a.Code, a.Message, a.Retryable, a.AfterMs = refusal.Code, refusal.Message, refusal.Retryable, refusal.After.Milliseconds()
				moved.failed(refusal)
			}
			moved.sent(len(output))
			tracers.sent(id, webhookTopic, output)
		},
		done: func(err error) {
			if err != nil {
				moved.failed(err)
				m.refuse(webhookError(err))
				return
			}
			m.answer(cluster.Reply{Message: a})
		}})
}

// webhookError makes of why an event was not handled what the caller learns. Nobody brings a webhook again but its sender.
func webhookError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", cluster.ErrDeadline, err)
	}
	return err
}
