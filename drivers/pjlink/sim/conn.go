package sim

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers/peer"
)

// maxLine bounds a command: 136 bytes by the specification, and 32 of the digest before the first.
const maxLine = 136 + 32

// serve greets and then answers one client until either side ends it.
func (s *Sim) serve(ctx context.Context, c net.Conn, p *Projector) {
	s.journal.Add(p.name, "connected", c.RemoteAddr().String())
	reason := s.talk(ctx, c, p)
	s.journal.Add(p.name, "disconnected", reason)
}

func (s *Sim) talk(ctx context.Context, c net.Conn, p *Projector) (reason string) {
	digest, err := s.greet(c)
	if err != nil {
		return err.Error()
	}
	in := bufio.NewReaderSize(c, maxLine)
	for {
		c.SetReadDeadline(time.Now().Add(s.o.Idle))
		raw, err := in.ReadSlice('\r')
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return "idle"
		case errors.Is(err, bufio.ErrBufferFull):
			return "line too long"
		case errors.Is(err, io.EOF):
			return "closed by client"
		case err != nil:
			return err.Error()
		}
		line := strings.TrimLeft(string(raw[:len(raw)-1]), "\n")
		if digest != "" {
			given := line[:min(len(line), len(digest))]
			if subtle.ConstantTimeCompare([]byte(given), []byte(digest)) != 1 {
				s.journal.Add(p.name, "fault", "wrong password")
				c.Write([]byte("PJLINK ERRA\r"))
				return "wrong password"
			}
			line = line[len(digest):]
			digest = ""
		}
		s.journal.Add(p.name, "told", line)
		if reason := s.reply(ctx, c, p.answer(line), p); reason != "" {
			return reason
		}
	}
}

// greet says hello and returns the digest that the first command must begin with, empty without a password.
func (s *Sim) greet(c net.Conn) (digest string, err error) {
	if s.o.Password == "" {
		_, err = c.Write([]byte("PJLINK 0\r"))
		return "", err
	}
	var salt [4]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return "", err
	}
	text := hex.EncodeToString(salt[:])
	sum := md5.Sum([]byte(text + s.o.Password))
	_, err = c.Write([]byte("PJLINK 1 " + text + "\r"))
	return hex.EncodeToString(sum[:]), err
}

// reply sends an answer as well as the faults let it. A reason that is not empty ends the connection.
func (s *Sim) reply(ctx context.Context, c net.Conn, answer string, p *Projector) (reason string) {
	outcome, delay := s.dice.Throw()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return "stopped"
		}
	}
	out := []byte(answer + "\r")
	switch outcome {
	case peer.Drop:
		s.journal.Add(p.name, "fault", "dropped")
		return "dropped"
	case peer.Silence:
		s.journal.Add(p.name, "fault", "silent")
		return ""
	case peer.Garbage:
		s.journal.Add(p.name, "fault", "garbage")
		out = append(s.dice.Noise(24), '\r')
	}
	if answer == "" {
		return ""
	}
	if _, err := c.Write(out); err != nil {
		return err.Error()
	}
	return ""
}
