package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// CreateRelation commits a new relation. Errors: ErrInvalid with the path, where an end is not there too; ErrExists.
func (r *Registry) CreateRelation(ctx context.Context, m *pb.Relation, by string) (*pb.Relation, error) {
	return r.putRelation(ctx, m, by, 0)
}

// UpdateRelation replaces title and attributes of a relation. m.Revision is the one that the caller read, else ErrRevision.
func (r *Registry) UpdateRelation(ctx context.Context, m *pb.Relation, by string) (*pb.Relation, error) {
	if m.GetRevision() == 0 {
		return nil, invalid("/relation/revision", "the revision that was read is needed")
	}
	return r.putRelation(ctx, m, by, m.Revision)
}

func (r *Registry) putRelation(ctx context.Context, m *pb.Relation, by string, revision uint64) (*pb.Relation, error) {
	m, err := wholeRelation("default", m)
	if err != nil {
		return nil, err
	}
	m.Revision, m.UpdateBy, m.UpdateTime = revision, by, r.e.timestamp()
	m.CreateTime = m.UpdateTime
	if revision != 0 {
		old, err := r.Relation(m.Id)
		if err != nil {
			return nil, err
		}
		m.CreateTime = old.CreateTime
	}
	return put(ctx, r, "relation", tableRelations, m.Id, m, func() ([]storage.Guard, []storage.Write, error) { return r.relationRefs(m) })
}

// relationRefs guards a relation's ends, marks them, and writes the index.
func (r *Registry) relationRefs(m *pb.Relation) ([]storage.Guard, []storage.Write, error) {
	from, kind, to, err := splitRelation(m.Id)
	if err != nil {
		return nil, nil, err
	}
	var guards []storage.Guard
	var writes []storage.Write
	for field, x := range map[string]end{"/relation/from": from, "/relation/to": to} {
		rec, ok, err := r.store.Get(endTables[x.kind], x.id)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("relation %s: %w", m.Id, err)
		case !ok:
			return nil, nil, invalid(field, "there is no %s %s", x.kind, x.id)
		}
		guards = append(guards, storage.Guard{Table: endTables[x.kind], Key: x.id, Revision: rec.Revision},
			storage.Guard{Table: tableHolds, Key: holdKey(x.kind, x.id)})
		writes = append(writes, storage.Write{Table: tableUses, Key: x.mark(), Value: []byte{1}})
	}
	if _, known, err := r.store.Get(tableRelations, m.Id); err == nil && !known {
		for table, x := range map[storage.Table]end{tableRelations: from, tableRelated: to} {
			if n, err := r.store.Count(table, x.from("")); err != nil || n >= maxRelations {
				return nil, nil, errors.Join(err, invalid("/relation", "%s has %d relations in that direction, which are as many as may be", x, n))
			}
		}
	}
	return guards, append(writes, storage.Write{Table: tableRelated, Key: to.from(kind) + from.key(), Value: []byte{1}}), nil
}

// Relation gives a relation by its id.
func (r *Registry) Relation(id string) (*pb.Relation, error) {
	id, err := RelationID(id)
	if err != nil {
		return nil, err
	}
	return get(r.store, tableRelations, id, &pb.Relation{})
}

// DeleteRelation deletes a relation; its ends stay.
func (r *Registry) DeleteRelation(ctx context.Context, id string) error {
	m, err := r.Relation(id)
	if err != nil {
		return err
	}
	_, err = r.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: tableRelations, Key: m.Id, Revision: m.Revision}},
		Writes: unrelates(m.Id)})
	return deleteError("relation", m.Id, err)
}

// unrelates deletes the records of one relation.
func unrelates(id string) []storage.Write {
	from, kind, to, err := splitRelation(id)
	if err != nil {
		return nil
	}
	return []storage.Write{{Table: tableRelations, Key: id}, {Table: tableRelated, Key: to.from(kind) + from.key()}}
}

