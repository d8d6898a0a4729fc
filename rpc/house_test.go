package rpc_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux"
	"github.com/polluxhq/pollux/drivers/drivertest"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
)

// patience is how long a test waits for what must happen.
const patience = 90 * time.Second

// house is one real node for all tests of this package: a process holds one embedded metrics store. Tests keep out of
// each other's way by their own twins, keys and projects.
type house struct {
	node  *pollux.Node
	url   string
	admin string
	dir   string
	log   *logLines
	// inbound is the port where devices may call in.
	inbound int
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

var names atomic.Int64

// fresh gives a project's name that no other test, and no other run of the same test, has.
func fresh(name string) string { return fmt.Sprintf("%s%d", name, names.Add(1)) }

func openHouse(t testing.TB) *house {
	t.Helper()
	theHouse.once.Do(func() { theHouse.h, theHouse.err = newHouse(t) })
	if theHouse.err != nil {
		t.Fatalf("open node: %v", theHouse.err)
	}
	return theHouse.h
}

func newHouse(t testing.TB) (*house, error) {
	dir, err := os.MkdirTemp("", "pollux-rpc-")
	if err != nil {
		return nil, err
	}
	conf := pollux.DefaultConfig()
	conf.Data, conf.HTTP, conf.MQTT, conf.Name = dir, "127.0.0.1:0", "127.0.0.1:0", "test"
	conf.Gossip, conf.Peer = "127.0.0.1:0", "127.0.0.1:0"
	conf.MetricsMemory, conf.StoreCache, conf.DriverCompiler = 64<<20, 16<<20, drivertest.Compiler(t)
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf.Inbound = fmt.Sprintf("127.0.0.1:%d", port)
	log := &logLines{}
	node, err := pollux.Open(context.Background(), conf, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		return nil, err
	}
	admin, err := rpc.ReadKeyFile(filepath.Join(dir, rpc.AdminKeyFile))
	if err != nil {
		return nil, err
	}
	return &house{node: node, url: node.URL(), admin: admin, dir: dir, log: log, inbound: port}, nil
}

// freePort is one that nobody has now. Whoever connects out is given others.
func freePort() (port int, err error) {
	for range 50 {
		port = 20_000 + rand.IntN(10_000)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, err
}

// logLines keeps what the node logs.
type logLines struct {
	mu   sync.Mutex
	text []byte
}

func (l *logLines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	return len(b), nil
}

// with gives the lines that contain text.
func (l *logLines) with(text string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for line := range strings.Lines(string(l.text)) {
		if strings.Contains(line, text) {
			out = append(out, line)
		}
	}
	return out
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

func mustValue(t *testing.T, v any) *structpb.Value {
	t.Helper()
	out, err := structpb.NewValue(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
