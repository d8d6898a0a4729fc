package actors

import (
	"slices"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// ListLogics gives a page of the twins whose driver is of the kind logic, by id.
func (r *Registry) ListLogics(req *pb.ListLogicsRequest, projects func(string) bool) (*pb.ListLogicsResponse, error) {
	out := &pb.ListLogicsResponse{}
	routes := r.e.routes.byLogic()
	limit, seen, last := pageSize(req.GetPageSize()), 0, ""
	prefix := ""
	if req.Project != "" {
		prefix = req.Project + "/"
	}
	for rec, err := range r.store.Scan(tableTwins, prefix, req.GetPageToken()) {
		if err != nil {
			return nil, err
		}
		if rec.Key == req.GetPageToken() || projects != nil && !projects(ProjectOf(rec.Key)) {
			continue
		}
		if len(out.Logics) == limit || seen == maxScan {
			out.NextPageToken = last
			break
		}
		seen, last = seen+1, rec.Key
		t, err := decodeTwin(rec)
		if err != nil {
			return nil, err
		}
		s, err := r.e.catalog.forTwin(t)
		if err != nil || s.manifest.Kind != drivers.KindLogic {
			continue
		}
		m := &pb.Logic{Id: t.Id, Title: s.title, Driver: s.name, Version: s.version, System: t.System, Stopped: t.Stopped, Routes: routes[t.Id]}
		st, _ := r.e.stored(t.Id)
		if m.Fault = st.Fault; m.Fault == "" {
			m.Fault = r.e.logics.resting(t.Id)
		}
		_, err = r.DriverSource(s.name, s.version)
		m.Source = err == nil
		m.Counts = r.e.logics.counted(t.Id, r.e.catalog.tally(s.name, s.version))
		out.Logics = append(out.Logics, m)
	}
	return out, nil
}

// resting says why this node leaves the run of a logic alone now, or "".
func (l *logics) resting(id string) string {
	l.mu.Lock()
	x := l.by[id]
	l.mu.Unlock()
	if x == nil {
		return ""
	}
	if err := x.resting(l.e.nowMS()); err != nil {
		return err.Error()
	}
	return ""
}

// counted gives what a logic did on this node.
func (l *logics) counted(id string, version *tally) *pb.LogicCounts {
	v := version.proto()
	out := &pb.LogicCounts{Calls: v.Calls, Crashes: v.Traps, Commands: v.Commands, CommandsFailed: v.Failures, Last: v.Last, Nodes: 1}
	l.mu.Lock()
	x := l.by[id]
	l.mu.Unlock()
	if x != nil {
		out.Passed, out.Replaced, out.Stopped, out.Failed = x.passed.Load(), x.replaced.Load(), x.stopped.Load(), x.failed.Load()
	}
	return out
}

// AddLogicCounts adds what another node counted to a.
func AddLogicCounts(a, b *pb.LogicCounts) {
	a.Passed += b.Passed
	a.Replaced += b.Replaced
	a.Stopped += b.Stopped
	a.Failed += b.Failed
	a.Calls += b.Calls
	a.Crashes += b.Crashes
	a.Commands += b.Commands
	a.CommandsFailed += b.CommandsFailed
	a.Nodes += b.Nodes
	if b.Last != "" {
		a.Last = b.Last
	}
}

// byLogic gives the routes that each logic is in.
func (r *routes) byLogic() map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := map[string][]string{}
	for id, x := range r.byID {
		if x.Run != "" {
			out[x.Run] = append(out[x.Run], id)
		}
	}
	for _, all := range out {
		slices.Sort(all)
	}
	return out
}
