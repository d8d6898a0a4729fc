package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
)

func TestOpenAndClosedDoors(t *testing.T) {
	h := openHouse(t)
	_, viewer := h.newKey(t, &pb.Key{Role: "viewer"})
	_, scoped := h.newKey(t, &pb.Key{Role: "admin", Project: "hotel"})
	for _, tt := range []struct {
		path, key string
		status    int
	}{
		{"/healthz", "", 200},
		{"/readyz", "", 200},
		{"/", "", 200},
		{"/twins/some/deep/link", "", 200},
		{"/v1/nothing", "", 404},
		{"/metrics", "", 401},
		{"/metrics", "plx_aaaaaaaaaaaa_bbbbbbbb", 401},
		{"/metrics", scoped, 403},
		{"/metrics", viewer, 200},
		{"/victoria/api/v1/query?query=1", "", 401},
		{"/victoria/api/v1/query?query=1", scoped, 403},
		{"/victoria/api/v1/query?query=1", viewer, 200},
		{"/victoria/vmui/", "", 401},
	} {
		if status, body, _ := h.get(t, tt.path, tt.key); status != tt.status {
			t.Errorf("%s with key %.8q…: status %d, want %d: %.200s", tt.path, tt.key, status, tt.status, body)
		}
	}
	if _, body, _ := h.get(t, "/metrics", viewer); !strings.Contains(body, "pollux_rpc_calls_total") {
		t.Error("/metrics has no counters of calls")
	}
	status, _, _ := h.get(t, "/pollux.v1.NoService/No", h.admin)
	if status == http.StatusInternalServerError {
		t.Errorf("an unknown procedure: status %d", status)
	}
}

