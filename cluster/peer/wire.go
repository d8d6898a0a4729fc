package peer

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/polluxhq/pollux/cluster"
)

// This file writes and reads ExchangeRequest and ExchangeResponse by hand, as protobuf would: reflection and a message per
// call would cost more than all the rest. TestWire holds both encodings against each other.

// wireVersion of the exchange. A node that can do more says so with a higher one; the lower of both counts.
// Since 2, results may come in an ExchangeRequest.
const wireVersion = 2

// Field numbers, as in peer.proto.
const (
	reqHello, reqNow, reqTypes, reqCalls, reqProposals, reqIndexQueries, reqResults = 1, 2, 3, 4, 5, 6, 7

	resHello, resTypes, resResults = 1, 2, 3

	helloVersion, helloNode, helloIncarnation, helloStream = 1, 2, 3, 4

	typeNumber, typeName = 1, 2

	callRef, callID, callKind, callTarget, callSince, callDeadline, callChain, callPrincipal, callType, callMessage, callSlot = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11

	proposalRef, proposalEntry = 1, 2

	indexRef, indexDeadline = 1, 2

	resultRef, resultType, resultMessage, resultFailure, resultApplied, resultIndex, resultStream = 1, 2, 3, 4, 5, 6, 7

	failText, failNames, failOwner, failOwnerSince, failDetailType, failDetail = 1, 2, 3, 4, 5, 6
)

var errMalformed = errors.New("malformed batch")

// Every field number here is below 16, so each tag is one byte.
func tag(field int, t protowire.Type) byte { return byte(field<<3 | int(t)) }

func sizeUint(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + protowire.SizeVarint(v)
}

func sizeBytes(n int) int {
	if n == 0 {
		return 0
	}
	return 1 + protowire.SizeBytes(n)
}

func appendUint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(append(b, tag(field, protowire.VarintType)), v)
}

func appendString[T string | []byte](b []byte, field int, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return append(appendHead(b, field, len(v)), v...)
}

// appendHead begins a field of n bytes.
func appendHead(b []byte, field, n int) []byte {
	return protowire.AppendVarint(append(b, tag(field, protowire.BytesType)), uint64(n))
}

// stampSize is the room of ExchangeRequest.now at the head of a chunk: a varint of fixed width, which protobuf allows.
const stampSize = 1 + 8

func appendStamp(b []byte) []byte {
	return append(b, tag(reqNow, protowire.VarintType), 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0)
}

func putStamp(b []byte, now uint64) {
	for i := range 7 {
		b[1+i] = 0x80 | byte(now>>(7*i))&0x7f
	}
	b[8] = byte(now>>49) & 0x7f
}

func appendHello(b []byte, field int, node string, incarnation, stream uint64) []byte {
	b = appendHead(b, field, sizeUint(wireVersion)+sizeBytes(len(node))+sizeUint(incarnation)+sizeUint(stream))
	b = appendUint(b, helloVersion, wireVersion)
	b = appendString(b, helloNode, node)
	b = appendUint(b, helloIncarnation, incarnation)
	return appendUint(b, helloStream, stream)
}

func appendType(b []byte, field int, number uint32, name string) []byte {
	b = appendHead(b, field, sizeUint(uint64(number))+sizeBytes(len(name)))
	b = appendUint(b, typeNumber, uint64(number))
	return appendString(b, typeName, name)
}

// sizeCall is the size of a Call without its message.
func sizeCall(ref uint64, env *cluster.Envelope, deadline uint64, number uint32) int {
	n := sizeUint(ref) + sizeBytes(len(env.ID)) + sizeBytes(len(env.Target.Kind)) + sizeBytes(len(env.Target.ID)) +
		sizeUint(env.Since) + sizeUint(uint64(env.Slot)) + sizeUint(deadline) + sizeBytes(len(env.Principal)) + sizeUint(uint64(number))
	for _, c := range env.Chain {
		n += 1 + protowire.SizeBytes(len(c))
	}
	return n
}

// appendCall leaves the message, of size bytes, to be appended.
func appendCall(b []byte, ref uint64, env *cluster.Envelope, deadline uint64, number uint32, size int) []byte {
	b = appendHead(b, reqCalls, sizeCall(ref, env, deadline, number)+sizeBytes(size))
	b = appendUint(b, callRef, ref)
	b = appendString(b, callID, env.ID[:])
	b = appendString(b, callKind, env.Target.Kind)
	b = appendString(b, callTarget, env.Target.ID)
	b = appendUint(b, callSince, env.Since)
	b = appendUint(b, callSlot, uint64(env.Slot))
	b = appendUint(b, callDeadline, deadline)
	for _, c := range env.Chain {
		b = append(appendHead(b, callChain, len(c)), c...)
	}
	b = appendString(b, callPrincipal, env.Principal)
	b = appendUint(b, callType, uint64(number))
	if size > 0 {
		b = appendHead(b, callMessage, size)
	}
	return b
}

func appendProposal(b []byte, ref uint64, entry []byte) []byte {
	b = appendHead(b, reqProposals, sizeUint(ref)+sizeBytes(len(entry)))
	b = appendUint(b, proposalRef, ref)
	return appendString(b, proposalEntry, entry)
}

