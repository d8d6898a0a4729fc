package rpc

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// Tables of this package.
const (
	// TableKey holds API keys by id.
	TableKey storage.Table = "key"
	// TableSession holds browser sessions and unused login codes by the hash of their secret.
	TableSession storage.Table = "session"
)

const (
	tokenPrefix = "plx_"
	// keyIDLength of 12 base32 characters, 60 random bits: unique, and not secret.
	keyIDLength = 12
	// maxToken bounds what is hashed before it is known.
	maxToken = 128
	// maxKeyName in bytes.
	maxKeyName = 128
)

// hash is the SHA-256 of a secret. Secrets here are random and long, so a plain hash is enough.
type hash [sha256.Size]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

// hashOf does not allocate: it runs once per call.
func hashOf(token string) hash {
	var buf [maxToken]byte
	return sha256.Sum256(buf[:copy(buf[:], token)])
}

// keyRecord is a key as stored.
type keyRecord struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Role       string     `json:"role"`
	Project    string     `json:"project,omitempty"`
	Device     string     `json:"device,omitempty"`
	Hash       string     `json:"hash"`
	CreateTime time.Time  `json:"create_time"`
	CreateBy   string     `json:"create_by,omitempty"`
	ExpireTime *time.Time `json:"expire_time,omitempty"`
}

func (k *keyRecord) principal() (*Principal, error) {
	role, err := ParseRole(k.Role)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.ID, err)
	}
	p := &Principal{ID: k.ID, Name: k.Name, Role: role, Project: k.Project, Device: k.Device}
	if p.Name == "" {
		p.Name = k.ID
	}
	if k.ExpireTime != nil {
		p.expires = *k.ExpireTime
	}
	b, err := hex.DecodeString(k.Hash)
	if err != nil || len(b) != len(p.credential) {
		return nil, fmt.Errorf("key %s: damaged hash", k.ID)
	}
	copy(p.credential[:], b)
	return p, nil
}

func (k *keyRecord) proto(revision uint64) *pb.Key {
	out := &pb.Key{Id: k.ID, Name: k.Name, Role: k.Role, Project: k.Project, Device: k.Device,
		CreateTime: timestamppb.New(k.CreateTime), Revision: revision}
	if k.ExpireTime != nil {
		out.ExpireTime = timestamppb.New(*k.ExpireTime)
	}
	return out
}

func decodeKey(value []byte) (*keyRecord, error) {
	var k keyRecord
	if err := json.Unmarshal(value, &k); err != nil {
		return nil, fmt.Errorf("decode key: %w", err)
	}
	return &k, nil
}

// newToken gives `plx_ID_SECRET` and its id. The secret has 130 random bits.
func newToken() (token, id string) {
	id = strings.ToLower(rand.Text()[:keyIDLength])
	return tokenPrefix + id + "_" + strings.ToLower(rand.Text()), id
}

// keyIDOf reads the id out of a token, false where it is none.
func keyIDOf(token string) (string, bool) {
	rest, ok := strings.CutPrefix(token, tokenPrefix)
	if !ok || len(token) > maxToken {
		return "", false
	}
	id, secret, ok := strings.Cut(rest, "_")
	return id, ok && len(id) == keyIDLength && secret != ""
}

// NewKey is what a key shall be.
type NewKey struct {
	Name string
	Role Role
	// Project that the key is limited to; empty: all.
	Project string
	// Device is the twin's id `project/name` (role device only).
	Device string
	// Expires; zero: never.
	Expires time.Time
	// By names the creator.
	By string
}

func (n *NewKey) check(now time.Time) error {
	switch {
	case n.Role == RoleNone || n.Role > RoleAdmin:
		return invalid("key.role", "want admin, operator, viewer or device")
	case len(n.Name) > maxKeyName || strings.ContainsFunc(n.Name, func(r rune) bool { return r < ' ' }):
		return invalid("key.name", "at most 128 bytes, without control characters")
	case n.Role == RoleDevice && n.Device == "":
		return invalid("key.device", "a device's key needs the id of its twin")
	case n.Role != RoleDevice && n.Device != "":
		return invalid("key.device", "only keys of role device have one")
	case !n.Expires.IsZero() && !n.Expires.After(now):
		return invalid("key.expire_time", "is in the past")
	}
	if n.Project != "" && !validProject(n.Project) {
		return invalid("key.project", fmt.Sprintf("%q is no project's name", n.Project))
	}
	if n.Role == RoleDevice {
		project, _, err := splitID(n.Device)
		if err != nil {
			return invalid("key.device", err.Error())
		}
		if n.Project != "" && n.Project != project {
			return invalid("key.device", fmt.Sprintf("%s is not in project %s", n.Device, n.Project))
		}
		n.Device, n.Project = canonicalID(n.Device), project
	}
	return nil
}

// CreateKey commits a key and returns it with its secret, which cannot be had again.
func CreateKey(ctx context.Context, store *storage.Store, n NewKey) (*pb.Key, string, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	if err := n.check(now); err != nil {
		return nil, "", err
	}
	token, id := newToken()
	rec := &keyRecord{ID: id, Name: n.Name, Role: n.Role.String(), Project: n.Project, Device: n.Device,
		Hash: hashOf(token).String(), CreateTime: now, CreateBy: n.By}
	if !n.Expires.IsZero() {
		t := n.Expires.UTC()
		rec.ExpireTime = &t
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return nil, "", fmt.Errorf("encode key: %w", err)
	}
	revision, err := store.Commit(ctx, &storage.Txn{
		Guards: []storage.Guard{{Table: TableKey, Key: id}},
		Writes: []storage.Write{{Table: TableKey, Key: id, Value: value}},
	})
	if err != nil {
		return nil, "", fmt.Errorf("create key: %w", err)
	}
	return rec.proto(revision), token, nil
}

// deleteKey removes a key as it was read.
func deleteKey(ctx context.Context, store *storage.Store, rec storage.Record) error {
	_, err := store.Commit(ctx, &storage.Txn{
		Guards: []storage.Guard{{Table: TableKey, Key: rec.Key, Revision: rec.Revision}},
		Writes: []storage.Write{{Table: TableKey, Key: rec.Key}},
	})
	if err != nil {
		return fmt.Errorf("delete key: %w", err)
	}
	return nil
}

var errNoSuchKey = errors.New("no such key")