// TestBasicAuthentication: what asks for user and password only, such as a data source of Grafana, gets in with a key.
func TestBasicAuthentication(t *testing.T) {
	h := openHouse(t)
	_, viewer := h.newKey(t, &pb.Key{Role: "viewer"})
	_, scoped := h.newKey(t, &pb.Key{Role: "viewer", Project: "hotel"})
	_, device := h.newKey(t, &pb.Key{Role: "device", Device: "hotel/lamp"})
	ask := func(method, path, user, password string, header ...string) (int, http.Header, string) {
		t.Helper()
		r, err := http.NewRequest(method, h.url+path, strings.NewReader("query=1"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if user != "" {
			r.SetBasicAuth(user, password)
		}
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, res.Header, string(b)
	}
	for _, tt := range []struct {
		method, path, user, password string
		status                       int
	}{
		{"POST", "/victoria/api/v1/query", "key", viewer, 200},
		{"GET", "/victoria/api/v1/query?query=1", "grafana", viewer, 200},
		{"GET", "/metrics", "key", viewer, 200},
		{"GET", "/metrics", "key", scoped, 403},
		{"GET", "/metrics", "key", device, 403},
		{"GET", "/metrics", "key", viewer + "x", 401},
		{"GET", "/metrics", viewer, "", 401},
		{"GET", "/victoria/vmui/", "", "", 401},
	} {
		status, header, body := ask(tt.method, tt.path, tt.user, tt.password)
		if status != tt.status {
			t.Errorf("%s %s as %.4s: status %d, want %d: %.200s", tt.method, tt.path, tt.user, status, tt.status, body)
		}
		if offered := strings.Contains(strings.Join(header.Values("WWW-Authenticate"), "|"), "Basic "); offered != (status == 401) {
			t.Errorf("%s: status %d, offers %q", tt.path, status, header.Values("WWW-Authenticate"))
		}
	}
	_, header, _ := ask("GET", "/metrics", "", "", "Sec-Fetch-Mode", "cors")
	if got := header.Values("WWW-Authenticate"); len(got) != 1 || !strings.HasPrefix(got[0], "Bearer ") {
		t.Errorf("a page's own request is offered %q", got)
	}
	// Elsewhere a password that a browser remembers would be sent by other sites' pages.
	if status, _, _ := ask("POST", rpcv1.TwinServiceListTwinsProcedure, "key", h.admin); status != http.StatusUnauthorized && status != http.StatusUnsupportedMediaType {
		t.Errorf("the API took a password: status %d", status)
	}
}

// TestPlainJSON is what a person with curl does.
func TestPlainJSON(t *testing.T) {
	h := openHouse(t)
	project := fresh("json")
	h.echo(t, project+"/a")
	post := func(key, procedure, body string) (int, map[string]any) {
		r, err := http.NewRequest(http.MethodPost, h.url+procedure, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		res, err := h.http(key).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		var out map[string]any
		if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
			t.Fatalf("%s: status %d: %v", procedure, res.StatusCode, err)
		}
		return res.StatusCode, out
	}
	status, out := post(h.admin, rpcv1.TwinServiceInvokeProcedure, `{"id":"`+project+`/a","action":"echo","input":{"x":[1,null]}}`)
	if got, _ := json.Marshal(out["output"]); status != 200 || string(got) != `{"x":[1,null]}` {
		t.Errorf("echo: %d %v", status, out)
	}
	status, out = post("", rpcv1.TwinServiceInvokeProcedure, `{"id":"`+project+`/a","action":"echo"}`)
	if status != 401 || out["code"] != "unauthenticated" {
		t.Errorf("without key: %d %v", status, out)
	}
	status, out = post(h.admin, rpcv1.TwinServiceInvokeProcedure, `{"id":"`+project+`/a","action":""}`)
	if status != 400 || out["code"] != "invalid_argument" || !strings.Contains(fmt.Sprint(out["message"]), "action") {
		t.Errorf("without action: %d %v", status, out)
	}
	status, out = post(h.admin, rpcv1.TwinServiceInvokeProcedure, `{"id":"`+project+`/none","action":"echo"}`)
	if status != 404 || out["code"] != "not_found" {
		t.Errorf("no such twin: %d %v", status, out)
	}
	status, out = post(h.admin, rpcv1.TwinServiceInvokeProcedure, `{"id":"`+project+`/a","action":"say","input":{}}`)
	if status != 400 || !strings.Contains(fmt.Sprint(out["message"]), "text") {
		t.Errorf("an argument that is missing: %d %v", status, out)
	}
	status, out = post(h.admin, rpcv1.TwinServiceCreateTwinProcedure, `{"twin":{"id":"`+project+`/b","driver":"echo","lables":{"a":"b"}}}`)
	if status != 400 || out["code"] != "invalid_argument" || !strings.Contains(fmt.Sprint(out["message"]), `"lables"`) {
		t.Errorf("a field that no twin has: %d %v", status, out)
	}
	if status, out = post(h.admin, rpcv1.TwinServiceGetTwinProcedure, `{"id":"`+project+`/b"}`); status != 404 {
		t.Errorf("a refused twin is there: %d %v", status, out)
	}
	for property, want := range map[string]struct {
		status int
		says   string
	}{
		"label": {200, ""}, "level": {200, ""}, "on": {200, ""}, "none": {404, "none"},
	} {
		status, out = post(h.admin, rpcv1.TwinServiceQueryHistoryProcedure, `{"id":"`+project+`/a","property":"`+property+`"}`)
		if status != want.status || want.says != "" && !strings.Contains(fmt.Sprint(out["message"]), want.says) {
			t.Errorf("history of %s: %d %v", property, status, out)
		}
	}
	// A bomb of nested JSON is refused, not followed down.
	bomb := `{"id":"` + project + `/a","action":"echo","input":` + strings.Repeat(`[`, 400_000) + strings.Repeat(`]`, 400_000) + `}`
	if status, out = post(h.admin, rpcv1.TwinServiceInvokeProcedure, bomb); status != 400 {
		t.Errorf("a bomb: %d %.300v", status, out)
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Log("no curl here")
		return
	}
	text, err := exec.CommandContext(t.Context(), curl, "-sS", "--fail-with-body", "-H", "Authorization: Bearer "+h.admin,
		"-H", "Content-Type: application/json", "-d", `{"id":"`+project+`/a","action":"say","input":{"text":"curl"}}`,
		h.url+rpcv1.TwinServiceInvokeProcedure).CombinedOutput()
	if err != nil || !strings.Contains(string(text), "hello curl") {
		t.Errorf("curl: %v: %s", err, text)
	}
}

func TestEveryProtocol(t *testing.T) {
	h := openHouse(t)
	twin := fresh("protocols") + "/a"
	h.echo(t, twin)
	_, viewer := h.newKey(t, &pb.Key{Role: "viewer"})
	for name, o := range map[string][]connect.ClientOption{
		"connect": nil, "connect json": {connect.WithProtoJSON()}, "connect gzip": {connect.WithSendGzip()},
		"grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()},
	} {
		t.Run(name, func(t *testing.T) {
			c := rpcv1.NewTwinServiceClient(h.h2c(h.admin), h.url, o...)
			in := structpb.NewStringValue(strings.Repeat("long enough to be compressed ", 1000))
			res, err := c.Invoke(t.Context(), req(&pb.InvokeRequest{Id: twin, Action: "echo", Input: in}))
			if err != nil || res.Msg.Output.GetStringValue() != in.GetStringValue() {
				t.Fatalf("echo: %v", err)
			}
			for key, code := range map[string]connect.Code{"": connect.CodeUnauthenticated, viewer: connect.CodePermissionDenied} {
				c := rpcv1.NewTwinServiceClient(h.h2c(key), h.url, o...)
				_, err = c.Invoke(t.Context(), req(&pb.InvokeRequest{Id: twin, Action: "echo"}))
				if connect.CodeOf(err) != code {
					t.Errorf("got %v, want %s", err, code)
				}
				if info := rpc.ErrorInfoOf(err); info.GetHint() == "" {
					t.Errorf("the error has no hint: %v", err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			stream, err := c.WatchTwins(ctx, req(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{twin}}}))
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			for stream.Receive() {
				if stream.Msg().Id == twin {
					return
				}
			}
			t.Errorf("the watch gave nothing: %v", stream.Err())
		})
	}
}

func TestReflectionAndHealth(t *testing.T) {
	h := openHouse(t)
	list := func(key string) ([]protoreflect.FullName, error) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		stream := grpcreflect.NewClient(h.h2c(key), h.url, connect.WithGRPC()).NewStream(ctx)
		defer stream.Close()
		return stream.ListServices()
	}
	names, err := list(h.admin)
	if err != nil || !slices.Contains(names, rpcv1.TwinServiceName) {
		t.Errorf("reflection: %v, %v", names, err)
	}
	if names, err := list(""); err == nil {
		t.Errorf("a stranger was told %v", names)
	}
	res, err := http.Post(h.url+"/grpc.health.v1.Health/Check", "application/json", strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err != nil || res.StatusCode != 200 || !bytes.Contains(b, []byte("SERVING")) {
		t.Errorf("health: %d %s, %v", res.StatusCode, b, err)
	}
}

// TestLargeBodiesLeaveTheMemoryFlat sends far more than is taken, many times.
func TestLargeBodiesLeaveTheMemoryFlat(t *testing.T) {
	h := openHouse(t)
	endless := func() io.Reader { return io.LimitReader(zeroes{}, 1<<30) }
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 4 {
		for _, tt := range []struct{ procedure, key string }{
			{rpcv1.TwinServiceInvokeProcedure, h.admin},
			{rpcv1.DriverServiceUploadDriverProcedure, h.admin},
			{rpcv1.DriverServiceUploadDriverProcedure, ""},
			{"/login", ""},
			{"/victoria/api/v1/query", h.admin},
		} {
			r, err := http.NewRequest(http.MethodPost, h.url+tt.procedure, endless())
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/proto")
			res, err := h.http(tt.key).Do(r)
			if err != nil {
				continue // closed while we were still sending
			}
			_, _ = io.Copy(io.Discard, res.Body)
			_ = res.Body.Close()
			if res.StatusCode < 400 {
				t.Errorf("%s took a gigabyte: status %d", tt.procedure, res.StatusCode)
			}
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	status, body := h.call(t, h.admin, rpcv1.TwinServiceInvokeProcedure, `{"id":"a","action":"`+strings.Repeat("a", 2<<20)+`"}`)
	if status != http.StatusTooManyRequests || !strings.Contains(body, "resource_exhausted") {
		t.Errorf("2 MiB: status %d: %.200s", status, body)
	}
}

// TestTooLargeSaysSo: the same sentence and reason for each limit, whether the size is announced or found while reading.
func TestTooLargeSaysSo(t *testing.T) {
	h := openHouse(t)
	for procedure, limit := range map[string]int64{
		rpcv1.TwinServiceInvokeProcedure: 1 << 20, rpcv1.DriverServiceUploadDriverProcedure: rpc.MaxUpload,
	} {
		for _, announced := range []bool{true, false} {
			r, err := http.NewRequest(http.MethodPost, h.url+procedure, io.LimitReader(zeroes{}, limit+1))
			if err != nil {
				t.Fatal(err)
			}
			if announced {
				r.ContentLength = limit + 1
			}
			r.Header.Set("Content-Type", "application/proto")
			r.Header.Set("Expect", "100-continue") // so that the answer is read, whoever closes first
			res, err := h.http(h.admin).Do(r)
			if err != nil {
				t.Fatalf("%s, announced %v: %v", procedure, announced, err)
			}
			var out struct {
				Code, Message string
				Details       []struct{ Debug struct{ Reason string } }
			}
			err = json.NewDecoder(res.Body).Decode(&out)
			_ = res.Body.Close()
			if want := fmt.Sprintf("the body is larger than %d bytes", limit); err != nil || out.Code != "resource_exhausted" ||
				out.Message != want || len(out.Details) != 1 || out.Details[0].Debug.Reason != "too_large" {
				t.Errorf("%s, announced %v: got %+v, %v; want %q", procedure, announced, out, err, want)
			}
		}
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestUploadIsVerified(t *testing.T) {
	h := openHouse(t)
	drivers := rpcv1.NewDriverServiceClient(h.http(h.admin), h.url)
	for name, file := range map[string][]byte{"no wasm": []byte("this is no driver"), "no manifest": []byte("\x00asm\x01\x00\x00\x00")} {
		_, err := drivers.UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: file}))
		if connect.CodeOf(err) != connect.CodeInvalidArgument || rpc.ErrorInfoOf(err).GetPath() != "file" {
			t.Errorf("%s: %v", name, err)
		}
	}
	first, err := drivers.UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: drivertest.Echo(t)}))
	if err != nil {
		t.Fatal(err)
	}
	again, err := drivers.UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: drivertest.Echo(t)}))
	if err != nil || again.Msg.Created || again.Msg.Driver.Digest != first.Msg.Driver.Digest {
		t.Errorf("the same again: %v, %v", again, err)
	}
}

