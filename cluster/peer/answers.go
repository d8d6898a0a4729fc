package peer

import (
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/cluster"
)

// read hands out results until the stream ends.
func (k *link) read(stream connect.StreamingClientConn) error {
	for {
		if err := stream.Receive(k); err != nil {
			if errors.Is(err, io.EOF) {
				return errors.New("the other side ended the stream")
			}
			return err
		}
	}
}

// consume takes a batch of results. Those of one batch are handed out together, and the calls that follow from them leave together.
func (k *link) consume(b []byte) error {
	k.l.p.m.batchesIn.Inc()
	k.l.p.m.bytesIn.Add(len(b))
	k.batch = k.batch[:0]
	for len(b) > 0 {
		field, _, data, n := nextField(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		switch field {
		case resTypes:
			if err := k.types.learn(data); err != nil {
				return err
			}
		case resResults:
			r, err := k.parseResult(data)
			if err != nil {
				return err
			}
			k.batch = append(k.batch, r)
		}
	}
	k.finish(k.batch)
	clear(k.batch)
	return nil
}

func (k *link) parseResult(b []byte) (r result, err error) {
	var number uint32
	var message, fail []byte
	for len(b) > 0 {
		field, v, data, n := nextField(b)
		if n < 0 {
			return r, errMalformed
		}
		b = b[n:]
		switch field {
		case resultRef:
			r.ref = v
		case resultType:
			number = uint32(v)
		case resultMessage:
			message = data
		case resultFailure:
			fail = data
			if fail == nil {
				fail = []byte{}
			}
		case resultApplied:
			r.applied = append([]byte(nil), data...)
		case resultIndex:
			r.index = v
		}
	}
	if fail != nil {
		r.reply.Err, err = k.parseFailed(fail)
		return r, err
	}
	// A result that cannot be read is the result of a call that did run.
	if r.reply.Message, err = k.types.decode(number, message); err != nil {
		r.reply.Err = fmt.Errorf("answer of node %s: %w: %w", k.l.node, err, cluster.ErrUnknown)
	}
	return r, nil
}

func (k *link) parseFailed(b []byte) (error, error) {
	f, err := parseFailure(b)
	if err != nil {
		return nil, err
	}
	detail, err := k.types.decode(f.detailType, f.detail)
	if err != nil {
		detail = nil // the text is enough
	}
	return k.l.p.errorOf(&f, detail), nil
}

func (k *link) finish(batch []result) {
	ends := k.ends[:0]
	k.mu.Lock()
	k.out.hold(1)
	for i := range batch {
		w, ok := k.table.remove(batch[i].ref)
		ends = append(ends, w)
		if !ok {
			k.l.p.m.late.Inc()
		}
	}
	k.mu.Unlock()
	for i := range ends {
		switch w, r := &ends[i], &batch[i]; {
		case w.done != nil:
			w.done(r.reply)
		case w.raw != nil:
			w.raw(r.applied, r.index, r.reply.Err)
		}
	}
	clear(ends)
	k.ends = ends
	k.mu.Lock()
	k.out.hold(-1)
	k.mu.Unlock()
}
