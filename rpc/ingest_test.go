package rpc_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
)

type ingestAnswer struct {
	Stored, Refused, Inbox, Duplicate, Retry uint64
	Results                                  []struct {
		Line                  uint32
		Outcome, Code, Reason string
	}
	Reason, Detail string
}

// ingest posts messages and reads the answer.
func (h *house) ingest(t *testing.T, key, path, body string, headers ...string) (int, ingestAnswer) {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, h.url+"/v1/ingest/"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := h.http(key).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	var a ingestAnswer
	if err := json.Unmarshal(b, &a); err != nil {
		t.Fatalf("POST %s: status %d, %s", path, res.StatusCode, b)
	}
	return res.StatusCode, a
}

func (h *house) ingests() rpcv1.IngestServiceClient {
	return rpcv1.NewIngestServiceClient(h.http(h.admin), h.url)
}

// counted gives the counters of a project's door.
func (h *house) counted(t *testing.T, project, door string) *pb.IngestCount {
	t.Helper()
	res, err := h.ingests().GetIngestStatus(t.Context(), req(&pb.GetIngestStatusRequest{Project: project, Fresh: true}))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range res.Msg.Counts {
		if c.Door == door {
			return c
		}
	}
	return &pb.IngestCount{}
}

func (h *house) echoWithAlias(t *testing.T, id string) {
	t.Helper()
	h.echo(t, id)
	res, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: id}))
	if err != nil {
		t.Fatal(err)
	}
	tw := res.Msg.Twin
	tw.Aliases = []*pb.Alias{{Network: "lora", Key: "eui", Value: "a 1"}, {Network: "influx", Key: "device", Value: "d1"}}
	if _, err := h.twins(h.admin).UpdateTwin(t.Context(), req(&pb.UpdateTwinRequest{Twin: tw})); err != nil {
		t.Fatal(err)
	}
}

