package rpc_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
	"github.com/polluxhq/pollux/rpc"
)

// TestStopEndsStreams: a node that stops tells its streams so, and does not wait for them.
func TestStopEndsStreams(t *testing.T) {
	conf := pollux.DefaultConfig()
	conf.Data, conf.HTTP, conf.MQTT, conf.Name = t.TempDir(), "127.0.0.1:0", "off", "test"
	conf.Gossip, conf.Peer = "127.0.0.1:0", "127.0.0.1:0"
	// The embedded metrics store is the other node's; nobody listens there, and samples wait.
	conf.MetricsURL = "http://127.0.0.1:1"
	node, err := pollux.Open(t.Context(), conf, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	admin, err := rpc.ReadKeyFile(filepath.Join(conf.Data, rpc.AdminKeyFile))
	if err != nil {
		t.Fatal(err)
	}
	h := &house{node: node, url: node.URL(), admin: admin}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stream, err := rpcv1.NewWatchServiceClient(h.http(admin), h.url).Watch(ctx, req(&pb.WatchRequest{Kind: "twin"}))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	socket := h.socket(t, admin)
	socket.send(`{"op":"subscribe","id":"a","method":"Watch","request":{"kind":"twin"}}`)
	socket.until("the watch", func(m wsMessage) bool { return m.ID == "a" })

	closed := make(chan error, 1)
	go func() { closed <- node.Close(ctx) }()
	for stream.Receive() {
	}
	if connect.CodeOf(stream.Err()) != connect.CodeUnavailable {
		t.Errorf("the stream ended by %v", stream.Err())
	}
	for {
		if _, _, err := socket.c.Read(socket.ctx); err != nil {
			if socket.ctx.Err() != nil {
				t.Error("the socket outlives the node")
			}
			break
		}
	}
	select {
	case err := <-closed:
		if err != nil {
			t.Errorf("close: %v", err)
		}
	case <-time.After(patience):
		t.Fatal("the node does not stop")
	}
}
