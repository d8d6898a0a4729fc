package actors_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/automation"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// BenchmarkDurableTimers has a million schedules wait on the disk's store, weighs what they hold in memory beyond it, and has two thousand of them fire,
// spread over ten seconds: how late is each, from when it was due to when its first action was begun, which is committed before?
func BenchmarkDurableTimers(b *testing.B) {
	const count, firing, spread = 1_000_000, 2000, 10 * time.Second
	n := open(b, nil, 1)
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	schedule := func(id string, at time.Time) (value []byte) {
		m := &pb.Schedule{}
		if err := protojson.Unmarshal(fmt.Appendf(nil, `{"id":%q,"timing":{"at":%q},"actions":[{"mqtt":{"topic":"t","payload":"1"}}]}`, id, at.UTC().Format(time.RFC3339Nano)), m); err != nil {
			b.Fatal(err)
		}
		value, err := proto.Marshal(m)
		if err != nil {
			b.Fatal(err)
		}
		return value
	}
	before := heap()
	far := time.Now().Add(24 * time.Hour)
	value := schedule("default/x", far)
	for i := 0; i < count; {
		var txn storage.Txn
		for ; len(txn.Writes) < 2000 && i < count; i++ {
			id := fmt.Sprintf("p%02d/t%07d", i%20, i) // a project has a hundred thousand at most
			txn.Writes = append(txn.Writes, storage.Write{Table: automation.TableSchedules, Key: id, Value: value, Quiet: true},
				actors.WakeRecord(automation.Address(automation.KindSchedule, id), far.UnixMilli()+int64(i)))
		}
		if _, err := n.store.Commit(ctx(b), &txn); err != nil {
			b.Fatal(err)
		}
	}
	stored := heap()
	n.engine.LookAtSlots()
	time.Sleep(3 * time.Second) // each slot is looked at
	each := float64(max(heap(), stored)-stored) / count
	begin := time.Now().Add(15 * time.Second) // putting them takes a while
	for i := range firing {
		m := &pb.Schedule{}
		id := fmt.Sprintf("default/f%d", i)
		if err := proto.Unmarshal(schedule(id, begin.Add(time.Duration(i)*spread/firing).Truncate(time.Millisecond)), m); err != nil {
			b.Fatal(err)
		}
		if _, err := n.reg.PutSchedule(ctx(b), m); err != nil {
			b.Fatal(err)
		}
	}
	var late []float64
	until(b, "all have fired", func() bool {
		late = late[:0]
		for rec, err := range n.store.Scan(automation.TableRuns, "schedule/default/f", "") {
			run := &pb.Run{}
			if err != nil || proto.Unmarshal(rec.Value, run) != nil || len(run.Steps) == 0 || run.Steps[0].Start == nil {
				continue
			}
			late = append(late, float64(run.Steps[0].Start.AsTime().Sub(run.Due.AsTime()).Microseconds())/1000)
		}
		return len(late) >= firing
	})
	slices.Sort(late)
	p99 := late[len(late)*99/100]
	say := func(name, unit string, ours float64, goal string, met bool) {
		text, _ := json.Marshal(map[string]any{"name": name, "unit": unit, "ours": ours, "goal": goal, "met": met})
		fmt.Printf("\nBENCH %s\n", text)
	}
	say("durable timers: memory of each of 1,000,000 beyond the store", "B", each, "<= 64", each <= 64)
	say("durable timers: memory of each of 1,000,000 with the store's caches", "B", float64(max(heap(), before)-before)/count, "", true)
	say("durable timers: from due to committed begin of the action, p99", "ms", p99, "<= 50", p99 <= 50)
	b.ReportMetric(p99, "p99-ms")
	b.ReportMetric(0, "ns/op")
}
