package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/conformance"
	"github.com/polluxhq/pollux/drivers/project"
	"github.com/polluxhq/pollux/drivers/script"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
)

func driverPush(a *app) *cobra.Command {
	var stage, noTest bool
	cmd := &cobra.Command{
		Use:   "push [DIR|FILE]",
		Short: "Build, test, verify and install a driver",
		Long: `Builds the project, runs its tests and the probes of the contract, and sends the file to the node, which checks it again before it
takes it. A .wasm or .js FILE is sent without that. The same bytes again change nothing; another file of the same version is refused:
raise the version. Twins that ask for the driver without a version go over to it, unless it is staged for a rollout.`,
		Example: `  pollux driver push                        the project in this directory
  pollux driver push ./my-lamp --stage      install it, and give it to twins by a rollout
  pollux driver push build/my-driver.wasm   a file that was built and tested before`,
		Args: between(0, "DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := a.pushable(cmd.Context(), dirOf(args), noTest)
			if err != nil {
				return err
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			res, err := n.drivers.UploadDriver(cmd.Context(), req(&pb.UploadDriverRequest{File: file, Stage: stage}))
			if err != nil {
				return err
			}
			if res.Msg.Staged && a.table() {
				defer a.printf("staged: no twin goes over to it by itself; `pollux driver rollout %s@%s` begins that\n", res.Msg.Driver.Name, res.Msg.Driver.Version)
			}
			return a.installed(res.Msg, res.Msg.Driver, res.Msg.Created)
		},
	}
	cmd.Flags().BoolVar(&stage, "stage", false, "no twin goes over to it by itself")
	cmd.Flags().BoolVar(&noTest, "no-test", false, "neither test nor verify it here")
	return cmd
}

// pushable gives the file to be sent; of a project only if it passes its tests and conforms.
func (a *app) pushable(ctx context.Context, path string, noTest bool) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return readFile(path, rpc.MaxUpload)
	}
	p, err := project.Find(path)
	if err != nil {
		return nil, err
	}
	file, err := p.Build(ctx)
	if err != nil || noTest {
		return file, err
	}
	if scripts, err := p.Scripts(); err != nil {
		return nil, err
	} else if len(scripts) == 0 {
		a.errorf("warning: %s has no tests\n", p.Dir)
	} else if err := a.quietly().testDriver(ctx, p, file, &testFlags{shuffle: true}); err != nil {
		return nil, err
	}
	tests, err := p.Tests()
	if err != nil {
		return nil, err
	}
	return file, conforms(ctx, file, tests)
}

// quietly is the app with its output on the other stream, so that what a command prints stays what it is for.
func (a *app) quietly() *app {
	other := *a
	other.out, other.output = a.err, "table"
	return &other
}

// conforms runs the probes of the contract.
func conforms(ctx context.Context, file []byte, tests []*script.File) error {
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: verifyCache(), Compiler: driverCompiler()})
	if err != nil {
		return err
	}
	report, err := conformance.Run(ctx, box, file, conformance.Options{Scripts: tests})
	if err := errors.Join(err, box.Close()); err != nil {
		return err
	}
	if report.Conforms {
		return nil
	}
	var failed []string
	for _, p := range report.Probes {
		if p.Outcome == conformance.Failed {
			failed = append(failed, p.Name+": "+p.Detail)
		}
	}
	return fmt.Errorf("the driver does not conform to %s:\n  %s", report.Contract, strings.Join(failed, "\n  "))
}
