package rpc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"connectrpc.com/grpcreflect"
	mqtt "github.com/eclipse/paho.mqtt.golang"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux"
	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// house is one real node for all tests of this package: a process holds one embedded metrics store. Tests keep out of
// each other's way by their own twins, keys and projects.
type house struct {
	node  *pollux.Node
	url   string
	admin string
	dir   string
}

var theHouse struct {
	once sync.Once
	h    *house
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if h := theHouse.h; h != nil {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		if err := h.node.Close(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "close node:", err)
			code = 1
		}
		cancel()
		_ = os.RemoveAll(h.dir)
	}
	os.Exit(code)
}

func openHouse(t testing.TB) *house {
	t.Helper()
	theHouse.once.Do(func() { theHouse.h, theHouse.err = newHouse() })
	if theHouse.err != nil {
		t.Fatalf("open node: %v", theHouse.err)
	}
	return theHouse.h
}

func newHouse() (*house, error) {
	dir, err := os.MkdirTemp("", "pollux-rpc-")
	if err != nil {
		return nil, err
	}
	conf := pollux.DefaultConfig()
	conf.Data, conf.HTTP, conf.MQTT, conf.Name = dir, "127.0.0.1:0", "127.0.0.1:0", "test"
	conf.MetricsMemory, conf.StoreCache = 64<<20, 16<<20
	node, err := pollux.Open(context.Background(), conf, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	admin, err := rpc.ReadKeyFile(filepath.Join(dir, rpc.AdminKeyFile))
	if err != nil {
		return nil, err
	}
	return &house{node: node, url: node.URL(), admin: admin, dir: dir}, nil
}

// keyed sends an API key, where it has one, with each request.
type keyed struct {
	key  string
	next http.RoundTripper
}

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	if k.key != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+k.key)
	}
	return k.next.RoundTrip(r)
}

func (h *house) http(key string) *http.Client {
	return &http.Client{Transport: keyed{key, http.DefaultTransport}}
}

// h2c speaks HTTP/2 without TLS, as gRPC clients on loopback do.
func (h *house) h2c(key string) *http.Client {
	var p http.Protocols
	p.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: keyed{key, &http.Transport{Protocols: &p}}}
}

func (h *house) twins(key string, o ...connect.ClientOption) rpcv1.TwinServiceClient {
	return rpcv1.NewTwinServiceClient(h.http(key), h.url, o...)
}

func (h *house) keys(key string) rpcv1.KeyServiceClient {
	return rpcv1.NewKeyServiceClient(h.http(key), h.url)
}

func req[T any](m *T) *connect.Request[T] { return connect.NewRequest(m) }

// newKey makes a key as the administrator.
func (h *house) newKey(t testing.TB, k *pb.Key) (id, secret string) {
	t.Helper()
	res, err := h.keys(h.admin).CreateKey(t.Context(), req(&pb.CreateKeyRequest{Key: k}))
	if err != nil {
		t.Fatalf("create key: %v", err)
	}
	return res.Msg.Key.Id, res.Msg.Secret
}

// echo makes a twin of the echo driver.
func (h *house) echo(t testing.TB, id string) {
	t.Helper()
	drivers := rpcv1.NewDriverServiceClient(h.http(h.admin), h.url)
	if _, err := drivers.UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: drivertest.Echo(t)})); err != nil {
		t.Fatalf("upload driver: %v", err)
	}
	settings, err := structpb.NewStruct(map[string]any{"topic": strings.ReplaceAll(id, "/", "_")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: id, Driver: "echo", Settings: settings}}))
	if err != nil {
		t.Fatalf("create twin: %v", err)
	}
}

