package pollux

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/gossip"
	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/inbound"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// inboundOff lets no device call in.
const inboundOff = "off"

// callersEvery is how often the twins are looked through whose devices call in.
const callersEvery = 2 * time.Second

// linkWithin bounds how long a word of a device is on its way to its twin, or a driver's to the device.
const linkWithin = 10 * time.Second

// parseInbound reads HOST:PORT or HOST:PORT-PORT.
func parseInbound(text string) (host string, ports inbound.Ports, err error) {
	if text == "" || text == inboundOff {
		return "", ports, nil
	}
	bad := fmt.Errorf("inbound = %q: want off, or HOST:PORT-PORT such as 0.0.0.0:5000-5099", text)
	at := strings.LastIndexByte(text, ':')
	if at < 0 {
		return "", ports, bad
	}
	host = strings.Trim(text[:at], "[]")
	from, to, isRange := strings.Cut(text[at+1:], "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	if errA != nil || errB != nil || a == 0 || a > b || net.ParseIP(host) == nil {
		return "", ports, bad
	}
	return host, inbound.Ports{From: int(a), To: int(b)}, nil
}

// openInbound makes this node's ends of the connections in which devices call in: those of its twins, and where it is
// allowed those that devices make to it.
func (n *Node) openInbound() error {
	n.hub = inbound.NewHub(n.self.id, n.writeLink)
	host, ports, err := parseInbound(n.conf.Inbound)
	if err != nil || host == "" {
		return err
	}
	n.callers = inbound.NewAcceptor(inbound.AcceptorOptions{Node: n.self.id, Host: host, Ports: ports, Deliver: n.deliverLink, Owner: n.ownerOf,
		Logger: n.log, Metrics: n.metrics})
	return nil
}

// watchCallers listens for the devices of twins that say so, and tells those at this node what keeps theirs away.
func (n *Node) watchCallers() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.closeLater("inbound", func(context.Context) error {
		cancel()
		<-done
		if n.callers == nil {
			return nil
		}
		return n.callers.Close()
	})
	go func() {
		defer close(done)
		told := ""
		for tick := time.NewTicker(callersEvery); ; {
			asked, err := n.engine.Registry().Inbound()
			twins, failed := inbound.Share(asked)
			maps.Copy(failed, inbound.Conflicts(twins))
			if n.callers != nil {
				maps.Copy(failed, n.callers.Set(twins))
			}
			nodes := n.inboundOfNodes()
			n.hub.Review(func(twin, _ string, port int) error {
				if err := inboundAt(nodes, port); err != nil {
					return err
				}
				return failed[twin]
			})
			switch text := fmt.Sprint(err, failed); {
			case err == nil && len(failed) == 0:
				told = ""
			case text != told:
				told = text
				n.log.Warn("some devices cannot call in at this node", "err", errors.Join(append(slices.Collect(maps.Values(failed)), err)...))
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				tick.Stop()
				return
			}
		}
	}()
}

// inboundOfNodes says where the nodes let devices call in, as far as they do and are alive; nil: one of them does not say.
func (n *Node) inboundOfNodes() []string {
	all := []string{}
	for _, m := range n.gossip.Members() {
		switch {
		case m.State != gossip.Alive, m.Inbound == inboundOff:
		case m.Inbound == "":
			return nil
		default:
			all = append(all, m.Inbound)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// inboundAt explains why no node lets a device call in at a port, or gives nil.
func inboundAt(nodes []string, port int) error {
	if nodes == nil {
		return nil
	}
	for _, text := range nodes {
		if _, ports, err := parseInbound(text); err != nil || ports.Allows(port) {
			return nil
		}
	}
	if len(nodes) == 0 {
		return fmt.Errorf("no device can call in: start a node with --inbound, as in --inbound 0.0.0.0:%d", port)
	}
	return fmt.Errorf("no device can call in at port %d: the nodes let them in at %s; change the port in the twin's address, or a node's --inbound",
		port, strings.Join(nodes, ", "))
}

// ownerOf gives the node that has a twin, as it was seen here last.
func (n *Node) ownerOf(twin string) (string, bool) {
	at, ok := n.cluster.Where(twin)
	return at.Node, ok
}

// deliverLink brings a word of a device's connection to the node that has its twin.
func (n *Node) deliverLink(ctx context.Context, node string, m *actorv1.Link) (*actorv1.LinkTaken, error) {
	if node != n.self.id {
		r := n.tellNode(ctx, node, &cluster.Envelope{Message: m})
		taken, _ := r.Message.(*actorv1.LinkTaken) // nil: of a node of an older version
		return taken, r.Err
	}
	ctx, cancel := context.WithTimeout(ctx, linkWithin)
	defer cancel()
	return n.hub.Take(ctx, m)
}

// writeLink brings what a driver sends to the node to which the device called in.
func (n *Node) writeLink(ctx context.Context, node string, m *actorv1.LinkWrite) error {
	if node != n.self.id {
		return n.tellNode(ctx, node, &cluster.Envelope{Message: m}).Err
	}
	if n.callers == nil {
		return drivers.ErrDisconnected
	}
	return n.callers.Write(m)
}

// tellNode sends a message to a node itself, and waits for its answer.
func (n *Node) tellNode(ctx context.Context, node string, env *cluster.Envelope) cluster.Reply {
	env.Target = cluster.Target{Kind: cluster.KindNode, ID: node}
	env.Deadline = time.Now().Add(linkWithin)
	if d, ok := ctx.Deadline(); ok && d.Before(env.Deadline) {
		env.Deadline = d
	}
	answer := make(chan cluster.Reply, 1)
	n.cluster.SendTo(node, env, func(r cluster.Reply) { answer <- r })
	select {
	case r := <-answer:
		return r
	case <-ctx.Done():
		return cluster.Reply{Err: ctx.Err()}
	}
}

// handleLink takes what another node says of devices that called in.
func (n *Node) handleLink(env *cluster.Envelope, done func(cluster.Reply)) {
	ctx, cancel := context.WithDeadline(context.Background(), env.Deadline)
	defer cancel()
	r := cluster.Reply{Message: &actorv1.Taken{}}
	switch m := env.Message.(type) {
	case *actorv1.Link:
		taken, err := n.hub.Take(ctx, m)
		if r.Err = err; err == nil {
			r.Message = taken
		}
	case *actorv1.LinkWrite:
		r.Err = n.writeLink(ctx, n.self.id, m)
	}
	done(r)
}
