// Package inbound serves devices that call in: by TCP, or by UDP, at any node. The node that a device comes to keeps the
// connection and cuts the frames (Acceptor); the node that has the twin hears of it (Hub). When the twin moves, the
// connection stays, and its next word goes to the new node.
package inbound

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/polluxhq/pollux/drivers"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

const (
	// announceEvery is how often a quiet connection is told again, so that a twin that has moved learns of it.
	announceEvery = 2 * time.Second
	// silentAfter: a node that tells nothing of a connection for so long has lost it.
	silentAfter = 12 * time.Second
	// deliverWithin bounds how long something is brought to the twin, wherever it lives; then the device is let go.
	deliverWithin = 30 * time.Second
	// retryEvery is the pause between two tries of that.
	retryEvery = 200 * time.Millisecond
	// writeWithin bounds a write to the device.
	writeWithin = 10 * time.Second
	// maxBatch frames are told at once.
	maxBatch = 64
)

// ErrNoTwin says that a node does not have the twin, or the twin no way in. It may be elsewhere by the next try.
var ErrNoTwin = errors.New("the twin is not here")

// Twin is a twin whose device calls in.
type Twin struct {
	ID string
	// Scheme is tcp-in or udp-in.
	Scheme string
	Port   int
	// From are the addresses that its device may have. Of several twins at a port the one that names the smallest network wins.
	From []netip.Prefix
	// Options with the twin's settings filled in.
	Options drivers.TransportOptions
	// Since is when the twin was made, in milliseconds since 1970.
	Since int64
}

// Share gives each port to one project, the one whose twin was there first: a project must not take the devices of another
// by naming a smaller network. The others' twins at it are refused, each with the reason.
func Share(twins []Twin) (served []Twin, refused map[string]error) {
	type door struct {
		scheme string
		port   int
	}
	first := map[door]Twin{}
	for _, t := range twins {
		at := door{t.Scheme, t.Port}
		if f, ok := first[at]; !ok || t.Since < f.Since || t.Since == f.Since && t.ID < f.ID {
			first[at] = t
		}
	}
	refused = map[string]error{}
	for _, t := range twins {
		if project(first[door{t.Scheme, t.Port}].ID) == project(t.ID) {
			served = append(served, t)
			continue
		}
		refused[t.ID] = fmt.Errorf("port %d belongs to another project, whose twin was there first; take another port", t.Port)
	}
	return served, refused
}

func project(id string) string {
	p, _, _ := strings.Cut(id, "/")
	return p
}

// Conflicts says of twins which cannot be told apart, since a device's address is as much one's as the other's. What calls is
// taken for the device of the first, by id.
func Conflicts(twins []Twin) map[string]error {
	type place struct {
		scheme string
		port   int
		from   netip.Prefix
	}
	all := map[place][]string{}
	for _, t := range twins {
		for _, from := range t.From {
			at := place{t.Scheme, t.Port, from.Masked()}
			if ids := all[at]; len(ids) == 0 || ids[len(ids)-1] != t.ID {
				all[at] = append(ids, t.ID)
			}
		}
	}
	conflicts := map[string]error{}
	for at, ids := range all {
		if len(ids) < 2 {
			continue
		}
		slices.Sort(ids)
		for i, id := range ids {
			other := ids[0]
			if i == 0 {
				other = ids[1]
			}
			text := fmt.Sprintf("the twin %s has the same port %d and ?from=%s: what calls from there is taken for the device of %s; give each a port or addresses of its own",
				other, at.port, strings.TrimSuffix(at.from.String(), single(at.from)), ids[0])
			if old := conflicts[id]; old == nil || old.Error() > text { // the same each time
				conflicts[id] = errors.New(text)
			}
		}
	}
	return conflicts
}

// single is how the network of one address ends, as nobody writes it.
func single(p netip.Prefix) string {
	if p.IsSingleIP() {
		return fmt.Sprintf("/%d", p.Bits())
	}
	return ""
}

// Deliver brings a word of a connection to a node, and returns when the twin has taken it, with what it has handled; nil: all.
// It blocks until ctx ends. ErrNoTwin and errors of the way are tried again, at the node that has the twin by then.
type Deliver func(ctx context.Context, node string, m *actorv1.Link) (*actorv1.LinkTaken, error)

// Owner gives the node that has a twin, as this node has seen last.
type Owner func(twin string) (node string, ok bool)

// Write brings what a driver sends to the node that has the connection. It blocks until it is written.
type Write func(ctx context.Context, node string, m *actorv1.LinkWrite) error

// Ports are those that twins may have opened, both ends included. The zero value has none.
type Ports struct{ From, To int }

// Allows says whether a port is among them.
func (p Ports) Allows(port int) bool { return port >= p.From && port <= p.To && port > 0 }

func (p Ports) String() string {
	if p.From == 0 {
		return "none"
	}
	return fmt.Sprintf("%d-%d", p.From, p.To)
}
