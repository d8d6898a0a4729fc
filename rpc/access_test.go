package rpc_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestAuthorizationOverHTTP calls every procedure of the API as everybody, through the whole door.
func TestAuthorizationOverHTTP(t *testing.T) {
	h := openHouse(t)
	callers := map[string]string{"nobody": "", "forged": "plx_aaaaaaaaaaaa_bbbbbbbbbb", "admin": h.admin}
	for _, role := range []string{"viewer", "operator"} {
		_, callers[role] = h.newKey(t, &pb.Key{Role: role})
	}
	_, callers["device"] = h.newKey(t, &pb.Key{Role: "device", Device: "hotel/lamp"})
	_, callers["admin of hotel"] = h.newKey(t, &pb.Key{Role: "admin", Project: "hotel"})
	// What each needs at least, written down a second time, apart from the table.
	admin := []string{"UploadDriver", "DeleteDriver", "AddFromCatalog", "CreateTwin", "UpdateTwin", "DeleteTwin", "CreateKey", "ListKeys",
		"DeleteKey", "PutZone", "DeleteZone", "PutSystem", "DeleteSystem", "SetSettings",
		"CreateModel", "UpdateModel", "DeleteModel", "ClaimInbox", "IgnoreInbox", "Apply", "PutProjectSettings",
		"CreateTopic", "UpdateTopic", "DeleteTopic", "PutRoute", "DeleteRoute", "StartSystem", "StopSystem", "CreateRelation", "UpdateRelation", "DeleteRelation",
		"PutSchedule", "DeleteSchedule", "TryLogic", "CancelSchedules", "PutRule", "DeleteRule", "DeleteAlarm",
		"CreateDetector", "UpdateDetector", "DeleteDetector",
		"CreateSink", "UpdateSink", "DeleteSink", "CreateNotifier", "UpdateNotifier", "DeleteNotifier", "CreateSource", "UpdateSource", "DeleteSource"}
	admin = append(admin, "CreateSimulation", "UpdateSimulation", "DeleteSimulation", "SteerSimulations",
		"CreateProject", "DeleteProject", "CreateAlias", "UpdateAlias", "DeleteAlias")
	// These belong to no project.
	everywhere := []string{"UploadDriver", "DeleteDriver", "AddFromCatalog", "DrainNode", "UndrainNode", "RemoveNode", "TransferLeadership",
		"CreateJoinToken", "ListJoinTokens", "RevokeJoinToken", "RotateGossipKey", "RotateCA", "StartRollout", "HaltRollout",
		"Rollback", "Scan"}
	admin = append(admin, everywhere...)
	operator := []string{"TestNotifier", "Notify", "Invoke", "RaiseAlarm", "ChangeAlarm", "InvokeSystem", "SetDesired", "TraceTwin", "ReleaseTwins", "ClearCommands", "Ingest", "Publish", "Ack",
		"PutChannel", "DeleteChannel", "RunLogic", "SeekChannel", "ReplayDeadLetters", "ReplayRoute"}
	protoregistry.GlobalFiles.RangeFilesByPackage("pollux.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				if m.IsStreamingServer() || m.IsStreamingClient() {
					continue // TestStreamsAreAuthorized
				}
				name := string(m.Name())
				for who, key := range callers {
					want := http.StatusOK
					switch {
					case who == "nobody", who == "forged":
						want = http.StatusUnauthorized
					case who == "device":
						want = http.StatusForbidden
					case who == "viewer" && (slices.Contains(admin, name) || slices.Contains(operator, name)),
						who == "operator" && slices.Contains(admin, name):
						want = http.StatusForbidden
					case who == "admin of hotel" && slices.Contains(everywhere, name):
						want = http.StatusForbidden
					}
					got, body := h.call(t, key, fmt.Sprintf("/%s/%s", s.FullName(), name), requestFor(m, "hotel"))
					refused := got == http.StatusUnauthorized || got == http.StatusForbidden
					if want == http.StatusOK && refused || want != http.StatusOK && got != want {
						t.Errorf("%s by %s: status %d, want %d: %.200s", name, who, got, want, body)
					}
					if who == "admin of hotel" && strings.Contains(requestFor(m, "school"), "school") {
						if got, body := h.call(t, key, fmt.Sprintf("/%s/%s", s.FullName(), name), requestFor(m, "school")); got != http.StatusForbidden {
							t.Errorf("%s by %s in another project: status %d: %.200s", name, who, got, body)
						}
					}
				}
			}
		}
		return true
	})
}

