package actors

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// unowned is an outbox of no node: its messages are of no tenure.
func unowned() *outbox {
	o := newOutbox(nil)
	o.owned = func(cluster.Slot) *cluster.Ownership { return nil }
	return o
}

// fill has messages wait in a lane until there is no room for another one, as they do where the destination is silent.
func fill(o *outbox, to string, size int) (n int) {
	l := &lane{to: to, moved: time.Now()}
	o.lanes[to] = l
	for o.room(to, size) {
		x := outgoing{key: fmt.Sprint(to, n), topic: to, size: size}
		o.known[x.key] = l
		o.bytes += size
		l.queue, l.bytes = append(l.queue, x), l.bytes+size
		n++
	}
	return n
}

// TestOutboxHasRoomForOthers: however many destinations are silent, and however long, there is room for the next one.
func TestOutboxHasRoomForOthers(t *testing.T) {
	for _, size := range []int{100, 32 << 10} { // by number, by bytes
		o := unowned()
		for i := range 8 {
			if n := fill(o, fmt.Sprint("default/silent-", i), size); n < 2 {
				t.Fatalf("messages of %d bytes: only %d may wait for silent destination %d", size, n, i)
			}
		}
		if len(o.known) >= maxOutbox || o.bytes > maxOutboxBytes {
			t.Errorf("messages of %d bytes: %d wait, with %d bytes", size, len(o.known), o.bytes)
		}
		if !o.room("default/loud", size) {
			t.Errorf("messages of %d bytes: no room for who answers", size)
		}
		s := o.stats(time.Now().Add(2 * laneHeld))
		if s.Messages != len(o.known) || s.Lanes != 8 || s.Held != 8 || len(s.Still) != 8 || s.Longest[0].To != "default/silent-0" || s.Longest[0].Messages != len(o.lanes["default/silent-0"].queue) {
			t.Errorf("shown: %+v", s)
		}
	}
}

// TestLaneLeaves: what is settled goes, and is counted so, also where older messages came before it meanwhile.
func TestLaneLeaves(t *testing.T) {
	o := unowned()
	o.taken = maxTaken // nobody drives
	for _, key := range []string{"b", "c", "d"} {
		o.take(outgoing{key: key, topic: "t", size: 10})
		o.take(outgoing{key: key, topic: "t", size: 10})
	}
	l := o.lanes["t"]
	batch := o.batch(l)
	o.take(outgoing{key: "a", topic: "t", size: 10})
	l.sort()
	if next := o.next(l, batch[:2], nil); next != l {
		t.Fatalf("goes on with %v", next)
	}
	var left []string
	for _, x := range l.queue {
		left = append(left, x.key)
	}
	if strings.Join(left, "") != "ad" || len(o.known) != 2 || o.bytes != 20 || l.bytes != 20 {
		t.Errorf("left %v, %d known, %d and %d bytes", left, len(o.known), o.bytes, l.bytes)
	}
	o.line = nil
	if next := o.next(l, o.batch(l), nil); next != nil || len(o.lanes) != 0 || o.bytes != 0 || o.taken != maxTaken-1 {
		t.Errorf("at the end: %v, lanes %v, %d bytes, %d taken", next, o.lanes, o.bytes, o.taken)
	}
}

// TestLaneHandsOn: what a logic lets go on keeps its record, and waits for where it goes from the moment on that it leaves the logic's lane.
func TestLaneHandsOn(t *testing.T) {
	o := unowned()
	o.taken = maxTaken
	for _, key := range []string{"a", "b", "c"} {
		o.take(outgoing{key: key, topic: "run/default/r", size: 10})
	}
	l := o.lanes["run/default/r"]
	onward := []outgoing{{key: "a", topic: "t", value: make([]byte, 7)}, {key: "a/1", topic: "u", value: make([]byte, 8)}, {key: "c", topic: "t", value: make([]byte, 9)}}
	o.next(l, o.batch(l), onward)
	to, also := o.lanes["t"], o.lanes["u"]
	if len(o.lanes) != 2 || to == nil || also == nil || len(to.queue) != 2 || len(also.queue) != 1 || o.bytes != 24 || to.bytes != 16 {
		t.Fatalf("lanes %v, %d bytes", o.lanes, o.bytes)
	}
	if !o.has("a") || !o.has("a/1") || !o.has("c") || o.has("b") {
		t.Errorf("it knows %v", o.known)
	}
}

