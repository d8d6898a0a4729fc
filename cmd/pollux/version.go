package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

// build is what this program was made of.
type build struct {
	Version string `json:"version" yaml:"version"`
	// Commit and Time are of the source, where it was built in its repository.
	Commit string `json:"commit,omitempty" yaml:"commit,omitempty"`
	Time   string `json:"commitTime,omitempty" yaml:"commitTime,omitempty"`
	// Modified: the source had changes that are in no commit.
	Modified bool   `json:"modified,omitempty" yaml:"modified,omitempty"`
	Go       string `json:"go" yaml:"go"`
	Platform string `json:"platform" yaml:"platform"`
}

func buildOf() build {
	b := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func versionCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print what this program is; no node is asked",
		Long: `Prints the version of this program, of what it was built, and for which machine. The version of the node that runs is in
` + "`pollux status`.",
		Example: "  pollux version\n  pollux version -o json",
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			return a.showBuild(buildOf())
		},
	}
	cmd.Flags().StringVarP(&a.output, "output", "o", "table", "how to print: table, json or yaml")
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (a *app) showBuild(b build) error {
	switch a.output {
	case "json":
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		return enc.Encode(b)
	case "yaml":
		return yaml.NewEncoder(a.out).Encode(b)
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "pollux\t%s\n", b.Version)
	if b.Commit != "" {
		fmt.Fprintf(w, "commit\t%.12s%s %s\n", b.Commit, map[bool]string{true: " and changes"}[b.Modified], b.Time)
	}
	fmt.Fprintf(w, "built by\t%s for %s\n", b.Go, b.Platform)
	return w.Flush()
}
