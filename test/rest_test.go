package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/interfaces"
	"github.com/polluxhq/pollux/drivers/wot"
	"github.com/polluxhq/pollux/test/harness"
)

// npm runs a program of test/peers to its end and gives its lines.
func npm(t *testing.T, program string, args ...string) []string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		drivertest.Missing(t, "node is not installed")
	}
	if _, err := os.Stat(filepath.Join("peers", "node_modules")); err != nil {
		drivertest.Missing(t, "the peers' packages are not installed: npm ci in test/peers")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, append([]string{program}, args...)...)
	cmd.Dir = "peers"
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// Clients that know nothing of Pollux find a twin and use it: its Thing Description, Thing Model and the API's description are
// valid, and node-wot does with it all that it can do with a thing.
func TestNodeWoTUsesATwin(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	n.AddDriver("echo")
	for _, name := range []string{"lamp", "other", "third"} {
		n.Must("twin", "create", "hall/"+name, "--driver", "echo")
	}
	model := filepath.Join(t.TempDir(), "room.tm.json")
	if err := os.WriteFile(model, []byte(roomModel), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("model", "create", "hall/room", "--file", model)
	n.Must("twin", "create", "hall/bare", "--model", "hall/room")
	keepsExtensions(t, n.Must("twin", "td", "hall/bare", "--model"))
	lines := npm(t, "wot.mjs", n.URL, n.Key, "hall/lamp")
	if td := n.Must("twin", "td", "hall/lamp"); !strings.Contains(td, `"id": "urn:pollux:hall:lamp"`) {
		t.Errorf("pollux twin td: %s", td)
	}
	for _, want := range []string{"valid 4", "read 12.5", "observed 12.5 13", "invoked hello wot", "event tock", "refused"} {
		if !slices.Contains(lines, want) {
			t.Errorf("missing %q in:\n%s", want, strings.Join(lines, "\n"))
		}
	}
}

// keepsExtensions: a Thing Model that was imported goes out with every member that we do not know, as it came.
func keepsExtensions(t *testing.T, out string) {
	t.Helper()
	var came, went map[string]any
	if err := json.Unmarshal([]byte(roomModel), &came); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(out), &went); err != nil || !reflect.DeepEqual(came, went) {
		t.Errorf("%v: the model came back as\n%s", err, out)
	}
}

