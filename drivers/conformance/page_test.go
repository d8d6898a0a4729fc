package conformance_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/conformance"
)

var update = flag.Bool("update", false, "write docs/conformance.md anew")

// reported are the last two columns of a row.
var reported = regexp.MustCompile(`\| [1-9]\d* \| (\d+) \|(?m:$)`)

const pageAt = "../../docs/conformance.md"

const pageHead = `# Conformance of the SDKs and the bundled drivers

This page is written by ` + "`make conformance`" + `, and a test holds it to what comes out. Each driver went through the probes of
` + "`pollux driver verify`" + ` ([what they demand](../drivers/conformance/README.md)): none of them failed. The model probe played what the device says in
the driver's own tests, and held all that the driver reported and emitted against its Thing Model. The tests themselves pass as they are
written and with a fresh instance for each event; those of the bundled drivers also with a device that misbehaves.

The example of all SDKs is the same driver, and passes the same tests.
`

// checkPage compares docs/conformance.md to the reports, or writes it.
func checkPage(t *testing.T, all []subject, reports []*conformance.Report) {
	t.Helper()
	was, err := os.ReadFile(pageAt)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	b.WriteString(pageHead)
	for _, part := range []struct{ what, title string }{{"SDK", "SDKs"}, {"no SDK", "Without an SDK"}, {"bundled", "Bundled drivers"}} {
		fmt.Fprintf(&b, "\n## %s\n\n| Driver | Language | Probes | Warned | Reports and events in the model | Its tests |\n|---|---|---|---|---|---|\n", part.title)
		for i, s := range all {
			if s.what != part.what {
				continue
			}
			r := reports[i]
			at := path.Clean("drivers/conformance/" + filepath.ToSlash(s.dir))
			if r == nil { // its language is missing here: where all must be there its own test has failed
				b.WriteString(rowOf(t, was, at))
				continue
			}
			if r.Rehearsed == 0 || r.Reports == 0 {
				t.Errorf("%s: %d reports were seen, of %d tests", s.dir, r.Reports, r.Rehearsed)
			}
			fmt.Fprintf(&b, "| [%s](../%s) | %s | %d | %s | %d | %d |\n", r.Driver, at, s.lang, len(r.Probes), warnings(r), r.Reports, r.Rehearsed)
		}
	}
	if *update {
		if err := os.WriteFile(pageAt, b.Bytes(), 0o644); err != nil { //nolint:gosec // a page for everybody
			t.Fatal(err)
		}
		return
	}
	// How much a driver reports that goes by the clock depends on the clock: of that column, that it is not 0.
	if mask := func(b []byte) string { return reported.ReplaceAllString(string(b), "| N | $1 |") }; mask(was) != mask(b.Bytes()) {
		t.Errorf("docs/conformance.md is not what comes out (make conformance writes it): want\n%s", b.Bytes())
	}
}

// rowOf gives the row that the page has of a driver.
func rowOf(t *testing.T, page []byte, at string) string {
	t.Helper()
	for row := range strings.Lines(string(page)) {
		if strings.Contains(row, "](../"+at+")") {
			return row
		}
	}
	t.Errorf("docs/conformance.md has no row of %s, which was not built here", at)
	return ""
}

func warnings(r *conformance.Report) string {
	var names []string
	for _, p := range r.Probes {
		if p.Outcome == conformance.Warned {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return "–"
	}
	return strings.Join(names, ", ")
}
