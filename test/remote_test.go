package test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/load"
)

const (
	remoteDevices = 100
	remoteRate    = 1000
	remoteAway    = 15 * time.Second
)

// victoria is a real VictoriaMetrics of its own, Debian's.
type victoria struct {
	t    *testing.T
	dir  string
	addr string
	args []string
	cmd  *exec.Cmd
}

const victoriaProgram = "/usr/bin/victoria-metrics"

func startVictoria(t *testing.T, args ...string) *victoria {
	t.Helper()
	if _, err := os.Stat(victoriaProgram); err != nil {
		t.Fatalf("Debian's package victoria-metrics is needed: %v", err)
	}
	v := &victoria{t: t, dir: filepath.Join(t.TempDir(), "victoria"), addr: harness.FreeAddr(t), args: args}
	v.start()
	t.Cleanup(func() { v.stop(syscall.SIGKILL) })
	return v
}

func (v *victoria) start() {
	v.t.Helper()
	log, err := os.OpenFile(v.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		v.t.Fatal(err)
	}
	defer log.Close()
	// Without de-duplication, where the test does not ask for it: one sample too many would show.
	v.cmd = exec.Command(victoriaProgram, append([]string{"-storageDataPath=" + v.dir, "-httpListenAddr=" + v.addr, "-memory.allowedBytes=128MB",
		"-retentionPeriod=13", "-search.disableCache", "-search.latencyOffset=1ms"}, v.args...)...)
	v.cmd.Stderr = log
	if err := v.cmd.Start(); err != nil {
		v.t.Fatal(err)
	}
	harness.Until(v.t, 30*time.Second, "victoria-metrics answers", func() bool {
		r, err := http.Get("http://" + v.addr + "/health")
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

func (v *victoria) stop(sig syscall.Signal) {
	if v.cmd.ProcessState != nil {
		return
	}
	_ = v.cmd.Process.Signal(sig)
	_ = v.cmd.Wait()
}

// exported is a series as /api/v1/export gives it, a line each.
type exported struct {
	Metric     map[string]string `json:"metric"`
	Values     []float64         `json:"values"`
	Timestamps []int64           `json:"timestamps"`
}

// export gives every sample as it is stored.
func (v *victoria) export(match string) []exported {
	v.t.Helper()
	if r, err := http.Get("http://" + v.addr + "/internal/force_flush"); err == nil {
		r.Body.Close()
	}
	r, err := http.Get("http://" + v.addr + "/api/v1/export?match[]=" + url.QueryEscape(match))
	if err != nil {
		v.t.Fatal(err)
	}
	defer r.Body.Close()
	var all []exported
	lines := bufio.NewScanner(r.Body)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var e exported
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			v.t.Fatalf("export: %v: %s", err, lines.Text())
		}
		all = append(all, e)
	}
	if err := lines.Err(); err != nil {
		v.t.Fatal(err)
	}
	return all
}

func samples(all []exported) int {
	sum := 0
	for _, e := range all {
		sum += len(e.Values)
	}
	return sum
}

// TestExternalVictoriaMetrics stops an external VictoriaMetrics under load and starts it again: it has the same number of
// samples as messages were acknowledged, and none twice.
func TestExternalVictoriaMetrics(t *testing.T) {
	t.Parallel()
	away := remoteAway
	if testing.Short() {
		away = 5 * time.Second
	}
	v := startVictoria(t)
	n := harness.Start(t, harness.Options{Args: []string{"--metrics-url", "http://" + v.addr, "--metrics-interval", "1s"}})
	n.AddDriver("echo")
	for d := range remoteDevices {
		createEcho(t, n, device(d), map[string]any{"topic": device(d)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var journal load.Journal
	var report load.Report
	var loading sync.WaitGroup
	loading.Go(func() {
		var err error
		// A window below the devices of a connection: two messages of one device are never under way together.
		report, err = load.Run(ctx, load.Options{Addr: n.MQTT, Devices: remoteDevices, Connections: 4, Window: 20, QoS: 1, Rate: remoteRate,
			Journal: &journal, Drain: 30 * time.Second, Topic: echoTopic, Payload: echoPayload})
		if err != nil {
			t.Error(err)
		}
	})
	const ours = `pollux_property{property="level"}`
	harness.Until(t, 30*time.Second, "samples arrive", func() bool { return len(v.export(ours)) == remoteDevices })
	v.stop(syscall.SIGTERM)
	before := journal.Len()
	gone := time.Now()
	harness.Until(t, away+time.Minute, "the load goes on while the server is away", func() bool {
		return time.Since(gone) > away && journal.Len()-before > int(away.Seconds())*remoteRate/10
	})
	waiting := journal.Len() - before
	v.start()
	back := journal.Len()
	harness.Until(t, time.Minute, "new samples arrive", func() bool { return samples(v.export(ours)) > back })
	cancel()
	loading.Wait()
	if report.Unacked > 0 || report.Losses > 0 {
		t.Fatalf("the load was disturbed: %+v", report)
	}
	checkExported(t, v, ours, acknowledged(&journal), int(report.Acked), waiting)

	if len(v.export(`{node!="",__name__=~"pollux_.*"}`)) < 10 || len(v.export(`process_resident_memory_bytes{node!=""}`)) == 0 {
		t.Error("the node's own metrics are not there")
	}
}

// checkExported waits until as many samples are there as were acknowledged and holds them against each other.
func checkExported(t *testing.T, v *victoria, match string, acked map[int][]float64, want, waiting int) {
	t.Helper()
	have := 0
	var all []exported
	for end := time.Now().Add(time.Minute); have < want && time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		all = v.export(match)
		have = samples(all)
	}
	t.Logf("%d messages acknowledged, %d of them while the server was away; %d samples", want, waiting, have)
	if have != want {
		t.Errorf("%d samples, %d messages were acknowledged", have, want)
	}
	values := map[string]map[float64]bool{}
	for _, e := range all {
		twin := map[float64]bool{}
		for _, x := range e.Values {
			twin[x] = true
		}
		values[e.Metric["twin"]] = twin
	}
	for d, list := range acked {
		for _, x := range list {
			if !values[device(d)][x] {
				t.Errorf("%s: the sample %v is missing", device(d), x)
				break
			}
		}
	}
}
