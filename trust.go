package pollux

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/gossip"
	"github.com/polluxhq/pollux/cluster/peer"
	"github.com/polluxhq/pollux/cluster/pki"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/rpc"
	"github.com/polluxhq/pollux/storage"
)

// tableCluster holds what is one for the whole cluster: its id, its authorities, its keys of gossip, its join tokens. Every
// node holds it, so every node can let others in.
const tableCluster storage.Table = "cluster"

const (
	keyClusterID = "id"
	keyTrust     = "trust"
	prefixToken  = "join-token/"
	// prefixRemoved and a node's id: it was taken out for ever.
	prefixRemoved = "removed/"
	// formerTrust is how long the authority before a rotation is still trusted: every node has a new certificate long
	// before, unless it is off.
	formerTrust = 24 * time.Hour
	// trustEvery is how often a node looks whether keys and certificates are those of the records.
	trustEvery = time.Second
)

// trust is the record of the cluster's secrets, and of what else its founder laid down.
type trust struct {
	// Authority signs: certificate and key, PEM.
	Authority []byte `json:"authority"`
	// Former is the certificate of the authority before, trusted until then.
	Former      []byte    `json:"former,omitempty"`
	FormerUntil time.Time `json:"former_until,omitzero"`
	// GossipKeys are the keys of gossip; the first one is used to send.
	GossipKeys [][]byte `json:"gossip_keys"`
	// Expect is the number of voters that the cluster was founded for; 0: a record of before it was kept.
	Expect int `json:"expect,omitempty"`
}

func storedClusterID(s *storage.Store) (string, error) {
	rec, ok, err := s.Get(tableCluster, keyClusterID)
	if err != nil || !ok {
		return "", err
	}
	return string(rec.Value), nil
}

// readTrust gives the record, nil where there is none yet.
func (n *Node) readTrust() (*trust, storage.Record, error) {
	rec, ok, err := n.store.Get(tableCluster, keyTrust)
	if err != nil || !ok {
		return nil, rec, err
	}
	t := &trust{}
	if err := json.Unmarshal(rec.Value, t); err != nil {
		return nil, rec, fmt.Errorf("record %s: %w", keyTrust, err)
	}
	return t, rec, nil
}

// changeTrust commits the record as edit leaves it, guarded by what was read.
func (n *Node) changeTrust(ctx context.Context, edit func(*trust) error) error {
	t, rec, err := n.readTrust()
	if err != nil {
		return err
	}
	if t == nil {
		t = &trust{}
	}
	if err := edit(t); err != nil {
		return err
	}
	value, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = n.store.Commit(ctx, &storage.Txn{
		Guards: []storage.Guard{{Table: tableCluster, Key: keyTrust, Revision: rec.Revision}},
		Writes: []storage.Write{{Table: tableCluster, Key: keyTrust, Value: value, Quiet: true}},
	})
	return err
}

