package actors_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/polluxhq/pollux/actors/source"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// TestKafkaSource: records reach twins by name and alias, the inbox and the refusals; what comes again after offsets were lost is known; and the group's
// position is what was committed here.
func TestKafkaSource(t *testing.T) {
	k, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "readings"))
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	c, err := kgo.NewClient(kgo.SeedBrokers(k.ListenAddrs()...), kgo.DefaultProduceTopic("readings"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
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
	position := func() int64 {
		q := kmsg.NewPtrOffsetFetchRequest()
		g := kmsg.NewOffsetFetchRequestGroup()
		g.Group = "g"
		q.Group, q.Groups = "g", append(q.Groups, g)
		res, err := q.RequestWith(ctx, c)
		if err != nil || len(res.Groups) == 0 || len(res.Groups[0].Topics) == 0 {
			return -1
		}
		return res.Groups[0].Topics[0].Partitions[0].Offset
	}
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
	if made, err = n.reg.UpdateSource(ctx, made); err != nil {
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
	if _, err = n.reg.UpdateSource(ctx, made); err != nil {
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
