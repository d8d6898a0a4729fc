package rpc_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"testing"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/structpb"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
)

// empty answers with the message that the echo driver would, and does nothing else.
type empty struct {
	rpcv1.UnimplementedTwinServiceHandler
}

func (empty) Invoke(_ context.Context, r *connect.Request[pb.InvokeRequest]) (*connect.Response[pb.InvokeResponse], error) {
	return connect.NewResponse(&pb.InvokeResponse{Output: r.Msg.Input, Outcome: pb.Outcome_OUTCOME_DONE}), nil
}

const (
	benchTwins   = 1000
	benchClients = 64
)

// BenchmarkInvoke compares Invoke on 1,000 echo twins with an empty Connect handler: same messages, same 64 clients.
func BenchmarkInvoke(b *testing.B) {
	h := openHouse(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(rpcv1.NewTwinServiceHandler(empty{}))
	floor := rpc.NewHTTPServer(mux, nil, nil)
	go func() { _ = floor.Serve(l) }()
	defer floor.Close()
	made := false
	b.Run("floor", func(b *testing.B) { invoke(b, "http://"+l.Addr().String(), h.admin) })
	b.Run("ours", func(b *testing.B) {
		if !made {
			made = true
			h.echo(b, "bench/t0")
			for i := 1; i < benchTwins; i++ {
				if _, err := h.twins(h.admin).CreateTwin(b.Context(), req(&pb.CreateTwinRequest{
					Twin: &pb.Twin{Id: fmt.Sprintf("bench/t%d", i), Driver: "echo"}})); err != nil {
					b.Fatal(err)
				}
			}
			invoke(b, h.url, h.admin) // activates the twins
			b.ResetTimer()
		}
		invoke(b, h.url, h.admin)
	})
}

func invoke(b *testing.B, url, key string) {
	transport := &http.Transport{MaxIdleConnsPerHost: benchClients, MaxConnsPerHost: benchClients}
	defer transport.CloseIdleConnections()
	client := rpcv1.NewTwinServiceClient(&http.Client{Transport: transport}, url)
	in := structpb.NewStringValue("a value of about the size that commands have")
	var next atomic.Int64
	b.SetParallelism(benchClients / 2)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			r := req(&pb.InvokeRequest{Id: fmt.Sprintf("bench/t%d", next.Add(1)%benchTwins), Action: "echo", Input: in})
			r.Header().Set("Authorization", "Bearer "+key)
			if _, err := client.Invoke(context.Background(), r); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
