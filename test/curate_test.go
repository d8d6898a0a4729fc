package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

const (
	curateTwins = 64
	curateEvery = 5 * time.Minute
	curateHours = 8
	curateModel = `{"@context":["https://www.w3.org/2022/wot/td/v1.1"],"@type":"tm:ThingModel","title":"Room","properties":{
		"heat":{"type":"number"},"power":{"type":"number"},"other":{"type":"number"},"mode":{"type":"string"}}}`
)

// past is what the twins of TestCurationOfThreeNodes said, every five minutes from begin on, before end.
type past struct {
	begin, end time.Time
	external   bool // the nodes share a server for history
}

func (p *past) value(twin, k int) float64 { return 20 + float64((k*7+twin)%50)/4 }

func (p *past) samples() int { return int(p.end.Sub(p.begin) / curateEvery) }

func (p *past) at(k int) time.Time { return p.begin.Add(time.Duration(k)*curateEvery + time.Second) }

// TestCurationOfThreeNodes: rules are set, and one node is killed while it deletes what they let go. It goes on when it is back; all three
// have then let go what is old and kept the rest: raw samples, aggregates that say what the samples said, and the journal. The
// quota of a project is told of once, by the next leader.
func TestCurationOfThreeNodes(t *testing.T) {
	t.Parallel()
	curation(t)
}

// TestCurationOnAnExternalServer is the same where the nodes share a VictoriaMetrics: the leader deletes, and is killed at it.
func TestCurationOnAnExternalServer(t *testing.T) {
	t.Parallel()
	curation(t, "--metrics-url", "http://"+startVictoria(t, "-dedup.minScrapeInterval=1ms").addr)
}

