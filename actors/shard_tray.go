package actors

import (
	"sync"

	"github.com/asynkron/protoactor-go/actor"
)

// maxTray is how many letters an empty tray may have room for.
const maxTray = 4096

// tray holds what comes for a shard's actors from elsewhere: calls, and results of their transactions. It gathers while the shard has
// something else to do, and costs the shard one message together.
type tray struct {
	mu      sync.Mutex
	letters []letter
	spare   []letter
	// open is the actor whose turn goes on with the next letter. It belongs to the shard, as does the time of the turns.
	open       *entry
	tick, wall int64
}

// letter is a call, a message for an actor for which there is a token, or one for whichever actor a twin has.
type letter struct {
	call *call
	en   *entry
	turn turn
	to   *shardTurn
}

// collect has the shard empty its tray.
type collect struct{}

// post gives the shard a letter. It does not block. The letter is handled before what is sent to the shard afterwards.
func (s *shard) post(x letter) {
	b := &s.tray
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.letters = append(b.letters, x); len(b.letters) == 1 {
		s.e.system.Root.Send(s.pid, (*collect)(nil))
	}
}

// empty handles what is in the tray.
func (s *shard) empty(c actor.Context) {
	b := &s.tray
	b.mu.Lock()
	letters := b.letters
	b.letters, b.spare = b.spare, nil
	b.mu.Unlock()
	b.tick, b.wall = s.e.both()
	for i := range letters {
		x := &letters[i]
		switch {
		case x.call != nil:
			s.queue.Add(-1)
			s.handle(c, x.call)
		case x.to != nil:
			s.close()
			s.bring(c, x.to)
		default:
			s.take(x.en, x.turn, true)
		}
	}
	s.close()
	if clear(letters); cap(letters) <= maxTray {
		b.mu.Lock()
		b.spare = letters[:0]
		b.mu.Unlock()
	}
}

// take gives an actor a message for which it has a token. Where nothing waits in its mailbox the shard takes the actor's turn itself, which
// spares a mailbox and a goroutine. Where more may come the turn goes on with the next letter, if that is for the same actor.
func (s *shard) take(en *entry, m turn, more bool) {
	b := &s.tray
	if b.open != en {
		s.close()
		if en.mailed.Load() != 0 {
			en.send(m)
			return
		}
		en.mu.Lock()
		b.open = en
		en.twin.tick, en.twin.wall = b.tick, b.wall
	}
	en.twin.act(m)
	en.twin.measure()
	if !more {
		s.close()
	}
	en.tokens.Add(-1)
}

// close ends the turn that is open.
func (s *shard) close() {
	en := s.tray.open
	if en == nil {
		return
	}
	s.tray.open = nil
	en.twin.afterwards()
	stop := en.twin.wantsStop()
	en.mu.Unlock()
	if stop {
		en.stop()
	}
}
