package rpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"github.com/coder/websocket"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// wsMessage is what the server sends.
type wsMessage struct {
	Op, ID, Code, Error, Reason, Hint string
	Message                           json.RawMessage
}

type wsClient struct {
	t   *testing.T
	ctx context.Context
	c   *websocket.Conn
}

func (h *house) socket(t *testing.T, key string) *wsClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	header := make(http.Header)
	header.Set("Authorization", "Bearer "+key)
	c, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.url, "http")+"/v1/ws", &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(1 << 20)
	t.Cleanup(func() { _ = c.CloseNow() })
	return &wsClient{t, ctx, c}
}

func (w *wsClient) send(text string) {
	w.t.Helper()
	if err := w.c.Write(w.ctx, websocket.MessageText, []byte(text)); err != nil {
		w.t.Fatal(err)
	}
}

// until reads messages until one is as wanted.
func (w *wsClient) until(what string, want func(wsMessage) bool) wsMessage {
	w.t.Helper()
	for {
		_, data, err := w.c.Read(w.ctx)
		if err != nil {
			w.t.Fatalf("%s: %v", what, err)
		}
		var m wsMessage
		if err := json.Unmarshal(data, &m); err != nil {
			w.t.Fatalf("%s: %s: %v", what, data, err)
		}
		if want(m) {
			return m
		}
	}
}

func TestSocketCarriesSeveralWatches(t *testing.T) {
	h := openHouse(t)
	project := fresh("sockets")
	h.echo(t, project+"/a")
	w := h.socket(t, h.admin)
	w.until("heartbeat", func(m wsMessage) bool { return m.Op == "heartbeat" })
	w.send(`{"op":"subscribe","id":"values","method":"WatchTwins","request":{"filter":{"ids":["` + project + `/a"]}}}`)
	w.send(`{"op":"subscribe","id":"zones","method":"Watch","request":{"kind":"zone"}}`)
	var twins, zones bool
	w.until("both began", func(m wsMessage) bool {
		twins = twins || m.ID == "values" && strings.Contains(string(m.Message), project+"/a")
		zones = zones || m.ID == "zones" && strings.Contains(string(m.Message), "synced")
		return twins && zones
	})
	if _, err := h.twins(h.admin).Invoke(t.Context(), req(&pb.InvokeRequest{Id: project + "/a", Action: "count"})); err != nil {
		t.Fatal(err)
	}
	w.until("the change", func(m wsMessage) bool { return m.ID == "values" && strings.Contains(string(m.Message), `"count"`) })

	w.send(`{"op":"unsubscribe","id":"values"}`)
	// What is refused ends alone, with code and hint.
	for request, code := range map[string]string{
		`{"op":"subscribe","id":"x","method":"Watch","request":{"kind":"nonsense"}}`:                                "invalid_argument",
		`{"op":"subscribe","id":"x","method":"Watch","request":{"knd":"zone"}}`:                                     "invalid_argument",
		`{"op":"subscribe","id":"x","method":"Invoke","request":{}}`:                                                "invalid_argument",
		`{"op":"subscribe","id":"zones","method":"Watch","request":{"kind":"twin"}}`:                                "invalid_argument",
		`{"op":"subscribe","id":"","method":"Watch","request":{"kind":"twin"}}`:                                     "invalid_argument",
		`{"op":"subscribe","id":"x","method":"Watch","request":{"kind":"zone","afterRevision":"1125899906842624"}}`: "out_of_range",
	} {
		w.send(request)
		if m := w.until(request, func(m wsMessage) bool { return m.Op == "end" }); m.Code != code || m.Error == "" {
			t.Errorf("%s: got %+v", request, m)
		}
	}
	// The other one still runs.
	site := rpcv1.NewSiteServiceClient(h.http(h.admin), h.url)
	if _, err := site.PutZone(t.Context(), req(&pb.PutZoneRequest{Zone: &pb.Zone{Id: project + "/z"}})); err != nil {
		t.Fatal(err)
	}
	w.until("zone", func(m wsMessage) bool { return m.ID == "zones" && strings.Contains(string(m.Message), project+"/z") })
	w.send(`{"op":"ping","id":"p"}`)
	w.until("pong", func(m wsMessage) bool { return m.Op == "pong" && m.ID == "p" })
}