// get gives status, body and headers of a GET.
func (h *house) get(t testing.TB, path, key string) (int, string, http.Header) {
	t.Helper()
	res, err := h.http(key).Get(h.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

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

// TestPlainJSON is what a person with curl does.
func TestPlainJSON(t *testing.T) {
	h := openHouse(t)
	h.echo(t, "json/a")
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
	status, out := post(h.admin, rpcv1.TwinServiceInvokeProcedure, `{"id":"json/a","action":"echo","input":{"x":[1,null]}}`)
	if got, _ := json.Marshal(out["output"]); status != 200 || string(got) != `{"x":[1,null]}` {
		t.Errorf("echo: %d %v", status, out)
	}
	status, out = post("", rpcv1.TwinServiceInvokeProcedure, `{"id":"json/a","action":"echo"}`)
	if status != 401 || out["code"] != "unauthenticated" {
		t.Errorf("without key: %d %v", status, out)
	}
	status, out = post(h.admin, rpcv1.TwinServiceInvokeProcedure, `{"id":"json/a","action":""}`)
	if status != 400 || out["code"] != "invalid_argument" || !strings.Contains(fmt.Sprint(out["message"]), "action") {
		t.Errorf("without action: %d %v", status, out)
	}
	status, out = post(h.admin, rpcv1.TwinServiceInvokeProcedure, `{"id":"json/none","action":"echo"}`)
	if status != 404 || out["code"] != "not_found" {
		t.Errorf("no such twin: %d %v", status, out)
	}
	status, out = post(h.admin, rpcv1.TwinServiceInvokeProcedure, `{"id":"json/a","action":"say","input":{}}`)
	if status != 400 || !strings.Contains(fmt.Sprint(out["message"]), "text") {
		t.Errorf("an argument that is missing: %d %v", status, out)
	}
	// A bomb of nested JSON is refused, not followed down.
	bomb := `{"id":"json/a","action":"echo","input":` + strings.Repeat(`[`, 400_000) + strings.Repeat(`]`, 400_000) + `}`
	if status, out = post(h.admin, rpcv1.TwinServiceInvokeProcedure, bomb); status != 400 {
		t.Errorf("a bomb: %d %.300v", status, out)
	}
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Log("no curl here")
		return
	}
	text, err := exec.CommandContext(t.Context(), curl, "-sS", "--fail-with-body", "-H", "Authorization: Bearer "+h.admin,
		"-H", "Content-Type: application/json", "-d", `{"id":"json/a","action":"say","input":{"text":"curl"}}`,
		h.url+rpcv1.TwinServiceInvokeProcedure).CombinedOutput()
	if err != nil || !strings.Contains(string(text), "hello curl") {
		t.Errorf("curl: %v: %s", err, text)
	}
}

func TestEveryProtocol(t *testing.T) {
	h := openHouse(t)
	h.echo(t, "protocols/a")
	_, viewer := h.newKey(t, &pb.Key{Role: "viewer"})
	for name, o := range map[string][]connect.ClientOption{
		"connect": nil, "connect json": {connect.WithProtoJSON()}, "connect gzip": {connect.WithSendGzip()},
		"grpc": {connect.WithGRPC()}, "grpc-web": {connect.WithGRPCWeb()},
	} {
		t.Run(name, func(t *testing.T) {
			c := rpcv1.NewTwinServiceClient(h.h2c(h.admin), h.url, o...)
			in := structpb.NewStringValue(strings.Repeat("long enough to be compressed ", 1000))
			res, err := c.Invoke(t.Context(), req(&pb.InvokeRequest{Id: "protocols/a", Action: "echo", Input: in}))
			if err != nil || res.Msg.Output.GetStringValue() != in.GetStringValue() {
				t.Fatalf("echo: %v", err)
			}
			for key, code := range map[string]connect.Code{"": connect.CodeUnauthenticated, viewer: connect.CodePermissionDenied} {
				c := rpcv1.NewTwinServiceClient(h.h2c(key), h.url, o...)
				_, err = c.Invoke(t.Context(), req(&pb.InvokeRequest{Id: "protocols/a", Action: "echo"}))
				if connect.CodeOf(err) != code {
					t.Errorf("got %v, want %s", err, code)
				}
				if info := rpc.ErrorInfoOf(err); info.GetHint() == "" {
					t.Errorf("the error has no hint: %v", err)
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			stream, err := c.WatchTwins(ctx, req(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{"protocols/a"}}}))
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			for stream.Receive() {
				if stream.Msg().Id == "protocols/a" {
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

// TestAuthorizationOverHTTP calls every procedure of the API as everybody, through the whole door.
func TestAuthorizationOverHTTP(t *testing.T) {
	h := openHouse(t)
	callers := map[string]string{"nobody": "", "forged": "plx_aaaaaaaaaaaa_bbbbbbbbbb", "admin": h.admin}
	for _, role := range []string{"viewer", "operator"} {
		_, callers[role] = h.newKey(t, &pb.Key{Role: role})
	}
	_, callers["device"] = h.newKey(t, &pb.Key{Role: "device", Device: "hotel/lamp"})
	_, callers["admin of hotel"] = h.newKey(t, &pb.Key{Role: "admin", Project: "hotel"})
	// What each needs at least, written down a second time, apart from the table.
	admin := []string{"UploadDriver", "DeleteDriver", "AddFromCatalog", "CreateTwin", "UpdateTwin", "DeleteTwin", "CreateKey", "ListKeys",
		"DeleteKey", "PutZone", "DeleteZone", "PutSystem", "DeleteSystem"}
	operator := []string{"Invoke", "SetDesired", "TraceTwin"}
	protoregistry.GlobalFiles.RangeFilesByPackage("pollux.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				if m.IsStreamingServer() {
					continue // TestStreamsAreAuthorized
				}
				name := string(m.Name())
				for who, key := range callers {
					want := http.StatusOK
					switch {
					case who == "nobody", who == "forged":
						want = http.StatusUnauthorized
					case who == "device":
						want = http.StatusForbidden
					case who == "viewer" && (slices.Contains(admin, name) || slices.Contains(operator, name)),
						who == "operator" && slices.Contains(admin, name):
						want = http.StatusForbidden
					case who == "admin of hotel" && slices.Contains([]string{"UploadDriver", "DeleteDriver", "AddFromCatalog"}, name):
						want = http.StatusForbidden
					}
					got, body := h.call(t, key, fmt.Sprintf("/%s/%s", s.FullName(), name), requestFor(m, "hotel"))
					refused := got == http.StatusUnauthorized || got == http.StatusForbidden
					if want == http.StatusOK && refused || want != http.StatusOK && got != want {
						t.Errorf("%s by %s: status %d, want %d: %.200s", name, who, got, want, body)
					}
					if who == "admin of hotel" && strings.Contains(requestFor(m, "school"), "school") {
						if got, body := h.call(t, key, fmt.Sprintf("/%s/%s", s.FullName(), name), requestFor(m, "school")); got != http.StatusForbidden {
							t.Errorf("%s by %s in another project: status %d: %.200s", name, who, got, body)
						}
					}
				}
			}
		}
		return true
	})
}

// requestFor fills what names a resource, and leaves the rest so that nothing is changed by it.
func requestFor(m protoreflect.MethodDescriptor, project string) string {
	in := m.Input()
	fields := make(map[string]any)
	for i := range in.Fields().Len() {
		f := in.Fields().Get(i)
		switch name := f.JSONName(); {
		case name == "id" && m.Parent().Name() != "KeyService":
			fields[name] = project + "/nothing"
		case name == "project":
			fields[name] = project
		case name == "filter":
			fields[name] = map[string]any{"project": project}
		case name == "key":
			fields[name] = map[string]any{"project": project, "role": "nonsense"}
		case f.Kind() == protoreflect.MessageKind && (name == "twin" || name == "zone" || name == "system"):
			fields[name] = map[string]any{"id": project + "/nothing", "revision": 1 << 40}
		}
	}
	b, _ := json.Marshal(fields)
	return string(b)
}

func (h *house) call(t *testing.T, key, procedure, body string) (int, string) {
	t.Helper()
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
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

func TestStreamsAreAuthorized(t *testing.T) {
	h := openHouse(t)
	_, scoped := h.newKey(t, &pb.Key{Role: "viewer", Project: "hotel"})
	_, device := h.newKey(t, &pb.Key{Role: "device", Device: "hotel/lamp"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watch := func(key, kind string) error {
		s, err := rpcv1.NewWatchServiceClient(h.http(key), h.url).Watch(ctx, req(&pb.WatchRequest{Kind: kind}))
		if err != nil {
			return err
		}
		defer s.Close()
		s.Receive()
		return s.Err()
	}
	twins := func(key, project string) error {
		s, err := h.twins(key).WatchTwins(ctx, req(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Project: project}}))
		if err != nil {
			return err
		}
		defer s.Close()
		s.Receive()
		return s.Err()
	}
	trace := func(key, id string) error {
		s, err := h.twins(key).TraceTwin(ctx, req(&pb.TraceTwinRequest{Id: id}))
		if err != nil {
			return err
		}
		defer s.Close()
		s.Receive()
		return s.Err()
	}
	const ok = connect.Code(0)
	for _, tt := range []struct {
		name string
		err  error
		want connect.Code
	}{
		{"watch, nobody", watch("", "twin"), connect.CodeUnauthenticated},
		{"watch, device", watch(device, "twin"), connect.CodePermissionDenied},
		{"watch of keys, viewer", watch(scoped, "key"), connect.CodePermissionDenied},
		{"watch of keys, admin", watch(h.admin, "key"), ok},
		{"watch of slots, one project", watch(scoped, "slot"), ok},
		{"watch of nonsense", watch(h.admin, "nonsense"), connect.CodeInvalidArgument},
		{"twins, own project", twins(scoped, ""), ok},
		{"twins, another project", twins(scoped, "school"), connect.CodePermissionDenied},
		{"trace, viewer", trace(scoped, "hotel/x"), connect.CodePermissionDenied},
		{"trace of nothing", trace(h.admin, "hotel/no-such-twin"), connect.CodeNotFound},
	} {
		got := ok
		if tt.err != nil {
			got = connect.CodeOf(tt.err)
		}
		if got != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, tt.err, tt.want)
		}
	}
}

// TestProjectsAreApart: a key of one project sees nothing of another, in lists and watches that name none.
func TestProjectsAreApart(t *testing.T) {
	h := openHouse(t)
	h.echo(t, "east/a")
	h.echo(t, "west/a")
	_, east := h.newKey(t, &pb.Key{Role: "admin", Project: "east", Name: "east"})
	list, err := h.twins(east).ListTwins(t.Context(), req(&pb.ListTwinsRequest{}))
	if err != nil || len(list.Msg.Twins) != 1 || list.Msg.Twins[0].Id != "east/a" {
		t.Errorf("list: %v, %v", list, err)
	}
	keys, err := h.keys(east).ListKeys(t.Context(), req(&pb.ListKeysRequest{}))
	if err != nil || len(keys.Msg.Keys) != 1 || keys.Msg.Keys[0].Name != "east" {
		t.Errorf("keys: %v, %v", keys, err)
	}
	all, err := h.keys(h.admin).ListKeys(t.Context(), req(&pb.ListKeysRequest{PageSize: 1000}))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all.Msg.Keys, func(k *pb.Key) bool { return k.Name == "admin" })
	if i < 0 {
		t.Fatal("the administrator's key is not listed")
	}
	if _, err := h.keys(east).DeleteKey(t.Context(), req(&pb.DeleteKeyRequest{Id: all.Msg.Keys[i].Id})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a project's administrator deletes the administrator: %v", err)
	}
	if _, err := h.keys(east).CreateKey(t.Context(), req(&pb.CreateKeyRequest{Key: &pb.Key{Role: "admin", Project: "west"}})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a project's administrator makes one of another: %v", err)
	}
	made, err := h.keys(east).CreateKey(t.Context(), req(&pb.CreateKeyRequest{Key: &pb.Key{Role: "admin"}}))
	if err != nil || made.Msg.Key.Project != "east" {
		t.Errorf("a key without project is of %v, %v", made, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := rpcv1.NewWatchServiceClient(h.http(east), h.url).Watch(ctx, req(&pb.WatchRequest{Kind: "twin"}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	h.echo(t, "west/b")
	h.echo(t, "east/b")
	for stream.Receive() {
		m := stream.Msg()
		if m.Id != "" && !strings.HasPrefix(m.Id, "east/") {
			t.Errorf("the watch of east shows %s", m.Id)
		}
		if m.Id == "east/b" {
			return
		}
	}
	t.Errorf("east/b never came: %v", stream.Err())
}

func TestLoginAndSession(t *testing.T) {
	h := openHouse(t)
	id, key := h.newKey(t, &pb.Key{Role: "viewer", Name: "browser"})
	link, err := h.keys(key).CreateLoginLink(t.Context(), req(&pb.CreateLoginLinkRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	do := func(method, path, body string, header ...string) (int, *http.Response) {
		t.Helper()
		r, err := http.NewRequest(method, h.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		res, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		return res.StatusCode, res
	}
	if status, _ := do("GET", "/login?code=guessed", ""); status != 401 {
		t.Errorf("a guessed code: %d", status)
	}
	status, res := do("GET", link.Msg.Path, "")
	if status != 200 || res.Request.URL.Path != "/" {
		t.Fatalf("login: status %d at %s", status, res.Request.URL)
	}
	if status, _ := do("GET", link.Msg.Path, ""); status != 401 {
		t.Errorf("the link works twice: %d", status)
	}
	const same, cross = "same-origin", "cross-site"
	jsonType := []string{"Content-Type", "application/json", "Sec-Fetch-Site"}
	for _, tt := range []struct {
		name, method, path string
		header             []string
		status             int
	}{
		{"a call of our page", "POST", rpcv1.TwinServiceListTwinsProcedure, append(jsonType, same), 200},
		{"a call of another page", "POST", rpcv1.TwinServiceListTwinsProcedure, append(jsonType, cross), 403},
		{"a call by another origin", "POST", rpcv1.TwinServiceListTwinsProcedure, []string{"Content-Type", "application/json", "Origin", "http://evil.example"}, 403},
		{"a call without a word", "POST", rpcv1.TwinServiceListTwinsProcedure, []string{"Content-Type", "application/json"}, 403},
		{"what a viewer may not", "POST", rpcv1.TwinServiceDeleteTwinProcedure, append(jsonType, same), 400},
		{"the metrics", "GET", "/metrics", nil, 200},
		{"a chart", "GET", "/victoria/api/v1/query?query=1", nil, 200},
		{"a chart for another page", "GET", "/victoria/api/v1/query?query=1", []string{"Sec-Fetch-Site", cross, "Sec-Fetch-Mode", "cors"}, 403},
		{"a link of a session", "POST", rpcv1.KeyServiceCreateLoginLinkProcedure, append(jsonType, same), 403},
	} {
		if status, _ := do(tt.method, tt.path, "{}", tt.header...); status != tt.status && tt.method == "POST" {
			t.Errorf("%s: status %d, want %d", tt.name, status, tt.status)
		} else if tt.method == "GET" {
			if status, _ := do(tt.method, tt.path, "", tt.header...); status != tt.status {
				t.Errorf("%s: status %d, want %d", tt.name, status, tt.status)
			}
		}
	}
	if status, _ := do("POST", "/logout", "", "Sec-Fetch-Site", cross); status != 403 {
		t.Errorf("another page signs out: %d", status)
	}
	if status, _ := do("POST", "/logout", "", "Sec-Fetch-Site", same); status != 204 {
		t.Errorf("logout: %d", status)
	}
	if status, _ := do("GET", "/metrics", ""); status != 401 {
		t.Errorf("after logout: %d", status)
	}
	// By key, as the console's own page does.
	if status, _ := do("POST", "/login", `{"key":"`+key+`"}`, append(jsonType, cross)...); status != 403 {
		t.Errorf("another page signs in: %d", status)
	}
	if status, _ := do("POST", "/login", `{"key":"`+key+`"}`, append(jsonType, same)...); status != 204 {
		t.Errorf("login by key: %d", status)
	}
	status, res = do("GET", "/metrics", "")
	if status != 200 {
		t.Errorf("after login by key: %d", status)
	}
	for _, c := range jar.Cookies(res.Request.URL) {
		if c.Name == rpc.SessionCookie && strings.Contains(key, c.Value) {
			t.Error("the cookie is the key")
		}
	}
	if _, err := h.keys(h.admin).DeleteKey(t.Context(), req(&pb.DeleteKeyRequest{Id: id})); err != nil {
		t.Fatal(err)
	}
	if status, _ := do("GET", "/metrics", ""); status != 401 {
		t.Errorf("the session outlives its key: %d", status)
	}
}

func TestDeletedKeyEndsItsStreams(t *testing.T) {
	h := openHouse(t)
	id, key := h.newKey(t, &pb.Key{Role: "viewer"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := h.twins(key).WatchTwins(ctx, req(&pb.WatchTwinsRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if _, err := h.keys(h.admin).DeleteKey(ctx, req(&pb.DeleteKeyRequest{Id: id})); err != nil {
		t.Fatal(err)
	}
	for stream.Receive() {
	}
	if connect.CodeOf(stream.Err()) != connect.CodeUnauthenticated {
		t.Errorf("the stream ended by %v", stream.Err())
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
	put("resume/a")
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
			if strings.HasPrefix(m.Id, "resume/") {
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
	if !slices.Contains(seen, "resume/a false") {
		t.Errorf("what was there did not come: %v", seen)
	}
	put("resume/b")
	if _, err := site.DeleteZone(ctx, req(&pb.DeleteZoneRequest{Id: "resume/a"})); err != nil {
		t.Fatal(err)
	}
	seen, _ = watch(at, func(m *pb.WatchResponse) bool { return m.Id == "resume/a" && m.Deleted })
	if !slices.Equal(seen, []string{"resume/b false", "resume/a true"}) {
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
	h.echo(t, "revisions/a")
	c := h.twins(h.admin)
	got, err := c.GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: "revisions/a"}))
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
	_, err = c.CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: "revisions/a", Driver: "echo"}}))
	if connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("created twice: %v", err)
	}
	_, err = c.CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: "revisions/b", Driver: "no-such-driver"}}))
	if err == nil || connect.CodeOf(err) == connect.CodeInternal {
		t.Errorf("an unknown driver: %v", err)
	}
}

func TestCommandErrorsSayWhetherItWasDone(t *testing.T) {
	h := openHouse(t)
	h.echo(t, "outcomes/a")
	_, err := h.twins(h.admin).Invoke(t.Context(), req(&pb.InvokeRequest{Id: "outcomes/a", Action: "fail",
		Input: mustValue(t, map[string]any{"text": "no paper"})}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition || rpc.ErrorInfoOf(err).GetOutcome() != pb.Outcome_OUTCOME_REJECTED ||
		!strings.Contains(err.Error(), "no paper") {
		t.Errorf("got %v with %v", err, rpc.ErrorInfoOf(err))
	}
}

func mustValue(t *testing.T, v any) *structpb.Value {
	t.Helper()
	out, err := structpb.NewValue(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestDeviceKeyOpensTheBroker(t *testing.T) {
	h := openHouse(t)
	h.echo(t, "devices/a")
	id, secret := h.newKey(t, &pb.Key{Role: "device", Device: "devices/a"})
	_, viewer := h.newKey(t, &pb.Key{Role: "viewer"})
	connectAs := func(user, password string) (mqtt.Client, error) {
		t.Helper()
		c := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("tcp://" + h.node.MQTTAddr()).SetClientID("d-" + user).
			SetUsername(user).SetPassword(password).SetAutoReconnect(false))
		tok := c.Connect()
		if !tok.WaitTimeout(patience) {
			t.Fatal("no answer to connect")
		}
		return c, tok.Error()
	}
	for user, password := range map[string]string{"devices/a": secret + "x", "devices/b": secret, "a": secret, "devices/a ": secret, "x": viewer} {
		if c, err := connectAs(user, password); err == nil {
			c.Disconnect(0)
			t.Errorf("user %q was let in", user)
		}
	}
	c, err := connectAs("devices/a", secret)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Disconnect(0)
	if tok := c.Publish("echo/devices_a/set", 1, false, `{"level":3}`); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatalf("publish: %v", tok.Error())
	}
	// Acknowledged means committed: the value is there.
	got, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: "devices/a"}))
	if err != nil || got.Msg.Twin.State.Properties["level"].GetValue().GetNumberValue() != 3 {
		t.Errorf("after the acknowledgement: %v, %v", got, err)
	}
	if _, err := h.keys(h.admin).DeleteKey(t.Context(), req(&pb.DeleteKeyRequest{Id: id})); err != nil {
		t.Fatal(err)
	}
	if c, err := connectAs("devices/a", secret); err == nil {
		c.Disconnect(0)
		t.Error("a deleted key opens the broker")
	}
}