func TestIngestOverHTTP(t *testing.T) {
	h := openHouse(t)
	p := fresh("in")
	h.echoWithAlias(t, p+"/lamp")
	now := time.Now().UTC()
	batch := func(lines ...string) string { return "[" + strings.Join(lines, ",") + "]" }
	for _, c := range []struct {
		name, path, body string
		headers          []string
		status           int
		want             string // stored refused inbox duplicate retry
		codes            string
	}{
		{"one object", p + "/lamp", `{"level":1}`, nil, 200, "1 0 0 0 0", ""},
		{"an array", p + "/lamp", `[{"level":2},{"level":3}]`, nil, 200, "2 0 0 0 0", ""},
		{"lines", p + "/lamp", "{\"level\":4}\n{\"level\":5}\n", nil, 200, "2 0 0 0 0", ""},
		{"by alias", p + "/lora/eui/a%201", `{"level":6}`, nil, 200, "1 0 0 0 0", ""},
		{"accepted", p + "/lamp?ack=accepted", `{"level":7}`, nil, 202, "1 0 0 0 0", ""},
		{"an id", p + "/lamp", `{"data":{"level":8},"id":"x1","time":` + fmt.Sprint(now.UnixMilli()) + `}`, nil, 200, "1 0 0 0 0", ""},
		{"the id again", p + "/lamp", `{"data":{"level":8},"id":"x1"}`, nil, 200, "0 0 0 1 0", "line 0 duplicate "},
		{"a key", p + "/lamp", `[{"level":1},{"level":2}]`, []string{"Idempotency-Key", "k1"}, 200, "2 0 0 0 0", ""},
		{"the key again", p + "/lamp", `[{"level":1},{"level":2}]`, []string{"Idempotency-Key", "k1"}, 200, "0 0 0 2 0",
			"line 0 duplicate line 1 duplicate "},
		{"historical", p + "/lamp?historical=true&time=" + now.Add(-200*24*time.Hour).UTC().Format(time.RFC3339), `{"level":9}`, nil, 200, "1 0 0 0 0", ""},
		{"older than history", p + "/lamp?historical=true&time=2019-05-01T00:00:00Z", `{"level":9}`, nil, 422, "0 1 0 0 0", "line 0 time_ancient "},
		{"a batch", p, batch(`{"twin":"lamp","data":{"level":1}}`, `{"alias":{"network":"lora","key":"eui","value":"a 1"},"data":{"level":2}}`,
			`{"alias":{"network":"lora","key":"eui","value":"nobody"},"data":{"level":2}}`, `{"twin":"nobody","data":1}`, `{"twin":"lamp"}`,
			`{"twin":"lamp","data":{"a":}}`, `{"twin":"lamp","data":1,"colour":"red"}`, `{"data":1}`,
			`{"twin":"lamp","data":1,"time":"2190-01-01T00:00:00Z"}`, `{"twin":"lamp","data":1,"time":"noon"}`), nil, 200, "2 7 1 0 0",
			"line 2 inbox line 3 unknown_twin line 4 malformed line 5 malformed line 6 malformed line 7 malformed line 8 time_future line 9 malformed "},
		{"a batch, all or nothing", p + "?atomic=true", batch(`{"twin":"lamp","data":{"level":50}}`, `{"twin":"nobody","data":1}`), nil, 422, "0 1 0 0 1",
			"line 0 retry line 1 unknown_twin "},
		{"no JSON", p + "/lamp", `{"level":`, nil, 422, "0 1 0 0 0", "line 0 malformed "},
		{"too deep", p + "/lamp", strings.Repeat("[", 60) + strings.Repeat("]", 60), nil, 422, "0 1 0 0 0", "line 0 too_deep "},
		{"an id that is too long", p + "/lamp", `[{"data":{"level":1},"id":"` + strings.Repeat("i", 257) + `"},{"level":2}]`, nil, 200, "1 1 0 0 0", "line 0 malformed "},
		{"an alias that is no text", p + "/lora/eui/%ff", `{"level":1}`, nil, 422, "0 1 0 0 0", "line 0 malformed "},
		{"a name that is no text", p + "/%ff", `{"level":1}`, nil, 422, "0 1 0 0 0", "line 0 unknown_twin "},
		{"an id that is no text", p + "/lamp", `{"level":1}`, []string{"Idempotency-Key", "\xff"}, 422, "0 1 0 0 0", "line 0 malformed "},
		{"long names", p, batch(`{"twin":"`+strings.Repeat("x", 50_000)+`","data":1}`, `{"alias":{"network":"`+strings.Repeat("x", 50_000)+`","key":"k","value":"v"},"data":1}`),
			nil, 422, "0 2 0 0 0", "line 0 unknown_twin line 1 malformed "},
		{"whole ids", p, batch(`{"twin":"`+p+`/lamp","data":{"level":1}}`, `{"twin":"elsewhere/lamp","data":{"level":1}}`), nil, 200, "1 1 0 0 0", "line 1 foreign_project "},
		{"line protocol", p + "/write", "weather,device=d1,site=x level=21.5,text=\"a \\\"b\\\"\",on=t,n=3i 1\n# none\n\nw,twin=lamp level=1\nw level=2\nw,device=other level=1",
			nil, 200, "1 2 1 0 0", "line 0 time_ancient line 2 malformed line 3 inbox "},
		{"line protocol by type", p + "?precision=ms", fmt.Sprintf("weather,device=d1 level=23.5 %d", now.UnixMilli()), []string{"Content-Type", "text/plain"}, 200, "1 0 0 0 0", ""},
	} {
		status, a := h.ingest(t, h.admin, c.path, c.body, c.headers...)
		got := fmt.Sprint(a.Stored, a.Refused, a.Inbox, a.Duplicate, a.Retry)
		codes := ""
		for _, r := range a.Results {
			codes += fmt.Sprint("line ", r.Line, " ")
			if r.Code != "" {
				codes += r.Code + " "
			} else {
				codes += r.Outcome + " "
			}
		}
		if status != c.status || got != c.want || codes != c.codes {
			t.Errorf("%s: status %d, %s, %q: %+v; want %d, %s, %q", c.name, status, got, codes, a, c.status, c.want, c.codes)
		}
	}
	if c := h.counted(t, p, "influx"); c.Stored != 2 || c.Refused != 2 || c.Inbox != 1 || c.Received != 5 {
		t.Errorf("influx: %v", c)
	}
}

