package peer

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/polluxhq/pollux/cluster"
	peerv1 "github.com/polluxhq/pollux/proto/pollux/peer/v1"
)

// draw gives values with their edges.
func drawUint(r *rand.Rand) uint64 {
	return [...]uint64{0, 1, 127, 128, 300, math.MaxUint32, math.MaxUint64, r.Uint64() >> r.IntN(64)}[r.IntN(8)]
}

func drawString(r *rand.Rand) string {
	b := make([]byte, [...]int{0, 1, 20, 127, 128, 3000}[r.IntN(6)])
	for i := range b {
		b[i] = 'a' + byte(r.IntN(26))
	}
	return string(b)
}

// TestWire holds what this package writes against what protobuf makes of it.
func TestWire(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		env := &cluster.Envelope{Target: cluster.Target{Kind: drawString(r), ID: drawString(r)}, Since: drawUint(r), Principal: drawString(r)}
		for range r.IntN(3) {
			env.Chain = append(env.Chain, drawString(r))
		}
		for i := range env.ID {
			env.ID[i] = byte(r.Uint32())
		}
		ref, deadline, number, message := drawUint(r), drawUint(r), uint32(drawUint(r)), drawString(r)
		b := appendCall(nil, ref, env, deadline, number, len(message))
		b = append(b, message...)
		want := &peerv1.ExchangeRequest{Calls: []*peerv1.Call{{Ref: ref, Id: env.ID[:], Kind: env.Target.Kind, Target: env.Target.ID, Since: env.Since,
			Deadline: deadline, Chain: env.Chain, Principal: env.Principal, Type: number, Message: []byte(message)}}}
		compareWire(t, b, want, &peerv1.ExchangeRequest{})

		f := failure{text: drawString(r), owner: drawString(r), ownerSince: drawUint(r), detailType: uint32(drawUint(r)), detail: []byte(drawString(r))}
		for range r.IntN(3) {
			f.names = append(f.names, drawString(r))
		}
		of, among := resultOf{field: resResults, ref: ref}, resultOf{field: reqResults, ref: ref, stream: deadline}
		compareWire(t, appendFailed(nil, of, &f), &peerv1.ExchangeResponse{Results: []*peerv1.Result{{Ref: ref, Failure: &peerv1.Failure{
			Text: f.text, Names: f.names, Owner: f.owner, OwnerSince: f.ownerSince, DetailType: f.detailType, Detail: f.detail}}}},
			&peerv1.ExchangeResponse{})
		compareWire(t, append(appendResult(nil, of, number, len(message)), message...), &peerv1.ExchangeResponse{
			Results: []*peerv1.Result{{Ref: ref, Type: number, Message: []byte(message)}}}, &peerv1.ExchangeResponse{})
		compareWire(t, append(appendResult(nil, among, number, len(message)), message...), &peerv1.ExchangeRequest{
			Results: []*peerv1.Result{{Ref: ref, Stream: deadline, Type: number, Message: []byte(message)}}}, &peerv1.ExchangeRequest{})
		compareWire(t, appendApplied(nil, of, []byte(message), deadline), &peerv1.ExchangeResponse{
			Results: []*peerv1.Result{{Ref: ref, Applied: []byte(message), Index: deadline}}}, &peerv1.ExchangeResponse{})
		compareWire(t, appendProposal(nil, ref, []byte(message)), &peerv1.ExchangeRequest{
			Proposals: []*peerv1.Proposal{{Ref: ref, Entry: []byte(message)}}}, &peerv1.ExchangeRequest{})
		compareWire(t, appendIndexQuery(nil, ref, deadline), &peerv1.ExchangeRequest{
			IndexQueries: []*peerv1.IndexQuery{{Ref: ref, Deadline: deadline}}}, &peerv1.ExchangeRequest{})
		compareWire(t, appendType(nil, resTypes, number, message), &peerv1.ExchangeResponse{
			Types: []*peerv1.TypeName{{Number: number, Name: message}}}, &peerv1.ExchangeResponse{})
		compareWire(t, appendHello(nil, reqHello, message, ref, deadline), &peerv1.ExchangeRequest{
			Hello: &peerv1.Hello{Version: wireVersion, Node: message, Incarnation: ref, Stream: deadline}}, &peerv1.ExchangeRequest{})
		now := ref >> 8
		stamp := appendStamp(nil)
		putStamp(stamp, now)
		if len(stamp) != stampSize {
			t.Fatal(len(stamp))
		}
		compareWire(t, stamp, &peerv1.ExchangeRequest{Now: now}, &peerv1.ExchangeRequest{})
	}
}

