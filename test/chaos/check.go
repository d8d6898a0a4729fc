package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
	"github.com/polluxhq/pollux/test/journal"
	"github.com/polluxhq/pollux/test/load"
)

// closing is what it may take until a device sees that a connection has ended.
const closing = 100 * time.Millisecond

// settling is how long reads may lag behind what was acknowledged on another node.
const settling = 20 * time.Second

// Check stops the clients and holds what they and the devices saw against what every node says now.
func (l *Load) Check() []journal.Verdict {
	l.t.Helper()
	l.Stop()
	if l.loadErr != nil {
		l.t.Errorf("the publishers: %v", l.loadErr)
	}
	l.mu.Lock()
	calls, created, pauses := l.calls, l.created, l.pauses
	l.mu.Unlock()
	conns := l.Devices.Conns()
	all := []journal.Verdict{
		journal.OneOwner(conns, pauses, closing),
		journal.OnceInOrder(calls, conns),
		l.checksums(),
		l.findings(),
	}
	if l.o.Setters > 0 {
		all = append(all, l.checkDesired())
	}
	if l.o.Publishers > 0 {
		all = append(all, l.checkReported(), l.checkHistory())
	}
	if l.firings != nil {
		all = append(all, l.firings.check())
	}
	if l.o.Create {
		all = append(all, l.checkCreated(created))
	}
	for _, v := range all {
		l.t.Log(v)
		if v.Checked == 0 {
			l.t.Errorf("%s: nothing was checked", v.Name)
		}
		for i, text := range v.Violations {
			if i == 20 {
				l.t.Errorf("%s: and %d more", v.Name, len(v.Violations)-i)
				break
			}
			l.t.Errorf("%s: %s", v.Name, text)
		}
	}
	return all
}

// again reads until the verdict is without violations, or the time for settling is over.
func again(check func() journal.Verdict) journal.Verdict {
	for end := time.Now().Add(settling); ; time.Sleep(200 * time.Millisecond) {
		v := check()
		if len(v.Violations) == 0 || time.Now().After(end) {
			return v
		}
	}
}

// on asks every running node, both ways of reading.
func (l *Load) on(read func(n *harness.Node, c pb.Consistency) map[string]float64) map[string]map[string]float64 {
	reads := map[string]map[string]float64{}
	for _, n := range l.cluster.Running() {
		reads[n.Name+" (owner)"] = read(n, pb.Consistency_CONSISTENCY_OWNER)
		reads[n.Name+" (local)"] = read(n, pb.Consistency_CONSISTENCY_LOCAL)
	}
	return reads
}

func (l *Load) checkDesired() journal.Verdict {
	want := map[string]journal.Range{}
	for i := range l.sets {
		want[setter(i)] = l.sets[i].Range()
	}
	return again(func() journal.Verdict {
		return journal.Kept("desired values", want, l.on(func(n *harness.Node, c pb.Consistency) map[string]float64 {
			return l.values(n, c, want, func(s *pb.TwinState) (float64, bool) {
				d := s.GetDesired()["level"]
				return d.GetValue().GetNumberValue(), d != nil
			})
		}))
	})
}

func (l *Load) checkReported() journal.Verdict {
	want := map[string]journal.Range{}
	for i, e := range l.published.Last() {
		want[publisher(i)] = journal.Range{Acked: e.Value, Sent: float64(l.sent[i].Load())}
	}
	v := again(func() journal.Verdict {
		return journal.Kept("MQTT QoS 1 values", want, l.on(func(n *harness.Node, c pb.Consistency) map[string]float64 {
			return l.values(n, c, want, func(s *pb.TwinState) (float64, bool) {
				p := s.GetProperties()["level"]
				return p.GetValue().GetNumberValue(), p != nil
			})
		}))
	})
	v.Note = fmt.Sprintf("%d acknowledged, %d sent again, %d connections lost", l.report.Acked, l.report.Resent, l.report.Losses)
	if l.report.OutOfOrder > 0 {
		v.Violations = append(v.Violations, fmt.Sprintf("%d acknowledgements came out of order", l.report.OutOfOrder))
	}
	return v
}

// values reads one number of each twin; a twin that cannot be read is missing.
func (l *Load) values(n *harness.Node, c pb.Consistency, want map[string]journal.Range, value func(*pb.TwinState) (float64, bool)) map[string]float64 {
	got := map[string]float64{}
	for id := range want {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		r, err := n.Twins().GetTwin(ctx, connect.NewRequest(&pb.GetTwinRequest{Id: id, Consistency: c}))
		cancel()
		if err != nil {
			l.t.Logf("read %s on %s: %v", id, n.Name, err)
			continue
		}
		if v, ok := value(r.Msg.Twin.GetState()); ok {
			got[id] = v
		}
	}
	return got
}

