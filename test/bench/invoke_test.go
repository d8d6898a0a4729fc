package main

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/cluster"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/storage"
)

func settings(topic string) *structpb.Struct {
	return &structpb.Struct{Fields: map[string]*structpb.Value{"topic": structpb.NewStringValue(topic)}}
}

// bare is a Connect handler without anything around it.
type bare struct {
	polluxv1connect.UnimplementedTwinServiceHandler
	apply func([]byte) error
}

func (h bare) Invoke(_ context.Context, r *connect.Request[pb.InvokeRequest]) (*connect.Response[pb.InvokeResponse], error) {
	return connect.NewResponse(&pb.InvokeResponse{Output: r.Msg.Input, Outcome: pb.Outcome_OUTCOME_DONE}), nil
}

func (h bare) SetDesired(_ context.Context, r *connect.Request[pb.SetDesiredRequest]) (*connect.Response[pb.SetDesiredResponse], error) {
	entry, err := proto.Marshal(r.Msg)
	if err != nil {
		return nil, err
	}
	if err := h.apply(entry); err != nil {
		return nil, err
	}
	return connect.NewResponse(&pb.SetDesiredResponse{Desired: &pb.Desired{Value: r.Msg.Value}}), nil
}

// serveBare serves h on loopback and gives a client like those of our node.
func serveBare(b *testing.B, h bare) polluxv1connect.TwinServiceClient {
	b.Helper()
	mux := http.NewServeMux()
	mux.Handle(polluxv1connect.NewTwinServiceHandler(h))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: mux}
	go s.Serve(l)
	b.Cleanup(func() { s.Close() })
	return polluxv1connect.NewTwinServiceClient(&http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}},
		"http://"+l.Addr().String())
}

// BenchmarkInvoke: calls of 1,000 twins over Connect, against a handler that does nothing.
func BenchmarkInvoke(b *testing.B) {
	n := openNode(b)
	ids := createTwins(b, n, 1000)
	ours, floor := twinsOf(b, n), serveBare(b, bare{})
	input := structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		"text": structpb.NewStringValue("good morning"), "level": structpb.NewNumberValue(42)}})
	call := func(to polluxv1connect.TwinServiceClient) func() float64 {
		return func() float64 {
			return perSecond(b, func(ctx context.Context, c, i int) error {
				_, err := to.Invoke(ctx, connect.NewRequest(&pb.InvokeRequest{Id: ids[(c*131+i)%len(ids)], Action: "echo", Input: input}))
				return err
			})
		}
	}
	against(b, "invoke over Connect, 1,000 twins, 64 clients", "calls/s", 0.6, call(ours), call(floor))
}

// BenchmarkSetDesired: committed before it is answered, against a handler that does one bare raft Apply of the request.
func BenchmarkSetDesired(b *testing.B) {
	n := openNode(b)
	ids := createTwins(b, n, 1000)
	ours, floor := twinsOf(b, n), serveBare(b, bare{apply: bareRaft(b)})
	call := func(to polluxv1connect.TwinServiceClient) func() float64 {
		return func() float64 {
			return perSecond(b, func(ctx context.Context, c, i int) error {
				_, err := to.SetDesired(ctx, connect.NewRequest(&pb.SetDesiredRequest{Id: ids[(c*131+i)%len(ids)], Property: "level",
					Value: structpb.NewNumberValue(float64(i))}))
				return err
			})
		}
	}
	against(b, "SetDesired committed, 64 clients", "calls/s", 0.7, call(ours), call(floor))
}

// putFSM writes each entry to Pebble under its index, and nothing else.
type putFSM struct{ db *pebble.DB }

func (f putFSM) Apply(l *raft.Log) any {
	return f.db.Set(binary.BigEndian.AppendUint64(nil, l.Index), l.Data, pebble.NoSync)
}
func (f putFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }
func (f putFSM) Restore(io.ReadCloser) error         { return nil }

// bareRaft is raft on the same synced Pebble log as ours, with a state machine that only puts.
func bareRaft(b *testing.B) func([]byte) error {
	return bareRaftOf(b, func(db *pebble.DB) raft.FSM { return putFSM{db} })
}

// bareRaftOf is raft on the same synced Pebble log as ours, with the state machine that is made of a fresh Pebble.
func bareRaftOf(b *testing.B, machine func(*pebble.DB) raft.FSM) func([]byte) error {
	b.Helper()
	dir := b.TempDir()
	s, err := storage.Open(storage.Options{Dir: filepath.Join(dir, "log"), DiscardSamples: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	db, err := pebble.Open(filepath.Join(dir, "state"), &pebble.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { db.Close() })
	r, err := cluster.OpenRaft(cluster.RaftOptions{ID: "floor", Log: s.LogStore(), Stable: s.StableStore(),
		Snapshots: raft.NewInmemSnapshotStore(), FSM: machine(db), Logger: slog.New(slog.DiscardHandler), SnapshotThreshold: 1 << 40})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { r.Close() })
	ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
	defer cancel()
	if _, err := r.WaitLeader(ctx); err != nil {
		b.Fatal(err)
	}
	return func(entry []byte) error {
		done := make(chan error, 1)
		r.Propose(entry, func(_ any, err error) { done <- err })
		return <-done
	}
}