// ListRelations gives a page of relations by id: of a project, or of an end.
func (r *Registry) ListRelations(req *pb.ListRelationsRequest, projects func(string) bool) (*pb.ListRelationsResponse, error) {
	if req.GetType() != "" && !relationType.MatchString(req.Type) {
		return nil, invalid("/type", "%q is no type of a relation", req.Type)
	}
	scans, fits, err := r.relationScans(req)
	if err != nil {
		return nil, err
	}
	limit := pageSize(req.GetPageSize())
	res := &pb.ListRelationsResponse{}
	last := ""
	table, token, _ := strings.Cut(req.GetPageToken(), "\x00")
	for i, scan := range scans {
		after := ""
		if token != "" {
			if fmt.Sprint(i) < table {
				continue
			}
			if fmt.Sprint(i) == table {
				after = token
			}
		}
		for rec, err := range r.store.Scan(scan.table, scan.prefix, after) {
			if err != nil {
				return nil, fmt.Errorf("list relations: %w", err)
			}
			if projects != nil && !projects(ProjectOf(rec.Key)) || !fits(scan.id(rec.Key)) {
				continue
			}
			if len(res.Relations) == limit {
				res.NextPageToken = last
				return res, nil
			}
			m, err := get(r.store, tableRelations, scan.id(rec.Key), &pb.Relation{})
			if errors.Is(err, ErrNotFound) {
				continue // it has just been deleted
			}
			if err != nil {
				return nil, err
			}
			res.Relations = append(res.Relations, m)
			last = fmt.Sprint(i) + "\x00" + rec.Key
		}
	}
	return res, nil
}

// relationScan is a part of a list.
type relationScan struct {
	table  storage.Table
	prefix string
}

// id is the relation's that a key of the table stands for.
func (s relationScan) id(key string) string {
	if s.table == tableRelations {
		return key
	}
	to, kind, from, err := splitRelation(key)
	if err != nil {
		return key
	}
	return from.from(kind) + to.key()
}

// relationScans says where what a list wants stands, and which of it fits.
func (r *Registry) relationScans(req *pb.ListRelationsRequest) (scans []relationScan, fits func(id string) bool, err error) {
	project := req.GetProject()
	ends := map[string]end{}
	for field, text := range map[string]string{"/of": req.GetOf(), "/from": req.GetFrom(), "/to": req.GetTo()} {
		if text == "" {
			continue
		}
		x, err := parseEnd(cmp.Or(project, "default"), text)
		if err != nil {
			return nil, nil, invalid(field, "%v", err)
		}
		if project != "" && ProjectOf(x.id) != project {
			return nil, nil, invalid(field, "%s is in another project than %s", x, project)
		}
		ends[field] = x
	}
	of, from, to := ends["/of"], ends["/from"], ends["/to"]
	switch {
	case from.id != "":
		scans = []relationScan{{tableRelations, from.from(req.GetType())}}
	case to.id != "":
		scans = []relationScan{{tableRelated, to.from(req.GetType())}}
	case of.id != "":
		scans = []relationScan{{tableRelations, of.from(req.GetType())}, {tableRelated, of.from(req.GetType())}}
	case project != "":
		scans = []relationScan{{tableRelations, project + "/"}}
	default:
		scans = []relationScan{{tableRelations, ""}}
	}
	return scans, func(id string) bool {
		f, kind, t, err := splitRelation(id)
		return err == nil && (req.GetType() == "" || kind == req.Type) && (from.id == "" || f == from) && (to.id == "" || t == to) &&
			(of.id == "" || f == of || t == of)
	}, nil
}

// related gives what a thing has relations of a type to, or, against, what has them to it: at most limit, by name.
func (r *Registry) related(x end, kind string, against bool, limit int) (ends []end, err error) {
	table := tableRelations
	if against {
		table = tableRelated
	}
	for rec, err := range r.store.Scan(table, x.from(kind), "") {
		if err != nil {
			return nil, fmt.Errorf("relations of %s: %w", x, err)
		}
		_, _, to, err := splitRelation(rec.Key)
		if err != nil {
			return nil, err
		}
		if ends = append(ends, to); len(ends) == limit {
			break
		}
	}
	return ends, nil
}

