package sim_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/library/mysensors/sim"
)

// A controller that connects just as the gateway is stopped does not hold it up.
func TestStopWhileAControllerConnects(t *testing.T) {
	for range 100 {
		s, err := sim.New(sim.Options{Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Fatal(err)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("it goes on")
		}
		_ = c.Close()
	}
}
