package sink_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/actors/sink"
	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

const clickHouseConfig = `<yandex><logger><level>warning</level><console>1</console></logger><listen_host>127.0.0.1</listen_host>
<http_port>%d</http_port><path>%[2]s/data/</path><tmp_path>%[2]s/tmp/</tmp_path><users_config>users.xml</users_config>
<default_profile>default</default_profile><default_database>default</default_database><mark_cache_size>5368709</mark_cache_size></yandex>`

const clickHouseUsers = `<yandex><profiles><default><max_memory_usage>100000000</max_memory_usage></default></profiles><quotas><default/></quotas>
<users><default><password></password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></default>
<pollux><password>sesame</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota></pollux></users></yandex>`

// clickHouse starts a server, and gives its address.
func clickHouse(t *testing.T, port int) {
	t.Helper()
	path, err := exec.LookPath("clickhouse-server")
	if err != nil {
		if path, err = exec.LookPath("/usr/sbin/clickhouse-server"); err != nil {
			drivertest.Missing(t, "clickhouse-server: %v", err)
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"config.xml": fmt.Sprintf(clickHouseConfig, port, dir), "users.xml": clickHouseUsers} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	cmd := exec.Command(path, "--config-file="+filepath.Join(dir, "config.xml"))
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.SysProcAttr = harness.ChildAttributes()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("clickhouse-server: %.3000s", out.String())
		}
	})
}

func clickHouseAsk(port int, query string) (string, error) {
	res, err := http.Post(fmt.Sprintf("http://127.0.0.1:%d/", port), "text/plain", strings.NewReader(query))
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return strings.TrimSpace(string(b)), err
}

