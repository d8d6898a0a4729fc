package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
)

// maxRuns bounds the commands of a twin that run at once.
const maxRuns = 4

// runs is a Session in which each frame that is sent is a command line. What it puts out comes as one frame when it has
// ended: its exit status in digits (empty where a signal ended it), a zero byte, output and errors as they came.
type runs struct {
	client *ssh.Client
	limit  int
	places chan struct{}
	done   chan []byte
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
}

func newRuns(client *ssh.Client, limit int) *runs {
	r := &runs{client: client, limit: limit, places: make(chan struct{}, maxRuns), done: make(chan []byte)}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	go func() {
		_ = client.Wait() // why it ended, Receive does not know
		r.cancel()
	}()
	return r
}

// Receive implements transport.Session.
func (r *runs) Receive() ([]byte, error) {
	select {
	case frame := <-r.done:
		return frame, nil
	case <-r.ctx.Done():
		return nil, io.EOF
	}
}

// Send implements transport.Session.
func (r *runs) Send(ctx context.Context, frame []byte) (int, error) {
	if bytes.IndexByte(frame, 0) >= 0 {
		return 0, fmt.Errorf("a command line has no zero byte: %w", drivers.ErrInvalid)
	}
	select {
	case r.places <- struct{}{}:
	case <-ctx.Done():
		return 0, fmt.Errorf("%w: %d commands run already: %w", transport.ErrKept, maxRuns, ctx.Err())
	case <-r.ctx.Done():
		return 0, net.ErrClosed
	}
	stop := context.AfterFunc(ctx, func() { _ = r.Close() })
	session, err := r.client.NewSession()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		<-r.places
		return 0, err
	}
	out := &output{limit: r.limit}
	session.Stdout, session.Stderr = out, out
	if err := session.Start(string(frame)); err != nil {
		<-r.places
		return 0, fmt.Errorf("the device does not run the command: %w (%w)", err, transport.ErrKept)
	}
	r.wait.Go(func() {
		defer func() { <-r.places }()
		defer session.Close()
		r.finish(out, session.Wait())
	})
	return len(frame), nil
}

func (r *runs) finish(out *output, err error) {
	status := "0"
	var exit *ssh.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.Signal() == "":
		status = strconv.Itoa(exit.ExitStatus())
	default:
		status = ""
	}
	frame := append(append([]byte(status), 0), out.take()...)
	select {
	case r.done <- frame:
	case <-r.ctx.Done():
	}
}

// Close implements transport.Session.
func (r *runs) Close() error {
	r.cancel()
	return r.client.Close()
}

// output keeps the first bytes of what a command puts out.
type output struct {
	limit int
	mu    sync.Mutex
	buf   bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(p[:min(len(p), max(o.limit-o.buf.Len(), 0))])
	return len(p), nil
}

func (o *output) take() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Bytes()
}
