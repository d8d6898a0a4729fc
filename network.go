package pollux

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/raft"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/gossip"
	"github.com/polluxhq/pollux/cluster/peer"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	"github.com/polluxhq/pollux/storage"
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
	n.peerAddr, err = n.advertise(l.Addr().String())
	return err
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

func (n *Node) openGossip(ctx context.Context) error {
	keys, known := n.creds.gossip()
	advertised := n.conf.Advertise
	if advertised == "" {
		host, _, err := net.SplitHostPort(n.peerAddr)
		if err != nil {
			return err
		}
		if bind, _, _ := net.SplitHostPort(n.conf.Gossip); net.ParseIP(bind).IsUnspecified() {
			advertised = host
		}
	}
	g, err := gossip.Open(gossip.Options{
		Bind: n.conf.Gossip, Advertise: advertised, ClusterID: n.clusterID, Keys: keys, Logger: n.log, Metrics: n.metrics,
		File: filepath.Join(n.conf.Data, "gossip-peers"),
		Meta: gossip.Meta{ID: n.self.id, Name: n.conf.Name, Incarnation: n.self.incarnation, Peer: n.peerAddr, HTTP: n.http.Addr().String(),
			MQTT: n.conf.MQTT, Zone: n.conf.AvailabilityZone, Site: n.conf.Site, Version: Version, Expect: n.conf.BootstrapExpect, Labels: n.conf.Labels},
		Refused: n.fail,
	})
	if err != nil {
		return fmt.Errorf("gossip = %q: %w", n.conf.Gossip, err)
	}
	n.gossip = g
	close(n.gossiping)
	if err := n.offerLocally(); err != nil && !errors.Is(err, cluster.ErrUnavailable) {
		return err
	}
	n.closeLater("gossip", func(context.Context) error {
		// A node that stops is not gone: the others are told so that they need not suspect it first.
		return errors.Join(g.Leave(time.Second), g.Close())
	})
	for _, m := range n.members() {
		if m.ID != n.self.id && m.Gossip != "" && !slices.Contains(known, m.Gossip) {
			known = append(known, m.Gossip)
		}
	}
	if len(known) == 0 {
		return nil
	}
	return n.joinGossip(ctx, known)
}

// joinGossip makes this node known to the others. Only a new node is ended by a key or a cluster that is not its own: to
// one that has been here before the addresses may lie, and raft reaches it all the same.
func (n *Node) joinGossip(ctx context.Context, known []string) error {
	_, err := n.gossip.Join(ctx, known)
	if err != nil && !errors.Is(err, gossip.ErrName) && !errors.Is(err, gossip.ErrCopy) {
		if found := n.askForGossip(ctx); len(found) > 0 {
			known = append(known, found...)
			_, err = n.gossip.Join(ctx, found)
		}
	}
	stranger := errors.Is(err, gossip.ErrKey) || errors.Is(err, gossip.ErrCluster)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, gossip.ErrName) || errors.Is(err, gossip.ErrCopy) || stranger && !n.hadState:
		return err
	}
	n.log.Warn("no other node answers yet; they are asked again and again", "addresses", strings.Join(known, ","),
		"error", strings.Join(strings.Fields(err.Error()), " "))
	return nil
}

// gossipPath of the peer port gives a node of the cluster what it needs to gossip.
const gossipPath = "/cluster/gossip"

// gossipInfo is what gossipPath answers.
type gossipInfo struct {
	Keys      [][]byte `json:"keys"`
	Addresses []string `json:"addresses"`
}

func (n *Node) serveGossip(w http.ResponseWriter, _ *http.Request) {
	var info gossipInfo
	info.Keys, _ = n.creds.gossip()
	select {
	case <-n.gossiping:
		for _, m := range n.gossip.Members() {
			if m.State == gossip.Alive {
				info.Addresses = append(info.Addresses, m.Gossip)
			}
		}
	default:
	}
	if err := json.NewEncoder(w).Encode(info); err != nil {
		n.log.Debug("say how to gossip", "error", err)
	}
}

