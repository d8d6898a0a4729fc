package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"
)

// maxRemembered bounds the addresses in Options.File.
const maxRemembered = 32

// reconnect tries members that seem dead, and while the node is alone the addresses that it knows from before:
// memberlist forgets the dead. It also keeps the file of addresses.
func (g *Gossip) reconnect(hint <-chan struct{}) {
	defer g.done.Done()
	var written []string
	for {
		addr, alone, lately := g.lost()
		if !alone {
			g.found()
		}
		if addr != "" {
			if _, err := g.joinEach(g.ctx, []string{addr}); err != nil && !errors.Is(err, context.Canceled) {
				g.log.Debug("gossip: still out of reach", "address", addr, "error", err)
			}
		}
		written = g.remember(written)
		pause := g.o.ReconnectEvery
		if lately || (alone && addr != "") {
			pause = min(pause, time.Second)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-hint:
			// A change often brings others.
			select {
			case <-time.After(min(pause, time.Second)):
			case <-g.closing:
			}
		case <-g.closing:
		}
		timer.Stop()
		select {
		case <-g.closing:
			return
		default:
		}
	}
}

// found settles a node that others found before it had joined them.
func (g *Gossip) found() {
	g.mu.Lock()
	first := !g.joined && g.joining == 0
	g.mu.Unlock()
	if !first {
		return
	}
	g.findCopy()
	g.mu.Lock()
	sure := g.taken == nil && !g.joined
	g.joined = g.joined || sure
	g.mu.Unlock()
	if sure {
		g.settle()
	}
}

// lost gives the address of one that should be there and is not; alone says that nobody is, lately that one was there a
// minute ago: it may be back in a moment.
func (g *Gossip) lost() (addr string, alone, lately bool) {
	alive, addrs := 0, []string(nil)
	for _, m := range g.Members() {
		switch {
		case m.ID == g.o.Meta.ID:
		case m.State == Alive:
			alive++
		case m.State == Dead:
			addrs = append(addrs, m.Gossip)
			lately = lately || time.Since(m.Since) < time.Minute
		}
	}
	g.mu.Lock()
	if alive == 0 {
		addrs = append(addrs, g.seeds...)
	}
	g.mu.Unlock()
	if len(addrs) == 0 {
		return "", alive == 0, false
	}
	return addrs[rand.IntN(len(addrs))], alive == 0, lately
}

// remember writes the addresses of those who are there, where they differ from what was written.
func (g *Gossip) remember(written []string) []string {
	if g.o.File == "" {
		return nil
	}
	var now []string
	for _, m := range g.Members() {
		if m.ID != g.o.Meta.ID && m.State == Alive && len(now) < maxRemembered {
			now = append(now, m.Gossip)
		}
	}
	slices.Sort(now)
	if len(now) == 0 || slices.Equal(now, written) {
		return written
	}
	temp := g.o.File + ".tmp"
	err := os.WriteFile(temp, []byte(strings.Join(now, "\n")+"\n"), 0o600)
	if err == nil {
		err = os.Rename(temp, g.o.File)
	}
	if err != nil && !g.quiet("file") {
		g.log.Warn("gossip: the other nodes' addresses cannot be remembered", "error", err)
	}
	return now
}

// recall reads the addresses of an earlier run.
func recall(file string) ([]string, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the other nodes' addresses: %w", err)
	}
	known := strings.Fields(string(b))
	return known[:min(len(known), maxRemembered)], nil
}
