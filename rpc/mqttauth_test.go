package rpc_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/mqtt"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/storage"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// TestDeviceGrant logs devices in, and has what they were granted outdate.
func TestDeviceGrant(t *testing.T) {
	h := openHouse(t)
	registry := h.node.Registry()
	if _, err := rpcv1.NewDriverServiceClient(h.http(h.admin), h.url).UploadDriver(t.Context(),
		req(&pb.UploadDriverRequest{File: drivertest.Build(t, "../drivers/tasmota")})); err != nil {
		t.Fatal(err)
	}
	project := fresh("grant")
	lamp := func(topic string) *pb.Twin {
		settings, err := structpb.NewStruct(map[string]any{"topic": topic})
		if err != nil {
			t.Fatal(err)
		}
		return &pb.Twin{Id: project + "/lamp", Driver: "tasmota", Settings: settings}
	}
	store := storagetest.OpenSingle(t, "store", vfs.NewMem())
	keys := rpc.NewKeyring(store, nil, nil)
	defer keys.Close()
	key, secret, err := rpc.CreateKey(t.Context(), store, rpc.NewKey{Role: rpc.RoleDevice, Device: project + "/lamp"})
	if err != nil {
		t.Fatal(err)
	}
	login := func(secret string) (mqtt.Grant, error) {
		return keys.Device(registry, project+"/lamp", []byte(secret))
	}
	if g, err := login(secret); !errors.Is(err, rpc.ErrForbidden) {
		t.Fatalf("a device without twin: %+v, %v", g, err)
	}

	made, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: lamp("desk")}))
	if err != nil {
		t.Fatal(err)
	}
	g, err := login(secret)
	if err != nil {
		t.Fatal(err)
	}
	if g.Admin || g.Key != key.Id || g.Project != project || g.Twin != project+"/lamp" || len(g.Topics) > 0 {
		t.Errorf("granted %+v", g)
	}
	if want := []string{"cmnd/desk/#", "cmnd/desk/+"}; !slices.Equal(g.Subscribe, want) {
		t.Errorf("may subscribe to %q, want %q", g.Subscribe, want)
	}
	if want := []string{"cmnd/desk/POWER", "stat/desk/#", "stat/desk/+", "tele/desk/#", "tele/desk/+", "tele/desk/LWT"}; !slices.Equal(g.Publish, want) {
		t.Errorf("may publish to %q, want %q", g.Publish, want)
	}
	for _, bad := range []struct{ user, secret string }{{project + "/other", secret}, {"lamp", secret}, {project + "/lamp", secret + "x"}} {
		if g, err := keys.Device(registry, bad.user, []byte(bad.secret)); !errors.Is(err, rpc.ErrUnauthenticated) {
			t.Errorf("%+v: %+v, %v", bad, g, err)
		}
	}
	if !keys.Stands(registry, &g) || !keys.Stands(registry, &mqtt.Grant{Topics: []string{"#"}}) || !keys.Stands(registry, nil) {
		t.Error("a grant that was just given does not stand, or one without key")
	}

	moved := lamp("bench")
	moved.Revision = made.Msg.Twin.Revision
	if _, err := h.twins(h.admin).UpdateTwin(t.Context(), req(&pb.UpdateTwinRequest{Twin: moved})); err != nil {
		t.Fatal(err)
	}
	if keys.Stands(registry, &g) {
		t.Error("the topics of the grant are not the device's any more, and it stands")
	}
	if g, err = login(secret); err != nil || !keys.Stands(registry, &g) {
		t.Fatalf("%+v, %v", g, err)
	}
	_, short, err := rpc.CreateKey(t.Context(), store, rpc.NewKey{Role: rpc.RoleDevice, Device: project + "/lamp", Expires: time.Now().Add(2 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	brief, err := login(short)
	if err != nil || !keys.Stands(registry, &brief) {
		t.Fatalf("a key that expires later: %+v, %v", brief, err)
	}
	for end := time.Now().Add(patience); keys.Stands(registry, &brief); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("an expired key's grant stands")
		}
	}
	if _, err := store.Commit(t.Context(), &storage.Txn{Writes: []storage.Write{{Table: rpc.TableKey, Key: key.Id}}}); err != nil {
		t.Fatal(err)
	}
	if keys.Stands(registry, &g) {
		t.Error("a deleted key's grant stands")
	}
}
