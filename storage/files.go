package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fileCategory marks the store's own files in Pebble's statistics of writes.
const fileCategory = vfs.WriteCategoryUnspecified

// readSmall reads a file of one line; "" where there is none.
func readSmall(fs vfs.FS, name string) (string, error) {
	b, err := readFile(fs, name, 64<<10)
	if errors.Is(err, errNoFile) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

var errNoFile = errors.New("no such file")

// readFile reads a file of at most limit bytes; errNoFile where there is none.
func readFile(fs vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fs.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errNoFile
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("read %s: has %d bytes, at most %d are expected", name, info.Size(), limit)
	}
	b := make([]byte, info.Size())
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}

// writeSmall writes dir/name whole or not at all: temporary file, fsync, rename, fsync of the directory.
func writeSmall(fs vfs.FS, dir, name, content string) error {
	return writeFile(fs, dir, name, []byte(content))
}

func writeFile(fs vfs.FS, dir, name string, content []byte) error {
	target, temp := path.Join(dir, name), path.Join(dir, name+".tmp")
	f, err := fs.Create(temp, fileCategory)
	if err != nil {
		return diskError("write "+target, err)
	}
	// vfs allows Write to change what it is given.
	for chunk := make([]byte, min(len(content), 1<<20)); len(content) > 0 && err == nil; {
		n := copy(chunk, content)
		_, err = f.Write(chunk[:n])
		content = content[n:]
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fs.Rename(temp, target)
	}
	if err != nil {
		return diskError("write "+target, errors.Join(err, fs.Remove(temp)))
	}
	return syncDir(fs, dir)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return diskError("sync directory "+dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return diskError("sync directory "+dir, err)
	}
	return nil
}

// makeDir makes a directory with its parents, so that they are there after a power loss.
func makeDir(fs vfs.FS, dir string) error {
	var made []string
	for d := dir; ; d = fs.PathDir(d) {
		if _, err := fs.Stat(d); err == nil || d == fs.PathDir(d) {
			break
		}
		made = append(made, d)
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return diskError("make directory "+dir, err)
	}
	for _, d := range made {
		parent := fs.PathDir(d)
		if parent == "" {
			parent = "."
		}
		if err := syncDir(fs, parent); err != nil {
			return err
		}
	}
	return nil
}
