package chaos

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
)

// Run does harm to a cluster of three nodes under load for about a span, drawn from a seed, and checks. It fails the test
// where a promise is broken. Only the kinds named are drawn, all where none is named.
func Run(t *testing.T, seed uint64, span time.Duration, kinds ...string) {
	r := newRun(t, seed)
	t.Logf("seed %d, %v, %d twins on %d nodes", seed, span, len(r.load.Twins()), len(r.cluster.Nodes()))
	for _, f := range r.draw(1+int(span/(5*time.Second)), kinds) {
		time.Sleep(r.between(300*time.Millisecond, 1500*time.Millisecond))
		if time.Since(r.began) > span || !r.harm(t, f) { // after a fault that was not mended the next one expects another cluster
			break
		}
	}
	r.check(t)
}

// Each does each kind of harm once, a subtest for each, and checks.
func Each(t *testing.T) {
	r := newRun(t, 1)
	for _, f := range faults() {
		if !t.Run(f.name, func(t *testing.T) { r.harm(t, f) }) && r.cluster.Settled(time.Minute) != nil {
			break
		}
	}
	r.check(t)
}

func newRun(t *testing.T, seed uint64) *run {
	r := &run{seed: seed, random: rand.New(rand.NewPCG(seed, 0))}
	rates := r.drifts(3)
	t.Logf("the nodes' clocks run at %.3f", rates)
	r.cluster = harness.StartCluster(t, harness.ClusterOptions{Nodes: 3, Links: true, ClockRates: rates})
	r.load = Start(t, r.cluster, Options{Create: true, Units: 1000})
	r.began = time.Now()
	return r
}

// drift is how far a node's clock runs from the machine's at most: two of them from each other by somewhat less than the tenth that leases allow for.
const drift = 0.045

// drifts gives as many rates of clocks: the first two as far from each other as may be, for chance would seldom have it so, in any order.
func (r *run) drifts(count int) []float64 {
	rates := []float64{1 - drift, 1 + drift}
	for len(rates) < count {
		rates = append(rates, 1-drift+2*drift*r.random.Float64())
	}
	r.random.Shuffle(count, func(i, j int) { rates[i], rates[j] = rates[j], rates[i] })
	return rates
}

// harm does one fault and waits until the cluster has settled.
func (r *run) harm(t *testing.T, f fault) bool {
	before := time.Now()
	what, err := f.do(r)
	r.cluster.Net.Heal()
	err = errors.Join(err, r.revive())
	if err == nil {
		err = r.cluster.Settled(time.Minute)
	}
	t.Logf("%6.1fs  %-20s %s", before.Sub(r.began).Seconds(), f.name, what)
	if err != nil {
		t.Errorf("%s: %v", f.name, err)
	}
	if f.calm {
		v := journal.NoneFailed("no failed call: "+f.name, r.load.CallsSince(before))
		r.calm = append(r.calm, v)
		for i, text := range v.Violations {
			if i < 10 {
				t.Errorf("%s: %s", v.Name, text)
			}
		}
	}
	return err == nil
}

// revive starts nodes again that ended and should not have, and says so.
func (r *run) revive() error {
	var all []error
	for _, n := range r.cluster.Nodes() {
		if !n.Running() {
			all = append(all, fmt.Errorf("%s ended by itself: %s", n.Name, lastLine(n.Log())), n.TryRun())
		}
	}
	return errors.Join(all...)
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func (r *run) check(t *testing.T) {
	verdicts := r.load.Check()
	late := journal.Recovered(r.recover)
	for _, text := range late.Violations {
		t.Error(text)
	}
	verdicts = append(append(verdicts, merge(r.calm)...), late)
	violations := 0
	for _, v := range verdicts {
		violations += len(v.Violations)
	}
	t.Logf("seed %d: %d faults in %.0f s, %d violations\n%s", r.seed, len(r.recover), time.Since(r.began).Seconds(), violations, Table(verdicts, r.recover))
}

// draw gives so many faults, no kind again before every other one has been.
func (r *run) draw(count int, kinds []string) []fault {
	var all, plan []fault
	for _, f := range faults() {
		if len(kinds) == 0 || slices.Contains(kinds, f.name) {
			all = append(all, f)
		}
	}
	for len(all) > 0 && len(plan) < count {
		for _, i := range r.random.Perm(len(all)) {
			plan = append(plan, all[i])
		}
	}
	return plan[:min(count, len(plan))]
}

// merge adds the verdicts of one name up.
func merge(all []journal.Verdict) []journal.Verdict {
	var out []journal.Verdict
	at := map[string]int{}
	for _, v := range all {
		i, ok := at[v.Name]
		if !ok {
			i = len(out)
			at[v.Name] = i
			out = append(out, journal.Verdict{Name: v.Name})
		}
		out[i].Checked += v.Checked
		out[i].Violations = append(out[i].Violations, v.Violations...)
		out[i].Note = fmt.Sprintf("%d commands", out[i].Checked)
	}
	return out
}
