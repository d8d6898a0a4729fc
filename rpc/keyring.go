package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/storage"
)

// maxCached principals in memory, about 400 bytes each. Past it the cache is emptied and fills again: a lookup costs
// one read of the local store.
const maxCached = 8192

// maxFollowers are open streams per node. Past it a new one is refused.
const maxFollowers = 10_000

// Keyring knows who calls: it turns secrets into principals. Lookups are cached; a change of a key or a session in the
// store, made on whatever node, drops what is cached and ends the streams that were opened with it.
// Safe for concurrent use.
type Keyring struct {
	store *storage.Store
	log   *slog.Logger
	now   func() time.Time

	mu    sync.RWMutex
	cache map[hash]*Principal
	// generation counts invalidations, so that a lookup that raced with one is not cached.
	generation uint64
	followers  map[*follower]struct{}
	// stopping: nobody follows any more.
	stopping bool
	changed  func(keyID string)

	cancel context.CancelFunc
	wg     sync.WaitGroup

	hits, misses, refused, revoked *metrics.Counter
}

// follower is a stream that ends with its credential.
type follower struct {
	p      *Principal
	cancel context.CancelCauseFunc
}

// NewKeyring opens the keys of a store and follows their changes until Close. The logger and the set may be nil.
func NewKeyring(store *storage.Store, log *slog.Logger, set *metrics.Set) *Keyring {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if set == nil {
		set = metrics.NewSet()
	}
	ctx, cancel := context.WithCancel(context.Background())
	k := &Keyring{store: store, log: log, now: time.Now, cancel: cancel,
		cache: make(map[hash]*Principal), followers: make(map[*follower]struct{}),
		hits:    set.GetOrCreateCounter(`pollux_rpc_key_lookups_total{result="cached"}`),
		misses:  set.GetOrCreateCounter(`pollux_rpc_key_lookups_total{result="read"}`),
		refused: set.GetOrCreateCounter(`pollux_rpc_key_lookups_total{result="refused"}`),
		revoked: set.GetOrCreateCounter(`pollux_rpc_streams_revoked_total`),
	}
	for _, table := range []storage.Table{TableKey, TableSession} {
		// In place before this function returns, so that nothing that changes afterwards is missed.
		after := store.Revision()
		changes, err := store.Watch(ctx, table, "", after)
		k.wg.Go(func() { k.follow(ctx, table, after, changes, err) })
	}
	return k
}

// OnChange sets what is called with the id of each key that was changed or deleted, on whatever node; with an empty id
// where changes were missed and every key may be concerned. Connections that outlive their login, such as those of
// MQTT, end by it. It is called from one goroutine and should not block for long.
func (k *Keyring) OnChange(fn func(keyID string)) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.changed = fn
}

func (k *Keyring) tell(keyID string) {
	k.mu.RLock()
	fn := k.changed
	k.mu.RUnlock()
	if fn != nil {
		fn(keyID)
	}
}

// Close stops following the store and ends what Follow gave. It does not close the store.
func (k *Keyring) Close() error {
	k.cancel()
	k.wg.Wait()
	k.endStreams()
	return nil
}

// endStreams ends what Follow gave, and has it give nothing more: streams have no end of their own, and a server that stops must
// not wait for them.
func (k *Keyring) endStreams() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopping = true
	for f := range k.followers {
		f.cancel(errStopping)
	}
	clear(k.followers)
}

var errStopping = errors.New("the node is stopping")

// Authenticate gives the principal of an API key, or an error that wraps ErrUnauthenticated.
func (k *Keyring) Authenticate(token string) (*Principal, error) {
	id, ok := keyIDOf(token)
	if !ok {
		k.refused.Inc()
		return nil, fmt.Errorf("%w: that is no API key, or not the whole of one: %sID_SECRET, as `pollux key create` printed it", ErrUnauthenticated, tokenPrefix)
	}
	return k.lookup(hashOf(token), func(h hash) (*Principal, error) { return k.readKey(id, h) })
}

// session gives the principal of a session cookie, or an error that wraps ErrUnauthenticated.
func (k *Keyring) session(cookie string) (*Principal, error) {
	if cookie == "" || len(cookie) > maxToken {
		return nil, fmt.Errorf("%w: damaged session cookie", ErrUnauthenticated)
	}
	return k.lookup(hashOf(cookie), k.readSession)
}

func (k *Keyring) lookup(h hash, read func(hash) (*Principal, error)) (*Principal, error) {
	k.mu.RLock()
	p, ok, generation := k.cache[h], false, k.generation
	k.mu.RUnlock()
	if ok = p != nil; ok {
		k.hits.Inc()
	} else {
		k.misses.Inc()
		var err error
		if p, err = read(h); err != nil {
			k.refused.Inc()
			return nil, err
		}
	}
	if !p.expires.IsZero() && !k.now().Before(p.expires) {
		k.refused.Inc()
		return nil, fmt.Errorf("%w: key %q expired at %s", ErrUnauthenticated, p.Name, p.expires.Format(time.RFC3339))
	}
	if !ok {
		k.keep(h, p, generation)
	}
	return p, nil
}

func (k *Keyring) keep(h hash, p *Principal, generation uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.generation != generation {
		return
	}
	if len(k.cache) >= maxCached {
		clear(k.cache)
	}
	k.cache[h] = p
}

