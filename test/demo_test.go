package test

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/test/harness"
)

const demoTwins = 19 // with a device; two rooms are logic alone

var (
	openLine = regexp.MustCompile(`(?m)^open (http://\S+/login\?code=\S+)$`)
	// connectedLine says how many twins have their devices after half a minute at most; on a busy machine not all do.
	connectedLine = regexp.MustCompile(`(?m)^ *\S+s +connected +\d+ of 19(; the others are tried again)?$`)
)

// TestDemo is `make run`: a house with simulated devices, on the next free port, behind a login link.
func TestDemo(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", harness.FreeAddr(t))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	taken := busy.Addr().String()
	n := harness.Start(t, harness.Options{HTTP: taken, Args: []string{"--demo"}})
	link := demoLink(t, n)
	if free := strings.TrimPrefix(n.URL, "http://"); free == taken || !strings.Contains(n.Output(), taken+" is busy, taking "+free+"\n") {
		t.Errorf("it serves on %s and says:\n%s", free, n.Output())
	}
	if !connectedLine.MatchString(n.Output()) {
		t.Errorf("it does not say how many twins are connected:\n%s", n.Output())
	}
	twins := demoHouse(t, n.Twins())
	signIn(t, n, link)
	demoLogic(t, n)

	if err := n.Stop(); err != nil {
		t.Fatalf("%v\n%s", err, n.Log())
	}
	n.Run()
	if again := demoLink(t, n); again == link {
		t.Error("the link is the one of the run before")
	}
	if !strings.Contains(n.Output(), "0 new, 21 kept from before") {
		t.Errorf("the second run says:\n%s", n.Output())
	}
	for id, revision := range demoHouse(t, n.Twins()) {
		if twins[id] == 0 || revision < twins[id] {
			t.Errorf("%s has revision %d, %d in the run before", id, revision, twins[id])
		}
	}
}

// TestDemoOfAnotherBuild: the drivers that another build of pollux has put there stay, as a version keeps its file, and the house is built with
// them. So it is when the sources have changed since the last `make run`.
func TestDemoOfAnotherBuild(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	text, err := os.ReadFile("../drivers/library/visca/visca.js")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "visca.js")
	if err := os.WriteFile(file, append(text, "// of another build\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("driver", "push", "--no-test", file)
	there := n.Must("driver", "get", "visca", "-o", "json")
	if out := n.Must("driver", "add", "visca"); !strings.Contains(out, "is there already, from another build of pollux, and stays") {
		t.Errorf("the catalog's was added: %s", out)
	}
	if err := n.Stop(); err != nil {
		t.Fatalf("%v\n%s", err, n.Log())
	}
	n = harness.Start(t, harness.Options{Dir: n.Dir, Args: []string{"--demo"}})
	demoLink(t, n)
	demoHouse(t, n.Twins())
	if now := n.Must("driver", "get", "visca", "-o", "json"); digestOf(t, now) != digestOf(t, there) {
		t.Errorf("the driver is\n%s\nand was\n%s", now, there)
	}
}

// digestOf is the digest of a driver that the command line shows.
func digestOf(t *testing.T, shown string) string {
	t.Helper()
	var d struct{ Digest string }
	if err := json.Unmarshal([]byte(shown), &d); err != nil || d.Digest == "" {
		t.Fatalf("%v in %s", err, shown)
	}
	return d.Digest
}

// demoLink waits for the line with the login link.
func demoLink(t *testing.T, n *harness.Node) string {
	t.Helper()
	harness.Until(t, 5*time.Minute, "the demo prints its link", func() bool { return openLine.MatchString(n.Output()) })
	link := openLine.FindStringSubmatch(n.Output())[1]
	if !strings.HasPrefix(link, n.URL+"/") {
		t.Errorf("the link %s is not one of %s", link, n.URL)
	}
	return link
}

// demoHouse waits until every twin is connected and gives their revisions.
func demoHouse(t *testing.T, twins polluxv1connect.TwinServiceClient) map[string]uint64 {
	t.Helper()
	house := map[string]uint64{}
	harness.Until(t, time.Minute, "all twins of the demo are connected", func() bool {
		r, err := twins.ListTwins(t.Context(), connect.NewRequest(&pb.ListTwinsRequest{PageSize: 1000,
			Filter: &pb.TwinFilter{Project: "demo", Connection: pb.Connection_CONNECTION_CONNECTED}}))
		if err != nil {
			t.Fatal(err)
		}
		for _, twin := range r.Msg.Twins {
			house[twin.Id] = twin.Revision
		}
		return len(r.Msg.Twins) == demoTwins
	})
	return house
}

// demoLogic switches a projector on, and waits until the demo's logic has seen it and the sign in the foyer is on.
func demoLogic(t *testing.T, n *harness.Node) {
	t.Helper()
	logics, err := n.Logics().ListLogics(t.Context(), connect.NewRequest(&pb.ListLogicsRequest{Project: "demo"}))
	if err != nil || !slices.ContainsFunc(logics.Msg.Logics, func(m *pb.Logic) bool { return m.Id == "demo/welcome" && m.Fault == "" }) {
		t.Fatalf("the logics of the demo: %v, %v", logics, err)
	}
	if _, err := n.Twins().SetDesired(t.Context(), connect.NewRequest(&pb.SetDesiredRequest{Id: "demo/studio-projector", Property: "power",
		Value: structpb.NewBoolValue(true)})); err != nil {
		t.Fatal(err)
	}
	property := func(twin, name string) any {
		r, err := n.Twins().GetTwin(t.Context(), connect.NewRequest(&pb.GetTwinRequest{Id: twin}))
		if err != nil {
			t.Fatal(err)
		}
		return r.Msg.Twin.State.GetProperties()[name].GetValue().AsInterface()
	}
	harness.Until(t, time.Minute, "the sign in the foyer is on", func() bool {
		return property("demo/foyer-sign", "on") == true && property("demo/welcome", "rooms_in_use") != 0.0
	})
}

// signIn opens the link on this machine: it gives a cookie, once, and the cookie opens the metrics too.
func signIn(t *testing.T, n *harness.Node, link string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	get := func(address string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequest(http.MethodGet, address, nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return r, string(body)
	}
	if r, _ := get(n.URL + "/victoria/vmui/"); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("the metrics without a session: %s", r.Status)
	}
	r, page := get(link)
	if cookies := r.Cookies(); r.StatusCode != http.StatusSeeOther || len(cookies) != 1 || !cookies[0].HttpOnly {
		t.Fatalf("the link answers %s with the cookies %v:\n%s", r.Status, cookies, page)
	}
	for _, path := range []string{"/", "/victoria/vmui/", "/victoria/api/v1/query?query=1"} {
		if r, _ := get(n.URL + path); r.StatusCode != http.StatusOK {
			t.Errorf("%s with the session: %s", path, r.Status)
		}
	}
	if r, _ := get(link); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("the link works twice: %s", r.Status)
	}
}
