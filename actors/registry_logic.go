package actors

import (
	"errors"
	"fmt"
	"regexp"
	"slices"

	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// channelPattern is how channels of topics are called.
var channelPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)

// ListLogics gives a page of the twins whose driver is of the kind logic, by id.
func (r *Registry) ListLogics(req *pb.ListLogicsRequest, projects func(string) bool) (*pb.ListLogicsResponse, error) {
	out := &pb.ListLogicsResponse{}
	prefix := ""
	if req.Project != "" {
		prefix = req.Project + "/"
	}
	routes, detectors := r.e.routes.byLogic(), r.e.detectors.byLogic()
	notifiers, err := r.notifiersByLogic(prefix)
	if err != nil {
		return nil, err
	}
	limit, seen, last := pageSize(req.GetPageSize()), 0, ""
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
		m := &pb.Logic{Id: t.Id, Title: s.title, Driver: s.name, Version: s.version, System: t.System, Stopped: t.Stopped, Routes: routes[t.Id],
			Reads: t.Reads, Notifiers: notifiers[t.Id], Detectors: detectors[t.Id]}
		st, _ := r.e.stored(t.Id)
		if m.Fault = st.Fault; m.Fault == "" {
			m.Fault = r.e.logics.resting(t.Id)
		}
		if m.Fault == "" {
			m.Fault = r.e.logics.deafTo(t.Id)
		}
		_, err = r.DriverSource(s.name, s.version)
		m.Source = err == nil
		m.Counts = r.e.logics.counted(t.Id, r.e.catalog.tally(s.name, s.version))
		m.Counts.Failures = r.e.catalog.failures(s.name)
		out.Logics = append(out.Logics, m)
	}
	return out, nil
}

// logicThere completes the id of a logic, and says what is wrong with it at path.
func (r *Registry) logicThere(project, path string, id *string) error {
	if err := completeID(project, path, id); err != nil {
		return err
	}
	t, err := r.e.readTwin(*id)
	switch {
	case err != nil:
		return err
	case t == nil:
		return invalid(path, "there is no logic %s", *id)
	}
	if s, err := r.e.catalog.forTwin(t); err == nil && s.manifest.Kind != drivers.KindLogic {
		return invalid(path, "%s is no logic: it is a twin of %s", *id, s.name)
	}
	return nil
}

// checkReads completes the topics that a logic reads, and says what is wrong with them.
func (r *Registry) checkReads(t *pb.Twin, s *spec) error {
	if len(t.Reads) > 0 && s.manifest.Kind != drivers.KindLogic {
		return invalid("/reads", "only a logic reads topics: %s is not of that kind", s.name)
	}
	seen := map[string]bool{}
	for i, x := range t.Reads {
		path := fmt.Sprintf("/reads/%d", i)
		if x.GetTopic() == "" {
			return invalid(path+"/topic", "is missing")
		}
		if err := completeID(ProjectOf(t.Id), path+"/topic", &x.Topic); err != nil {
			return err
		}
		if _, ok, err := r.store.Get(topic.TableTopics, x.Topic); err != nil || !ok {
			return errors.Join(err, invalid(path+"/topic", "there is no topic %s", x.Topic))
		}
		if x.Channel == "" {
			x.Channel = NameOf(t.Id)
		}
		if !channelPattern.MatchString(x.Channel) {
			return invalid(path+"/channel", "%q is no name of a channel: [a-z0-9][a-z0-9._-]{0,63}", x.Channel)
		}
		if seen[x.Topic] {
			return invalid(path+"/topic", "%s is there twice", x.Topic)
		}
		seen[x.Topic] = true
	}
	return nil
}

// resting says why this node leaves the run of a logic alone now, or "".
func (l *logics) resting(id string) string {
	l.mu.Lock()
	x := l.by[id]
	l.mu.Unlock()
	if x == nil {
		return ""
	}
	if err := x.resting(l.e); err != nil {
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
	for version, why := range b.Failures {
		if a.Failures == nil {
			a.Failures = map[string]string{}
		}
		a.Failures[version] = why
	}
}

// notifiersByLogic gives the notifiers that each logic is asked by.
func (r *Registry) notifiersByLogic(prefix string) (map[string][]string, error) {
	out := map[string][]string{}
	for rec, err := range r.store.Scan(notify.TableNotifiers, prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("read notifiers: %w", err)
		}
		m, err := decode(rec, &pb.Notifier{})
		if err != nil {
			return nil, err
		}
		if x := m.GetLogic(); x != nil {
			out[x.Logic] = append(out[x.Logic], rec.Key)
		}
	}
	return out, nil
}

// byLogic gives the detectors that each logic judges for.
func (x *detectors) byLogic() map[string][]string {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := map[string][]string{}
	for _, all := range x.byProject {
		for _, d := range all {
			if d.Logic != "" {
				out[d.Logic] = append(out[d.Logic], d.Id)
			}
		}
	}
	return out
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
