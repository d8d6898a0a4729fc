package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/test/harness"
)

// A list of 10,000 devices with 50 bad lines of every sort: each of them is reported with its line and why, and the others are there.
// With the same list once more nothing changes, and as many are reported.
func TestImportOfTenThousandReportsBadLines(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	dir := t.TempDir()
	path := filepath.Join(dir, "devices.csv")
	if err := os.WriteFile(filepath.Join(dir, "meter.json"), []byte(`{"@context": "https://www.w3.org/2022/wot/td/v1.1", "@type": "tm:ThingModel",
		"title": "Meter", "properties": {"power": {"type": "number"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("model", "create", "meter", "--file", filepath.Join(dir, "meter.json"))
	bad := []struct{ line, why string }{
		{"dev-%05d,nope,1,bus:addr:%d", "there is no model"},
		{"Dev %05d,meter,1,bus:addr:%d", "is not `project/name`"},
		{"dev-00001,meter,1,bus:addr:%[2]d", "it is in line 3 already"},
		{"dev-%05d,meter", "2 cells, and 4 columns"},
		{"dev-%05d,meter,1,bus:addr:0", "alias default/bus/addr/0"},
	}
	want := map[string]string{} // by FILE:LINE
	var csv strings.Builder
	csv.WriteString("id,model,labels.floor,aliases\n")
	for i := range 10_000 {
		if i%200 == 150 {
			b := bad[len(want)%len(bad)]
			want[fmt.Sprintf("devices.csv:%d)", i+2)] = b.why
			args := []any{i, i}
			if n := strings.Count(b.line, "%"); n == 1 {
				if strings.Contains(b.line, "%[2]d") {
					fmt.Fprintf(&csv, b.line+"\n", args...)
					continue
				}
				args = args[:1]
			}
			fmt.Fprintf(&csv, b.line+"\n", args...)
			continue
		}
		fmt.Fprintf(&csv, "dev-%05d,meter,%d,bus:addr:%d\n", i, i%20, i)
	}
	if err := os.WriteFile(path, []byte(csv.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if len(want) != 50 {
		t.Fatalf("%d bad lines", len(want))
	}
	for _, sum := range []string{"9950 created, 50 refused", "9950 unchanged, 50 refused"} {
		out, err := n.Command(t.Context(), "import", "twins", path)
		if err == nil {
			t.Error("the exit code says that all is well")
		}
		if !strings.Contains(out, sum) {
			t.Errorf("the sum is not %q: %s", sum, out[max(0, len(out)-300):])
		}
		refused := 0
		for _, line := range strings.Split(out, "\n") {
			if !strings.HasPrefix(line, "! ") {
				continue
			}
			refused++
			found := false
			for at, why := range want {
				found = found || strings.Contains(line, at) && strings.Contains(line, why)
			}
			if !found {
				t.Errorf("unexpected: %s", line)
			}
		}
		if refused != len(want) {
			t.Errorf("%d lines are reported, want %d", refused, len(want))
		}
	}
	var status struct{ Twins json.Number }
	if err := json.Unmarshal([]byte(n.Must("status", "-o", "json")), &status); err != nil || status.Twins.String() != "9950" {
		t.Errorf("%v twins, %v", status.Twins, err)
	}
}
