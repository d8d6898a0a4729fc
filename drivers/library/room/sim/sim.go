// Package sim simulates what is in a meeting room: a projector that speaks PJLink, a matrix switcher with sound that speaks Extron's SIS, and
// lights behind a Lutron system. A room's driver has no device of its own; these are what its System is made of. Each is the simulator
// of its driver, which it shares no code with.
package sim

import (
	"context"
	"errors"
	"io"
	"time"

	extron "github.com/polluxhq/pollux/drivers/library/extron/sim"
	lutron "github.com/polluxhq/pollux/drivers/library/lutron/sim"
	"github.com/polluxhq/pollux/drivers/peer"
	pjlink "github.com/polluxhq/pollux/drivers/pjlink/sim"
)

// Options of a simulated room. The zero value has each device at its simulator's usual address on 127.0.0.1.
type Options struct {
	// Addresses to listen at.
	Projector, Switcher, Lights string
	// WarmUp is how long the projector's lamp takes to get warm and cold; 0: 2 s.
	WarmUp time.Duration
	Faults peer.Faults
	Seed   uint64
	// Log gets the journals of all, a line of JSON per entry, from several goroutines; nil: none.
	Log io.Writer
}

// Sim is one room.
type Sim struct {
	// The devices, to look at and to touch.
	Beamer *pjlink.Sim
	Matrix *extron.Sim
	Lamps  *lutron.Sim
}

// Zone is the integration id of the room's lights.
const Zone = 1

// New opens the listeners; nothing is answered before Run.
func New(o Options) (*Sim, error) {
	if o.WarmUp == 0 {
		o.WarmUp = 2 * time.Second
	}
	var s Sim
	var err error
	if s.Beamer, err = pjlink.New(pjlink.Options{Listen: o.Projector, WarmUp: o.WarmUp, CoolDown: o.WarmUp, Faults: o.Faults, Seed: o.Seed, Log: o.Log}); err != nil {
		return nil, err
	}
	if s.Matrix, err = extron.New(extron.Options{Listen: o.Switcher, Faults: o.Faults, Seed: o.Seed, Log: o.Log}); err == nil {
		s.Lamps, err = lutron.New(lutron.Options{Listen: o.Lights, Zones: []int{Zone}, Faults: o.Faults, Seed: o.Seed, Log: o.Log})
	}
	if err != nil {
		_ = s.end()
		return nil, err
	}
	return &s, nil
}

// end closes what was opened and never ran.
func (s *Sim) end() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return s.Run(ctx)
}

// Addrs are where the devices listen.
func (s *Sim) Addrs() (projector, switcher, lights string) {
	return s.Beamer.Addrs()[0], s.Matrix.Addr(), s.Lamps.Addr()
}

// Run has all devices answer until ctx ends, or one of them fails.
func (s *Sim) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var all []func(context.Context) error
	if s.Beamer != nil {
		all = append(all, s.Beamer.Run)
	}
	if s.Matrix != nil {
		all = append(all, s.Matrix.Run)
	}
	if s.Lamps != nil {
		all = append(all, s.Lamps.Run)
	}
	done := make(chan error, len(all))
	for _, run := range all {
		go func() { done <- run(ctx) }()
	}
	var failed error
	for range all {
		if err := <-done; err != nil {
			failed = errors.Join(failed, err)
			cancel()
		}
	}
	return failed
}
