package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// bulkFile writes a file and gives its path.
func bulkFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// says runs a command line, and holds the last line of what it prints, and its exit code, against what is wanted.
func says(t *testing.T, env []string, want string, code int, args ...string) result {
	t.Helper()
	r := cli(t.Context(), env, args...)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	if last := lines[len(lines)-1]; r.code != code || !strings.HasPrefix(last, want) {
		t.Errorf("pollux %s: %.300s [%d] %.300s, want %s [%d]", strings.Join(args, " "), last, r.code, r.err, want, code)
	}
	return r
}

// What is too much for one request, or for one transaction, is applied and imported all the same.
func TestApplyOfMuch(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	const models = 50
	var b strings.Builder
	for i := range models { // 1.5 MiB
		fmt.Fprintf(&b, "---\nmodel: {id: m%02d, thing: {\"@context\": \"https://www.w3.org/2022/wot/td/v1.1\", \"@type\": tm:ThingModel, title: M, description: %s}}\n", i, strings.Repeat("x", 30<<10))
	}
	all := bulkFile(t, "all.yaml", b.String())
	says(t, env, "dry run, nothing is committed: 50 created", 0, "apply", "--project", "much", "-f", all, "--dry-run")
	says(t, env, "50 created", 0, "apply", "--project", "much", "-f", all)
	says(t, env, "50 unchanged", 0, "apply", "--project", "much", "-f", all)
	b.Reset()
	b.WriteString("id,model")
	for i := range 30 {
		fmt.Fprintf(&b, ",labels.name-%02d", i)
	}
	for i := range 150 { // indexes take a megabyte
		fmt.Fprintf(&b, "\nt%03d,m00%s", i, strings.Repeat(","+strings.Repeat("x", 120), 30))
	}
	says(t, env, "150 created", 0, "import", "twins", "--project", "much", bulkFile(t, "all.csv", b.String()))
	for i := range 150 {
		says(t, env, "", 0, "twin", "rm", fmt.Sprintf("much/t%03d", i))
	}
	for i := range models {
		says(t, env, "", 0, "model", "rm", fmt.Sprintf("much/m%02d", i))
	}
}

// A dry run is one request; what is too much for that is said, and what to do.
func TestDryRunOfTooMuch(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	var b strings.Builder
	for i := range 550 { // 17 MB
		fmt.Fprintf(&b, "---\nmodel: {id: m%03d, thing: {\"@context\": \"https://www.w3.org/2022/wot/td/v1.1\", \"@type\": tm:ThingModel, title: M, description: %s}}\n", i, strings.Repeat("x", 31<<10))
	}
	r := cli(t.Context(), env, "apply", "--project", "toomuch", "-f", bulkFile(t, "all.yaml", b.String()), "--dry-run")
	if r.code != 1 || !strings.Contains(r.err, "a dry run is one request: try a part of it at a time") || !strings.Contains(r.err, "larger than 16777216 bytes") || r.out != "" {
		t.Errorf("[%d] %s %.300s", r.code, r.err, r.out)
	}
}

// A dry run of a list counts on what its earlier lines would make, as the import does.
func TestImportDryRunOfATree(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	list := bulkFile(t, "zones.csv", "id,parent\nroot,\nfloor,root\nroom,floor\nother,nowhere\n")
	says(t, env, "dry run, nothing is committed: 3 created, 1 refused", 1, "import", "zones", list, "--project", "tree", "--dry-run")
	says(t, env, "3 created, 1 refused", 1, "import", "zones", list, "--project", "tree")
	for _, id := range []string{"room", "floor", "root"} {
		says(t, env, "", 0, "zone", "rm", "tree/"+id)
	}
}

// What breaks a rule of the API is told with its line, and nothing is tried.
func TestApplyNamesTheLine(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	file := bulkFile(t, "x.yaml", "topic: {id: a}\n---\ntopic:\n  id: b\n  max_age: 0.5s\n---\ntopic: {id: c}\n")
	r := cli(t.Context(), env, "apply", "--project", "line", "-f", file)
	if r.code != 1 || !strings.Contains(r.err, "x.yaml:5: topic: max_age: ") || r.out != "" {
		t.Errorf("[%d] %s %s", r.code, r.out, r.err)
	}
	list := bulkFile(t, "x.csv", "id,zone,members\na,,\nb,,"+strings.Repeat("X=y;", 1001)+"\n")
	r = says(t, env, "1 created, 1 refused", 1, "import", "systems", list, "--project", "line")
	if !strings.Contains(r.out, "! system line/b (") || !strings.Contains(r.out, "x.csv:3): members: ") {
		t.Errorf("%s", r.out)
	}
	says(t, env, "", 0, "system", "rm", "line/a")
}
