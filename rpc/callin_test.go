package rpc_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
)

// callIn is a driver whose devices call in, are asked over HTTP, and are found in the network.
const callIn = `export default driver({
  name: 'callin', version: '1.0.0', title: 'Caller',
  transports: [
    { scheme: 'webhook', inbound: { token: '{token}' } },
    { scheme: 'tcp-in', tokenizer: { delimiter: '\n' } },
    { scheme: 'http', http: { auth: 'bearer', token: '{token}' } },
  ],
  capabilities: ['send', 'discover', 'http'],
  scan: { over: 'udp', port: 9, timeout_ms: 300, options: { type: 'object', properties: { port: { type: 'integer' } }, required: ['port'], additionalProperties: false },
    run: (scan, { port }) => { scan.send('127.0.0.1:' + port + '\0who') } },
  settings: { token: { type: 'string', writeOnly: true, default: '' } },
  properties: { last: { type: 'string' } },
  actions: { ask: { input: { path: 'string' }, output: 'string', run: async (twin, { path }) => { const r = await twin.fetch(path); return r.status + ' ' + r.text(); } } },
  received(twin, frame) {
    const at = frame.indexOf('\0');
    if (at >= 0) { twin.discover({ network: 'test', key: 'id', value: frame.slice(at + 1), name: 'Thing', uri: 'tcp://' + frame.slice(0, at) }); return; }
    twin.report('last', frame);
    twin.send('you said ' + frame + '\n');
  },
  webhook(twin, { method, path, query, headers, body }) {
    twin.report('last', body);
    return { status: 201, headers: { 'X-Path': path, 'X-Cookie': headers.cookie ?? 'none', 'Set-Cookie': 'pollux_session=x', 'Clear-Site-Data': '"*"' }, body: method + ' ' + (query.a ?? '') + ' ' + (headers.authorization ?? 'no credentials') };
  },
});
`

func (h *house) caller(t *testing.T, id, uri string, settings map[string]any) {
	t.Helper()
	drivers := rpcv1.NewDriverServiceClient(h.http(h.admin), h.url)
	if _, err := drivers.UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: []byte(callIn)})); err != nil {
		t.Fatalf("upload: %v", err)
	}
	s, err := structpb.NewStruct(settings)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: id, Driver: "callin", Uri: uri, Settings: s}})); err != nil {
		t.Fatalf("create %s: %v", id, err)
	}
	t.Cleanup(func() { // the port is then free for another project
		if _, err := h.twins(h.admin).DeleteTwin(context.Background(), req(&pb.DeleteTwinRequest{Id: id})); err != nil {
			t.Errorf("delete %s: %v", id, err)
		}
	})
}

func (h *house) last(t *testing.T, id, want string) {
	t.Helper()
	var got string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		res, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: id}))
		if err != nil {
			t.Fatal(err)
		}
		if got = res.Msg.Twin.State.Properties["last"].GetValue().GetStringValue(); got == want {
			return
		}
	}
	t.Fatalf("%s: last is %q, want %q", id, got, want)
}

