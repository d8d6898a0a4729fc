package rpc

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func TestSurvive(t *testing.T) {
	node := func(name, state, role string) *pb.Node {
		return &pb.Node{Id: name, Name: name, State: state, Role: role}
	}
	for _, tt := range []struct {
		name                                 string
		nodes                                []*pb.Node
		alive, voters, answer, quorum, fails uint32
		why                                  string
	}{
		{"one node", []*pb.Node{node("a", "alive", "leader")}, 1, 1, 1, 1, 0, "only copy"},
		{"one voter of two nodes", []*pb.Node{node("a", "alive", "leader"), node("b", "alive", "non-voter")}, 2, 1, 1, 1, 0, "become voters"},
		{"two voters", []*pb.Node{node("a", "alive", "leader"), node("b", "alive", "voter")}, 2, 2, 2, 2, 0, "both"},
		{"three", []*pb.Node{node("a", "alive", "leader"), node("b", "alive", "voter"), node("c", "draining", "voter")}, 3, 3, 3, 2, 1, "2 of 3"},
		{"three, one dead", []*pb.Node{node("a", "alive", "leader"), node("b", "alive", "voter"), node("c", "dead", "voter")}, 2, 3, 2, 2, 0, "without an answer: c"},
		{"three, one unheard", []*pb.Node{node("a", "alive", "leader"), node("b", "alive", "voter"), node("c", "suspect", "voter")}, 2, 3, 2, 2, 0, "without an answer: c"},
		{"three, one silent", []*pb.Node{node("a", "alive", "leader"), node("b", "alive", "voter"), node("silent", "alive", "voter")}, 2, 3, 2, 2, 0, "without an answer: silent"},
		{"three, two dead", []*pb.Node{node("a", "alive", "voter"), node("b", "dead", "voter"), node("c", "dead", "voter")}, 1, 3, 1, 2, 0, "no quorum: 1 of 3"},
		{"five and two more", []*pb.Node{node("a", "alive", "leader"), node("b", "alive", "voter"), node("c", "alive", "voter"), node("d", "alive", "voter"),
			node("e", "alive", "voter"), node("f", "alive", "non-voter"), node("g", "left", "")}, 6, 5, 5, 3, 2, "3 of 5"},
	} {
		var s pb.GetStatusResponse
		survive(&s, tt.nodes, map[string]bool{"silent": true})
		if s.NodesAlive != tt.alive || s.Voters != tt.voters || s.VotersAlive != tt.answer || s.Quorum != tt.quorum || s.FailuresTolerated != tt.fails ||
			!strings.Contains(s.FailuresReason, tt.why) {
			t.Errorf("%s: %v", tt.name, &s)
		}
	}
}

func TestJudge(t *testing.T) {
	sums := func(node string, pairs ...string) *pb.NodeChecksum {
		n := &pb.NodeChecksum{Node: node, Name: node}
		for i, sum := range pairs {
			if sum != "" {
				n.Sums = append(n.Sums, &pb.Checksum{Index: uint64(1024 * (i + 1)), Sum: sum})
			}
		}
		return n
	}
	for _, tt := range []struct {
		name   string
		sums   []*pb.NodeChecksum
		ok     bool
		agreed uint64
	}{
		{"none yet", []*pb.NodeChecksum{sums("a"), sums("b")}, true, 0},
		{"the same", []*pb.NodeChecksum{sums("a", "x", "y"), sums("b", "x", "y")}, true, 2048},
		{"one is behind", []*pb.NodeChecksum{sums("a", "x", "y"), sums("b", "x")}, true, 1024},
		{"one came late", []*pb.NodeChecksum{sums("a", "x", "y"), sums("b", "", "y")}, true, 2048},
		{"they differ", []*pb.NodeChecksum{sums("a", "x", "y"), sums("b", "x", "z")}, false, 0},
		{"one does not answer", []*pb.NodeChecksum{sums("a", "x"), {Node: "b", Error: "gone"}}, true, 1024},
	} {
		r := &pb.CheckClusterResponse{Checksums: tt.sums}
		if judge(r); r.Ok != tt.ok || r.AgreedIndex != tt.agreed {
			t.Errorf("%s: ok %v, agreed at %d: %v", tt.name, r.Ok, r.AgreedIndex, r.Findings)
		}
	}
}

// TestMovesOnce: a hand-over that several nodes tell of is listed once, by the word of the one that hands over.
func TestMovesOnce(t *testing.T) {
	now := time.Now()
	move := func(from, to string, began time.Duration, state string) *pb.Move {
		m := &pb.Move{Slot: 7, From: from, To: to, BeginTime: timestamppb.New(now.Add(began)), State: state}
		if state == "done" {
			m.EndTime = timestamppb.New(now.Add(began + time.Second))
		}
		return m
	}
	s := newMoves("a", []*pb.Move{move("b", "c", 0, "waiting"), move("a", "b", -time.Hour, "done")})
	s.add("b", []*pb.Move{move("b", "c", time.Millisecond, "releasing")})
	s.add("c", []*pb.Move{move("b", "c", 2*time.Millisecond, "waiting"), move("a", "b", -2*time.Hour, "done")})
	got := s.newest(10)
	if len(got) != 3 || got[0].State != "releasing" || got[1].BeginTime.AsTime().Before(got[2].BeginTime.AsTime()) {
		t.Errorf("got %v", got)
	}
	if len(s.newest(1)) != 1 {
		t.Error("the limit does not hold")
	}
}
