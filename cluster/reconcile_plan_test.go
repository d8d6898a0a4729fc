package cluster

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// viewOf reads "n1 a voter", "n2 b alive 20s", "n3 a voter gone 30s left"; the first is the leader.
func viewOf(lines ...string) *groupView {
	v := &groupView{nodes: map[string]*nodeView{}, policy: groupPolicy{expect: 1, maxVoters: 5, stableAfter: 10 * time.Second,
		leftAfter: time.Minute, reapAfter: 10 * time.Minute, moveAfter: 3 * time.Second, maxLag: time.Second}}
	for _, line := range lines {
		words := strings.Fields(line)
		n := &nodeView{id: words[0], zone: words[1], addr: words[0] + ":1", alive: true, reached: true, aliveFor: time.Hour}
		s := Server{ID: n.id, Address: n.addr, Suffrage: suffrageNonvoter, LastIndex: 1000}
		in := true
		for i := 2; i < len(words); i++ {
			switch words[i] {
			case "voter":
				s.Suffrage = suffrageVoter
			case "for":
				n.aliveFor, _ = time.ParseDuration(words[i+1])
				i++
			case "gone":
				n.alive, n.reached, n.aliveFor = false, false, 0
				n.goneFor, _ = time.ParseDuration(words[i+1])
				s.Silent = n.goneFor
				i++
			case "at":
				n.addr = words[i+1]
				i++
			case "behind":
				s.Behind = 2 * time.Second
			case "left":
				n.left = true
			case "leaving":
				n.leaving = true
			case "forgotten":
				n.forgotten = true
			case "lost":
				n.lost = true
			case "unreached":
				n.reached = false
			case "out":
				in = false
			default:
				panic("unknown word " + words[i])
			}
		}
		v.nodes[n.id] = n
		if in {
			v.servers = append(v.servers, s)
		}
	}
	v.self = v.servers[0].ID
	return v
}

