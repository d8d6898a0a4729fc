package peer

import (
	"io"
	"runtime"
	"sync"
	"time"
)

// envelopeHead is what Connect writes before each message: flags and length.
const envelopeHead = 5

// feed is the body of a link's request: the hello that Connect wrote, and then, when the link stands, what waits in its
// outbox, in Connect's envelopes. HTTP/2 reads it on a goroutine of its own; through Connect's pipe each batch would wake
// two more, and be copied twice more. A batch is given in one Read where there is room: a Read is a frame, a TLS record and
// a system call.
type feed struct {
	io.ReadCloser // the hello
	k             *link
	stands        <-chan struct{}
	closed        chan struct{}
	close         sync.Once

	left  int // of the hello
	sent  bool
	head  [envelopeHead]byte
	batch *chunk // being sent
	at    int    // in head and batch
}

// Read gives the next bytes of the request; io.EOF when the link is retired and all is sent.
func (f *feed) Read(b []byte) (int, error) {
	if !f.sent {
		return f.hello(b)
	}
	if f.batch == nil {
		c, err := f.next()
		if err != nil {
			return 0, err
		}
		n := len(c.buf)
		f.head = [envelopeHead]byte{0, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
		f.batch, f.at = c, 0
	}
	n := 0
	if f.at < envelopeHead {
		n = copy(b, f.head[f.at:])
	}
	if f.at+n >= envelopeHead {
		n += copy(b[n:], f.batch.buf[f.at+n-envelopeHead:])
	}
	if f.at += n; f.at == envelopeHead+len(f.batch.buf) {
		freeChunk(f.batch)
		f.batch = nil
	}
	return n, nil
}

// Close ends a Read that waits. HTTP/2 calls it when the stream or the connection is lost, or its context ends.
func (f *feed) Close() error {
	f.close.Do(func() { close(f.closed) })
	return f.ReadCloser.Close()
}

// hello passes on the one message that comes from Connect, its head first.
func (f *feed) hello(b []byte) (int, error) {
	if f.left > 0 {
		n, err := f.ReadCloser.Read(b[:min(len(b), f.left)])
		f.left -= n
		f.sent = f.left == 0
		return n, err
	}
	if len(b) < envelopeHead {
		return 0, io.ErrShortBuffer
	}
	n, err := io.ReadFull(f.ReadCloser, b[:envelopeHead])
	if err != nil {
		return n, err
	}
	f.left = int(b[1])<<24 | int(b[2])<<16 | int(b[3])<<8 | int(b[4])
	return n, nil
}

// next gives the next batch. It blocks until there is one, the link is retired and empty (io.EOF), or over.
func (f *feed) next() (*chunk, error) {
	k := f.k
	select {
	case <-f.stands:
	case <-f.closed:
		return nil, io.ErrClosedPipe
	}
	for {
		k.mu.Lock()
		if k.over != nil {
			defer k.mu.Unlock()
			return nil, k.over
		}
		if c := k.out.take(); c != nil {
			if c.last != 0 {
				k.sent = c.last
			}
			putStamp(c.buf, micros(k.epoch, time.Now()))
			k.mu.Unlock()
			k.l.p.m.batchesOut.Inc()
			k.l.p.m.bytesOut.Add(len(c.buf))
			return c, nil
		}
		retired := k.retired
		k.mu.Unlock()
		if retired {
			return nil, io.EOF
		}
		select {
		case <-k.out.wake:
			runtime.Gosched() // who can run now may have more to send
		case <-f.closed:
			return nil, io.ErrClosedPipe
		}
	}
}
