package peer

import (
	"fmt"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

const (
	// chunkSize is where a batch is closed and the next begun. Larger batches were not faster.
	chunkSize = 64 << 10
	// readMax is the largest batch that is read: a chunk and one more message.
	readMax = 2*MaxMessage + chunkSize
	// maxTypes bounds the message types of one direction of a stream.
	maxTypes = 4096
)

// chunk is a batch that is being filled or sent.
type chunk struct {
	buf []byte
	// last is the sequence number of the last call in it.
	last uint64
	// posts are the calls in it that want no answer.
	posts int
	// stream of the last result in it, among calls; see carry.
	stream uint64
}

var chunks = sync.Pool{New: func() any { return &chunk{buf: make([]byte, 0, chunkSize+4096)} }}

func freeChunk(c *chunk) {
	if cap(c.buf) <= 4*chunkSize {
		chunks.Put(c)
	}
}

// outbox gathers what waits to be sent, already encoded, in batches. Its writer sleeps while it is empty; what comes
// while the writer sends goes with the next batch. The owner's mutex guards it.
type outbox struct {
	waiting []*chunk
	bytes   int
	// stamped chunks begin with room for the time of sending.
	stamped bool
	types   map[protoreflect.MessageDescriptor]uint32
	last    protoreflect.MessageDescriptor // the one that number was asked for last, and its number
	lastN   uint32
	field   int // of TypeName in the batch
	// asleep: the writer waits for wake. held: somebody is about to add more and will end its hold.
	asleep bool
	held   int
	wake   chan struct{}
}

func newOutbox(field int, stamped bool) outbox {
	return outbox{field: field, stamped: stamped, types: map[protoreflect.MessageDescriptor]uint32{}, wake: make(chan struct{}, 1)}
}

// tail gives the chunk to append to; added must be called after.
func (o *outbox) tail() *chunk {
	if n := len(o.waiting); n > 0 && len(o.waiting[n-1].buf) < chunkSize {
		return o.waiting[n-1]
	}
	c := chunks.Get().(*chunk)
	c.buf, c.last, c.posts, c.stream = c.buf[:0], 0, 0, 0
	if o.stamped {
		c.buf = appendStamp(c.buf)
		o.bytes += len(c.buf)
	}
	o.waiting = append(o.waiting, c)
	return c
}

// added accounts for n bytes and wakes the writer.
func (o *outbox) added(n int) {
	o.bytes += n
	if o.held == 0 {
		o.rouse()
	}
}

func (o *outbox) rouse() {
	if o.asleep && len(o.waiting) > 0 {
		o.asleep = false
		o.wake <- struct{}{}
	}
}

// hold begins (1) or ends (-1) a time in which the writer is not woken.
func (o *outbox) hold(n int) {
	if o.held += n; o.held == 0 {
		o.rouse()
	}
}

// take gives the next chunk to send, or nil, and then the writer sleeps until wake.
func (o *outbox) take() *chunk {
	if len(o.waiting) == 0 {
		o.asleep = true
		return nil
	}
	c := o.waiting[0]
	n := copy(o.waiting, o.waiting[1:])
	o.waiting[n] = nil
	o.waiting = o.waiting[:n]
	o.bytes -= len(c.buf)
	return c
}

// drop forgets what waits, and says how many calls without an answer were in it.
func (o *outbox) drop() (posts int) {
	for _, c := range o.waiting {
		posts += c.posts
		freeChunk(c)
	}
	o.waiting, o.bytes = nil, 0
	return posts
}

// number gives a message's type its number, announcing it in the chunk where it is new.
func (o *outbox) number(c *chunk, m proto.Message) (uint32, error) {
	d := m.ProtoReflect().Descriptor()
	if d == o.last {
		return o.lastN, nil
	}
	if n, ok := o.types[d]; ok {
		o.last, o.lastN = d, n
		return n, nil
	}
	if len(o.types) >= maxTypes {
		return 0, fmt.Errorf("more than %d message types: %w", maxTypes, ErrUnsupported)
	}
	n := uint32(len(o.types) + 1)
	o.types[d] = n
	before := len(c.buf)
	c.buf = appendType(c.buf, o.field, n, string(d.FullName()))
	o.bytes += len(c.buf) - before
	return n, nil
}

// typeTable is the other side of numbers: message types by number. It belongs to the goroutine that reads the stream.
type typeTable struct{ types []announced }

type announced struct {
	name string
	typ  protoreflect.MessageType // nil: unknown here
}

func (t *typeTable) learn(b []byte) error {
	var number uint64
	var name string
	err := fields(b, func(field int, v uint64, data []byte) error {
		switch field {
		case typeNumber:
			number = v
		case typeName:
			name = string(data)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if number != uint64(len(t.types)+1) || number > maxTypes {
		return fmt.Errorf("type %d announced after %d: %w", number, len(t.types), errMalformed)
	}
	typ, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
	if err != nil {
		typ = nil
	}
	t.types = append(t.types, announced{name, typ})
	return nil
}

// decode gives a message; number 0 is none.
func (t *typeTable) decode(number uint32, data []byte) (proto.Message, error) {
	if number == 0 {
		return nil, nil
	}
	if int(number) > len(t.types) {
		return nil, fmt.Errorf("message of type %d, which was not announced: %w", number, ErrUnsupported)
	}
	a := &t.types[number-1]
	if a.typ == nil {
		return nil, fmt.Errorf("message type %s is unknown here: %w", a.name, ErrUnsupported)
	}
	m := a.typ.New().Interface()
	// The message is fresh, so that merging spares its reset.
	if err := (proto.UnmarshalOptions{Merge: true, AllowPartial: true}).Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("message of type %s: %w: %w", a.name, err, ErrUnsupported)
	}
	return m, nil
}

func appendMessage(b []byte, m proto.Message) ([]byte, error) {
	return proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b, m)
}
