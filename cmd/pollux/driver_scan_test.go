package main

import (
	"io"
	"testing"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// What a scan left out is told with what it found.
func TestScanIsDrawn(t *testing.T) {
	r := &pb.ScanResponse{Sent: 1, Answers: 3, Found: []*pb.InboxEntry{
		{Alias: &pb.Alias{Network: "pjlink", Key: "mac", Value: "02:50:4a:01:00:00"}, Name: "PJLink projector", Driver: "pjlink", Model: "PJLink projector", Uri: "tcp://10.0.0.9:4352"},
		{Alias: &pb.Alias{Network: "shelly", Key: "id", Value: "shellyplug-1"}, Driver: "shelly"},
	}, Notes: []string{"port 4352 is taken on this node: devices that answer to no other are not heard", "10 more notes are left out"}}
	golden(t, "driver_scan", table(func(w io.Writer) { drawScan(w, r) }))
	golden(t, "driver_scan_nothing", table(func(w io.Writer) { drawScan(w, &pb.ScanResponse{Sent: 1}) }))
}
