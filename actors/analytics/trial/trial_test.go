package trial

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors/analytics"
)

// seeds are drawn anew for each run, so that nothing can be fitted to them.
func seeds(t testing.TB, n int) []uint64 {
	all := make([]uint64, n)
	if err := binary.Read(rand.Reader, binary.LittleEndian, all); err != nil {
		t.Fatal(err)
	}
	return all
}

// Each kind that judges is better than three-sigma at its own kind of anomaly: more of what it finds is right and more of what is wrong
// is found, put together, in the mean of twenty series that nobody has seen before.
func TestBetterThanThreeSigma(t *testing.T) {
	of := seeds(t, 20)
	t.Logf("seeds %#x", of)
	var table strings.Builder
	line := func(r Result) string { return fmt.Sprintf("%.2f %.2f %.2f", r.Precision, r.Recall, r.F1) }
	fmt.Fprintf(&table, "\n%-10s  %-16s  %-16s  %-16s\n", "precision recall F1", "detector", "3 sigma, all", "3 sigma, a day")
	for _, kind := range analytics.Kinds() {
		if kind == analytics.Statistics {
			continue
		}
		row := Run(kind, of)
		fmt.Fprintf(&table, "%-19s  %-16s  %-16s  %-16s\n", kind, line(row.Detector), line(row.All), line(row.Last))
		if row.Detector.F1 <= row.All.F1 || row.Detector.F1 <= row.Last.F1 {
			t.Errorf("kind %s has F1 %.3f, three-sigma %.3f and %.3f; seeds %#x", kind, row.Detector.F1, row.All.F1, row.Last.F1, of)
		}
	}
	t.Log(table.String())
}
