// Package serial carries a twin's bytes over a serial line of the node that has the twin.
package serial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.bug.st/serial"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

// Open opens serial:///dev/NAME.
func Open(o transport.Options) (drivers.Conn, error) {
	t := &o.Binding.Transport
	a, err := transport.ParseAddress(o.Binding.URI, t)
	if err != nil {
		return nil, fmt.Errorf("open serial: %w", err)
	}
	mode, err := modeOf(t.Serial)
	if err != nil {
		return nil, fmt.Errorf("open serial %s: %w", a.Path, err)
	}
	if err := allowed(a.Path, o.SerialPaths); err != nil {
		return nil, fmt.Errorf("open serial %s: %w", a.Path, err)
	}
	dial := func(context.Context) (transport.Session, error) {
		l, err := open(a.Path, mode)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", a.Path, reason(err))
		}
		return &session{line: l, buf: make([]byte, transport.ReadChunk)}, nil
	}
	c, err := transport.Open(o, transport.Kind{Name: a.Path, Dial: dial, Stream: true})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// allowed holds twins to serial lines: a node's other devices are none of theirs.
func allowed(name string, patterns []string) error {
	if patterns == nil {
		patterns = transport.DefaultSerialPaths()
	}
	for _, p := range patterns {
		if ok, err := path.Match(p, name); ok && err == nil {
			return nil
		}
	}
	return fmt.Errorf("this is none of the serial lines that twins may use, which are %s: %w", strings.Join(patterns, ", "), drivers.ErrDenied)
}

func modeOf(o *drivers.SerialOptions) (*serial.Mode, error) {
	if o == nil {
		o = &drivers.SerialOptions{}
	}
	m := &serial.Mode{BaudRate: 9600, DataBits: 8}
	if o.Baud != "" {
		n, err := strconv.Atoi(o.Baud)
		if err != nil || n < 50 || n > 4_000_000 {
			return nil, fmt.Errorf("serial/baud %q: want 50 to 4000000", o.Baud)
		}
		m.BaudRate = n
	}
	if o.DataBits != 0 {
		m.DataBits = o.DataBits
	}
	var ok bool
	if m.Parity, ok = map[string]serial.Parity{"": serial.NoParity, "none": serial.NoParity, "odd": serial.OddParity, "even": serial.EvenParity,
		"mark": serial.MarkParity, "space": serial.SpaceParity}[o.Parity]; !ok {
		return nil, fmt.Errorf("serial/parity %q is not known", o.Parity)
	}
	if m.StopBits, ok = map[string]serial.StopBits{"": serial.OneStopBit, "1": serial.OneStopBit, "1.5": serial.OnePointFiveStopBits,
		"2": serial.TwoStopBits}[o.StopBits]; !ok {
		return nil, fmt.Errorf("serial/stop_bits %q: want 1, 1.5 or 2", o.StopBits)
	}
	return m, nil
}

// reason words the library's errors.
func reason(err error) error {
	var e *serial.PortError
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() {
	case serial.PortNotFound:
		return errors.New("there is no such line")
	case serial.PortBusy:
		return errors.New("another program has the line")
	case serial.PermissionDenied:
		return errors.New("the node may not use the line: is its user in the group that owns it?")
	}
	return err
}

type session struct {
	line    line
	buf     []byte
	closing sync.Once
}

// line is an open serial line. Close ends what waits in Read and in Write.
type line interface {
	io.ReadWriteCloser
	SetWriteDeadline(t time.Time) error
	// Discard drops what was written and did not go out.
	Discard()
}

// Receive implements transport.Session.
func (s *session) Receive() ([]byte, error) {
	n, err := s.line.Read(s.buf)
	switch {
	case n > 0:
		return s.buf[:n], nil // an error comes again
	case err != nil:
		return nil, err
	}
	return nil, io.EOF // the line hung up
}

// Send implements transport.Session. A line on which nothing moves has what waits in it dropped when the time is over.
func (s *session) Send(ctx context.Context, frame []byte) (int, error) {
	n, err := transport.WriteFrame(ctx, s.line, frame)
	if err != nil {
		s.line.Discard()
	}
	return n, err
}

// Close implements transport.Session.
func (s *session) Close() (err error) {
	s.closing.Do(func() {
		s.line.Discard() // or the system waits for it to go out
		err = s.line.Close()
	})
	return err
}