// TestLaneOfASlotThatComesBack: what the logic was asked by another node meanwhile goes where its record says, in its place, whatever becomes of what
// this node asked before.
func TestLaneOfASlotThatComesBack(t *testing.T) {
	o, before, now := unowned(), &cluster.Ownership{}, &cluster.Ownership{}
	o.taken = maxTaken
	o.owned = func(cluster.Slot) *cluster.Ownership { return before }
	for _, key := range []string{"a", "b", "c", "d"} {
		o.take(outgoing{key: key, topic: "run/default/r", own: before, size: 10})
	}
	l := o.lanes["run/default/r"]
	asked := o.batch(l)
	o.owned = func(cluster.Slot) *cluster.Ownership { return now }
	o.take(outgoing{key: "e", topic: "run/default/r", own: now, size: 10})
	o.take(outgoing{key: "f", topic: "t", own: now, size: 10})
	// a was stopped, b and c go on, d waits.
	read := []outgoing{{key: "b", topic: "t", own: now, size: 20}, {key: "c", topic: "t", why: "dead", own: now, size: 20}, {key: "d", topic: "run/default/r", own: now, size: 10},
		{key: "e", topic: "run/default/r", own: now, size: 10}, {key: "f", topic: "t", own: now, size: 10}}
	o.correct(read)
	for _, x := range read {
		o.take(x)
	}
	for _, l := range o.lanes {
		l.sort()
	}
	check := func(when string, want map[string]string) {
		t.Helper()
		size := 0
		for to, keys := range want {
			got := ""
			for _, x := range o.lanes[to].queue {
				got += x.key
				size += x.size
			}
			if got != keys {
				t.Errorf("%s: in %s are %s, want %s", when, to, got, keys)
			}
		}
		if o.bytes != size {
			t.Errorf("%s: %d bytes, want %d", when, o.bytes, size)
		}
	}
	check("read", map[string]string{"run/default/r": "ade", "t": "bf", "dead/t": "c"})
	o.next(l, asked[:2], []outgoing{{key: "b", topic: "t", own: before}})
	check("told at last", map[string]string{"run/default/r": "de", "t": "bf", "dead/t": "c"})
}

// stored is an outbox of a node that is no more than a store.
func stored(t *testing.T, own *cluster.Ownership) *outbox {
	o := unowned()
	o.e = &Engine{store: storagetest.OpenSingle(t, "data", vfs.NewMem()), ctx: t.Context()}
	o.taken = maxTaken // nobody drives
	o.owned = func(cluster.Slot) *cluster.Ownership { return own }
	return o
}

// put writes the records of messages; one without a topic goes.
func (o *outbox) put(t *testing.T, all ...outgoing) {
	t.Helper()
	txn := &storage.Txn{}
	for _, x := range all {
		w := storage.Write{Table: tableOutbox, Key: x.key, Quiet: true}
		if x.topic != "" {
			w.Value = outgoingValue(x.topic, &pb.TopicMessage{Id: x.key}, x.why)
		}
		txn.Writes = append(txn.Writes, w)
	}
	if _, err := o.e.store.Commit(t.Context(), txn); err != nil {
		t.Fatal(err)
	}
}

// read is what a node does when slots came.
func (o *outbox) read(t *testing.T) {
	t.Helper()
	if err := o.scan(); err != nil {
		t.Fatal(err)
	}
	o.rescan = false
	o.scanned()
}

