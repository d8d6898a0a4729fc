// Command bench runs the benchmarks of the project's promises and prints each as ours, floor, ratio. Floors are measured
// in the same run, by the same clients, as the bare libraries doing the bare minimum. It writes a line of JSON for each to
// the file that -o names. Figures of one run compare; absolute ones depend on the machine.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Line is one benchmark's result.
type Line struct {
	Name  string  `json:"name"`
	Unit  string  `json:"unit"`
	Ours  float64 `json:"ours"`
	Floor float64 `json:"floor,omitempty"`
	// Ratio of ours to the floor; 0 where there is no floor.
	Ratio float64 `json:"ratio,omitempty"`
	Goal  string  `json:"goal"`
	Met   bool    `json:"met"`
}

// mark begins the lines of test output that carry a Line.
const mark = "BENCH "

// suites are the go test calls that measure. Each runs in a process of its own: VictoriaMetrics is one per process.
var suites = [][2]string{
	{"./test/bench", "BenchmarkInvoke"},
	{"./test/bench", "BenchmarkSetDesired"},
	{"./test/bench", "BenchmarkPublish"},
	{"./test/bench", "BenchmarkPublishMany"},
	{"./test/bench", "BenchmarkIdleMQTT"},
	{"./test/bench", "BenchmarkIngest"},
	{"./test/bench", "BenchmarkTopic"},
	{"./test/bench", "BenchmarkQueryHistory"},
	{"./storage/journal", "BenchmarkFilter"},
	{"./test/bench", "BenchmarkImport"},
	{"./test/bench", "BenchmarkSwap"},
	{"./drivers", "BenchmarkDriverEvent"},
	{"./drivers", "BenchmarkManyTwins"},
	{"./actors", "BenchmarkSwap"},
	{"./actors", "BenchmarkWatchers"},
	{"./actors", "BenchmarkRunInRoute"},
	{"./actors/wheel", "BenchmarkPendingTimers"},
	{"./actors", "BenchmarkDurableTimers"},
	{"./test/bench", "BenchmarkWatchStreams"},
	{"./test/bench", "BenchmarkRuleLatency"},
	{"./test/bench", "BenchmarkRulesByTemplate"},
	{"./actors/search", "BenchmarkSearch"},
	{"./drivers", "BenchmarkUpload"},
	{"./drivers", "BenchmarkAttacks"},
	{"./test/bench", "BenchmarkHostile"},
	{"./drivers", "BenchmarkScriptLoop"},
	{"./drivers", "BenchmarkScriptJSON"},
	{"./drivers", "BenchmarkScriptFresh"},
	{"./drivers", "BenchmarkScriptUpload"},
	{"./wasm", "BenchmarkMetered"},
	{"./wasm", "BenchmarkMeteredStop"},
	{"./wasm", "BenchmarkFresh"},
	{"./test/bench", "BenchmarkActiveTwins"},
	{"./test/bench", "BenchmarkKnownTwins"},
	{"./storage/history", "BenchmarkSamples"},
	{"./test/bench", "BenchmarkInvokeRemote"},
	{"./cluster/peer", "BenchmarkPeerOneWay"},
	{"./cluster/peer", "BenchmarkPeerRequest"},
	{"./cluster", "BenchmarkRetarget"},
	{"./test/bench", "BenchmarkSetDesiredCluster"},
	{"./test/bench", "BenchmarkIngestCluster"},
	{"./test/bench", "BenchmarkPublishCluster"},
	{"./test/bench", "BenchmarkRuleLatencyCluster"},
	{"./test/bench", "BenchmarkNodeLoss"},
	{"./test/bench", "BenchmarkDrain"},
	{"./test/bench", "BenchmarkJoin"},
}

func main() {
	out := flag.String("o", "", "write lines of JSON to `FILE`, anew")
	only := flag.String("run", "", "only the benchmarks whose name contains `TEXT`")
	flag.Parse()
	if err := run(*out, *only); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(file, only string) error {
	var sink io.Writer = io.Discard
	if file != "" {
		f, err := os.Create(file)
		if err != nil {
			return err
		}
		defer f.Close()
		sink = f
	}
	row(os.Stdout, "benchmark", "unit", "ours", "floor", "ratio", "met", "goal")
	var faults []error
	for _, s := range suites {
		if !strings.Contains(s[1], only) {
			continue
		}
		fmt.Fprintf(os.Stderr, "measuring %s\n", strings.TrimPrefix(s[1], "Benchmark"))
		err := measure(s[0], s[1], func(l Line) error {
			print(os.Stdout, l)
			return json.NewEncoder(sink).Encode(l)
		})
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", s[1], err))
		}
	}
	return errors.Join(faults...)
}

// measure runs a benchmark and hands on each of its lines as it comes. What else it prints is in the error, if it fails.
func measure(pkg, name string, each func(Line) error) error {
	cmd := exec.Command("go", "test", "-run", "^$", "-bench", "^"+name+"$", "-benchtime", "1x", "-timeout", "15m", pkg)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		return err
	}
	var rest strings.Builder
	measured := 0
	in := bufio.NewReader(out)
	for err == nil {
		var text string
		text, err = in.ReadString('\n')
		_, line, ok := strings.Cut(text, mark)
		if !ok {
			rest.WriteString(text)
			continue
		}
		var l Line
		bad := json.Unmarshal([]byte(line), &l)
		if bad == nil {
			measured++
			bad = each(l)
		}
		if bad != nil {
			return errors.Join(bad, cmd.Process.Kill(), cmd.Wait())
		}
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%w\n%s", err, rest.String())
	}
	if measured == 0 {
		return fmt.Errorf("it measured nothing:\n%s", rest.String())
	}
	return nil
}

func print(w io.Writer, l Line) {
	floor, ratio, met := "", "", "no"
	if l.Floor != 0 {
		floor, ratio = figure(l.Floor), fmt.Sprintf("%.2f", l.Ratio)
	}
	if l.Met {
		met = "yes"
	}
	row(w, l.Name, l.Unit, figure(l.Ours), floor, ratio, met, l.Goal)
}

// row is printed as soon as it is measured, so its columns have widths of their own.
func row(w io.Writer, name, unit, ours, floor, ratio, met, goal string) {
	_, _ = fmt.Fprintf(w, "%-80s  %-12s  %10s  %10s  %6s  %-3s  %s\n", name, unit, ours, floor, ratio, met, goal)
}

func figure(v float64) string {
	switch {
	case v >= 1000:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3f", v)
}