func (l *Load) checkHistory() journal.Verdict {
	acked := map[string][]float64{}
	l.published.Each(func(e load.Entry) { acked[publisher(e.Device)] = append(acked[publisher(e.Device)], e.Value) })
	return again(func() journal.Verdict {
		reads := map[string]map[string][]float64{}
		for _, n := range l.cluster.Running() {
			reads[n.Name] = map[string][]float64{}
			for id := range acked {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				r, err := n.Twins().QueryHistory(ctx, connect.NewRequest(&pb.QueryHistoryRequest{Id: id, Property: "level",
					Start: timestamppb.New(l.began.Add(-time.Second)), Limit: 100000}))
				cancel()
				if err != nil {
					l.t.Logf("history of %s on %s: %v", id, n.Name, err)
					continue
				}
				for _, s := range r.Msg.Samples {
					reads[n.Name][id] = append(reads[n.Name][id], s.Value)
				}
			}
		}
		return journal.InHistory(acked, reads)
	})
}

func (l *Load) checkCreated(created []string) journal.Verdict {
	return again(func() journal.Verdict {
		have := map[string]map[string]bool{}
		for _, n := range l.cluster.Running() {
			have[n.Name] = map[string]bool{}
			for token := ""; ; {
				ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
				r, err := n.Twins().ListTwins(ctx, connect.NewRequest(&pb.ListTwinsRequest{PageSize: 1000, PageToken: token}))
				cancel()
				if err != nil {
					l.t.Logf("list on %s: %v", n.Name, err)
					break
				}
				for _, t := range r.Msg.Twins {
					have[n.Name][t.Id] = true
				}
				if token = r.Msg.NextPageToken; token == "" {
					break
				}
			}
		}
		return journal.There(created, have)
	})
}

// checksums compares the nodes' state at the newest index of the log for which all have a sum.
func (l *Load) checksums() journal.Verdict {
	return again(func() journal.Verdict {
		r, err := l.checkCluster()
		if err != nil {
			return journal.Verdict{Name: "checksums", Violations: []string{err.Error()}}
		}
		at := map[uint64]map[string]string{}
		for _, c := range r.Checksums {
			for _, s := range c.Sums {
				if at[s.Index] == nil {
					at[s.Index] = map[string]string{}
				}
				at[s.Index][c.Name] = s.Sum
			}
		}
		newest := uint64(0)
		running := l.cluster.Running()
		for index, sums := range at {
			if len(sums) == len(running) {
				newest = max(newest, index)
			}
		}
		if newest == 0 {
			l.fillLog()
		}
		v := journal.Alike("checksums", at[newest])
		v.Note = fmt.Sprintf("at index %d of the log", newest)
		return v
	})
}

// fillLog has the log grow after a short run: sums are taken each so many entries.
func (l *Load) fillLog() {
	var calls sync.WaitGroup
	for i := range l.sets {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			for range 50 {
				r := &l.sets[i]
				next := r.Range().Sent + 1
				r.Sending(next)
				if _, o, _ := l.caller.SetDesired(ctx, setter(i), "level", next); o == journal.Done {
					r.Acknowledged(next)
				}
			}
		})
	}
	calls.Wait()
}

// findings asks the cluster itself for broken promises.
func (l *Load) findings() journal.Verdict {
	return again(func() journal.Verdict {
		v := journal.Verdict{Name: "pollux cluster check"}
		r, err := l.checkCluster()
		if err != nil {
			v.Violations = append(v.Violations, err.Error())
			return v
		}
		v.Checked = len(r.Checksums)
		for _, f := range r.Findings {
			if f.Severity == "error" {
				v.Violations = append(v.Violations, f.Subject+": "+f.Text)
			}
		}
		if !r.Ok && len(v.Violations) == 0 {
			v.Violations = append(v.Violations, "it is not ok and says nothing")
		}
		return v
	})
}

func (l *Load) checkCluster() (*pb.CheckClusterResponse, error) {
	running := l.cluster.Running()
	if len(running) == 0 {
		return nil, errors.New("no node runs")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := running[0].Cluster().CheckCluster(ctx, connect.NewRequest(&pb.CheckClusterRequest{}))
	if err != nil {
		return nil, err
	}
	return r.Msg, nil
}

// Table gives verdicts and recoveries as text.
func Table(verdicts []journal.Verdict, recoveries []journal.Recovery) string {
	var b strings.Builder
	for _, v := range verdicts {
		fmt.Fprintln(&b, v)
	}
	kinds := map[string][]journal.Recovery{}
	var order []string
	for _, r := range recoveries {
		kind, _, _ := strings.Cut(r.Fault, ":")
		if kinds[kind] == nil {
			order = append(order, kind)
		}
		kinds[kind] = append(kinds[kind], r)
	}
	fmt.Fprintf(&b, "%-28s %5s %9s %9s\n", "until all twins answer", "times", "p50", "max")
	for _, kind := range order {
		p50, longest := journal.Quantiles(kinds[kind])
		fmt.Fprintf(&b, "%-28s %5d %8.2fs %8.2fs\n", kind, len(kinds[kind]), p50.Seconds(), longest.Seconds())
	}
	if len(recoveries) > 0 {
		p50, longest := journal.Quantiles(recoveries)
		fmt.Fprintf(&b, "%-28s %5d %8.2fs %8.2fs\n", "all", len(recoveries), p50.Seconds(), longest.Seconds())
	}
	return b.String()
}
