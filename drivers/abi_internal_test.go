package drivers

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/wasm"
)

// TestABIPageIsWhatTheHostDoes: who implements the contract in another language has nothing but ABI.md.
func TestABIPageIsWhatTheHostDoes(t *testing.T) {
	b, err := os.ReadFile("ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	// between gives the text from one mark to the next one, which the page has once each.
	between := func(from, to string) string {
		t.Helper()
		_, rest, ok := strings.Cut(string(b), from)
		text, _, ok2 := strings.Cut(rest, to)
		if !ok || !ok2 {
			t.Fatalf("the page has nothing between %q and %q", from, to)
		}
		return text
	}
	names := func(text, pattern string) (out []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			out = append(out, m[1])
		}
		slices.Sort(out)
		return out
	}
	same := func(what string, page, host []string) {
		t.Helper()
		slices.Sort(host)
		if !slices.Equal(page, host) {
			t.Errorf("%s: the page has %q, the host %q", what, page, host)
		}
	}

	same("capabilities", names(between("## Capabilities", "- `state_set`:"), "(?m)^\\| `([a-z_]+)` \\|"), Offered())
	engine, err := os.ReadFile("js/engine/capabilities.json")
	if err != nil {
		t.Fatal(err)
	}
	same("capabilities of the JavaScript engine", names(string(engine), `"([a-z_]+)"`), Offered())
	_, wasi := wasm.WASIImports()
	var imports []string
	for name := range wasi {
		imports = append(imports, name)
	}
	same("WASI", names(between("From `wasi_snapshot_preview1` these", "Anything else is refused"), "`([a-z_]+)`"), imports)
	var events []string
	for event, name := range map[Event]string{EventLoad: "load", EventConnected: "connected", EventDisconnected: "disconnected", EventReceived: "received",
		EventCommand: "command", EventTimer: "timer", EventUnload: "unload", EventMigrate: "migrate", EventSubscription: "subscription",
		EventWebhook: "webhook", EventAnswer: "answer", EventScan: "scan", EventRun: "run"} {
		events = append(events, fmt.Sprintf("%d | %s", event, name))
	}
	same("events", names(between("## Events", "A driver answers 0"), `(?m)^\| (\d+ \| \w+) \|`), events)

	limits := between("## Limits of one call", "Rates over time")
	l := CallLimits{}.withDefaults()
	for row, want := range map[string][]string{
		"capability calls":                                                {number(l.HostCalls)},
		"log lines; bytes; bytes of a line":                               {number(l.LogLines), size(l.LogBytes), size(l.LogLineBytes)},
		"send, request, publish together; bytes of one":                   {number(l.Sends), size(l.SendBytes)},
		"http requests; bytes of a request; of an answer's body":          {number(l.HTTPs), size(l.SendBytes), size(l.HTTPBytes)},
		"calls of other twins; connection":                                {number(l.TwinCalls), number(l.Connections)},
		"property changes; events; timers; discoveries; subscriptions":    {number(l.Changes), number(l.Events), number(l.Timers), number(l.Discoveries), number(l.Subscriptions)},
		"bytes of one value, event's or timer's data":                     {size(l.ValueBytes)},
		"bytes of `memory`":                                               {size(l.MemoryBytes)},
		"bytes of all changes, events, timers, discoveries, descriptions": {size(l.EffectBytes)},
		"bytes of the output":                                             {size(l.OutputBytes)},
	} {
		if text := "\n| " + row + " | " + strings.Join(want, "; ") + " |"; !strings.Contains(limits, text) {
			t.Errorf("the page's limits lack%s", text)
		}
	}
}

// number is written as the page does: 20,000.
func number(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

func size(n int) string {
	if n >= 1<<20 {
		return fmt.Sprintf("%d MiB", n>>20)
	}
	return fmt.Sprintf("%d KiB", n>>10)
}
