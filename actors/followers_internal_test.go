package actors

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// A follow that was to nobody for a moment, and is to the same twin again, is another one: the twin may see only that it is there, and is to tell
// its value again.
func TestAFollowThatCameBackIsNew(t *testing.T) {
	one, err := storagetest.Open("data", vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	f := newFollowers(one.Store)
	system := func(member string) {
		t.Helper()
		value, err := encode(&pb.System{Members: []*pb.System_Member{{Name: member, Twin: "p/b"}}})
		if err == nil {
			_, err = one.Store.Commit(context.Background(), &storage.Txn{Writes: []storage.Write{{Table: tableSystems, Key: "p/room", Value: value}}})
		}
		if err != nil {
			t.Fatal(err)
		}
		f.remapped("p/room")
	}
	system("Display_1")
	x := follow{subscriber: "p/r", system: "p/room", name: "Display_1", property: "level"}
	f.changed(x.key(), false)
	first, ok := f.aimed("p/b", x)
	if !ok {
		t.Fatal("nobody is followed")
	}
	f.changed(x.key(), false) // by the watch, too
	system("Display_1")
	if again, _ := f.aimed("p/b", x); again != first {
		t.Errorf("nothing changed, and the follow is new: %v, %v", first, again)
	}
	system("Other_1")
	if _, ok := f.aimed("p/b", x); ok {
		t.Error("the name is another's, and the twin is still followed")
	}
	system("Display_1")
	if again, ok := f.aimed("p/b", x); !ok || again == first {
		t.Errorf("%v, %v", again, ok)
	}
}
