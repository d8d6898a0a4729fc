package rpc

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/cockroachdb/pebble/v2/vfs"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

func openStore(t testing.TB) *storage.Store {
	t.Helper()
	return storagetest.OpenSingle(t, "store", vfs.NewMem())
}

func openKeyring(t testing.TB, store *storage.Store) *Keyring {
	t.Helper()
	k := NewKeyring(store, nil, metrics.NewSet())
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Errorf("close keyring: %v", err)
		}
	})
	return k
}

func mustKey(t testing.TB, store *storage.Store, n NewKey) (*pb.Key, string) {
	t.Helper()
	key, token, err := CreateKey(t.Context(), store, n)
	if err != nil {
		t.Fatalf("create key: %v", err)
	}
	return key, token
}

// eventually polls until ok is true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAuthenticate(t *testing.T) {
	store := openStore(t)
	k := openKeyring(t, store)
	key, token := mustKey(t, store, NewKey{Name: "grafana", Role: RoleViewer, Project: "hotel"})
	// Read, then cached; the watch may drop it once more, as the key is new.
	eventually(t, "a lookup from the cache", func() bool {
		p, err := k.Authenticate(token)
		if err != nil {
			t.Fatal(err)
		}
		if p.ID != key.Id || p.Name != "grafana" || p.Role != RoleViewer || p.Project != "hotel" {
			t.Errorf("got %+v", p)
		}
		return k.hits.Get() > 0
	})
	_, other := mustKey(t, store, NewKey{Role: RoleAdmin})
	forged := tokenPrefix + key.Id + other[len(tokenPrefix)+keyIDLength:]
	for _, bad := range []string{"", "plx_", token[:len(token)-1], token + "x", strings.ToUpper(token), forged,
		tokenPrefix + key.Id + "_", strings.Repeat("a", 1<<16), tokenPrefix + "aaaaaaaaaaaa_" + strings.Repeat("b", 200)} {
		if p, err := k.Authenticate(bad); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%.60q: got %+v, %v", bad, p, err)
		}
	}
	// The store holds no secret.
	for rec, err := range store.Scan(TableKey, "", "") {
		if err != nil {
			t.Fatal(err)
		}
		if secret := token[len(tokenPrefix)+keyIDLength+1:]; strings.Contains(string(rec.Value), secret) {
			t.Error("the secret is in the store")
		}
	}
}

