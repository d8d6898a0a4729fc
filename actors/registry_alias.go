package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// CreateAlias gives a twin an alias. Errors: ErrExists where some twin has it.
func (r *Registry) CreateAlias(ctx context.Context, project string, m *pb.NamedAlias) (*pb.NamedAlias, error) {
	if old, err := r.Alias(project, m.Alias); err == nil {
		return nil, fmt.Errorf("alias %s: twin %s has it: %w", aliasText(m.Alias), old.Twin, ErrExists)
	} else if !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if m.Twin == "" {
		return nil, invalid("/named/twin", "is missing")
	}
	if err := r.changeAliases(ctx, project, m.Twin, func(all []*pb.Alias) []*pb.Alias { return append(all, m.Alias) }); err != nil {
		return nil, err
	}
	return r.Alias(project, m.Alias)
}

// Alias gives the twin of an alias.
func (r *Registry) Alias(project string, a *pb.Alias) (*pb.NamedAlias, error) {
	rec, ok, err := r.store.Get(tableAliases, aliasKey(project, a.Network, a.Key, a.Value))
	if err != nil {
		return nil, fmt.Errorf("read alias: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("alias %s: %w", aliasText(a), ErrNotFound)
	}
	return decodeAlias(rec), nil
}

// ListAliases gives a page of aliases, by project, network, key and value.
func (r *Registry) ListAliases(req *pb.ListAliasesRequest, projects func(string) bool) (*pb.ListAliasesResponse, error) {
	prefix, err := aliasPrefix(req)
	if err != nil {
		return nil, err
	}
	twin, text := "", strings.ToLower(req.GetText())
	if req.GetTwin() != "" {
		twin = within(cmp.Or(req.GetProject(), "default"), req.Twin)
	}
	out, last := &pb.ListAliasesResponse{}, ""
	for rec, err := range r.store.Scan(tableAliases, prefix, req.GetPageToken()) {
		if err != nil {
			return nil, fmt.Errorf("list aliases: %w", err)
		}
		m := decodeAlias(rec)
		if projects != nil && !projects(m.Project) || twin != "" && m.Twin != twin || text != "" && !strings.Contains(strings.ToLower(aliasText(m.Alias)+"\n"+m.Twin), text) {
			continue
		}
		if len(out.Aliases) == pageSize(req.GetPageSize()) {
			out.NextPageToken = last
			break
		}
		out.Aliases, last = append(out.Aliases, m), rec.Key
	}
	return out, nil
}

// aliasPrefix is how the keys of the aliases begin that are asked for.
func aliasPrefix(req *pb.ListAliasesRequest) (string, error) {
	prefix := ""
	for _, part := range []struct{ name, value, inside string }{{"project", req.GetProject(), "network"}, {"network", req.GetNetwork(), "key"}, {"key", req.GetKey(), ""}} {
		if part.value != "" {
			prefix += escape(part.value) + "/"
			continue
		}
		if part.inside == "network" && req.GetNetwork()+req.GetKey() != "" || part.inside == "key" && req.GetKey() != "" {
			return "", invalid("/"+part.name, "is missing: a %s is one of a %s", part.inside, part.name)
		}
		break
	}
	return prefix, nil
}

// UpdateAlias takes an alias from its twin and gives it to another one, in one transaction: there is no moment in which it is nobody's.
func (r *Registry) UpdateAlias(ctx context.Context, project string, m *pb.NamedAlias) (*pb.NamedAlias, error) {
	from, to := "", m.Twin
	if err := completeID(project, "/named/twin", &to); err != nil {
		return nil, fmt.Errorf("update alias %s: %w", aliasText(m.Alias), err)
	}
	_, err := r.change(ctx, func() (*storage.Txn, error) {
		old, err := r.Alias(project, m.Alias)
		if err != nil || old.Twin == to {
			return nil, err
		}
		from = old.Twin
		taken, err := r.withAliases(ctx, project, from, func(all []*pb.Alias) []*pb.Alias { return without(all, m.Alias) })
		if err != nil {
			return nil, err
		}
		given, err := r.withAliases(ctx, project, to, func(all []*pb.Alias) []*pb.Alias { return append(all, m.Alias) })
		if err != nil {
			return nil, err
		}
		// It is guarded as it is, and written once.
		key := aliasKey(project, m.Alias.Network, m.Alias.Key, m.Alias.Value)
		guards := slices.DeleteFunc(append(taken.Guards, given.Guards...), func(g storage.Guard) bool { return g.Table == tableAliases && g.Key == key })
		writes := slices.DeleteFunc(taken.Writes, func(w storage.Write) bool { return w.Table == tableAliases && w.Key == key })
		return &storage.Txn{Guards: append(guards, storage.Guard{Table: tableAliases, Key: key, Revision: old.Revision}), Writes: append(writes, given.Writes...)}, nil
	}, func(*storage.GuardError) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("update alias %s: %w", aliasText(m.Alias), err)
	}
	if from != "" {
		r.e.noticed(from)
		r.e.noticed(to)
	}
	return r.Alias(project, m.Alias)
}

// withAliases makes the transaction that changes the aliases of a twin.
func (r *Registry) withAliases(ctx context.Context, project, twin string, change func([]*pb.Alias) []*pb.Alias) (*storage.Txn, error) {
	old, err := get(r.store, tableTwins, twin, &pb.Twin{})
	if err != nil {
		return nil, err
	}
	at, err := r.e.placeOf(old.Id)
	if err != nil {
		return nil, err
	}
	now := r.present(proto.Clone(old).(*pb.Twin))
	now.Aliases = change(now.Aliases)
	_, txn, err := r.replacement(ctx, now, old, at, at.class)
	return txn, err
}

// without leaves an alias out.
func without(all []*pb.Alias, a *pb.Alias) []*pb.Alias {
	return slices.DeleteFunc(all, func(x *pb.Alias) bool { return proto.Equal(x, a) })
}

// DeleteAlias takes an alias from its twin.
func (r *Registry) DeleteAlias(ctx context.Context, project string, a *pb.Alias) error {
	old, err := r.Alias(project, a)
	if err != nil {
		return err
	}
	return r.changeAliases(ctx, project, old.Twin, func(all []*pb.Alias) []*pb.Alias { return without(all, a) })
}

// changeAliases changes those of a twin, and tries again where somebody else changes the twin.
func (r *Registry) changeAliases(ctx context.Context, project, twin string, change func([]*pb.Alias) []*pb.Alias) error {
	if err := completeID(project, "/named/twin", &twin); err != nil {
		return err
	}
	for try := 1; ; try++ {
		t, err := r.GetTwin(twin)
		if err != nil {
			return err
		}
		t.Aliases = change(t.Aliases)
		if _, err := r.UpdateTwin(ctx, t); !errors.Is(err, ErrRevision) || try == attempts {
			return err
		}
	}
}

// decodeAlias reads a line of the index.
func decodeAlias(rec storage.Record) *pb.NamedAlias {
	parts := strings.SplitN(rec.Key, "/", 4)
	parts = append(parts, "", "", "")
	return &pb.NamedAlias{Project: parts[0], Alias: &pb.Alias{Network: unescape(parts[1]), Key: unescape(parts[2]), Value: unescape(parts[3])},
		Twin: string(rec.Value), Revision: rec.Revision}
}

// unescape takes back what escape does.
func unescape(s string) string {
	return keyUnescapes.Replace(s)
}

func aliasText(a *pb.Alias) string { return a.GetNetwork() + "/" + a.GetKey() + "/" + a.GetValue() }
