package topic

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestMissedByTheOwnerBefore: a channel whose record is of before its oldest messages were removed has missed those of them that it had not settled.
func TestMissedByTheOwnerBefore(t *testing.T) {
	value, err := proto.Marshal(&actorv1.ChannelRecord{Position: 3, Settled: []uint64{4, 6, 8, 12}, Missed: 1, Attempts: map[uint64]uint32{3: 1, 13: 2}})
	if err != nil {
		t.Fatal(err)
	}
	c, err := loadChannel(&topic{tail: &actorv1.TopicRecord{First: 10, Next: 20}}, "work", value, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	// 3, 6 and 7, and the one before.
	if c.missed != 4 || c.position != 10 || len(c.settled) != 2 || len(c.failures) != 1 {
		t.Errorf("missed %d, position %d, settled %v, failures %v", c.missed, c.position, c.settled, c.failures)
	}
}

// TestBackoff: the wait doubles up to its most, however often a message fails.
func TestBackoff(t *testing.T) {
	set := &pb.ChannelSettings{BackoffMin: durationpb.New(time.Minute), BackoffMax: durationpb.New(time.Hour)}
	want := []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute, 32 * time.Minute}
	for n := uint32(1); n < 100; n++ {
		w := time.Hour
		if int(n) <= len(want) {
			w = want[n-1]
		}
		if got := backoff(set, n); got != w {
			t.Errorf("after %d failures %v, want %v", n, got, w)
		}
	}
	if got := backoff(&pb.ChannelSettings{BackoffMin: durationpb.New(time.Hour), BackoffMax: durationpb.New(time.Minute)}, 1); got != time.Minute {
		t.Errorf("a least wait above the most: %v", got)
	}
}
