package actors

import (
	"bytes"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// maxDiscovered bounds what one call may report; a driver reports the rest with its next.
const maxDiscovered = 64

// discover puts devices that a driver has seen into the project's inbox, unless they are twins already. A device that
// finds no room is seen again.
func (t *twin) discover(found []drivers.Discovery) {
	if len(found) > maxDiscovered {
		t.e.stats.drop(dropInbox)
		found = found[:maxDiscovered]
	}
	project := ProjectOf(t.en.id)
	for _, d := range found {
		if d.Network == "" || d.Key == "" || d.Value == "" || len(d.Network)+len(d.Key)+len(d.Value) > 512 || len(d.Settings) > maxTimerData {
			t.e.stats.drop(dropInbox)
			continue
		}
		key := aliasKey(project, d.Network, d.Key, d.Value)
		if _, known, err := t.e.store.Get(tableAliases, key); err != nil || known {
			continue
		}
		entry := &pb.InboxEntry{Id: key, Alias: &pb.Alias{Network: d.Network, Key: d.Key, Value: d.Value}, Driver: d.Driver,
			Name: d.Name, Via: t.en.id, SettingsJson: string(d.Settings), Uri: d.URI, Time: timestamppb.New(msTime(t.stamp()))}
		if t.e.registry.claimed(entry) {
			continue
		}
		old, listed, err := t.e.store.Get(tableInbox, key)
		if err != nil {
			continue
		}
		if was, err := decode(old, &pb.InboxEntry{}); listed && err == nil {
			keepArrivals(entry, was)
		}
		value, err := encode(entry)
		switch {
		case err != nil:
			continue
		case listed && bytes.Equal(old.Value, value):
			continue
		case !listed && !t.e.registry.inboxRoom(project):
			t.e.stats.drop(dropInboxFull)
			continue
		}
		txn := &storage.Txn{
			Guards: []storage.Guard{{Table: storage.Table(t.own.Table), Key: t.own.Key, Equal: t.own.Value},
				{Table: tableAliases, Key: key},
				{Table: tableInbox, Key: key, Revision: old.Revision}},
			Writes: []storage.Write{{Table: tableInbox, Key: key, Value: value}},
		}
		e := t.e
		done := e.busy()
		if err := e.store.Submit(txn, func(r storage.Result) {
			if r.Err != nil {
				e.stats.drop(dropInbox)
			}
			done()
		}); err != nil {
			e.stats.drop(dropInbox)
			done()
		}
	}
}

// keepArrivals leaves in an entry what it has from messages of the device, when it was found first, and that it is ignored.
func keepArrivals(x, was *pb.InboxEntry) {
	x.Count, x.LastTime, x.Door, x.Samples = was.Count, was.LastTime, was.Door, was.Samples
	x.Ignored, x.MessageIds = was.Ignored, was.MessageIds
	if was.Time != nil {
		x.Time = was.Time
	}
}
