package inbound

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/sockets"
	"github.com/polluxhq/pollux/drivers/transport"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// maxLinks bounds the connections that devices have to a node.
const maxLinks = 10_000

// AcceptorOptions of a node. All but Logger and Metrics are needed.
type AcceptorOptions struct {
	// Node is this node's id.
	Node string
	// Host is the address to listen at, such as 0.0.0.0.
	Host  string
	Ports Ports
	// Deliver brings what comes to the twins, Owner says where they are.
	Deliver Deliver
	Owner   Owner
	Logger  *slog.Logger
	Metrics *metrics.Set
}

// Acceptor listens for devices. Its methods may be called concurrently.
type Acceptor struct {
	o      AcceptorOptions
	ctx    context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup
	number atomic.Uint64

	mu     sync.Mutex
	closed bool
	ports  map[string]*port // by scheme and port
	links  map[uint64]link
	byTwin map[string]uint64
}

// link is a device's connection here.
type link interface {
	twin() string
	// write sends to the device. It blocks, for writeWithin at most.
	write(frame []byte) error
	// end closes the connection; why is what the twin is told.
	end(why string)
	// owner is the node that has the twin, as it was told last: writes of others are refused.
	owner() *atomic.Value
}

// port is what listens, with the twins behind it.
type port struct {
	scheme string
	number int
	mu     sync.Mutex
	twins  []Twin
	close  func()
}

// NewAcceptor makes one that listens to nothing yet.
func NewAcceptor(o AcceptorOptions) *Acceptor {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	a := &Acceptor{o: o, ports: map[string]*port{}, links: map[uint64]link{}, byTwin: map[string]uint64{}}
	a.ctx, a.cancel = context.WithCancel(context.Background())
	return a
}

// Set says which twins' devices may call in. Ports that nobody needs any more are closed with their connections, others
// opened; what could not be is in the answer, by twin. Connections of twins that are no more, or that read otherwise now, end.
// Twins whose port this node does not have are passed over: others may.
func (a *Acceptor) Set(twins []Twin) map[string]error {
	a.mu.Lock()
	defer a.mu.Unlock()
	failed := map[string]error{}
	if a.closed {
		return failed
	}
	wanted := map[string][]Twin{}
	for _, t := range twins {
		if !a.o.Ports.Allows(t.Port) {
			continue
		}
		key := t.Scheme + ":" + strconv.Itoa(t.Port)
		wanted[key] = append(wanted[key], t)
	}
	for key, p := range a.ports {
		if wanted[key] == nil {
			p.close()
			delete(a.ports, key)
			a.endLinks(p, nil)
		}
	}
	for key, list := range wanted {
		p := a.ports[key]
		if p == nil {
			var err error
			if p, err = a.listen(list); err != nil {
				for _, t := range list {
					failed[t.ID] = fmt.Errorf("devices cannot call in at this node: %w", err)
				}
				continue
			}
			a.ports[key] = p
			continue
		}
		p.mu.Lock()
		old := p.twins
		p.twins = list
		p.mu.Unlock()
		a.endLinks(&port{twins: old}, list)
	}
	return failed
}

// endLinks ends the links of the port's former twins that are not among the new ones as they were.
func (a *Acceptor) endLinks(p *port, now []Twin) {
	for _, old := range p.twins {
		same := false
		for _, t := range now {
			same = same || reflect.DeepEqual(t, old)
		}
		if n, ok := a.byTwin[old.ID]; ok && !same {
			go a.links[n].end("the twin's address or settings changed")
		}
	}
}

// listen opens the port of twins, which all have the same. It knows them before the first device calls.
func (a *Acceptor) listen(twins []Twin) (*port, error) {
	p := &port{scheme: twins[0].Scheme, number: twins[0].Port, twins: twins}
	at := net.JoinHostPort(a.o.Host, strconv.Itoa(p.number))
	if p.scheme == drivers.SchemeUDPIn {
		conn, err := net.ListenPacket("udp", at)
		if err != nil {
			return nil, err
		}
		p.close = func() { _ = conn.Close() }
		a.wait.Go(func() { a.serveUDP(p, conn.(*net.UDPConn)) })
		return p, nil
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	p.close = func() { _ = l.Close() }
	door := sockets.NewDoor(l, "inbound", a.o.Logger, transport.Dropped(a.o.Metrics, drivers.SchemeTCPIn, "files").Inc)
	a.wait.Go(func() { a.serveTCP(p, door) })
	return p, nil
}

// find gives the twin whose device calls from an address: the one that names the smallest network.
func (p *port) find(from netip.Addr) (t Twin, ok bool) {
	from = from.Unmap().WithZone("")
	p.mu.Lock()
	defer p.mu.Unlock()
	best := -1
	for _, candidate := range p.twins {
		for _, prefix := range candidate.From {
			if prefix.Contains(from) && prefix.Bits() > best {
				best, t, ok = prefix.Bits(), candidate, true
			}
		}
	}
	return t, ok
}

// add enters a link; an older one of the same twin ends, since a device that calls again has lost it. False: there is no room.
func (a *Acceptor) add(l link) (uint64, bool) {
	n := a.number.Add(1)
	a.mu.Lock()
	if a.closed || len(a.links) >= maxLinks {
		a.mu.Unlock()
		transport.Dropped(a.o.Metrics, "inbound", "links").Inc()
		return 0, false
	}
	old := a.links[a.byTwin[l.twin()]]
	a.links[n] = l
	a.byTwin[l.twin()] = n
	a.mu.Unlock()
	if old != nil {
		old.end("the device called in again")
	}
	return n, true
}

func (a *Acceptor) remove(n uint64, l link) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.links, n)
	if a.byTwin[l.twin()] == n {
		delete(a.byTwin, l.twin())
	}
}

// Write sends to a device, or ends its connection, for the node that has the twin. drivers.ErrDisconnected where the
// connection is no more, or another node has the twin by now.
func (a *Acceptor) Write(m *actorv1.LinkWrite) error {
	a.mu.Lock()
	l := a.links[m.Link]
	a.mu.Unlock()
	if l == nil || l.twin() != m.Twin {
		return fmt.Errorf("link %d of %s: %w", m.Link, m.Twin, drivers.ErrDisconnected)
	}
	if owner, _ := l.owner().Load().(string); owner != "" && owner != m.Node {
		return fmt.Errorf("link %d of %s: another node has the twin: %w", m.Link, m.Twin, drivers.ErrDisconnected)
	}
	if m.Close {
		l.end("closed by the driver")
		return nil
	}
	return l.write(m.Frame)
}

// Links counts the connections that devices have here.
func (a *Acceptor) Links() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.links)
}

// Addr is where a port listens; tests ask for it.
func (a *Acceptor) Addr(scheme string, number int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ports[scheme+":"+strconv.Itoa(number)] != nil
}

// Close ends all connections and returns when nothing is delivered any more.
func (a *Acceptor) Close() error {
	a.mu.Lock()
	a.closed = true
	for _, p := range a.ports {
		p.close()
	}
	var all []link
	for _, l := range a.links {
		all = append(all, l)
	}
	a.mu.Unlock()
	a.cancel()
	for _, l := range all {
		l.end("the node stops")
	}
	a.wait.Wait()
	return nil
}
