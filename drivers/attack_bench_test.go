package drivers_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
)

const (
	// benchWindow is how long neighbours are measured calm, then attacked, in turn, benchWindows times each: some 5,000 calls
	// of either, spread over what else the machine does. All attacks take some two minutes.
	benchWindow  = 150 * time.Millisecond
	benchWindows = 12
	// slowCall: how many calls are slower than that is told beside the p99.
	slowCall = time.Millisecond
)

// BenchmarkAttacks measures what 1,000 healthy twins notice of each attack, and prints the table of docs/bench.md. Calm and
// attacked windows take turns in one process; the p99 is that of all calls of a kind. What the attack before left is over
// when the next one begins.
func BenchmarkAttacks(b *testing.B) {
	s := newSandbox(b, drivers.SandboxOptions{CacheDir: drivertest.CacheDir(b), Compiler: drivertest.Compiler(b), MemoryBudget: attackBudget,
		VerifyTimeout: attackDeadline})
	healthy := load(b, s, drivertest.Echo(b))
	neighbours(b, healthy, until(benchWindow))
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\nattack\tattacks\tp50 calm\tp99 calm\tbeside\ttimes\tslow calm\tbeside")
	for _, a := range attacks(b, s) {
		if only := os.Getenv("ATTACK"); only != "" && !strings.Contains(a.name, only) {
			continue
		}
		_, _ = a.once()
		var calm, attacked []time.Duration
		made := int64(0)
		for range benchWindows {
			calm = append(calm, neighbours(b, healthy, until(benchWindow))...)
			made += a.during(b, func() { attacked = append(attacked, neighbours(b, healthy, until(benchWindow))...) })
		}
		slices.Sort(calm)
		slices.Sort(attacked)
		ratio := float64(quantile(attacked, 0.99)) / float64(quantile(calm, 0.99))
		_, _ = fmt.Fprintf(table, "%s\t%d\t%v\t%v\t%v\t%.2f\t%.2f %%\t%.2f %%\n", a.name, made, micros(quantile(calm, 0.5)), micros(quantile(calm, 0.99)),
			micros(quantile(attacked, 0.99)), ratio, slow(calm), slow(attacked))
		_ = table.Flush()
		bench(b, map[string]any{"name": "p99 of 1,000 healthy twins beside: " + a.name, "unit": "µs",
			"ours": float64(quantile(attacked, 0.99).Nanoseconds()) / 1000, "floor": float64(quantile(calm, 0.99).Nanoseconds()) / 1000, "ratio": ratio,
			"goal": "at most twice the calm p99", "met": ratio <= 2})
	}
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(float64(len(sorted)-1)*q)]
}

func micros(d time.Duration) time.Duration { return d.Round(time.Microsecond) }

// slow is the share of calls slower than slowCall, in per cent.
func slow(sorted []time.Duration) float64 {
	at, _ := slices.BinarySearch(sorted, slowCall)
	return 100 * float64(len(sorted)-at) / float64(len(sorted))
}