// requestFor fills what names a resource, and leaves the rest so that nothing is changed by it.
func requestFor(m protoreflect.MethodDescriptor, project string) string {
	in := m.Input()
	fields := make(map[string]any)
	for i := range in.Fields().Len() {
		f := in.Fields().Get(i)
		switch name := f.JSONName(); {
		case m.Parent().Name() == "RelationService" && (name == "id" || name == "path"):
			fields[name] = project + "/nothing/feeds/nobody"
		case m.Parent().Name() == "AnalyticsService" && name == "twin":
			fields[name] = project + "/nothing"
		case name == "relation":
			fields[name] = map[string]any{"id": project + "/nothing/feeds/nobody", "revision": 1 << 40}
		case name == "id" && m.Parent().Name() != "KeyService":
			fields[name] = project + "/nothing"
		case name == "scope":
			fields[name] = map[string]any{"twin": project + "/nothing"}
		case name == "project":
			fields[name] = project
		case name == "filter":
			fields[name] = map[string]any{"project": project}
		case name == "key" && f.Message() != nil:
			fields[name] = map[string]any{"project": project, "role": "nonsense"}
		case f.Kind() == protoreflect.MessageKind && (name == "twin" || name == "zone" || name == "system"):
			fields[name] = map[string]any{"id": project + "/nothing", "revision": 1 << 40}
		}
	}
	b, _ := json.Marshal(fields)
	return string(b)
}

func TestStreamsAreAuthorized(t *testing.T) {
	h := openHouse(t)
	_, scoped := h.newKey(t, &pb.Key{Role: "viewer", Project: "hotel"})
	_, device := h.newKey(t, &pb.Key{Role: "device", Device: "hotel/lamp"})
	_, hotel := h.newKey(t, &pb.Key{Role: "admin", Project: "hotel"})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watch := func(key, kind string) error {
		s, err := rpcv1.NewWatchServiceClient(h.http(key), h.url).Watch(ctx, req(&pb.WatchRequest{Kind: kind}))
		if err != nil {
			return err
		}
		defer s.Close()
		s.Receive()
		return s.Err()
	}
	twins := func(key, project string) error {
		s, err := h.twins(key).WatchTwins(ctx, req(&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Project: project}}))
		if err != nil {
			return err
		}
		defer s.Close()
		s.Receive()
		return s.Err()
	}
	trace := func(key, id string) error {
		s, err := h.twins(key).TraceTwin(ctx, req(&pb.TraceTwinRequest{Id: id}))
		if err != nil {
			return err
		}
		defer s.Close()
		s.Receive()
		return s.Err()
	}
	backup := func(key string) error {
		s, err := rpcv1.NewClusterServiceClient(h.http(key), h.url).Backup(ctx, req(&pb.BackupRequest{}))
		if err != nil {
			return err
		}
		defer s.Close()
		s.Receive()
		return s.Err()
	}
	restore := func(key string, messages ...*pb.RestoreRequest) error {
		s := rpcv1.NewClusterServiceClient(h.http(key), h.url).Restore(ctx)
		for _, m := range messages {
			if err := s.Send(m); err != nil {
				break // the answer says why
			}
		}
		_, err := s.CloseAndReceive()
		return err
	}
	const ok = connect.Code(0)
	for _, tt := range []struct {
		name string
		err  error
		want connect.Code
	}{
		{"watch, nobody", watch("", "twin"), connect.CodeUnauthenticated},
		{"watch, device", watch(device, "twin"), connect.CodePermissionDenied},
		{"watch of keys, viewer", watch(scoped, "key"), connect.CodePermissionDenied},
		{"watch of keys, admin", watch(h.admin, "key"), ok},
		{"watch of slots, one project", watch(scoped, "slot"), ok},
		{"watch of nonsense", watch(h.admin, "nonsense"), connect.CodeInvalidArgument},
		{"twins, own project", twins(scoped, ""), ok},
		{"twins, another project", twins(scoped, "school"), connect.CodePermissionDenied},
		{"trace, viewer", trace(scoped, "hotel/x"), connect.CodePermissionDenied},
		{"backup, nobody", backup(""), connect.CodeUnauthenticated},
		{"backup, administrator of one project", backup(hotel), connect.CodePermissionDenied},
		{"restore, nobody", restore(""), connect.CodeUnauthenticated},
		{"restore, administrator of one project", restore(hotel, &pb.RestoreRequest{Chunk: []byte("x")}), connect.CodePermissionDenied},
		{"restore of nothing, administrator of one project", restore(hotel), connect.CodePermissionDenied},
		{"trace of nothing", trace(h.admin, "hotel/no-such-twin"), connect.CodeNotFound},
	} {
		got := ok
		if tt.err != nil {
			got = connect.CodeOf(tt.err)
		}
		if got != tt.want {
			t.Errorf("%s: got %v, want %s", tt.name, tt.err, tt.want)
		}
	}
}

