package actors

import (
	"fmt"
	"slices"
	"strings"

	"github.com/polluxhq/pollux/actors/expr"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxScan bounds the records that one page looks at; a page may be short, with a token to go on.
const maxScan = 50_000

// ListTwins gives a page of the twins that match, by id, with their state as last committed where asked for.
func (r *Registry) ListTwins(req *pb.ListTwinsRequest, projects func(string) bool) (*pb.ListTwinsResponse, error) {
	return r.listTwins(req, projects, false)
}

// listTwins is ListTwins; directly: of the filter's zone without those below it.
func (r *Registry) listTwins(req *pb.ListTwinsRequest, projects func(string) bool, directly bool) (*pb.ListTwinsResponse, error) {
	f := req.GetFilter()
	if f == nil {
		f = &pb.TwinFilter{}
	}
	where, err := whereOf(f)
	if err != nil {
		return nil, err
	}
	l := &lister{r: r, req: req, f: f, where: where, projects: projects, limit: pageSize(req.GetPageSize()),
		directly: directly, resp: &pb.ListTwinsResponse{}}
	if len(f.Ids) > 0 || f.System != "" {
		err = l.named()
	} else {
		err = l.scan()
	}
	if err != nil {
		return nil, fmt.Errorf("list twins: %w", err)
	}
	return l.resp, nil
}

// lister collects one page.
type lister struct {
	r        *Registry
	req      *pb.ListTwinsRequest
	f        *pb.TwinFilter
	where    *expr.Expr
	projects func(string) bool
	limit    int
	directly bool // in the filter's zone, not in those below it
	resp     *pb.ListTwinsResponse
}

// named lists the twins that the filter names.
func (l *lister) named() error {
	var ids []string
	chosen, err := l.r.members(l.f)
	if err != nil {
		return err
	}
	for _, id := range chosen {
		full, err := CanonicalID(id)
		if err != nil {
			return err
		}
		ids = append(ids, full)
	}
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if id <= l.req.PageToken {
			continue
		}
		if more, err := l.visit(id); err != nil || !more {
			return err
		}
	}
	return nil
}

// scan goes through the narrowest index that the filter allows.
func (l *lister) scan() error {
	table, prefix := tableTwins, ""
	switch f := l.f; {
	case f.Zone != "":
		return l.inZone()
	case f.Project != "" && len(f.Labels) > 0:
		k := ""
		for k = range f.Labels {
			break
		}
		table, prefix = tableUses, usePrefix("label", f.Project+"\x00"+k+"\x00"+f.Labels[k])
	case f.Project != "":
		prefix = f.Project + "/"
	case f.Driver != "":
		table, prefix = tableUses, usePrefix("driver", f.Driver)
	}
	after := ""
	if l.req.PageToken != "" {
		after = l.req.PageToken
		if table == tableUses {
			after = prefix + after
		}
	}
	seen := 0
	for rec, err := range l.r.store.Scan(table, prefix, after) {
		if err != nil {
			return err
		}
		id := rec.Key
		if table == tableUses {
			id = strings.TrimPrefix(id, prefix)
		}
		more := true
		if table == tableTwins {
			more, err = l.take(rec)
		} else {
			more, err = l.visit(id)
		}
		if err != nil || !more {
			return err
		}
		if seen++; seen >= maxScan {
			l.resp.NextPageToken = id
			return nil
		}
	}
	return nil
}

