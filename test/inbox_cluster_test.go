package test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	paho "github.com/eclipse/paho.mqtt.golang"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

const inboxTopic = "default/said"

// inboxWalk is senders of whom nobody knows at first, and somebody who sees to the inbox, on three nodes that die.
type inboxWalk struct {
	t   *testing.T
	c   *harness.Cluster
	rnd *rand.Rand

	senders []*stranger
	twins   int
	// hidden are the entries that were ignored last, or shown again.
	hidden map[string]*pb.InboxEntry
	log    []string
}

// stranger sends numbers that no other message has.
type stranger struct {
	w     *inboxWalk
	name  string
	mqtt  bool
	last  string // what became of the last message
	rnd   *rand.Rand
	base  int
	sent  atomic.Int64
	wrong []string
	// told is what became of messages, by their number; "" where their sender is not told. unsure are attempts of those that may have been taken more than once.
	told   map[int]string
	unsure map[int]int
}

func (s *stranger) id() string { return "default/w/s/" + s.name }

// TestInboxOverNodes: senders that nobody knows send over HTTP and MQTT to nodes that are killed and paused, while they are claimed, ignored, made
// twins by a rule, refused and deleted at random nodes. Each message is counted once, or as often as it may have come; what was stored is in
// a topic, and nothing else; who has a twin is in no inbox, on any node, and who is ignored stays so.
func TestInboxOverNodes(t *testing.T) {
	harness.Seeds(t, 1, func(t *testing.T, seed uint64) {
		w := &inboxWalk{t: t, rnd: rand.New(rand.NewPCG(seed, 31)), hidden: map[string]*pb.InboxEntry{}}
		w.c = harness.StartCluster(t, harness.ClusterOptions{})
		w.prepare()
		stop := make(chan struct{})
		var all sync.WaitGroup
		for _, s := range w.senders {
			all.Go(func() { s.run(stop) })
		}
		for range 3 {
			w.harm()
			for range 12 {
				w.operate()
			}
		}
		for _, n := range w.c.Nodes() {
			if !n.Running() {
				n.Run()
			}
		}
		w.c.Settle(2 * time.Minute)
		for _, s := range w.senders {
			from := s.sent.Load()
			harness.Until(t, time.Minute, s.name+" sends on", func() bool { return s.sent.Load() > from+2 })
		}
		close(stop)
		all.Wait()
		w.check()
		if t.Failed() {
			t.Log(strings.Join(w.log, "\n"))
		}
	})
}

func (w *inboxWalk) prepare() {
	n, ctx := w.c.Node(0), w.t.Context()
	model := filepath.Join(w.t.TempDir(), "counter.json")
	if err := os.WriteFile(model, []byte(soakModel), 0o600); err != nil {
		w.t.Fatal(err)
	}
	n.Must("model", "create", "counter", "--file", model)
	if _, err := n.Topics().CreateTopic(ctx, connect.NewRequest(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: inboxTopic}})); err != nil {
		w.t.Fatal(err)
	}
	if _, err := n.Topics().PutRoute(ctx, connect.NewRequest(&pb.PutRouteRequest{Route: &pb.Route{Id: "default/all", Topics: []string{inboxTopic},
		Properties: []string{"seq"}}})); err != nil {
		w.t.Fatal(err)
	}
	for i := range 9 {
		w.senders = append(w.senders, &stranger{w: w, name: fmt.Sprint("s", i), mqtt: i%3 == 2, base: (i + 1) * 1_000_000, rnd: rand.New(rand.NewPCG(w.rnd.Uint64(), 3)),
			told: map[int]string{}, unsure: map[int]int{}})
	}
}

