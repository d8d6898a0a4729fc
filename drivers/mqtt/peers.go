package mqtt

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
)

// Cluster is what the broker needs of the other nodes. SendTo and Members do not block; see cluster.Node.
type Cluster interface {
	SendTo(node string, env *cluster.Envelope, done func(cluster.Reply))
	Members() []cluster.Member
}

const (
	// batchBytes is what one batch for another node has, in bytes, unless one message has more alone.
	batchBytes = 128 << 10
	// linkBytes and linkMessages wait for a node at most.
	linkBytes, linkMessages = 4 << 20, 16 << 10
	// batchWithin is how long a batch may be on its way, retryFor how long it is sent again.
	batchWithin, retryFor = 3 * time.Second, 10 * time.Second
)

// link is what waits for another node's broker. One batch is on its way at a time.
type link struct {
	b    *Broker
	node string

	mu      sync.Mutex
	waiting []*actorv1.MqttForward
	bytes   int
	flying  bool
	number  uint64
}

func (b *Broker) linkTo(node string) *link {
	b.linksMu.Lock()
	defer b.linksMu.Unlock()
	l := b.links[node]
	if l == nil {
		l = &link{b: b, node: node}
		b.links[node] = l
	}
	return l
}

func sizeOf(f *actorv1.MqttForward) int {
	return overhead + len(f.Message.GetTopic()) + len(f.Message.GetPayload()) + len(f.Key)
}

// add queues a message for the node. What is in a client's queue is safe there: beyond the bound its node finds it
// by itself. Others are dropped.
func (l *link) add(f *actorv1.MqttForward) {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := sizeOf(f)
	if l.bytes+size > linkBytes && l.bytes > 0 || len(l.waiting) >= linkMessages {
		if f.Client == "" {
			l.b.stats.droppedPeer.Inc()
		}
		return
	}
	l.waiting = append(l.waiting, f)
	l.bytes += size
	if !l.flying {
		l.flying = true
		l.nextLocked()
	}
}

// nextLocked sends the next batch.
func (l *link) nextLocked() {
	n, size := 0, 0
	for n < len(l.waiting) && (n == 0 || size+sizeOf(l.waiting[n]) <= batchBytes) {
		size += sizeOf(l.waiting[n])
		n++
	}
	if n == 0 {
		l.flying, l.waiting = false, nil
		return
	}
	l.number++
	m := &actorv1.MqttBatch{Number: l.number, Incarnation: l.b.incarnation, Node: l.b.self, Forwards: l.waiting[:n:n]}
	l.waiting = l.waiting[n:]
	l.bytes -= size
	began := time.Now()
	go l.fly(m, began)
}

// fly sends a batch until it is answered, or the node is gone.
func (l *link) fly(m *actorv1.MqttBatch, began time.Time) {
	env := &cluster.Envelope{Target: cluster.Target{Kind: cluster.KindNode, ID: l.node}, Message: m, Deadline: time.Now().Add(batchWithin)}
	l.b.cluster.SendTo(l.node, env, func(r cluster.Reply) {
		taken, ok := r.Message.(*actorv1.MqttTaken)
		if r.Err == nil && ok {
			for _, at := range taken.Elsewhere {
				if int(at) < len(m.Forwards) {
					l.b.elsewhere(m.Forwards[at], l.node)
				}
			}
		} else if time.Since(began) < retryFor && l.b.ctx.Err() == nil {
			time.AfterFunc(100*time.Millisecond, func() { l.fly(m, began) })
			return
		} else {
			l.b.stats.unsent(m)
			l.b.quiet.log(l.b.log, slog.LevelWarn, "mqtt messages did not get to another node", "node", l.node, "messages", len(m.Forwards), "error", r.Err)
		}
		l.mu.Lock()
		l.nextLocked()
		l.mu.Unlock()
	})
}

// heard is the last batch of another node.
type heard struct {
	incarnation, number uint64
}

// Receive takes what another node's broker sends; false: the message is none of those. It does not block; done is called
// exactly once where it takes it.
func (b *Broker) Receive(m proto.Message, done func(cluster.Reply)) bool {
	switch m := m.(type) {
	case *actorv1.MqttBatch:
		done(cluster.Reply{Message: b.receive(m)})
	case *actorv1.MqttEnd:
		go func() {
			b.endHere(m)
			done(cluster.Reply{Message: &actorv1.MqttTaken{}})
		}()
	default:
		return false
	}
	return true
}

func (b *Broker) receive(m *actorv1.MqttBatch) *actorv1.MqttTaken {
	b.linksMu.Lock()
	last := b.heard[m.Node]
	again := last.incarnation == m.Incarnation && last.number >= m.Number
	if !again {
		b.heard[m.Node] = heard{m.Incarnation, m.Number}
	}
	b.linksMu.Unlock()
	taken := &actorv1.MqttTaken{}
	for i, f := range m.Forwards {
		switch {
		case f.Message == nil:
		case f.Client != "":
			if !b.pushed(f) {
				taken.Elsewhere = append(taken.Elsewhere, uint32(i))
			}
		case !again:
			b.local(f)
		}
	}
	return taken
}

// pushed hands a message of a client's queue to it. False: it is not connected here.
func (b *Broker) pushed(f *actorv1.MqttForward) bool {
	c := b.clients.get(f.Client)
	if c == nil {
		return false
	}
	s := c.here.Load()
	if s == nil || s.birth != f.Birth {
		return false
	}
	s.push(outgoingOf(f.Message, f.Key))
	return true
}

// endHere ends a connection whose client has come to another node, and returns when nothing of it is left.
func (b *Broker) endHere(m *actorv1.MqttEnd) {
	s := b.connected(m.Client)
	if s == nil || s.connection != m.Connection {
		return
	}
	s.end("taken_over", 0x8e)
	select {
	case <-s.gone:
	case <-b.stop:
	}
}

// endElsewhere has the client's connection at another node ended. False: that could not be done; that node closes it when it
// sees the record.
func (b *Broker) endElsewhere(ctx context.Context, node, id string, connection uint64) bool {
	within := min(b.limits.CommitTimeout, batchWithin)
	done := make(chan error, 1)
	env := &cluster.Envelope{Target: cluster.Target{Kind: cluster.KindNode, ID: node}, Deadline: time.Now().Add(within),
		Message: &actorv1.MqttEnd{Client: id, Connection: connection}}
	b.cluster.SendTo(node, env, func(r cluster.Reply) { done <- r.Err })
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	var err error
	select {
	case err = <-done:
	case <-timeout.C:
		err = fmt.Errorf("no answer within %v", within)
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		b.quiet.log(b.log, slog.LevelWarn, "mqtt client comes from a node that does not answer", "client", id, "node", node, "error", err)
	}
	return err == nil
}