// Every model that we have is a Thing Model by the W3C's schema, as it is handed out, and makes a Thing Description.
func TestModelsAreThingModels(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, text []byte, err error) {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	add := func(name string, model json.RawMessage) {
		td, err := (&wot.Thing{ID: "hall/" + name, Base: "http://127.0.0.1:8080/v1/twins/hall/" + name, Model: model, Instance: "1.0.0",
			Created: time.Now(), Modified: time.Now()}).Describe()
		write(name+".td.json", td, err)
		tm, err := wot.Model(model)
		write(name+".tm.json", tm, err)
	}
	for _, pattern := range []string{"*", "library/*", "testdata/*", "conformance/*"} {
		manifests, err := filepath.Glob(filepath.Join("..", "drivers", filepath.FromSlash(pattern), "driver.json"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range manifests {
			var m struct {
				Model json.RawMessage
			}
			text, err := os.ReadFile(path)
			if err == nil {
				err = json.Unmarshal(text, &m)
			}
			if err != nil {
				t.Fatal(err)
			}
			add(filepath.Base(filepath.Dir(path)), m.Model)
		}
	}
	for _, name := range interfaces.Names() {
		i, _ := interfaces.Get(name)
		add("interface-"+strings.ToLower(name), i.Model)
	}
	add("lists", json.RawMessage(`{"title": "Lists", "properties": {"only": {"type": "array", "prefixItems": [{"type": ["number", "null"]}, {"type": "string"}], "items": false},
		"more": {"type": "object", "properties": {"of": {"type": "array", "prefixItems": [{"type": "array", "items": []}], "items": {"type": "number"}}}}}}`))
	directory, err := wot.Directory("http://127.0.0.1:8080")
	write("directory.td.json", directory, err)
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 50 {
		t.Fatalf("%v, %d files", err, len(files))
	}
	lines := npm(t, "wot-files.mjs", dir)
	if want := fmt.Sprintf("%d checked, 0 wrong", len(files)); lines[len(lines)-1] != want {
		t.Errorf("want %s:\n%s", want, strings.Join(lines, "\n"))
	}
}

// docLine is a command of docs/rest.md and the lines that it prints.
type docLine struct {
	command string
	want    []string
}

// console reads the commands of a page's blocks of ```console.
func console(t *testing.T, page string) []docLine {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []docLine
	inside := false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		command, ok := strings.CutPrefix(line, "$ ")
		switch {
		case strings.HasPrefix(line, "```"):
			inside = line == "```console"
		case inside && ok:
			all = append(all, docLine{command: command})
		case inside && len(all) > 0:
			all[len(all)-1].want = append(all[len(all)-1].want, line)
		}
	}
	return all
}

// like says whether a line is as it was written; … stands for anything.
func like(pattern, line string) bool {
	parts := strings.Split(regexp.QuoteMeta(pattern), "…")
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(line)
}

// What docs/rest.md shows is what happens: each of its commands is run, and prints what stands there.
func TestRestDocs(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		drivertest.Missing(t, "curl is not installed")
	}
	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "pjlink")
	n.Must("twin", "create", "beamer", "--driver", "pjlink", "--uri", "tcp://"+harness.NewDevices(t, nil).PJLink("beamer"))
	commands := console(t, filepath.Join("..", "docs", "rest.md"))
	if len(commands) < 10 {
		t.Fatalf("%d commands", len(commands))
	}
	for _, c := range commands[1:] { // the first sets what is set here
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+c.command)
		cmd.Env = append(os.Environ(), "URL="+n.URL, "AUTH=Authorization: Bearer "+n.Key)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 1<<20)
		for _, want := range c.want {
			if !lines.Scan() {
				t.Errorf("$ %s\nends before %q", c.command, want)
				break
			}
			if !like(want, lines.Text()) {
				t.Errorf("$ %s\n%s\nwant\n%s", c.command, lines.Text(), want)
			}
		}
		cancel() // a stream has no end of its own
		_ = cmd.Wait()
	}
}

// Who waits for a device that is away is told how far it got: still open, given up, or set again by somebody else.
func TestRestWaitsForADeviceThatIsAway(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "pjlink")
	n.Must("twin", "create", "away", "--driver", "pjlink", "--uri", "tcp://127.0.0.1:1")
	type answer struct {
		status int
		text   string
	}
	put := func(value, query string) answer {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, n.URL+"/v1/twins/default/away/properties/power?"+query, strings.NewReader(value))
		if err != nil {
			t.Error(err)
			return answer{}
		}
		r.Header.Set("Authorization", "Bearer "+n.Key)
		r.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Error(err)
			return answer{}
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Error(err)
		}
		return answer{res.StatusCode, string(text)}
	}
	if a := put("true", "wait=100ms"); a.status != 202 || strings.Contains(a.text, "CONFIRMED") {
		t.Errorf("the time is over: %+v", a)
	}
	if a := put("true", "wait=60s&valid_for=1s"); a.status != 504 || !strings.Contains(a.text, `"outcome":"timed_out"`) {
		t.Errorf("given up: %+v", a)
	}
	first := make(chan answer, 1)
	go func() { first <- put("true", "wait=60s&valid_for=60s") }()
	harness.Until(t, 30*time.Second, "the first to wait", func() bool {
		d := n.Must("twin", "get", "away", "-o", "json")
		return strings.Contains(d, "PROGRESS_ASKED") || strings.Contains(d, "PROGRESS_SENT")
	})
	put("false", "valid_for=60s")
	if a := <-first; a.status != 409 || !strings.Contains(a.text, `"reason":"revision"`) {
		t.Errorf("set again: %+v", a)
	}
}
