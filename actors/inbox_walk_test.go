package actors_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/test/harness"
)

// TestInboxWalk: senders send, again under one id at times, while their aliases are made, claimed, moved and deleted, twins go, the project chooses
// otherwise and the node starts again. What is stored is in history as often as its senders were told so, what is counted is what they were told,
// and in the inbox is nobody who has a twin, and everybody who was told so and has none.
func TestInboxWalk(t *testing.T) {
	harness.Seeds(t, 2, func(t *testing.T, seed uint64) {
		t.Parallel()
		w := &inboxWalk{t: t, fs: vfs.NewMem(), rnd: rand.New(rand.NewPCG(seed, 9)), stored: map[float64]int{}, told: map[pb.IngestOutcome]uint64{},
			strangers: map[string]bool{}}
		w.open()
		w.n.model("m", thing("M", `"level":{"type":"number"}`))
		for range 25 {
			w.burst()
			w.check()
		}
	})
}

var walkSenders = []string{"A:1", "a-1", "b/2", "c"} // two of one name

type inboxWalk struct {
	t      *testing.T
	fs     vfs.FS
	rnd    *rand.Rand
	n      *node
	lives  uint64
	number float64
	made   int

	mu sync.Mutex
	// stored says how often senders were told so of each value, told how often they were told each outcome.
	stored map[float64]int
	told   map[pb.IngestOutcome]uint64
	// strangers are those whose last message went to the inbox.
	strangers map[string]bool
	// left are those who may have had a twin in this burst and lost it: what they had sent before is in no inbox any more.
	left []string
	log  []string
}

func (w *inboxWalk) open() {
	w.lives++
	w.n = open(w.t, w.fs, w.lives)
}

func (w *inboxWalk) note(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// burst has all senders send while somebody changes something.
func (w *inboxWalk) burst() {
	if w.rnd.IntN(6) == 0 {
		w.note("start again")
		w.n.close()
		w.open()
	}
	var all sync.WaitGroup
	for _, s := range walkSenders {
		for range w.rnd.IntN(6) {
			w.number++
			for range 1 + w.rnd.IntN(4)/3 {
				w.send(s, w.number, &all)
			}
		}
	}
	for range w.rnd.IntN(4) {
		w.operate()
	}
	all.Wait()
	for _, s := range w.left {
		w.strangers[s] = false
	}
	w.left = nil
}

func (w *inboxWalk) send(s string, number float64, all *sync.WaitGroup) {
	all.Add(1)
	m := &actors.Ingest{Door: "http", Project: "default", Alias: sender(s), Payload: fmt.Appendf(nil, `{"level":%v}`, number), JSON: true, Commit: true,
		ID: fmt.Sprint("id", number)}
	w.n.engine.Ingest(m, func(r actors.IngestResult) {
		w.mu.Lock()
		defer w.mu.Unlock()
		defer all.Done()
		w.log = append(w.log, fmt.Sprintf("%v of %s: %v %s %v", number, s, r.Outcome, r.Code, r.Err))
		w.told[r.Outcome]++
		if r.Outcome == stored {
			w.stored[number]++
		}
		if r.Outcome != duplicate {
			w.strangers[s] = r.Outcome == inbox
		}
	})
}

// operate changes something; that it cannot be changed is right, too.
func (w *inboxWalk) operate() {
	s, twin := pick(w.rnd, walkSenders), fmt.Sprintf("t%d", w.rnd.IntN(2))
	named := &pb.NamedAlias{Alias: sender(s), Twin: twin}
	var what string
	var err error
	switch w.rnd.IntN(8) {
	case 0:
		what = "make " + twin + " with " + s
		_, err = w.n.reg.CreateTwin(ctx(w.t), &pb.Twin{Id: twin, Model: "m", Aliases: []*pb.Alias{sender(s)}})
	case 1:
		what = "claim " + s
		if all := w.n.strangers(); len(all) > 0 {
			w.made++
			id := fmt.Sprint("claimed", w.made)
			var both sync.WaitGroup
			both.Go(func() { _, _ = w.n.reg.ClaimInbox(ctx(w.t), all[0], &pb.Twin{Id: id + "b", Model: "m"}) }) // one of both is first
			_, err = w.n.reg.ClaimInbox(ctx(w.t), all[0], &pb.Twin{Id: id, Model: "m"})
			both.Wait()
		}
	case 2:
		what = "alias " + s + " of " + twin
		_, err = w.n.reg.CreateAlias(ctx(w.t), "default", named)
	case 3:
		what = "alias " + s + " to " + twin
		_, err = w.n.reg.UpdateAlias(ctx(w.t), "default", named)
	case 4:
		what = "no alias " + s
		err, w.left = w.n.reg.DeleteAlias(ctx(w.t), "default", sender(s)), append(w.left, s)
	case 5:
		what = "no " + twin
		err, w.left = w.n.reg.DeleteTwin(ctx(w.t), twin, 0), append(w.left, walkSenders...)
	default:
		what = "the project chooses"
		now, gerr := w.n.reg.ProjectSettings("default")
		if gerr != nil {
			w.t.Fatal(gerr)
		}
		now.UnknownSenders = pick(w.rnd, []pb.UnknownSenders{pb.UnknownSenders_UNKNOWN_SENDERS_INBOX, pb.UnknownSenders_UNKNOWN_SENDERS_REFUSE,
			pb.UnknownSenders_UNKNOWN_SENDERS_PROVISION})
		now.Rules = []*pb.ProvisionRule{{Value: "*1", Model: "m", Name: "of-{value}"}}
		_, err = w.n.reg.PutProjectSettings(ctx(w.t), now)
	}
	w.note("%s: %v", what, err)
}

func (w *inboxWalk) check() {
	var wrong []error
	samples := map[float64]int{}
	if _, err := w.n.store.ReadSamples(0, func(_ uint64, all []storage.TwinSamples) error {
		for _, s := range all {
			for _, p := range s.Samples {
				samples[p.Value]++
			}
		}
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	for number := range int(w.number) + 1 {
		if x := float64(number); samples[x] != w.stored[x] {
			wrong = append(wrong, fmt.Errorf("%v was told %d times to be stored, and is %d times in history", x, w.stored[x], samples[x]))
		}
	}
	var c *pb.IngestCount
	until(w.t, "deleted twins have left their counts", func() bool { return w.n.records("gone", "") == 0 })
	if c = w.n.counts("http"); c.Stored != w.told[stored] || c.Refused != w.told[refused] || c.Inbox != w.told[inbox] || c.Duplicate != w.told[duplicate] || c.InFlight != 0 {
		wrong = append(wrong, fmt.Errorf("counted %v, told %v", c, w.told))
	}
	listed := map[string]bool{}
	for _, id := range w.n.strangers() {
		listed[id] = true
	}
	for _, s := range walkSenders {
		_, err := w.n.reg.Alias("default", sender(s))
		key := actors.AliasKey("default", sender(s))
		switch known := err == nil; {
		case known && listed[key]:
			wrong = append(wrong, fmt.Errorf("%s has a twin, and is in the inbox", s))
		case !known && !listed[key] && w.strangers[s]:
			wrong = append(wrong, fmt.Errorf("%s is in no inbox", s))
		}
	}
	if len(wrong) > 0 {
		log := ""
		for _, line := range w.log {
			log += line + "\n"
		}
		w.t.Fatalf("%v\nafter\n%s", errors.Join(wrong...), log)
	}
}
