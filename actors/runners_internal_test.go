package actors

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// A driver that is in the cache is there at once, while others wait for the compiler.
func TestLoadingDoesNotWaitForTheCompiler(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	compiling := make(chan string, 2)
	r := newRunners(ctx, func(ctx context.Context, digest string) (drivers.Runner, error) {
		if strings.HasPrefix(digest, "new") {
			compiling <- digest
			<-ctx.Done()
		}
		return nil, ctx.Err()
	})
	for _, digest := range []string{"new1", "new2"} {
		r.acquire(digest, func(error) {})
		<-compiling
	}
	ready := make(chan error, 1)
	r.acquire("cached", func(err error) { ready <- err })
	select {
	case err := <-ready:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits for those that are compiled")
	}
	cancel()
	r.close()
}
