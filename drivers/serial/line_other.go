//go:build !linux && !darwin && !freebsd && !openbsd

package serial

import (
	"time"

	"go.bug.st/serial"
)

type port struct{ serial.Port }

func open(name string, mode *serial.Mode) (line, error) {
	p, err := serial.Open(name, mode)
	if err != nil {
		return nil, err
	}
	return port{p}, nil
}

// SetWriteDeadline implements line: a deadline in the past drops what waits, so that a write goes on to its end.
func (p port) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() && !t.After(time.Now()) {
		p.Discard()
	}
	return nil
}

// Discard implements line.
func (p port) Discard() { _ = p.ResetOutputBuffer() }