// askForGossip asks other nodes at their peer addresses, those of --join first, for the keys and the addresses of gossip:
// the keys may have been rotated while this node was off, or all nodes may have come back at other addresses.
func (n *Node) askForGossip(ctx context.Context) []string {
	for _, addr := range n.conf.Join {
		if addr == n.peerAddr {
			continue
		}
		client := &http.Transport{TLSClientConfig: n.creds.identity.ClientTLS("", "h2"), ForceAttemptHTTP2: true}
		found, err := n.learnGossip(ctx, &http.Client{Transport: client}, "https://"+addr)
		client.CloseIdleConnections()
		if err == nil && len(found) > 0 {
			return found
		}
		n.log.Debug("ask how to gossip", "address", addr, "error", err)
	}
	for _, m := range n.members() {
		if m.ID == n.self.id || m.Peer == "" {
			continue
		}
		client, base, err := n.peers.HTTP(m.ID)
		var found []string
		if err == nil {
			found, err = n.learnGossip(ctx, client, base)
		}
		if err == nil && len(found) > 0 {
			return found
		}
		n.log.Debug("ask how to gossip", "node", m.Name, "error", err)
	}
	return nil
}

// learnGossip takes over the keys of another node, and gives the addresses that it knows.
func (n *Node) learnGossip(ctx context.Context, client connect.HTTPClient, base string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	body, err := getFromPeer(ctx, client, base+gossipPath)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var info gossipInfo
	if err := json.NewDecoder(io.LimitReader(body, 64<<10)).Decode(&info); err != nil {
		return nil, err
	}
	if changed, err := n.creds.rekey(info.Keys); err != nil {
		return nil, err
	} else if changed {
		n.log.Info("the keys of gossip were rotated while this node was off", "from", base)
	}
	if err := n.gossip.SetKeys(info.Keys); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(info.Addresses, func(a string) bool { return a == n.gossip.Address() }), nil
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

// lost lists the nodes that a recovery of the quorum has given up.
func (n *Node) lost() func() []string { return cluster.LostNodes(newRecords(n.store, n.log)) }

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

// alive says whether gossip hears a node.
func (n *Node) alive(id string) bool {
	m, ok := n.gossip.Member(id)
	return ok && m.State == gossip.Alive
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

// firstVoters gives the voters of a new cluster, nil where this node does not make one. It waits until as many nodes as
// are expected have come.
func (n *Node) firstVoters(ctx context.Context) ([]raft.Server, error) {
	if n.creds.founder == nil {
		return nil, nil
	}
	if n.conf.BootstrapExpect == 1 {
		return []raft.Server{{ID: raft.ServerID(n.self.id), Address: raft.ServerAddress(n.peerAddr)}}, nil
	}
	token := n.creds.accept(n.creds.founder.Fingerprint(), founderTokenTTL)
	file := filepath.Join(n.creds.dir, joinTokenName)
	if err := writeSecret(file, []byte(token+"\n")); err != nil {
		return nil, fmt.Errorf("write join token: %w", err)
	}
	n.log.Info("a new cluster begins when all expected nodes are here", "expected", n.conf.BootstrapExpect, "join", n.peerAddr, "token_file", file)
	hints := n.gossip.Events()
	for told := 0; ; {
		var servers []raft.Server
		for _, m := range n.gossip.Members() {
			if m.State == gossip.Alive && m.Peer != "" {
				servers = append(servers, raft.Server{ID: raft.ServerID(m.ID), Address: raft.ServerAddress(m.Peer)})
			}
		}
		if len(servers) >= n.conf.BootstrapExpect {
			n.log.Info("all expected nodes are here", "nodes", len(servers))
			// More may have come; they join as all later ones do.
			at := slices.IndexFunc(servers, func(s raft.Server) bool { return string(s.ID) == n.self.id })
			servers[0], servers[at] = servers[at], servers[0]
			return servers[:n.conf.BootstrapExpect], nil
		}
		if len(servers) != told {
			told = len(servers)
			n.log.Info("waiting for nodes", "here", told, "expected", n.conf.BootstrapExpect)
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %d nodes, %d are here: %w", n.conf.BootstrapExpect, told, context.Cause(ctx))
		case <-hints:
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// openRaft takes part in consensus; it returns when this node has all that was committed before.
func (n *Node) openRaft(ctx context.Context) error {
	first, err := n.firstVoters(ctx)
	if err != nil {
		return err
	}
	r, err := cluster.OpenRaft(cluster.RaftOptions{ID: n.self.id, Log: n.store.LogStore(), Stable: n.store.StableStore(),
		Snapshots: n.store.SnapshotStore(), FSM: n.store.FSM(), Logger: n.log, Metrics: n.metrics,
		Transport: cluster.NewRaftTransport(n.peers.RaftLayer(), n.addressOf, n.log), Bootstrap: first,
		Forward: func(leader string, entry []byte, done func([]byte, error)) {
			n.peers.Propose(n.life, leader, entry, done)
		},
		RemoteIndex: n.peers.CommitIndex, Applied: n.store.AppliedIndex, WaitApplied: n.store.WaitApplied,
		Healthy: n.alive, Lost: n.lost(), Fatal: n.fail})
	if err != nil {
		return err
	}
	n.raft = r
	close(n.voting)
	n.closeLater("raft", func(context.Context) error { return r.Close() })
	if err := n.reconcile(); err != nil {
		return err
	}
	if err := n.waitCaughtUp(ctx); err != nil {
		return err
	}
	if err := n.store.Start(proposer{r}, n.self.id, n.self.incarnation); err != nil {
		return err
	}
	n.store.SetBlobPeers(blobPeers{n})
	if err := n.settleFounding(ctx); err != nil {
		return err
	}
	if err := n.offerLocally(); err != nil {
		return err
	}
	return n.keepTrust(ctx)
}

// waitCaughtUp waits as long as it takes: without a quorum there is nothing that this node could do.
func (n *Node) waitCaughtUp(ctx context.Context) error {
	for since, say := time.Now(), time.Duration(0); ; {
		try, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := n.raft.WaitLeader(try)
		if err == nil {
			err = n.raft.Barrier(try)
		}
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		if err := n.Err(); err != nil {
			return err
		}
		alone := !n.hearsOthers()
		if waited := time.Since(since); waited > say {
			say = min(2*waited, waited+time.Minute)
			n.log.Info("waiting for the cluster: no leader is in reach, or this node is not taken in yet", "seconds", int(waited.Seconds()), "last", err)
			if alone && say > time.Minute {
				n.log.Warn("this node hears no other one; if all of them have other addresses now, start it with --join and the peer address of one")
			}
		}
		if alone && len(n.conf.Join) > 0 {
			if found := n.askForGossip(ctx); len(found) > 0 {
				if _, err := n.gossip.Join(ctx, found); err != nil {
					n.log.Debug("join by gossip", "error", err)
				}
			}
		}
	}
}

func (n *Node) hearsOthers() bool {
	return slices.ContainsFunc(n.gossip.Members(), func(m gossip.Member) bool { return m.ID != n.self.id && m.State == gossip.Alive })
}

// reconcile has this node, while it leads, keep raft's members as gossip and the records have them.
func (n *Node) reconcile() error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.closeLater("reconcile", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	o := cluster.ReconcileOptions{Raft: n.raft, Gossip: n.gossip, Members: n.members, Expect: n.expect,
		StableAfter: n.conf.StableAfter, BlobsComplete: n.blobsComplete, Records: newRecords(n.store, n.log), Logger: n.log, Metrics: n.metrics}
	go func() {
		defer close(done)
		cluster.Reconcile(ctx, o)
	}()
	return nil
}

// expect is the number of voters that the cluster was founded for. The founder committed it: whoever leads goes by it.
func (n *Node) expect() int {
	if t, _, err := n.readTrust(); err == nil && t != nil && t.Expect > 0 {
		return t.Expect
	}
	return n.conf.BootstrapExpect
}

// errNoLease: nothing can be handed over.
var errNoLease = errors.New("this node has no lease")

// leaseGrace is how long a node that stops may be without a lease before it gives up: another leader may be on its way.
const leaseGrace = time.Second

// watchLease ends a hand-over with errNoLease.
func (n *Node) watchLease(ctx context.Context, stop context.CancelCauseFunc) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for valid := time.Now(); ; {
		if n.cluster.LeaseValid() {
			valid = time.Now()
		} else if time.Since(valid) > leaseGrace {
			stop(errNoLease)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// leave hands everything over before a planned stop, while the doors are still open.
func (n *Node) leave(ctx context.Context) error {
	leaving, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go n.watchLease(leaving, stop)
	err := n.cluster.Leave(leaving)
	if err != nil && !n.cluster.LeaseValid() {
		n.log.Warn("not everything is handed over: this node has no lease; others take its slots when they can")
		return nil
	}
	if err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := n.gossip.UpdateMeta(func(m *gossip.Meta) { m.Leaving = true }); err != nil {
		n.log.Debug("tell the others that this node stops", "error", err)
	}
	if err := n.raft.Leave(ctx); err != nil {
		n.log.Warn("another node will be elected, as handing leadership over failed", "error", err)
	}
	return nil
}

// blobs is the store as peers want it.
type blobs struct{ *storage.Store }

func (b blobs) StoreBlob(_ context.Context, digest string, data []byte) error {
	return b.HoldBlob(digest, data)
}

// blobPeers brings blobs to the other voters (storage.BlobPeers).
type blobPeers struct{ n *Node }

func (b blobPeers) Spread(ctx context.Context, digest string, data []byte) error {
	n := b.n
	var others []string
	voters, have := 0, 0
	for _, s := range n.raft.Servers() {
		if !s.Voter() {
			continue
		}
		voters++
		if s.ID == n.self.id {
			have++
		} else {
			others = append(others, s.ID)
		}
	}
	quorum := voters/2 + 1
	results := make(chan error, len(others))
	for _, id := range others {
		go func() { results <- n.peers.PutBlob(ctx, id, digest, data) }()
	}
	var faults []error
	for left := len(others); have < quorum; left-- {
		if left+have < quorum {
			return fmt.Errorf("bring blob %.12s to %d of %d voters: %w", digest, quorum, voters, errors.Join(faults...))
		}
		if err := <-results; err != nil {
			faults = append(faults, err)
		} else {
			have++
		}
	}
	return nil
}

// blobsComplete brings every blob that a record names to a node, and says whether all are there: nobody becomes a voter
// before.
func (n *Node) blobsComplete(ctx context.Context, id string) bool {
	select {
	case <-n.member:
	default:
		return false // this node is starting
	}
	view := n.store.View()
	defer view.Close()
	complete := true
	err := n.engine.Registry().Digests(view, func(digest string) {
		if !complete || n.brought.has(id, digest) {
			return
		}
		data, err := n.store.FetchBlob(ctx, digest)
		if err == nil {
			err = n.peers.PutBlob(ctx, id, digest, data)
		}
		if err != nil {
			complete = false
			n.log.Warn("a node does not become a voter before it has every blob", "node", id, "blob", digest, "error", err)
			return
		}
		n.brought.add(id, digest)
	})
	if err != nil {
		n.log.Warn("list the blobs that a voter needs", "error", err)
	}
	return complete && err == nil
}

// brought remembers which blobs a node is known to have.
type brought struct {
	mu  sync.Mutex
	set map[[2]string]bool
}

func (b *brought) has(node, digest string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.set[[2]string{node, digest}]
}

func (b *brought) add(node, digest string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.set == nil {
		b.set = map[[2]string]bool{}
	}
	b.set[[2]string{node, digest}] = true
}

func (b blobPeers) Fetch(ctx context.Context, digest string) ([]byte, error) {
	faults := []error{fmt.Errorf("blob %.12s: %w", digest, storage.ErrNoSuchBlob)}
	for _, s := range b.n.raft.Servers() {
		if s.ID == b.n.self.id {
			continue
		}
		data, err := b.n.peers.GetBlob(ctx, s.ID, digest)
		if err == nil {
			return data, nil
		}
		faults = append(faults, fmt.Errorf("from %s: %w", s.ID, err))
	}
	return nil, errors.Join(faults...)
}

// publish sends a twin's MQTT message to the brokers of all nodes: the device may be at any of them.
func (n *Node) publish(topic string, payload []byte, qos byte, retain bool) error {
	var err error
	if n.broker != nil {
		err = n.broker.Publish(topic, payload, qos, retain)
	}
	if err != nil {
		return err // what is wrong with it here is wrong with it everywhere
	}
	f := &actorv1.Frame{Topic: topic, Payload: payload, Qos: uint32(qos), Retain: retain}
	for _, m := range n.cluster.Members() {
		if m.ID == n.self.id || m.MQTT == mqttOff || !lives(m) {
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
	f, ok := env.Message.(*actorv1.Frame)
	if !ok {
		done(cluster.Reply{Err: fmt.Errorf("message %T to a node: %w", env.Message, errors.ErrUnsupported)})
		return
	}
	r := cluster.Reply{Message: &actorv1.Taken{}}
	if n.broker != nil {
		r.Err = n.broker.Publish(f.Topic, f.Payload, byte(f.Qos), f.Retain)
	}
	done(r)
}

// exportPath of the peer port gives this node's history to another.
const exportPath = "/history/export"

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
		e.KeepComplete(ctx, history.KeepOptions{Source: n.otherHistory})
	}()
}

// otherHistory opens the history of the first other voter that has all of it.
func (n *Node) otherHistory(ctx context.Context) (io.ReadCloser, error) {
	faults := []error{errors.New("no other voter has the whole history")}
	for _, s := range n.raft.Servers() {
		if !s.Voter() || s.ID == n.self.id {
			continue
		}
		client, base, err := n.peers.HTTP(s.ID)
		if err == nil {
			var body io.ReadCloser
			if body, err = getFromPeer(ctx, client, base+exportPath); err == nil {
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
