package actors

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
	"github.com/polluxhq/pollux/storage"
)

// tableLogicStates: twin's id (empty: the whole logic), zero, logic's id, zero, when the logic was made, and where it keeps it for somebody
// alone a zero and that → what the logic's run keeps of it, JSON.
const tableLogicStates storage.Table = "logicstate"

// maxCell bounds what a run keeps of one twin, and of the whole logic.
const maxCell = 16 << 10

// cells are what a batch of messages reads and changes of what runs keep: one for each twin, and one for the logic itself. They belong
// to the batch. What they change is committed if nobody else changed the same meanwhile.
type cells struct {
	e       *Engine
	logic   string
	created int64
	scope   string // for whom alone it is what is kept of twins
	by      map[string]*cell
	// properties of the logic's twin as committed, JSON, once somebody asked.
	properties []byte
	buffer     []byte
	// kept are the bytes of what was kept since its reader looked.
	kept int
}

// cell is what is kept of one twin.
type cell struct {
	was, now []byte // JSON
	revision uint64
}

var emptyCell = []byte("{}")

func (c *cells) key(twin string) string {
	key := fmt.Sprintf("%s\x00%s\x00%x", twin, c.logic, c.created)
	if twin != "" && c.scope != "" {
		key += "\x00" + c.scope
	}
	return key
}

// of gives the cell of a twin, read once.
func (c *cells) of(twin string) *cell {
	if x := c.by[twin]; x != nil {
		return x
	}
	x := &cell{was: emptyCell}
	if rec, ok, err := c.e.store.Get(tableLogicStates, c.key(twin)); err == nil && ok {
		x.was, x.revision = rec.Value, rec.Revision
	}
	x.now = x.was
	if c.by == nil {
		c.by = map[string]*cell{}
	}
	c.by[twin] = x
	return x
}

// json is the state that a run sees: {"memory":{"twin":…,"script":…},"properties":…}. It is good until it is asked for again.
func (c *cells) json(twin string) []byte {
	b := append(c.buffer[:0], `{"memory":{"twin":`...)
	if twin == "" {
		b = append(b, emptyCell...)
	} else {
		b = append(b, c.of(twin).now...)
	}
	b = append(append(b, `,"script":`...), c.of("").now...)
	if c.properties == nil {
		st, _ := c.e.stored(c.logic)
		view := state.View{Properties: st.Properties}
		c.properties = view.AppendJSON(nil)[len(`{"memory":null`):]
	}
	b = append(append(b, '}'), c.properties...)
	c.buffer = b
	return b
}

// keep takes what a run wants remembered: {"twin":…,"script":…}; nil changes nothing.
func (c *cells) keep(twin string, memory []byte) error {
	if memory == nil {
		return nil
	}
	c.kept += len(memory)
	doc := wire.Value(memory)
	if doc.Kind() != wire.Object {
		return errors.New(`what a run remembers is {"twin":…,"script":…}`)
	}
	of, whole := doc.Get("twin"), doc.Get("script")
	switch {
	case len(of) > maxCell || len(whole) > maxCell:
		return fmt.Errorf("it remembers %d bytes, %d are allowed of each twin", max(len(of), len(whole)), maxCell)
	case twin == "" && of.Exists() && string(of) != string(emptyCell):
		return errors.New("the message is about no twin of which something could be remembered")
	}
	if twin != "" {
		c.of(twin).set(of)
	}
	c.of("").set(whole)
	return nil
}

func (x *cell) set(v wire.Value) {
	if !v.Exists() {
		v = emptyCell
	}
	x.now = v
}

// txn adds what changed to a transaction; nil for nil where nothing did.
func (c *cells) txn(t *storage.Txn) *storage.Txn {
	for _, twin := range slices.Sorted(maps.Keys(c.by)) {
		x := c.by[twin]
		if string(x.now) == string(x.was) || twin != "" && !c.e.known(twin) {
			continue // what a deleted twin said last leaves nothing to the next one of its id
		}
		if t == nil {
			t = &storage.Txn{}
		}
		key, value := c.key(twin), x.now
		if string(value) == string(emptyCell) {
			value = nil
		}
		t.Guards = append(t.Guards, storage.Guard{Table: tableLogicStates, Key: key, Revision: x.revision})
		t.Writes = append(t.Writes, storage.Write{Table: tableLogicStates, Key: key, Value: value, Quiet: true})
	}
	return t
}

func isGuard(err error) bool { return errors.Is(err, storage.ErrGuard) }

// maxCellsGone is how many cells go in the transaction that removes a twin's state, whose room they share: the key of each has three ids at most.
const maxCellsGone = 200

// cellsGone are the writes that remove what runs keep of a deleted twin.
func (t *twin) cellsGone(writes []storage.Write) []storage.Write {
	n := 0
	for rec, err := range t.e.store.Scan(tableLogicStates, t.en.id+"\x00", "") {
		if err != nil {
			t.e.log.Error("forget what logic kept", "twin", t.en.id, "err", err)
			break
		}
		writes = append(writes, storage.Write{Table: tableLogicStates, Key: rec.Key, Quiet: true})
		if n++; n == maxCellsGone {
			break
		}
	}
	return writes
}

// forgetCells removes what the runs of a deleted logic keep, and not those of one that was made anew under its id.
func forgetCells(e *Engine, id string) {
	var keys []string
	for rec, err := range e.store.Scan(tableLogicStates, "", "") {
		if err != nil {
			e.log.Warn("forget what logic kept", "twin", id, "err", err)
			return
		}
		if part := strings.Split(rec.Key, "\x00"); len(part) > 2 && part[1] == id {
			keys = append(keys, rec.Key)
		}
	}
	t, err := e.readTwin(id) // after the keys: what it keeps by now is not among them, or is told by when it was made
	if err != nil {
		e.log.Warn("forget what logic kept", "twin", id, "err", err)
		return
	}
	if t != nil {
		anew := fmt.Sprintf("%x", t.CreateTime.AsTime().UnixMilli())
		keys = slices.DeleteFunc(keys, func(key string) bool { return strings.Split(key, "\x00")[2] == anew })
	}
	for batch := range slices.Chunk(keys, 500) {
		txn := &storage.Txn{}
		for _, key := range batch {
			txn.Writes = append(txn.Writes, storage.Write{Table: tableLogicStates, Key: key, Quiet: true})
		}
		if _, err := e.store.Commit(e.ctx, txn); err != nil {
			e.log.Warn("forget what logic kept", "twin", id, "err", err)
			return
		}
	}
}
