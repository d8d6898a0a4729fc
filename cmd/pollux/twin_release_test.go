package main

import (
	"io"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// A twin in quarantine says so, and how to end it; what a desired value waits for stands beside it.
func TestGoldenQuarantine(t *testing.T) {
	tw := aTwin()
	tw.State.Status = &pb.TwinStatus{Connection: pb.Connection_CONNECTION_SLEEPING, Fault: "command: unreachable executed", Node: "n1",
		Failures: 8, RetryTime: before(-40 * time.Minute), QuarantineTime: before(20 * time.Minute)}
	tw.State.OverQuota = map[string]uint64{"logs": 30, "sends": 2}
	tw.State.Subscriptions = []*pb.TwinSubscription{{Twin: "pump", Property: "level"}, {System: "default/room", Twin: "Display_1", Property: "power"}}
	tw.State.Desired["input"].WaitsFor = "the device sleeps; it is told when it wakes"
	tw.State.ModelJson = ""
	golden(t, "twin_get_quarantine", table(func(w io.Writer) { describeTwin(w, tw, noon, 200) }))
}
