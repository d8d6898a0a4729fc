package pollux

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/peer"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage/history"
)

// advertise gives the address by which others reach a listener.
func (n *Node) advertise(listening string) (string, error) {
	host, port, err := net.SplitHostPort(listening)
	if err != nil {
		return "", err
	}
	if n.conf.Advertise != "" {
		return net.JoinHostPort(n.conf.Advertise, port), nil
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return listening, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	for _, a := range addrs {
		if ip, ok := a.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() && ip.IP.To4() != nil {
			return net.JoinHostPort(ip.IP.String(), port), nil
		}
	}
	return "", fmt.Errorf("peer = %q: no address of this machine can be told to other nodes: give --advertise HOST", n.conf.Peer)
}

// listenPeers takes the peer address.
func (n *Node) listenPeers(context.Context) error {
	l, err := net.Listen("tcp", n.conf.Peer)
	if err != nil {
		return fmt.Errorf("peer = %q: %w (is another node running on this machine? give --peer and --gossip other ports)", n.conf.Peer, err)
	}
	n.peerListener = l
	n.closeLater("peer address", func(context.Context) error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	if n.peerAddr, err = n.advertise(l.Addr().String()); err != nil {
		return err
	}
	return n.forgetLocalToken()
}

// openPeers begins to talk to other nodes, openGossip to find them.
func (n *Node) openPeers(context.Context) error {
	p, err := peer.Open(peer.Options{
		Listener: n.peerListener, Identity: n.creds.identity, Node: n.self.id, Incarnation: n.self.incarnation, ClusterID: n.clusterID,
		Address: n.addressOf, Admit: n.admit, Calls: n.receive, Errors: actors.WireErrors(), Enroll: n.enroll,
		Propose: func(entry []byte, done func([]byte, error)) {
			select {
			case <-n.voting:
				n.raft.ApplyLocal(entry, done)
			default:
				done(nil, fmt.Errorf("this node is starting: %w", cluster.ErrUnavailable))
			}
		},
		CommitIndex: func(ctx context.Context) (uint64, error) {
			select {
			case <-n.voting:
				return n.raft.LeaderIndex(ctx)
			default:
				return 0, fmt.Errorf("this node is starting: %w", cluster.ErrUnavailable)
			}
		},
		Blobs: blobs{n.store}, API: n.peerAPI(), Logger: n.log, Metrics: n.metrics,
	})
	if err != nil {
		return fmt.Errorf("peer = %q: %w", n.conf.Peer, err)
	}
	n.peers = p
	n.closeLater("peers", func(context.Context) error { return p.Close() })
	return nil
}

// addressOf gives a node's peer address: as gossip has it, else as its record has it.
func (n *Node) addressOf(id string) (string, bool) {
	select {
	case <-n.gossiping:
		if m, ok := n.gossip.Member(id); ok && m.Peer != "" {
			return m.Peer, true
		}
	default:
	}
	rec, ok, err := n.store.Get(cluster.TableMember, id)
	if err != nil || !ok {
		return "", false
	}
	m, err := cluster.DecodeMember(id, rec.Value)
	return m.Peer, err == nil && m.Peer != ""
}

// admit refuses nodes that are of this cluster by their certificate, and were taken out of it.
func (n *Node) admit(id string) error {
	_, removed, err := n.store.Get(tableCluster, prefixRemoved+id)
	if err != nil {
		return err
	}
	if removed {
		return fmt.Errorf("node %s was removed from the cluster: start it with an empty data directory to have it join anew", id)
	}
	return nil
}

// receive takes what another node sends. Before this node is a member nothing is for it.
func (n *Node) receive(env *cluster.Envelope, done func(cluster.Reply)) {
	select {
	case <-n.member:
		n.cluster.Receive(env, done)
	default:
		done(cluster.Reply{Err: fmt.Errorf("%s is starting: %w", n.conf.Name, cluster.ErrUnavailable)})
	}
}

// publish sends a twin's MQTT message to whoever subscribes to it. Nodes whose brokers keep no records are sent every message.
func (n *Node) publish(topic string, payload []byte, qos byte, retain bool) error {
	if err := n.broker.Publish(topic, payload, qos, retain); err != nil {
		return err // what is wrong with it here is wrong with it everywhere
	}
	f := &actorv1.Frame{Topic: topic, Payload: payload, Qos: uint32(qos), Retain: retain}
	for _, m := range n.cluster.Members() {
		if m.ID == n.self.id || m.MQTT == mqttOff || m.SharesBroker() || !lives(m) {
			continue
		}
		n.cluster.SendTo(m.ID, &cluster.Envelope{Target: cluster.Target{Kind: cluster.KindNode, ID: m.ID}, Message: f, Deadline: time.Now().Add(publishWithin)},
			func(r cluster.Reply) {
				if r.Err != nil {
					n.unpublished.Inc()
					n.log.Debug("a message did not get to the broker of another node", "node", m.Name, "topic", topic, "error", r.Err)
				}
			})
	}
	return nil
}

// lives says whether a member may own slots.
func lives(m cluster.Member) bool {
	return m.State == cluster.StateActive || m.State == cluster.StateDraining
}

// publishWithin bounds how long a message may be on its way to another node's broker.
const publishWithin = 10 * time.Second

// handle takes what is meant for this node itself.
func (n *Node) handle(env *cluster.Envelope, done func(cluster.Reply)) {
	switch env.Message.(type) {
	case *actorv1.Link, *actorv1.LinkWrite:
		go n.handleLink(env, done)
		return
	}
	b := n.routing.Load()
	if b == nil {
		done(cluster.Reply{Err: fmt.Errorf("%s is starting: %w", n.conf.Name, cluster.ErrUnavailable)})
		return
	}
	if f, ok := env.Message.(*actorv1.Frame); ok { // of a node whose broker keeps no records
		b.Hear(f.Topic, f.Payload, byte(f.Qos), f.Retain)
		done(cluster.Reply{Message: &actorv1.Taken{}})
		return
	}
	if !b.Receive(env.Message, done) {
		done(cluster.Reply{Err: fmt.Errorf("message %T to a node: %w", env.Message, errors.ErrUnsupported)})
	}
}

// exportPath and journalPath of the peer port give this node's history and its journal to another.
const (
	exportPath  = "/history/export"
	journalPath = "/journal/export"
)

// keepHistory fills what this node's history lacks from another voter: of the time before it came, or was away for long.
func (n *Node) keepHistory(e *history.Embedded) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.closeLater("history of other nodes", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	go func() {
		defer close(done)
		e.KeepComplete(ctx, history.KeepOptions{Source: func(ctx context.Context) (io.ReadCloser, error) {
			return n.fromVoter(ctx, exportPath, "history")
		}})
	}()
}

// fromVoter opens what the first other voter that has all of it gives at path.
func (n *Node) fromVoter(ctx context.Context, path, what string) (io.ReadCloser, error) {
	faults := []error{errors.New("no other voter has the whole " + what)}
	for _, s := range n.raft.Servers() {
		if !s.Voter() || s.ID == n.self.id {
			continue
		}
		client, base, err := n.peers.HTTP(s.ID)
		if err == nil {
			var body io.ReadCloser
			if body, err = getFromPeer(ctx, client, base+path); err == nil {
				return body, nil
			}
		}
		faults = append(faults, err)
	}
	return nil, errors.Join(faults...)
}

// getFromPeer reads an address of another node's peer port. The caller closes the body.
func getFromPeer(ctx context.Context, client connect.HTTPClient, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(res.Body, 512))
		res.Body.Close()
		return nil, fmt.Errorf("%s: %s: %s", url, res.Status, text)
	}
	return res.Body, nil
}
