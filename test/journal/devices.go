package journal

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// OneOwner checks that no two nodes had a device at once. Once a node's newer connection has written, an older one of
// another node is stale: at most one write may still come over it, and only where its node was paused between the two; that
// is the write that was begun before the pause. Connections of two nodes that are open at the same time are a violation too,
// but where the older one's node was paused then. slack is what a close may take to be seen.
func OneOwner(conns []Conn, pauses []Span, slack time.Duration) Verdict {
	v := Verdict{Name: "one node at a device"}
	byDevice := map[string][]Conn{}
	writes := 0
	for _, c := range conns {
		byDevice[c.Device] = append(byDevice[c.Device], c)
		writes += len(c.Writes)
	}
	leaked := 0
	for _, name := range sorted(byDevice) {
		all := byDevice[name]
		slices.SortStableFunc(all, func(a, b Conn) int { return a.Opened.Compare(b.Opened) })
		for i := range all {
			v.Checked += len(all[i].Writes)
			if all[i].Node == "" && len(all[i].Writes) > 0 {
				v.violate("%s: %d writes by nobody known, from %s", name, len(all[i].Writes), all[i].Remote)
			}
			leaked += oneOwner(&v, &all[i], all[i+1:], pauses, slack)
		}
	}
	v.Note = fmt.Sprintf("%d devices, %d connections, %d writes, %d of them leaked after a pause", len(byDevice), len(conns), writes, leaked)
	return v
}

// waking is how long after its pause a node may still have what it had before.
const waking = time.Second

// oneOwner checks one connection against those of its device that were opened later, and counts what leaked.
func oneOwner(v *Verdict, old *Conn, later []Conn, pauses []Span, slack time.Duration) (leaked int) {
	var newer *Conn // the first of another node that wrote
	for i := range later {
		c := &later[i]
		if c.Node == old.Node {
			continue
		}
		if !old.closedBy(c.Opened.Add(slack)) && !paused(pauses, old.Node, c.Opened.Add(-waking), c.Opened) {
			v.violate("%s: %s was still connected when %s connected at %s", old.Device, old.Node, c.Node, clock(c.Opened))
		}
		if len(c.Writes) > 0 && (newer == nil || c.Writes[0].At.Before(newer.Writes[0].At)) {
			newer = c
		}
	}
	if newer == nil {
		return 0
	}
	first := newer.Writes[0].At
	for _, w := range old.Writes {
		if !w.At.After(first) {
			continue
		}
		leaked++
		switch {
		case leaked > 1:
			v.violate("%s: %s wrote %q at %s, its write no. %d after %s had begun to write", old.Device, old.Node, w.Text, clock(w.At), leaked, newer.Node)
		case !paused(pauses, old.Node, newer.Opened.Add(-waking), w.At):
			v.violate("%s: %s wrote %q at %s, after %s at %s, and had not been paused", old.Device, old.Node, w.Text, clock(w.At), newer.Node, clock(first))
		}
	}
	return leaked
}

func paused(pauses []Span, node string, from, to time.Time) bool {
	return slices.ContainsFunc(pauses, func(s Span) bool { return s.Node == node && s.touches(from, to) })
}

// Word is the word of a line that carries a call's number: "do 17".
const Word = "do "

// OnceInOrder checks commands against what the devices were told. What was done was told exactly once, what is unknown at
// most once, what was refused never; what was done was told in the order in which it was asked. A twin's device has its name.
func OnceInOrder(calls []Call, conns []Conn) Verdict {
	v := Verdict{Name: "commands once and in order"}
	type key struct {
		twin   string
		number int64
	}
	told := map[key][]time.Time{}
	for _, c := range conns {
		for _, w := range c.Writes {
			if text, ok := strings.CutPrefix(w.Text, Word); ok {
				n, err := strconv.ParseInt(text, 10, 64)
				if err != nil {
					v.violate("%s was told %q", c.Device, w.Text)
					continue
				}
				told[key{c.Device, n}] = append(told[key{c.Device, n}], w.At)
			}
		}
	}
	counts := map[Outcome]int{}
	ran := 0
	byTwin := map[string][]Call{}
	for _, c := range calls {
		v.Checked++
		counts[c.Outcome]++
		byTwin[c.Twin] = append(byTwin[c.Twin], c)
		at := told[key{c.Twin, c.Number}]
		delete(told, key{c.Twin, c.Number})
		switch {
		case c.Outcome == Done && len(at) != 1:
			v.violate("%s: command %d was acknowledged and told %d times", c.Twin, c.Number, len(at))
		case c.Outcome == Refused && len(at) > 0:
			v.violate("%s: command %d was refused (%s) and told %d times", c.Twin, c.Number, c.Error, len(at))
		case len(at) > 1:
			v.violate("%s: command %d was told %d times", c.Twin, c.Number, len(at))
		case c.Outcome == Unknown && len(at) == 1:
			ran++
		}
	}
	for k := range told {
		v.violate("%s: command %d was told and never sent", k.twin, k.number)
	}
	v.inOrder(byTwin, conns)
	v.Note = fmt.Sprintf("%d done, %d refused, %d unknown, of which %d ran", counts[Done], counts[Refused], counts[Unknown], ran)
	return v
}

// inOrder checks that what was acknowledged reached the device while the call ran: so one came after another.
func (v *Verdict) inOrder(byTwin map[string][]Call, conns []Conn) {
	at := map[string]time.Time{}
	for _, c := range conns {
		for _, w := range c.Writes {
			at[c.Device+" "+w.Text] = w.At
		}
	}
	for _, twin := range sorted(byTwin) {
		calls := byTwin[twin]
		slices.SortFunc(calls, func(a, b Call) int { return int(a.Number - b.Number) })
		var before time.Time
		for _, c := range calls {
			told, ok := at[twin+" "+Word+strconv.FormatInt(c.Number, 10)]
			if c.Outcome != Done || !ok {
				continue
			}
			if told.Before(before) {
				v.violate("%s: command %d was told before the one that was acknowledged before it", twin, c.Number)
			}
			before = told
		}
	}
}

func clock(t time.Time) string { return t.Format("15:04:05.000") }

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
