package sim

import (
	"net"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// answerSearch answers those who look for projectors of class 2, until the socket is closed. A projector answers to the
// port 4352 of whoever asks; this one answers to the port that the question came from, so that both may be on one machine.
func (s *Sim) answerSearch(c net.PacketConn, p *Projector) {
	for buf := make([]byte, 256); ; {
		n, from, err := c.ReadFrom(buf)
		if err != nil {
			return
		}
		if string(buf[:n]) != "%2SRCH\r" {
			continue
		}
		s.journal.Add(p.name, "searched", from.String())
		outcome, delay := s.dice.Throw()
		time.Sleep(delay)
		answer := []byte("%2ACKN=" + p.mac + "\r")
		switch outcome {
		case peer.Silence, peer.Drop:
			continue
		case peer.Garbage:
			answer = s.dice.Noise(len(answer))
		}
		_, _ = c.WriteTo(answer, from)
	}
}