func TestWebhooks(t *testing.T) {
	h := openHouse(t)
	project := fresh("hooks")
	h.caller(t, project+"/open", "webhook:?from=127.0.0.0/8", nil)
	h.caller(t, project+"/far", "webhook:?from=10.0.0.0/8", nil)
	h.caller(t, project+"/keyed", "", map[string]any{"token": "s3cret"})
	h.caller(t, project+"/nobody", "", nil)
	ask := func(path, bearer, body string) (int, string, http.Header) {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, h.url+"/hooks/"+project+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.AddCookie(&http.Cookie{Name: rpc.SessionCookie, Value: "of the console"})
		if bearer != "" {
			r.Header.Set("Authorization", "Bearer "+bearer)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(b), res.Header
	}
	status, body, head := ask("/open/a/b?a=1", "", "hello")
	if status != 201 || body != "POST 1 no credentials" || head.Get("X-Path") != "/a/b" || !strings.Contains(head.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("open: %d %q %v", status, body, head)
	}
	if head.Get("X-Cookie") != "none" || head.Get("Set-Cookie") != "" || head.Get("Clear-Site-Data") != "" {
		t.Errorf("the driver reaches the console's session: %v", head)
	}
	h.last(t, project+"/open", "hello")
	for path, bearer := range map[string]string{"/keyed": "s3cret", "/keyed?token=s3cret": ""} {
		if status, body, _ = ask(path, bearer, "x"); status != 201 || body != "POST  no credentials" {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	for path, bearer := range map[string]string{"/keyed": "", "/keyed?token=guess": "", "/far": "", "/nobody": "", "/absent": "", "/keyed/x": "wrong"} {
		if status, body, _ = ask(path, bearer, "x"); status != 404 || body != "there is no webhook for you here\n" {
			t.Errorf("%s %s: %d %q", path, bearer, status, body)
		}
	}
	if h.refused(t)["http webhook"] < 6 {
		t.Errorf("refused: %v", h.refused(t))
	}
	if status, _, _ = ask("/open", "", strings.Repeat("x", 8<<20)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body of 8 MiB: %d", status)
	}
}

func TestADeviceCallsInOverTCP(t *testing.T) {
	h := openHouse(t)
	at := fmt.Sprintf("127.0.0.1:%d", h.inbound)
	until(t, "the port of another test's twin to be closed", func() error {
		c, err := net.Dial("tcp", at)
		if err != nil {
			return nil
		}
		return errors.Join(errors.New("it is open"), c.Close())
	})
	id := fresh("callin") + "/a"
	h.caller(t, id, fmt.Sprintf("tcp-in://:%d?from=127.0.0.1", h.inbound), nil)
	var device net.Conn
	until(t, "the port", func() (err error) {
		device, err = net.Dial("tcp", at)
		return err
	})
	defer device.Close()
	fmt.Fprint(device, "good morning\n")
	if line, err := bufio.NewReader(device).ReadString('\n'); line != "you said good morning\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	h.last(t, id, "good morning")
	// The device has its answer before that is counted.
	until(t, "one frame each way", func() error {
		res, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: id}))
		if err != nil {
			return err
		}
		s := res.Msg.Twin.State.Status
		if s.Connection != pb.Connection_CONNECTION_CONNECTED || s.Traffic.GetReceivedFrames() != 1 || s.Traffic.GetSentFrames() != 1 || s.LastSeen == nil {
			return fmt.Errorf("status: %v", s)
		}
		return nil
	})
}

// What keeps a device from calling in shows at its twin, with what to write, and goes once it is mended.
func TestWhatKeepsADeviceFromCallingIn(t *testing.T) {
	h := openHouse(t)
	project := fresh("away")
	status := func(id, fault string, connection pb.Connection) {
		t.Helper()
		var s *pb.TwinStatus
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
			res, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: project + "/" + id}))
			if err != nil {
				t.Fatal(err)
			}
			if s = res.Msg.Twin.State.Status; (fault == "") == (s.Fault == "") && strings.Contains(s.Fault, fault) && s.Connection == connection {
				return
			}
		}
		t.Errorf("%s: %v; want %v with the fault %q", id, s, connection, fault)
	}
	change := func(id, uri string, settings map[string]any) {
		t.Helper()
		res, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: project + "/" + id}))
		if err != nil {
			t.Fatal(err)
		}
		now := res.Msg.Twin
		now.Uri = uri
		if now.Settings, err = structpb.NewStruct(settings); err != nil {
			t.Fatal(err)
		}
		if _, err := h.twins(h.admin).UpdateTwin(t.Context(), req(&pb.UpdateTwinRequest{Twin: now})); err != nil {
			t.Fatal(err)
		}
	}
	const waits, not = pb.Connection_CONNECTION_CONNECTING, pb.Connection_CONNECTION_DISCONNECTED
	here := fmt.Sprintf("tcp-in://:%d?from=127.0.0.9", h.inbound)
	h.caller(t, project+"/hook", "", nil)
	h.caller(t, project+"/port", "tcp-in://:9?from=127.0.0.9", nil)
	h.caller(t, project+"/a", here, nil)
	status("hook", "nobody may call: give a token by the setting token, or say by ?from= in the twin's address who may, as in --uri webhook:?from=10.0.0.7", not)
	status("port", fmt.Sprintf("no device can call in at port 9: the nodes let them in at 127.0.0.1:%d; change the port in the twin's address, or a node's --inbound", h.inbound), not)
	status("a", "", waits)
	h.caller(t, project+"/b", here, nil)
	status("a", fmt.Sprintf("the twin %s/b has the same port %d and ?from=127.0.0.9", project, h.inbound), not)
	status("b", fmt.Sprintf("the twin %s/a has the same port %d and ?from=127.0.0.9", project, h.inbound), not)
	change("b", strings.Replace(here, "127.0.0.9", "127.0.0.8", 1), nil)
	status("a", "", waits)
	status("b", "", waits)
	change("hook", "", map[string]any{"token": "s3cret"})
	status("hook", "", waits)
	change("hook", "", nil)
	status("hook", "nobody may call", not)
}

