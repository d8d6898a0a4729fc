package actors

import (
	"context"
	"encoding/json"
	"fmt"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// MaxHead bounds what is shown of a payload that is listed, in bytes.
const MaxHead = 256

// maxInboxSamples are the heads of messages that an entry of the inbox shows.
const maxInboxSamples = 5

// head gives the first bytes of a payload, as a copy of its own.
func head(payload []byte) []byte { return append([]byte{}, payload[:min(len(payload), MaxHead)]...) }

// ClaimInbox makes a twin of an entry of the inbox, and takes the entry out. What t leaves empty comes from the entry; the
// alias is the entry's. Errors are those of CreateTwin, and ErrNotFound where the inbox has no such entry.
func (r *Registry) ClaimInbox(ctx context.Context, id string, t *pb.Twin) (*pb.Twin, error) {
	x, err := get(r.store, tableInbox, id, &pb.InboxEntry{})
	if err != nil {
		return nil, fmt.Errorf("claim: %w", err)
	}
	t = proto.Clone(t).(*pb.Twin)
	if t.Driver == "" && t.Model == "" {
		t.Driver = x.Driver
	}
	if t.Driver == "" && t.Model == "" {
		return nil, invalid("/twin/driver", "the entry names no driver: a driver or a model is needed")
	}
	if x.Driver != "" && t.Driver == x.Driver {
		if t.Uri == "" {
			t.Uri = x.Uri
		}
		if t.Settings == nil && x.SettingsJson != "" {
			var given map[string]any
			if err := json.Unmarshal([]byte(x.SettingsJson), &given); err != nil {
				return nil, fmt.Errorf("claim %s: settings of the entry: %w", id, err)
			}
			if t.Settings, err = structpb.NewStruct(given); err != nil {
				return nil, fmt.Errorf("claim %s: settings of the entry: %w", id, err)
			}
		}
	}
	if t.Via == "" {
		t.Via = x.Via
	}
	if !hasAlias(t, x.Alias) {
		t.Aliases = append(t.Aliases, proto.Clone(x.Alias).(*pb.Alias))
	}
	made, err := r.CreateTwin(ctx, t) // which takes out of the inbox what the twin's aliases name
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", id, err)
	}
	return made, nil
}

func hasAlias(t *pb.Twin, a *pb.Alias) bool {
	for _, x := range t.Aliases {
		if x.GetNetwork() == a.GetNetwork() && x.GetKey() == a.GetKey() && x.GetValue() == a.GetValue() {
			return true
		}
	}
	return false
}

// IgnoreInbox hides an entry of the inbox, or with undo shows it again. Its messages are counted all the same.
func (r *Registry) IgnoreInbox(ctx context.Context, id string, undo bool) (*pb.InboxEntry, error) {
	var made *pb.InboxEntry
	revision, err := r.change(ctx, func() (*storage.Txn, error) {
		x, err := get(r.store, tableInbox, id, &pb.InboxEntry{})
		if err != nil {
			return nil, err
		}
		x.Ignored = !undo
		value, err := encode(x)
		if err != nil {
			return nil, err
		}
		made = x
		return &storage.Txn{Guards: []storage.Guard{{Table: tableInbox, Key: id, Revision: x.Revision}},
			Writes: []storage.Write{{Table: tableInbox, Key: id, Value: value}}}, nil
	}, func(*storage.GuardError) error { return nil }) // it sends meanwhile: its count is another one
	if err != nil {
		return nil, fmt.Errorf("ignore %s: %w", id, err)
	}
	made.Revision, made.MessageIds = revision, nil
	return made, nil
}
