package peer

import (
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/cluster"
)

var errEnded = errors.New("the other side ended the stream")

// read hands out results until the stream ends.
func (k *link) read(stream connect.StreamingClientConn) error {
	for {
		if err := stream.Receive(k); err != nil {
			if errors.Is(err, io.EOF) {
				return errEnded
			}
			return err
		}
	}
}

// consume takes a batch of results. Those of one batch are handed out together, and the calls that follow from them leave together.
func (k *link) consume(b []byte) error {
	k.l.p.m.batchesIn.Inc()
	k.l.p.m.bytesIn.Add(len(b))
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
			r, err := k.l.p.parseResult(k.l.node, &k.types, data)
			if err != nil {
				return err
			}
			k.results.batch = append(k.results.batch, r)
		}
	}
	k.results.handOut(k)
	return nil
}

// parseResult reads a result of a node's; types are the stream's in which it came.
func (p *Peers) parseResult(node string, types *typeTable, b []byte) (r result, err error) {
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
		case resultStream:
			r.stream = v
		}
	}
	if fail != nil {
		r.reply.Err, err = p.parseFailed(types, fail)
		return r, err
	}
	// A result that cannot be read is the result of a call that did run.
	if r.reply.Message, err = types.decode(number, message); err != nil {
		r.reply.Err = fmt.Errorf("answer of node %s: %w: %w", node, err, cluster.ErrUnknown)
	}
	return r, nil
}

func (p *Peers) parseFailed(types *typeTable, b []byte) (error, error) {
	f, err := parseFailure(b)
	if err != nil {
		return nil, err
	}
	detail, err := types.decode(f.detailType, f.detail)
	if err != nil {
		detail = nil // the text is enough
	}
	return p.errorOf(&f, detail), nil
}

// results of one batch for one link, and the calls that they end. It belongs to the goroutine that reads a stream.
type results struct {
	batch []result
	ends  []waiting
}

// handOut ends the calls of k that the results are for, and forgets these.
func (r *results) handOut(k *link) {
	ends := r.ends[:0]
	k.mu.Lock()
	k.out.hold(1)
	for i := range r.batch {
		w, ok := k.table.remove(r.batch[i].ref)
		ends = append(ends, w)
		if !ok {
			k.l.p.m.late.Inc()
		}
	}
	if k.emptied != nil && k.table.count == 0 {
		close(k.emptied)
		k.emptied = nil
	}
	k.mu.Unlock()
	for i := range ends {
		switch w, r := &ends[i], &r.batch[i]; {
		case w.done != nil:
			w.done(r.reply)
		case w.raw != nil:
			w.raw(r.applied, r.index, r.reply.Err)
		}
	}
	clear(ends)
	clear(r.batch)
	r.ends, r.batch = ends, r.batch[:0]
	k.mu.Lock()
	k.out.hold(-1)
	k.mu.Unlock()
}
