package rpc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	stdhash "hash"
	"io"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// BackupChunk in bytes is how much of a backup one message holds.
const BackupChunk = 256 << 10

// Backup streams from this node, or, where its history is not complete, from one whose is.
func (c *clusterService) Backup(ctx context.Context, r *connect.Request[pb.BackupRequest], out *connect.ServerStream[pb.BackupResponse]) error {
	if at := c.s.o.Cluster.HistoryNodes(); len(at) > 0 && !r.Msg.WithoutHistory && !isLocal(ctx) {
		return c.backupFrom(ctx, at, r.Msg, out)
	}
	began := time.Now()
	w := &chunks{send: out.Send, sum: sha256.New(), buf: make([]byte, 0, BackupChunk)}
	summary, err := c.s.o.Cluster.Backup(ctx, w, !r.Msg.WithoutHistory)
	if err == nil {
		err = w.flush()
	}
	if err != nil {
		return err
	}
	if summary.Time == nil {
		summary.Time = timestamppb.New(began)
	}
	summary.Size, summary.Digest = w.size, hex.EncodeToString(w.sum.Sum(nil))
	if err := out.Send(&pb.BackupResponse{Part: &pb.BackupResponse_Done{Done: summary}}); err != nil {
		return err
	}
	c.s.logStream(ctx, "backup taken", "revision", summary.Revision, "bytes", summary.Size)
	return nil
}

// backupFrom passes on what the first node gives that can be reached.
func (c *clusterService) backupFrom(ctx context.Context, nodes []string, r *pb.BackupRequest, out *connect.ServerStream[pb.BackupResponse]) error {
	var last error
	for _, node := range nodes {
		p, err := c.s.peer(node)
		if err != nil {
			last = err
			continue
		}
		in, err := p.cluster.Backup(ctx, connect.NewRequest(r))
		if err != nil {
			last = err
			continue
		}
		began := false
		for in.Receive() {
			began = true
			if err := out.Send(in.Msg()); err != nil {
				return errors.Join(err, in.Close())
			}
		}
		last = in.Err()
		if cerr := in.Close(); last == nil {
			last = cerr
		}
		if began || last == nil {
			return last
		}
	}
	return fmt.Errorf("backup: %w", last)
}

// chunks gathers what is written into messages.
type chunks struct {
	send func(*pb.BackupResponse) error
	sum  stdhash.Hash
	buf  []byte
	size uint64
}

// Write implements io.Writer.
func (w *chunks) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		k := min(BackupChunk-len(w.buf), len(b))
		w.buf = append(w.buf, b[:k]...)
		if b = b[k:]; len(w.buf) == BackupChunk {
			if err := w.flush(); err != nil {
				return 0, err
			}
		}
	}
	return n, nil
}

func (w *chunks) flush() error {
	if len(w.buf) == 0 {
		return nil
	}
	w.sum.Write(w.buf) // a hash takes everything
	w.size += uint64(len(w.buf))
	err := w.send(&pb.BackupResponse{Part: &pb.BackupResponse_Chunk{Chunk: w.buf}})
	w.buf = w.buf[:0]
	return err
}

// Restore reads the stream as one file.
func (c *clusterService) Restore(ctx context.Context, in *connect.ClientStream[pb.RestoreRequest]) (*connect.Response[pb.RestoreResponse], error) {
	// The messages are authorized one by one; a stream may have none.
	if err := Authorize(principalFrom(ctx), ActionClusterOperate, Resource{Project: Everywhere, Kind: "backup"}); err != nil {
		return nil, err
	}
	r := &restoring{in: in}
	summary, err := c.s.o.Cluster.Restore(ctx, r)
	if r.err != nil {
		// Where the stream broke, that is the cause of whatever was found then.
		err = r.err
	}
	if err != nil {
		return nil, err
	}
	c.s.logStream(ctx, "backup restored", "revision", summary.GetRevision(), "records", summary.GetRecords())
	return connect.NewResponse(&pb.RestoreResponse{Summary: summary}), nil
}

// restoring is the stream as a reader.
type restoring struct {
	in   *connect.ClientStream[pb.RestoreRequest]
	rest []byte
	err  error
}

// Read implements io.Reader.
func (r *restoring) Read(b []byte) (int, error) {
	for len(r.rest) == 0 {
		if !r.in.Receive() {
			if r.err = r.in.Err(); r.err != nil {
				return 0, r.err
			}
			return 0, io.EOF
		}
		r.rest = r.in.Msg().Chunk
	}
	n := copy(b, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// logStream writes the line of a change that was made by a stream.
func (s *Server) logStream(ctx context.Context, what string, args ...any) {
	if p := principalFrom(ctx); p != nil {
		args = append(args, "by", p.Name, "key", p.ID)
	}
	s.log.Info(what, args...)
}