func TestSocketIsBounded(t *testing.T) {
	h := openHouse(t)
	w := h.socket(t, h.admin)
	for i := range 65 {
		w.send(fmt.Sprintf(`{"op":"subscribe","id":"s%d","method":"Watch","request":{"kind":"system"}}`, i))
	}
	if m := w.until("the one too many", func(m wsMessage) bool { return m.Op == "end" }); m.Code != "resource_exhausted" || m.ID != "s64" {
		t.Errorf("got %+v", m)
	}
	w.send(strings.Repeat("a", 600<<10))
	for {
		if _, _, err := w.c.Read(w.ctx); err != nil {
			if w.ctx.Err() != nil {
				t.Error("a message of 600 KiB left the socket open")
			}
			break
		}
	}
	w = h.socket(t, h.admin)
	w.send(`no json`)
	for {
		if _, _, err := w.c.Read(w.ctx); err != nil {
			if websocket.CloseStatus(err) != websocket.StatusPolicyViolation {
				t.Errorf("closed by %v", err)
			}
			break
		}
	}
}

func TestSocketIsAuthorized(t *testing.T) {
	h := openHouse(t)
	_, device := h.newKey(t, &pb.Key{Role: "device", Device: "hotel/lamp"})
	id, viewer := h.newKey(t, &pb.Key{Role: "viewer", Project: "hotel"})
	dial := func(header ...string) int {
		head := make(http.Header)
		for i := 0; i < len(header); i += 2 {
			head.Set(header[i], header[i+1])
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, res, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(h.url, "http")+"/v1/ws", &websocket.DialOptions{HTTPHeader: head})
		if err == nil {
			_ = c.CloseNow()
			return http.StatusSwitchingProtocols
		}
		if res == nil {
			t.Fatal(err)
		}
		return res.StatusCode
	}
	// A browser's session, from our page and from another.
	link, err := h.keys(viewer).CreateLoginLink(t.Context(), req(&pb.CreateLoginLinkRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	noFollow := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	_, code, _ := strings.Cut(link.Msg.Path, "?")
	res, err := noFollow.Post(h.url+"/login", "application/x-www-form-urlencoded", strings.NewReader(code))
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	cookie := res.Cookies()[0]
	if !cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode {
		t.Errorf("the cookie is %v", cookie)
	}
	sent := cookie.Name + "=" + cookie.Value
	for name, tt := range map[string]struct {
		header []string
		status int
	}{
		"nobody":                {nil, 401},
		"device":                {[]string{"Authorization", "Bearer " + device}, 403},
		"viewer":                {[]string{"Authorization", "Bearer " + viewer}, 101},
		"session, our page":     {[]string{"Cookie", sent, "Origin", h.url}, 101},
		"session, another page": {[]string{"Cookie", sent, "Origin", "http://evil.example"}, 403},
		"session, no origin":    {[]string{"Cookie", sent}, 403},
	} {
		if got := dial(tt.header...); got != tt.status {
			t.Errorf("%s: status %d, want %d", name, got, tt.status)
		}
	}
	w := h.socket(t, viewer)
	for request, code := range map[string]string{
		`{"op":"subscribe","id":"x","method":"Watch","request":{"kind":"key"}}`:                       "permission_denied",
		`{"op":"subscribe","id":"x","method":"WatchTwins","request":{"filter":{"project":"school"}}}`: "permission_denied",
	} {
		w.send(request)
		if m := w.until(request, func(m wsMessage) bool { return m.Op == "end" }); m.Code != code {
			t.Errorf("%s: got %+v", request, m)
		}
	}
	// The key goes, and the socket with it.
	if _, err := h.keys(h.admin).DeleteKey(t.Context(), connect.NewRequest(&pb.DeleteKeyRequest{Id: id})); err != nil {
		t.Fatal(err)
	}
	for {
		if _, _, err := w.c.Read(w.ctx); err != nil {
			if w.ctx.Err() != nil {
				t.Error("the socket outlives its key")
			}
			break
		}
	}
}
