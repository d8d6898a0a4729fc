package actors

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/notify"
	"github.com/polluxhq/pollux/actors/simulation"
	"github.com/polluxhq/pollux/actors/sink"
	inflow "github.com/polluxhq/pollux/actors/source"
	"github.com/polluxhq/pollux/actors/topic"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// projectTables are the kinds of records that a project has, under keys that begin with its name.
var projectTables = []struct {
	kind  string
	table storage.Table
}{
	{"twin", tableTwins}, {"model", tableThings}, {"zone", tableZones}, {"system", tableSystems}, {"relation", tableRelations},
	{"topic", topic.TableTopics}, {"route", tableRoutes}, {"sink", sink.TableSinks}, {"source", inflow.TableSources},
	{"simulation", simulation.TableSimulations}, {"schedule", automation.TableSchedules}, {"rule", automation.TableRules},
	{"alarm", automation.TableAlarms}, {"detector", tableDetectors}, {"notifier", notify.TableNotifiers}, {"inbox", tableInbox},
}

// CreateProject makes a project with settings. Errors: ErrExists where it has some.
func (r *Registry) CreateProject(ctx context.Context, s *pb.ProjectSettings) (*pb.Project, error) {
	if s.GetRevision() != 0 {
		return nil, invalid("/settings/revision", "a new project has none")
	}
	s, err := r.PutProjectSettings(ctx, s)
	if err != nil {
		return nil, err
	}
	return r.Project(s.Project)
}

// Project gives what there is of a project. It reads all of its keys. Errors: ErrNotFound where it has neither settings nor records.
func (r *Registry) Project(name string) (*pb.Project, error) {
	s, err := r.ProjectSettings(name)
	if err != nil {
		return nil, err
	}
	p := &pb.Project{Name: name, Settings: s, Records: map[string]uint64{}}
	for _, t := range projectTables {
		n, err := r.store.Count(t.table, name+"/")
		if err != nil {
			return nil, fmt.Errorf("count records of project %s: %w", name, err)
		}
		if n > 0 {
			p.Records[t.kind] = uint64(n)
		}
	}
	if s.Revision == 0 && len(p.Records) == 0 {
		return nil, fmt.Errorf("project %s: %w", name, ErrNotFound)
	}
	return p, nil
}

// ListProjects gives a page of projects by name.
func (r *Registry) ListProjects(req *pb.ListProjectsRequest, projects func(string) bool) (*pb.ListProjectsResponse, error) {
	out := &pb.ListProjectsResponse{}
	for name := req.GetPageToken(); ; {
		next, err := r.projectAfter(name)
		if err != nil || next == "" {
			return out, err
		}
		if name = next; projects != nil && !projects(name) || req.GetProject() != "" && req.GetProject() != name {
			continue
		}
		if len(out.Projects) == pageSize(req.GetPageSize()) {
			out.NextPageToken = out.Projects[len(out.Projects)-1].Name
			return out, nil
		}
		p, err := r.Project(name)
		if errors.Is(err, ErrNotFound) {
			continue // its last record went meanwhile
		}
		if err != nil {
			return nil, err
		}
		out.Projects = append(out.Projects, p)
	}
}

// projectAfter is the first project behind a name, or "". It looks at one key of each table.
func (r *Registry) projectAfter(name string) (first string, err error) {
	look := func(table storage.Table, after string) error {
		for rec, err := range r.store.Scan(table, "", after) {
			if err != nil {
				return fmt.Errorf("list projects: %w", err)
			}
			if p, _, _ := strings.Cut(rec.Key, "/"); p > name && (first == "" || p < first) {
				first = p
			}
			return nil
		}
		return nil
	}
	after := name
	if name != "" {
		after = name + "/\xff"
	}
	for _, t := range projectTables {
		if err := look(t.table, after); err != nil {
			return "", err
		}
	}
	return first, look(tableProjects, name)
}

// projectLeft are the tables of what a project counted, refused, and keeps for later subscribers of its MQTT topics, under keys that begin with its
// name: no records of the project's, which nobody could delete one by one.
var projectLeft = []storage.Table{tableRefusals, tableIngest, mqtt.TableRetained}

// clearBytes is what one transaction removes of them, by the bytes of its keys: topics may be long.
const clearBytes = 128 << 10

// DeleteProject forgets a project: its settings, and what it left, so that the next one of its name begins with nothing. It refuses where the
// project has records, or others need it, who are given in words.
func (r *Registry) DeleteProject(ctx context.Context, name string, others ...string) error {
	p, err := r.Project(name)
	if err != nil {
		return err
	}
	var users []string
	for _, t := range projectTables {
		if n := p.Records[t.kind]; n > 0 {
			users = append(users, fmt.Sprintf("%s (%d)", t.kind, n))
		}
	}
	if users = append(users, others...); len(users) > 0 {
		return &InUseError{What: "project " + name, Users: users}
	}
	for _, table := range projectLeft {
		if err := r.clear(ctx, table, name+"/"); err != nil {
			return fmt.Errorf("delete project %s: %w", name, err)
		}
	}
	if _, err := r.store.Commit(ctx, &storage.Txn{Guards: []storage.Guard{{Table: tableProjects, Key: name, Revision: p.Settings.Revision}},
		Writes: []storage.Write{{Table: tableProjects, Key: name}}}); err != nil {
		return fmt.Errorf("delete project %s: %w", name, err)
	}
	return nil
}

// clear removes what a table has under a prefix, some at a time.
func (r *Registry) clear(ctx context.Context, table storage.Table, prefix string) error {
	for {
		txn, size := &storage.Txn{}, 0
		for rec, err := range r.store.Scan(table, prefix, "") {
			if err != nil {
				return fmt.Errorf("read %s: %w", table, err)
			}
			txn.Writes = append(txn.Writes, storage.Write{Table: table, Key: rec.Key, Quiet: true})
			if size += len(rec.Key) + 64; size > clearBytes {
				break
			}
		}
		if len(txn.Writes) == 0 {
			return nil
		}
		if _, err := r.store.Commit(ctx, txn); err != nil {
			return fmt.Errorf("clear %s: %w", table, err)
		}
	}
}
