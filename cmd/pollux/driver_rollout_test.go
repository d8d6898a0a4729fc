package main

import (
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// Every limit of a rollout has a flag, and what no flag names is the node's to say.
func TestRolloutLimits(t *testing.T) {
	for _, c := range []struct {
		args []string
		want *pb.RolloutLimits
	}{
		{nil, nil},
		{[]string{"--min-traps", "1", "--min-failures", "2", "--factor", "1.5", "--max-traps", "4", "--max-failures", "5"},
			&pb.RolloutLimits{MinTraps: 1, MinFailures: 2, Factor: 1.5, MaxTraps: 4, MaxFailures: 5}},
		{[]string{"--min-failures", "7"}, &pb.RolloutLimits{MinFailures: 7}},
	} {
		var r rolloutFlags
		cmd := &cobra.Command{}
		r.add(cmd)
		m := &pb.StartRolloutRequest{}
		if err := cmd.ParseFlags(c.args); err != nil {
			t.Fatal(err)
		}
		if err := r.fill(m); err != nil || !proto.Equal(m.Limits, c.want) {
			t.Errorf("%v: %v, %v", c.args, m.Limits, err)
		}
	}
	if have := (&pb.RolloutLimits{}).ProtoReflect().Descriptor().Fields().Len(); have != 5 {
		t.Errorf("there are %d limits: give the new one a flag", have)
	}
}
