// Command pollux runs a node of Pollux and speaks to one.
//
// This package reads flags, runs, and chooses the exit code: 0, 1 (failed) or 2 (wrong usage). Everything else is in
// the packages that it calls.
package main

import (
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux"
	"github.com/polluxhq/pollux/wasm"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// version of this build; the Makefile sets it.
var version = "dev"

func main() {
	if len(os.Args) > 1 && os.Args[1] == compileCommand {
		os.Exit(wasm.CompileChild(os.Args[2:], os.Stdin, os.Stdout))
	}
	pollux.Version = version
	// No signals are taken here: Ctrl-C ends a watch at once, and serve stops in its own order.
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, getenv: os.Getenv}
	os.Exit(run(context.Background(), a, os.Args[1:]))
}

// addCommands lists what the program can do, as help groups it.
func addCommands(a *app, root *cobra.Command) {
	for _, g := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"On this machine:", []*cobra.Command{serveCommand(a), simCommand(a), configCommand(a), versionCommand(a)}},
		{"Devices and places:", []*cobra.Command{twinCommand(a), driverCommand(a), modelCommand(a), inboxCommand(a), ingestCommand(a), zoneCommand(a), systemCommand(a), relationCommand(a), walkCommand(a), projectCommand(a), aliasCommand(a), topicCommand(a), sinkCommand(a), sourceCommand(a), searchCommand(a), scheduleCommand(a), ruleCommand(a), logicCommand(a), alarmCommand(a), notifierCommand(a), detectorCommand(a), historyCommand(a), retentionCommand(a),
			applyCommand(a), exportCommand(a), importCommand(a)}},
		{"The cluster and who may use it:", []*cobra.Command{statusCommand(a), clusterCommand(a), watchCommand(a), keyCommand(a), loginCommand(a),
			backupCommand(a), restoreCommand(a)}},
	} {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
}

// root assembles the command line.
func root(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pollux",
		Short: "Digital twins that outlive their devices' power",
		Long: `Pollux runs digital twins: each device has a living counterpart with state, history and commands,
and a driver in a sandbox that speaks the device's protocol.

Start a node with ` + "`pollux serve`" + `. The other commands speak to a node: the one on this machine, or the one that
POLLUX_URL and POLLUX_API_KEY name.`,
		Example: `  pollux serve                                   start a node on this machine
  pollux driver add pjlink                       install a driver that pollux carries
  pollux twin create beamer --driver pjlink --uri tcp://10.0.0.7:4352
  pollux twin call beamer refresh
  pollux twin set beamer power on
  pollux login                                   open the console in a browser`,
		Version:       version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	group(cmd)
	cmd.SetIn(a.in)
	cmd.SetOut(a.out)
	cmd.SetErr(a.err)
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err} })
	// What fails before a command runs is the command line itself.
	cmd.PersistentPreRun = func(*cobra.Command, []string) { a.started = true }
	addCommands(a, cmd)
	return cmd
}

// run executes the command line and gives the exit code. Errors are explained on a.err.
func run(ctx context.Context, a *app, args []string) int {
	cmd := root(a)
	a.args = args
	cmd.SetArgs(args)
	ran, err := cmd.ExecuteContextC(ctx)
	for _, hang := range a.hang {
		hang()
	}
	if err == nil {
		return exitOK
	}
	var usage *usageError
	if errors.As(err, &usage) || !a.started {
		a.errorf("%v\n\nUsage:\n  %s\n\nSee `%s --help`.\n", err, ran.UseLine(), ran.CommandPath())
		return exitUsage
	}
	if !errors.Is(err, errTests) { // they told already what is wrong
		a.explain(err)
	}
	return exitFailed
}
