package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
)

// Tables of selector classes. The first is written here; the others by whoever has actors, with the record of the actor
// (DESIGN.md, "Selector classes").
const (
	// tableClass: two hex digits, the class's number → its selector.
	tableClass = "class"
	// TablePlace: actor's id → the class in which it lives; no record: "".
	TablePlace = "place"
	// TableShift: ShiftKey → the class to which the actor is to move.
	TableShift = "shift"
)

// EncodeClass is the value of a record of TablePlace or TableShift.
func EncodeClass(c Class) []byte { return binary.AppendUvarint([]byte{recordV1}, uint64(c)) }

// DecodeClass reads it.
func DecodeClass(value []byte) (Class, error) {
	r := reader{b: value}
	r.version("class", recordV1)
	v := r.uint()
	if r.err == nil && v > MaxClasses {
		r.err = fmt.Errorf("class %d, %d is the highest", v, MaxClasses)
	}
	return Class(v), r.end("class")
}

// classes are the selectors in use and the actors that are to change theirs.
type classes struct {
	// classed is true from the first class on: before it every actor is in the class "".
	classed atomic.Bool
	// journals: the programs of all members that are alive read the journal in the log.
	journals atomic.Bool
	// places are those of actors that were asked for lately.
	places atomic.Pointer[places]
	// unmet is the selector of a class that no member satisfies; nil: one does.
	unmet [MaxClasses + 1]atomic.Pointer[string]

	byNumber [MaxClasses + 1]*class
	// pools are the members that may own slots of a class.
	pools         [MaxClasses + 1][]Candidate
	classesSynced bool
	// shifts are the actors of a slot that are to move to another class: their records by id.
	shifts       map[Slot]map[string][]byte
	shiftsSynced bool
	shifting     slotSet
}

type class struct {
	text     string
	selector Selector
	// unread: the record is of a version that is not known here. Nobody satisfies it.
	unread bool
}

// SlotOf gives the slot of an actor by its id and class, as applied on this node.
func (n *Node) SlotOf(id string) Slot {
	if !n.classed.Load() {
		return SlotOf(id)
	}
	kept := n.placesNow()
	if c, ok := kept.get(id); ok {
		return c.SlotOf(id)
	}
	value, err := n.o.Records.Get(TablePlace, id)
	if err != nil {
		return SlotOf(id)
	}
	var c Class
	if value != nil {
		if c, err = DecodeClass(value); err != nil {
			n.o.Logger.Error("place of an actor cannot be read", "id", id, "error", err)
			return SlotOf(id)
		}
	}
	kept.put(id, c)
	return c.SlotOf(id)
}

// observeClasses follows the table of selectors.
func (n *Node) observeClasses(changes []Record) {
	if changes == nil {
		n.classesSynced = true
	}
	for _, c := range changes {
		number, err := strconv.ParseUint(c.Key, 16, 8)
		if err != nil || number == 0 || number > MaxClasses || c.Value == nil {
			n.o.Logger.Error("selector record ignored", "key", c.Key)
			continue
		}
		made := &class{}
		if made.text, err = decodeSelector(c.Value); err == nil {
			made.selector, err = ParseSelector(made.text)
		}
		if made.unread = err != nil; made.unread {
			n.o.Logger.Error("a selector cannot be read: no node satisfies it", "class", number, "error", err)
		}
		n.byNumber[number] = made
		n.classed.Store(true)
	}
	if n.membersSynced && n.classesSynced {
		n.retarget()
	}
}

func encodeSelector(text string) []byte { return appendString([]byte{recordV1}, text) }

func decodeSelector(value []byte) (string, error) {
	r := reader{b: value}
	r.version("selector", recordV1)
	text := r.str()
	return text, r.end("selector")
}

// makePools computes which members may own the slots of each class. It gives the classes of which that has changed, with the
// hashes of their members' ids.
func (n *Node) makePools() (changed map[Class][]uint64) {
	c := &n.classes
	for k := range c.byNumber {
		if k > 0 && c.byNumber[k] == nil {
			continue
		}
		pool := n.candidates(Class(k))
		if !slices.Equal(pool, c.pools[k]) {
			if changed == nil {
				changed = map[Class][]uint64{}
			}
			c.pools[k], changed[Class(k)] = pool, hashIDs(make([]uint64, 0, len(pool)), pool)
		}
		if k > 0 && len(pool) == 0 {
			c.unmet[k].Store(&c.byNumber[k].text)
		} else {
			c.unmet[k].Store(nil)
		}
	}
	return changed
}

// eachSlot calls f with the slots that there are, in their order.
func (n *Node) eachSlot(f func(Slot)) {
	for s := range Slot(n.o.slots) {
		f(s)
	}
	for k := Class(1); k <= MaxClasses; k++ {
		if n.byNumber[k] == nil {
			continue
		}
		for s := range Slot(min(n.o.slots, ClassSlots)) {
			f(k.first() + s)
		}
	}
}

