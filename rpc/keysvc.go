package rpc

import (
	"context"
	"fmt"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// defaultPage is the number of records of a page where the request names none.
const defaultPage = 100

type keyService struct{ s *Server }

func (k *keyService) CreateKey(ctx context.Context, r *connect.Request[pb.CreateKeyRequest]) (*connect.Response[pb.CreateKeyResponse], error) {
	in := r.Msg.Key
	role, err := ParseRole(in.Role)
	if err != nil {
		return nil, invalid("key.role", "want admin, operator, viewer or device")
	}
	n := NewKey{Name: in.Name, Role: role, Project: in.Project, Device: in.Device, By: principalFrom(ctx).Name}
	if in.ExpireTime != nil {
		n.Expires = in.ExpireTime.AsTime()
	}
	key, secret, err := CreateKey(ctx, k.s.o.Store, n)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateKeyResponse{Key: key, Secret: secret}), nil
}

func (k *keyService) ListKeys(ctx context.Context, r *connect.Request[pb.ListKeysRequest]) (*connect.Response[pb.ListKeysResponse], error) {
	p := principalFrom(ctx)
	size := int(r.Msg.PageSize)
	if size == 0 {
		size = defaultPage
	}
	after, err := afterToken("key", r.Msg.PageToken)
	if err != nil {
		return nil, err
	}
	out := &pb.ListKeysResponse{}
	for rec, err := range k.s.o.Store.Scan(TableKey, "", after) {
		if err != nil {
			return nil, fmt.Errorf("list keys: %w", err)
		}
		key, err := decodeKey(rec.Value)
		if err != nil {
			return nil, err
		}
		if Authorize(p, ActionKeyRead, keyResource(key)) != nil {
			continue
		}
		if len(out.Keys) == size {
			out.NextPageToken = pageToken("key", out.Keys[size-1].Id)
			break
		}
		out.Keys = append(out.Keys, key.proto(rec.Revision))
	}
	return connect.NewResponse(out), nil
}

// keyResource of a key that is not limited to a project is everywhere: a project's administrator does not see it.
func keyResource(k *keyRecord) Resource {
	r := Resource{Project: k.Project, Kind: "key", ID: k.ID}
	if r.Project == "" {
		r.Project = Everywhere
	}
	return r
}

func (k *keyService) DeleteKey(ctx context.Context, r *connect.Request[pb.DeleteKeyRequest]) (*connect.Response[pb.DeleteKeyResponse], error) {
	rec, ok, err := k.s.o.Store.Get(TableKey, r.Msg.Id)
	if err != nil {
		return nil, fmt.Errorf("delete key: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("key %q: %w", r.Msg.Id, errNoSuchKey)
	}
	key, err := decodeKey(rec.Value)
	if err != nil {
		return nil, err
	}
	if err := Authorize(principalFrom(ctx), ActionKeyWrite, keyResource(key)); err != nil {
		return nil, err
	}
	if err := deleteKey(ctx, k.s.o.Store, rec); err != nil {
		return nil, err
	}
	// The watch would do it in a moment; who deleted a key expects it to be gone.
	k.s.o.Keys.invalidate(TableKey, rec.Key)
	return connect.NewResponse(&pb.DeleteKeyResponse{}), nil
}

// CreateLoginLink signs a browser in as the caller. A session cannot make another: it would outlive its own end.
func (k *keyService) CreateLoginLink(ctx context.Context, _ *connect.Request[pb.CreateLoginLinkRequest]) (*connect.Response[pb.CreateLoginLinkResponse], error) {
	p := principalFrom(ctx)
	if p.session {
		return nil, fmt.Errorf("%w: a browser's session makes no login links; use an API key", ErrForbidden)
	}
	path, err := k.s.o.Keys.LoginLink(ctx, p.ID)
	if err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.CreateLoginLinkResponse{Path: path}), nil
}

func decodeKeyMessage(rec storage.Record) (proto.Message, error) {
	key, err := decodeKey(rec.Value)
	if err != nil {
		return nil, err
	}
	return key.proto(rec.Revision), nil
}
