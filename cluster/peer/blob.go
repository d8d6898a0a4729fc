package peer

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/cluster"
	peerv1 "github.com/polluxhq/pollux/proto/pollux/peer/v1"
	"github.com/polluxhq/pollux/proto/pollux/peer/v1/peerv1connect"
)

const (
	// blobChunk is how much of a blob goes in one message, in bytes.
	blobChunk = 256 << 10
	// blobsAtOnce bounds the blobs that are taken in at a time: each may be MaxBlob in memory.
	blobsAtOnce = 4
)

func (p *Peers) service(node string) (peerv1connect.PeerServiceClient, error) {
	c, base, err := p.HTTP(node)
	if err != nil {
		return nil, err
	}
	return peerv1connect.NewPeerServiceClient(c, base, connect.WithReadMaxBytes(readMax)), nil
}

func checkDigest(digest string) error {
	if raw, err := hex.DecodeString(digest); err != nil || len(raw) != sha256.Size || hex.EncodeToString(raw) != digest {
		return fmt.Errorf("%q is no SHA-256 in lower-case hex", digest)
	}
	return nil
}

// PutBlob brings a blob to a node and returns when it is on its disk. It blocks. Errors: ErrTooLarge, ErrOverloaded,
// ErrUnavailable.
func (p *Peers) PutBlob(ctx context.Context, node, digest string, data []byte) error {
	fail := func(err error) error { return fmt.Errorf("put blob %s to node %s: %w", digest, node, fromCode(err)) }
	if len(data) > p.o.MaxBlob {
		return fail(ErrTooLarge)
	}
	client, err := p.service(node)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := client.PutBlob(ctx)
	err = stream.Send(&peerv1.PutBlobRequest{Digest: digest, Size: uint64(len(data))})
	for rest := data; err == nil && len(rest) > 0; {
		n := min(len(rest), blobChunk)
		err = stream.Send(&peerv1.PutBlobRequest{Data: rest[:n]})
		rest = rest[n:]
	}
	if err != nil && !errors.Is(err, io.EOF) { // EOF: the answer says why
		return fail(err)
	}
	if _, err := stream.CloseAndReceive(); err != nil {
		return fail(err)
	}
	return nil
}

// GetBlob reads a blob of a node and checks it. It blocks. Errors: what the node's Blobs said by its sentinel
// (Options.Errors), ErrDamaged, ErrTooLarge, ErrUnavailable.
func (p *Peers) GetBlob(ctx context.Context, node, digest string) ([]byte, error) {
	fail := func(err error) ([]byte, error) {
		return nil, fmt.Errorf("get blob %s from node %s: %w", digest, node, p.fromDetail(err))
	}
	client, err := p.service(node)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.GetBlob(ctx, connect.NewRequest(&peerv1.GetBlobRequest{Digest: digest}))
	if err != nil {
		return fail(err)
	}
	defer stream.Close()
	var in incoming
	for stream.Receive() {
		m := stream.Msg()
		if in.hash == nil {
			if err := in.begin(digest, m.GetSize(), p.o.MaxBlob); err != nil {
				return fail(err)
			}
		}
		if err := in.add(m.GetData()); err != nil {
			return fail(err)
		}
	}
	if err := stream.Err(); err != nil {
		return fail(err)
	}
	if err := in.end(); err != nil {
		return fail(err)
	}
	return in.data, nil
}

// incoming is a blob that arrives in pieces.
type incoming struct {
	digest string
	size   uint64
	data   []byte
	hash   interface {
		io.Writer
		Sum([]byte) []byte
	}
}

func (in *incoming) begin(digest string, size uint64, most int) error {
	if err := checkDigest(digest); err != nil {
		return err
	}
	if size > uint64(most) {
		return fmt.Errorf("blob of %d bytes, %d are allowed: %w", size, most, ErrTooLarge)
	}
	in.digest, in.size, in.hash = digest, size, sha256.New()
	return nil
}

// add keeps memory to what has arrived: who announces much and sends little costs little.
func (in *incoming) add(b []byte) error {
	if uint64(len(in.data)+len(b)) > in.size {
		return fmt.Errorf("blob is longer than the %d bytes announced: %w", in.size, ErrDamaged)
	}
	in.hash.Write(b)
	if need := len(in.data) + len(b); need > cap(in.data) {
		grown := make([]byte, len(in.data), min(int(in.size), max(2*cap(in.data), need)))
		copy(grown, in.data)
		in.data = grown
	}
	in.data = append(in.data, b...)
	return nil
}

func (in *incoming) end() error {
	if in.hash == nil {
		return fmt.Errorf("nothing came: %w", ErrDamaged)
	}
	if uint64(len(in.data)) != in.size {
		return fmt.Errorf("%d bytes of %d came: %w", len(in.data), in.size, ErrDamaged)
	}
	if sum := hex.EncodeToString(in.hash.Sum(nil)); sum != in.digest {
		return fmt.Errorf("its SHA-256 is %s: %w", sum, ErrDamaged)
	}
	return nil
}

// putBlob serves PutBlob.
func (p *Peers) putBlob(ctx context.Context, stream *connect.ClientStream[peerv1.PutBlobRequest]) (*connect.Response[peerv1.PutBlobResponse], error) {
	if p.o.Blobs == nil {
		return nil, connect.NewError(connect.CodeUnimplemented, errors.New("this node keeps no blobs"))
	}
	select {
	case p.blobs <- struct{}{}:
		defer func() { <-p.blobs }()
	case <-ctx.Done():
		return nil, toCode(fmt.Errorf("wait for room: %w", cluster.ErrOverloaded))
	}
	var in incoming
	for stream.Receive() {
		m := stream.Msg()
		if in.hash == nil {
			if err := in.begin(m.GetDigest(), m.GetSize(), p.o.MaxBlob); err != nil {
				return nil, toCode(err)
			}
		}
		if err := in.add(m.GetData()); err != nil {
			return nil, toCode(err)
		}
	}
	if err := stream.Err(); err != nil {
		return nil, err
	}
	if err := in.end(); err != nil {
		p.m.damaged.Inc()
		return nil, toCode(err)
	}
	if err := p.o.Blobs.StoreBlob(ctx, in.digest, in.data); err != nil {
		return nil, toCode(err)
	}
	return connect.NewResponse(&peerv1.PutBlobResponse{}), nil
}

// getBlob serves GetBlob.
func (p *Peers) getBlob(ctx context.Context, r *connect.Request[peerv1.GetBlobRequest], stream *connect.ServerStream[peerv1.GetBlobResponse]) error {
	if p.o.Blobs == nil {
		return connect.NewError(connect.CodeUnimplemented, errors.New("this node keeps no blobs"))
	}
	if err := checkDigest(r.Msg.GetDigest()); err != nil {
		return connect.NewError(connect.CodeInvalidArgument, err)
	}
	select {
	case p.blobs <- struct{}{}:
		defer func() { <-p.blobs }()
	case <-ctx.Done():
		return toCode(fmt.Errorf("wait for room: %w", cluster.ErrOverloaded))
	}
	data, err := p.o.Blobs.Blob(r.Msg.GetDigest())
	if err != nil {
		return p.withDetail(err)
	}
	if err := stream.Send(&peerv1.GetBlobResponse{Size: uint64(len(data))}); err != nil {
		return err
	}
	for in := bytes.NewBuffer(data); in.Len() > 0; {
		if err := stream.Send(&peerv1.GetBlobResponse{Data: in.Next(blobChunk)}); err != nil {
			return err
		}
	}
	return nil
}