// inZone lists the twins of a zone and, but where only those directly in it are wanted, of those below it.
func (l *lister) inZone() error {
	zones := []string{l.f.Zone}
	if !l.directly {
		var err error
		if zones, err = l.r.zonesWithin(l.f.Zone); err != nil {
			return err
		}
	}
	var ids []string
	for _, zone := range zones {
		prefix, after, n := usePrefix("zone", zone), "", 0
		if l.req.PageToken != "" {
			after = prefix + l.req.PageToken
		}
		for rec, err := range l.r.store.Scan(tableUses, prefix, after) {
			if err != nil {
				return err
			}
			ids = append(ids, rec.Key[len(prefix):])
			if n++; n > maxScan {
				break // a page looks at one less, and says that there are more
			}
		}
	}
	slices.Sort(ids)
	for i, id := range ids {
		if i == maxScan {
			l.resp.NextPageToken = ids[i-1]
			return nil
		}
		if more, err := l.visit(id); err != nil || !more {
			return err
		}
	}
	return nil
}

func (l *lister) visit(id string) (more bool, err error) {
	rec, ok, err := l.r.store.Get(tableTwins, id)
	if err != nil || !ok {
		return true, err
	}
	return l.take(rec)
}

// take adds a twin to the page, if it matches. more is false where the page is full, and another one follows.
func (l *lister) take(rec storage.Record) (more bool, err error) {
	if l.projects != nil && !l.projects(ProjectOf(rec.Key)) || l.f.Text != "" && !containsFold(rec.Key, l.f.Text) {
		return true, nil
	}
	t, err := decodeTwin(rec)
	if err != nil {
		return false, err
	}
	if !matchFilter(l.f, t, l.r.e.catalog) {
		return true, nil
	}
	if l.where != nil {
		st, since := l.r.e.stored(rec.Key)
		view := l.r.e.sight(t, st, since)
		if !l.where.Matches(&expr.Input{Twin: &view}) {
			return true, nil
		}
	}
	needs := l.f.Connection != 0 || l.f.Faulty
	if needs || l.req.State {
		st, ok, err := l.state(rec.Key)
		if err != nil {
			return false, err
		}
		if needs && (!ok || l.f.Connection != 0 && st.Status.Connection != l.f.Connection || l.f.Faulty && st.Status.Fault == "") {
			return true, nil
		}
		if l.req.State {
			t.State = st
		}
	}
	if len(l.resp.Twins) == l.limit {
		l.resp.NextPageToken = l.resp.Twins[l.limit-1].Id
		return false, nil
	}
	l.resp.Twins = append(l.resp.Twins, l.r.present(t))
	return true, nil
}

// state of a twin as last committed; ok false: it has none yet.
func (l *lister) state(id string) (st *pb.TwinState, ok bool, err error) {
	rec, ok, err := l.r.store.Get(tableStates, id)
	if err != nil {
		return nil, false, err
	}
	s := &state.Record{}
	if ok {
		if s, err = state.Decode(rec.Value); err != nil {
			return nil, false, fmt.Errorf("state of %s: %w", id, err)
		}
	}
	node, since := l.r.e.where(id)
	return s.Proto(node, since), ok, nil
}

// where gives a twin's owner, this node or another, and since when it is that: what an earlier owner knew of a connection
// is no longer so.
func (e *Engine) where(id string) (node string, since uint64) {
	if own := e.owned[e.slotOf(id)].Load(); own != nil {
		return e.o.Node, own.Since
	}
	if e.cluster != nil {
		if at, ok := e.cluster.Where(id); ok {
			return at.Node, at.Since
		}
	}
	return "", 0
}

// page gives twins whose ids have the prefix and are behind after, as match wants them; last is "" at the end.
func (r *Registry) page(prefix, after string, limit int, wanted func(id string) bool, match func(*pb.Twin) bool) (page []*pb.Twin, last string, err error) {
	seen := 0
	for rec, err := range r.store.Scan(tableTwins, prefix, after) {
		if err != nil {
			return nil, "", fmt.Errorf("scan twins: %w", err)
		}
		if wanted == nil || wanted(rec.Key) {
			t, err := decodeTwin(rec)
			if err != nil {
				return nil, "", err
			}
			if match(t) {
				page = append(page, t)
			}
		}
		if seen++; len(page) == limit || seen == 20*limit {
			return page, rec.Key, nil
		}
	}
	return page, "", nil
}
