package actors_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// More twins of a driver wait for devices that do not answer than may wait at a time; another twin of that driver, whose
// device does, is served all the same: its commands of other kinds are not held up.
func TestTwinsThatWaitDoNotHoldUpOthers(t *testing.T) {
	const silent = 40
	n := newNode(t)
	n.driver("wire", "1.0.0", tcpTransport)
	var answers atomic.Bool
	quiet := newDevice(t, func(string) string {
		if answers.Load() {
			return "yes"
		}
		return ""
	})
	lively := newDevice(t, func(line string) string { return line })
	for i := range silent {
		n.twin(fmt.Sprintf(`{"id":"s%d","driver":"wire","uri":%q}`, i, quiet.uri()))
	}
	n.twin(fmt.Sprintf(`{"id":"a","driver":"wire","uri":%q}`, lively.uri()))
	for i := range silent {
		n.wait(fmt.Sprintf("s%d", i), "ups", "1")
	}
	n.wait("a", "ups", "1")
	ended := make(chan error, silent)
	const waits = 10 * patience // longer than the others take on a machine that is busy with other things
	asking, cancel := context.WithTimeout(context.Background(), waits)
	defer cancel()
	for i := range silent {
		go func() {
			_, err := n.client.Invoke(asking, &pb.InvokeRequest{Id: fmt.Sprintf("s%d", i), Action: "ask", Options: &pb.CommandOptions{Timeout: durationpb.New(waits)},
				Input: value(t, fmt.Sprintf(`{"text":"anybody there?","timeout_ms":%d}`, waits.Milliseconds()))}, "tester")
			ended <- err
		}()
	}
	until(t, "as many wait as may", func() bool { return len(quiet.lines()) >= 32 })
	for i := range 20 {
		if got := n.must("a", "echo", fmt.Sprint(i)); got != fmt.Sprint(i) {
			t.Errorf("echo %d: %s", i, got)
		}
	}
	if len(ended) > 0 || len(quiet.lines()) == silent {
		t.Errorf("%d of those that wait have ended, %d have asked: they did not wait", len(ended), len(quiet.lines()))
	}
	// As their devices answer, the others get their turn.
	answers.Store(true)
	quiet.say("yes")
	for open := silent; open > 0; {
		select {
		case err := <-ended:
			if open--; err != nil {
				t.Errorf("one that waited: %v", err)
			}
		case <-time.After(patience):
			t.Fatalf("%d commands do not end", open)
		}
	}
}