func (k *Keyring) readKey(id string, h hash) (*Principal, error) {
	p, err := k.principal(id)
	if err != nil {
		return nil, err
	}
	// Both sides are hashes of random secrets: the time that comparing takes tells nothing of use.
	if p == nil || p.credential != h {
		return nil, fmt.Errorf("%w: unknown API key", ErrUnauthenticated)
	}
	return p, nil
}

// principal reads a key's record; nil where there is none.
func (k *Keyring) principal(id string) (*Principal, error) {
	rec, ok, err := k.store.Get(TableKey, id)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	if !ok {
		return nil, nil
	}
	key, err := decodeKey(rec.Value)
	if err != nil {
		return nil, err
	}
	return key.principal()
}

func (k *Keyring) readSession(h hash) (*Principal, error) {
	rec, ok, err := k.store.Get(TableSession, sessionKey(h))
	if err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	var s sessionRecord
	if !ok {
		return nil, fmt.Errorf("%w: the session is over; sign in again", ErrUnauthenticated)
	}
	if err := json.Unmarshal(rec.Value, &s); err != nil {
		return nil, fmt.Errorf("decode session: %w", err)
	}
	p, err := k.principal(s.Key)
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, fmt.Errorf("%w: the session's key was deleted; sign in again", ErrUnauthenticated)
	}
	if p.expires.IsZero() || s.Expires.Before(p.expires) {
		p.expires = s.Expires
	}
	p.session, p.credential = true, h
	return p, nil
}

// follow drops what a table's changes outdate. Where the watch breaks or is too late, everything is dropped.
func (k *Keyring) follow(ctx context.Context, table storage.Table, after uint64, changes <-chan []storage.Change, err error) {
	for {
		if err == nil {
			after = k.take(table, after, changes)
		}
		if ctx.Err() != nil || errors.Is(err, storage.ErrClosed) {
			return
		}
		if err != nil && !errors.Is(err, storage.ErrCompacted) {
			k.log.Warn("watch of keys broke; trying again", "table", string(table), "error", err)
			pause(ctx, time.Second)
		}
		if err != nil {
			after = k.store.Revision()
		}
		changes, err = k.store.Watch(ctx, table, "", after)
		// What changed before the watch stood may have been cached since.
		k.drop(func(*Principal) bool { return true })
		if table == TableKey {
			k.tell("")
		}
	}
}

// take acts on changes until the watch ends, and gives the revision that it came to.
func (k *Keyring) take(table storage.Table, after uint64, changes <-chan []storage.Change) uint64 {
	for batch := range changes {
		for _, c := range batch {
			after = max(after, c.Revision)
			k.invalidate(table, c.Key)
			if table == TableKey {
				k.tell(c.Key)
			}
		}
	}
	return after
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// invalidate forgets one key or session.
func (k *Keyring) invalidate(table storage.Table, key string) {
	k.drop(func(p *Principal) bool {
		if table == TableKey {
			return p.ID == key
		}
		return p.session && sessionKey(p.credential) == key
	})
}

// drop forgets the principals that match, and ends the streams of those that are not valid any more.
func (k *Keyring) drop(match func(*Principal) bool) {
	k.mu.Lock()
	k.generation++
	for h, p := range k.cache {
		if match(p) {
			delete(k.cache, h)
		}
	}
	var check []*follower
	for f := range k.followers {
		if match(f.p) {
			check = append(check, f)
		}
	}
	k.mu.Unlock()
	for _, f := range check {
		if err := k.valid(f.p); errors.Is(err, ErrUnauthenticated) {
			k.revoked.Inc()
			f.cancel(err)
		}
	}
}

// valid reads whether a principal's credential still stands with the same rights.
func (k *Keyring) valid(p *Principal) error {
	if p.peer {
		return nil
	}
	var now *Principal
	var err error
	if p.session {
		now, err = k.readSession(p.credential)
	} else {
		now, err = k.readKey(p.ID, p.credential)
	}
	if err == nil && (now.Role != p.Role || now.Project != p.Project) {
		err = fmt.Errorf("%w: the key's rights changed", ErrUnauthenticated)
	}
	return err
}

// Follow gives a context that ends, with a cause that wraps ErrUnauthenticated, when the principal's key or session is
// deleted or expires. Long streams run in it. Call stop when the stream is over.
func (k *Keyring) Follow(ctx context.Context, p *Principal) (_ context.Context, stop func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	f := &follower{p: p, cancel: cancel}
	k.mu.Lock()
	full, stopping := len(k.followers) >= maxFollowers, k.stopping
	if !full && !stopping {
		k.followers[f] = struct{}{}
	}
	k.mu.Unlock()
	if stopping {
		cancel(nil)
		return nil, nil, errStopping
	}
	if full {
		cancel(nil)
		return nil, nil, fmt.Errorf("%w: %d streams are open on this node", errTooMany, maxFollowers)
	}
	var timer *time.Timer
	if !p.expires.IsZero() {
		timer = time.AfterFunc(p.expires.Sub(k.now()), func() {
			cancel(fmt.Errorf("%w: key or session expired", ErrUnauthenticated))
		})
	}
	stop = func() {
		if timer != nil {
			timer.Stop()
		}
		k.mu.Lock()
		delete(k.followers, f)
		k.mu.Unlock()
		cancel(nil)
	}
	// The key may have gone between its authentication and now.
	if err := k.valid(p); err != nil {
		stop()
		return nil, nil, err
	}
	return ctx, stop, nil
}