// unrelate is what a deletion of an end adds to its transaction: its relations go with it, and none may come meanwhile. Where there are
// many, most of them are deleted at once.
func (r *Registry) unrelate(ctx context.Context, x end) (guard storage.Guard, writes []storage.Write, err error) {
	for {
		mark, marked, err := r.store.Get(tableUses, x.mark())
		if err != nil {
			return guard, nil, err
		}
		guard = storage.Guard{Table: tableUses, Key: x.mark(), Revision: mark.Revision}
		if !marked {
			return guard, nil, nil
		}
		writes = nil
		n, more := 0, false
		for _, scan := range []relationScan{{tableRelations, x.from("")}, {tableRelated, x.from("")}} {
			for rec, err := range r.store.Scan(scan.table, scan.prefix, "") {
				if err != nil {
					return guard, nil, err
				}
				if n++; n > unrelateBatch {
					more = true
					break
				}
				writes = append(writes, unrelates(scan.id(rec.Key))...)
			}
		}
		if !more {
			return guard, append(writes, storage.Write{Table: tableUses, Key: x.mark()}), nil
		}
		if _, err := r.store.Commit(ctx, &storage.Txn{Writes: writes}); err != nil {
			return guard, nil, fmt.Errorf("relations of %s: %w", x, err)
		}
	}
}

// relationKind is the kind of relations for Apply and Export.
func relationKind() ConfigKind {
	return ConfigKind{Name: "relation",
		Refs: func(rec *pb.ConfigRecord, ref func(kind, id string)) {
			for _, text := range []string{rec.GetRelation().GetFrom(), rec.GetRelation().GetTo()} {
				kind, id, ok := strings.Cut(text, ":")
				if !ok {
					kind, id = "twin", text
				}
				ref(kind, id)
			}
		},
		draft: func(_ context.Context, r *Registry, d *draft, rec *pb.ConfigRecord, a applying) error {
			return r.draftRelation(d, rec.GetRelation(), a)
		},
		export: func(_ context.Context, r *Registry, project string, yield func([]*pb.ConfigRecord) error) error {
			return exportEach(r, tableRelations, project, func() *pb.Relation { return &pb.Relation{} }, func(m *pb.Relation) *pb.ConfigRecord {
				return recordOf("relation", &pb.Relation{From: m.From, Type: m.Type, To: m.To, Title: m.Title, Attributes: m.Attributes})
			}, yield)
		}}
}

func (r *Registry) draftRelation(d *draft, m *pb.Relation, a applying) error {
	d.result.Id = m.GetFrom() + " " + m.GetType() + " " + m.GetTo()
	m, err := wholeRelation(a.project, m)
	if err != nil {
		return err
	}
	if d.result.Id = m.Id; ProjectOf(m.Id) != a.project {
		return invalid("/from", "%s is in another project than %s", m.From, a.project)
	}
	old, err := get(r.store, tableRelations, m.Id, &pb.Relation{})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := d.compare(old, m, "create_time", "update_time", "update_by", "from", "type", "to"); err != nil {
		return err
	}
	if d.outcome(old.Revision != 0) {
		d.result.Revision = old.Revision
		return nil
	}
	m = proto.Clone(m).(*pb.Relation)
	m.Revision, m.UpdateBy, m.UpdateTime, m.CreateTime = old.Revision, a.by, r.e.timestamp(), old.CreateTime
	if m.CreateTime == nil {
		m.CreateTime = m.UpdateTime
	}
	d.txn, err = putTxn(tableRelations, m.Id, m, func() ([]storage.Guard, []storage.Write, error) { return r.relationRefs(m) })
	return err
}
