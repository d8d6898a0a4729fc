package storage

import (
	"fmt"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
)

// BenchmarkApply has the state machine apply records of 300 bytes of 20,000 twins, by 5 and by 500 in an entry, four entries at a
// time, and reports processor time, which holds on a busy machine too.
func BenchmarkApply(b *testing.B) {
	for _, each := range []int{5, 500} {
		b.Run(fmt.Sprint(each), func(b *testing.B) {
			s, err := Open(Options{Dir: b.TempDir(), DiscardSamples: true})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			value := make([]byte, 300)
			var batches [][]*raft.Log
			index, twin, records := uint64(0), 0, 0
			for records < b.N {
				var logs []*raft.Log
				for range 4 {
					var buf []byte
					for range each {
						twin += 7919
						w := waiting{}
						if err := w.encode(&Txn{Writes: []Write{{Table: "state", Key: fmt.Sprintf("default/twin-%d", twin%20000), Value: value, Quiet: true}}}); err != nil {
							b.Fatal(err)
						}
						buf = appendBytes(buf, w.buf)
						records++
					}
					index++
					e := appendEntryHeader(nil, "n1", 1, index, each, len(buf))
					logs = append(logs, &raft.Log{Index: index, Type: raft.LogCommand, Data: append(e, buf...)})
				}
				batches = append(batches, logs)
			}
			spent := func() int64 {
				var u syscall.Rusage
				_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
				return u.Utime.Nano() + u.Stime.Nano()
			}
			b.ResetTimer()
			began := spent()
			for _, logs := range batches {
				s.machine.ApplyBatch(logs)
			}
			b.ReportMetric(float64(spent()-began)/float64(records), "cpu-ns/record")
			if s.AppliedIndex() != index {
				b.Fatal("not applied")
			}
		})
	}
}
