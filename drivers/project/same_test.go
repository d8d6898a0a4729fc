package project_test

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/polluxhq/pollux/drivers/project"
)

// The same sources make the same file, whatever commit they are in: a version of a driver keeps its file, and the next release of whoever
// keeps drivers in git would else bring another one under its name.
func TestACommitMakesNoOtherFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "lamp")
	if _, err := project.New(dir, "lamp", project.Go); err != nil {
		t.Fatal(err)
	}
	build := func() []byte {
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
	first := build()
	git("commit", "-q", "--allow-empty", "-m", "two")
	if !bytes.Equal(build(), first) {
		t.Error("the driver is another file with the next commit")
	}
}