func (w *inboxWalk) note(format string, args ...any) {
	w.log = append(w.log, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

// harm does something to a node, while the others go on.
func (w *inboxWalk) harm() {
	n := w.c.Node(w.rnd.IntN(3))
	switch w.rnd.IntN(3) {
	case 0:
		n = w.node()
		w.note("pause of %s", n.Name)
		n.Pause()
		time.Sleep(5 * time.Second) // longer than a lease
		n.Continue()
	default:
		for _, o := range w.c.Nodes() {
			if !o.Running() {
				w.note("%s starts", o.Name)
				o.Run()
				w.c.Settle(time.Minute)
			}
		}
		w.note("kill of %s", n.Name)
		n.Kill()
	}
}

func (w *inboxWalk) node() *harness.Node {
	all := w.c.Running()
	return all[w.rnd.IntN(len(all))]
}

// operate does what somebody does who sees to the inbox.
func (w *inboxWalk) operate() {
	s := w.senders[w.rnd.IntN(len(w.senders))]
	n := w.node()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	var err error
	what := ""
	switch k := w.rnd.IntN(10); {
	case k < 4:
		w.twins++
		id := fmt.Sprintf("t-%s-%d", s.name, w.twins)
		what = "claim " + s.name + " as " + id
		_, err = n.Site().ClaimInbox(ctx, connect.NewRequest(&pb.ClaimInboxRequest{Id: s.id(), Twin: &pb.Twin{Id: id, Model: "counter"}}))
		if err == nil {
			w.seen(s, id)
		}
	case k < 6:
		undo := w.rnd.IntN(3) == 0
		what = fmt.Sprintf("ignore %s %v", s.name, !undo)
		res, ierr := n.Site().IgnoreInbox(ctx, connect.NewRequest(&pb.IgnoreInboxRequest{Id: s.id(), Undo: undo}))
		if err = ierr; err == nil {
			w.hidden[s.id()] = res.Msg.Entry
		} else if connect.CodeOf(err) != connect.CodeNotFound {
			delete(w.hidden, s.id())
		}
	case k < 8:
		list, lerr := n.Twins().ListTwins(ctx, connect.NewRequest(&pb.ListTwinsRequest{}))
		if err = lerr; err == nil && len(list.Msg.Twins) > 0 {
			x := list.Msg.Twins[w.rnd.IntN(len(list.Msg.Twins))]
			what = "delete " + x.Id
			_, err = n.Twins().DeleteTwin(ctx, connect.NewRequest(&pb.DeleteTwinRequest{Id: x.Id}))
		}
	default:
		args := [][]string{{"inbox"}, {"inbox"}, {"refuse"}, {"provision", "--rule", "value=s* model=counter name=of-{value}"}}[w.rnd.IntN(4)]
		what = "unknown senders: " + args[0]
		_, err = n.Command(ctx, append([]string{"ingest", "unknown"}, args...)...)
	}
	w.note("at %s: %s: %v", n.Name, what, err)
	time.Sleep(time.Duration(w.rnd.IntN(300)) * time.Millisecond)
}

// seen: what was claimed at one node is seen to be so at the others.
func (w *inboxWalk) seen(s *stranger, twin string) {
	for _, n := range w.c.Running() {
		harness.Until(w.t, 30*time.Second, n.Name+" knows "+twin, func() bool {
			ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
			defer cancel()
			listed, err := inboxOf(ctx, n)
			return err == nil && listed[s.id()] == nil
		})
	}
}

func inboxOf(ctx context.Context, n *harness.Node) (map[string]*pb.InboxEntry, error) {
	all := map[string]*pb.InboxEntry{}
	res, err := n.Site().ListInbox(ctx, connect.NewRequest(&pb.ListInboxRequest{Project: "default", Ignored: true, PageSize: 1000}))
	if err != nil {
		return nil, err
	}
	for _, x := range res.Msg.Entries {
		all[x.Id] = x
	}
	return all, nil
}

// run sends until stop is closed, each message again until it has its answer.
func (s *stranger) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		number := s.base + int(s.sent.Add(1))
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			nodes := s.w.c.Running()
			done := false
			if len(nodes) > 0 {
				done = s.send(nodes[s.rnd.IntN(len(nodes))], number)
			}
			if done {
				time.Sleep(5 * time.Millisecond)
				break
			}
			if time.Now().After(deadline) {
				s.wrong = append(s.wrong, fmt.Sprintf("%d: no answer", number))
				return
			}
		}
	}
}