// TestLaneOfASlotThatWent: nothing of it is brought, however much waits.
func TestLaneOfASlotThatWent(t *testing.T) {
	o := unowned()
	o.taken = maxTaken
	for i := range topicBatch + 500 {
		o.take(outgoing{key: fmt.Sprintf("%05d", i), topic: "default/t", own: &cluster.Ownership{}})
	}
	if b := o.batch(o.lanes["default/t"]); len(b) != 0 {
		t.Errorf("%d messages are brought, the first is %s", len(b), b[0].key)
	}
}

// TestLaneJudgedElsewhere: of a slot that went and came back only what is there still is given to the logic, however much waits.
func TestLaneJudgedElsewhere(t *testing.T) {
	before, now := &cluster.Ownership{Key: "s", Value: []byte("1")}, &cluster.Ownership{Key: "s", Value: []byte("2")}
	o := stored(t, before)
	for i := range 150 {
		o.take(outgoing{key: fmt.Sprintf("0000/a%05d", i), topic: "run/default/r", own: before})
		o.take(outgoing{key: fmt.Sprintf("0000/b%05d", i), topic: "run/default/r", own: before})
	}
	o.owned = func(cluster.Slot) *cluster.Ownership { return now }
	fresh := outgoing{key: "0000/a99999", topic: "run/default/r", own: now}
	o.put(t, fresh)
	o.take(fresh)
	o.read(t)
	if b := o.batch(o.lanes["run/default/r"]); len(b) != 1 || b[0].key != fresh.key {
		t.Errorf("%d are given to the logic", len(b))
	}
}

// TestLaneOfAnUnknownOutcome: what was judged, though it is not known here, is not judged again: not what is a dead letter now, and not where
// older messages came before it meanwhile.
func TestLaneOfAnUnknownOutcome(t *testing.T) {
	own := &cluster.Ownership{}
	o := stored(t, own)
	var asked, older []outgoing
	for i := range 3 {
		asked = append(asked, outgoing{key: fmt.Sprintf("0000/b%05d", i), topic: "run/default/r", own: own})
		o.take(asked[i])
	}
	o.put(t, asked...)
	l := o.lanes["run/default/r"]
	batch := o.batch(l)
	for i := range laneBatch {
		older = append(older, outgoing{key: fmt.Sprintf("0000/a%05d", i), topic: "run/default/r", own: own})
	}
	o.put(t, older...)
	o.read(t)
	o.put(t, outgoing{key: asked[0].key, topic: "run/default/r", why: "took too long"}, outgoing{key: asked[1].key, topic: "default/t"}, outgoing{key: asked[2].key})
	o.reread(l, batch)
	o.read(t)
	for len(l.queue) > 0 {
		got := o.batch(l)
		for _, x := range got {
			if x.key[5] == 'b' {
				t.Errorf("%s is judged again", x.key)
			}
		}
		o.leave(l, got)
	}
	if dead, on := o.lanes["dead/run/default/r"], o.lanes["default/t"]; dead == nil || on == nil || dead.queue[0].key != asked[0].key || on.queue[0].key != asked[1].key {
		t.Errorf("the lanes are %v", o.lanes)
	}
}

// TestLaneOfARouteNotHeardOf: a message waits for a route that the store has, and goes with one that is gone.
func TestLaneOfARouteNotHeardOf(t *testing.T) {
	own := &cluster.Ownership{Table: "slot", Key: "s", Value: []byte("1")}
	o := stored(t, own)
	o.e.routes = newRoutes(o.e.store)
	x := outgoing{key: "0000/a1", topic: "run/default/r", own: own, m: &pb.TopicMessage{Id: "x"}}
	o.put(t, x)
	route, err := proto.Marshal(&pb.Route{Id: "default/r", Run: "default/l"})
	if err != nil {
		t.Fatal(err)
	}
	write := func(writes ...storage.Write) {
		t.Helper()
		if _, err := o.e.store.Commit(t.Context(), &storage.Txn{Writes: writes}); err != nil {
			t.Fatal(err)
		}
	}
	write(storage.Write{Table: tableRoutes, Key: "default/r", Value: route}, storage.Write{Table: "slot", Key: "s", Value: own.Value})
	if done, _, err := o.judge(x.topic, []outgoing{x}); err == nil || done != 0 || !o.there(&x) {
		t.Errorf("a route that is not read yet: %d done, %v", done, err)
	}
	write(storage.Write{Table: tableRoutes, Key: "default/r"})
	if done, next, err := o.judge(x.topic, []outgoing{x}); err != nil || done != 1 || len(next) != 0 || o.there(&x) {
		t.Errorf("a route that is gone: %d done, %v, %v", done, next, err)
	}
}