func TestADriverAsksOverHTTP(t *testing.T) {
	h := openHouse(t)
	id := fresh("asks") + "/a"
	device := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path, " ", r.Header.Get("Authorization"))
	}))
	defer device.Close()
	h.caller(t, id, device.URL+"/api/", map[string]any{"token": "tok"})
	in, err := structpb.NewValue(map[string]any{"path": "state"})
	if err != nil {
		t.Fatal(err)
	}
	res, err := h.twins(h.admin).Invoke(t.Context(), req(&pb.InvokeRequest{Id: id, Action: "ask", Input: in}))
	if err != nil || res.Msg.Output.GetStringValue() != "200 /api/state Bearer tok" {
		t.Fatalf("got %v, %v", res, err)
	}
	in, _ = structpb.NewValue(map[string]any{"path": "http://127.0.0.1:1/"})
	if res, err := h.twins(h.admin).Invoke(t.Context(), req(&pb.InvokeRequest{Id: id, Action: "ask", Input: in})); err == nil && res.Msg.Outcome == pb.Outcome_OUTCOME_DONE {
		t.Fatalf("another host was asked: %v", res)
	}
}

func TestScan(t *testing.T) {
	h := openHouse(t)
	project := fresh("scan")
	h.caller(t, project+"/some", "webhook:?from=10.0.0.0/8", nil)
	device, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	go func() {
		buf := make([]byte, 10)
		for {
			n, from, err := device.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if string(buf[:n]) == "who" {
				_, _ = device.WriteToUDPAddrPort([]byte("thing-7"), from)
			}
		}
	}()
	drivers := rpcv1.NewDriverServiceClient(h.http(h.admin), h.url)
	options, _ := json.Marshal(map[string]int{"port": device.LocalAddr().(*net.UDPAddr).Port})
	ask := &pb.ScanRequest{Driver: "callin", Project: project, Network: "127.0.0.0/30", OptionsJson: string(options), Timeout: durationpb.New(400 * time.Millisecond)}
	res, err := drivers.Scan(t.Context(), req(ask))
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Msg.Found) != 1 || res.Msg.Found[0].Model != "Caller" || res.Msg.Found[0].Driver != "callin" || res.Msg.Found[0].Uri != "tcp://"+device.LocalAddr().String() {
		t.Fatalf("got %v", res.Msg)
	}
	inbox, err := rpcv1.NewSiteServiceClient(h.http(h.admin), h.url).ListInbox(t.Context(), req(&pb.ListInboxRequest{Project: project}))
	if err != nil || len(inbox.Msg.Entries) != 1 || inbox.Msg.Entries[0].Model != "Caller" || inbox.Msg.Entries[0].Time == nil {
		t.Fatalf("inbox: %v, %v", inbox, err)
	}
	for want, change := range map[string]func(*pb.ScanRequest){
		"more than 1024": func(r *pb.ScanRequest) { r.Network = "10.0.0.0/8" },
		"options":        func(r *pb.ScanRequest) { r.OptionsJson = `{"x":1}` },
		"not found":      func(r *pb.ScanRequest) { r.Driver = "nothing" },
	} {
		bad := &pb.ScanRequest{Driver: "callin", Project: project, Network: "127.0.0.1", OptionsJson: string(options)}
		change(bad)
		if _, err := drivers.Scan(t.Context(), req(bad)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	_, viewer := h.newKey(t, &pb.Key{Role: "viewer"})
	if _, err := rpcv1.NewDriverServiceClient(h.http(viewer), h.url).Scan(t.Context(), req(ask)); err == nil || !strings.Contains(err.Error(), "permission_denied") {
		t.Errorf("a viewer scans: %v", err)
	}
}
