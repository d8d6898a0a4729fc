package peer

import (
	"math/rand/v2"
	"slices"
	"time"
)

// The results of another node's calls ride with the own calls to that node, where a link to it stands: one batch, one write
// and one wake-up of the other side for both. Where none does, or where much waits in it, they go back in the stream in which
// the calls came. So there is always a way back that no call can stop up, and two nodes that read no more of each other's
// calls, until their answers are read, come out of that.

// maxRide is the largest answer among calls, in bytes: a larger one must not stand before them.
const maxRide = 8 << 10

// lingerTime is how long the calls of a stream that was ended in good order wait for results that come in another.
const lingerTime = 2500 * time.Millisecond

// newStreamID gives a number that no other stream has, of any node, also after a restart; never 0.
func newStreamID() uint64 { return rand.Uint64() | 1 }

// addResult writes a result into the last chunk of an outbox.
type addResult func(*outbox, *chunk, resultOf)

// carrier is the link with which a session's answers ride; nil: there is none.
func (s *session) carrier() *link {
	if s.back == nil {
		return nil
	}
	return s.back.cur.Load()
}

// carry has add write the result of a session's call among the calls of k; false: the link cannot take it.
func (k *link) carry(s *session, ref uint64, add addResult) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.takes || k.over != nil || k.retired || k.out.bytes >= chunkSize {
		return false
	}
	of := resultOf{field: reqResults, ref: ref}
	c := k.out.tail()
	if c.stream != s.peer.stream {
		c.stream, of.stream = s.peer.stream, s.peer.stream
	}
	if !slices.Contains(k.riders, s) {
		k.riders = append(slices.DeleteFunc(k.riders, (*session).isGone), s)
	}
	add(&k.out, c, of)
	k.l.p.m.shared.Inc()
	return true
}

// isGone says whether the stream has ended: nobody waits for its results.
func (s *session) isGone() bool {
	select {
	case <-s.gone:
		return true
	default:
		return false
	}
}

// throw ends the sessions of which a result may be lost with the link that carried it: those who wait shall know it.
func throw(riders []*session) {
	for _, s := range riders {
		if !s.isGone() {
			s.cut()
		}
	}
}

// ridden takes a result that came among calls.
func (s *session) ridden(b []byte) error {
	r, err := s.p.parseResult(s.node, &s.types, b)
	if err != nil {
		return err
	}
	if r.stream != 0 && r.stream != s.stream {
		s.handOut()
		s.stream, s.of = r.stream, nil
		if k, ok := s.p.streams.Load(r.stream); ok && k.(*link).l.node == s.node {
			s.of = k.(*link)
		}
	}
	if s.stream == 0 {
		return errMalformed
	}
	if s.of == nil {
		s.p.m.late.Inc() // that stream is over
		return nil
	}
	s.results.batch = append(s.results.batch, r)
	return nil
}

// handOut ends the calls whose results have been read.
func (s *session) handOut() {
	if len(s.results.batch) > 0 {
		s.results.handOut(s.of)
	}
}

// linger waits, at the end of a retired link's stream, for the results that come in a stream of the other node.
func (k *link) linger() {
	k.mu.Lock()
	if !k.retired || !k.takes || k.over != nil || k.table.count == 0 {
		k.mu.Unlock()
		return
	}
	emptied := make(chan struct{})
	k.emptied = emptied
	k.mu.Unlock()
	t := time.NewTimer(lingerTime)
	defer t.Stop()
	select {
	case <-emptied:
	case <-t.C:
	case <-k.ctx.Done():
	}
}
