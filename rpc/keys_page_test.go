package rpc

import (
	"flag"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of docs/keys.md anew")

// TestKeysPage: the table in docs/keys.md is that of the door.
func TestKeysPage(t *testing.T) {
	const page, begin, end = "../docs/keys.md", "<!-- calls -->\n", "<!-- end of calls -->\n"
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", page)
	}
	want := before + begin + callsTable() + end + after
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(text) != want {
		t.Errorf("%s is not up to date: go test ./rpc -run TestKeysPage -update", page)
	}
}

// callsTable has a line for each action, and two where it is asked of a project's things and of what belongs to none.
func callsTable() string {
	calls := map[Action][2][]string{} // of a project's things, of no project's
	for name, p := range procedures() {
		if p.open || p.actionOf != nil {
			continue
		}
		of := 0
		// Those that take no notice of the request are of no project.
		if r, err := p.resource(nil, &Principal{Project: "p"}); err == nil && r.Project == Everywhere {
			of = 1
		}
		x := calls[p.action]
		x[of] = append(x[of], "`"+path.Base(name)+"`")
		calls[p.action] = x
	}
	var b strings.Builder
	b.WriteString("| Right | Least role | Key of one project | Calls |\n|---|---|---|---|\n")
	for a := range actionCount {
		for of, all := range calls[a] {
			where := "in its project"
			if of == 1 {
				where = "no"
				if rights[a].shared {
					where = "yes"
				}
			}
			if slices.Sort(all); len(all) > 0 {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", a, rights[a].least, where, strings.Join(slices.Compact(all), ", "))
			}
		}
	}
	return b.String()
}