func (s *stranger) send(n *harness.Node, number int) bool {
	if s.mqtt {
		return s.publish(n, number)
	}
	body := fmt.Sprintf(`{"seq":%d}`, number)
	r, err := http.NewRequest(http.MethodPost, n.URL+"/v1/ingest/"+s.id(), bytes.NewReader([]byte(body)))
	if err != nil {
		s.wrong = append(s.wrong, err.Error())
		return true
	}
	r.Header.Set("Authorization", "Bearer "+n.Key)
	r.Header.Set("X-Message-Id", fmt.Sprint(number))
	began := time.Now()
	res, err := (&http.Client{Timeout: 20 * time.Second}).Do(r)
	if took := time.Since(began); err != nil || took > time.Second {
		s.unsure[number]++ // the node may have brought it a second time, as its twin's was lost meanwhile
	}
	if err != nil {
		return false
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	var a struct{ Stored, Refused, Inbox, Duplicate, Retry int }
	switch {
	case err != nil:
		s.unsure[number]++
		return false
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusTooManyRequests, res.StatusCode >= 500:
		s.unsure[number]++
		return false
	case json.Unmarshal(b, &a) != nil || a.Stored+a.Refused+a.Inbox+a.Duplicate != 1:
		s.wrong = append(s.wrong, fmt.Sprintf("%d: status %d: %s", number, res.StatusCode, b))
		return true
	}
	switch {
	case a.Stored == 1:
		s.told[number] = "stored"
	case a.Refused == 1:
		s.told[number] = "refused"
	case a.Inbox == 1:
		s.told[number] = "inbox"
	default:
		s.told[number] = "duplicate"
	}
	s.last = s.told[number]
	return true
}

func (s *stranger) publish(n *harness.Node, number int) bool {
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + n.MQTT).SetClientID(s.name).SetUsername("admin").SetPassword(n.Key).
		SetAutoReconnect(false).SetConnectTimeout(5 * time.Second))
	if t := c.Connect(); !t.WaitTimeout(10*time.Second) || t.Error() != nil {
		return false
	}
	defer c.Disconnect(0)
	if t := c.Publish(s.id()+"/up", 1, false, fmt.Sprintf(`{"seq":%d}`, number)); !t.WaitTimeout(20*time.Second) || t.Error() != nil {
		s.unsure[number]++
		return false
	}
	s.told[number] = ""
	return true
}

// check compares what the senders were told with the counters, the topic and the inboxes.
func (w *inboxWalk) check() {
	t, n := w.t, w.c.Node(w.rnd.IntN(3))
	var res *connect.Response[pb.GetIngestStatusResponse]
	harness.Until(t, time.Minute, "nothing is in flight", func() bool {
		var err error
		res, err = n.Ingests().GetIngestStatus(t.Context(), connect.NewRequest(&pb.GetIngestStatusRequest{Project: "default", Fresh: true}))
		return err == nil && !slices.ContainsFunc(res.Msg.Counts, func(c *pb.IngestCount) bool { return c.InFlight > 0 })
	})
	said := map[int]int{}
	stored := 0
	for _, c := range res.Msg.Counts {
		stored += int(c.Stored)
	}
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); { // what waits for the topic is brought to it
		said = w.said()
		total := 0
		for _, n := range said {
			total += n
		}
		if total >= stored {
			break
		}
		time.Sleep(500 * time.Millisecond)
	}
	for _, door := range []string{"http", "mqtt"} {
		w.counted(door, res.Msg.Counts, said)
	}
	for _, s := range w.senders {
		for _, wrong := range s.wrong {
			t.Errorf("%s: %s", s.name, wrong)
		}
		for number, told := range s.told {
			times, most := said[number], 1
			if s.mqtt {
				most += s.unsure[number] // it has no id: what came again is another message
			}
			switch {
			case times > most, told == "stored" && times == 0, (told == "refused" || told == "inbox") && times > 0 && s.unsure[number] == 0:
				t.Errorf("%d of %s was told to be %q, %d attempts may have been taken twice, and it is %d times in the topic", number, s.name, told, s.unsure[number], times)
			}
		}
	}
	for _, n := range w.c.Nodes() {
		w.listed(n)
	}
}

