package actors

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxMaking twins are made at a time for unknown senders, and maxMakingWaits messages wait for them.
	maxMaking      = 8
	maxMakingWaits = 4096
	makingTimeout  = 20 * time.Second
	// makingRest is how long a sender for which no twin could be made goes to the inbox, before it is tried again.
	makingRest = 30 * time.Second
	maxFailed  = 10_000
)

// makers make twins of unknown senders where a rule of their project says so. Messages wait for their twin meanwhile, in
// their order: a sender is in making until the last that waited has gone to its twin.
type makers struct {
	e     *Engine
	slot  chan struct{}
	waits atomic.Int64 // messages that wait; it changes under mu

	mu     sync.Mutex
	making map[string][]*wanted
	failed map[string]time.Time
}

// wanted is a message whose twin is being made.
type wanted struct {
	m    *Ingest
	done func(IngestResult)
}

func newMakers(e *Engine) *makers {
	return &makers{e: e, slot: make(chan struct{}, maxMaking), making: map[string][]*wanted{}, failed: map[string]time.Time{}}
}

// provide has a twin made for a message's sender, and brings the message to it. Where that cannot be, it goes to the inbox.
func (k *makers) provide(m *Ingest, key string, rule *pb.ProvisionRule, done func(IngestResult)) {
	k.mu.Lock()
	if at, ok := k.failed[key]; ok && time.Since(at) < makingRest {
		k.mu.Unlock()
		k.e.toInbox(m, key, done)
		return
	}
	_, begun := k.making[key]
	taken := k.wait(m, key, done)
	k.mu.Unlock()
	switch {
	case !taken:
		done(tooManyWait())
	case !begun:
		k.e.goFunc(func() { k.work(m, key, rule) })
	}
}

// behind has a message wait behind those of its sender that wait. It says false where none do.
func (k *makers) behind(x *intaking, key string) bool {
	if k.waits.Load() == 0 {
		return false
	}
	k.mu.Lock()
	_, begun := k.making[key]
	taken := begun && k.wait(x.m, key, x.end)
	k.mu.Unlock()
	if begun && !taken {
		x.end(tooManyWait())
	}
	return begun
}

// wait adds a message to those that wait, if there are not too many.
func (k *makers) wait(m *Ingest, key string, done func(IngestResult)) bool {
	if k.waits.Load() >= maxMakingWaits {
		return false
	}
	k.making[key] = append(k.making[key], &wanted{m, done})
	k.waits.Add(1)
	return true
}

func tooManyWait() IngestResult {
	return IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_RETRY, Err: fmt.Errorf("twins are being made: %w", cluster.ErrOverloaded)}
}

// work makes one twin, and lets the messages go on that wait for it.
func (k *makers) work(m *Ingest, key string, rule *pb.ProvisionRule) {
	err := k.make(m, rule)
	if err != nil {
		k.e.log.Warn("no twin made for an unknown sender: it is in the inbox", "sender", key, "err", err)
	}
	if err != nil {
		k.mu.Lock()
		if len(k.failed) >= maxFailed {
			clear(k.failed)
		}
		k.failed[key] = time.Now()
		k.mu.Unlock()
	}
	for {
		k.mu.Lock()
		all := k.making[key]
		if len(all) == 0 {
			delete(k.making, key)
			k.mu.Unlock()
			return
		}
		k.making[key] = nil // those that come now still go behind these
		k.mu.Unlock()
		for _, w := range all {
			if err != nil {
				k.e.toInbox(w.m, key, w.done)
			} else {
				k.bring(w, key)
			}
		}
		k.mu.Lock()
		k.waits.Add(-int64(len(all)))
		k.mu.Unlock()
	}
}

// bring hands a message to the twin that was made.
func (k *makers) bring(w *wanted, key string) {
	id, err := k.e.intake.aliases.twin(key)
	switch {
	case err != nil:
		w.done(IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_RETRY, Err: err})
	case id == "":
		k.e.toInbox(w.m, key, w.done) // the twin is gone again
	default:
		k.e.ingestTo(&intaking{m: w.m, sender: one(w.done)}, id)
	}
}

func (k *makers) make(m *Ingest, rule *pb.ProvisionRule) error {
	select {
	case k.slot <- struct{}{}:
		defer func() { <-k.slot }()
	case <-k.e.ctx.Done():
		return ErrClosed
	}
	ctx, cancel := context.WithTimeout(k.e.ctx, makingTimeout)
	defer cancel()
	name := nameBy(rule.Name, m.Alias)
	t := &pb.Twin{Id: m.Project + "/" + name, Driver: rule.Driver, Model: rule.Model, Zone: rule.Zone, Labels: rule.Labels,
		Aliases: []*pb.Alias{m.Alias}}
	_, err := k.e.registry.CreateTwin(ctx, t)
	if errors.Is(err, ErrExists) {
		// Either another node was first, or a twin of that name is another sender's.
		if id, aerr := k.e.intake.aliases.twin(aliasKey(m.Project, m.Alias.Network, m.Alias.Key, m.Alias.Value)); aerr == nil && id != "" {
			return nil
		}
		t.Id = fmt.Sprintf("%s/%.115s-%08x", m.Project, name, uint32(hashID(m.Alias.Network+"\x00"+m.Alias.Key+"\x00"+m.Alias.Value)))
		_, err = k.e.registry.CreateTwin(ctx, t)
	}
	return err
}

// matchingRule gives the first rule whose patterns match the alias, or nil.
func matchingRule(rules []*pb.ProvisionRule, a *pb.Alias) *pb.ProvisionRule {
	for _, r := range rules {
		if like(r.Network, a.Network) && like(r.Key, a.Key) && like(r.Value, a.Value) {
			return r
		}
	}
	return nil
}

// like says whether a text matches a pattern in which * is any text; the empty pattern matches all.
func like(pattern, text string) bool {
	if pattern == "" {
		return true
	}
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	first, last := parts[0], parts[len(parts)-1]
	if !strings.HasPrefix(text, first) {
		return false
	}
	text = text[len(first):]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(text, p)
		if i < 0 {
			return false
		}
		text = text[i+len(p):]
	}
	return strings.HasSuffix(text, last)
}

var unnameable = regexp.MustCompile(`[^a-z0-9._-]+`)

// nameBy makes a twin's name by a template.
func nameBy(template string, a *pb.Alias) string {
	if template == "" {
		template = "{value}"
	}
	name := strings.NewReplacer("{network}", a.Network, "{key}", a.Key, "{value}", a.Value).Replace(template)
	name = strings.TrimLeft(unnameable.ReplaceAllString(strings.ToLower(name), "-"), "._-")
	if name == "" {
		name = fmt.Sprintf("sender-%08x", uint32(hashID(a.Network+"\x00"+a.Key+"\x00"+a.Value)))
	}
	return name[:min(len(name), 128)]
}
