package sink

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var filePattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

func checkFile(u *place) error {
	if u.Host != "" || !filePattern.MatchString(u.Opaque) {
		return wrong("want file:NAME, a name of a-z, 0-9, dots and dashes: the directory is the node's, and the project's in it")
	}
	return nil
}

// files keeps objects in a directory, which other nodes may share.
type files struct{ dir, node string }

func openFile(_ context.Context, u *place, o *Options, id string) (Target, error) {
	if o.Files == "" {
		return nil, errors.New("this node has no directory for files of sinks")
	}
	project, _, _ := strings.Cut(id, "/")
	return &lake{store: &files{filepath.Join(o.Files, project, u.Opaque), o.Node}}, nil
}

// put writes a file beside its place, has it synced, and renames it. What a crash leaves beside it the node's next try writes over; an owner of old,
// on another node, may be about to write the same.
func (f *files) put(_ context.Context, name string, body []byte, _ string) (err error) {
	path := filepath.Join(f.dir, filepath.FromSlash(name))
	if err := makeDir(filepath.Dir(path)); err != nil {
		return err
	}
	t, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+f.node+".tmp"), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(t.Name())
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	_, err = t.Write(body)
	err = errors.Join(err, t.Sync(), t.Close())
	if err != nil {
		return err
	}
	if err = os.Rename(t.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// makeDir makes a directory, and those above it, each durable in the one above.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o750)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeDir(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o750)
	}
	switch {
	case err == nil:
		return syncDir(filepath.Dir(dir))
	case errors.Is(err, fs.ErrExist):
		return nil // a file of that name shows when something is written into it
	}
	return err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (f *files) close() {}
