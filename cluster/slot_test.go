package cluster

import (
	"fmt"
	"math"
	"testing"
)

func members(n int) []Candidate {
	all := make([]Candidate, n)
	for i := range all {
		all[i] = Candidate{ID: fmt.Sprintf("node-%d", i), Weight: 1}
	}
	return all
}

func share(all []Candidate) map[string]int {
	count := map[string]int{}
	for s := range SlotCount {
		count[Propose(Slot(s), all)]++
	}
	return count
}

func TestProposeSpreadsEvenly(t *testing.T) {
	for _, n := range []int{1, 2, 3, 5, 9} {
		worst := 0.0
		for _, c := range share(members(n)) {
			worst = max(worst, math.Abs(float64(c)*float64(n)/SlotCount-1))
		}
		t.Logf("%d members: worst imbalance %.1f %%", n, 100*worst)
		if worst > 0.08 {
			t.Errorf("%d members: imbalance %.3f", n, worst)
		}
	}
}

func TestProposeMovesOnlyTheShareOfTheNewcomer(t *testing.T) {
	before, after := members(3), members(4)
	moved := 0
	for s := range SlotCount {
		was, is := Propose(Slot(s), before), Propose(Slot(s), after)
		if was == is {
			continue
		}
		moved++
		if is != "node-3" {
			t.Fatalf("slot %d moved from %s to %s, which is not new", s, was, is)
		}
	}
	if got := float64(moved) / SlotCount; math.Abs(got-0.25) > 0.0125 {
		t.Errorf("moved share %.4f, want 0.25 within 5 %%", got)
	}
}

// What a member of some weight joining three others of other weights changes: only it gains, as much as its share, and all
// shares are as the weights say.
func TestProposeFromThreeToFourWithWeights(t *testing.T) {
	worst := 0.0
	for _, weights := range [][]uint32{{1, 1, 1, 1}, {1, 2, 4, 1}, {1, 2, 4, 8}, {3, 3, 1, 2}, {16, 8, 8, 32}} {
		var all []Candidate
		sum := 0.0
		for i, w := range weights {
			all = append(all, Candidate{ID: fmt.Sprintf("n%010x", 0x5bd1e995*(i+1)), Weight: w})
			sum += float64(w)
		}
		moved := 0
		for s := range Slot(SlotCount) {
			was, is := Propose(s, all[:3]), Propose(s, all)
			if was == is {
				continue
			}
			if moved++; is != all[3].ID {
				t.Fatalf("slot %d moved from %s to %s, which is not new", s, was, is)
			}
		}
		count := share(all)
		imbalance := 0.0
		for _, c := range all {
			want := float64(c.Weight) / sum
			imbalance = max(imbalance, math.Abs(float64(count[c.ID])/SlotCount/want-1))
		}
		want := float64(weights[3]) / sum
		got := float64(moved) / SlotCount
		t.Logf("weights %v: moved share %.4f of %.4f wanted (%+.1f %%), worst imbalance %.1f %%",
			weights, got, want, 100*(got/want-1), 100*imbalance)
		worst = max(worst, imbalance)
		// The draws are random: three standard deviations of a binomial count, relative.
		if bound := 3 * math.Sqrt((1-want)/(want*SlotCount)); math.Abs(got/want-1) > bound {
			t.Errorf("weights %v: moved share %.4f, want %.4f within %.1f %%", weights, got, want, 100*bound)
		}
	}
	if worst > 0.10 {
		t.Errorf("worst imbalance %.3f", worst)
	}
}

func TestProposeKeepsWeights(t *testing.T) {
	all := []Candidate{{"a", 1}, {"b", 3}}
	if got := float64(share(all)["b"]) / SlotCount; math.Abs(got-0.75) > 0.02 {
		t.Errorf("share of the member of weight 3 beside 1: %.3f", got)
	}
	if Propose(7, nil) != "" {
		t.Error("a slot without members has an owner")
	}
}

// The slot of an id is on disk everywhere: it must never change.
func TestSlotOfIsFixed(t *testing.T) {
	for id, want := range map[string]Slot{"default/lamp1": 11950, "default/projector-1": 6287, "site/a.b-c_d": 11362} {
		if got := SlotOf(id); got != want {
			t.Errorf("SlotOf(%q) = %d, want %d", id, got, want)
		}
	}
}

func BenchmarkPropose(b *testing.B) {
	all := members(9)
	for i := range b.N {
		Propose(Slot(i%SlotCount), all)
	}
}