func TestIngestBounds(t *testing.T) {
	h := openHouse(t)
	p := fresh("inb")
	h.echo(t, p+"/lamp")
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte(`{"level":3}`)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	var bomb bytes.Buffer
	z = gzip.NewWriter(&bomb)
	if _, err := z.Write(make([]byte, 20<<20)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	if status, a := h.ingest(t, h.admin, p+"/lamp", packed.String(), "Content-Encoding", "gzip"); status != 200 || a.Stored != 1 {
		t.Errorf("gzip: %d %+v", status, a)
	}
	for name, c := range map[string]struct {
		path, body string
		headers    []string
		status     int
	}{
		"a bomb":           {p + "/lamp", bomb.String(), []string{"Content-Encoding", "gzip"}, 413},
		"no gzip":          {p + "/lamp", "abc", []string{"Content-Encoding", "gzip"}, 400},
		"another encoding": {p + "/lamp", "abc", []string{"Content-Encoding", "br"}, 400},
		"a large body":     {p + "/lamp", strings.Repeat(" ", 2<<20), nil, 413},
		"nothing":          {p + "/lamp", " ", nil, 400},
		"too many lines":   {p + "/lamp", strings.Repeat("1\n", 10_001), nil, 400},
		"too many of them": {p + "/write", strings.Repeat("m,twin=lamp level=1\n", 10_001), nil, 400},
		"an array's end":   {p + "/lamp", `[{"level":1}`, nil, 400},
		"an ack":           {p + "/lamp?ack=maybe", `1`, nil, 400},
		"a time":           {p + "/lamp?time=noon", `1`, nil, 400},
		"a project":        {"No%20Project/lamp", `1`, nil, 400},
		"keyed lines":      {p + "/lamp", strings.Repeat("1\n", 300), []string{"Idempotency-Key", "k"}, 400},
	} {
		if status, a := h.ingest(t, h.admin, c.path, c.body, c.headers...); status != c.status || a.Detail == "" {
			t.Errorf("%s: status %d, want %d: %+v", name, status, c.status, a)
		}
	}
	// What could not be read at all is counted and listed, too.
	deadline := time.Now().Add(patience)
	for h.counted(t, p, "http").Refused+h.counted(t, p, "influx").Refused < 8 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	res, err := h.ingests().ListRefusals(t.Context(), req(&pb.ListRefusalsRequest{Project: p, Door: "http", PageSize: 4}))
	if err != nil || len(res.Msg.Refusals) != 4 || res.Msg.NextPageToken == "" {
		t.Fatalf("first page %v, %v", res, err)
	}
	res, err = h.ingests().ListRefusals(t.Context(), req(&pb.ListRefusalsRequest{Project: p, Door: "http", PageSize: 4, PageToken: res.Msg.NextPageToken}))
	if err != nil || len(res.Msg.Refusals) != 3 || res.Msg.NextPageToken != "" {
		t.Errorf("second page %v, %v", res, err)
	}
	res, err = h.ingests().ListRefusals(t.Context(), req(&pb.ListRefusalsRequest{Project: p, Code: "too_large"}))
	whose := map[string]int{}
	for _, x := range res.Msg.GetRefusals() {
		whose[x.Door+" "+x.Twin]++
		// One of them announced its size, and its body was not read.
		if lines := strings.Contains(x.Reason, "lines"); len(x.Payload) != actors.MaxHead || !lines && x.Size <= 1<<20 {
			t.Errorf("%d of %d bytes are shown", len(x.Payload), x.Size)
		}
	}
	if err != nil || whose["http "+p+"/lamp"] != 3 || whose["influx "] != 1 || len(whose) != 2 {
		t.Fatalf("too large: %v of %v, %v", whose, res, err)
	}
}

func TestWhoMaySendMessages(t *testing.T) {
	h := openHouse(t)
	p, other := fresh("who"), fresh("who")
	h.echo(t, p+"/lamp")
	h.echo(t, p+"/fan")
	_, viewer := h.newKey(t, &pb.Key{Role: "viewer", Project: p})
	_, operator := h.newKey(t, &pb.Key{Role: "operator", Project: p})
	_, device := h.newKey(t, &pb.Key{Role: "device", Device: p + "/lamp"})
	for _, c := range []struct {
		key, path string
		status    int
	}{
		{"", p + "/lamp", 401}, {viewer, p + "/lamp", 403}, {operator, p + "/lamp", 200}, {operator, other + "/lamp", 403},
		{device, p + "/lamp", 200}, {device, p + "/fan", 422}, {device, other + "/lamp", 403}, {device, p + "/lora/eui/1", 422},
	} {
		if status, a := h.ingest(t, c.key, c.path, `{"level":1}`); status != c.status {
			t.Errorf("key %.12s to %s: status %d, want %d: %+v", c.key, c.path, status, c.status, a)
		}
	}
	r, err := http.NewRequest(http.MethodPost, h.url+"/v1/ingest/"+p+"/write", strings.NewReader("w,twin=lamp level=1"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Token "+operator)
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("InfluxDB's scheme: status %d", res.StatusCode)
	}
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		list, err := h.ingests().ListRefusals(t.Context(), req(&pb.ListRefusalsRequest{Project: p, Code: "foreign_project"}))
		if err != nil {
			t.Fatal(err)
		}
		if len(list.Msg.Refusals) == 2 {
			twins := map[string]int{}
			for _, x := range list.Msg.Refusals {
				if twins[x.Twin]++; string(x.Payload) != `{"level":1}` {
					t.Errorf("refusal without its payload: %v", x)
				}
			}
			if twins[""] != 1 || twins[p+"/lamp"] != 1 {
				t.Errorf("refusals for %v", twins)
			}
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if c := h.counted(t, p, "http"); c.Stored != 2 || c.Refused != 4 {
		t.Errorf("counted %v", c)
	}
}

func TestIngestOverConnect(t *testing.T) {
	h := openHouse(t)
	p := fresh("con")
	h.echo(t, p+"/lamp")
	msg := func(twin, payload string) *pb.IngestMessage {
		return &pb.IngestMessage{Twin: twin, Payload: []byte(payload)}
	}
	res, err := h.ingests().Ingest(t.Context(), req(&pb.IngestRequest{Project: p, Messages: []*pb.IngestMessage{
		msg("lamp", `{"level":1}`), msg("nobody", `{}`), {Payload: []byte(`{}`)}}}))
	if err != nil || res.Msg.Stored != 1 || res.Msg.Refused != 2 || len(res.Msg.Results) != 2 {
		t.Fatalf("%v, %v", res, err)
	}
	stream := rpcv1.NewIngestServiceClient(h.h2c(h.admin), h.url).IngestStream(t.Context())
	for i := range 5 {
		r := &pb.IngestRequest{Project: p, Messages: []*pb.IngestMessage{msg("lamp", fmt.Sprintf(`{"level":%d}`, i)), msg("", "")}}
		if err := stream.Send(&pb.IngestStreamRequest{Request: r}); err != nil {
			t.Fatal(err)
		}
	}
	sums, err := stream.CloseAndReceive()
	if err != nil || sums.Msg.Sums.Stored != 5 || sums.Msg.Sums.Refused != 5 || sums.Msg.Sums.Results[4].Index != 9 {
		t.Fatalf("%v, %v", sums, err)
	}
	if c := h.counted(t, p, "connect"); c.Stored != 6 || c.Refused != 7 || c.Received != 13 || c.InFlight != 0 {
		t.Errorf("counted %v", c)
	}
	// What is wrong with one message spoils no other; what is wrong with a request ends its stream, which says how far it came.
	long := msg("lamp", `{"level":1}`)
	long.Id = strings.Repeat("i", 257)
	res, err = h.ingests().Ingest(t.Context(), req(&pb.IngestRequest{Project: p, Messages: []*pb.IngestMessage{long, msg(strings.Repeat("t", 200), `{"level":1}`), msg("lamp", `{"level":1}`)}}))
	if err != nil || res.Msg.Stored != 1 || res.Msg.Refused != 2 {
		t.Fatalf("%v, %v", res, err)
	}
	stream = rpcv1.NewIngestServiceClient(h.h2c(h.admin), h.url).IngestStream(t.Context())
	for _, r := range []*pb.IngestRequest{{Project: p, Messages: []*pb.IngestMessage{msg("lamp", `{"level":1}`), msg("", "")}}, {Project: "No Project"}} {
		if err := stream.Send(&pb.IngestStreamRequest{Request: r}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = stream.CloseAndReceive(); connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "request 2 of the stream: project") ||
		!strings.Contains(err.Error(), "1 were stored, 1 refused") {
		t.Errorf("a stream with a wrong request: %v", err)
	}
}

func TestPubSubPush(t *testing.T) {
	h := openHouse(t)
	p := fresh("push")
	h.echo(t, p+"/lamp")
	_, operator := h.newKey(t, &pb.Key{Role: "operator", Project: p})
	push := func(data, attributes, id string) string {
		return fmt.Sprintf(`{"message":{"data":%q,"attributes":%s,"messageId":%q,"publishTime":%q},"subscription":"projects/x/subscriptions/s"}`,
			base64.StdEncoding.EncodeToString([]byte(data)), attributes, id, time.Now().UTC().Format(time.RFC3339Nano))
	}
	for _, c := range []struct {
		name, body, token string
		status            int
		want              string
	}{
		{"a message", push(`{"level":7}`, `{"twin":"lamp"}`, "1"), operator, 200, "1 0 0 0"},
		{"the same again", push(`{"level":7}`, `{"twin":"lamp"}`, "1"), operator, 200, "0 0 0 1"},
		{"an unknown device", push(`{"level":7}`, `{"deviceId":"d9"}`, "2"), operator, 200, "0 0 1 0"},
		{"what its driver refuses", push(`no JSON`, `{"twin":"lamp"}`, "3"), operator, 200, "0 1 0 0"},
		{"nobody's", push(`{}`, `{}`, "4"), operator, 200, "0 1 0 0"},
		{"no envelope", `{"data":1}`, operator, 200, "0 1 0 0"},
		{"a large one", push(strings.Repeat("x", 2<<20), `{"twin":"lamp"}`, "6"), operator, 200, "0 1 0 0"},
		{"a stranger", push(`{}`, `{}`, "5"), "plx_aaaaaaaaaaaa_bbbbbbbb", 401, "0 0 0 0"},
	} {
		// As Pub/Sub does: with a proof of Google's, which is not ours.
		status, a := h.ingest(t, "", p+"/pubsub?token="+c.token, c.body, "Authorization", "Bearer ey.google.own")
		if got := fmt.Sprint(a.Stored, a.Refused, a.Inbox, a.Duplicate); status != c.status || got != c.want {
			t.Errorf("%s: status %d, %s: %+v; want %d, %s", c.name, status, got, a, c.status, c.want)
		}
	}
	if c := h.counted(t, p, "pubsub"); c.Stored != 1 || c.Refused != 4 || c.Inbox != 1 || c.Duplicate != 1 {
		t.Errorf("counted %v", c)
	}
}

func FuzzIngestBodies(f *testing.F) {
	for _, s := range []string{`[{"a":1},2]`, "{}\n{}", `["\\"`, `]`, "w,t=1 a=1i,b=\"x\" 5", "a\\ b c=t", `[1,]`, `{"data":1,"time":5}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) { rpc.ReadIngest(body) })
}