func appendIndexQuery(b []byte, ref, deadline uint64) []byte {
	b = appendHead(b, reqIndexQueries, sizeUint(ref)+sizeUint(deadline))
	b = appendUint(b, indexRef, ref)
	return appendUint(b, indexDeadline, deadline)
}

// failure is a Failure; detail is its encoded message.
type failure struct {
	text       string
	names      []string
	owner      string
	ownerSince uint64
	detailType uint32
	detail     []byte
}

func (f *failure) size() int {
	n := sizeBytes(len(f.text)) + sizeBytes(len(f.owner)) + sizeUint(f.ownerSince) + sizeUint(uint64(f.detailType)) + sizeBytes(len(f.detail))
	for _, name := range f.names {
		n += 1 + protowire.SizeBytes(len(name))
	}
	return n
}

func (f *failure) append(b []byte) []byte {
	b = appendHead(b, resultFailure, f.size())
	b = appendString(b, failText, f.text)
	for _, name := range f.names {
		b = append(appendHead(b, failNames, len(name)), name...)
	}
	b = appendString(b, failOwner, f.owner)
	b = appendUint(b, failOwnerSince, f.ownerSince)
	b = appendUint(b, failDetailType, uint64(f.detailType))
	return appendString(b, failDetail, f.detail)
}

// resultOf says whose result is written, and as which field of a batch.
type resultOf struct {
	field       int
	ref, stream uint64
}

func (r resultOf) append(b []byte, rest int) []byte {
	b = appendHead(b, r.field, sizeUint(r.ref)+sizeUint(r.stream)+rest)
	return appendUint(appendUint(b, resultRef, r.ref), resultStream, r.stream)
}

// appendResult leaves the message, of size bytes, to be appended.
func appendResult(b []byte, of resultOf, number uint32, size int) []byte {
	b = of.append(b, sizeUint(uint64(number))+sizeBytes(size))
	b = appendUint(b, resultType, uint64(number))
	if size > 0 {
		b = appendHead(b, resultMessage, size)
	}
	return b
}

func appendFailed(b []byte, of resultOf, f *failure) []byte {
	return f.append(of.append(b, 1+protowire.SizeBytes(f.size())))
}

func appendApplied(b []byte, of resultOf, applied []byte, index uint64) []byte {
	b = of.append(b, sizeBytes(len(applied))+sizeUint(index))
	b = appendString(b, resultApplied, applied)
	return appendUint(b, resultIndex, index)
}

// fields walks the fields of a message. A field of a wrong wire type is an error, except where it is unknown here, which
// the caller decides: it gets number, value for varints, bytes for the others.
func fields(b []byte, fn func(field int, v uint64, data []byte) error) error {
	for len(b) > 0 {
		field, v, data, n := nextField(b)
		if n < 0 {
			return errMalformed
		}
		b = b[n:]
		if err := fn(field, v, data); err != nil {
			return err
		}
	}
	return nil
}

// nextField reads one field; n < 0: it is malformed. Fixed-width and group fields, which nobody sends yet, are skipped as field 0.
func nextField(b []byte) (field int, v uint64, data []byte, n int) {
	t, tn := uint64(b[0]), 1
	if t >= 0x80 {
		if t, tn = protowire.ConsumeVarint(b); tn < 0 {
			return 0, 0, nil, -1
		}
	}
	num := t >> 3
	if num == 0 || num > uint64(protowire.MaxValidNumber) {
		return 0, 0, nil, -1
	}
	b = b[tn:]
	switch protowire.Type(t & 7) {
	case protowire.VarintType:
		if len(b) > 0 && b[0] < 0x80 {
			return int(num), uint64(b[0]), nil, tn + 1
		}
		v, n = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		if len(b) > 0 && b[0] < 0x80 && int(b[0]) < len(b) {
			n = 1 + int(b[0])
			return int(num), 0, b[1:n:n], tn + n
		}
		data, n = protowire.ConsumeBytes(b)
	default:
		n = protowire.ConsumeFieldValue(protowire.Number(num), protowire.Type(t&7), b)
		num = 0
	}
	if n < 0 {
		return 0, 0, nil, -1
	}
	return int(num), v, data, tn + n
}

type hello struct {
	version     uint32
	node        string
	incarnation uint64
	stream      uint64
}

func parseHello(b []byte) (h hello, err error) {
	err = fields(b, func(field int, v uint64, data []byte) error {
		switch field {
		case helloVersion:
			h.version = uint32(v)
		case helloNode:
			h.node = string(data)
		case helloIncarnation:
			h.incarnation = v
		case helloStream:
			h.stream = v
		}
		return nil
	})
	if err == nil && h.version == 0 {
		err = fmt.Errorf("hello without a version: %w", errMalformed)
	}
	return h, err
}

func parseFailure(b []byte) (f failure, err error) {
	err = fields(b, func(field int, v uint64, data []byte) error {
		switch field {
		case failText:
			f.text = string(data)
		case failNames:
			f.names = append(f.names, string(data))
		case failOwner:
			f.owner = string(data)
		case failOwnerSince:
			f.ownerSince = v
		case failDetailType:
			f.detailType = uint32(v)
		case failDetail:
			f.detail = data
		}
		return nil
	})
	return f, err
}

// micros is the time since an epoch as it goes over the wire; never negative.
func micros(epoch, t time.Time) uint64 {
	return uint64(max(0, t.Sub(epoch).Microseconds()))
}
