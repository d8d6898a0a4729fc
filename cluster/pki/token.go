package pki

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

const tokenPrefix = "pollux1."

var (
	// ErrToken: the join token is not one, or its secret is wrong, or the cluster does not know it.
	ErrToken = errors.New("join token is not valid")
	// ErrTokenExpired: the join token was valid once.
	ErrTokenExpired = errors.New("join token has expired")
)

// Token lets a new node get its certificate. Whoever has it can join, so it is a secret; the cluster keeps only a
// TokenRecord.
type Token struct {
	// Authority that must have signed the certificate of the node at the join address.
	Authority Fingerprint
	ID        [8]byte
	Secret    [20]byte
}

// TokenRecord is what the cluster keeps of a token.
type TokenRecord struct {
	// ID in hex, the record's key.
	ID string `json:"id"`
	// Hash is the SHA-256 of the secret, in hex. The secret has 160 random bits, so a slow hash would add nothing.
	Hash    string    `json:"hash"`
	Expires time.Time `json:"expires"`
}

// NewToken draws a token.
func NewToken(authority Fingerprint) Token {
	t := Token{Authority: authority}
	rand.Read(t.ID[:])
	rand.Read(t.Secret[:])
	return t
}

// String gives the token as it is pasted.
func (t Token) String() string {
	raw := append(append(append([]byte{}, t.Authority[:]...), t.ID[:]...), t.Secret[:]...)
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// ParseToken reads a pasted token; it forgives spaces around it. Its errors wrap ErrToken and do not repeat the token.
func ParseToken(s string) (Token, error) {
	var t Token
	body, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	if !ok {
		return t, fmt.Errorf("it does not begin with %q: %w", tokenPrefix, ErrToken)
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return t, fmt.Errorf("a character in it cannot be: %w", ErrToken)
	}
	if want := len(t.Authority) + len(t.ID) + len(t.Secret); len(raw) != want {
		return t, fmt.Errorf("it has %d bytes instead of %d, a part may be missing: %w", len(raw), want, ErrToken)
	}
	raw = raw[copy(t.Authority[:], raw):]
	raw = raw[copy(t.ID[:], raw):]
	copy(t.Secret[:], raw)
	return t, nil
}

// Record is what the cluster keeps to know the token again.
func (t Token) Record(expires time.Time) TokenRecord {
	hash := sha256.Sum256(t.Secret[:])
	return TokenRecord{ID: hex.EncodeToString(t.ID[:]), Hash: hex.EncodeToString(hash[:]), Expires: expires}
}

// Check says whether a secret is the token's, in constant time. Errors: ErrToken, ErrTokenExpired.
func (r TokenRecord) Check(secret []byte, now time.Time) error {
	hash := sha256.Sum256(secret)
	if subtle.ConstantTimeCompare([]byte(hex.EncodeToString(hash[:])), []byte(r.Hash)) != 1 {
		return ErrToken
	}
	if !now.Before(r.Expires) {
		return fmt.Errorf("at %s: %w", r.Expires.UTC().Format(time.RFC3339), ErrTokenExpired)
	}
	return nil
}
