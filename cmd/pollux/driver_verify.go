package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/conformance"
	"github.com/polluxhq/pollux/drivers/project"
	"github.com/polluxhq/pollux/drivers/script"
	"github.com/polluxhq/pollux/rpc"
)

func driverVerify(a *app) *cobra.Command {
	var seed uint64
	cmd := &cobra.Command{
		Use:   "verify FILE|DIR",
		Short: "Check a driver against the contract, without a node",
		Long: `Runs a driver file, a .wasm or a .js, through what the contract demands of every driver: its structure and manifest, and
then some thousand calls in the sandbox: events and commands that it cannot know, broken input, frames that no device
should send, refusals, deadlines, fresh instances. It needs no device and no node.

Of a project's directory the driver is built first. What the device says in the tests beside it (NAME.test.yaml) is played to the
driver, too, and what it reports is held against its model; whether the tests pass is told by ` + "`pollux driver test`" + `.

Frames that no device should send are drawn by chance: the report has their --seed, with which the same ones come again, and another
one draws others.

A probe is passed, warned (allowed, but look at it), skipped (it does not apply), or failed. The exit code is 1 where one failed.
The contract is in drivers/ABI.md.`,
		Example: "  pollux driver verify build/my-driver.wasm\n  pollux driver verify my-driver.js -o json\n  pollux driver verify .\n  pollux driver verify . --seed 20260105",
		Args:    exactly("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, tests, err := verifiable(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: verifyCache()})
			if err != nil {
				return err
			}
			defer func() { _ = box.Close() }()
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
			defer stop()
			report, err := conformance.Run(ctx, box, file, conformance.Options{Scripts: tests, Seed: seed})
			if errors.Is(err, context.Canceled) {
				return errors.New("interrupted")
			}
			if err != nil {
				return err
			}
			if err := a.showReport(report); err != nil {
				return err
			}
			if !report.Conforms {
				return fmt.Errorf("%s does not conform to %s: %d of %d probes failed", args[0], report.Contract,
					report.Count(conformance.Failed), len(report.Probes))
			}
			return nil
		},
	}
	cmd.Flags().Uint64Var(&seed, "seed", conformance.DefaultSeed, "what the frames that no device should send are drawn from; 0 is the default")
	return cmd
}

// verifiable reads a driver's file, or builds the project of a directory. The tests are those that lie beside it.
func verifiable(ctx context.Context, path string) (file []byte, tests []*script.File, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if strings.HasSuffix(path, ".json") || strings.HasSuffix(path, script.Suffix) {
		return nil, nil, fmt.Errorf("%s is no driver, but belongs to one: pollux driver verify %s builds the project and verifies it", path, filepath.Dir(path))
	}
	p, notFound := project.Find(path)
	switch {
	case info.IsDir() && notFound != nil:
		return nil, nil, notFound
	case info.IsDir():
		file, err = p.Build(ctx)
	default:
		file, err = readFile(path, rpc.MaxUpload)
	}
	if err == nil && notFound == nil {
		tests, err = p.Tests()
	}
	return file, tests, err
}

// verifyCache keeps compiled code between two runs; empty: nowhere.
func verifyCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "pollux", "drivers")
}

func (a *app) showReport(r *conformance.Report) error {
	if !a.table() {
		return a.plain(r)
	}
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	row(w, "PROBE", "OUTCOME", "MS", "DETAIL")
	for _, p := range r.Probes {
		row(w, p.Name, string(p.Outcome), fmt.Sprintf("%.1f", p.Millis), dash(p.Detail))
		if p.Outcome == conformance.Failed {
			row(w, "", "", "", "demanded: "+p.Demand)
		}
	}
	if err := w.Flush(); err != nil {
		return err
	}
	verdict := "conforms to"
	if !r.Conforms {
		verdict = "does not conform to"
	}
	a.printf("\n%s %s %s: %d passed, %d warned, %d skipped, %d failed; %d calls, the longest %.1f ms; seed %d; %s, sha256 %.12s\n",
		strings.TrimSpace(dash(r.Driver)+" "+r.Version), verdict, r.Contract, r.Count(conformance.Passed), r.Count(conformance.Warned),
		r.Count(conformance.Skipped), r.Count(conformance.Failed), r.Calls, r.LongestMS, r.Seed, bytesText(uint64(r.Bytes)), r.Digest)
	return nil
}

// plain prints a value that is no message as JSON or YAML.
func (a *app) plain(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	if a.output == "yaml" {
		return a.yamlOf(b)
	}
	_, err = a.out.Write(append(b, '\n'))
	return err
}

func driverSchema(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "manifest-schema",
		Short: "Print the JSON Schema of a driver's manifest",
		Long: `Prints the JSON Schema of driver.json, the manifest of a driver in any language but JavaScript. Editors complete and check
a manifest by it.`,
		Example: "  pollux driver manifest-schema > driver.schema.json",
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(drivers.ManifestSchema())
			return err
		},
	}
}