func TestWatchResumes(t *testing.T) {
	h := openHouse(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := rpcv1.NewWatchServiceClient(h.http(h.admin), h.url)
	site := rpcv1.NewSiteServiceClient(h.http(h.admin), h.url)
	put := func(id string) {
		t.Helper()
		if _, err := site.PutZone(ctx, req(&pb.PutZoneRequest{Zone: &pb.Zone{Id: id, Title: "T"}})); err != nil {
			t.Fatal(err)
		}
	}
	project := fresh("resume")
	put(project + "/a")
	watch := func(after uint64, until func(*pb.WatchResponse) bool) (seen []string, last uint64) {
		t.Helper()
		stream, err := client.Watch(ctx, req(&pb.WatchRequest{Kind: "zone", AfterRevision: after}))
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		for stream.Receive() {
			m := stream.Msg()
			last = max(last, m.Revision)
			if strings.HasPrefix(m.Id, project+"/") {
				if !m.Deleted && !json.Valid([]byte(m.RecordJson)) {
					t.Errorf("record of %s is no JSON: %s", m.Id, m.RecordJson)
				}
				seen = append(seen, fmt.Sprintf("%s %v", m.Id, m.Deleted))
			}
			if until(m) {
				return seen, last
			}
		}
		t.Fatalf("watch ended: %v", stream.Err())
		return nil, 0
	}
	seen, at := watch(0, func(m *pb.WatchResponse) bool { return m.Synced })
	if !slices.Contains(seen, project+"/a false") {
		t.Errorf("what was there did not come: %v", seen)
	}
	put(project + "/b")
	if _, err := site.DeleteZone(ctx, req(&pb.DeleteZoneRequest{Id: project + "/a"})); err != nil {
		t.Fatal(err)
	}
	seen, _ = watch(at, func(m *pb.WatchResponse) bool { return m.Id == project+"/a" && m.Deleted })
	if !slices.Equal(seen, []string{project + "/b false", project + "/a true"}) {
		t.Errorf("after resuming: %v", seen)
	}
	stream, err := client.Watch(ctx, req(&pb.WatchRequest{Kind: "zone", AfterRevision: 1 << 50}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeOutOfRange {
		t.Errorf("from the future: %v", stream.Err())
	}
}

func TestUpdateNeedsTheRevision(t *testing.T) {
	h := openHouse(t)
	project := fresh("revisions")
	h.echo(t, project+"/a")
	c := h.twins(h.admin)
	got, err := c.GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: project + "/a"}))
	if err != nil {
		t.Fatal(err)
	}
	twin := got.Msg.Twin
	twin.State = nil
	twin.Labels = map[string]string{"room": "1"}
	if _, err := c.UpdateTwin(t.Context(), req(&pb.UpdateTwinRequest{Twin: twin})); err != nil {
		t.Fatal(err)
	}
	if _, err := c.UpdateTwin(t.Context(), req(&pb.UpdateTwinRequest{Twin: twin})); connect.CodeOf(err) != connect.CodeAborted {
		t.Errorf("an old revision: %v", err)
	}
	twin.Revision = 0
	if _, err := c.UpdateTwin(t.Context(), req(&pb.UpdateTwinRequest{Twin: twin})); connect.CodeOf(err) != connect.CodeInvalidArgument {
		t.Errorf("no revision: %v", err)
	}
	_, err = c.CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: project + "/a", Driver: "echo"}}))
	if connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("created twice: %v", err)
	}
	_, err = c.CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: project + "/b", Driver: "no-such-driver"}}))
	if err == nil || connect.CodeOf(err) == connect.CodeInternal {
		t.Errorf("an unknown driver: %v", err)
	}
}

func TestCommandErrorsSayWhetherItWasDone(t *testing.T) {
	h := openHouse(t)
	twin := fresh("outcomes") + "/a"
	h.echo(t, twin)
	_, err := h.twins(h.admin).Invoke(t.Context(), req(&pb.InvokeRequest{Id: twin, Action: "fail",
		Input: mustValue(t, map[string]any{"text": "no paper"})}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || rpc.ErrorInfoOf(err).GetOutcome() != pb.Outcome_OUTCOME_REJECTED ||
		!strings.Contains(err.Error(), "no paper") {
		t.Errorf("got %v with %v", err, rpc.ErrorInfoOf(err))
	}
}
