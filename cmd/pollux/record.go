package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/replay"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
)

// maxRecording in bytes is the largest file of a recording that is read.
const maxRecording = 1 << 30

func twinRecord(a *app) *cobra.Command {
	var file string
	var span time.Duration
	var size int64
	cmd := &cobra.Command{
		Use:   "record ID --for TIME -f FILE",
		Short: "Record every call of a twin's driver into a file, to replay it offline",
		Long: `Records what goes into the twin's driver (events, bytes, settings, commands, the answers of its device and of other
twins) and what comes out, until the time is over, the file is full, or you stop it (Ctrl-C). Secrets read ***. Nothing is
recorded while nobody looks.`,
		Example: `  pollux twin record beamer --for 10m -f beamer.rec
  pollux driver replay beamer.rec --driver build/pjlink.wasm     what the fix does otherwise`,
		Args:              exactly("ID"),
		ValidArgsFunction: a.completeTwins(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if span <= 0 || size <= 0 {
				return usagef("--for and --max-mib: want more than 0")
			}
			if file == "" {
				file = strings.ReplaceAll(bare(args[0]), "/", "_") + ".rec"
			}
			n, err := a.dial()
			if err != nil {
				return err
			}
			return a.record(cmd.Context(), n, args[0], file, span, size<<20)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "file to write (default ID.rec)")
	cmd.Flags().DurationVar(&span, "for", 10*time.Minute, "how long")
	cmd.Flags().Int64Var(&size, "max-mib", 64, "stop when the file is so large, in MiB")
	return cmd
}

// record writes a recording until its time or room is over, or ctx ends.
func (a *app) record(ctx context.Context, n *node, id, file string, span time.Duration, size int64) (err error) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	stream, err := n.twins.RecordTwin(ctx, req(&pb.RecordTwinRequest{Id: id}))
	if err != nil {
		return err
	}
	defer stream.Close()
	var out *os.File
	var written int64
	var calls, missed uint64
	for written < size && stream.Receive() {
		part := stream.Msg()
		if out == nil { // the node knows the twin: now the file may be made
			if out, err = os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, out.Close()) }()
			a.errorf("recording %s for %s, or until Ctrl-C\n", id, span)
		}
		missed += part.Missed
		if part.GetCall() != nil {
			calls++
		}
		if part.Part == nil && part.Missed == 0 {
			continue
		}
		w, err := replay.Write(out, part)
		if err != nil {
			return err
		}
		written += int64(w)
	}
	if err := stream.Err(); err != nil && ctx.Err() == nil && connect.CodeOf(err) != connect.CodeCanceled && connect.CodeOf(err) != connect.CodeDeadlineExceeded {
		return err
	}
	a.printf("%s: %d calls, %s", file, calls, bytesText(uint64(written)))
	if missed > 0 {
		a.printf(", %d calls missed because this connection was too slow", missed)
	}
	a.printf("\n")
	return nil
}

func driverReplay(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "replay RECORDING --driver FILE",
		Short: "Call a driver with what was recorded, and show what it does otherwise",
		Long: `Replays a recording (pollux twin record) against another version of the driver, here and without any device: each
recorded call is made again, at its recorded time, with the recorded answers. Shown is where the driver sends, answers,
reports or fails otherwise, and how the state differs at the end. A version other than the recorded one takes the state over
first, as a running twin's would.

Exit code 0: it does the same; 1: it does not.`,
		Example: `  pollux driver replay beamer.rec --driver build/pjlink.wasm
  pollux driver replay beamer.rec --driver pjlink.js -o json`,
		Args: exactly("RECORDING"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return usagef("--driver is missing: the file of the version to try")
			}
			if err := a.checkOutput(); err != nil {
				return err
			}
			res, err := replayFile(cmd.Context(), args[0], file)
			if err != nil {
				return err
			}
			if err := a.showReplay(res); err != nil {
				return err
			}
			if len(res.Differences) > 0 {
				return errDifferent
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&file, "driver", "", "the driver's `FILE`, WASM or JavaScript")
	return cmd
}

// errDifferent ends a replay that showed differences; they were printed.
var errDifferent = errors.New("the driver does otherwise than what was recorded")

// replayFile replays a recording on this machine.
func replayFile(ctx context.Context, recording, driver string) (*replay.Result, error) {
	in, err := os.Open(recording)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	parts, err := replay.Read(io.LimitReader(in, maxRecording))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", recording, err)
	}
	file, err := readFile(driver, rpc.MaxUpload)
	if err != nil {
		return nil, err
	}
	clock := &replay.Clock{}
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: verifyCache(), Compiler: driverCompiler(), Now: clock.Now})
	if err != nil {
		return nil, err
	}
	defer box.Close()
	run, err := box.Load(ctx, file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", driver, err)
	}
	defer run.Close()
	return replay.Run(ctx, parts, run, clock)
}

// showReplay prints a result. It is no message of the API.
func (a *app) showReplay(r *replay.Result) error {
	if !a.table() {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if a.output == "yaml" {
			return a.yamlOf(text)
		}
		_, err = a.out.Write(append(text, '\n'))
		return err
	}
	return a.show(nil, func(w io.Writer) { drawReplay(w, r) })
}

func drawReplay(w io.Writer, r *replay.Result) {
	differences := "differences"
	if len(r.Differences) == 1 {
		differences = "difference"
	}
	row(w, fmt.Sprintf("%d calls of %s, replayed with %s: %d %s", r.Calls, r.From, r.To, len(r.Differences), differences))
	row(w, fmt.Sprintf("failed: %d when recorded, %d now", r.FailedBefore, r.FailedNow))
	if r.Missed > 0 {
		row(w, fmt.Sprintf("%d calls are missing from the recording: what depends on them may differ", r.Missed))
	}
	if len(r.Differences) == 0 {
		return
	}
	row(w)
	row(w, "CALL", "TIME", "EVENT", "WHAT", "RECORDED", "REPLAYED")
	for _, d := range r.Differences {
		call, at := "–", "–"
		if d.Call > 0 {
			call = fmt.Sprint(d.Call)
		}
		if !d.Time.IsZero() {
			at = d.Time.UTC().Format(clock)
		}
		row(w, call, at, d.Event, d.What, dash(short(d.Recorded)), dash(short(d.Replayed)))
	}
	if r.Truncated {
		row(w, "and more, which are not shown")
	}
}

// short cuts a long text for a table.
func short(text string) string {
	const most = 60
	if r := []rune(text); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return text
}
