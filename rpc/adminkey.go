package rpc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/polluxhq/pollux/storage"
)

// AdminKeyFile is the name of the administrator's key in a node's data directory.
const AdminKeyFile = "admin.key"

// maxKeyFile in bytes; a longer file is no key file.
const maxKeyFile = 4096

// EnsureAdminKey makes sure that the file at path holds an administrator's key that the store knows, and says whether
// it made one. A lost or outdated file is replaced by a new key; the former key stays valid until it is deleted, as
// other machines may use it. The file is readable by its owner alone. It blocks until the key is committed.
func EnsureAdminKey(ctx context.Context, store *storage.Store, path string) (created bool, err error) {
	token, err := ReadKeyFile(path)
	switch {
	case err == nil:
		known, err := adminKeyKnown(store, token)
		if err != nil || known {
			return false, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	_, token, err = CreateKey(ctx, store, NewKey{Name: "admin", Role: RoleAdmin, By: "first start"})
	if err != nil {
		return false, fmt.Errorf("administrator's key: %w", err)
	}
	if err := writeKeyFile(path, token); err != nil {
		return false, fmt.Errorf("administrator's key: %w", err)
	}
	return true, nil
}

func adminKeyKnown(store *storage.Store, token string) (bool, error) {
	id, ok := keyIDOf(token)
	if !ok {
		return false, nil
	}
	rec, ok, err := store.Get(TableKey, id)
	if err != nil || !ok {
		return false, err
	}
	key, err := decodeKey(rec.Value)
	if err != nil {
		return false, err
	}
	return key.Hash == hashOf(token).String() && key.Role == RoleAdmin.String(), nil
}

// ReadKeyFile reads a key file as EnsureAdminKey writes it: one line. A missing file is fs.ErrNotExist.
func ReadKeyFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read key file: %w", err)
	}
	defer f.Close()
	buf := make([]byte, maxKeyFile)
	n, err := f.Read(buf)
	if err != nil && n == 0 {
		// An empty file is one whose writing was cut short.
		return "", nil //nolint:nilerr // replaced by the caller
	}
	line, _, _ := strings.Cut(string(buf[:n]), "\n")
	return strings.TrimSpace(line), nil
}

// writeKeyFile replaces the file whole: temporary file, fsync, rename, fsync of the directory.
func writeKeyFile(path, token string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".admin.key-*") // CreateTemp gives mode 0600
	if err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(token + "\n")
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("write key file: %w", err)
	}
	return nil
}
