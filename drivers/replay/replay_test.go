package replay_test

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/replay"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func start(state string) *pb.RecordTwinResponse {
	return &pb.RecordTwinResponse{Part: &pb.RecordTwinResponse_Start{Start: &pb.RecordedStart{Id: "default/a", Driver: "echo", Version: "1.0.0",
		SettingsJson: `{"topic":"a"}`, StateJson: state}}}
}

func call(event drivers.Event, input, effects string, host ...*pb.RecordedHostCall) *pb.RecordTwinResponse {
	return &pb.RecordTwinResponse{Part: &pb.RecordTwinResponse_Call{Call: &pb.RecordedCall{Event: int32(event), Input: []byte(input),
		EffectsJson: effects, Host: host}}}
}

// TestDamagedRecordings: what somebody wrote by hand gets an answer, and no panic.
func TestDamagedRecordings(t *testing.T) {
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: drivertest.CacheDir(t), Compiler: drivertest.Compiler(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	run, err := box.Load(t.Context(), drivertest.Echo(t))
	if err != nil {
		t.Fatal(err)
	}
	defer run.Close()
	echo := `{"action":"echo","input":1}`
	for name, c := range map[string]struct {
		parts []*pb.RecordTwinResponse
		err   string
		diffs int
	}{
		"as it is":        {[]*pb.RecordTwinResponse{start(`{"properties":{},"memory":null}`), call(drivers.EventCommand, echo, `{"output":1}`)}, "", 0},
		"no state":        {[]*pb.RecordTwinResponse{start(""), call(drivers.EventCommand, echo, `{"output":1}`)}, "", 0},
		"other output":    {[]*pb.RecordTwinResponse{start(""), call(drivers.EventCommand, echo, `{"output":2}`)}, "", 1},
		"white space":     {[]*pb.RecordTwinResponse{start(""), call(drivers.EventCommand, echo, `{"output": 1.0 }`)}, "", 0},
		"no start":        {[]*pb.RecordTwinResponse{call(drivers.EventCommand, echo, `{}`)}, "holds no recording", 0},
		"nothing":         {nil, "holds no recording", 0},
		"damaged state":   {[]*pb.RecordTwinResponse{start(`{`)}, "recorded state", 0},
		"damaged effects": {[]*pb.RecordTwinResponse{start(""), call(drivers.EventCommand, echo, `[`)}, "recorded effects", 0},
		"no such event":   {[]*pb.RecordTwinResponse{start(""), call(99, echo, "")}, "", 0},
		"an unasked answer": {[]*pb.RecordTwinResponse{start(""), call(drivers.EventCommand, echo, `{"output":1}`,
			&pb.RecordedHostCall{Kind: "request", Answer: []byte("x")}, &pb.RecordedHostCall{Kind: "log", Target: "info", Data: []byte("y")})}, "", 1},
	} {
		res, err := replay.Run(t.Context(), c.parts, run, nil)
		switch {
		case c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)):
			t.Errorf("%s: %v, want %s", name, err, c.err)
		case c.err == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.err == "" && name != "no such event" && len(res.Differences) != c.diffs:
			t.Errorf("%s: %+v", name, res.Differences)
		}
	}
}

// FuzzRead: a file of a stranger gets an answer; what can be read can be written and read again.
func FuzzRead(f *testing.F) {
	var file bytes.Buffer
	for _, p := range []*pb.RecordTwinResponse{start(`{}`), call(drivers.EventLoad, "{}", `{"memory":1}`)} {
		if _, err := replay.Write(&file, p); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(file.Bytes())
	f.Add([]byte("{}\n\n{\"start\":{}}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		parts, err := replay.Read(bytes.NewReader(text))
		if err != nil {
			return
		}
		var again bytes.Buffer
		for _, p := range parts {
			if _, err := replay.Write(&again, p); err != nil {
				t.Fatal(err)
			}
		}
		back, err := replay.Read(&again)
		if err != nil || len(back) != len(parts) {
			t.Fatalf("read again: %d of %d parts, %v", len(back), len(parts), err)
		}
		for i := range parts {
			if !proto.Equal(parts[i], back[i]) {
				t.Fatalf("part %d: %v, then %v", i, parts[i], back[i])
			}
		}
	})
}
