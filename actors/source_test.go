package actors_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/source"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// newKafka is a broker with the topic readings, and a client that writes there.
func newKafka(t *testing.T) (*kfake.Cluster, *kgo.Client) {
	t.Helper()
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "readings"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	c, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...), kgo.DefaultProduceTopic("readings"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return k, c
}

// positionOf is the offset that a group has told of the first partition of its topic; -1: none.
func positionOf(ctx context.Context, c *kgo.Client, group string) int64 {
	q := kmsg.NewPtrOffsetFetchRequest()
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	q.Group, q.Groups = group, append(q.Groups, g)
	res, err := q.RequestWith(ctx, c)
	if err != nil || len(res.Groups) == 0 || len(res.Groups[0].Topics) == 0 {
		return -1
	}
	return res.Groups[0].Topics[0].Partitions[0].Offset
}

// TestKafkaSource: records reach twins by name and alias, the inbox and the refusals; what comes again after offsets were lost is known; and the group's
// position is what was committed here.
func TestKafkaSource(t *testing.T) {
	k, c := newKafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	n := open(t, vfs.NewMem(), 1)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"},"aliases":[{"network":"plant","key":"serial","value":"7"}]}`)
	produce := func(r *kgo.Record) {
		t.Helper()
		if err := c.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 50 {
		produce(&kgo.Record{Key: []byte("7"), Value: fmt.Appendf(nil, `{"level":%d}`, i)})
	}
	produce(&kgo.Record{Value: []byte(`{"level":50}`), Headers: []kgo.RecordHeader{{Key: "twin", Value: []byte("a")}}})
	produce(&kgo.Record{Key: []byte("stranger"), Value: []byte(`{"level":1}`)})
	produce(&kgo.Record{Value: []byte(`{"level":1}`)})
	produce(&kgo.Record{Key: []byte{0xff, 0}, Value: []byte(`{"level":1}`)})
	made, err := n.reg.CreateSource(ctx, &pb.Source{Id: "plant", Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/readings?network=plant&key=serial&group=g"})
	if err != nil {
		t.Fatal(err)
	}
	position := func() int64 { return positionOf(ctx, c, "g") }
	until(t, "the group is at the end", func() bool { return position() == 54 })
	check := func(duplicates uint64) {
		t.Helper()
		until(t, "the counters, which may be some seconds old, are those of now", func() bool {
			x := n.counts("kafka")
			return x.Stored == 51 && x.Inbox == 1 && x.Refused == 2 && x.Duplicate == duplicates && x.InFlight == 0
		})
		if v := n.state("default/a").Properties["level"].GetValue().GetNumberValue(); v != 50 {
			t.Errorf("level is %v", v)
		}
	}
	check(0)
	if m, err := n.reg.Source("plant"); err != nil || m.State.Error != "" {
		t.Errorf("%v, %v", m, err)
	}

	// A topic that is not there is told of.
	if _, err := n.reg.CreateSource(ctx, &pb.Source{Id: "gone", Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/gone"}); err != nil {
		t.Fatal(err)
	}
	until(t, "the missing topic is told of", func() bool {
		m, err := n.reg.Source("gone")
		return err == nil && strings.Contains(m.State.GetError(), "topic gone: UNKNOWN_TOPIC_OR_PARTITION")
	})

	// The group's position is lost while the source rests: all come again.
	made.Paused = true
	if made, err = n.reg.UpdateSource(ctx, made, false); err != nil {
		t.Fatal(err)
	}
	until(t, "the group is empty, and forgotten", func() bool {
		q := kmsg.NewPtrDeleteGroupsRequest()
		q.Groups = []string{"g"}
		res, err := q.RequestWith(ctx, c)
		return err == nil && len(res.Groups) == 1 && res.Groups[0].ErrorCode == 0
	})
	until(t, "what was read until the pause is counted", func() bool {
		m, err := n.reg.Source("plant")
		return err == nil && m.State.Read == 54
	})
	made.Paused = false
	if _, err = n.reg.UpdateSource(ctx, made, false); err != nil {
		t.Fatal(err)
	}
	until(t, "the group is at the end again", func() bool { return position() == 54 })
	until(t, "all that is known is counted again", func() bool {
		x := n.counts("kafka")
		return x.Stored == 51 && x.Duplicate == 52
	})
	for url, want := range map[string]string{
		"http://x/":                  "want kafka://",
		"kafka://a:1/t?colour=red":   `kafka has no parameter "colour"`,
		"kafka://u:p@a:1/t":          "a password does not belong",
		"kafka://a:1/t?group=g&tls=": "",
	} {
		if err := source.Check(url); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
}

// TestKafkaSourceOfATopicMadeAnew: the records of a topic that was removed and made again are not taken for those before; and where the broker has lost
// records that were read, the source goes on with those that come.
func TestKafkaSourceOfATopicMadeAnew(t *testing.T) {
	k, c := newKafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	n := open(t, vfs.NewMem(), 1)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	produced := 0
	produce := func(n int) {
		t.Helper()
		p, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...), kgo.DefaultProduceTopic("readings"))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		for range n {
			produced++
			if err := p.ProduceSync(ctx, &kgo.Record{Value: fmt.Appendf(nil, `{"level":%d}`, produced), Headers: []kgo.RecordHeader{{Key: "twin", Value: []byte("a")}}}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	stored := func(want uint64) {
		t.Helper()
		until(t, fmt.Sprintf("%d are stored", want), func() bool { x := n.counts("kafka"); return x.Stored == want && x.Duplicate == 0 })
	}
	made, err := n.reg.CreateSource(ctx, &pb.Source{Id: "plant", Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/readings?group=g"})
	if err != nil {
		t.Fatal(err)
	}
	pause := func(yes bool) {
		t.Helper()
		made.Paused = yes
		if made, err = n.reg.UpdateSource(ctx, made, false); err != nil {
			t.Fatal(err)
		}
	}
	anew := func() {
		t.Helper()
		gone := kmsg.NewPtrDeleteTopicsRequest()
		name := "readings"
		gone.TopicNames = []string{name}
		gone.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}
		if res, err := gone.RequestWith(ctx, c); err != nil || res.Topics[0].ErrorCode != 0 {
			t.Fatalf("%v, %v", res, err)
		}
		again := kmsg.NewPtrCreateTopicsRequest()
		x := kmsg.NewCreateTopicsRequestTopic()
		x.Topic, x.NumPartitions, x.ReplicationFactor = name, 1, 1
		again.Topics = append(again.Topics, x)
		if res, err := again.RequestWith(ctx, c); err != nil || res.Topics[0].ErrorCode != 0 {
			t.Fatalf("%v, %v", res, err)
		}
	}
	forgotten := func() bool {
		q := kmsg.NewPtrDeleteGroupsRequest()
		q.Groups = []string{"g"}
		res, err := q.RequestWith(ctx, c)
		return err == nil && len(res.Groups) == 1 && res.Groups[0].ErrorCode == 0
	}
	produce(6)
	stored(6)

	pause(true)
	until(t, "the group is empty, and forgotten with its topic", forgotten)
	anew()
	produce(1000)
	pause(false)
	stored(1006)
	until(t, "Kafka knows that they were read", func() bool {
		m, err := n.reg.Source("plant")
		return err == nil && m.State.GetPositions()["readings/0"] == 1000
	})

	// A leader that lacks the last records has been elected: the source goes on where its log and the group's position part.
	pause(true)
	until(t, "the source has left", func() bool {
		q := kmsg.NewPtrDescribeGroupsRequest()
		q.Groups = []string{"g"}
		res, err := q.RequestWith(ctx, c)
		return err == nil && len(res.Groups) == 1 && res.Groups[0].State == "Empty"
	})
	k.ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(q kmsg.Request) (kmsg.Response, error, bool) {
		k.KeepControl()
		res := q.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
		x, p := kmsg.NewOffsetForLeaderEpochResponseTopic(), kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		p.EndOffset = 900
		x.Topic, x.Partitions = "readings", append(x.Partitions, p)
		res.Topics = append(res.Topics, x)
		return res, nil, true
	})
	pause(false)
	produce(1)
	until(t, "what comes is stored, and what came before is known", func() bool {
		x := n.counts("kafka")
		return x.Stored == 1007 && x.Duplicate == 100
	})
	until(t, "it reads without a fault", func() bool {
		m, err := n.reg.Source("plant")
		return err == nil && m.State.GetError() == ""
	})
}

// TestKafkaSourceReadsAgain: what Kafka was not told that it was read comes again, and is known, though it is all for one twin.
func TestKafkaSourceReadsAgain(t *testing.T) {
	const many = 1200
	k, p := newKafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	var records []*kgo.Record
	for i := range many {
		records = append(records, &kgo.Record{Value: fmt.Appendf(nil, `{"level":%d}`, i), Headers: []kgo.RecordHeader{{Key: "twin", Value: []byte("a")}}})
	}
	if err := p.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	var refused atomic.Bool
	k.ControlKey(int16(kmsg.OffsetCommit), func(q kmsg.Request) (kmsg.Response, error, bool) {
		if !refused.CompareAndSwap(false, true) {
			return nil, nil, false
		}
		res := q.ResponseKind().(*kmsg.OffsetCommitResponse)
		x, at := kmsg.NewOffsetCommitResponseTopic(), kmsg.NewOffsetCommitResponseTopicPartition()
		at.ErrorCode = kerr.UnknownServerError.Code
		x.Topic, x.Partitions = "readings", append(x.Partitions, at)
		res.Topics = append(res.Topics, x)
		return res, nil, true
	})
	n := open(t, vfs.NewMem(), 1)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	if _, err := n.reg.CreateSource(ctx, &pb.Source{Id: "plant", Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/readings?group=g"}); err != nil {
		t.Fatal(err)
	}
	until(t, "all are read", func() bool { m, err := n.reg.Source("plant"); return err == nil && m.State.GetRead() >= many })
	if x := n.counts("kafka"); !refused.Load() || x.Stored != many || x.Duplicate == 0 || x.Received != x.Stored+x.Duplicate {
		t.Errorf("%+v", x)
	}
}

// TestKafkaSourceGoesBackWithItsState: what was read after a backup was taken is read again where that is put back into another cluster, though the
// group is further.
func TestKafkaSourceGoesBackWithItsState(t *testing.T) {
	k, p := newKafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	n := open(t, vfs.NewMem(), 1, func(o *actors.Options) { o.ClusterID = "this one" })
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	for i := range 20 {
		if err := p.ProduceSync(ctx, &kgo.Record{Value: fmt.Appendf(nil, `{"level":%d}`, i), Headers: []kgo.RecordHeader{{Key: "twin", Value: []byte("a")}}}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	made, err := n.reg.CreateSource(ctx, &pb.Source{Id: "plant", Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/readings?group=g"})
	if err != nil {
		t.Fatal(err)
	}
	at := func() int64 {
		m, err := n.reg.Source("plant")
		if err != nil {
			t.Fatal(err)
		}
		return m.State.GetPositions()["readings/0"]
	}
	counted := func(duplicates uint64) func() bool {
		return func() bool {
			x := n.counts("kafka")
			return x.Stored == 20 && x.Duplicate == duplicates && at() == 20
		}
	}
	pause := func(yes bool) {
		t.Helper()
		made.Paused = yes
		if made, err = n.reg.UpdateSource(ctx, made, false); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all are read", counted(0))
	for _, c := range []struct {
		cluster    string
		duplicates uint64
	}{{"another one", 8}, {"this one", 8}} { // where it is its own, the group knows better
		pause(true)
		m, err := n.reg.Source("plant")
		if err != nil {
			t.Fatal(err)
		}
		m.State.Positions["readings/0"], m.State.Cluster = 12, c.cluster
		value, err := proto.Marshal(m.State)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.store.Commit(ctx, &storage.Txn{Writes: []storage.Write{{Table: source.TableStates, Key: "default/plant", Value: value}}}); err != nil {
			t.Fatal(err)
		}
		pause(false)
		if c.cluster == "this one" {
			if err := p.ProduceSync(ctx, &kgo.Record{Value: []byte(`{"level":20}`), Headers: []kgo.RecordHeader{{Key: "twin", Value: []byte("a")}}}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			until(t, "the next one is read", func() bool { return n.counts("kafka").Stored == 21 })
			if x := n.counts("kafka"); x.Duplicate != c.duplicates {
				t.Errorf("%d were read again", x.Duplicate)
			}
			continue
		}
		until(t, "those behind the backup are read again", counted(c.duplicates))
	}
}

// TestKafkaSourceOfABackupBeforeItsFirstRecord: what a source read after a backup of its first moments was taken is read again where that is put back
// into another cluster, though nothing had been read by then.
func TestKafkaSourceOfABackupBeforeItsFirstRecord(t *testing.T) {
	k, p := newKafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	n := open(t, vfs.NewMem(), 1, func(o *actors.Options) { o.ClusterID = "this one" })
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	made, err := n.reg.CreateSource(ctx, &pb.Source{Id: "plant", Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/readings?group=g"})
	if err != nil {
		t.Fatal(err)
	}
	begun := &pb.SourceState{}
	until(t, "it says where it begins", func() bool {
		m, err := n.reg.Source("plant")
		if err != nil {
			return false
		}
		begun = m.State
		at, ok := m.State.GetPositions()["readings/0"]
		return ok && at == 0 && m.State.Cluster == "this one"
	})
	for i := range 5 {
		if err := p.ProduceSync(ctx, &kgo.Record{Value: fmt.Appendf(nil, `{"level":%d}`, i), Headers: []kgo.RecordHeader{{Key: "twin", Value: []byte("a")}}}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	until(t, "all are read", func() bool {
		m, err := n.reg.Source("plant")
		return err == nil && m.State.GetPositions()["readings/0"] == 5
	})
	made.Paused = true
	if made, err = n.reg.UpdateSource(ctx, made, false); err != nil {
		t.Fatal(err)
	}
	begun.Cluster = "another one"
	value, err := proto.Marshal(begun)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.store.Commit(ctx, &storage.Txn{Writes: []storage.Write{{Table: source.TableStates, Key: "default/plant", Value: value}}}); err != nil {
		t.Fatal(err)
	}
	made.Paused = false
	if _, err := n.reg.UpdateSource(ctx, made, false); err != nil {
		t.Fatal(err)
	}
	until(t, "they are read again", func() bool { x := n.counts("kafka"); return x.Stored == 5 && x.Duplicate == 5 })
}

// TestKafkaSourceWithoutTimes: a record that has no time is one of now.
func TestKafkaSourceWithoutTimes(t *testing.T) {
	k, p := newKafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	n := open(t, vfs.NewMem(), 1)
	n.driver("bus", "1.0.0", mqttTransport)
	n.twin(`{"id":"a","driver":"bus","settings":{"topic":"a1"}}`)
	if err := p.ProduceSync(ctx, &kgo.Record{Value: []byte(`{"level":1}`), Timestamp: time.UnixMilli(-1), Headers: []kgo.RecordHeader{{Key: "twin", Value: []byte("a")}}}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if _, err := n.reg.CreateSource(ctx, &pb.Source{Id: "plant", Url: "kafka://" + strings.Join(k.ListenAddrs(), ",") + "/readings?group=g"}); err != nil {
		t.Fatal(err)
	}
	until(t, "it is stored", func() bool { x := n.counts("kafka"); return x.Stored == 1 && x.Refused == 0 })
}
