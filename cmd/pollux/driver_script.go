package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux/actors/bench"
	"github.com/polluxhq/pollux/drivers/project"
	"github.com/polluxhq/pollux/drivers/script"
)

// testFlags are the options of driver tests.
type testFlags struct {
	shuffle bool
	faults  int
	seed    uint64
	only    string
	scripts []string
	verbose bool
}

func (f *testFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.BoolVar(&f.shuffle, "shuffle", false, "run each test again with a fresh instance of the driver for each event")
	fl.IntVar(&f.faults, "faults", 0, "run each test again with a device that misbehaves, so many times per kind of fault")
	fl.Lookup("faults").NoOptDefVal = "1"
	fl.Uint64Var(&f.seed, "seed", 1, "what the faults are drawn from")
	fl.StringVar(&f.only, "run", "", "only the tests whose names match this regular expression")
	fl.StringArrayVar(&f.scripts, "script", nil, "a script that is not beside the driver (several times for several)")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "name the tests that pass, too")
}

// errTests says that tests failed; they were shown already.
var errTests = errors.New("tests failed")

func driverTest(a *app) *cobra.Command {
	f := &testFlags{}
	cmd := &cobra.Command{
		Use:   "test [DIR|FILE]",
		Short: "Run a driver's test scripts on a real twin, without a node",
		Long: `Builds the driver and runs the NAME` + script.Suffix + ` files beside it, or those one directory up, which drivers
in several languages may share. What runs is the driver in the sandbox and a twin as on a node;
the device, HTTP servers, other twins and the clock are played by the script. Nothing is opened on the network, and no time
passes but what a script says.

FILE may be a built driver, a driver in JavaScript, or one script. The exit code is 1 where a test fails.
docs/drivers.md tells what a script may say.`,
		Example: `  pollux driver test                        the project in this directory
  pollux driver test ./lamp --shuffle       also with a fresh instance for each event
  pollux driver test ./lamp --faults=5      also with frames cut, repeated and garbled, and lost connections
  pollux driver test lamp.js --run poll -v  only tests with "poll" in their names, and say which ran
  pollux driver test -o json                a report for programs`,
		Args: between(0, "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			path := "."
			if len(args) > 0 {
				path = args[0]
			}
			p, err := project.Find(path)
			if err != nil {
				return err
			}
			if strings.HasSuffix(path, script.Suffix) {
				f.scripts = append(f.scripts, path)
			}
			file, err := p.Build(cmd.Context())
			if err != nil {
				return err
			}
			return a.testDriver(cmd.Context(), p, file, f)
		},
	}
	f.add(cmd)
	return cmd
}

// testDriver runs the scripts of a project against a built driver.
func (a *app) testDriver(ctx context.Context, p *project.Project, file []byte, f *testFlags) error {
	s := &bench.Suite{Options: bench.Options{File: file, CacheDir: verifyCache()}, Shuffle: f.shuffle, Faults: f.faults, Seed: f.seed}
	var err error
	if s.Files, err = a.openScripts(p, f.scripts); err != nil {
		return err
	}
	if f.only != "" {
		if s.Only, err = regexp.Compile(f.only); err != nil {
			return usagef("--run %q: %v", f.only, err)
		}
	}
	if a.table() {
		s.Each = func(r *bench.Result) {
			if r.Failure != nil || f.verbose {
				r.Write(a.out)
			}
		}
	}
	rep, err := s.Run(ctx)
	if err != nil {
		return err
	}
	if a.table() {
		rep.Write(a.out)
	} else if err := a.plain(rep); err != nil {
		return err
	}
	if rep.Failed > 0 {
		return errTests
	}
	return nil
}

// openScripts reads the scripts that are named, or else all that are beside the driver.
func (a *app) openScripts(p *project.Project, named []string) ([]*script.File, error) {
	if len(named) == 0 {
		var err error
		if named, err = p.Scripts(); err != nil {
			return nil, err
		}
		if len(named) == 0 {
			return nil, fmt.Errorf("%s: %w: no file ends with %s; docs/drivers.md tells how to write one", p.Dir, project.ErrNoScripts, script.Suffix)
		}
		if dir := filepath.Dir(named[0]); dir != filepath.Clean(p.Dir) {
			a.errorf("%s has no tests of its own: these are those of %s, which drivers in several languages share\n", p.Dir, dir)
		}
	}
	var files []*script.File
	for _, path := range named {
		f, err := script.Open(path)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}
