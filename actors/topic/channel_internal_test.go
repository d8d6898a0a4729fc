package topic

import (
	"maps"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestMissedByTheOwnerBefore: a channel whose record is of before its oldest messages were removed has missed those of them that it had not settled.
func TestMissedByTheOwnerBefore(t *testing.T) {
	value, err := proto.Marshal(&actorv1.ChannelRecord{Position: 3, Settled: []uint64{4, 6, 8, 12}, Missed: 1, Failed: []uint64{0, 1, 10, 2}})
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

// TestChannelsFitBesideAPublication: the records of a topic's channels fit in one transaction with the largest publication, however many they are,
// where the readers of all of them settle every other message and fail with the rest.
func TestChannelsFitBesideAPublication(t *testing.T) {
	const each = 64 // in flight
	for _, n := range []int{1, 2, 3, 4, 8, 16, 64, maxChannels} {
		topic := &topic{tail: &actorv1.TopicRecord{First: 1 << 40, Next: 1 << 41}, channels: map[string]*channel{}}
		for i := range n {
			name := newName()
			c := newChannel(topic, name, &pb.ChannelSettings{MaxAttempts: 9}, 1<<40)
			c.acknowledged, c.redelivered, c.readers[newName()] = uint64(1<<40+i), 1<<40, nil
			topic.channels[name] = c
		}
		size := 0
		for more := true; more; {
			more, size = false, 0
			for name, c := range topic.channels {
				for i := 0; i < each && !c.far(); i++ {
					if more = true; c.next%2 == 0 {
						c.failures[c.next] = 300
					} else {
						c.settled[c.next] = struct{}{}
					}
					c.next++
				}
				value, err := c.encode()
				if err != nil {
					t.Fatal(err)
				}
				size += len(channelKey("default/t", name)) + len(value) + 32
				again, err := loadChannel(topic, name, value, time.Now())
				if err != nil || !maps.Equal(again.failures, c.failures) || !maps.Equal(again.settled, c.settled) {
					t.Fatalf("%d channels: read again it has %d failures of %d, %v", n, len(again.failures), len(c.failures), err)
				}
			}
		}
		if most := 448<<10 - maxPublish - letterRoom; size > most {
			t.Errorf("%d channels take %d bytes, %d are left", n, size, most)
		}
	}
}
