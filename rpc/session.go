package rpc

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/polluxhq/pollux/storage"
)

const (
	// SessionCookie carries a browser's session.
	SessionCookie = "pollux_session"
	// SessionLife is how long a session lasts: a console on a wall should not ask daily, a lost laptop should not stay
	// signed in for ever.
	SessionLife = 7 * 24 * time.Hour
	// LoginLife is how long a one-time link may be opened.
	LoginLife = 10 * time.Minute
	// maxSwept expired records are removed with each new one, so that the table stays as small as what is in use.
	maxSwept = 64
)

const (
	sessionPrefix = "s/"
	codePrefix    = "c/"
)

// sessionRecord is a session, or an unused login code, as stored. Only hashes of the secrets are kept, so a stolen
// copy of the store signs nobody in.
type sessionRecord struct {
	// Key is the id of the API key that signed in; the session has its rights and ends with it.
	Key     string    `json:"key"`
	Expires time.Time `json:"expires"`
}

func sessionKey(h hash) string { return sessionPrefix + h.String() }
func codeKey(h hash) string    { return codePrefix + h.String() }

// LoginLink commits a one-time code that signs a browser in with the rights of a key, and gives the path to open.
func (k *Keyring) LoginLink(ctx context.Context, keyID string) (string, error) {
	code := strings.ToLower(rand.Text())
	if err := k.putSession(ctx, codeKey(hashOf(code)), keyID, LoginLife, nil); err != nil {
		return "", fmt.Errorf("create login link: %w", err)
	}
	return "/login?code=" + code, nil
}

// loginCode reads an unused code's record and changes nothing.
func (k *Keyring) loginCode(code string) (s sessionRecord, spend *storage.Guard, err error) {
	if code == "" || len(code) > maxToken {
		return s, nil, errLoginUsed
	}
	key := codeKey(hashOf(code))
	rec, ok, err := k.store.Get(TableSession, key)
	if err != nil {
		return s, nil, fmt.Errorf("read login code: %w", err)
	}
	if !ok || json.Unmarshal(rec.Value, &s) != nil || !k.now().Before(s.Expires) {
		return s, nil, errLoginUsed
	}
	switch p, err := k.principal(s.Key); {
	case err != nil:
		return s, nil, err
	case p == nil, !p.expires.IsZero() && !k.now().Before(p.expires):
		return s, nil, errLoginUsed // the session would be nobody's
	}
	return s, &storage.Guard{Table: TableSession, Key: key, Revision: rec.Revision}, nil
}

// redeem turns a login code into a session's cookie, once.
func (k *Keyring) redeem(ctx context.Context, code string) (cookie string, err error) {
	s, spend, err := k.loginCode(code)
	if err != nil {
		return "", err
	}
	// The code goes in the transaction that makes the session: of two who open the link, one gets in.
	cookie, err = k.newSession(ctx, s.Key, spend)
	if errors.Is(err, storage.ErrGuard) {
		return "", errLoginUsed
	}
	return cookie, err
}

var errLoginUsed = errors.New("this login link was used already or is too old, or its key is gone")

// newSession commits a session. The record of spend, where given, is deleted with it.
func (k *Keyring) newSession(ctx context.Context, keyID string, spend *storage.Guard) (cookie string, err error) {
	cookie = rand.Text() + rand.Text()
	if err := k.putSession(ctx, sessionKey(hashOf(cookie)), keyID, SessionLife, spend); err != nil {
		return "", fmt.Errorf("create session: %w", err)
	}
	return cookie, nil
}

// endSession deletes a session; one that is not there is no error.
func (k *Keyring) endSession(ctx context.Context, cookie string) error {
	key := sessionKey(hashOf(cookie))
	_, err := k.store.Commit(ctx, &storage.Txn{Writes: []storage.Write{{Table: TableSession, Key: key}}})
	if err != nil {
		return fmt.Errorf("end session: %w", err)
	}
	k.invalidate(TableSession, key)
	return nil
}

func (k *Keyring) putSession(ctx context.Context, key, keyID string, life time.Duration, spend *storage.Guard) error {
	now := k.now().UTC().Truncate(time.Millisecond)
	value, err := json.Marshal(sessionRecord{Key: keyID, Expires: now.Add(life)})
	if err != nil {
		return fmt.Errorf("encode session: %w", err)
	}
	txn := &storage.Txn{Writes: []storage.Write{{Table: TableSession, Key: key, Value: value}}}
	if spend != nil {
		txn.Guards = append(txn.Guards, *spend)
		txn.Writes = append(txn.Writes, storage.Write{Table: spend.Table, Key: spend.Key})
	}
	spent := func(key string) bool { return spend != nil && spend.Key == key }
	for rec, err := range k.store.Scan(TableSession, "", "") {
		if err != nil {
			return fmt.Errorf("sweep sessions: %w", err)
		}
		var s sessionRecord
		if json.Unmarshal(rec.Value, &s) == nil && now.Before(s.Expires) || spent(rec.Key) {
			continue
		}
		txn.Writes = append(txn.Writes, storage.Write{Table: TableSession, Key: rec.Key})
		if len(txn.Writes) >= maxSwept {
			break
		}
	}
	_, err = k.store.Commit(ctx, txn)
	return err
}
