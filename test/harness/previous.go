package harness

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// maxBack bounds how far Previous looks for a commit that builds.
const maxBack = 10

// Previous builds the program as it was at the newest commit before this one that builds ($POLLUX_PREVIOUS names one), in
// build/previous, and gives its path and the commit. It skips the test where there is no history, and where that program
// knows no cluster.
func Previous(t testing.TB) (path, commit string) {
	t.Helper()
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir, named := strings.TrimSpace(string(root)), os.Getenv("POLLUX_PREVIOUS")
	for back := 1; ; back++ {
		commit, err = gitLine(dir, "rev-parse", "--short", cmp.Or(named, fmt.Sprintf("HEAD~%d", back)))
		if err != nil {
			t.Skipf("there is no commit before this one to upgrade from: %v", err)
		}
		path = filepath.Join(dir, "build", "previous", "pollux-"+commit)
		if _, err := os.Stat(path); err == nil {
			break
		}
		if err = buildAt(dir, commit, path); err == nil {
			break
		}
		if named != "" || back == maxBack {
			t.Fatalf("build %s: %v", commit, err)
		}
		t.Logf("not from %s, it does not build: %v", commit, err)
	}
	help, err := exec.Command(path, "serve", "--help").CombinedOutput()
	if err != nil || !strings.Contains(string(help), "--bootstrap-expect") {
		t.Skipf("the program of %s knows no cluster", commit)
	}
	return path, commit
}

func gitLine(dir string, args ...string) (string, error) {
	cmd := exec.Command("git", args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		return "", fmt.Errorf("git %s: %s", args[0], strings.TrimSpace(string(failed.Stderr)))
	}
	return strings.TrimSpace(string(out)), err
}

// buildAt checks a commit out beside the tree and builds it, with the console and the drivers that are built here.
func buildAt(dir, commit, path string) error {
	tree := filepath.Join(dir, "build", "previous", "tree-"+commit)
	if err := os.MkdirAll(filepath.Dir(tree), 0o755); err != nil {
		return err
	}
	defer func() {
		_, _ = gitLine(dir, "worktree", "remove", "--force", tree)
		_ = os.RemoveAll(tree)
	}()
	if _, err := gitLine(dir, "worktree", "add", "--force", "--detach", tree, commit); err != nil {
		return err
	}
	for _, dist := range []string{"web/dist", "drivers/catalog/dist"} {
		if out, err := exec.Command("cp", "-a", filepath.Join(dir, dist)+"/.", filepath.Join(tree, dist)).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, "-ldflags", "-X main.version="+commit, "./cmd/pollux")
	cmd.Dir = tree
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
