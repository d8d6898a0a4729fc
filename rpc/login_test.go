package rpc_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"

	"connectrpc.com/connect"
	mqtt "github.com/eclipse/paho.mqtt.golang"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
)

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
	// Those who only look spend nothing.
	if status, _ := do("HEAD", link.Msg.Path, ""); status != 405 {
		t.Errorf("HEAD of the link: %d", status)
	}
	for range 2 {
		if status, res := do("GET", link.Msg.Path, "", "X-Forwarded-For", "192.0.2.7"); status != 200 || res.Request.URL.Path != "/login" || len(res.Cookies()) > 0 {
			t.Fatalf("the link's page: status %d at %s, cookies %v", status, res.Request.URL, res.Cookies())
		}
	}
	_, code, _ := strings.Cut(link.Msg.Path, "?")
	form := []string{"Content-Type", "application/x-www-form-urlencoded", "Sec-Fetch-Site"}
	if status, _ := do("POST", "/login", code, append(form, "cross-site")...); status != 403 {
		t.Errorf("another site's page signs in by code: %d", status)
	}
	for _, origin := range []string{"http://evil.example", "null"} {
		if status, _ := do("POST", "/login", code, form[0], form[1], "Origin", origin); status != 403 {
			t.Errorf("origin %s signs in by code: %d", origin, status)
		}
		if status, _ := do("POST", "/login", `{"key":"`+key+`"}`, "Content-Type", "application/json", "Origin", origin); status != 403 {
			t.Errorf("origin %s signs in by key: %d", origin, status)
		}
	}
	// A browser hides the origin of a page without referrer.
	if _, res := do("GET", link.Msg.Path, "", "Via", "1.1 proxy"); res.Header.Get("Referrer-Policy") != "strict-origin" {
		t.Errorf("referrer policy %q", res.Header.Get("Referrer-Policy"))
	}
	// As old browsers, and those without TLS, say it.
	status, res := do("POST", "/login", code, form[0], form[1], "Origin", h.url)
	if status != 200 || res.Request.URL.Path != "/" {
		t.Fatalf("login: status %d at %s", status, res.Request.URL)
	}
	if status, _ := do("POST", "/login", code, append(form, "same-origin")...); status != 401 {
		t.Errorf("the code works twice: %d", status)
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
		{"what a viewer may not", "POST", rpcv1.TwinServiceDeleteTwinProcedure, append(jsonType, same), 403},
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

// TestLoginLinkOnThisMachine: who opens the link is signed in, and the cookie opens what a key opens.
func TestLoginLinkOnThisMachine(t *testing.T) {
	h := openHouse(t)
	link, err := h.keys(h.admin).CreateLoginLink(t.Context(), req(&pb.CreateLoginLinkRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	var set []*http.Cookie
	browser := &http.Client{Jar: jar, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		set = r.Response.Cookies()
		return nil
	}}
	get := func(path string, change func(*http.Request)) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		res, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res
	}
	as := func(*http.Request) {}
	for name, change := range map[string]func(*http.Request){
		"through a proxy":    func(r *http.Request) { r.Header.Set("X-Forwarded-For", "192.0.2.7") },
		"by another name":    func(r *http.Request) { r.Host = "pollux.example:8080" },
		"by another address": func(r *http.Request) { r.Host = "192.0.2.1" },
		"as a guess":         func(r *http.Request) { r.Header.Set("Sec-Purpose", "prefetch") },
	} {
		if res := get(link.Msg.Path, change); res.StatusCode != 200 || res.Request.URL.Path != "/login" || len(set) > 0 {
			t.Errorf("opened %s: status %d at %s, cookies %v", name, res.StatusCode, res.Request.URL, set)
		}
	}
	if res := get(link.Msg.Path, as); res.StatusCode != 200 || res.Request.URL.Path != "/" {
		t.Fatalf("opened: status %d at %s", res.StatusCode, res.Request.URL)
	}
	if len(set) != 1 || set[0].Name != rpc.SessionCookie || !set[0].HttpOnly || set[0].SameSite != http.SameSiteLaxMode {
		t.Errorf("cookies: %v", set)
	}
	if res := get("/victoria/api/v1/query?query=1", as); res.StatusCode != 200 {
		t.Errorf("the cookie at /victoria/: %d", res.StatusCode)
	}
	if res := get(link.Msg.Path, as); res.StatusCode != 401 {
		t.Errorf("the link works twice: %d", res.StatusCode)
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

func TestDeviceKeyOpensTheBroker(t *testing.T) {
	h := openHouse(t)
	project := fresh("devices")
	h.echo(t, project+"/a")
	id, secret := h.newKey(t, &pb.Key{Role: "device", Device: project + "/a"})
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
	for user, password := range map[string]string{project + "/a": secret + "x", project + "/b": secret, "a": secret, project + "/a ": secret, "x": viewer + "x"} {
		if c, err := connectAs(user, password); err == nil {
			leave(c)
			t.Errorf("user %q was let in", user)
		}
	}
	status, err := rpcv1.NewClusterServiceClient(h.http(h.admin), h.url).GetStatus(t.Context(), req(&pb.GetStatusRequest{}))
	if err != nil || status.Msg.Refused["mqtt turned_away credentials"] < 5 {
		t.Errorf("status counts of 5 clients turned away: %v, %v", status, err)
	}
	// A viewer may look at durable topics, and do nothing else.
	eyes, err := connectAs("x", viewer)
	if err != nil {
		t.Fatal(err)
	}
	defer leave(eyes)
	if tok := eyes.Subscribe("echo/#", 1, nil); !tok.WaitTimeout(patience) || tok.(*mqtt.SubscribeToken).Result()["echo/#"] != 0x80 {
		t.Errorf("a viewer hears devices: %v, %v", tok.(*mqtt.SubscribeToken).Result(), tok.Error())
	}
	c, err := connectAs(project+"/a", secret)
	if err != nil {
		t.Fatal(err)
	}
	defer leave(c)
	if tok := c.Publish("echo/"+project+"_a/set", 1, false, `{"level":3}`); !tok.WaitTimeout(patience) || tok.Error() != nil {
		t.Fatalf("publish: %v", tok.Error())
	}
	// Acknowledged means committed: the value is there.
	got, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: project + "/a"}))
	if err != nil || got.Msg.Twin.State.Properties["level"].GetValue().GetNumberValue() != 3 {
		t.Errorf("after the acknowledgement: %v, %v", got, err)
	}
	if _, err := h.keys(h.admin).DeleteKey(t.Context(), req(&pb.DeleteKeyRequest{Id: id})); err != nil {
		t.Fatal(err)
	}
	if c, err := connectAs(project+"/a", secret); err == nil {
		leave(c)
		t.Error("a deleted key opens the broker")
	}
}

// leave disconnects without waiting for it, which can hang where the client's wait is over in the same moment.
func leave(c mqtt.Client) { go c.Disconnect(500) }
