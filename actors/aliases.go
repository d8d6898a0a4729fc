package actors

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/polluxhq/pollux/storage"
)

// aliases finds the twin of an alias: by the committed index, through a bounded cache that the store's watch keeps right.
// That no twin has an alias is remembered too, since unknown senders are the ones that do not stop.
type aliases struct {
	store *storage.Store
	limit int

	mu     sync.RWMutex
	cache  map[string]string
	change atomic.Uint64 // of any alias; written under mu
}

func newAliases(s *storage.Store, limit int) *aliases {
	return &aliases{store: s, limit: limit, cache: map[string]string{}}
}

// twin gives the id of the twin that has the alias, or "".
func (a *aliases) twin(key string) (string, error) {
	a.mu.RLock()
	id, ok := a.cache[key]
	change := a.change.Load()
	a.mu.RUnlock()
	if ok {
		return id, nil
	}
	rec, ok, err := a.store.Get(tableAliases, key)
	if err != nil {
		return "", fmt.Errorf("twin of alias %s: %w", key, err)
	}
	if ok {
		id = string(rec.Value)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.change.Load() != change {
		return id, nil // it may be another one by now
	}
	remember(a.cache, a.limit, key, id)
	return id, nil
}

// changed: an alias was given to a twin or taken from it.
func (a *aliases) changed(key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.change.Add(1)
	delete(a.cache, key)
}

// lost: changes may have been missed.
func (a *aliases) lost() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.change.Add(1)
	clear(a.cache)
}

// wrote notes this node's own changes at once; others come by the watch.
func (a *aliases) wrote(writes []storage.Write) {
	for _, w := range writes {
		if w.Table == tableAliases {
			a.changed(w.Key)
		}
	}
}
