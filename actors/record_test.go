package actors_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/replay"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What a twin's driver was called with is recorded, and replayed against a driver offline: the same version does the same,
// another one shows what it does otherwise. Secrets are not in it.
func TestRecordAndReplay(t *testing.T) {
	n := newNode(t)
	d := newDevice(t, func(line string) string {
		if line == "hello" {
			return "world"
		}
		return ""
	})
	n.driver("wire", "1.0.0", tcpTransport)
	n.twin(`{"id":"a","driver":"wire","uri":"` + d.uri() + `","settings":{"secret":"hunter22","topic":"x"}}`)
	n.wait("a", "ups", "1")
	n.must("a", "count", "")
	ctx, cancel := context.WithCancel(ctx(t))
	defer cancel()
	rec, err := n.client.Record(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	n.must("a", "count", "")
	if got := n.must("a", "ask", `{"text":"hello","timeout_ms":60000}`); !strings.Contains(got, "world") {
		t.Fatalf("asked: %s", got)
	}
	n.must("a", "send", `{"text":"the secret is hunter22"}`)
	if _, err := n.invoke("a", "fail", `{"text":"no"}`); err == nil {
		t.Fatal("fail did not fail")
	}
	n.must("a", "whisper", "")
	d.say(`{"level":7}`)
	n.wait("a", "level", "7")
	n.sets(ofTwin("a"), `{"topic":"y"}`)
	n.wait("a", "topic", `"y"`)
	var file bytes.Buffer
	calls := 0
	for calls < 7 {
		part, err := rec.Next(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if part.GetCall() != nil {
			calls++
		}
		if _, err := replay.Write(&file, part); err != nil {
			t.Fatal(err)
		}
	}
	rec.Close()
	if strings.Contains(file.String(), "hunter22") || strings.Contains(file.String(), "aHVudGVyMjI") {
		t.Error("the recording holds the secret")
	}
	parts, err := replay.Read(bytes.NewReader(file.Bytes()))
	if err != nil || len(parts) != 9 { // two starts: the settings changed
		t.Fatalf("%d parts, %v", len(parts), err)
	}
	box := sandbox(t)
	same, err := replay.Run(ctx, parts, n.loads(box, "wire", "1.0.0", tcpTransport), nil)
	if err != nil || same.Calls != 7 || same.FailedBefore != 1 || same.FailedNow != 1 {
		t.Fatalf("replayed against the same version: %+v, %v", same, err)
	}
	for _, x := range same.Differences {
		if x.What != "output" || x.Recorded != `"***"` { // what the driver knows of a secret it cannot know again
			t.Errorf("the same version does otherwise: %+v", x)
		}
	}
	other, err := load(ctx, box, drivertest.Echo(t))
	if err != nil {
		t.Fatal(err)
	}
	res, err := replay.Run(ctx, parts, other, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(res)
	for _, want := range []string{`"from":"wire@1.0.0"`, `"what":"property count"`, `"what":"send","recorded":"the secret is ***\n"`, `"what":"error"`, `"event":"at the end"`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the replay against another driver does not show %s:\n%s", want, text)
		}
	}
	if _, err := replay.Read(strings.NewReader("{}\n")); !errors.Is(err, replay.ErrEmpty) {
		t.Errorf("an empty file: %v", err)
	}
	if _, err := replay.Read(strings.NewReader("no\n")); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("a damaged file: %v", err)
	}
}

func (n *node) loads(box *drivers.Sandbox, name, version, transport string) drivers.Runner {
	n.t.Helper()
	_, file := n.driverFile(name, version, transport, nil)
	r, err := load(ctx(n.t), box, file)
	if err != nil {
		n.t.Fatal(err)
	}
	return r
}

// A reader who does not read misses calls and is told; the twin goes on.
func TestRecordIsBounded(t *testing.T) {
	n := newNode(t)
	n.driver("probe", "1.0.0", "")
	n.twin(`{"id":"a","driver":"probe"}`)
	rec, err := n.client.Record(ctx(t), "a")
	if err != nil {
		t.Fatal(err)
	}
	for range 1200 {
		n.must("a", "count", "")
	}
	missed, calls := uint64(0), 0
	for range 1024 {
		part, err := rec.Next(ctx(t))
		if err != nil {
			t.Fatal(err)
		}
		missed += part.Missed
		if part.GetCall() != nil {
			calls++
		}
	}
	if missed == 0 || calls == 0 || int(missed)+calls < 1200 {
		t.Errorf("%d calls given, %d missed of 1,200 and a load", calls, missed)
	}
	rec.Close()
	for range 33 {
		if _, err = n.client.Record(ctx(t), "a"); err != nil {
			break
		}
	}
	if err == nil {
		t.Error("recordings without end")
	}
	if _, err := n.client.Record(ctx(t), "nobody"); err == nil {
		t.Error("a recording of nobody")
	}
}

// lamp is a driver in JavaScript; receive is what it does with a line.
func lamp(version, receive string) []byte {
	return []byte(`export default driver({
  name: 'lamp', version: '` + version + `', title: 'Lamp',
  transport: { scheme: 'tcp', tokenizer: { delimiter: '\n' } },
  properties: { level: { type: 'integer' } },
  received(twin, line) { ` + receive + ` },
})
`)
}

// An incident: a line of the device crashes the driver. It was recorded, and is replayed against the fix.
func TestIncidentAgainstTheFix(t *testing.T) {
	drivertest.NeedEngine(t)
	n := newNode(t, func(o *actors.Options) { o.BackoffMin = 10 * time.Millisecond })
	box := sandbox(t)
	bad := lamp("1.0.0", `twin.report('level', JSON.parse(line).state.level)`)
	good := lamp("1.0.1", `const { state } = JSON.parse(line); if (state) twin.report('level', state.level); else twin.send('STATE?\n')`)
	m, err := box.Verify(t.Context(), bad)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.reg.PutDriver(ctx(t), m, bad, "test"); err != nil {
		t.Fatal(err)
	}
	d := newDevice(t, nil)
	n.twin(`{"id":"hall","driver":"lamp","uri":"` + d.uri() + `"}`)
	until(t, "it is connected", func() bool { return n.state("hall").Status.Connection == pb.Connection_CONNECTION_CONNECTED })
	d.say(`{"state":{"level":4}}`)
	n.wait("hall", "level", "4") // and it has been told that it is connected
	rec, err := n.client.Record(ctx(t), "hall")
	if err != nil {
		t.Fatal(err)
	}
	d.say(`{"state":{"level":5}}`)
	n.wait("hall", "level", "5")
	d.say(`{"hello":"I was restarted"}`)
	until(t, "the driver crashes", func() bool { return strings.Contains(n.state("hall").Status.Fault, "TypeError") })
	var parts []*pb.RecordTwinResponse
	for calls := 0; calls < 2; {
		part, err := rec.Next(ctx(t))
		if err != nil {
			t.Fatal(err)
		}
		if part.GetCall() != nil {
			calls++
		}
		parts = append(parts, part)
	}
	rec.Close()
	for _, c := range []struct {
		file []byte
		want string
	}{
		{bad, `{"failed_before":1,"failed_now":1,"differences":[]}`},
		{good, `{"failed_before":1,"failed_now":0,"differences":["2 received error: TypeError → ","2 received send:  → STATE?\n"]}`},
	} {
		run, err := load(ctx(t), box, c.file)
		if err != nil {
			t.Fatal(err)
		}
		res, err := replay.Run(ctx(t), parts, run, nil)
		if err != nil {
			t.Fatal(err)
		}
		short := []string{}
		for _, x := range res.Differences {
			if strings.Contains(x.Recorded, "TypeError") {
				x.Recorded = "TypeError"
			}
			short = append(short, fmt.Sprintf("%d %s %s: %s → %s", x.Call, x.Event, x.What, x.Recorded, x.Replayed))
		}
		text, _ := json.Marshal(struct {
			Before int      `json:"failed_before"`
			Now    int      `json:"failed_now"`
			Diff   []string `json:"differences"`
		}{res.FailedBefore, res.FailedNow, short})
		if string(text) != c.want {
			t.Errorf("%s:\n got %s\nwant %s", res.To, text, c.want)
		}
	}
}
