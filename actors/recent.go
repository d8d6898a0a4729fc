package actors

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxRecent is how many answered calls a twin remembers, so that a call that is tried again runs once.
	maxRecent = 16
	// recentWindow is for how long, in milliseconds.
	recentWindow = 60_000
)

// recentCall remembers an answer.
type recentCall struct {
	id    [16]byte
	at    int64 // milliseconds since 1970
	reply cluster.Reply
}

// remember keeps an answer for a call that is tried again. Errors are no answers: those calls did not run, or nobody knows.
func (t *twin) remember(id [16]byte, r cluster.Reply) {
	if id == ([16]byte{}) || r.Message == nil || t.mode != modeLive && t.mode != modeLeaving {
		return
	}
	w := t.working()
	if len(w.recent) >= maxRecent {
		w.recent = append(w.recent[:0], w.recent[len(w.recent)-maxRecent+1:]...)
	}
	w.recent = append(w.recent, recentCall{id, t.stamp(), r})
	if t.mode == modeLeaving {
		t.touched = true
	}
}

// Kinds of replies in a record.
const (
	_ uint8 = iota
	replyCommand
	replyDesired
)

// packCalls writes the recent answers into the record, for the twin's next owner.
func (t *twin) packCalls() {
	if t.st.More != nil {
		t.st.More.Calls = nil
	}
	if t.work == nil {
		return
	}
	since := t.stamp() - recentWindow
	room := maxRecord - t.st.Size()
	for i := range t.work.recent {
		r := &t.work.recent[i]
		if r.at < since {
			continue
		}
		k := state.Call{ID: r.id, Time: r.at}
		if b, err := proto.Marshal(r.reply.Message); err == nil && len(b) <= maxKeptReply {
			switch r.reply.Message.(type) {
			case *actorv1.CommandResult:
				k.Kind, k.Reply = replyCommand, string(b)
			case *pb.SetDesiredResponse:
				k.Kind, k.Reply = replyDesired, string(b)
			}
		}
		if room -= 64 + len(k.Reply); room < 0 {
			return
		}
		t.more().Calls = append(t.more().Calls, k)
	}
}

// decodeReply gives an answer of an earlier owner.
func decodeReply(k *state.Call) cluster.Reply {
	var m proto.Message
	switch k.Kind {
	case replyCommand:
		m = &actorv1.CommandResult{}
	case replyDesired:
		m = &pb.SetDesiredResponse{}
	}
	if m == nil || proto.Unmarshal([]byte(k.Reply), m) != nil {
		return cluster.Reply{Err: fmt.Errorf("the call ran, and its result is not known any more: %w", cluster.ErrUnknown)}
	}
	return cluster.Reply{Message: m}
}
