package rpc

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"connectrpc.com/grpchealth"
	"connectrpc.com/grpcreflect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// eachMethod gives every procedure of the API as its files declare them.
func eachMethod(t *testing.T, fn func(procedure string, m protoreflect.MethodDescriptor)) {
	t.Helper()
	n := 0
	protoregistry.GlobalFiles.RangeFilesByPackage("pollux.v1", func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			s := f.Services().Get(i)
			for j := range s.Methods().Len() {
				m := s.Methods().Get(j)
				n++
				fn(fmt.Sprintf("/%s/%s", s.FullName(), m.Name()), m)
			}
		}
		return true
	})
	if n < 30 {
		t.Fatalf("only %d procedures found", n)
	}
}

// TestEveryProcedureHasAnEntry fails where a procedure was added without saying what it does, and on what.
func TestEveryProcedureHasAnEntry(t *testing.T) {
	table := procedures()
	known := make(map[string]bool)
	eachMethod(t, func(name string, m protoreflect.MethodDescriptor) {
		known[name] = true
		p, ok := table[name]
		if !ok {
			t.Errorf("%s has no entry in procedures()", name)
			return
		}
		if p.open {
			t.Errorf("%s is open to everybody", name)
		}
		if p.action == ActionNone && p.actionOf == nil || p.resource == nil {
			t.Errorf("%s has no action or no resource", name)
			return
		}
		// The entry is for this procedure's request, and for no other message.
		typ, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.resource(typ.New().Interface(), &Principal{}); errors.Is(err, errWrongMessage) {
			t.Errorf("%s: the entry is written for another request", name)
		}
	})
	for _, s := range []string{"/" + grpchealth.HealthV1ServiceName + "/Check", "/" + grpchealth.HealthV1ServiceName + "/Watch",
		"/" + grpcreflect.ReflectV1ServiceName + "/ServerReflectionInfo", "/" + grpcreflect.ReflectV1AlphaServiceName + "/ServerReflectionInfo"} {
		known[s] = true
	}
	for name := range table {
		if !known[name] {
			t.Errorf("%s is in the table and no procedure", name)
		}
	}
}