func TestDeletedKeyIsShutOutByTheWatch(t *testing.T) {
	store := openStore(t)
	k := openKeyring(t, store)
	told := make(chan string, 16)
	k.OnChange(func(id string) { told <- id })
	key, token := mustKey(t, store, NewKey{Role: RoleAdmin})
	p, err := k.Authenticate(token)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop, err := k.Follow(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	_, otherToken := mustKey(t, store, NewKey{Role: RoleAdmin})
	other, err := k.Authenticate(otherToken)
	if err != nil {
		t.Fatal(err)
	}
	otherCtx, otherStop, err := k.Follow(t.Context(), other)
	if err != nil {
		t.Fatal(err)
	}
	defer otherStop()

	// Deleted behind the keyring's back, as another node would.
	if _, err := store.Commit(t.Context(), &storage.Txn{Writes: []storage.Write{{Table: TableKey, Key: key.Id}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key is refused", func() bool { _, err := k.Authenticate(token); return errors.Is(err, ErrUnauthenticated) })
	select {
	case <-ctx.Done():
		if err := context.Cause(ctx); !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("the stream ended by %v", err)
		}
	case <-time.After(patience):
		t.Error("the stream goes on")
	}
	for id := ""; id != key.Id; {
		select {
		case id = <-told:
		case <-time.After(patience):
			t.Fatal("nobody was told of the deletion")
		}
	}
	if otherCtx.Err() != nil {
		t.Error("another key's stream ended too")
	}
	if _, _, err := k.Follow(t.Context(), p); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a stream of a deleted key was opened: %v", err)
	}
}

// A stream that comes while the server stops is refused, as nothing would end it.
func TestNobodyFollowsAServerThatStops(t *testing.T) {
	store := openStore(t)
	k := openKeyring(t, store)
	_, token := mustKey(t, store, NewKey{Role: RoleAdmin})
	p, err := k.Authenticate(token)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop, err := k.Follow(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	k.endStreams()
	if err := context.Cause(ctx); !errors.Is(err, errStopping) {
		t.Errorf("the stream ended by %v", err)
	}
	if _, _, err := k.Follow(t.Context(), p); !errors.Is(err, errStopping) {
		t.Errorf("another was opened: %v", err)
	}
}

func TestExpiry(t *testing.T) {
	store := openStore(t)
	k := openKeyring(t, store)
	now := time.Now()
	_, token := mustKey(t, store, NewKey{Role: RoleViewer, Expires: now.Add(time.Hour)})
	p, err := k.Authenticate(token)
	if err != nil {
		t.Fatal(err)
	}
	// The clock stands shortly before the end, so that the stream's end is near.
	k.now = func() time.Time { return now.Add(time.Hour - 20*time.Millisecond) }
	ctx, stop, err := k.Follow(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	select {
	case <-ctx.Done():
	case <-time.After(patience):
		t.Error("the stream outlives its key")
	}
	k.now = func() time.Time { return now.Add(time.Hour) }
	if _, err := k.Authenticate(token); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("an expired key, cached, was taken: %v", err)
	}
	if _, _, err := CreateKey(t.Context(), store, NewKey{Role: RoleViewer, Expires: now.Add(-time.Second)}); err == nil {
		t.Error("a key that is over already was made")
	}
}

func TestNewKeyIsChecked(t *testing.T) {
	store := openStore(t)
	for path, n := range map[string]NewKey{
		"key.role":    {},
		"key.name":    {Role: RoleViewer, Name: strings.Repeat("a", 129)},
		"key.device":  {Role: RoleDevice},
		"key.device ": {Role: RoleViewer, Device: "a"},
		"key.device_": {Role: RoleDevice, Device: "school/a", Project: "hotel"},
		"key.project": {Role: RoleViewer, Project: "*"},
	} {
		_, _, err := CreateKey(t.Context(), store, n)
		var wrong *invalidError
		if !errors.As(err, &wrong) || wrong.path != strings.TrimRight(path, " _") {
			t.Errorf("%s: got %v", path, err)
		}
	}
	key, _ := mustKey(t, store, NewKey{Role: RoleDevice, Device: "lamp"})
	if key.Device != "default/lamp" || key.Project != "default" {
		t.Errorf("got device %s of project %s", key.Device, key.Project)
	}
}

func TestLoginLinkWorksOnce(t *testing.T) {
	store := openStore(t)
	k := openKeyring(t, store)
	key, _ := mustKey(t, store, NewKey{Name: "me", Role: RoleOperator})
	path, err := k.LoginLink(t.Context(), key.Id)
	if err != nil {
		t.Fatal(err)
	}
	code := strings.TrimPrefix(path, "/login?code=")
	// Of many who open it at once, one gets in.
	const many = 8
	cookies := make([]string, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			c, err := k.redeem(t.Context(), code)
			if err != nil && !errors.Is(err, errLoginUsed) {
				t.Errorf("redeem: %v", err)
			}
			cookies[i] = c
		})
	}
	wg.Wait()
	var cookie string
	for _, c := range cookies {
		if c != "" && cookie != "" {
			t.Fatal("two sessions from one link")
		}
		cookie += c
	}
	p, err := k.session(cookie)
	if err != nil {
		t.Fatal(err)
	}
	if p.ID != key.Id || p.Role != RoleOperator || !p.session {
		t.Errorf("got %+v", p)
	}
	if _, err := k.session(code); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a code was taken as a session: %v", err)
	}
	if _, err := k.redeem(t.Context(), cookie); !errors.Is(err, errLoginUsed) {
		t.Errorf("a session was taken as a code: %v", err)
	}
	// It survives a restart: nothing of it is in memory only.
	again := openKeyring(t, store)
	if _, err := again.session(cookie); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if err := k.endSession(t.Context(), cookie); err != nil {
		t.Fatal(err)
	}
	if _, err := k.session(cookie); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("after the end: %v", err)
	}
	eventually(t, "the other node sees the end", func() bool { _, err := again.session(cookie); return errors.Is(err, ErrUnauthenticated) })
}

