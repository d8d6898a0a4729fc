package sink_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

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
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/?query=%s", port, url.QueryEscape(query)))
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
	r.until("default/rows", "103 are inserted", func(s *pb.SinkState) bool { return s.Position == 104 })
	for query, want := range map[string]string{
		"SELECT count(), sum(number), uniq(twin) FROM changes FINAL WHERE name = 'temperature'":     "101\t4951\t10",
		"SELECT time_ms - toInt64(time)*1000 < 1000, payload FROM changes FINAL WHERE offset = 102": "1\tno JSON",
		"SELECT hex(payload) FROM changes FINAL WHERE id = 'bytes'":                                 "FF00225C0A3CE280A8",
		"SELECT topic, offset, key, kind FROM changes FINAL WHERE name='temperature' AND number=7":  "default/changes\t8\tdefault/t7\tproperty",
	} {
		if got, err := clickHouseAsk(port, query); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", query, got, err, want)
		}
	}
}
