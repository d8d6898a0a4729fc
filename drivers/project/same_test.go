package project_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/polluxhq/pollux/drivers/project"
)

// built is the file of the project in a directory.
func built(t *testing.T, dir string) []byte {
	t.Helper()
	p, err := project.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	file, err := p.Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// The same sources make the same file, whatever commit they are in: a version of a driver keeps its file, and the next release of whoever
// keeps drivers in git would else bring another one under its name.
func TestACommitMakesNoOtherFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lamp")
	if _, err := project.New(dir, "lamp", project.Go); err != nil {
		t.Fatal(err)
	}
	git := func(args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-c", "user.name=a", "-c", "user.email=a@localhost", "-c", "commit.gpgsign=false"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
	}
	git("init", "-q")
	git("add", "-A")
	git("commit", "-q", "-m", "one")
	first := built(t, dir)
	git("commit", "-q", "--allow-empty", "-m", "two")
	if !bytes.Equal(built(t, dir), first) {
		t.Error("the driver is another file with the next commit")
	}
}
