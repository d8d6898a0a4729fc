package topic

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// overdue says whether the oldest message is too old.
func (t *topic) overdue(now time.Time) bool {
	return t.conf != nil && t.oldest > 0 && t.tail.First < t.tail.Next && now.UnixMilli()-t.oldest > ageOf(t.conf).Milliseconds()
}

func ageOf(conf *pb.Topic) time.Duration {
	if d := conf.GetMaxAge().AsDuration(); d > 0 {
		return d
	}
	return defaultAge
}

func orDefault(n, d uint64) uint64 {
	if n == 0 {
		return d
	}
	return n
}

// maxBytes is what the messages may take, by the topic's limit and by its project's.
func (t *topic) maxBytes() uint64 {
	size := orDefault(t.conf.MaxBytes, defaultBytes)
	if t.h.o.Share != nil {
		size = min(size, t.h.o.Share(t.id))
	}
	return size
}

// tooOld says whether a stored message is older than the topic's limit.
func tooOld(conf *pb.Topic, value []byte, now time.Time) bool {
	m := &pb.TopicMessage{}
	return proto.Unmarshal(value, m) == nil && now.Sub(m.PublishTime.AsTime()) > ageOf(conf)
}

// buildTrim removes messages beyond the topic's limits, oldest first, of those that are committed.
func (t *topic) buildTrim(f *flight, now time.Time) error {
	if t.conf == nil {
		return nil
	}
	limit, size := orDefault(t.conf.MaxMessages, defaultMessages), t.maxBytes()
	oldest := now.Add(-ageOf(t.conf)).UnixMilli()
	need := func(first uint64, at int64) bool {
		return first < t.tail.Next && (t.conf.Deleting || first < t.cut || f.tail.Next-first > limit || f.tail.Bytes > size || at < oldest)
	}
	if t.oldest > 0 && !need(f.tail.First, t.oldest) {
		return nil
	}
	f.oldest = 0
	n := 0
	for rec, err := range t.h.o.Store.Scan(TableMessages, t.id+"\x00", messageKey(t.id, f.tail.First-1)) {
		if err != nil {
			return err
		}
		m := &pb.TopicMessage{}
		if err := proto.Unmarshal(rec.Value, m); err != nil {
			return fmt.Errorf("message %d: %w", offsetOf(rec.Key), err)
		}
		at := m.PublishTime.AsTime().UnixMilli()
		if !need(f.tail.First, at) {
			f.oldest = at
			break
		}
		if n++; n > trimEach || f.size+len(rec.Key) > trimUpTo {
			f.oldest = at
			break
		}
		f.write(TableMessages, rec.Key, nil)
		f.tail.First = offsetOf(rec.Key) + 1
		f.tail.Bytes -= min(f.tail.Bytes, uint64(len(rec.Value)))
		f.tail.Trimmed++
	}
	if f.oldest == 0 && f.tail.First >= t.tail.Next && len(f.messages) > 0 {
		f.oldest = f.tail.Time
	}
	return nil
}
