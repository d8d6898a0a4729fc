package pki

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names of the files of an identity. Key and certificate are one file, so that a crash never leaves a pair that is none.
const (
	nodeFile   = "node.pem"
	bundleFile = "authorities.pem"
)

// Save writes key, certificate and authorities into a directory that it makes (0700; files 0600), each by a synced
// temporary file and a rename.
func (i *Identity) Save(dir string) error {
	s := i.cur.Load()
	key, err := marshalKey(s.key)
	if err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	// Authorities first: the old certificate stays good under a bundle that grew.
	if err := replaceFile(dir, bundleFile, i.Bundle()); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	if err := replaceFile(dir, nodeFile, append(certPEM(s), key...)); err != nil {
		return fmt.Errorf("save identity: %w", err)
	}
	return nil
}

// Load reads what Save wrote. Where the directory has no identity the error is fs.ErrNotExist.
func Load(dir string) (*Identity, error) {
	node, err := os.ReadFile(filepath.Join(dir, nodeFile))
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	bundle, err := os.ReadFile(filepath.Join(dir, bundleFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load identity: %s has a node's certificate and no authorities", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	key, err := parseKey(node)
	if err != nil {
		return nil, fmt.Errorf("load identity: %s: %w", filepath.Join(dir, nodeFile), err)
	}
	i, err := NewIdentity(key, node, bundle)
	if err != nil {
		return nil, fmt.Errorf("load identity from %s: %w", dir, err)
	}
	return i, nil
}

func replaceFile(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, name+".*.tmp") // made with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
