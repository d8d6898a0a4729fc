package main

import (
	"io"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

func TestSimulationTables(t *testing.T) {
	all := []*pb.Simulation{
		{Id: "default/office", Title: "Office", Scenario: "twins: [a]", State: &pb.SimulationState{Steps: 361, At: durationpb.New(time.Hour), Length: durationpb.New(24 * time.Hour),
			Twins: 1000, Sent: 361_000, Stored: 360_990, Refused: 10, Error: "room-7: level: \"x\" is no number\x1b[2J", Node: "n1"}},
		{Id: "hotel/past", Speed: proto.Float64(0), From: before(24 * time.Hour), State: &pb.SimulationState{Ended: true, Twins: 3}},
		{Id: "hotel/night", Speed: proto.Float64(60), Paused: true},
	}
	golden(t, "sim_list", table(func(w io.Writer) { listSimulations(w, all) }))
	golden(t, "sim_get", table(func(w io.Writer) { describeSimulation(w, all[0]) }))
}
