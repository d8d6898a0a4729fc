package drivers

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"

	"github.com/polluxhq/pollux/drivers/cron"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// room counts bytes of effects.
func (h *hostCall) room(n int) bool {
	h.effectBytes += n
	return h.effectBytes <= h.limits.EffectBytes
}

// document checks a request that is an object, and copies it: effects outlive the guest's memory.
func (h *hostCall) document(b []byte) (wire.Value, code) {
	if !h.room(len(b)) {
		return nil, h.tooLarge()
	}
	doc, err := wire.Parse(bytes.Clone(b))
	if err != nil || doc.Kind() != wire.Object {
		return nil, codeInvalid
	}
	return doc, 0
}

func (h *hostCall) schedule(b []byte) code {
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	if len(h.effects.Timers) >= h.limits.Timers {
		return h.over()
	}
	t := Timer{}
	var ok bool
	if t.Name, ok = shortText(doc.Get("name")); !ok {
		return codeInvalid
	}
	t.Cancel, _ = doc.Get("cancel").Bool()
	if !t.when(doc, h.sandbox.now()) {
		return codeInvalid
	}
	if data := doc.Get("data"); data != nil {
		if len(data) > h.limits.ValueBytes {
			return h.tooLarge()
		}
		t.Data = json.RawMessage(data)
	}
	h.effects.Timers = append(h.effects.Timers, t)
	return 0
}

// when reads what makes a timer due, and says whether it makes sense at the time that the driver sees.
func (t *Timer) when(doc wire.Value, now time.Time) bool {
	after, every, at := doc.Get("after"), doc.Get("every"), doc.Get("at")
	spec, zone := doc.Get("cron"), doc.Get("zone")
	if (after != nil || every != nil) && at != nil || (after != nil || every != nil || at != nil) && spec != nil || zone != nil && spec == nil {
		return false
	}
	var ok bool
	if t.After, ok = timerSpan(after); !ok {
		return false
	}
	if t.Every, ok = timerSpan(every); !ok {
		return false
	}
	if t.Every > 0 && t.Every < minEvery {
		t.Every = minEvery
	}
	if at != nil {
		if t.At, ok = at.Int(); !ok || t.At <= 0 || t.At > now.Add(maxTimer).UnixMilli() {
			return false
		}
	}
	if spec == nil {
		return true
	}
	if t.Cron, ok = shortText(spec); !ok {
		return false
	}
	if t.Zone, ok = zone.Text(); zone != nil && !ok {
		return false
	}
	_, err := cron.Parse(t.Cron, t.Zone)
	return err == nil
}

// timerSpan reads a span in milliseconds; none is 0.
func timerSpan(v wire.Value) (time.Duration, bool) {
	if v == nil {
		return 0, true
	}
	ms, ok := v.Int()
	return time.Duration(ms) * time.Millisecond, ok && ms >= 0 && ms <= int64(maxTimer/time.Millisecond)
}

// subscribe takes {"twin":NAME,"system":ID,"property":NAME,"cancel":BOOL}.
func (h *hostCall) subscribe(b []byte) code {
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	if len(h.effects.Subscriptions) >= h.limits.Subscriptions {
		return h.over()
	}
	s := Subscription{}
	var ok bool
	if s.Twin, s.System, ok = whom(doc); !ok {
		return codeInvalid
	}
	if s.Property, ok = shortText(doc.Get("property")); !ok {
		return codeInvalid
	}
	s.Cancel, _ = doc.Get("cancel").Bool()
	h.effects.Subscriptions = append(h.effects.Subscriptions, s)
	return 0
}

// whom reads how another twin is named.
func whom(doc wire.Value) (twin, system string, ok bool) {
	if twin, ok = shortText(doc.Get("twin")); !ok {
		return "", "", false
	}
	if v := doc.Get("system"); v.Exists() {
		system, ok = shortText(v)
	}
	return twin, system, ok
}

const (
	// maxTimer is the farthest a timer may be set: ten years.
	maxTimer = 10 * 365 * 24 * time.Hour
	// minEvery is the shortest period of a timer that repeats; a shorter one becomes it.
	minEvery = 100 * time.Millisecond
)

// shortText reads a name of 1 to 128 bytes.
func shortText(v wire.Value) (string, bool) {
	text, ok := v.Text()
	return text, ok && text != "" && len(text) <= 128
}