func TestResources(t *testing.T) {
	hotel := &Principal{Name: "h", Role: RoleAdmin, Project: "hotel"}
	all := &Principal{Name: "a", Role: RoleAdmin}
	tests := []struct {
		name      string
		procedure string
		p         *Principal
		in        proto.Message
		want      string // resource, or "!" and the error's path
		after     proto.Message
	}{
		{"bare name", rpcv1.TwinServiceInvokeProcedure, all, &pb.InvokeRequest{Id: "pump"}, "default/twin/default/pump",
			&pb.InvokeRequest{Id: "default/pump"}},
		{"full name", rpcv1.TwinServiceInvokeProcedure, hotel, &pb.InvokeRequest{Id: "hotel/pump"}, "hotel/twin/hotel/pump", nil},
		{"no name", rpcv1.TwinServiceInvokeProcedure, all, &pb.InvokeRequest{}, "!id", nil},
		{"path in name", rpcv1.TwinServiceInvokeProcedure, all, &pb.InvokeRequest{Id: "a/b/c"}, "!id", nil},
		{"capital", rpcv1.TwinServiceGetTwinProcedure, all, &pb.GetTwinRequest{Id: "Pump"}, "!id", nil},
		{"star", rpcv1.TwinServiceGetTwinProcedure, all, &pb.GetTwinRequest{Id: "*/pump"}, "!id", nil},
		{"list of a project's key", rpcv1.TwinServiceListTwinsProcedure, hotel, &pb.ListTwinsRequest{}, "hotel/twin",
			&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Project: "hotel"}}},
		{"list of all", rpcv1.TwinServiceListTwinsProcedure, all, &pb.ListTwinsRequest{}, "*/twin",
			&pb.ListTwinsRequest{Filter: &pb.TwinFilter{}}},
		{"list of another", rpcv1.TwinServiceWatchTwinsProcedure, hotel,
			&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Project: "school", Ids: []string{"a"}}}, "school/twin",
			&pb.WatchTwinsRequest{Filter: &pb.TwinFilter{Project: "school", Ids: []string{"school/a"}}}},
		{"zone and system of a project", rpcv1.TwinServiceListTwinsProcedure, all,
			&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Project: "hotel", Zone: "hall", System: "av"}}, "hotel/twin",
			&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Project: "hotel", Zone: "hotel/hall", System: "hotel/av"}}},
		{"zone and system of no project", rpcv1.TwinServiceListTwinsProcedure, all,
			&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{"a"}, Zone: "hall", System: "av"}}, "*/twin",
			&pb.ListTwinsRequest{Filter: &pb.TwinFilter{Ids: []string{"default/a"}, Zone: "default/hall", System: "default/av"}}},
		{"list of a star", rpcv1.SiteServiceListZonesProcedure, hotel, &pb.ListZonesRequest{Project: "*"}, "!project", nil},
		{"twin and its zone", rpcv1.TwinServiceCreateTwinProcedure, all,
			&pb.CreateTwinRequest{Twin: &pb.Twin{Id: "hotel/a", Zone: "z", Via: "g"}}, "hotel/twin/hotel/a",
			&pb.CreateTwinRequest{Twin: &pb.Twin{Id: "hotel/a", Zone: "hotel/z", Via: "hotel/g"}}},
		{"gateway elsewhere", rpcv1.TwinServiceUpdateTwinProcedure, all,
			&pb.UpdateTwinRequest{Twin: &pb.Twin{Id: "hotel/a", Via: "school/g"}}, "!twin.via", nil},
		{"member elsewhere", rpcv1.SiteServicePutSystemProcedure, all,
			&pb.PutSystemRequest{System: &pb.System{Id: "hotel/s", Members: []*pb.System_Member{{Name: "D", Twin: "school/d"}}}},
			"!system.members.twin", nil},
		{"no zone", rpcv1.SiteServicePutZoneProcedure, all, &pb.PutZoneRequest{}, "!id", nil},
		{"key of a device", rpcv1.KeyServiceCreateKeyProcedure, hotel,
			&pb.CreateKeyRequest{Key: &pb.Key{Role: "device", Device: "hotel/a"}}, "hotel/key",
			&pb.CreateKeyRequest{Key: &pb.Key{Role: "device", Device: "hotel/a", Project: "hotel"}}},
		{"key without project", rpcv1.KeyServiceCreateKeyProcedure, hotel, &pb.CreateKeyRequest{Key: &pb.Key{Role: "admin"}},
			"hotel/key", &pb.CreateKeyRequest{Key: &pb.Key{Role: "admin", Project: "hotel"}}},
		{"watch of twins", rpcv1.WatchServiceWatchProcedure, hotel, &pb.WatchRequest{Kind: "twin"}, "hotel/twin", nil},
		{"watch of nodes", rpcv1.WatchServiceWatchProcedure, hotel, &pb.WatchRequest{Kind: "node"}, "*/node", nil},
		{"try of a file", rpcv1.LogicServiceTryLogicProcedure, all, &pb.TryLogicRequest{Twin: "a"}, "default/logic",
			&pb.TryLogicRequest{Project: "default", Twin: "default/a"}},
		{"try elsewhere", rpcv1.LogicServiceTryLogicProcedure, all, &pb.TryLogicRequest{Id: "hotel/f", Twin: "hotel/a"}, "hotel/logic",
			&pb.TryLogicRequest{Project: "hotel", Id: "hotel/f", Twin: "hotel/a"}},
		{"try of a project's key", rpcv1.LogicServiceTryLogicProcedure, hotel, &pb.TryLogicRequest{Twin: "a"}, "hotel/logic",
			&pb.TryLogicRequest{Project: "hotel", Twin: "hotel/a"}},
		{"upload", rpcv1.DriverServiceUploadDriverProcedure, hotel, &pb.UploadDriverRequest{}, "*/driver", nil},
	}
	table := procedures()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := table[tt.procedure].resource(tt.in, tt.p)
			got := strings.TrimSuffix(r.Project+"/"+r.Kind+"/"+r.ID, "/")
			var wrong *invalidError
			if errors.As(err, &wrong) {
				got = "!" + wrong.path
			} else if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got %s, want %s (%v)", got, tt.want, err)
			}
			if tt.after != nil && !proto.Equal(tt.in, tt.after) {
				t.Errorf("request became %v, want %v", tt.in, tt.after)
			}
		})
	}
}

func TestWatchedActions(t *testing.T) {
	for kind, want := range map[string]Action{"twin": ActionTwinRead, "inbox": ActionSiteRead, "key": ActionKeyRead,
		"driver": ActionDriverRead, "node": ActionClusterRead, "unheard of": ActionClusterRead} {
		if got := watchedAction(&pb.WatchRequest{Kind: kind}); got != want {
			t.Errorf("%s: got %s, want %s", kind, got, want)
		}
	}
	if got := watchedAction(&pb.GetTwinRequest{}); got != ActionNone {
		t.Errorf("another request: got %s", got)
	}
}