func TestStepsOfTheGroup(t *testing.T) {
	for _, c := range []struct {
		name  string
		nodes string
		set   func(*groupView)
		want  string
	}{
		{"all is well", "n1 a voter; n2 b voter; n3 c voter", nil, ""},
		{"joined", "n1 a voter; n2 b out", nil, "add n2 n2:1"},
		{"without an address nobody joins", "n1 a voter; n2 b out at ", func(v *groupView) { v.nodes["n2"].addr = "" }, ""},
		{"given up", "n1 a voter; n2 b out lost", nil, ""},
		{"left", "n1 a voter; n2 b out left", nil, ""},
		{"stable", "n1 a voter; n2 b for 11s", nil, "promote n2 n2:1"},
		{"not stable yet", "n1 a voter; n2 b for 9s", nil, ""},
		{"founding", "n1 a voter; n2 b for 0s", func(v *groupView) { v.policy.expect = 3 }, "promote n2 n2:1"},
		{"behind", "n1 a voter; n2 b behind", nil, ""},
		{"without blobs", "n1 a voter; n2 b", func(v *groupView) { v.policy.ready = func(string) bool { return false } }, ""},
		{"leaving nodes get no vote", "n1 a voter; n2 b leaving", nil, ""},
		{"an even fourth", "n1 a voter; n2 b voter; n3 c voter; n4 d", nil, ""},
		{"a fourth that was expected", "n1 a voter; n2 b voter; n3 c voter; n4 d", func(v *groupView) { v.policy.expect = 4 }, "promote n4 n4:1"},
		{"a fifth", "n1 a voter; n2 b voter; n3 c voter; n4 d for 20s; n5 e for 30s", nil, "promote n5 n5:1"},
		{"the zone with the fewest", "n1 a voter; n2 b voter; n3 a for 3h; n4 b; n5 c for 1m", nil, "promote n5 n5:1"},
		{"enough", "n1 a voter; n2 b voter; n3 c voter; n4 d voter; n5 e voter; n6 f; n7 g", nil, ""},
		{"too many", "n1 a voter; n2 b voter; n3 c voter; n4 d voter; n5 e voter; n6 e voter", nil, "demote n5 n5:1"},
		{"dead, nobody to replace it", "n1 a voter; n2 b voter; n3 c voter gone 1h", nil, ""},
		{"dead, replaced", "n1 a voter; n2 b voter; n3 c voter gone 11s; n4 d", nil, "demote n3 n3:1"},
		{"dead, a short while", "n1 a voter; n2 b voter; n3 c voter gone 9s; n4 d", nil, ""},
		{"dead, the other is not stable", "n1 a voter; n2 b voter; n3 c voter gone 30s; n4 d for 1s", nil, ""},
		{"gossip says dead, raft does not", "n1 a voter; n2 b voter; n3 c voter gone 30s; n4 d",
			func(v *groupView) { v.nodes["n3"].reached = true }, ""},
		{"never below the expected quorum", "n1 a voter; n2 b voter; n3 c voter gone 1h; n4 d",
			func(v *groupView) { v.policy.expect = 5 }, "promote n4 n4:1"},
		{"and then the dead one goes", "n1 a voter; n2 b voter; n3 c voter gone 1h; n4 d voter",
			func(v *groupView) { v.policy.expect = 5 }, "demote n3 n3:1"},
		{"one of four is gone", "n1 a voter; n2 b voter; n3 c voter; n4 d voter gone 1m", nil, "demote n4 n4:1"},
		{"left for a restart", "n1 a voter; n2 b voter; n3 c voter gone 30s left", nil, ""},
		{"left for long", "n1 a voter; n2 b voter; n3 c voter gone 61s left", nil, "demote n3 n3:1"},
		{"left for long, and then its place", "n1 a voter; n2 b voter; n3 c gone 61s left", nil, "remove n3 n3:1"},
		{"a dead non-voter keeps its place", "n1 a voter; n2 b gone 1m", nil, ""},
		{"but not for ever", "n1 a voter; n2 b gone 11m", nil, "remove n2 n2:1"},
		{"one of two is about to leave", "n1 a voter; n2 b voter leaving", nil, "demote n2 n2:1"},
		{"one of three is about to leave", "n1 a voter; n2 b voter; n3 c voter leaving", nil, ""},
		{"one of two that were expected", "n1 a voter; n2 b voter leaving", func(v *groupView) { v.policy.expect = 2 }, "demote n2 n2:1"},
		{"removed", "n1 a voter; n2 b voter; n3 c voter gone 11s forgotten", func(v *groupView) { v.policy.expect = 5 }, "remove n3 n3:1"},
		{"removed, but the rest has no quorum", "n1 a voter; n2 b voter gone 1h; n3 c voter gone 1h forgotten; n4 d voter gone 1h", nil, ""},
		{"no record yet", "n1 a voter; n2 b forgotten for 1s", nil, ""},
		{"moved: gossip says where to, and it says so itself when it leads", "n1 a voter; n2 b voter at x:9", nil, ""},
		{"the leader itself moved", "n1 a voter at x:9; n2 b voter", nil, "move n1 x:9"},
		{"the leader itself moved just now", "n1 a voter at x:9 for 1s; n2 b voter", nil, ""},
		{"the leader's new address belongs to a dead one", "n1 a voter at n3:1; n2 b voter; n3 c gone 1s", nil, "remove n3 n3:1"},
		{"the leader's new address belongs to one that moved", "n1 a voter at n3:1; n2 b voter; n3 c voter at x:9", nil, "move n3 x:9"},
		{"the leader changed places with another", "n1 a voter at n2:1; n2 b at n1:1; n3 c voter", nil, "remove n2 n2:1"},
		{"joined at the address of a dead one", "n1 a voter; n2 b voter; n3 c gone 1s; n4 d out at n3:1", nil, "remove n3 n3:1"},
		{"joined at the address of one that moved", "n1 a voter; n2 b voter; n3 c at x:9; n4 d out at n3:1", nil, "move n3 x:9"},
		{"joined at the address of a voter that must stay", "n1 a voter; n2 b voter gone 1s; n3 c voter gone 1h; n4 d out at n2:1",
			func(v *groupView) { v.policy.expect = 3 }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var lines []string
			for _, l := range strings.Split(c.nodes, ";") {
				lines = append(lines, strings.TrimSuffix(strings.TrimSpace(l), " at"))
			}
			v := viewOf(lines...)
			if c.set != nil {
				c.set(v)
			}
			got := ""
			if step, ok := v.next(); ok {
				got = fmt.Sprintf("%s %s %s", step.action, step.id, step.addr)
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// apply changes the group as raft does.
func (v *groupView) apply(t *testing.T, c groupChange) {
	t.Helper()
	i := slices.IndexFunc(v.servers, func(s Server) bool { return s.ID == c.id })
	switch c.action {
	case actionAdd:
		if i >= 0 {
			t.Fatalf("%s is there already", c.id)
		}
		v.servers = append(v.servers, Server{ID: c.id, Address: c.addr, Suffrage: suffrageNonvoter, LastIndex: 1000})
	case actionMove:
		v.servers[i].Address = c.addr
	case actionPromote:
		v.servers[i].Suffrage = suffrageVoter
	case actionDemote:
		v.servers[i].Suffrage = suffrageNonvoter
	case actionRemove:
		v.servers = slices.Delete(v.servers, i, i+1)
	}
	seen := map[string]string{}
	for _, s := range v.servers {
		if by, ok := seen[s.Address]; ok {
			t.Fatalf("after %s, %s and %s have one address", c, by, s.ID)
		}
		seen[s.Address] = s.ID
	}
}

// Whatever the nodes do, each step leaves a quorum of living voters with the leader among them, and the steps end.
func TestStepsNeverCostTheQuorum(t *testing.T) {
	steps := 0
	for seed := range uint64(4000) {
		r := rand.New(rand.NewPCG(seed, 1))
		v := randomView(r)
		voters, present := v.voters()
		if present < voters/2+1 {
			continue // the leader would not lead
		}
		for n := 0; ; n++ {
			c, ok := v.next()
			if !ok {
				break
			}
			if n > 60 {
				t.Fatalf("seed %d: the steps do not end: %s", seed, c)
			}
			before, _ := v.voters()
			v.apply(t, c)
			steps++
			voters, present := v.voters()
			self, _ := v.server(v.self)
			switch {
			case !self.Voter():
				t.Fatalf("seed %d: %s took the leader's vote", seed, c)
			case present < voters/2+1:
				t.Fatalf("seed %d: after %s %d of %d voters are there", seed, c, present, voters)
			case voters > v.policy.maxVoters+1 && voters > before:
				t.Fatalf("seed %d: after %s there are %d voters", seed, c, voters)
			case voters < before && voters < v.policy.expect/2+1 && !v.node(c.id).forgotten && !v.node(c.id).leaving:
				t.Fatalf("seed %d: after %s %d voters are left, %d were expected", seed, c, voters, v.policy.expect)
			}
		}
	}
	if steps < 4000 {
		t.Errorf("only %d steps were taken", steps)
	}
}

func randomView(r *rand.Rand) *groupView {
	var lines []string
	for i := range 1 + r.IntN(9) {
		line := fmt.Sprintf("n%d %c", i, 'a'+r.IntN(3))
		if i == 0 || r.IntN(3) > 0 {
			line += " voter"
		} else if r.IntN(3) == 0 {
			line += " out"
		}
		if i > 0 && r.IntN(3) == 0 {
			line += " gone " + []string{"1s", "20s", "2m", "20m"}[r.IntN(4)]
		} else if r.IntN(3) == 0 {
			line += " for 2s"
		}
		for _, w := range []string{"left", "behind", "forgotten", "leaving", "lost"} {
			if i > 0 && r.IntN(8) == 0 {
				line += " " + w
			}
		}
		if r.IntN(4) == 0 {
			line += fmt.Sprintf(" at n%d:1", r.IntN(9))
		}
		lines = append(lines, line)
	}
	v := viewOf(lines...)
	v.policy.expect = 1 + r.IntN(5)
	v.policy.maxVoters = 3 + 2*r.IntN(2)
	return v
}

func TestChecksumsAreComparedWhereTheyMeet(t *testing.T) {
	equal := map[string][]Checksum{"a": {{1024, 7}, {2048, 8}}, "b": {{2048, 8}, {3072, 9}}, "c": {{3072, 9}}, "d": nil}
	if m, n := compare(equal); m != nil || n != 3 {
		t.Errorf("equal states: %v, %d compared", m, n)
	}
	equal["c"][0].Sum = 10
	m, _ := compare(equal)
	if m == nil || m.Index != 3072 || !slices.Equal(m.Odd, []string{"b", "c"}) {
		t.Errorf("two against each other: %+v", m)
	}
	equal["d"] = []Checksum{{3072, 9}}
	if m, _ = compare(equal); m == nil || !slices.Equal(m.Odd, []string{"c"}) || !strings.Contains(m.String(), "3072") {
		t.Errorf("one against two: %+v", m)
	}
}

// A process that was stopped has not found its disk hanging.
func TestAStoppedProcessIsNoHangingDisk(t *testing.T) {
	now := time.Now()
	w := stallWatch{period: 300 * time.Millisecond, last: now}
	for i, c := range []struct {
		after time.Duration
		hangs bool
	}{{300, false}, {310, false}, {7000, false}, {300, false}, {300, false}, {450, false}, {300, false}, {300, true}, {300, true}} {
		now = now.Add(c.after * time.Millisecond)
		if got := w.look(now); got != c.hangs {
			t.Errorf("look %d: %t", i, got)
		}
	}
}
