package rpc_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestSettingsOverHTTP: a change of settings carries the caller's name, and a driver's settings are nobody's who is limited
// to a project.
func TestSettingsOverHTTP(t *testing.T) {
	h := openHouse(t)
	id := "default/" + fresh("set")
	h.echo(t, id)
	_, hotel := h.newKey(t, &pb.Key{Role: "admin", Project: "hotel"})
	admin := rpcv1.NewSettingsServiceClient(h.http(h.admin), h.url)
	scope := &pb.SettingsScope{Scope: &pb.SettingsScope_Twin{Twin: strings.TrimPrefix(id, "default/")}}
	_, err := admin.SetSettings(t.Context(), req(&pb.SetSettingsRequest{Scope: scope,
		Values: &structpb.Struct{Fields: map[string]*structpb.Value{"nothing": mustValue(t, 1)}}}))
	if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a setting that is not there: %v", err)
	}
	got, err := admin.GetSettings(t.Context(), req(&pb.GetSettingsRequest{Scope: scope}))
	if err != nil || got.Msg.Settings.Scope.GetTwin() != id {
		t.Errorf("settings: %v, %v", got, err)
	}
	limited := rpcv1.NewSettingsServiceClient(h.http(hotel), h.url)
	for _, s := range []*pb.SettingsScope{scope, {Scope: &pb.SettingsScope_Driver{Driver: "echo"}}, {Scope: &pb.SettingsScope_Zone{Zone: "default/z"}}} {
		if _, err := limited.SetSettings(t.Context(), req(&pb.SetSettingsRequest{Scope: s})); connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("%v by another project's admin: %v", s, err)
		}
	}
	_, err = admin.DiffSettings(t.Context(), req(&pb.DiffSettingsRequest{Scope: scope, To: 7}))
	if connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("a version that never was: %v", err)
	}
}
