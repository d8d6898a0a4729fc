package rpc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

type watchService struct{ s *Server }

func (w *watchService) Watch(ctx context.Context, r *connect.Request[pb.WatchRequest], out *connect.ServerStream[pb.WatchResponse]) error {
	return w.s.watch(ctx, principalFrom(ctx), r.Msg, out.Send)
}

// scopedKinds begin their keys with the project; what they hold is read by the named action. Every other kind belongs
// to no project.
var scopedKinds = map[string]Action{
	"twin": ActionTwinRead, "model": ActionTwinRead, "zone": ActionSiteRead, "system": ActionSiteRead, "inbox": ActionSiteRead, "topic": ActionTopicRead, "route": ActionTopicRead, "sink": ActionTopicRead, "notifier": ActionTopicRead, "source": ActionTopicRead,
	"simulation": ActionTwinRead, "alias": ActionTwinRead,
	"relation": ActionSiteRead, "project": ActionSiteRead, "schedule": ActionTwinRead, "rule": ActionTwinRead, "alarm": ActionTwinRead,
	"detector": ActionTwinRead,
}

// actionOfKind says what watching a kind is.
func actionOfKind(kind string) Action {
	if a, ok := scopedKinds[kind]; ok {
		return a
	}
	switch kind {
	case "driver":
		return ActionDriverRead
	case "key":
		return ActionKeyRead
	}
	return ActionClusterRead
}

// watchedKind is a kind as one caller may see it.
type watchedKind struct {
	Kind
	name   string
	prefix string
	// key is the only one that is told of, where it is not empty.
	key string
	// sees is nil where the prefix says it all.
	sees func(proto.Message) bool
}

func (s *Server) kindFor(p *Principal, name string) (*watchedKind, error) {
	k := &watchedKind{name: name}
	if kind, ok := s.o.Registry.Kind(name); ok {
		k.Kind = Kind{Table: kind.Table, Decode: kind.Decode}
	} else if kind, ok := s.o.Kinds[name]; ok {
		k.Kind = kind
	} else if name == "key" {
		k.Kind = Kind{Table: TableKey, Decode: decodeKeyMessage}
		k.sees = func(m proto.Message) bool {
			key, ok := m.(*pb.Key)
			return ok && Authorize(p, ActionKeyRead, keyResource(&keyRecord{ID: key.Id, Project: key.Project})) == nil
		}
	} else {
		return nil, &invalidError{path: "kind", text: fmt.Sprintf("%.50q is no kind; want one of %s", name, strings.Join(s.kindNames(), ", "))}
	}
	if _, scoped := scopedKinds[name]; scoped && p.Project != "" {
		if k.prefix = p.Project + "/"; name == "project" { // its key is the project's name
			k.prefix, k.key = p.Project, p.Project
		}
	}
	return k, nil
}

func (s *Server) kindNames() []string {
	names := []string{"key", "simulation", "alias"}
	for _, name := range []string{"driver", "model", "twin", "zone", "system", "inbox", "topic", "route", "relation", "project", "schedule", "rule", "alarm", "sink", "source", "notifier", "detector"} {
		if _, ok := s.o.Registry.Kind(name); ok {
			names = append(names, name)
		}
	}
	for name := range s.o.Kinds {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// watch gives records until ctx ends, send fails, or the reader falls too far behind. It returns nil never.
func (s *Server) watch(ctx context.Context, p *Principal, r *pb.WatchRequest, send func(*pb.WatchResponse) error) error {
	kind, err := s.kindFor(p, r.Kind)
	if err != nil {
		return err
	}
	// Read before the watch looks: who resumes here may see a change twice, and misses none.
	stand := max(s.o.Store.Revision(), r.AfterRevision)
	changes, err := s.o.Store.Watch(ctx, kind.Table, kind.prefix, r.AfterRevision)
	if err != nil {
		return fmt.Errorf("watch %s: %w", r.Kind, err)
	}
	synced := false
	for batch := range changes {
		for i := range batch {
			stand = max(stand, batch[i].Revision)
			if err := kind.send(&batch[i], send); err != nil {
				return err
			}
		}
		if len(batch) == 0 && !synced {
			synced = true
			if err := send(&pb.WatchResponse{Kind: r.Kind, Revision: stand, Synced: true}); err != nil {
				return err
			}
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return fmt.Errorf("watch %s: the reader is too slow: %w", r.Kind, storage.ErrCompacted)
}

func (k *watchedKind) send(c *storage.Change, send func(*pb.WatchResponse) error) error {
	if k.key != "" && c.Key != k.key {
		return nil
	}
	out := &pb.WatchResponse{Kind: k.name, Id: c.Key, Revision: c.Revision, Deleted: c.Deleted}
	if c.Deleted {
		// Who could not see the record learns no more than an id without a meaning.
		return send(out)
	}
	m, err := k.Decode(c.Record)
	if err != nil {
		return fmt.Errorf("watch %s: %w", k.name, err)
	}
	if k.sees != nil && !k.sees(m) {
		return nil
	}
	text, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("watch %s: encode %s: %w", k.name, c.Key, err)
	}
	out.RecordJson = string(text)
	return send(out)
}

// watched is the table's entry for Watch.
func watched(m any, p *Principal) (Resource, error) {
	msg, ok := m.(*pb.WatchRequest)
	if !ok {
		return Resource{}, errWrongMessage
	}
	project := Everywhere
	if _, scoped := scopedKinds[msg.Kind]; scoped || msg.Kind == "key" {
		project = scopeOf(p)
	}
	return Resource{Project: project, Kind: msg.Kind}, nil
}

func watchedAction(m any) Action {
	msg, ok := m.(*pb.WatchRequest)
	if !ok {
		return ActionNone
	}
	return actionOfKind(msg.Kind)
}
