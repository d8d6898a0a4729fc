package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// cliPage lists every command; this test writes it.
const cliPage = "../../docs/cli.md"

// TestCommandsPage: docs/cli.md is what the program says of itself. `go test ./cmd/pollux -run TestCommandsPage -update` writes it.
func TestCommandsPage(t *testing.T) {
	var b bytes.Buffer
	b.WriteString("# Commands of `pollux`\n\nWritten from the program (`go test ./cmd/pollux -run TestCommandsPage -update`). Each has `--help` with examples. How what is asked of a\n" +
		"device waits, and what becomes of it, is in [commands.md](commands.md).\n")
	for _, g := range commandGroups(root(&app{getenv: func(string) string { return "" }})) {
		fmt.Fprintf(&b, "\n## %s\n\n| Command | |\n|---|---|\n", strings.TrimSuffix(g.title, ":"))
		for _, c := range g.commands {
			writeCommand(&b, c)
		}
	}
	if *update {
		if err := os.WriteFile(cliPage, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(cliPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, b.Bytes()) {
		t.Error("docs/cli.md is not what the program says: go test ./cmd/pollux -run TestCommandsPage -update")
	}
}

type commandGroup struct {
	title    string
	commands []*cobra.Command
}

func commandGroups(root *cobra.Command) (all []commandGroup) {
	for _, g := range root.Groups() {
		x := commandGroup{title: g.Title}
		for _, c := range root.Commands() {
			if c.GroupID == g.ID {
				x.commands = append(x.commands, c)
			}
		}
		slices.SortFunc(x.commands, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
		all = append(all, x)
	}
	return all
}

func writeCommand(b *bytes.Buffer, c *cobra.Command) {
	if c.Hidden {
		return
	}
	use := strings.TrimSuffix(c.UseLine(), " [flags]")
	if !c.HasSubCommands() {
		fmt.Fprintf(b, "| `%s` | %s |\n", strings.ReplaceAll(use, "|", "\\|"), strings.ReplaceAll(c.Short, "|", "\\|"))
		return
	}
	fmt.Fprintf(b, "| **%s** | %s |\n", c.CommandPath(), c.Short)
	all := slices.Clone(c.Commands())
	slices.SortFunc(all, func(a, b *cobra.Command) int { return strings.Compare(a.Name(), b.Name()) })
	for _, sub := range all {
		writeCommand(b, sub)
	}
}

// What the pages of docs/ call a command is one: `pollux …` in code, up to its flags and arguments.
func TestPagesNameCommands(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatal(err)
	}
	line := regexp.MustCompile("(?m)(?:^|`|^\\$ |^ +)pollux ([a-z][a-z0-9-]*(?: [a-z][a-z0-9-]*)*)")
	r := root(&app{getenv: func(string) string { return "" }})
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range line.FindAllStringSubmatch(string(text), -1) {
			c, rest, err := r.Find(strings.Fields(m[1]))
			if err != nil || c == r || c.HasSubCommands() && len(rest) > 0 {
				t.Errorf("%s: there is no command %q", filepath.Base(page), "pollux "+m[1])
			}
		}
	}
}
