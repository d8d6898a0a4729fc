package cluster

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
)

// tableCluster holds what is one for the whole cluster.
const tableCluster = "cluster"

// EnsureID gives the cluster's id, which its first node draws. A node with data of another cluster never joins this one.
func EnsureID(ctx context.Context, r Records) (string, error) {
	const key = "id"
	id, err := r.Get(tableCluster, key)
	if err != nil {
		return "", fmt.Errorf("read cluster id: %w", err)
	}
	if id != nil {
		return string(id), nil
	}
	var b [8]byte
	rand.Read(b[:])
	fresh := "c" + hex.EncodeToString(b[:])
	err = commit(ctx, r, Txn{Guards: []TableRecord{record(tableCluster, key, nil)}, Writes: []TableRecord{record(tableCluster, key, []byte(fresh))}})
	if errors.Is(err, ErrConflict) {
		return EnsureID(ctx, r)
	}
	if err != nil {
		return "", fmt.Errorf("write cluster id: %w", err)
	}
	return fresh, nil
}
