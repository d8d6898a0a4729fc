package automation

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// lookForAbsent finds twins that have been silent for too long, or speak again.
func (r *rule) lookForAbsent(t *turn) {
	if t.ms < r.absentDue {
		return
	}
	next := int64(0)
	project, _, _ := strings.Cut(r.u.id, "/")
	for _, x := range r.conf.When {
		a := x.GetAbsent()
		if a == nil {
			continue
		}
		since := a.Since.AsDuration().Milliseconds()
		ids, err := r.u.h.o.World.Selected(project, a.Of)
		if err != nil {
			r.u.rec.Error = err.Error()
			continue
		}
		for _, id := range ids {
			due := r.absence(t, a, id, since)
			if next == 0 || due < next {
				next = due
			}
		}
	}
	if next == 0 {
		next = t.ms + 60_000
	}
	// Twins come and go: look at least once a minute.
	r.absentDue = min(max(next, t.ms+100), t.ms+60_000)
}

// absence looks at one twin, and says when to look again.
func (r *rule) absence(t *turn, a *pb.AbsentTrigger, id string, since int64) int64 {
	v, ok := r.u.h.o.World.View(id)
	if !ok || v.Config.Stopped {
		return t.ms + 60_000
	}
	made := MadeAt(v.Config)
	r.renew(t, id, made)
	seen := seenOf(v, a.Property)
	m := r.instances[id]
	if m.GetAbsent() {
		if (seen > m.Heard || seen != m.Heard && m.Heard > t.ms) && t.ms-seen < since {
			m.Absent, m.Heard = false, 0
			r.put(t, id)
			r.evaluate(t, Said{Twin: id, Kind: saidAbsent, Name: a.Property, Now: json.RawMessage("false"), Time: t.ms})
		}
		return t.ms + min(max(since/4, 1000), 10_000)
	}
	from := max(r.heardAt(t, seen), r.madeAt(t, made))
	if t.ms-from < since {
		return from + since
	}
	r.inquire(t, id, a.Property, since)
	return t.ms + min(max(since/4, 1000), 10_000)
}

func seenOf(v *expr.Twin, property string) int64 {
	if v.State == nil {
		return 0
	}
	if property == "" {
		return v.State.LastSeen
	}
	if p := v.State.Property(state.Intern(property)); p != nil {
		return p.Time()
	}
	return 0
}

// inquire asks the twin itself: what is committed may lag behind.
func (r *rule) inquire(t *turn, id, property string, since int64) {
	if r.replay {
		at, err := r.u.h.o.World.LastSeen(r.u.ctx, id, property)
		r.told(t, id, property, since, at, err)
		return
	}
	if r.asking[id] || len(r.asking) >= 64 {
		return
	}
	r.asking[id] = true
	u := r.u
	u.h.wg.Add(1)
	u.running.Add(1)
	go func() {
		defer u.h.wg.Done()
		ctx, cancel := context.WithTimeout(u.ctx, 10*time.Second)
		at, err := u.h.o.World.LastSeen(ctx, id, property)
		cancel()
		u.running.Add(-1)
		u.post(func(t *turn) {
			delete(r.asking, id)
			if !u.leaving.Load() {
				r.told(t, id, property, since, at, err)
			}
		})
	}()
}

// told: a twin has said when it spoke last.
func (r *rule) told(t *turn, id, property string, since int64, at time.Time, err error) {
	m := r.instance(id)
	seen := max(r.heardAt(t, at.UnixMilli()), r.madeAt(t, m.Made))
	if err != nil || r.off() != "" || m.Absent || t.ms-seen < since {
		return
	}
	m.Absent, m.Heard = true, max(at.UnixMilli(), 0)
	r.put(t, id)
	r.evaluate(t, Said{Twin: id, Kind: saidAbsent, Name: property, Now: json.RawMessage("true"), Time: t.ms})
}