// said counts the numbers in the topic.
func (w *inboxWalk) said() map[int]int {
	all := map[int]int{}
	in, err := w.c.Node(0).Topics().Subscribe(w.t.Context(), connect.NewRequest(&pb.SubscribeRequest{Topic: inboxTopic, UntilEnd: true,
		Start: &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}}))
	if err != nil {
		w.t.Fatal(err)
	}
	for in.Receive() {
		for _, d := range in.Msg().Messages {
			var m struct{ Value int }
			if err := json.Unmarshal(d.Message.Payload, &m); err != nil {
				w.t.Fatal(err)
			}
			all[m.Value]++
		}
	}
	if err := in.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// counted compares a door's counters with what its senders know.
func (w *inboxWalk) counted(door string, counts []*pb.IngestCount, said map[int]int) {
	told, unsure, topic := map[string]int{}, 0, 0
	for _, s := range w.senders {
		if s.mqtt != (door == "mqtt") {
			continue
		}
		for number, what := range s.told {
			told[what]++
			unsure += s.unsure[number]
			topic += said[number]
		}
	}
	sent := told["stored"] + told["refused"] + told["inbox"] + told["duplicate"] + told[""]
	sum := &pb.IngestCount{}
	for _, c := range counts {
		if c.Door == door {
			sum.Received += c.Received
			sum.Stored += c.Stored
			sum.Refused += c.Refused
			sum.Inbox += c.Inbox
			sum.Duplicate += c.Duplicate
		}
	}
	w.t.Logf("%s: sent %d, told %v, %d attempts may have been taken twice; counted %v, %d in the topic", door, sent, told, unsure, sum, topic)
	once := int(sum.Stored + sum.Refused + sum.Inbox)
	switch {
	case sent == 0:
		w.t.Errorf("%s: nothing was sent", door)
	case sum.Received != sum.Stored+sum.Refused+sum.Inbox+sum.Duplicate,
		once < sent, once > sent+unsure,
		int(sum.Stored) < told["stored"], int(sum.Refused) < told["refused"], int(sum.Inbox) < told["inbox"],
		topic > int(sum.Stored), topic < int(sum.Stored)-unsure:
		w.t.Errorf("%s: the counters do not go together with what was sent", door)
	}
}

// listed looks at a node's inbox and twins.
func (w *inboxWalk) listed(n *harness.Node) {
	t, ctx := w.t, w.t.Context()
	twins, err := n.Twins().ListTwins(ctx, connect.NewRequest(&pb.ListTwinsRequest{PageSize: 1000}))
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]string{}
	for _, x := range twins.Msg.Twins {
		for _, a := range x.Aliases {
			id := "default/" + a.Network + "/" + a.Key + "/" + a.Value
			if has[id] != "" {
				t.Errorf("%s: %s is of %s and of %s", n.Name, id, has[id], x.Id)
			}
			has[id] = x.Id
		}
	}
	entries, err := inboxOf(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %d twins, in the inbox %v", n.Name, len(twins.Msg.Twins), slices.Sorted(maps.Keys(entries)))
	for _, s := range w.senders {
		x := entries[s.id()]
		switch {
		case x != nil && has[s.id()] != "":
			t.Errorf("%s: %s is in the inbox, and a twin: %s", n.Name, s.id(), has[s.id()])
		case s.last == "stored" && has[s.id()] == "", s.last == "inbox" && x == nil:
			t.Errorf("%s: the last message of %s was %s; twin %q, entry %v", n.Name, s.name, s.last, has[s.id()], x)
		}
		if was := w.hidden[s.id()]; x != nil && was != nil && was.Time.AsTime().Equal(x.Time.AsTime()) && was.Ignored != x.Ignored {
			t.Errorf("%s: %s was told to be ignored: %v, and is: %v", n.Name, s.id(), was.Ignored, x.Ignored)
		}
	}
}