func compareWire(t *testing.T, b []byte, want, got proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(b, got); err != nil {
		t.Fatalf("%x is not what protobuf can read: %v", b, err)
	}
	if !proto.Equal(want, got) {
		t.Fatalf("wrote %v, protobuf reads %v", want, got)
	}
}

// reading gives a session and what it takes from batches.
func reading(t testing.TB) (*session, *[]*cluster.Envelope) {
	var got []*cluster.Envelope
	p := newTestCluster(t).open("x", func(o *Options) {
		o.Calls = func(env *cluster.Envelope, _ func(cluster.Reply)) { got = append(got, env) }
	})
	return &session{p: p, node: "y", since: time.Now(), out: newOutbox(resTypes, false), quiet: make(chan struct{}), space: make(chan struct{}, 1),
		names: map[string]string{}}, &got
}

// request is a whole first batch as protobuf writes it.
func request(calls ...*peerv1.Call) []byte {
	b, err := proto.Marshal(&peerv1.ExchangeRequest{Hello: &peerv1.Hello{Version: 7, Node: "y"}, Now: 1000,
		Types: []*peerv1.TypeName{{Number: 1, Name: "google.protobuf.StringValue"}, {Number: 2, Name: "pollux.v9.NotYet"}}, Calls: calls})
	if err != nil {
		panic(err)
	}
	return b
}

func TestReadsWhatProtobufWrites(t *testing.T) {
	s, got := reading(t)
	inner, err := proto.Marshal(wrapperspb.String("hello"))
	if err != nil {
		t.Fatal(err)
	}
	id := bytes.Repeat([]byte{7}, 16)
	if err := s.consume(request(&peerv1.Call{Id: id, Kind: "twin", Target: "default/x", Since: 5, Deadline: 2_001_001, Chain: []string{"", "b"},
		Principal: "ada", Type: 1, Message: inner})); err != nil {
		t.Fatal(err)
	}
	if len(*got) != 1 {
		t.Fatalf("%d calls", len(*got))
	}
	env := (*got)[0]
	if env.Target != (cluster.Target{Kind: "twin", ID: "default/x"}) || env.Since != 5 || len(env.Chain) != 2 || env.Principal != "ada" ||
		textOf(env.Message) != "hello" || !bytes.Equal(env.ID[:], id) {
		t.Errorf("%+v", env)
	}
	if left := env.Deadline.Sub(s.at); left < 1999*time.Millisecond || left > 2001*time.Millisecond {
		t.Errorf("2 s became %v", left)
	}
}

// TestNewerNode: what a later version adds is skipped, wherever it stands.
func TestNewerNode(t *testing.T) {
	s, got := reading(t)
	call, err := proto.Marshal(&peerv1.Call{Kind: "twin", Target: "default/x"})
	if err != nil {
		t.Fatal(err)
	}
	call = protowire.AppendString(protowire.AppendTag(call, 99, protowire.BytesType), "more")
	call = protowire.AppendFixed64(protowire.AppendTag(call, 2000, protowire.Fixed64Type), 8)
	call = protowire.AppendFixed32(protowire.AppendTag(call, 11, protowire.Fixed32Type), 8)
	call = append(protowire.AppendTag(call, 12, protowire.StartGroupType), protowire.AppendTag(nil, 12, protowire.EndGroupType)...)
	b := request()
	b = protowire.AppendBytes(protowire.AppendTag(b, 77, protowire.BytesType), []byte{0xff, 0xff})
	b = protowire.AppendBytes(protowire.AppendTag(b, reqCalls, protowire.BytesType), call)
	if err := s.consume(b); err != nil {
		t.Fatal(err)
	}
	if len(*got) != 1 || (*got)[0].Target.ID != "default/x" {
		t.Errorf("%v", *got)
	}
}