// TestLoginLinkOfAKeyThatIsGone: a link that was made by a key signs nobody in when that was deleted or has expired.
func TestLoginLinkOfAKeyThatIsGone(t *testing.T) {
	store := openStore(t)
	k := openKeyring(t, store)
	for _, how := range []string{"deleted", "expired"} {
		key, _ := mustKey(t, store, NewKey{Name: "me", Role: RoleOperator, Project: "hotel", Expires: time.Now().Add(LoginLife / 2)})
		path, err := k.LoginLink(t.Context(), key.Id)
		if err != nil {
			t.Fatal(err)
		}
		code := strings.TrimPrefix(path, "/login?code=")
		if _, _, err := k.loginCode(code); err != nil {
			t.Fatal(err)
		}
		if how == "expired" {
			k.now = func() time.Time { return time.Now().Add(LoginLife * 3 / 4) }
		} else if rec, ok, err := store.Get(TableKey, key.Id); err != nil || !ok || deleteKey(t.Context(), store, rec) != nil {
			t.Fatal(err)
		}
		if cookie, err := k.redeem(t.Context(), code); !errors.Is(err, errLoginUsed) || cookie != "" {
			t.Errorf("%s: signed in, %v", how, err)
		}
	}
}

func TestSessionEndsWithItsKeyAndItsTime(t *testing.T) {
	store := openStore(t)
	k := openKeyring(t, store)
	now := time.Now()
	var mu sync.Mutex
	k.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	key, _ := mustKey(t, store, NewKey{Role: RoleViewer})
	first, err := k.newSession(t.Context(), key.Id, nil)
	if err != nil {
		t.Fatal(err)
	}
	path, err := k.LoginLink(t.Context(), key.Id)
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	now = now.Add(SessionLife)
	mu.Unlock()
	if _, err := k.session(first); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("a session after its life: %v", err)
	}
	if _, err := k.redeem(t.Context(), strings.TrimPrefix(path, "/login?code=")); !errors.Is(err, errLoginUsed) {
		t.Errorf("a link after its life: %v", err)
	}
	// The next session sweeps what is over.
	second, err := k.newSession(t.Context(), key.Id, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := store.Count(TableSession, ""); err != nil || n != 1 {
		t.Errorf("%d records of sessions are left, want 1 (%v)", n, err)
	}
	if _, err := k.session(second); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Commit(t.Context(), &storage.Txn{Writes: []storage.Write{{Table: TableKey, Key: key.Id}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session ends with its key", func() bool { _, err := k.session(second); return errors.Is(err, ErrUnauthenticated) })
}

func TestAdminKey(t *testing.T) {
	store := openStore(t)
	k := openKeyring(t, store)
	path := filepath.Join(t.TempDir(), AdminKeyFile)
	ensure := func(want bool) string {
		t.Helper()
		created, err := EnsureAdminKey(t.Context(), store, path)
		if err != nil {
			t.Fatal(err)
		}
		if created != want {
			t.Errorf("created: %v, want %v", created, want)
		}
		token, err := ReadKeyFile(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := k.Authenticate(token)
		if err != nil || p.Role != RoleAdmin || p.Project != "" {
			t.Fatalf("the key in the file: %+v, %v", p, err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		return token
	}
	first := ensure(true)
	if ensure(false) != first {
		t.Error("the key changed without need")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second := ensure(true)
	if second == first {
		t.Error("a lost key came back")
	}
	// Cut short, or of another cluster: replaced.
	for _, text := range []string{"", "plx_", "plx_aaaaaaaaaaaa_bbbbbbbbbbbb\n", second[:len(second)-2]} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ensure(true)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".admin*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if _, err := EnsureAdminKey(t.Context(), store, filepath.Join(t.TempDir(), "no", "such", "dir")); err == nil {
		t.Error("no error without a directory")
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	store := openStore(b)
	k := openKeyring(b, store)
	_, token, err := CreateKey(context.Background(), store, NewKey{Role: RoleAdmin})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := k.Authenticate(token); err != nil {
			b.Fatal(err)
		}
	}
}