// TestLaneToldLate: what was read from the store, judged and brought before its twin has heard that it is committed is not judged again.
func TestLaneToldLate(t *testing.T) {
	own := &cluster.Ownership{}
	o := stored(t, own)
	x, y := outgoing{key: "0000/a1", topic: "run/default/r", own: own}, outgoing{key: "0000/a2", topic: "run/default/r", own: own}
	scans := o.scans.Load()
	o.put(t, x) // and its twin has yet to hear of it
	o.read(t)   // other slots came
	l := o.lanes[x.topic]
	batch := o.batch(l)
	o.put(t, outgoing{key: x.key}) // the logic has stopped it
	o.next(l, batch, nil)
	o.put(t, y)
	o.add([]outgoing{x, y}, scans)
	if o.has(x.key) || !o.has(y.key) {
		t.Errorf("in the lane is %v", o.known)
	}
}

// TestLanesTakeTurns: a goroutine goes on with the lane that waits longest, and comes back to its own.
func TestLanesTakeTurns(t *testing.T) {
	o := unowned()
	o.taken = maxTaken
	for i := range 3 {
		for _, to := range []string{"a", "b", "c"} {
			o.take(outgoing{key: fmt.Sprint(to, i), topic: to})
		}
	}
	o.line = o.line[1:]
	var turns []string
	for l := o.lanes["a"]; l != nil; l = o.next(l, o.batch(l)[:1], nil) {
		turns = append(turns, l.to)
	}
	if got := strings.Join(turns, ""); got != "abcabcabc" {
		t.Errorf("turns %s", got)
	}
}

// TestLanesThatFail: that destinations do not answer is news once, until all go on again.
func TestLanesThatFail(t *testing.T) {
	o := unowned()
	o.taken = maxTaken
	for _, to := range []string{"a", "b"} {
		o.take(outgoing{key: to, topic: to})
	}
	a, b := o.lanes["a"], o.lanes["b"]
	why := errors.New("no answer")
	if !o.failed(a, why) || o.failed(a, why) || o.failed(b, why) || o.failing != 2 {
		t.Errorf("news more than once; %d fail", o.failing)
	}
	if s := o.stats(time.Now()); s.Held != 2 || s.Still[0].Err != "no answer" {
		t.Errorf("shown: %+v", s)
	}
	o.next(a, o.batch(a), nil)
	o.next(b, o.batch(b), nil)
	if o.failing != 0 {
		t.Errorf("%d fail, and all have gone on", o.failing)
	}
	// What has arrived is not taken again as long as its record is there.
	o.spend([]outgoing{{key: "a"}})
	if o.take(outgoing{key: "a", topic: "a"}); len(o.lanes) != 0 {
		t.Error("what has arrived waits again")
	}
}

// TestOutcomeUnknownToALifeThatIsOver: what a life may have committed, and is over before it knows, is read again from the store: nobody else would.
func TestOutcomeUnknownToALifeThatIsOver(t *testing.T) {
	for _, x := range []struct {
		err   error
		reads bool
	}{{fmt.Errorf("commit: %w", storage.ErrUnknown), true}, {storage.ErrGuard, false}, {nil, false}} {
		o := unowned()
		o.taken = maxTaken // nobody drives
		s := &save{flying: true, leaving: []outgoing{{key: "a", topic: "default/t"}}}
		(&saved{err: x.err}).run(&twin{e: &Engine{outbox: o}, mode: modeDead, save: s})
		if o.rescan != x.reads || o.has("a") != (x.err == nil) {
			t.Errorf("%v: read again %v, in its lane %v", x.err, o.rescan, o.has("a"))
		}
	}
}
