package rpc

import (
	"context"
	"log/slog"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// logChange writes one line for a call that changed what is configured: who, what and its id. Uses of twins are no
// changes; they are in the twins' own records.
func (g *guard) logChange(ctx context.Context, request, response any) {
	what, id := changeOf(request, response)
	p := principalFrom(ctx)
	if what == "" || p == nil || !g.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	g.log.Info(what, "id", id, "by", p.Name, "key", p.ID)
}

// changeOf names a change from its request and answer; "" where the call changed nothing.
func changeOf(request, response any) (what, id string) {
	switch m := response.(type) {
	case *pb.UploadDriverResponse:
		return driverAdded(m.Driver, m.Created)
	case *pb.AddFromCatalogResponse:
		return driverAdded(m.Driver, m.Created)
	case *pb.CreateTwinResponse:
		return "twin created", m.GetTwin().GetId()
	case *pb.UpdateTwinResponse:
		return "twin updated", m.GetTwin().GetId()
	case *pb.CreateModelResponse:
		return "model created", m.GetModel().GetId()
	case *pb.UpdateModelResponse:
		return "model updated", m.GetModel().GetId()
	case *pb.CreateRelationResponse:
		return "relation created", m.GetRelation().GetId()
	case *pb.UpdateRelationResponse:
		return "relation updated", m.GetRelation().GetId()
	case *pb.PutZoneResponse:
		return "zone put", m.GetZone().GetId()
	case *pb.PutSystemResponse:
		return "system put", m.GetSystem().GetId()
	case *pb.CreateKeyResponse:
		return "key created", m.GetKey().GetId()
	}
	switch m := response.(type) {
	case *pb.DrainNodeResponse:
		return "node drains", nodeText(m.GetNode())
	case *pb.UndrainNodeResponse:
		return "node drains no more", nodeText(m.GetNode())
	case *pb.RemoveNodeResponse:
		return "node removed", nodeText(m.GetNode())
	case *pb.TransferLeadershipResponse:
		return "leadership transferred", m.LeaderName
	case *pb.CreateJoinTokenResponse:
		return "join token created", m.Id
	case *pb.RotateGossipKeyResponse:
		return "gossip key rotated", ""
	case *pb.RotateCAResponse:
		return "certificate authority rotated", m.Fingerprint
	}
	switch m := request.(type) {
	case *pb.RevokeJoinTokenRequest:
		return "join token revoked", m.Id
	case *pb.DeleteDriverRequest:
		if m.Version == "" { // all of its versions
			return "driver deleted", m.Name
		}
		return "driver deleted", m.Name + "@" + m.Version
	case *pb.DeleteTwinRequest:
		return "twin deleted", m.Id
	case *pb.DeleteModelRequest:
		return "model deleted", m.Id
	case *pb.StartSystemRequest:
		return "system started", m.Id
	case *pb.StopSystemRequest:
		return "system stopped", m.Id
	case *pb.DeleteRelationRequest:
		return "relation deleted", m.Id
	case *pb.DeleteZoneRequest:
		return "zone deleted", m.Id
	case *pb.DeleteSystemRequest:
		return "system deleted", m.Id
	case *pb.DeleteKeyRequest:
		return "key deleted", m.Id
	}
	return "", ""
}

// driverAdded: the same file once more changes nothing.
func driverAdded(d *pb.Driver, created bool) (what, id string) {
	if !created {
		return "", ""
	}
	return "driver uploaded", d.GetName() + "@" + d.GetVersion()
}
