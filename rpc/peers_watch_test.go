package rpc_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// watcher collects a stream.
type watcher struct {
	t    *testing.T
	s    *connect.ServerStreamForClient[pb.WatchTwinsResponse]
	got  chan *pb.WatchTwinsResponse
	stop context.CancelFunc
}

func (w *wing) watch(t *testing.T, key string, r *pb.WatchTwinsRequest) *watcher {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := w.twins(key).WatchTwins(ctx, req(r))
	if err != nil {
		t.Fatal(err)
	}
	k := &watcher{t: t, s: s, got: make(chan *pb.WatchTwinsResponse, 1024), stop: cancel}
	go func() {
		defer close(k.got)
		for s.Receive() {
			k.got <- s.Msg()
		}
	}()
	t.Cleanup(cancel)
	return k
}

// next gives the first message that matches.
func (k *watcher) next(what string, match func(*pb.WatchTwinsResponse) bool) *pb.WatchTwinsResponse {
	k.t.Helper()
	for late := time.After(patience); ; {
		select {
		case m, ok := <-k.got:
			if !ok {
				k.t.Fatalf("waiting for %s: the stream ended: %v", what, k.s.Err())
			}
			if match(m) {
				return m
			}
		case <-late:
			k.t.Fatalf("not in time: %s", what)
		}
	}
}

func counted(id string, n float64) func(*pb.WatchTwinsResponse) bool {
	return func(m *pb.WatchTwinsResponse) bool {
		v := m.GetState().GetProperties()["count"]
		if m.GetDelta() != nil {
			v = m.GetDelta().Properties["count"]
		}
		return m.Id == id && v != nil && v.Value.GetNumberValue() == n
	}
}

func (p *pair) watches(t *testing.T, near, far string) {
	k := p.a.watch(t, p.admin, &pb.WatchTwinsRequest{})
	seen := map[string]bool{}
	k.next("the first values of both nodes' twins", func(m *pb.WatchTwinsResponse) bool {
		if m.GetState() != nil {
			seen[m.Id] = true
		}
		return seen[near] && seen[far]
	})
	count := func(id string) float64 {
		res, err := p.a.twins(p.admin).Invoke(t.Context(), req(&pb.InvokeRequest{Id: id, Action: "count"}))
		if err != nil {
			t.Fatal(err)
		}
		return res.Msg.Output.GetNumberValue()
	}
	k.next("a change on this node", counted(near, count(near)))
	k.next("a change on the other node", counted(far, count(far)))

	// A node that is lost is told, and the stream goes on; when it is back, so are its twins.
	p.lose(p.b, true)
	gap := k.next("the gap", func(m *pb.WatchTwinsResponse) bool { return m.Gap != "" })
	if gap.Id != "" || !gap.GetHeartbeat() || !strings.Contains(gap.Gap, "node-b") {
		t.Errorf("gap: %v", gap)
	}
	k.next("a change on this node after the loss", counted(near, count(near)))
	p.lose(p.b, false)
	k.next("the state of the other node's twin again", func(m *pb.WatchTwinsResponse) bool { return m.Id == far && m.GetState() != nil })
	k.next("its next change", counted(far, count(far)))

	// What moves is watched on; order holds.
	if err := p.a.cluster.Drain(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	k.next("the state from the new owner", func(m *pb.WatchTwinsResponse) bool {
		return m.Id == far && m.GetState().GetStatus().GetNode() == "a"
	})
	k.next("a change on the new owner", counted(far, count(far)))
	if err := p.a.cluster.Undrain(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	k.next("the state from b", func(m *pb.WatchTwinsResponse) bool {
		return m.Id == far && m.GetState().GetStatus().GetNode() == "b"
	})
	k.stop()

	// A key of one project sees no other's twins, on whatever node.
	made, err := rpcv1.NewKeyServiceClient(&http.Client{Transport: keyed{p.admin, http.DefaultTransport}}, p.a.public.URL).
		CreateKey(t.Context(), req(&pb.CreateKeyRequest{Key: &pb.Key{Role: "viewer", Project: "hotel"}}))
	if err != nil {
		t.Fatal(err)
	}
	hotel := p.a.watch(t, made.Msg.Secret, &pb.WatchTwinsRequest{})
	hotel.next("the heartbeat", func(m *pb.WatchTwinsResponse) bool { return m.GetHeartbeat() })
	count(far)
	select {
	case m := <-hotel.got:
		t.Errorf("a key of hotel sees %v", m)
	case <-time.After(200 * time.Millisecond):
	}
	// The stream ends with its key, though half of it comes from another node.
	if _, err := rpcv1.NewKeyServiceClient(&http.Client{Transport: keyed{p.admin, http.DefaultTransport}}, p.a.public.URL).
		DeleteKey(t.Context(), req(&pb.DeleteKeyRequest{Id: made.Msg.Key.Id})); err != nil {
		t.Fatal(err)
	}
	for m := range hotel.got {
		t.Logf("before the end: %v", m)
	}
	if connect.CodeOf(hotel.s.Err()) != connect.CodeUnauthenticated {
		t.Errorf("the stream of a deleted key ended with %v", hotel.s.Err())
	}
}
