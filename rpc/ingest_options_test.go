package rpc_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestIngestOptions: what a request says of its messages is taken as it is meant or refused, not left out.
func TestIngestOptions(t *testing.T) {
	h := openHouse(t)
	p := fresh("ino")
	h.echo(t, p+"/lamp")
	old := time.Now().Add(-200 * 24 * time.Hour)
	say := func(method, path string, header ...string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, h.url+path, strings.NewReader(`{"level":1}`))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := h.http(h.admin).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header.Get("Allow") + string(b)
	}
	for _, c := range []struct {
		query string
		want  int
		says  string
	}{
		{"historical=1&time=" + old.UTC().Format(time.RFC3339), 200, `"stored":1`},
		{"historical=true&time=" + old.Format("20060102") + "000000", 422, "time_future"}, // milliseconds, far ahead
		{"historical=true&time=" + "1", 422, "time_ancient"},
		{"atomic=0&historical=false&ack=committed&envelope=0", 200, `"stored":1`},
		{"historical=yes", 400, "query.historical"},
		{"atomic=True", 400, "query.atomic"},
		{"envelope=maybe", 400, "query.envelope"},
		{"historcal=true", 400, "query.historcal"},
		{"historical=true&historical=false", 400, "query.historical"},
		{"historical=%zz", 400, "query"},
		{"time=noon", 400, "query.time"},
		{"time=0", 400, "query.time"},
		{"ack=soon", 400, "query.ack"},
	} {
		if status, text := say(http.MethodPost, "/v1/ingest/"+p+"/lamp?"+c.query); status != c.want || !strings.Contains(text, c.says) {
			t.Errorf("%s: %d %s, want %d with %s", c.query, status, text, c.want, c.says)
		}
	}
	if n := h.counted(t, p, "http"); n.Received != 4 || n.Stored != 2 || n.Refused != 2 {
		t.Errorf("counted: %v", n)
	}
	// Clients of InfluxDB say more than is asked of them.
	if status, a := h.ingest(t, h.admin, p+"/write?db=x&org=y&bucket=z&precision=s", "w,twin=lamp level=1"); status != 200 || a.Stored != 1 {
		t.Errorf("line protocol: %d %+v", status, a)
	}
	for path, allow := range map[string]string{"/v1/ingest/" + p: "POST", "/v1/ingest/" + p + "/lamp": "POST", "/v1/ingest/" + p + "/lora/eui/1/more": "POST"} {
		if status, text := say(http.MethodGet, path); status != 405 || !strings.HasPrefix(text, allow) {
			t.Errorf("GET %s: %d %s", path, status, text)
		}
	}
	if status, text := say(http.MethodPost, "/v1/history/"+p+"/export"); status != 405 || !strings.HasPrefix(text, "GET") {
		t.Errorf("POST of an export: %d %s", status, text)
	}
}
