package chaos

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
)

// Run does harm to a cluster of three nodes under load for about a span, drawn from a seed, and checks. It fails the test
// where a promise is broken. Only the kinds named are drawn, all where none is named.
func Run(t *testing.T, seed uint64, span time.Duration, kinds ...string) {
	c := harness.StartCluster(t, harness.ClusterOptions{Nodes: 3, Links: true})
	l := Start(t, c, Options{Create: true})
	r := &run{cluster: c, load: l, random: rand.New(rand.NewPCG(seed, 0)), began: time.Now()}
	t.Logf("seed %d, %v, %d twins on %d nodes", seed, span, len(l.Twins()), len(c.Nodes()))
	var calm []journal.Verdict
	for i, f := range r.draw(span, kinds) {
		rest := r.between(300*time.Millisecond, 1500*time.Millisecond)
		time.Sleep(rest)
		if time.Since(r.began) > span && i > 2 {
			break
		}
		before := time.Now()
		what, err := f.do(r)
		c.Net.Heal()
		if err == nil {
			err = c.Settled(time.Minute)
		}
		t.Logf("%6.1fs  %-20s %s", before.Sub(r.began).Seconds(), f.name, what)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
			break // the cluster is not what the next fault expects
		}
		if f.calm {
			calm = append(calm, journal.NoneFailed("no failed call: "+f.name, l.CallsSince(before)))
		}
	}
	verdicts := l.Check()
	for _, v := range calm {
		for _, text := range v.Violations {
			t.Errorf("%s: %s", v.Name, text)
		}
	}
	late := journal.Recovered(r.recover)
	for _, text := range late.Violations {
		t.Error(text)
	}
	t.Logf("seed %d: %d faults in %.0f s\n%s", seed, len(r.recover), time.Since(r.began).Seconds(), Table(append(append(verdicts, merge(calm)...), late), r.recover))
}

// draw gives faults for the span, no kind again before every other one that fits has been.
func (r *run) draw(span time.Duration, kinds []string) []fault {
	var all []fault
	for _, f := range faults() {
		if len(kinds) == 0 || contains(kinds, f.name) {
			all = append(all, f)
		}
	}
	var plan []fault
	left := span
	for len(all) > 0 {
		took := false
		for _, i := range r.random.Perm(len(all)) {
			if f := all[i]; f.cost <= left {
				plan, left, took = append(plan, f), left-f.cost, true
			}
		}
		if !took {
			return plan
		}
	}
	return plan
}

func contains(list []string, s string) bool {
	for _, o := range list {
		if o == s {
			return true
		}
	}
	return false
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