// TestDeletedProjectsOfOthers: who watches projects with a key of one is not told that another goes whose name begins like its own.
func TestDeletedProjectsOfOthers(t *testing.T) {
	h, one := openHouse(t), fresh("north")
	_, key := h.newKey(t, &pb.Key{Role: "viewer", Project: one})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	projects := rpcv1.NewProjectServiceClient(h.http(h.admin), h.url)
	for _, name := range []string{one, one + "-attic"} {
		if _, err := projects.CreateProject(ctx, req(&pb.CreateProjectRequest{Settings: &pb.ProjectSettings{Project: name}})); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := rpcv1.NewWatchServiceClient(h.http(key), h.url).Watch(ctx, req(&pb.WatchRequest{Kind: "project"}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	revision := uint64(0)
	for synced := false; stream.Receive(); {
		m := stream.Msg()
		switch {
		case m.Id != "" && m.Id != one:
			t.Errorf("told of %v", m)
		case m.Synced:
			synced = true
			if _, err := projects.DeleteProject(ctx, req(&pb.DeleteProjectRequest{Project: one + "-attic"})); err != nil {
				t.Fatal(err)
			}
			settings := &pb.ProjectSettings{Project: one, Revision: revision, UnknownSenders: pb.UnknownSenders_UNKNOWN_SENDERS_REFUSE}
			if _, err := h.ingests().PutProjectSettings(ctx, req(&pb.PutProjectSettingsRequest{Settings: settings})); err != nil {
				t.Fatal(err)
			}
		case synced:
			return
		default:
			revision = m.Revision
		}
	}
	t.Fatal(stream.Err())
}

// TestProjectsAreApart: a key of one project sees nothing of another, in lists and watches that name none.
func TestProjectsAreApart(t *testing.T) {
	h := openHouse(t)
	one, other := fresh("east"), fresh("west")
	h.echo(t, one+"/a")
	h.echo(t, other+"/a")
	_, east := h.newKey(t, &pb.Key{Role: "admin", Project: one, Name: one})
	list, err := h.twins(east).ListTwins(t.Context(), req(&pb.ListTwinsRequest{}))
	if err != nil || len(list.Msg.Twins) != 1 || list.Msg.Twins[0].Id != one+"/a" {
		t.Errorf("list: %v, %v", list, err)
	}
	keys, err := h.keys(east).ListKeys(t.Context(), req(&pb.ListKeysRequest{}))
	if err != nil || len(keys.Msg.Keys) != 1 || keys.Msg.Keys[0].Name != one {
		t.Errorf("keys: %v, %v", keys, err)
	}
	all, err := h.keys(h.admin).ListKeys(t.Context(), req(&pb.ListKeysRequest{PageSize: 1000}))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all.Msg.Keys, func(k *pb.Key) bool { return k.Name == "admin" })
	if i < 0 {
		t.Fatal("the administrator's key is not listed")
	}
	if _, err := h.keys(east).DeleteKey(t.Context(), req(&pb.DeleteKeyRequest{Id: all.Msg.Keys[i].Id})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a project's administrator deletes the administrator: %v", err)
	}
	if _, err := h.keys(east).CreateKey(t.Context(), req(&pb.CreateKeyRequest{Key: &pb.Key{Role: "admin", Project: other}})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("a project's administrator makes one of another: %v", err)
	}
	made, err := h.keys(east).CreateKey(t.Context(), req(&pb.CreateKeyRequest{Key: &pb.Key{Role: "admin"}}))
	if err != nil || made.Msg.Key.Project != one {
		t.Errorf("a key without project is of %v, %v", made, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := rpcv1.NewWatchServiceClient(h.http(east), h.url).Watch(ctx, req(&pb.WatchRequest{Kind: "twin"}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	h.echo(t, other+"/b")
	h.echo(t, one+"/b")
	for stream.Receive() {
		m := stream.Msg()
		if m.Id != "" && !strings.HasPrefix(m.Id, one+"/") {
			t.Errorf("the watch of east shows %s", m.Id)
		}
		if m.Id == one+"/b" {
			return
		}
	}
	t.Errorf("%s/b never came: %v", one, stream.Err())
}
