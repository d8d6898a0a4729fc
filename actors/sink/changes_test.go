package sink_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/polluxhq/pollux/actors/sink"
	"github.com/polluxhq/pollux/actors/topic"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// TestAnotherTopic: a sink that is given another topic begins there as a new one does, wherever it was in the one before.
func TestAnotherTopic(t *testing.T) {
	r := newRig(t)
	h := &hook{values: map[string][]float64{}}
	url := serve(t, h.ServeHTTP)
	r.give(r.host("n1"))
	const other = "default/other"
	r.create(&pb.Topic{Id: other})
	elsewhere := func(n int) {
		t.Helper()
		all := make([]*pb.TopicMessage, n)
		for i := range all {
			all[i] = changed(i, "1")
		}
		if _, err := r.topics.Publish(t.Context(), &pb.PublishRequest{Topic: other, Messages: all}); err != nil {
			t.Fatal(err)
		}
	}
	m := &pb.Sink{Id: "default/hook", Topic: changes, Oldest: true, Url: url, Secret: "sesame", BatchWait: soon}
	change := func(topic string, oldest bool) {
		t.Helper()
		m.Topic, m.Oldest = topic, oldest
		r.record(sink.TableSinks, m.Id, m)
		r.wake()
	}
	r.rounds(0, 10)
	elsewhere(30)
	change(changes, true)
	r.until(m.Id, "10 are delivered", func(s *pb.SinkState) bool { return s.Delivered == 10 })
	change(other, true)
	r.until(m.Id, "all of the other topic are", func(s *pb.SinkState) bool { return s.Delivered == 40 && s.Position == 31 })
	r.rounds(10, 50)
	change(changes, false)
	r.until(m.Id, "it begins with the next", func(s *pb.SinkState) bool { return s.Position == 61 && s.Topic == changes })
	r.rounds(60, 5)
	r.until(m.Id, "which is delivered", func(s *pb.SinkState) bool { return s.Position == 66 })
	if s := r.state(m.Id); s.Delivered != 45 || s.Missed != 0 {
		t.Errorf("delivered %d, missed %d; want 45, none", s.Delivered, s.Missed)
	}
}

// TestMadeAnew: what a sink has written one of its name that is made after it leaves as it is, though it brings the same messages in other batches.
func TestMadeAnew(t *testing.T) {
	r := newRig(t)
	r.give(r.host("n1"))
	m := &pb.Sink{Id: "default/lake", Url: "file:lake", BatchMessages: 20, BatchWait: soon}
	r.days(0, 40)
	r.sink(m)
	r.until(m.Id, "40 are in files", func(s *pb.SinkState) bool { return s.Position == 41 })
	dir := filepath.Join(r.files, "default", "lake")
	read := func(name string) []byte {
		t.Helper()
		body, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	before := map[string][]byte{}
	for _, name := range tree(t, dir) {
		before[name] = read(name)
	}
	r.commit(storage.Write{Table: sink.TableSinks, Key: m.Id}, storage.Write{Table: sink.TableCursors, Key: m.Id})
	r.wake()
	m.BatchMessages = 30
	r.sink(m)
	r.until(m.Id, "40 are in files again", func(s *pb.SinkState) bool { return s.Delivered == 40 && s.Position == 41 })
	for name, body := range before {
		if !bytes.Equal(read(name), body) {
			t.Errorf("%s is another one now", name)
		}
	}
}

// picky takes what is posted but for messages of some payloads, and breaks after so many posts.
type picky struct {
	mu      sync.Mutex
	refuses string
	left    int // posts until it breaks
	taken   []string
}

func (p *picky) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var all []struct {
		Payload json.RawMessage
	}
	err := json.NewDecoder(req.Body).Decode(&all)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil || p.left == 0 {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
		return
	}
	p.left--
	for _, m := range all {
		if p.refuses != "" && strings.Contains(string(m.Payload), p.refuses) {
			http.Error(w, "not this one", http.StatusUnprocessableEntity)
			return
		}
	}
	for _, m := range all {
		p.taken = append(p.taken, string(m.Payload))
	}
}

func (p *picky) set(refuses string, left int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuses, p.left = refuses, left
}

// times says how often a message was taken.
func (p *picky) times(text string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.taken {
		if strings.Contains(x, text) {
			n++
		}
	}
	return n
}

// TestCountsOnce: messages of a refused batch that were delivered one by one before the server went and the sink moved are delivered again, and
// count once.
func TestCountsOnce(t *testing.T) {
	r := newRig(t)
	p := &picky{refuses: "poison", left: 6} // the batch, and five of its messages
	a, b := r.host("n1"), r.host("n2")
	r.give(a)
	r.rounds(0, 9)
	r.publish(&pb.TopicMessage{Key: "k", Payload: []byte("poison")})
	r.sink(&pb.Sink{Id: "default/hook", Url: serve(t, p.ServeHTTP), BatchMessages: 10, BatchWait: soon})
	r.until("default/hook", "five were delivered, and then it broke", func(s *pb.SinkState) bool { return s.Failures > 0 })
	r.give(b)
	p.set("poison", 100)
	r.until("default/hook", "it is through", func(s *pb.SinkState) bool { return s.Position == 11 })
	if s := r.state("default/hook"); s.Delivered != 9 || s.Refused != 1 {
		t.Errorf("delivered %d, refused %d; want 9 and 1", s.Delivered, s.Refused)
	}
}

// TestRefusedByTwo: a message that the targets of two sinks refuse is two dead letters, and each goes to the sink that it came from when it is
// replayed, and to nobody else.
func TestRefusedByTwo(t *testing.T) {
	r := newRig(t)
	r.give(r.host("n1"))
	one, two, all := &picky{refuses: "poison", left: 100}, &picky{refuses: "poison", left: 100}, &picky{left: 100}
	for name, p := range map[string]*picky{"one": one, "two": two, "all": all} {
		r.sink(&pb.Sink{Id: "default/" + name, Url: serve(t, p.ServeHTTP), BatchWait: soon})
	}
	r.publish(&pb.TopicMessage{Key: "k", Payload: []byte("poison")})
	for _, name := range []string{"default/one", "default/two"} {
		r.until(name, "it refuses the message", func(s *pb.SinkState) bool { return s.Refused == 1 && s.Position == 2 })
	}
	r.until("default/all", "it takes the message", func(s *pb.SinkState) bool { return s.Position == 2 })
	page, err := r.topics.Read(t.Context(), topic.DeadOf(changes), 0, &pb.TopicPosition{At: &pb.TopicPosition_Oldest{Oldest: true}}, 0)
	if err != nil || len(page.Messages) != 2 {
		t.Fatalf("dead letters: %v, %v", page.Messages, err)
	}
	one.set("", 100)
	if n, err := r.topics.ReplayDead(t.Context(), changes, 0); err != nil || n != 2 {
		t.Fatalf("replayed %d: %v", n, err)
	}
	r.rounds(0, 1)
	r.until("default/one", "it takes it now", func(s *pb.SinkState) bool { return s.Position == 5 && s.Delivered == 2 && s.Refused == 1 })
	r.until("default/two", "it refuses it again", func(s *pb.SinkState) bool { return s.Position == 5 && s.Delivered == 1 && s.Refused == 2 })
	r.until("default/all", "it is no business of the third one", func(s *pb.SinkState) bool { return s.Position == 5 && s.Delivered == 2 })
	if one.times("poison") != 1 || two.times("poison") != 0 || all.times("poison") != 1 {
		t.Errorf("taken %d, %d and %d times; want 1, 0 and 1", one.times("poison"), two.times("poison"), all.times("poison"))
	}
}
