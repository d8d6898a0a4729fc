package topic

import (
	"fmt"
	"iter"
	"strings"

	"google.golang.org/protobuf/proto"

	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// ChannelPrefix begins the keys of a topic's channels.
func ChannelPrefix(topic string) string { return channelKey(topic, "") }

// Settings gives the channels under a prefix as they were last committed: topic, name and how they read. It stops at the first
// error.
func Settings(s *storage.Store, prefix string) iter.Seq2[*pb.Channel, error] {
	return func(yield func(*pb.Channel, error) bool) {
		for rec, err := range s.Scan(TableChannels, prefix, "") {
			c := &actorv1.ChannelRecord{}
			if err == nil {
				err = proto.Unmarshal(rec.Value, c)
			}
			if err != nil {
				yield(nil, fmt.Errorf("channel %q: %w", rec.Key, err))
				return
			}
			of, name, _ := strings.Cut(rec.Key, "\x00")
			if !yield(&pb.Channel{Topic: of, Name: name, Settings: c.Settings}, nil) {
				return
			}
		}
	}
}

// Complete fills in the defaults of a channel's settings. nil is all of them.
func Complete(set *pb.ChannelSettings) *pb.ChannelSettings { return settings(set) }