// unmetBy is the selector of the slot's class where no member satisfies it, else nil.
func (n *Node) unmetBy(s Slot) *string { return n.unmet[s.Class()].Load() }

// Unmet gives the selector of the slot's class where no member satisfies it now, else "".
func (n *Node) Unmet(s Slot) string {
	if text := n.unmetBy(s); text != nil {
		return *text
	}
	return ""
}

// SelectorOf gives the selector that a slot's owner has to satisfy, as seen here; "": none.
func (n *Node) SelectorOf(s Slot) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.byNumber[s.Class()]; c != nil {
		return c.text
	}
	return ""
}

// ClassInfo is a selector in use, as seen here.
type ClassInfo struct {
	Class    Class
	Selector string
	// Nodes are the ids of the members that may own its slots now: none: its actors are unavailable.
	Nodes []string
}

// Classes gives the selectors that the cluster has had, by their numbers.
func (n *Node) Classes() []ClassInfo {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []ClassInfo
	for k, c := range n.byNumber {
		if c == nil {
			continue
		}
		info := ClassInfo{Class: Class(k), Selector: c.text}
		for _, m := range n.pools[k] {
			info.Nodes = append(info.Nodes, m.ID)
		}
		all = append(all, info)
	}
	return all
}

// Class gives the number of a selector, and records it where it is new; it returns when that is committed. ErrState where
// a member runs a program that does not know selectors, or where there are MaxClasses already.
func (n *Node) Class(ctx context.Context, s Selector) (Class, error) {
	text := s.String()
	if text == "" {
		return 0, nil
	}
	var number Class
	err := wait(ctx, "use selector "+text, func(done func(error)) {
		n.makeClass(text, func(c Class, err error) {
			if err == nil {
				number = c
			}
			done(err)
		})
	})
	return number, err
}

// makeClass is Class; done is called without mu.
func (n *Node) makeClass(text string, done func(Class, error)) {
	n.doOr(func(err error) { done(0, err) }, func() {
		end := func(c Class, err error) { n.later(func() { done(c, err) }) }
		all, err := n.o.Records.Scan(tableClass)
		if err != nil {
			end(0, err)
			return
		}
		for _, r := range all {
			number, err := strconv.ParseUint(r.Key, 16, 8)
			if known, bad := decodeSelector(r.Value); err == nil && bad == nil && known == text {
				end(Class(number), nil)
				return
			}
		}
		// Numbers are given in their order, and never again: who has not seen the newest picks one that is taken, and looks again.
		number := Class(len(all) + 1)
		if number > MaxClasses {
			end(0, fmt.Errorf("the cluster has had %d selectors, and can have no more: use one of them: %w", MaxClasses, ErrState))
			return
		}
		t := Txn{Writes: []TableRecord{record(tableClass, fmt.Sprintf("%02x", number), encodeSelector(text))}}
		t.Guards = append(t.Guards, record(tableClass, t.Writes[0].Key, nil))
		for _, id := range n.ids {
			if m := n.members[id]; !m.knowsClasses() {
				end(0, fmt.Errorf("node %s (%s) runs a program that knows no selectors: upgrade or remove it first: %w", m.Name, id, ErrState))
				return
			}
			t.Guards = append(t.Guards, n.memberGuard(id))
		}
		n.commit(t, func(err error) {
			switch {
			case err == nil:
				end(number, nil)
			case errors.Is(err, ErrConflict), errors.Is(err, ErrUnknown), errors.Is(err, ErrOverloaded):
				n.after(retryAfter, func() { n.later(func() { n.makeClass(text, done) }) })
			default:
				end(0, err)
			}
		})
	})
}

// UnmetActors counts the actors that no node may have now, by their selectors.
func (n *Node) UnmetActors() (map[string]int, error) {
	some := false
	for k := range n.unmet {
		some = some || n.unmet[k].Load() != nil
	}
	if !some {
		return nil, nil
	}
	places, err := n.o.Records.Scan(TablePlace)
	if err != nil {
		return nil, fmt.Errorf("count actors that no node may have: %w", err)
	}
	count := map[string]int{}
	for _, r := range places {
		if c, err := DecodeClass(r.Value); err == nil {
			if text := n.unmet[c].Load(); text != nil {
				count[*text]++
			}
		}
	}
	return count, nil
}

// checkSelectors complains about actors that are unavailable because of their selector, or that are to change it.
func (n *Node) checkSelectors(c *complaints) {
	unmet, err := n.UnmetActors()
	if err != nil {
		c.add("selector", "%v", err)
	}
	for _, text := range slices.Sorted(maps.Keys(unmet)) {
		c.add("selector", "no node satisfies %s; twins unavailable: %d", text, unmet[text])
	}
	for s, ids := range n.shifts {
		for id := range ids {
			c.add("shift", "twin %s is to leave slot %d for another selector", id, s)
		}
	}
}

// countUnmet counts the selectors that no member satisfies.
func (n *Node) countUnmet() (count int) {
	for k := range n.unmet {
		if n.unmet[k].Load() != nil {
			count++
		}
	}
	return count
}
