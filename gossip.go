package pollux

import (
	"cmp"
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
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/gossip"
)

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
			MQTT: n.conf.MQTT, Inbound: cmp.Or(n.conf.Inbound, inboundOff), Zone: n.conf.AvailabilityZone, Site: n.conf.Site, Version: Version, Expect: n.conf.BootstrapExpect, Labels: n.conf.Labels},
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

// alive says whether gossip hears a node.
func (n *Node) alive(id string) bool {
	m, ok := n.gossip.Member(id)
	return ok && m.State == gossip.Alive
}

func (n *Node) hearsOthers() bool {
	return slices.ContainsFunc(n.gossip.Members(), func(m gossip.Member) bool { return m.ID != n.self.id && m.State == gossip.Alive })
}
