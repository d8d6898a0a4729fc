package mqtt

import "errors"

// Refusal says that a message is refused for good: sending it again would not help. A client of MQTT 5 is told Code,
// one of 3.1.1 gets a plain acknowledgement, so that the message does not come back for ever; both are counted under
// Label.
type Refusal struct {
	// Code is the reason code of MQTT 5; below 0x80 it is a kind of success.
	Code byte
	// Label of the counter: a constant.
	Label string
	// Text for logs.
	Text string
}

func (r *Refusal) Error() string { return r.Text }

var (
	// ErrUnowned: no twin is bound to the topic. To the client that is a success without a subscriber.
	ErrUnowned = &Refusal{Code: 0x10, Label: "unowned", Text: "no twin is bound to this topic"}
	// ErrRefused: the receiver does not want the message, for reasons of its own.
	ErrRefused = &Refusal{Code: 0x83, Label: "refused", Text: "message refused"}
	// ErrNotAuthorized: the client may not publish to the topic.
	ErrNotAuthorized = &Refusal{Code: 0x87, Label: "not_authorized", Text: "not authorized for this topic"}
	// ErrTopic: the topic is malformed, too long or too deep.
	ErrTopic = &Refusal{Code: 0x90, Label: "topic", Text: "topic not allowed here"}
	// ErrTooLarge: the packet is longer than MaxPacket. Its sender is disconnected.
	ErrTooLarge = &Refusal{Code: 0x95, Label: "too_large", Text: "the packet is larger than the broker takes"}
	// ErrQuota: a limit is reached that does not go away by waiting.
	ErrQuota = &Refusal{Code: 0x97, Label: "quota", Text: "quota exceeded"}
	// ErrInvalid: the payload is not what the topic takes.
	ErrInvalid = &Refusal{Code: 0x99, Label: "invalid", Text: "invalid payload"}
)

// refusalOf gives the refusal in err; nil: err is of the kind that may go away.
func refusalOf(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	return nil
}
