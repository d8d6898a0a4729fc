package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// TestDriverSource is what the console's editor stands on: a source is tried on the node, uploaded with its tests, and comes back
// as it was, also after kill -9.
func TestDriverSource(t *testing.T) {
	t.Parallel()
	dir := filepath.Join("..", "drivers", "library", "extron")
	source, err := os.ReadFile(filepath.Join(dir, "extron.js"))
	if err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(filepath.Join(dir, "extron.test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tests := []*pb.DriverTest{{Name: "extron.test.yaml", Text: string(script)}}
	n := harness.Start(t, harness.Options{})
	passed, failed := tryDriver(t, n, source, tests)
	if passed < 3 || len(failed) > 0 {
		t.Fatalf("%d passed, failed: %v", passed, failed)
	}
	// The volume is asked for in another word: the tests that are about it fail, and say at which line.
	broken := strings.Replace(string(source), "V`, /^Vol/", "v`, /^Vol/", 1)
	if broken == string(source) {
		t.Fatal("the source does not hold what is to be broken")
	}
	if _, failed = tryDriver(t, n, []byte(broken), tests); len(failed) == 0 {
		t.Error("a wrong driver passes")
	}
	for _, f := range failed {
		if f.Failure.Line == 0 || f.Failure.Text == "" {
			t.Errorf("a failure does not say where, or what: %v", f)
		}
	}
	_, err = n.Drivers().UploadDriver(t.Context(), connect.NewRequest(&pb.UploadDriverRequest{File: source,
		Tests: []*pb.DriverTest{{Name: "x.test.yaml", Text: "tests:\n  - name: one\n    steps:\n      - bark: 1\n"}}}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "x.test.yaml:4") {
		t.Errorf("wrong tests: %v", err)
	}
	if _, err := n.Drivers().UploadDriver(t.Context(), connect.NewRequest(&pb.UploadDriverRequest{File: source, Tests: tests})); err != nil {
		t.Fatal(err)
	}
	n.Kill()
	n.Run()
	got, err := n.Drivers().GetDriverSource(t.Context(), connect.NewRequest(&pb.GetDriverSourceRequest{Name: "extron"}))
	if err != nil {
		t.Fatal(err)
	}
	if got.Msg.Source != string(source) || len(got.Msg.Tests) != 1 || got.Msg.Tests[0].Text != string(script) {
		t.Errorf("%d bytes of source and %d tests came back", len(got.Msg.Source), len(got.Msg.Tests))
	}
	n.AddDriver("echo")
	_, err = n.Drivers().GetDriverSource(t.Context(), connect.NewRequest(&pb.GetDriverSourceRequest{Name: "echo"}))
	if connect.CodeOf(err) != connect.CodeFailedPrecondition {
		t.Errorf("source of a WASM file: %v", err)
	}
}

func tryDriver(t *testing.T, n *harness.Node, file []byte, tests []*pb.DriverTest) (passed int, failed []*pb.TestDriverResponse) {
	t.Helper()
	s, err := n.Drivers().TestDriver(t.Context(), connect.NewRequest(&pb.TestDriverRequest{File: file, Tests: tests}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for s.Receive() {
		if r := s.Msg(); r.Failure != nil {
			failed = append(failed, r)
		} else {
			passed++
		}
	}
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	return passed, failed
}
