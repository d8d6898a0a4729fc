package actors

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/polluxhq/pollux/storage"
)

const (
	// TableSeals holds the keys that seal secrets: id of the key → the key, 32 bytes. Like the cluster's authority they are records that every node holds.
	TableSeals storage.Table = "seal"
	// sealedPrefix begins a secret as it is stored: the prefix, the key's id, the nonce and the box, base64.
	sealedPrefix = "sealed:1:"
)

// errSealed: a secret cannot be opened.
var errSealed = errors.New("sealed with a key that is not here, or for another place")

// sealer seals secrets at rest, by AES-256-GCM with a key of the cluster. Where a secret belongs is authenticated with it:
// it cannot be opened in another place. Keys are found by their ids, so those of a restored backup stand beside those
// that a cluster has. Safe for concurrent use.
type sealer struct {
	store *storage.Store

	mu    sync.Mutex
	boxes map[string]cipher.AEAD // by the key's id
	first string                 // the key that seals
}

func newSealer(s *storage.Store) *sealer { return &sealer{store: s, boxes: map[string]cipher.AEAD{}} }

// load reads the keys that there are.
func (s *sealer) load() error {
	for rec, err := range s.store.Scan(TableSeals, "", "") {
		if err != nil {
			return fmt.Errorf("read keys of secrets: %w", err)
		}
		if s.boxes[rec.Key] != nil {
			continue
		}
		block, err := aes.NewCipher(rec.Value)
		if err != nil {
			return fmt.Errorf("key %s of secrets: %w", rec.Key, err)
		}
		if s.boxes[rec.Key], err = cipher.NewGCM(block); err != nil {
			return fmt.Errorf("key %s of secrets: %w", rec.Key, err)
		}
		if s.first == "" {
			s.first = rec.Key
		}
	}
	return nil
}

// sealing gives the key that seals; the first time in a cluster's life it commits one.
func (s *sealer) sealing(ctx context.Context) (string, cipher.AEAD, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first == "" {
		if err := s.load(); err != nil {
			return "", nil, err
		}
	}
	if s.first == "" {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // it never fails
		sum := sha256.Sum256(key)
		id := hex.EncodeToString(sum[:6])
		_, err := s.store.Commit(ctx, &storage.Txn{Writes: []storage.Write{{Table: TableSeals, Key: id, Value: key, Quiet: true}}})
		if err != nil {
			return "", nil, fmt.Errorf("commit a key for secrets: %w", err)
		}
		if err := s.load(); err != nil {
			return "", nil, err
		}
	}
	return s.first, s.boxes[s.first], nil
}

func (s *sealer) box(id string) (cipher.AEAD, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.boxes[id] == nil {
		if err := s.load(); err != nil {
			return nil, err
		}
	}
	return s.boxes[id], nil
}

// seal gives a value, JSON, as it is stored at a place such as twin/ID/password.
func (s *sealer) seal(ctx context.Context, place string, v any) (string, error) {
	id, box, err := s.sealing(ctx)
	if err != nil {
		return "", err
	}
	plain, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("seal %s: %w", place, err)
	}
	nonce := make([]byte, box.NonceSize())
	_, _ = rand.Read(nonce) // it never fails
	return sealedPrefix + id + ":" + base64.RawStdEncoding.EncodeToString(box.Seal(nonce, nonce, plain, []byte(place))), nil
}

// open gives what was sealed at the place.
func (s *sealer) open(place, text string) (any, error) {
	id, body, ok := strings.Cut(strings.TrimPrefix(text, sealedPrefix), ":")
	raw, err := base64.RawStdEncoding.DecodeString(body)
	if err != nil || !ok {
		return nil, fmt.Errorf("secret %s: %w", place, errSealed)
	}
	box, err := s.box(id)
	if err != nil {
		return nil, err
	}
	if box == nil || len(raw) < box.NonceSize() {
		return nil, fmt.Errorf("secret %s: %w", place, errSealed)
	}
	plain, err := box.Open(nil, raw[:box.NonceSize()], raw[box.NonceSize():], []byte(place))
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", place, errSealed)
	}
	var v any
	if err := json.Unmarshal(plain, &v); err != nil {
		return nil, fmt.Errorf("secret %s: %w", place, err)
	}
	return v, nil
}

func isSealed(v any) bool {
	text, ok := v.(string)
	return ok && strings.HasPrefix(text, sealedPrefix)
}

// sealSettings seals the settings of these names, in place.
func (s *sealer) sealSettings(ctx context.Context, scope string, names []string, settings map[string]any) (err error) {
	for _, name := range names {
		visitSecret(settings, name, func(in map[string]any, key string) {
			if err != nil || isSealed(in[key]) {
				return
			}
			var text string
			if text, err = s.seal(ctx, scope+"/"+name, in[key]); err == nil {
				in[key] = text
			}
		})
	}
	return err
}

// openSettings opens what is sealed, in place.
func (s *sealer) openSettings(scope string, settings map[string]any) error {
	for key, v := range settings {
		place := scope + "/" + key
		if inner, ok := v.(map[string]any); ok {
			if err := s.openSettings(place, inner); err != nil {
				return err
			}
		}
		if !isSealed(v) {
			continue
		}
		plain, err := s.open(place, v.(string))
		if err != nil {
			return err
		}
		settings[key] = plain
	}
	return nil
}

// refuseSealed refuses settings of a caller that look as if they were sealed.
func refuseSealed(path string, settings map[string]any) error {
	for key, v := range settings {
		if isSealed(v) {
			return invalid(path+"/"+key, "a value may not begin with %q", sealedPrefix)
		}
		if inner, ok := v.(map[string]any); ok {
			if err := refuseSealed(path+"/"+key, inner); err != nil {
				return err
			}
		}
	}
	return nil
}

// maskSealed replaces what is sealed by "***", in place, for readers who do not know what is secret.
func maskSealed(settings map[string]any) {
	for key, v := range settings {
		if isSealed(v) {
			settings[key] = secretMask
		} else if inner, ok := v.(map[string]any); ok {
			maskSealed(inner)
		}
	}
}