func curation(t *testing.T, args ...string) {
	c := harness.StartCluster(t, harness.ClusterOptions{Args: append(args, "--retention-interval", "1s")})
	n := c.Follower()
	dir := t.TempDir()
	model := filepath.Join(dir, "room.json")
	if err := os.WriteFile(model, []byte(curateModel), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, project := range []string{"default", "garden"} {
		n.Must("model", "create", project+"/room", "--file", model)
	}
	importRooms(t, n, dir, "default", 0, curateTwins)
	importRooms(t, n, dir, "garden", 0, 2)
	p := &past{end: time.Now().Truncate(time.Hour), external: len(args) > 0}
	p.begin = p.end.Add(-curateHours * time.Hour)
	p.send(t, n, "default", curateTwins)
	p.send(t, n, "garden", 2)
	for _, n := range c.Nodes() {
		p.has(t, n, "default", "other", curateTwins)
		p.has(t, n, "default", "heat", curateTwins)
	}
	leader := c.Leader()
	n.Must("retention", "quota", fmt.Sprintf("twins=%d", curateTwins*5/4+10))
	n.Must("retention", "set", "samples/heat=2h,1h", "samples/power=4h", "value/mode=4h")
	killed := killWhileCurating(t, leader)
	harness.Until(t, time.Minute, "another node leads", func() bool { l := c.Leader(); return l != nil && l != leader })
	importRooms(t, c.Follower(), dir, "default", curateTwins, 20)
	leader.Run()
	t.Logf("the leader was killed while it deleted: %v", killed)
	c.Settle(time.Minute)
	for _, n := range c.Nodes() {
		p.curated(t, n)
		p.has(t, n, "default", "other", curateTwins)
		p.has(t, n, "garden", "heat", 2)
		quotaOnce(t, n)
	}
}

// importRooms makes twins first, first+1 … of the model room.
func importRooms(t *testing.T, n *harness.Node, dir, project string, first, count int) {
	t.Helper()
	var lines strings.Builder
	lines.WriteString("id,model\n")
	for i := range count {
		fmt.Fprintf(&lines, "%s/r%d,room\n", project, first+i)
	}
	file := filepath.Join(dir, "rooms.csv")
	if err := os.WriteFile(file, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("import", "twins", file, "--project", project)
}

// send brings the past in by the door for many senders.
func (p *past) send(t *testing.T, n *harness.Node, project string, twins int) {
	t.Helper()
	var body bytes.Buffer
	lines := 0
	post := func() {
		r, err := http.NewRequest(http.MethodPost, n.URL+"/v1/ingest/"+project+"?historical=true", &body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+n.Key)
		res, err := (&http.Client{Timeout: time.Minute}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || !bytes.Contains(text, fmt.Appendf(nil, `"stored":%d,`, lines)) {
			t.Fatalf("%d lines: %d %v %.500s", lines, res.StatusCode, err, text)
		}
		body.Reset()
		lines = 0
	}
	for k := range p.samples() {
		for twin := range twins {
			v := p.value(twin, k)
			line, err := json.Marshal(map[string]any{"twin": fmt.Sprintf("r%d", twin), "time": p.at(k).UnixMilli(),
				"data": map[string]any{"heat": v, "power": v, "other": v, "mode": fmt.Sprintf("m%d", k)}})
			if err != nil {
				t.Fatal(err)
			}
			body.Write(append(line, '\n'))
			if lines++; lines == 4000 {
				post()
			}
		}
	}
	if lines > 0 {
		post()
	}
}

// chart gives an aggregate of each hour of the past, by twin; an hour without samples is NaN.
func (p *past) chart(t *testing.T, n *harness.Node, project, property, aggregate string) map[string][]float64 {
	t.Helper()
	res, err := n.History().QuerySeries(t.Context(), connect.NewRequest(&pb.QuerySeriesRequest{Filter: &pb.TwinFilter{Project: project}, Property: property,
		Start: timestamppb.New(p.begin.Add(time.Hour)), End: timestamppb.New(p.end), Step: durationpb.New(time.Hour), Aggregate: aggregate, PageSize: 1000}))
	if err != nil {
		return nil // it starts again, or asks one that does; who asks tries again
	}
	out := map[string][]float64{}
	for _, s := range res.Msg.Series {
		out[s.Twin] = s.Values
	}
	return out
}

// has waits until a node has all samples of a property.
func (p *past) has(t *testing.T, n *harness.Node, project, property string, twins int) {
	t.Helper()
	var sum float64
	want := float64(twins * p.samples())
	harness.Until(t, time.Minute, fmt.Sprintf("%s has all of %s of %s", n.Name, property, project), func() bool {
		sum = 0
		for _, values := range p.chart(t, n, project, property, "count") {
			for _, v := range values {
				if !math.IsNaN(v) {
					sum += v
				}
			}
		}
		if sum > want {
			t.Fatalf("%s: %v samples of %s, want %v", n.Name, sum, property, want)
		}
		return sum == want
	})
}

// killWhileCurating kills a node that is deleting, and says whether it was still at it.
func killWhileCurating(t *testing.T, n *harness.Node) bool {
	t.Helper()
	half := filepath.Join(n.Dir, "history", "rewrite")
	var midst bool
	harness.Until(t, time.Minute, "the node deletes", func() bool {
		if _, err := os.Stat(half); err == nil {
			midst = true
			return true
		}
		res, err := n.History().GetRetentionStatus(t.Context(), connect.NewRequest(&pb.GetRetentionStatusRequest{Project: "default"}))
		midst = err == nil && res.Msg.Curation.GetRunning() != ""
		return err == nil && res.Msg.Curation.GetSamples() > 0
	})
	n.Kill()
	return midst
}

// raw gives how many raw samples of a twin's property a node has from a time on, and before it.
func (p *past) raw(t *testing.T, n *harness.Node, property string, from time.Time) (after, before int) {
	t.Helper()
	res, err := n.Twins().QueryHistory(t.Context(), connect.NewRequest(&pb.QueryHistoryRequest{Id: "default/r7", Property: property, Start: timestamppb.New(p.begin), Limit: 1000}))
	if err != nil {
		return 0, p.samples()
	}
	for _, s := range res.Msg.Samples {
		if s.Time.AsTime().Before(from) {
			before++
		} else {
			after++
		}
	}
	return after, before
}

// since is how many of the past's samples are from a time on.
func (p *past) since(from time.Time) (n int) {
	for k := range p.samples() {
		if !p.at(k).Before(from) {
			n++
		}
	}
	return n
}

// curated waits until a node has let go what the rules let go, and looks at what it has kept. Of an external server queries find less
// while its series are written anew, as a new leader does once more.
func (p *past) curated(t *testing.T, n *harness.Node) {
	t.Helper()
	var why error
	harness.Until(t, time.Minute, n.Name+" has let go what is old", func() bool {
		for property, age := range curateAges {
			// A sample may be as much older than its rule as comes together until its series is written anew, and steps go whole.
			if _, old := p.raw(t, n, property, time.Now().Add(-age-age/4-time.Hour)); old > 0 {
				return false
			}
		}
		why = p.kept(t, n)
		return why == nil || !p.external
	})
	if why != nil {
		t.Errorf("%s: %v", n.Name, why)
	}
	p.journal(t, n)
}

var curateAges = map[string]time.Duration{"heat": 2 * time.Hour, "power": 4 * time.Hour}

// kept says what is not as it is to be after the rules were applied.
func (p *past) kept(t *testing.T, n *harness.Node) error {
	t.Helper()
	res, err := n.History().GetRetentionStatus(t.Context(), connect.NewRequest(&pb.GetRetentionStatusRequest{Project: "default"}))
	if err != nil {
		return err
	}
	if c := res.Msg.Curation; c != nil && (!p.external && c.Node != n.Name || c.Error != "") {
		return fmt.Errorf("its curation is %v", c)
	}
	for property, age := range curateAges {
		from := time.Now().Add(-age)
		if kept, _ := p.raw(t, n, property, from); kept < p.since(time.Now().Add(-age)) {
			return fmt.Errorf("%d samples of %s are left, want %d", kept, property, p.since(from))
		}
	}
	for _, a := range []string{"count", "sum", "avg", "min", "max", "first", "last", "dev"} {
		charts := p.chart(t, n, "default", "heat", a)
		for twin := range curateTwins {
			got := charts[fmt.Sprintf("default/r%d", twin)]
			for hour := range curateHours {
				var values []float64
				for k := hour * 12; k < (hour+1)*12; k++ {
					values = append(values, p.value(twin, k))
				}
				if want := aggregateOf(a, values); len(got) != curateHours || !(math.Abs(got[hour]-want) < 1e-6) {
					return fmt.Errorf("%s of the hours of r%d is %v, in the %d. it was %v", a, twin, got, hour+1, want)
				}
			}
		}
	}
	if _, err := n.Command(t.Context(), "twin", "history", "r7", "heat", "--since", "24h", "--step", "1h", "--aggregate", "p95"); err == nil || !strings.Contains(err.Error(), "p95 needs the samples themselves") {
		return fmt.Errorf("percentiles of what went: %w", err)
	}
	return nil
}

// journal waits until the node's journal has let go what is old, and counts the rest.
func (p *past) journal(t *testing.T, n *harness.Node) {
	t.Helper()
	const age = 4 * time.Hour
	seen := map[string]int{}
	harness.Until(t, time.Minute, n.Name+"'s journal has let go what is old", func() bool {
		res, err := n.History().ListJournal(t.Context(), connect.NewRequest(&pb.ListJournalRequest{Project: "default", Twin: "r7", Kinds: []string{"value"}, PageSize: 1000}))
		if err != nil {
			return false
		}
		clear(seen)
		for _, e := range res.Msg.Entries {
			if e.Time.AsTime().Before(time.Now().Add(-age - time.Minute)) {
				return false
			}
			seen[e.Data.GetStringValue()]++
		}
		return true
	})
	for k := range p.samples() {
		want := 1
		if p.at(k).Before(time.Now().Add(-age)) {
			want = 0
		}
		if got := seen[fmt.Sprintf("m%d", k)]; got < want || got > 1 {
			t.Errorf("%s: the journal has m%d of %s %d times (%d values in all)", n.Name, k, p.at(k).Format(time.TimeOnly), got, len(seen))
		}
	}
}

func aggregateOf(name string, values []float64) float64 {
	sum, low, high := 0., values[0], values[0]
	for _, v := range values {
		sum, low, high = sum+v, min(low, v), max(high, v)
	}
	mean, squares := sum/float64(len(values)), 0.
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	return map[string]float64{"count": float64(len(values)), "sum": sum, "avg": mean, "min": low, "max": high, "first": values[0], "last": values[len(values)-1],
		"dev": math.Sqrt(squares / float64(len(values)))}[name]
}

// quotaOnce waits for the word that a quota is nearly used up, and finds it once.
func quotaOnce(t *testing.T, n *harness.Node) {
	t.Helper()
	var said []*pb.JournalEntry
	harness.Until(t, time.Minute, n.Name+" has the word of the quota", func() bool {
		res, err := n.History().ListJournal(t.Context(), connect.NewRequest(&pb.ListJournalRequest{Project: "default", Kinds: []string{"quota"}}))
		if err == nil {
			said = res.Msg.Entries
		}
		return len(said) > 0
	})
	if len(said) != 1 || said[0].Data.GetStructValue().GetFields()["state"].GetStringValue() != "warning" {
		t.Errorf("%s: of the quota was told %v", n.Name, said)
	}
}

// TestQuotaTakenAway: the alarm of a quota that is nearly used up ends when the project has no quotas any more.
func TestQuotaTakenAway(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	n.Must("project", "create", "hotel")
	n.Must("retention", "quota", "twins=4", "--project", "hotel")
	model := filepath.Join(t.TempDir(), "room.json")
	if err := os.WriteFile(model, []byte(`{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"Room"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("model", "create", "hotel/room", "--file", model)
	for i := range 4 {
		n.Must("twin", "create", fmt.Sprintf("hotel/r%d", i), "--model", "room")
	}
	active := func() (bool, string) {
		res, err := n.Automation().GetAlarm(t.Context(), connect.NewRequest(&pb.GetAlarmRequest{Id: "hotel/quota-twins"}))
		if err != nil {
			return false, ""
		}
		return res.Msg.Alarm.Active, res.Msg.Alarm.Text
	}
	harness.Until(t, time.Minute, "the alarm is raised", func() bool { on, _ := active(); return on })
	res, err := n.Ingests().GetProjectSettings(t.Context(), connect.NewRequest(&pb.GetProjectSettingsRequest{Project: "hotel"}))
	if err != nil {
		t.Fatal(err)
	}
	res.Msg.Settings.Quotas = nil
	if _, err := n.Ingests().PutProjectSettings(t.Context(), connect.NewRequest(&pb.PutProjectSettingsRequest{Settings: res.Msg.Settings})); err != nil {
		t.Fatal(err)
	}
	harness.Until(t, time.Minute, "the alarm is cleared", func() bool { on, _ := active(); return !on })
}
