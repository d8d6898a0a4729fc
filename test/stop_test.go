package test

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// TestStopAwaitsCalls has a device answer long after its node was told to stop and takes no more calls: the call that was under
// way is answered, and the node ends as it should.
func TestStopAwaitsCalls(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	n.AddDriver("line")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	told, closed := make(chan struct{}), make(chan struct{})
	go func() {
		in, err := l.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		lines := bufio.NewScanner(in)
		for lines.Scan() {
			close(told)
			<-closed
			time.Sleep(3 * time.Second) // a slow device
			_, _ = in.Write(append(lines.Bytes(), '\n'))
		}
	}()
	twin := &pb.Twin{Id: "slow", Driver: "line", Uri: "tcp://" + l.Addr().String()}
	if _, err := n.Twins().CreateTwin(t.Context(), connect.NewRequest(&pb.CreateTwinRequest{Twin: twin})); err != nil {
		t.Fatal(err)
	}
	answer := make(chan error, 1)
	go func() {
		_, err := n.Twins().Invoke(t.Context(), connect.NewRequest(&pb.InvokeRequest{Id: "slow", Action: "ping",
			Options: &pb.CommandOptions{Timeout: durationpb.New(15 * time.Second)}}))
		answer <- err
	}()
	select {
	case <-told:
	case err := <-answer:
		t.Fatalf("answered before the device was told: %v", err)
	case <-time.After(time.Minute):
		t.Fatal("the device is not told")
	}
	stopped := make(chan error, 1)
	go func() { stopped <- n.Stop() }()
	harness.Until(t, time.Minute, "the door is closed", func() bool {
		c, err := net.Dial("tcp", strings.TrimPrefix(n.URL, "http://"))
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	close(closed)
	if err := <-answer; err != nil {
		t.Errorf("the call: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
