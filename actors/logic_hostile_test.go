package actors_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// hostile loops, grows, and floods.
const hostile = `export default logic({
  name: 'hostile', version: '1.0.0',
  properties: { noise: 'integer' }, events: { noise: {} }, timers: { again() {} },
  actions: {
    flood(twin) { for (let i = 0; i < 200; i++) twin.emit('noise', i); },
    fuss(twin) { for (let i = 0; i < 200; i++) twin.every('again', '1s', i); },
    async pester(twin) { for (let i = 0; i < 200; i++) await twin.other('b').set('scene', String(i)); },
  },
  run(message, context) {
    if (message.value % 2) for (;;) ;
    const all = [];
    for (;;) all.push(new Uint8Array(1 << 20).fill(7));
  },
});`

// TestHostileLogic: a logic that loops, grows without end and floods harms its own messages; what it did shows, and neither another
// route's logic nor the twins notice.
func TestHostileLogic(t *testing.T) {
	n := newNode(t, func(o *actors.Options) {
		o.ComputeTimeout = 500 * time.Millisecond
		o.BackoffMin = time.Millisecond
		o.BackoffMax = 10 * time.Millisecond
	})
	n.source(hostile)
	n.source(counter)
	n.twin(`{"id":"bad","driver":"hostile"}`)
	n.twin(`{"id":"good","driver":"counter"}`)
	n.sensors("a", "b")
	n.stream("default/theirs")
	n.stream("default/ours")
	n.route(&pb.Route{Id: "theirs", Topics: []string{"theirs"}, Run: "bad", Properties: []string{"level"}})
	n.route(&pb.Route{Id: "ours", Topics: []string{"ours"}, Run: "good", Properties: []string{"level"}})
	counts := func(of int) *pb.LogicCounts {
		list, err := n.reg.ListLogics(&pb.ListLogicsRequest{Project: "default"}, nil)
		if err != nil || len(list.Logics) != 2 {
			t.Fatalf("logics: %v, %v", list, err)
		}
		return list.Logics[of].Counts
	}
	last := 0
	until(t, "it was stopped and has crashed a few times", func() bool {
		last++
		n.level("a", last)
		n.numbered("ours", "default/ours", 1, last) // its lane waits for nobody else's logic
		until(t, "its message is a dead letter", func() bool { return len(n.inTopic("default/route.theirs.dead")) == last })
		return last >= 3 && counts(0).Crashes >= 2
	})
	for _, c := range []struct{ action, why string }{{"flood", "emit"}, {"fuss", "timer"}, {"pester", "call"}} {
		// On a busy machine it may be stopped before it is refused, and is left alone then.
		if _, err := n.invoke("bad", c.action, ""); err == nil || !slices.ContainsFunc([]string{c.why, "endless loop", "faulty"},
			func(why string) bool { return strings.Contains(err.Error(), why) }) {
			t.Errorf("%s: %v", c.action, err)
		}
	}
	n.level("b", 1)
	n.wait("b", "level", "1")
	bad, good := counts(0), counts(1)
	if bad.Failed < uint64(last) || !strings.Contains(bad.Last, "default/bad") {
		t.Errorf("of the hostile one the list says %v", bad)
	}
	if good.Replaced < uint64(last) || good.Failed != 0 || good.Crashes != 0 {
		t.Errorf("of its neighbour the list says %v", good)
	}
	if got := n.logs("default/bad"); !strings.Contains(got, "error run: ") {
		t.Errorf("its log is %s", got)
	}
}
