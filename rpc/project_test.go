package rpc_test

import (
	"strings"
	"testing"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// TestProjectsAndAliases: a project is made, counted, listed to who may read it, and deleted when nothing is in it; an alias is given, moved and taken.
func TestProjectsAndAliases(t *testing.T) {
	h := openHouse(t)
	one, other := fresh("proj"), fresh("proj")
	projects := rpcv1.NewProjectServiceClient(h.http(h.admin), h.url)
	for _, name := range []string{one, other} {
		made, err := projects.CreateProject(t.Context(), req(&pb.CreateProjectRequest{Settings: &pb.ProjectSettings{Project: name}}))
		if err != nil || made.Msg.Project.Name != name || len(made.Msg.Project.Records) != 0 {
			t.Fatalf("%v, %v", made, err)
		}
	}
	if _, err := projects.CreateProject(t.Context(), req(&pb.CreateProjectRequest{Settings: &pb.ProjectSettings{Project: one}})); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("twice: %v", err)
	}
	_, limited := h.newKey(t, &pb.Key{Role: "admin", Project: one, Name: "mine"})
	list, err := rpcv1.NewProjectServiceClient(h.http(limited), h.url).ListProjects(t.Context(), req(&pb.ListProjectsRequest{}))
	if err != nil || len(list.Msg.Projects) != 1 || list.Msg.Projects[0].Name != one {
		t.Errorf("a key of one project lists %v, %v", list, err)
	}
	if _, err := rpcv1.NewProjectServiceClient(h.http(limited), h.url).DeleteProject(t.Context(), req(&pb.DeleteProjectRequest{Project: other})); connect.CodeOf(err) != connect.CodePermissionDenied {
		t.Errorf("another project: %v", err)
	}
	found := map[string]bool{}
	for r := (&pb.ListProjectsRequest{PageSize: 1}); ; {
		page, err := projects.ListProjects(t.Context(), req(r))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.Msg.Projects {
			found[p.Name] = true
		}
		if r.PageToken = page.Msg.NextPageToken; r.PageToken == "" {
			break
		}
	}
	if !found[one] || !found[other] {
		t.Errorf("pages had %v", found)
	}

	// Two twins and an alias that goes from one to the other.
	thing := `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel","title":"M","properties":{"level":{"type":"number"}}}`
	if _, err := rpcv1.NewModelServiceClient(h.http(h.admin), h.url).CreateModel(t.Context(), req(&pb.CreateModelRequest{Model: &pb.Model{Id: one + "/m", ThingJson: thing}})); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: &pb.Twin{Id: one + "/" + name, Model: "m"}})); err != nil {
			t.Fatal(err)
		}
	}
	aliases := rpcv1.NewAliasServiceClient(h.http(h.admin), h.url)
	named := &pb.NamedAlias{Alias: &pb.Alias{Network: "lora", Key: "dev/eui", Value: "50%/7"}, Twin: "a"}
	made, err := aliases.CreateAlias(t.Context(), req(&pb.CreateAliasRequest{Project: one, Named: named}))
	if err != nil || made.Msg.Named.Twin != one+"/a" || made.Msg.Named.Alias.Value != "50%/7" || made.Msg.Named.Alias.Key != "dev/eui" {
		t.Fatalf("%v, %v", made, err)
	}
	named.Twin = "b"
	if _, err := aliases.CreateAlias(t.Context(), req(&pb.CreateAliasRequest{Project: one, Named: named})); connect.CodeOf(err) != connect.CodeAlreadyExists {
		t.Errorf("twice: %v", err)
	}
	if _, err := aliases.UpdateAlias(t.Context(), req(&pb.UpdateAliasRequest{Project: one, Named: named})); err != nil {
		t.Fatal(err)
	}
	if got, err := aliases.GetAlias(t.Context(), req(&pb.GetAliasRequest{Project: one, Alias: named.Alias})); err != nil || got.Msg.Named.Twin != one+"/b" {
		t.Errorf("%v, %v", got, err)
	}
	named.Twin = "nobody"
	if _, err := aliases.UpdateAlias(t.Context(), req(&pb.UpdateAliasRequest{Project: one, Named: named})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("to nobody: %v", err)
	}
	if got, err := aliases.ListAliases(t.Context(), req(&pb.ListAliasesRequest{Project: one, Network: "lora"})); err != nil || len(got.Msg.Aliases) != 1 || got.Msg.Aliases[0].Twin != one+"/b" {
		t.Errorf("%v, %v", got, err)
	}
	for _, c := range []struct {
		r    *pb.ListAliasesRequest
		want int
	}{
		{&pb.ListAliasesRequest{Project: one, Network: "lora", Key: "dev/eui"}, 1}, {&pb.ListAliasesRequest{Project: one, Network: "lora", Key: "dev"}, 0},
		{&pb.ListAliasesRequest{Project: one, Twin: "b"}, 1}, {&pb.ListAliasesRequest{Project: one, Twin: "a"}, 0}, {&pb.ListAliasesRequest{Twin: one + "/b"}, 1},
		{&pb.ListAliasesRequest{Text: "EUI/50%/7", Project: one}, 1}, {&pb.ListAliasesRequest{Text: one + "/b"}, 1}, {&pb.ListAliasesRequest{Text: "eui/8", Project: one}, 0},
	} {
		if got, err := aliases.ListAliases(t.Context(), req(c.r)); err != nil || len(got.Msg.Aliases) != c.want {
			t.Errorf("%v: %v, %v, want %d", c.r, got, err, c.want)
		}
	}
	for _, r := range []*pb.ListAliasesRequest{{Network: "lora"}, {Project: one, Key: "eui"}} {
		if _, err := aliases.ListAliases(t.Context(), req(r)); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%v: %v", r, err)
		}
	}
	if _, err := projects.DeleteProject(t.Context(), req(&pb.DeleteProjectRequest{Project: one})); connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "twin (2)") {
		t.Errorf("a project with twins: %v", err)
	}
	if _, err := aliases.DeleteAlias(t.Context(), req(&pb.DeleteAliasRequest{Project: one, Alias: named.Alias})); err != nil {
		t.Fatal(err)
	}
	if got, err := h.twins(h.admin).GetTwin(t.Context(), req(&pb.GetTwinRequest{Id: one + "/b"})); err != nil || len(got.Msg.Twin.Aliases) != 0 {
		t.Errorf("%v, %v", got, err)
	}

	// A route by its id, with its counts.
	topics := rpcv1.NewTopicServiceClient(h.http(h.admin), h.url)
	if _, err := topics.CreateTopic(t.Context(), req(&pb.CreateTopicRequest{Topic: &pb.Topic{Id: one + "/out"}})); err != nil {
		t.Fatal(err)
	}
	if _, err := topics.PutRoute(t.Context(), req(&pb.PutRouteRequest{Route: &pb.Route{Id: one + "/all", Topics: []string{"out"}}})); err != nil {
		t.Fatal(err)
	}
	if got, err := topics.GetRoute(t.Context(), req(&pb.GetRouteRequest{Id: one + "/all"})); err != nil || got.Msg.Route.Counts == nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := topics.GetRoute(t.Context(), req(&pb.GetRouteRequest{Id: one + "/none"})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("no route: %v", err)
	}
	// Whoever has a key of the project would have one of the next of its name.
	guest, _ := h.newKey(t, &pb.Key{Role: "viewer", Project: other, Name: "guest"})
	if _, err := projects.DeleteProject(t.Context(), req(&pb.DeleteProjectRequest{Project: other})); connect.CodeOf(err) != connect.CodeFailedPrecondition || !strings.Contains(err.Error(), "key (1)") {
		t.Errorf("a project with a key: %v", err)
	}
	if _, err := h.keys(h.admin).DeleteKey(t.Context(), req(&pb.DeleteKeyRequest{Id: guest})); err != nil {
		t.Fatal(err)
	}
	if _, err := projects.DeleteProject(t.Context(), req(&pb.DeleteProjectRequest{Project: other})); err != nil {
		t.Error(err)
	}
	if _, err := projects.GetProject(t.Context(), req(&pb.GetProjectRequest{Project: other})); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("deleted: %v", err)
	}
}