// TestClickHouse: rows in a table of a real server, which was not there when the sink was made; what comes twice is folded.
func TestClickHouse(t *testing.T) {
	r := newRig(t)
	port := freePort(t)
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/rows", Url: fmt.Sprintf("clickhouse://127.0.0.1:%d/default/changes?user=pollux", port), Secret: "sesame",
		BatchWait: durationpb.New(50 * time.Millisecond)})
	r.rounds(0, 50)
	r.until("default/rows", "the failure shows", func(s *pb.SinkState) bool { return strings.Contains(s.Error, "clickhouse") })
	clickHouse(t, port)
	r.until("default/rows", "50 are inserted", func(s *pb.SinkState) bool { return s.Position == 51 })
	r.give(r.host("n2"))
	r.rounds(50, 50)
	r.publish(changed(3, `true`), &pb.TopicMessage{Payload: []byte("no JSON")}, &pb.TopicMessage{Id: "bytes", Payload: []byte{0xff, 0, '"', '\\', '\n', '<', 0xe2, 0x80, 0xa8}})
	r.publish(&pb.TopicMessage{Id: "before", Time: timestamppb.New(time.Unix(-5, 0))}, &pb.TopicMessage{Id: "behind", Time: timestamppb.New(time.Unix(5_000_000_000, 0))})
	r.until("default/rows", "105 are inserted", func(s *pb.SinkState) bool { return s.Position == 106 })
	for query, want := range map[string]string{
		"SELECT count(), sum(number), uniq(twin) FROM changes FINAL WHERE name = 'temperature'":     "101\t4951\t10",
		"SELECT time_ms - toInt64(time)*1000 < 1000, payload FROM changes FINAL WHERE offset = 102": "1\tno JSON",
		"SELECT toInt64(time), time_ms FROM changes FINAL WHERE id = 'before'":                      "0\t-5000",
		"SELECT toInt64(time), time_ms FROM changes FINAL WHERE id = 'behind'":                      "4294967295\t5000000000000",
		"SELECT hex(payload) FROM changes FINAL WHERE id = 'bytes'":                                 "FF00225C0A3CE280A8",
		"SELECT topic, offset, key, kind FROM changes FINAL WHERE name='temperature' AND number=7":  "default/changes\t8\tdefault/t7\tproperty",
	} {
		if got, err := clickHouseAsk(port, query); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", query, got, err, want)
		}
	}

	// A table of somebody's own that does not take every row: the others are in it.
	for _, query := range []string{"CREATE DATABASE own", "CREATE TABLE own.numbers (topic String, offset UInt64, time DateTime, time_ms Int64, key String, id String, " +
		"twin String, kind String, name String, number Nullable(Float64), payload Int64, few UInt8 MATERIALIZED throwIf(payload > 100)) ENGINE = MergeTree ORDER BY offset"} {
		if got, err := clickHouseAsk(port, query); err != nil || got != "" {
			t.Fatalf("%s: %s, %v", query, got, err)
		}
	}
	const first = 106
	for _, payload := range []string{"7", "seven", "9", "700"} {
		r.publish(&pb.TopicMessage{Payload: []byte(payload)})
	}
	r.record(sink.TableCursors, "default/own", &pb.SinkState{Position: first})
	r.sink(&pb.Sink{Id: "default/own", Url: fmt.Sprintf("clickhouse://127.0.0.1:%d/own/numbers", port), BatchWait: durationpb.New(50 * time.Millisecond)})
	r.until("default/own", "two of four are inserted", func(s *pb.SinkState) bool { return s.Position == first+4 && s.Delivered == 2 && s.Refused == 2 })
	if got, err := clickHouseAsk(port, "SELECT sum(payload) FROM own.numbers"); err != nil || got != "16" {
		t.Errorf("the sum is %q, %v", got, err)
	}

	// A table that lacks columns takes no row until it has them, and none is refused.
	alter := func(query string) {
		t.Helper()
		if got, err := clickHouseAsk(port, query); err != nil || got != "" {
			t.Fatalf("%s: %s, %v", query, got, err)
		}
	}
	alter("CREATE TABLE own.few (topic String, offset UInt64, time DateTime, time_ms Int64, key String, id String, twin String, kind String, name String) " +
		"ENGINE = MergeTree ORDER BY offset")
	r.record(sink.TableCursors, "default/few", &pb.SinkState{Position: first})
	r.sink(&pb.Sink{Id: "default/few", Url: fmt.Sprintf("clickhouse://127.0.0.1:%d/own/few", port), BatchWait: durationpb.New(50 * time.Millisecond)})
	r.until("default/few", "it says what the table lacks", func(s *pb.SinkState) bool { return strings.Contains(s.Error, "table own.few lacks a column") })
	alter("ALTER TABLE own.few ADD COLUMN number Nullable(Float64), ADD COLUMN payload String")
	r.until("default/few", "all four are inserted", func(s *pb.SinkState) bool { return s.Position == first+4 && s.Delivered == 4 && s.Refused == 0 })
}

// TestClickHousePartitions: messages of many years come in several insertions, as a server of today refuses those of more than 100 partitions.
func TestClickHousePartitions(t *testing.T) {
	r := newRig(t)
	var mu sync.Mutex
	rows := 0
	url := serve(t, func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil || !strings.HasPrefix(req.URL.Query().Get("query"), "INSERT") {
			return
		}
		months, n := map[string]bool{}, 0
		for line := range strings.Lines(string(body)) {
			var row struct{ Time int64 }
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				t.Error(err)
			}
			months[time.Unix(row.Time, 0).UTC().Format("2006-01")] = true
			n++
		}
		if len(months) > 100 {
			http.Error(w, "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100).", http.StatusInternalServerError)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		rows += n
	})
	var all []*pb.TopicMessage
	for i := range 400 {
		all = append(all, &pb.TopicMessage{Time: timestamppb.New(time.Date(2020, time.Month(i%200), 1, 0, 0, 0, 0, time.UTC))})
	}
	r.publish(all...)
	r.give(r.host("n1"))
	r.sink(&pb.Sink{Id: "default/rows", Url: strings.Replace(url, "http:", "clickhouse:", 1) + "/d/t", BatchMessages: 400, BatchWait: soon})
	r.until("default/rows", "all are inserted", func(s *pb.SinkState) bool { return s.Delivered == 400 && s.Batches == 1 })
	mu.Lock()
	defer mu.Unlock()
	if rows != 400 {
		t.Errorf("%d rows", rows)
	}
}
