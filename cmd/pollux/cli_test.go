package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/spf13/cobra"

	"github.com/polluxhq/pollux"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/rpc"
)

const patience = 2 * time.Minute

var theNode struct {
	once sync.Once
	node *pollux.Node
	dir  string
	err  error
}

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	if os.Getenv("TZ") != "UTC" { // tables are compared to the letter
		_ = os.Setenv("TZ", "UTC")
		self, err := os.Executable()
		if err == nil {
			err = syscall.Exec(self, os.Args, os.Environ())
		}
		fmt.Fprintln(os.Stderr, "run again in UTC:", err)
		os.Exit(1)
	}
	code := m.Run()
	if theNode.node != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := theNode.node.Close(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "close node:", err)
			code = 1
		}
		cancel()
		_ = os.RemoveAll(theNode.dir)
	}
	os.Exit(code)
}

// dataOfNode opens the one node of this package's tests and gives its data directory.
func dataOfNode(t *testing.T) string {
	t.Helper()
	theNode.once.Do(func() {
		if theNode.dir, theNode.err = os.MkdirTemp("", "pollux-cli-"); theNode.err != nil {
			return
		}
		conf := pollux.DefaultConfig()
		conf.Data, conf.HTTP, conf.MQTT, conf.Name = theNode.dir, "127.0.0.1:0", "127.0.0.1:0", "test"
		conf.Gossip, conf.Peer = "127.0.0.1:0", "127.0.0.1:0"
		conf.MetricsMemory, conf.StoreCache, conf.DriverCompiler = 64<<20, 16<<20, drivertest.Compiler(t)
		theNode.node, theNode.err = pollux.Open(context.Background(), conf, slog.New(slog.DiscardHandler))
	})
	if theNode.err != nil {
		t.Fatalf("open node: %v", theNode.err)
	}
	return theNode.dir
}

// result of one command line.
type result struct {
	code     int
	out, err string
}

// cli runs a command line with this environment, NAME=VALUE.
func cli(ctx context.Context, env []string, args ...string) result {
	var out, errs bytes.Buffer
	code := runTo(ctx, &out, &errs, env, args...)
	return result{code, out.String(), errs.String()}
}

func runTo(ctx context.Context, out, errs io.Writer, env []string, args ...string) int {
	a := &app{in: strings.NewReader(""), out: out, err: errs, getenv: func(name string) string {
		for _, e := range env {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}}
	return run(ctx, a, args)
}

// moving is what differs from run to run.
var moving = []struct {
	re *regexp.Regexp
	to string
}{
	{regexp.MustCompile(`\b[0-9a-f]{64}\b`), "DIGEST"},
	{regexp.MustCompile(`sha256 [0-9a-f]{12}`), "sha256 DIGEST"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`), "TIME"},
	{regexp.MustCompile(`\b\d\d:\d\d:\d\d(\.\d+)?`), "CLOCK"},
	{regexp.MustCompile(`\b(\d+[smhd] ago|now)\b *`), "AGO "},
	// Sent and confirmed may come as one step.
	{regexp.MustCompile(`(?m)^CLOCK  sent .*\n`), ""},
	{regexp.MustCompile(`[0-9.]+ [KM]iB`), "SIZE"},
	{regexp.MustCompile(`\bn[0-9a-f]{10}\b`), "NODE"},
	{regexp.MustCompile(`revision \d+`), "revision N"},
	{regexp.MustCompile(`"(revision|size)":( ?)"\d+"`), `"$1":$2"N"`},
	{regexp.MustCompile(`plx_[a-z0-9_]+`), "plx_SECRET"},
	{regexp.MustCompile(`key [a-z2-7]{12}\b`), "key ID"},
	{regexp.MustCompile(`(?m)^[a-z2-7]{12}  `), "ID  "},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d+`), "http://ADDRESS"},
	{regexp.MustCompile(`code=[a-z2-7]+`), "code=CODE"},
}

func still(s string) string {
	for _, m := range moving {
		s = m.re.ReplaceAllString(s, m.to)
	}
	return columns.ReplaceAllString(s, "  ")
}

// columns are as wide as what moves.
var columns = regexp.MustCompile(` {2,}`)

// sessions counts the runs of TestSession: what a project was sent stays counted, so that each of them has a project of its own.
var sessions atomic.Int64