func (h *hostCall) emit(b []byte) code {
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	if len(h.effects.Events) >= h.limits.Events || !h.call.Budget.take(QuotaEvents) {
		return h.over()
	}
	name, ok := shortText(doc.Get("name"))
	if !ok {
		return codeInvalid
	}
	data := doc.Get("data")
	if len(data) > h.limits.ValueBytes {
		return h.tooLarge()
	}
	h.effects.Events = append(h.effects.Events, Emitted{Name: name, Data: json.RawMessage(data)})
	return 0
}

func (h *hostCall) describe(b []byte) code {
	if len(b) > h.limits.OutputBytes {
		return h.tooLarge()
	}
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	h.effects.Describe = doc
	return 0
}

func (h *hostCall) discover(b []byte) code {
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	if len(h.effects.Discovered) >= h.limits.Discoveries {
		return h.over()
	}
	var d Discovery
	for _, f := range []struct {
		name  string
		field *string
		need  bool
	}{{"network", &d.Network, true}, {"key", &d.Key, true}, {"value", &d.Value, true}, {"name", &d.Name, false}, {"driver", &d.Driver, false}, {"uri", &d.URI, false}} {
		v := doc.Get(f.name)
		text, ok := v.Text()
		if v != nil && !ok || f.need && text == "" || len(text) > 512 {
			return codeInvalid
		}
		*f.field = text
	}
	if settings := doc.Get("settings"); settings.Exists() {
		if settings.Kind() != wire.Object {
			return codeInvalid
		}
		d.Settings = json.RawMessage(settings)
	}
	h.effects.Discovered = append(h.effects.Discovered, d)
	return 0
}

// stateSet takes {"set":{NAME:VALUE},"time":ms,"quality":"good|stale|bad","memory":ANY}, all optional.
func (h *hostCall) stateSet(b []byte) code {
	doc, c := h.document(b)
	if c < 0 {
		return c
	}
	var set, memory wire.Value
	at, quality, valid := int64(0), QualityGood, true
	doc.Members(func(name []byte, v wire.Value) bool {
		switch string(name) {
		case "set":
			set, valid = v, v.Kind() == wire.Object
		case "memory":
			memory = v
		case "time":
			at, valid = v.Int()
			valid = valid && at >= 0
		case "quality":
			quality, valid = qualityOf(v)
		default:
			valid = false
		}
		return valid
	})
	if !valid {
		return codeInvalid
	}
	if len(memory) > h.limits.MemoryBytes {
		return h.tooLarge()
	}
	if c := h.change(set, at, quality); c < 0 {
		return c
	}
	if memory != nil {
		h.effects.Memory = memory
	}
	return 0
}

// change takes all members of set, or none.
func (h *hostCall) change(set wire.Value, at int64, quality Quality) code {
	before := len(h.effects.Changes)
	refused := code(0)
	set.Members(func(key []byte, v wire.Value) bool {
		switch {
		case len(key) == 0 || len(key) > 128:
			refused = codeInvalid
		case len(v) > h.limits.ValueBytes:
			refused = h.tooLarge()
		case len(h.effects.Changes) >= h.limits.Changes:
			refused = h.over()
		}
		if refused == 0 {
			h.effects.Changes = append(h.effects.Changes, Change{Property: h.propertyName(key),
				Value: json.RawMessage(v), Time: at, Quality: quality})
		}
		return refused == 0
	})
	if refused < 0 {
		h.effects.Changes = h.effects.Changes[:before]
	}
	return refused
}

// propertyName is the key as a string, the model's own where it knows it.
func (h *hostCall) propertyName(key []byte) string {
	if p := h.model.properties[string(key)]; p != nil {
		return p.Name
	}
	return string(key)
}

func qualityOf(v wire.Value) (Quality, bool) {
	text, _ := v.Text()
	switch text {
	case "good":
		return QualityGood, true
	case "stale":
		return QualityStale, true
	case "bad":
		return QualityBad, true
	}
	return 0, false
}

// String names the quality.
func (q Quality) String() string {
	switch q {
	case QualityGood:
		return "good"
	case QualityStale:
		return "stale"
	case QualityBad:
		return "bad"
	}
	return strconv.Itoa(int(q))
}