// settleFounding commits what a founder made: the cluster's id and secrets. From then on every node can let others in.
func (n *Node) settleFounding(ctx context.Context) error {
	c := n.creds
	if c.founder == nil {
		return n.waitFounded(ctx)
	}
	secret, err := c.founder.Marshal()
	if err != nil {
		return err
	}
	keys, _ := c.gossip()
	value, err := json.Marshal(trust{Authority: secret, GossipKeys: keys, Expect: n.conf.BootstrapExpect})
	if err != nil {
		return err
	}
	if err := n.commitFounding(ctx, value); err != nil {
		return fmt.Errorf("commit the cluster's id and authority: %w", err)
	}
	c.founder = nil
	for _, name := range []string{authorityName, joinTokenName} {
		if err := os.Remove(filepath.Join(c.dir, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return n.checkClusterID()
}

// commitFounding writes both records at once. An election may come in between, so it tries until the records are there.
func (n *Node) commitFounding(ctx context.Context, value []byte) error {
	for {
		t, _, err := n.readTrust()
		if err != nil || t != nil {
			return err
		}
		id, err := storedClusterID(n.store)
		if err != nil {
			return err
		}
		txn := storage.Txn{
			Guards: []storage.Guard{{Table: tableCluster, Key: keyTrust}},
			Writes: []storage.Write{{Table: tableCluster, Key: keyTrust, Value: value, Quiet: true}},
		}
		if id == "" { // a data directory of before there were several nodes has one
			txn.Guards = append(txn.Guards, storage.Guard{Table: tableCluster, Key: keyClusterID})
			txn.Writes = append(txn.Writes, storage.Write{Table: tableCluster, Key: keyClusterID, Value: []byte(n.clusterID)})
		}
		if _, err = n.store.Commit(ctx, &txn); err == nil {
			return nil
		}
		n.log.Info("the cluster's first records are not committed yet", "error", err)
		select {
		case <-ctx.Done():
			return err
		case <-n.failed:
			return n.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// waitFounded waits until the founder has committed what it made: others may vote before it is ready.
func (n *Node) waitFounded(ctx context.Context) error {
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		t, _, err := n.readTrust()
		if err != nil || t != nil {
			tick.Stop()
			return errors.Join(err, n.checkClusterID())
		}
		select {
		case <-ctx.Done():
			tick.Stop()
			return fmt.Errorf("wait for the founder of the cluster: %w", context.Cause(ctx))
		case <-n.failed:
			tick.Stop()
			return n.Err()
		case <-tick.C:
		}
	}
}

// checkClusterID holds the certificate against the data.
func (n *Node) checkClusterID() error {
	id, err := storedClusterID(n.store)
	if err == nil && id != n.clusterID {
		err = fmt.Errorf("the data in %s is of cluster %q, and this node's certificate of cluster %q", n.conf.Data, id, n.clusterID)
	}
	return err
}

// authority gives the one that signs now.
func (n *Node) authority() (*pki.Authority, error) {
	t, _, err := n.readTrust()
	switch {
	case err != nil:
		return nil, err
	case t != nil:
		return pki.ParseAuthority(t.Authority)
	case n.creds.founder != nil:
		return n.creds.founder, nil
	}
	return nil, fmt.Errorf("this node has no records of the cluster yet: %w", cluster.ErrUnavailable)
}

// sign gives this node a new certificate.
func (n *Node) sign(_ context.Context, csr []byte) ([]byte, error) {
	a, err := n.authority()
	if err != nil {
		return nil, err
	}
	return a.Sign(csr, n.self.id, n.clusterID, pki.NodeTTL)
}

// enroll lets a node in that shows a join token.
func (n *Node) enroll(ctx context.Context, r peer.EnrollRequest) (res peer.EnrollResponse, err error) {
	if err := n.checkToken(ctx, r); err != nil {
		return res, err
	}
	if err := n.checkID(r.Node); err != nil {
		return res, err
	}
	if err := n.checkName(r.Node, r.Name); err != nil {
		return res, err
	}
	a, err := n.authority()
	if err != nil {
		return res, err
	}
	cert, err := a.Sign(r.CSR, r.Node, n.clusterID, pki.NodeTTL)
	if err != nil {
		return res, err
	}
	keys, _ := n.creds.gossip()
	res = peer.EnrollResponse{Cert: cert, CA: n.creds.identity.Bundle(), ClusterID: n.clusterID, GossipKeys: keys}
	for _, m := range n.gossip.Members() {
		if m.State != gossip.Alive {
			continue
		}
		res.Gossip, res.Peers = append(res.Gossip, m.Gossip), append(res.Peers, m.Peer)
	}
	return res, nil
}

func (n *Node) checkToken(ctx context.Context, r peer.EnrollRequest) error {
	if t, ok := n.creds.token(r.TokenID); ok {
		return t.Check(r.Secret, time.Now())
	}
	rec, ok, err := n.store.Get(tableCluster, prefixToken+r.TokenID)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("token %s: %w", r.TokenID, pki.ErrToken)
	}
	t, err := decodeToken(rec)
	if err != nil {
		return err
	}
	if err := t.Check(r.Secret, time.Now()); err != nil {
		return err
	}
	t.Used++
	return n.putToken(ctx, t, rec.Revision)
}

// checkID refuses the id of a member that is there, which has its certificate, and of one that was removed.
func (n *Node) checkID(id string) error {
	if err := n.admit(id); err != nil {
		return fmt.Errorf("%w: %w", err, peer.ErrRefused)
	}
	for _, m := range n.members() {
		if m.ID == id && lives(m) {
			return fmt.Errorf("node %s (%s) is in the cluster and has a certificate: is this a copy of its data directory? If its credentials are lost, stop it and wait until it is dead: %w",
				id, m.Name, peer.ErrRefused)
		}
	}
	return nil
}

// checkName refuses a name that another node of the cluster has.
func (n *Node) checkName(id, name string) error {
	taken := func(other string) error {
		return fmt.Errorf("a node named %q is in the cluster already (%s): give this one another --name, or \"pollux cluster remove %s\" if that one is gone for ever: %w",
			name, other, name, peer.ErrRefused)
	}
	for _, m := range n.members() {
		if m.Name == name && m.ID != id {
			return taken(m.ID)
		}
	}
	// One that is not a member yet is known to gossip alone; of those that are gone the records decide.
	for _, m := range n.gossip.Members() {
		if m.Name == name && m.ID != id && m.State == gossip.Alive && n.admit(m.ID) == nil {
			return taken(m.ID)
		}
	}
	return nil
}

// members reads the member records; it works before this node is one.
func (n *Node) members() []cluster.Member {
	var all []cluster.Member
	for rec, err := range n.store.Scan(cluster.TableMember, "", "") {
		if err != nil {
			n.log.Warn("read members", "error", err)
			break
		}
		if m, err := cluster.DecodeMember(rec.Key, rec.Value); err == nil {
			all = append(all, m)
		}
	}
	return all
}

// joinToken is the record of a token made by an operator.
type joinToken struct {
	pki.TokenRecord
	Created time.Time `json:"created"`
	By      string    `json:"by"`
	Used    uint32    `json:"used"`
}

func decodeToken(rec storage.Record) (joinToken, error) {
	var t joinToken
	if err := json.Unmarshal(rec.Value, &t); err != nil {
		return t, fmt.Errorf("record %s: %w", rec.Key, err)
	}
	return t, nil
}

func (n *Node) putToken(ctx context.Context, t joinToken, revision uint64) error {
	value, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = n.store.Commit(ctx, &storage.Txn{
		Guards: []storage.Guard{{Table: tableCluster, Key: prefixToken + t.ID, Revision: revision}},
		Writes: []storage.Write{{Table: tableCluster, Key: prefixToken + t.ID, Value: value, Quiet: true}},
	})
	return err
}

// CreateJoinToken implements rpc.Cluster.
func (s status) CreateJoinToken(ctx context.Context, ttl time.Duration, by string) (*pb.CreateJoinTokenResponse, error) {
	n := s.n
	a, err := n.authority()
	if err != nil {
		return nil, err
	}
	if err := n.forgetTokens(ctx); err != nil {
		return nil, err
	}
	shown := a.Fingerprint()
	if t, _, err := n.readTrust(); err == nil && t != nil && !n.creds.identity.SignedBy(shown) {
		// The nodes still show certificates of the authority before.
		if former, _ := pem.Decode(t.Former); former != nil {
			shown = sha256.Sum256(former.Bytes)
		}
	}
	now := time.Now()
	token := pki.NewToken(shown)
	t := joinToken{TokenRecord: token.Record(now.Add(ttl)), Created: now, By: by}
	if err := n.putToken(ctx, t, 0); err != nil {
		return nil, err
	}
	return &pb.CreateJoinTokenResponse{Token: token.String(), Id: t.ID, ExpireTime: timestamppb.New(t.Expires),
		Command: fmt.Sprintf("pollux serve %s--join %s --join-token %s", n.joinFlags(), n.peerAddr, token)}, nil
}

// joinFlags are what a node on another machine needs beside the address to join; on loopback it takes other ports anyway.
func (n *Node) joinFlags() string {
	if open, err := beyondLoopback("peer", n.peerAddr); err != nil || !open {
		return ""
	}
	return "--peer 0.0.0.0:7947 --gossip 0.0.0.0:7946 "
}

// forgetTokens deletes those that are over.
func (n *Node) forgetTokens(ctx context.Context) error {
	all, err := n.tokens()
	if err != nil {
		return err
	}
	for _, t := range all {
		if time.Now().Before(t.Expires) {
			continue
		}
		if err := (status{n}).RevokeJoinToken(ctx, t.ID); err != nil && !errors.Is(err, rpc.ErrNoSuchToken) {
			return err
		}
	}
	return nil
}

func (n *Node) tokens() ([]joinToken, error) {
	var all []joinToken
	for rec, err := range n.store.Scan(tableCluster, prefixToken, "") {
		if err != nil {
			return nil, err
		}
		t, err := decodeToken(rec)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

// JoinTokens implements rpc.Cluster.
func (s status) JoinTokens(context.Context) ([]*pb.JoinToken, error) {
	all, err := s.n.tokens()
	if err != nil {
		return nil, err
	}
	var out []*pb.JoinToken
	for _, t := range all {
		if time.Now().Before(t.Expires) {
			out = append(out, &pb.JoinToken{Id: t.ID, CreateTime: timestamppb.New(t.Created), ExpireTime: timestamppb.New(t.Expires), By: t.By, Used: t.Used})
		}
	}
	return out, nil
}

// RevokeJoinToken implements rpc.Cluster.
func (s status) RevokeJoinToken(ctx context.Context, id string) error {
	rec, ok, err := s.n.store.Get(tableCluster, prefixToken+id)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("%s: %w", id, rpc.ErrNoSuchToken)
	}
	_, err = s.n.store.Commit(ctx, &storage.Txn{
		Guards: []storage.Guard{{Table: tableCluster, Key: prefixToken + id, Revision: rec.Revision}},
		Writes: []storage.Write{{Table: tableCluster, Key: prefixToken + id, Quiet: true}},
	})
	return err
}

// RotateGossipKey implements rpc.Cluster: the new key is known everywhere before it is used, and the one before stays
// until the next rotation, for nodes that are off.
func (s status) RotateGossipKey(ctx context.Context) (int, error) {
	fresh := newGossipKey()
	var keys [][]byte
	err := s.n.changeTrust(ctx, func(t *trust) error {
		t.GossipKeys = append(t.GossipKeys[:1:1], fresh)
		return nil
	})
	if err != nil {
		return 0, err
	}
	// Every node follows within trustEvery.
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(3 * trustEvery):
	}
	err = s.n.changeTrust(ctx, func(t *trust) error {
		if len(t.GossipKeys) != 2 || !slices.Equal(t.GossipKeys[1], fresh) {
			return fmt.Errorf("the key was rotated by somebody else meanwhile: %w", rpc.ErrNotNow)
		}
		t.GossipKeys[0], t.GossipKeys[1] = t.GossipKeys[1], t.GossipKeys[0]
		keys = t.GossipKeys
		return nil
	})
	return len(keys), err
}

// RotateCA implements rpc.Cluster: the new authority is trusted everywhere before the first certificate that it signs
// is shown, and the former one for a day more. Nodes that are off are waited for, half a day at most.
func (s status) RotateCA(ctx context.Context) (*pb.RotateCAResponse, error) {
	fresh, err := pki.NewAuthority(s.n.clusterID)
	if err != nil {
		return nil, err
	}
	secret, err := fresh.Marshal()
	if err != nil {
		return nil, err
	}
	until := time.Now().Add(formerTrust)
	err = s.n.changeTrust(ctx, func(t *trust) error {
		former, err := pki.ParseAuthority(t.Authority)
		if err != nil {
			return err
		}
		if !s.n.creds.identity.SignedBy(former.Fingerprint()) {
			return fmt.Errorf("the nodes still show certificates of the authority before this one; they change when all of them are there: start those that are off, or remove them: %w", rpc.ErrNotNow)
		}
		t.Authority, t.Former, t.FormerUntil = secret, former.PEM(), until
		return nil
	})
	if err != nil {
		return nil, err
	}
	print := fresh.Fingerprint()
	return &pb.RotateCAResponse{Fingerprint: hex.EncodeToString(print[:]), FormerUntil: timestamppb.New(until)}, nil
}

// keepTrust has this node follow the records of trust: authorities, own certificate, keys of gossip.
func (n *Node) keepTrust(context.Context) error {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.closeLater("trust", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	go func() {
		defer close(done)
		for tick := time.NewTicker(trustEvery); ; {
			if err := n.followTrust(ctx); err != nil && ctx.Err() == nil {
				n.log.Warn("follow the cluster's keys", "error", err)
			}
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
			}
		}
	}()
	return nil
}

// swapAfter is how long a new authority is trusted everywhere before a node shows a certificate signed by it.
const swapAfter = 5 * time.Second

// someoneIsOff says whether gossip does not hear a node that is a member.
func (n *Node) someoneIsOff() bool {
	return slices.ContainsFunc(n.members(), func(m cluster.Member) bool { return m.ID != n.self.id && !n.alive(m.ID) })
}

func (n *Node) followTrust(ctx context.Context) error {
	t, rec, err := n.readTrust()
	if err != nil || t == nil {
		return err
	}
	if changed, err := n.creds.rekey(t.GossipKeys); err != nil {
		return err
	} else if changed {
		if err := n.gossip.SetKeys(t.GossipKeys); err != nil {
			return err
		}
	}
	a, err := pki.ParseAuthority(t.Authority)
	if err != nil {
		return err
	}
	id := n.creds.identity
	bundle := a.PEM()
	if len(t.Former) > 0 && time.Now().Before(t.FormerUntil) || !id.SignedBy(a.Fingerprint()) {
		bundle = append(bundle, t.Former...)
	}
	if !slices.Equal(bundle, id.Bundle()) && (id.SignedBy(a.Fingerprint()) || len(t.Former) > 0) {
		if err := id.SetBundle(bundle); err != nil {
			return err
		}
		if err := id.Save(n.creds.dir); err != nil {
			return err
		}
		n.trustSeen, n.trustAt = rec.Revision, time.Now()
	}
	foreign := !id.SignedBy(a.Fingerprint())
	if foreign && time.Now().Before(t.FormerUntil.Add(-formerTrust/2)) && n.someoneIsOff() {
		// It could never follow: it trusts none of the new certificates.
		n.trustSeen, n.trustAt = rec.Revision, time.Now()
		return nil
	}
	if foreign && n.trustSeen == rec.Revision && time.Since(n.trustAt) < swapAfter {
		return nil
	}
	if foreign || time.Now().After(id.RenewAt()) {
		if err := id.Renew(ctx, n.sign, n.creds.dir); err != nil {
			return err
		}
		if err := n.offerLocally(); err != nil {
			return err
		}
		n.log.Info("this node has a new certificate", "until", id.Expires().UTC().Format(time.RFC3339))
	}
	return nil
}