// TestSession is a person's first quarter of an hour: each command line, its exit code and what it prints.
func TestSession(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	project := fmt.Sprintf("house%d", sessions.Add(1))
	file := filepath.Join(t.TempDir(), "echo.wasm")
	if err := os.WriteFile(file, drivertest.Echo(t), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := cli(t.Context(), env, "project", "create", project); r.code != 0 {
		t.Fatal(r)
	}
	t.Cleanup(func() {
		removeKeys(t, env)
		cli(context.WithoutCancel(t.Context()), env, "project", "rm", project)
	})
	var log bytes.Buffer
	for _, line := range [][]string{
		{"driver", "push", file},
		{"driver", "push", file},
		{"driver", "push", filepath.Join(filepath.Dir(file), "missing.wasm")},
		{"driver", "list"},
		{"driver", "get", "nothing"},
		{"zone", "put", "hq", "--kind", "building", "--title", "Headquarters"},
		{"zone", "put", "hq", "--title", "Head office"},
		{"zone", "put", "hq", "--title", "Too late", "--revision", "1"},
		{"zone", "list"},
		{"twin", "create", "lamp", "--driver", "echo", "--setting", "topic=lamp", "--setting", "greeting=42", "--label", "room=aula", "--zone", "hq"},
		{"twin", "create", "lamp", "--driver", "echo"},
		{"twin", "create", "other", "--driver", "echo", "--setting", "nonsense=1"},
		{"twin", "create", "other"},
		{"twin", "list"},
		{"twin", "call", "lamp", "say", `{"text":"!"}`},
		{"twin", "call", "lamp", "say", `{}`},
		{"twin", "call", "lamp", "fail", `{"text":"no paper"}`},
		{"twin", "call", "lamp", "count"},
		{"twin", "call", "lamp", "count", "-o", "json"},
		{"twin", "call", "lamp", "nothing"},
		{"twin", "call", "lamp", "tick", `{"after_ms": 1}`, "--priority", "90", "--timeout", "3s"},
		{"twin", "set", "lamp", "level", "40"},
		{"twin", "set", "lamp", "level", "much"},
		{"twin", "update", "lamp", "--label", "room=hall", "--label", "floor=2"},
		{"twin", "get", "lamp"},
		{"twin", "get", "nothing"},
		{"system", "put", "room1", "--member", "Lights_1=lamp", "--zone", "hq"},
		{"system", "put", "room1", "--title", "Room 1"},
		{"system", "list"},
		{"zone", "settings", "set", "hq", "greeting=hello"},
		{"zone", "settings", "set", "hq", "nonsense=1"},
		{"zone", "settings", "get", "hq"},
		{"twin", "settings", "get", "lamp"},
		{"twin", "settings", "set", "lamp", "greeting="},
		{"twin", "settings", "get", "lamp"},
		{"twin", "settings", "diff", "lamp"},
		{"twin", "settings", "set", "lamp"},
		{"twin", "settings", "history", "nothing"},
		{"system", "settings", "get", "room1"},
		{"twin", "list", "--system", "room1", "--interface", "Switchable"},
		{"driver", "interfaces", "nothing"},
		{"driver", "rollout", "echo"},
		{"driver", "rollback", "echo"},
		{"driver", "replay", "missing.rec", "--driver", "echo.wasm"},
		{"ingest", "send", project + "/lora/eui/7", "{\"level\":1}"},
		{"ingest", "send", project + "/nobody", "{}"},
		{"ingest", "send", "a/b/c/d/e", "{}"},
		{"ingest", "status", "--project", project},
		{"ingest", "unknown"},
		{"ingest", "unknown", "nonsense"},
		{"ingest", "unknown", "provision"},
		{"inbox", "claim", "lora/eui/8", "eight"},
		{"inbox", "ignore", project + "/lora/eui/7"},
		{"inbox", "list", "--project", project},
		{"driver", "rm", "echo"},
		{"key", "create", "--role", "viewer", "--name", "grafana"},
		{"key", "create", "--device", "lamp"},
		{"key", "create"},
		{"key", "list"},
		{"key", "rm", "nothing"},
		{"login"},
		{"cluster", "where", "lamp"},
		{"cluster", "slots"},
		{"cluster", "placement", "--node", "test"},
		{"cluster", "drain", "test"},
		{"cluster", "drain"},
		{"cluster", "drain", "nobody"},
		{"cluster", "remove", "test"},
		{"cluster", "transfer-leader"},
		{"cluster", "token", "--ttl", "-1h"},
		{"cluster", "token", "--ttl", "999h"},
		{"cluster", "token", "rm", "nothing"},
		{"cluster", "drane", "test"},
		{"twin", "get", "lamp", "--consistency", "both"},
		{"system", "rm", "room1"},
		{"twin", "rm", "lamp"},
		{"zone", "rm", "hq"},
		{"driver", "rm", "echo@1.0.0"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		r := cli(ctx, env, line...)
		cancel()
		shown := strings.ReplaceAll(strings.Join(line, " "), filepath.Dir(file)+"/", "")
		text := fmt.Sprintf("$ pollux %s\n%s%s[%d]\n\n", shown, r.out, r.err, r.code)
		log.WriteString(still(strings.NewReplacer(filepath.Dir(file)+"/", "", project, "house").Replace(text)))
	}
	golden(t, "session", log.Bytes())
}

// removeKeys leaves the node with the administrator's key alone, as the next run finds it.
func removeKeys(t *testing.T, env []string) {
	var list struct{ Keys []struct{ ID, Name string } }
	r := cli(context.WithoutCancel(t.Context()), env, "key", "list", "-o", "json")
	if err := json.Unmarshal([]byte(r.out), &list); err != nil {
		t.Errorf("list keys: %v: %s%s", err, r.out, r.err)
	}
	for _, k := range list.Keys {
		if k.Name != "admin" {
			if r := cli(context.WithoutCancel(t.Context()), env, "key", "rm", k.ID); r.code != 0 {
				t.Errorf("remove key %s: %s", k.ID, r.err)
			}
		}
	}
}

func TestExitCodesAndHints(t *testing.T) {
	// A port that nobody listens on.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + l.Addr().String()
	_ = l.Close()
	data := dataOfNode(t)
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		says string
	}{
		{"no node", []string{"POLLUX_DATA=" + t.TempDir()}, []string{"status", "--url", nobody}, 1, "pollux serve"},
		{"a bad address", nil, []string{"status", "--url", "ftp://x"}, 2, "--url"},
		{"a bad address in the environment", []string{"POLLUX_URL=:::"}, []string{"status"}, 2, "POLLUX_URL"},
		{"an unknown command", nil, []string{"twinn", "list"}, 2, `did you mean "twin"`},
		{"an unknown sub-command", nil, []string{"twin", "lst"}, 2, `"list"`},
		{"an unknown flag", nil, []string{"twin", "list", "--colour"}, 2, "--colour"},
		{"a missing argument", nil, []string{"twin", "call", "lamp"}, 2, "ACTION is missing"},
		{"too many arguments", nil, []string{"status", "all"}, 2, `"all" is too much`},
		{"an unknown form", []string{"POLLUX_DATA=" + data}, []string{"status", "-o", "xml"}, 2, "table, json or yaml"},
		{"a wrong key", []string{"POLLUX_DATA=" + data, "POLLUX_API_KEY=plx_aaaaaaaaaaaa_bbbbbbbb"}, []string{"status"}, 1, "by --key or POLLUX_API_KEY"},
		{"a bad label", []string{"POLLUX_DATA=" + data}, []string{"twin", "list", "--label", "room"}, 2, "NAME=VALUE"},
		{"a bad status", []string{"POLLUX_DATA=" + data}, []string{"twin", "list", "--status", "happy"}, 2, "connected"},
		{"a negative delay", nil, []string{"twin", "call", "lamp", "say", "--delay", "-1s"}, 2, "--delay -1s"},
		{"a negative timeout", nil, []string{"twin", "set", "lamp", "level", "1", "--timeout=-2s"}, 2, "--timeout -2s"},
		{"a negative validity", nil, []string{"twin", "set", "lamp", "level", "1", "--valid-for=-3s"}, 2, "--valid-for -3s"},
		{"an unknown aggregate", nil, []string{"twin", "history", "lamp", "level", "--step", "1m", "--aggregate", "bad"}, 2,
			"--aggregate \"bad\": want avg, min, max, sum, count, dev, first, last, delta, rate, or a percentile such as p95"},
		{"an aggregate of single samples", nil, []string{"twin", "history", "lamp", "level", "--aggregate", "max"}, 2, "--step is missing"},
		{"an unknown kind", []string{"POLLUX_DATA=" + data}, []string{"watch", "nonsense"}, 1, "want one of " + strings.Join(kinds, ", ")},
		{"the kinds", nil, []string{"watch", "--help"}, 0, strings.Join(kinds, ", ")},
		{"help", nil, []string{"twin", "set", "--help"}, 0, "pollux twin set beamer power on"},
		{"completion", nil, []string{"completion", "bash"}, 0, "__start_pollux"},
		{"a name of another project", []string{"POLLUX_DATA=" + data}, []string{"twin", "get", "nobody"}, 1, "nobody alone is of the project default; in another one it is PROJECT/nobody: pollux search nobody"},
		{"an alarm that is not there", []string{"POLLUX_DATA=" + data}, []string{"alarm", "ack", "nothing"}, 1, "pollux: alarm default/nothing: not found\n"},
		{"status", []string{"POLLUX_DATA=" + data}, []string{"status"}, 0, "Failures survived"},
		{"status as JSON", []string{"POLLUX_DATA=" + data}, []string{"status", "-o", "json"}, 0, `"node"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			r := cli(ctx, tt.env, tt.args...)
			if r.code != tt.code || !strings.Contains(r.out+r.err, tt.says) {
				t.Errorf("exit code %d, want %d with %q:\n%s%s", r.code, tt.code, tt.says, r.out, r.err)
			}
		})
	}
}

// TestKeyStaysOnThisMachine: the administrator's key is found by itself, and sent to no other machine.
func TestKeyStaysOnThisMachine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, rpc.AdminKeyFile), []byte("plx_local\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"http://127.0.0.1:8080": "plx_local", "http://[::1]:8080": "plx_local", "http://localhost": "plx_local", "127.0.0.1:80": "plx_local",
		"http://127.0.0.1:8080,http://127.0.0.2:8080": "plx_local", "http://127.0.0.1:8080,http://10.0.0.7:8080": "",
		"http://10.0.0.7:8080": "", "https://pollux.example": "", "http://localhost.evil.example": "", "http://127.0.0.1.evil.example": "",
	} {
		a := &app{data: dir, url: address, getenv: func(string) string { return "" }}
		bases, err := a.nodeURLs()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := a.apiKey(bases); err != nil || got != want {
			t.Errorf("%s: key %q, %v, want %q", address, got, err, want)
		}
	}
}

// TestEveryCommandTeaches: what a person can run has a sentence and an example.
func TestEveryCommandTeaches(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "completion" || c.Name() == "help" {
			return
		}
		if c.Short == "" || c.Example == "" && !c.HasSubCommands() {
			t.Errorf("%s: Short %q, Example %q", c.CommandPath(), c.Short, c.Example)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root(&app{getenv: func(string) string { return "" }}))
}

// lines gives what a stream prints, line by line.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// streams counts the runs of TestStreams.
var streams int

func TestStreams(t *testing.T) {
	env := []string{"POLLUX_DATA=" + dataOfNode(t)}
	file := filepath.Join(t.TempDir(), "echo.wasm")
	if err := os.WriteFile(file, drivertest.Echo(t), 0o600); err != nil {
		t.Fatal(err)
	}
	must := func(args ...string) result {
		t.Helper()
		r := cli(t.Context(), env, args...)
		if r.code != 0 {
			t.Fatalf("%v: %d %s%s", args, r.code, r.out, r.err)
		}
		return r
	}
	must("driver", "push", file)
	// The twin is another one each time: its history outlives it.
	streams++
	id, topic := fmt.Sprintf("streams/a%d", streams), fmt.Sprintf("streams%d", streams)
	must("twin", "create", id, "--driver", "echo", "--setting", "topic="+topic)
	t.Cleanup(func() {
		for _, args := range [][]string{{"twin", "rm", id}, {"driver", "rm", "echo"}} {
			if r := cli(context.WithoutCancel(t.Context()), env, args...); r.code != 0 {
				t.Errorf("%v: %s", args, r.err)
			}
		}
	})

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	start := func(args ...string) *lines {
		out := &lines{}
		wg.Go(func() { runTo(ctx, out, out, env, args...) })
		return out
	}
	wait := func(out *lines, what string) {
		t.Helper()
		for !strings.Contains(out.String(), what) {
			if ctx.Err() != nil {
				t.Fatalf("%q never came:\n%s", what, out)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	watch := start("twin", "watch", id)
	asJSON := start("twin", "watch", id, "-o", "json")
	records := start("watch", "twin")
	wait(watch, id)
	wait(asJSON, id)
	wait(records, "up to date")
	must("twin", "set", id, "level", "12.5")
	wait(watch, "level = 12.5")
	wait(asJSON, "12.5")
	for _, line := range strings.Split(strings.TrimSpace(asJSON.String()), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("no line of JSON: %s", line)
		}
	}
	must("twin", "update", id, "--label", "seen=yes")
	wait(records, "seen")

	trace := start("twin", "trace", id)
	broker := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + theNode.node.MQTTAddr()).SetClientID("streams"))
	if tok := broker.Connect(); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatalf("connect to the broker: %v", tok.Error())
	}
	defer broker.Disconnect(0)
	// The trace is in place at some moment: say it until it shows.
	for !strings.Contains(trace.String(), `<  echo/`+topic+`/set  {"level":31}`) {
		if ctx.Err() != nil {
			t.Fatalf("the bytes never came:\n%s", trace)
		}
		if tok := broker.Publish("echo/"+topic+"/set", 1, false, `{"level":31}`); !tok.WaitTimeout(patience) || tok.Error() != nil {
			t.Fatalf("publish: %v", tok.Error())
		}
	}
	wait(trace, "7b 22 6c 65 76 65 6c 22 3a 33 31 7d")
	wait(watch, "level = 31")

	// History follows the commits within seconds.
	for {
		r := cli(ctx, env, "twin", "history", id, "level", "--since", "5m", "-o", "json")
		if strings.Contains(r.out, "12.5") {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("history: %d %s%s", r.code, r.out, r.err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if r := must("twin", "history", id, "level", "--since", "5m"); !strings.Contains(r.out, "max 31") {
		t.Errorf("chart:\n%s", r.out)
	}
}
