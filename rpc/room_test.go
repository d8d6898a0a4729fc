package rpc_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// bomb is a small body that unpacks to n bytes.
func bomb(t *testing.T, n int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.Copy(w, io.LimitReader(zeroes{}, n)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func (h *house) refused(t *testing.T) map[string]uint64 {
	t.Helper()
	res, err := rpcv1.NewClusterServiceClient(h.http(h.admin), h.url).GetStatus(t.Context(), req(&pb.GetStatusRequest{}))
	if err != nil {
		t.Fatal(err)
	}
	return res.Msg.Refused
}

// TestBombsAreCounted: what unpacks to more than a procedure takes is stopped there, whichever procedure it is.
func TestBombsAreCounted(t *testing.T) {
	h := openHouse(t)
	small := bomb(t, 16<<20)
	before := h.refused(t)["http gzip_bomb"]
	for _, tt := range []struct {
		procedure, limit string
		body             []byte
	}{
		{rpcv1.TwinServiceListTwinsProcedure, "1048576", small},
		{rpcv1.DriverServiceListDriversProcedure, "1048576", small},
		{rpcv1.DriverServiceUploadDriverProcedure, "35651584", bomb(t, 64<<20)},
	} {
		r, err := http.NewRequest(http.MethodPost, h.url+tt.procedure, bytes.NewReader(tt.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/proto")
		r.Header.Set("Content-Encoding", "gzip")
		res, err := h.http(h.admin).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if !strings.Contains(string(b), "the body is larger than "+tt.limit+" bytes") {
			t.Errorf("%s: status %d: %.200s", tt.procedure, res.StatusCode, b)
		}
	}
	if got := h.refused(t)["http gzip_bomb"] - before; got != 3 {
		t.Errorf("%d bombs were counted, want 3", got)
	}
}

// TestBodiesOfAllCallersAreBounded holds many unfinished bodies open at once.
func TestBodiesOfAllCallersAreBounded(t *testing.T) {
	h := openHouse(t)
	_, viewer := h.newKey(t, &pb.Key{Role: "viewer"})
	before := h.refused(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// A message that is to be unpacked counts as what it may become, so 128 of them fill the room before they are sent.
	done := make(chan int, 200)
	for range cap(done) {
		go func() {
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+rpcv1.TwinServiceListTwinsProcedure, &never{first: []byte{0x1f}, ctx: ctx})
			if err != nil {
				done <- 0
				return
			}
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set("Content-Encoding", "gzip")
			res, err := h.http(viewer).Do(r)
			if err != nil {
				done <- 0
				return
			}
			_ = res.Body.Close()
			done <- res.StatusCode
		}()
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if h.refused(t)["http bodies_full"] > before["http bodies_full"] {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody was refused")
		}
	}
	if status := <-done; status != http.StatusTooManyRequests {
		t.Errorf("the one that was refused got status %d", status)
	}
	cancel()
	// What the others held is free again.
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		r, err := http.NewRequest(http.MethodPost, h.url+rpcv1.TwinServiceListTwinsProcedure, bytes.NewReader(bomb(t, 0)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/proto")
		r.Header.Set("Content-Encoding", "gzip")
		res, err := h.http(viewer).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode == http.StatusOK {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("still full: status %d", res.StatusCode)
		}
	}
}

// never is a body that begins and does not go on.
type never struct {
	first []byte
	ctx   context.Context
}

func (n *never) Read(p []byte) (int, error) {
	if len(n.first) > 0 {
		c := copy(p, n.first)
		n.first = n.first[c:]
		return c, nil
	}
	<-n.ctx.Done()
	return 0, n.ctx.Err()
}

// TestUploadNeedsTheRoleBeforeItsBody: a viewer's file is not read at all.
func TestUploadNeedsTheRoleBeforeItsBody(t *testing.T) {
	h := openHouse(t)
	_, viewer := h.newKey(t, &pb.Key{Role: "viewer"})
	before := h.refused(t)["http call_forbidden"]
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url+rpcv1.DriverServiceUploadDriverProcedure, &never{first: []byte{10}, ctx: ctx})
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/proto")
	res, err := h.http(viewer).Do(r)
	if err != nil {
		t.Fatalf("its end was waited for: %v", err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("status %d", res.StatusCode)
	}
	if got := h.refused(t)["http call_forbidden"]; got != before+1 {
		t.Errorf("counted %d times", got-before)
	}
}