func TestMalformedBatches(t *testing.T) {
	good := request(&peerv1.Call{Kind: "twin", Target: "default/x", Id: make([]byte, 16)})
	for name, b := range map[string][]byte{
		"field 0":            append(bytes.Clone(good), 0x02, 0x00),
		"length past end":    append(bytes.Clone(good), tag(reqCalls, protowire.BytesType), 0x7f),
		"endless varint":     append(bytes.Clone(good), bytes.Repeat([]byte{0xff}, 12)...),
		"short id":           request(&peerv1.Call{Id: []byte{1, 2}}),
		"type out of turn":   appendType(bytes.Clone(good), reqTypes, 9, "x"),
		"no hello":           append(appendStamp(nil), good...),
		"hello unversioned":  {tag(reqHello, protowire.BytesType), 0},
		"a call cut in half": good[:len(good)-5],
	} {
		s, _ := reading(t)
		if err := s.consume(b); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestUnknownTypesAreAnswered(t *testing.T) {
	s, got := reading(t)
	if err := s.consume(request(&peerv1.Call{Ref: 1, Type: 2, Message: []byte{1}}, &peerv1.Call{Ref: 2, Type: 3},
		&peerv1.Call{Ref: 3, Type: 1, Message: []byte{0xff}})); err != nil {
		t.Fatal(err)
	}
	if len(*got) != 0 {
		t.Errorf("ran: %v", *got)
	}
	var res peerv1.ExchangeResponse
	if err := proto.Unmarshal(s.out.take().buf, &res); err != nil {
		t.Fatal(err)
	}
	if len(res.GetResults()) != 3 {
		t.Fatalf("%v", &res)
	}
	for _, r := range res.GetResults() {
		if f := r.GetFailure(); len(f.GetNames()) != 1 || f.GetNames()[0] != "unsupported" {
			t.Errorf("%v", r)
		}
	}
}

// TestLateBatch: a batch that lay in a socket while a process stood still is known to be late; drift of clocks is not
// lateness.
func TestLateBatch(t *testing.T) {
	var l lag
	const ms = 1000
	l.see(0, 70*ms)
	for sent := uint64(0); sent < 3600*1000*ms; sent += 100 * ms { // an hour, the clocks apart by 200 ppm
		if l.see(sent, 70*ms+sent+sent/5000); l.now != 0 {
			t.Fatalf("after %d s: late by %d µs", sent/1000/ms, l.now)
		}
	}
	sent := uint64(3600 * 1000 * ms)
	l.see(sent, 70*ms+sent+sent/5000+4000*ms)
	if l.now < 3900*ms || l.now > 4100*ms {
		t.Errorf("late by %d µs instead of 4 s", l.now)
	}
	if l.see(sent+10, 70*ms+sent+10+sent/5000); l.now != 0 {
		t.Errorf("the next one late by %d µs", l.now)
	}
}

func FuzzBatch(f *testing.F) {
	f.Add(request(&peerv1.Call{Ref: 1, Type: 1, Target: "x"}))
	f.Add([]byte{0x0a, 0x02, 0x08, 0x01, 0x22, 0x00})
	s, _ := reading(f)
	link := newLink(&lane{p: s.p, node: "y"})
	f.Fuzz(func(t *testing.T, b []byte) {
		s.types, s.slab, s.out = typeTable{}, nil, newOutbox(resTypes, false)
		s.consume(b)
		link.types = typeTable{}
		link.consume(b)
		var g greeting
		g.consume(b)
	})
}
