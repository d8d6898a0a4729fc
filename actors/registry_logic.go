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
		m.Fault = st.Fault
		_, err = r.DriverSource(s.name, s.version)
		m.Source = err == nil
		out.Logics = append(out.Logics, m)
	}
	return out, nil
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
