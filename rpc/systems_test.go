package rpc_test

import (
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestSystemAsOneOverConnect: who calls, starts and stops a system is told of each member, in their order; a viewer may do none of it, an operator may call.
func TestSystemAsOneOverConnect(t *testing.T) {
	h := openHouse(t)
	p := fresh("hall")
	system := &pb.System{Id: p + "/hall"}
	for _, name := range []string{"Display_1", "Display_2"} {
		id := p + "/" + map[string]string{"Display_1": "left", "Display_2": "right"}[name]
		h.echo(t, id)
		system.Members = append(system.Members, &pb.System_Member{Name: name, Twin: id})
	}
	sites := func(key string) rpcv1.SiteServiceClient { return rpcv1.NewSiteServiceClient(h.http(key), h.url) }
	if _, err := sites(h.admin).PutSystem(t.Context(), req(&pb.PutSystemRequest{System: system})); err != nil {
		t.Fatal(err)
	}
	_, operator := h.newKey(t, &pb.Key{Role: "operator", Project: p})
	_, viewer := h.newKey(t, &pb.Key{Role: "viewer", Project: p})
	call := &pb.InvokeSystemRequest{Id: system.Id, Action: "echo", Input: structpb.NewStringValue("all")}
	called, err := sites(operator).InvokeSystem(t.Context(), req(call))
	if err != nil || len(called.Msg.Results) != 2 {
		t.Fatalf("call: %v, %v", called, err)
	}
	for i, r := range called.Msg.Results {
		if r.Name != system.Members[i].Name || r.Twin != system.Members[i].Twin || r.Outcome != pb.Outcome_OUTCOME_DONE || r.Output == nil {
			t.Errorf("call: %v of member %v", r, system.Members[i])
		}
	}
	for _, c := range []struct {
		stop, changed bool
	}{{true, true}, {true, false}, {false, true}, {false, false}} {
		var results []*pb.MemberResult
		if c.stop {
			res, err := sites(h.admin).StopSystem(t.Context(), req(&pb.StopSystemRequest{Id: system.Id}))
			if err != nil {
				t.Fatal(err)
			}
			results = res.Msg.Results
		} else {
			res, err := sites(h.admin).StartSystem(t.Context(), req(&pb.StartSystemRequest{Id: system.Id}))
			if err != nil {
				t.Fatal(err)
			}
			results = res.Msg.Results
		}
		for i, r := range results {
			got, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: system.Members[i].Twin}))
			if err != nil || len(results) != 2 || r.Name != system.Members[i].Name || r.Changed != c.changed || r.Error != "" || got.Msg.Twin.Stopped != c.stop {
				t.Errorf("stop %v: %v, %v, %v", c.stop, r, got, err)
			}
		}
	}
	denied := func(what string, err error) {
		t.Helper()
		if connect.CodeOf(err) != connect.CodePermissionDenied {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err = sites(viewer).InvokeSystem(t.Context(), req(call))
	denied("a viewer calls", err)
	_, err = sites(operator).StopSystem(t.Context(), req(&pb.StopSystemRequest{Id: system.Id}))
	denied("an operator stops", err)
}
