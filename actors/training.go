package actors

import (
	"bytes"
	"strings"

	"github.com/polluxhq/pollux/storage"
)

// What a twin's detectors have learned is in records of its own, written with its checkpoints (detectors.go has their keys).

// maxLongParts is how many of the larger parts of training go in one transaction; what is beyond goes with the next.
const maxLongParts = 4

// training reads what the twin has learned: by who stands for the detector, what changes often and what rarely does.
func (t *twin) training() map[string][2][]byte {
	all := map[string][2][]byte{}
	for rec, err := range t.e.store.Scan(tableTraining, t.en.id+"\x00", "") {
		if err != nil {
			t.e.log.Error("training", "twin", t.en.id, "err", err)
			break
		}
		_, name := splitTraining(rec.Key)
		rows := all[name]
		if strings.HasSuffix(rec.Key, "\x00") {
			rows[1] = rec.Value
		} else {
			rows[0] = rec.Value
		}
		all[name] = rows
	}
	return all
}

func trainingKey(twin, who string) string { return twin + "\x00" + who }

// head begins a record of training: the detector's output, and the property that it judges.
func (j *judge) head() []byte {
	return append(append(append([]byte(j.output), 1), j.Property...), 0)
}

// readHead takes the head off a record. Older records do not name the property.
func readHead(row []byte) (output, property string, learned []byte) {
	head, learned, _ := bytes.Cut(row, []byte{0})
	output, property, _ = strings.Cut(string(head), "\x01")
	return output, property, learned
}

// trainingWrites adds what detectors have learned to a transaction.
func (t *twin) trainingWrites(writes []storage.Write) []storage.Write {
	d := t.detecting
	if d == nil {
		return writes
	}
	for _, key := range d.orphans {
		writes = append(writes, storage.Write{Table: tableTraining, Key: key, Quiet: true})
	}
	long := 0
	for _, j := range d.judges {
		if !j.dirty || !j.works() {
			continue
		}
		key := trainingKey(t.en.id, j.who)
		if j.asks {
			writes = append(writes, storage.Write{Table: tableTraining, Key: key, Value: j.head(), Quiet: true})
			j.flying = true
			continue
		}
		short := j.series.Append(j.head())
		if j.series.Changes() != j.written {
			if long == maxLongParts {
				continue // both parts go together, with the next transaction
			}
			long++
			rows := j.series.AppendLong(nil)
			writes = append(writes, storage.Write{Table: tableTraining, Key: key + "\x00", Value: rows, Quiet: true})
			j.bytes = len(rows)
		}
		writes = append(writes, storage.Write{Table: tableTraining, Key: key, Value: short, Quiet: true})
		j.flying = true
	}
	return writes
}

// trainingSent notes that the transaction is on its way.
func (t *twin) trainingSent() {
	if t.detecting == nil {
		return
	}
	t.detecting.flying = len(t.detecting.orphans)
	for _, j := range t.detecting.judges {
		if j.flying && j.asks {
			j.dirty = false
		} else if j.flying {
			j.dirty, j.written = false, j.series.Changes()
		} else if j.dirty {
			t.touched = true
		}
	}
}

// trainingSaved notes what became of it.
func (t *twin) trainingSaved(ok bool) {
	d := t.detecting
	if d == nil {
		return
	}
	if ok {
		d.orphans = d.orphans[min(d.flying, len(d.orphans)):]
	}
	d.flying = 0
	for _, j := range d.judges {
		if j.flying && !ok {
			j.dirty = true // it may not be there
			if j.series != nil {
				j.written = j.series.Changes() - 1
			}
		}
		j.flying = false
	}
}

// trainingGone are the writes that remove all that a deleted twin has learned.
func (t *twin) trainingGone(writes []storage.Write) []storage.Write {
	for name := range t.training() {
		key := trainingKey(t.en.id, name)
		writes = append(writes, storage.Write{Table: tableTraining, Key: key, Quiet: true}, storage.Write{Table: tableTraining, Key: key + "\x00", Quiet: true})
	}
	return writes
}
