package pollux

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/cluster/peer"
	"github.com/polluxhq/pollux/cluster/pki"
)

// credentials are what this node needs before it can ask anybody: who it is, the keys of gossip, and where others were
// when it last heard of them. They are files; what counts for the cluster are its records, which the files follow.
type credentials struct {
	dir      string
	identity *pki.Identity
	// founder: this node makes the cluster, and its records are not committed yet.
	founder *pki.Authority

	mu    sync.Mutex
	known knownFile
	// tokens that this process accepts by itself: of its own machine and user, and of a founder before there are records.
	tokens map[string]pki.TokenRecord
}

// knownFile is what DATA/cluster/known.json holds.
type knownFile struct {
	GossipKeys [][]byte `json:"gossip_keys"`
	Gossip     []string `json:"gossip"`
}

const (
	knownName = "known.json"
	// authorityName is there from the founding to the first commit of the cluster's records.
	authorityName = "authority.key"
	// joinTokenName is a founder's token for the nodes that it waits for.
	joinTokenName = "join.token"
	// founderTokenTTL is how long the nodes that a founder waits for may take.
	founderTokenTTL = 24 * time.Hour
)

func (n *Node) openCredentials(ctx context.Context) error {
	c := &credentials{dir: filepath.Join(n.conf.Data, "cluster"), tokens: map[string]pki.TokenRecord{}}
	n.creds = c
	id, err := pki.Load(c.dir)
	switch {
	case err == nil:
		c.identity = id
		if err = c.load(n.self.id); err == nil {
			err = n.checkJoin(ctx, id)
		}
	case !errors.Is(err, fs.ErrNotExist):
	case len(n.conf.Join) == 0:
		err = n.found(c)
	case n.hadState:
		err = fmt.Errorf("join %s: the data directory %s already holds a cluster of its own: take another --data, or leave --join out",
			strings.Join(n.conf.Join, ","), n.conf.Data)
	default:
		err = n.enrol(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("open the node's credentials: %w", err)
	}
	n.clusterID = c.identity.ClusterID()
	return nil
}

// checkJoin refuses to go on as a node of one cluster where --join names a node of another. Nodes that do not answer are
// not waited for.
func (n *Node) checkJoin(ctx context.Context, id *pki.Identity) error {
	for _, addr := range n.conf.Join {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		conn, err := (&tls.Dialer{Config: id.ClientTLS("", "h2")}).DialContext(ctx, "tcp", addr)
		cancel()
		if err == nil {
			conn.Close()
		}
		if errors.Is(err, pki.ErrWrongCluster) || errors.Is(err, pki.ErrUntrusted) {
			return fmt.Errorf("the data in %s is of cluster %s, and the node at %s is not: %w (take another --data, or leave --join out)",
				n.conf.Data, id.ClusterID(), addr, err)
		}
	}
	return nil
}

// load reads what is kept beside the identity.
func (c *credentials) load(node string) error {
	if c.identity.Node() != node {
		return fmt.Errorf("%s has the certificate of node %s, and the store is of node %s", c.dir, c.identity.Node(), node)
	}
	data, err := os.ReadFile(filepath.Join(c.dir, knownName))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &c.known); err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(c.dir, knownName), err)
	}
	pem, err := os.ReadFile(filepath.Join(c.dir, authorityName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		c.founder, err = pki.ParseAuthority(pem)
	}
	return err
}

// found makes a cluster: its id, its authority, its key of gossip.
func (n *Node) found(c *credentials) error {
	clusterID, err := storedClusterID(n.store)
	if err != nil {
		return err
	}
	if clusterID == "" {
		var b [8]byte
		rand.Read(b[:])
		clusterID = "c" + hex.EncodeToString(b[:])
	}
	a, err := pki.NewAuthority(clusterID)
	if err != nil {
		return err
	}
	c.founder = a
	if c.identity, err = newIdentity(a, n.self.id); err != nil {
		return err
	}
	c.known.GossipKeys = [][]byte{newGossipKey()}
	// The authority first: without it the identity would be of a cluster that nobody can join.
	secret, err := a.Marshal()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	if err := writeSecret(filepath.Join(c.dir, authorityName), secret); err != nil {
		return err
	}
	return c.save()
}

func newIdentity(a *pki.Authority, node string) (*pki.Identity, error) {
	key, err := pki.NewKey()
	if err != nil {
		return nil, err
	}
	csr, err := pki.NewRequest(key, node)
	if err != nil {
		return nil, err
	}
	cert, err := a.Sign(csr, node, a.ClusterID(), pki.NodeTTL)
	if err != nil {
		return nil, err
	}
	return pki.NewIdentity(key, cert, a.PEM())
}

func newGossipKey() []byte {
	key := make([]byte, 32)
	rand.Read(key)
	return key
}

// enrol has the cluster sign this node's first certificate. Addresses at which nobody listens yet are tried again until
// ctx ends: nodes are often started together.
func (n *Node) enrol(ctx context.Context, c *credentials) error {
	key, err := pki.NewKey()
	if err != nil {
		return err
	}
	csr, err := pki.NewRequest(key, n.self.id)
	if err != nil {
		return err
	}
	var last error
	var told time.Time
	for {
		for _, addr := range n.conf.Join {
			res, err := n.enrolAt(ctx, addr, csr)
			if err == nil {
				return c.enrolled(key, res)
			}
			last = fmt.Errorf("join %s: %w", addr, err)
			var plain tls.RecordHeaderError
			if errors.As(err, &plain) {
				return fmt.Errorf("%w: this is not the --peer address of a node (7947 unless set)", last)
			}
			if !unreachable(err) {
				return last
			}
		}
		if time.Since(told) > 5*time.Second {
			n.log.Info("waiting for the cluster to join", "addresses", strings.Join(n.conf.Join, ","), "last", last)
			told = time.Now()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", last, context.Cause(ctx))
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// errNobody: no node is where one is to be joined.
var errNobody = errors.New("nobody is there yet")

// unreachable says whether to try again: nobody listened, or who did is only starting.
func unreachable(err error) bool {
	var op *net.OpError
	return errors.Is(err, errNobody) || errors.As(err, &op) && op.Op == "dial" || errors.Is(err, cluster.ErrUnavailable) ||
		connect.CodeOf(err) == connect.CodeUnavailable
}

func (n *Node) enrolAt(ctx context.Context, addr string, csr []byte) (peer.EnrollResponse, error) {
	text, given := n.conf.JoinToken, n.conf.JoinToken != ""
	if !given {
		found, err := localToken(addr)
		if err != nil {
			return peer.EnrollResponse{}, err
		}
		text = found
	}
	token, err := pki.ParseToken(text)
	if err != nil {
		return peer.EnrollResponse{}, fmt.Errorf("join token: %w", err)
	}
	res, err := peer.Enroll(ctx, addr, token, n.self.id, n.conf.Name, csr)
	if !given && (errors.Is(err, pki.ErrWrongCluster) || errors.Is(err, pki.ErrToken)) {
		err = fmt.Errorf("the token in this user's cache was left there by an earlier node at this address: %w; %w", errNobody, err)
	}
	return res, err
}

func (c *credentials) enrolled(key crypto.Signer, res peer.EnrollResponse) (err error) {
	if c.identity, err = pki.NewIdentity(key, res.Cert, res.CA); err != nil {
		return err
	}
	c.known = knownFile{GossipKeys: res.GossipKeys, Gossip: res.Gossip}
	return c.save()
}

// save writes the files; the identity last, as a directory with one is complete.
func (c *credentials) save() error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	if err := c.saveKnown(); err != nil {
		return err
	}
	return c.identity.Save(c.dir)
}

func (c *credentials) saveKnown() error {
	data, err := json.MarshalIndent(c.known, "", "  ")
	if err != nil {
		return err
	}
	return writeSecret(filepath.Join(c.dir, knownName), append(data, '\n'))
}

// rekey keeps the keys of gossip.
func (c *credentials) rekey(keys [][]byte) (changed bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if slices.EqualFunc(keys, c.known.GossipKeys, slices.Equal) {
		return false, nil
	}
	c.known.GossipKeys = keys
	return true, c.saveKnown()
}

func (c *credentials) gossip() (keys [][]byte, addrs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.known.GossipKeys), slices.Clone(c.known.Gossip)
}

// accept makes a token that this process alone knows.
func (c *credentials) accept(authority pki.Fingerprint, ttl time.Duration) string {
	t := pki.NewToken(authority)
	r := t.Record(time.Now().Add(ttl))
	c.mu.Lock()
	c.tokens[r.ID] = r
	c.mu.Unlock()
	return t.String()
}

func (c *credentials) token(id string) (pki.TokenRecord, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.tokens[id]
	return r, ok
}

// offerLocally lets processes of the same user on this machine join without a token, where the peer port is on loopback:
// the token is in a file that only the user can read. It is gone with the node. A node that has no records of the cluster
// yet cannot let others in: ErrUnavailable. It is called again when there is another authority.
func (n *Node) offerLocally() error {
	a, err := n.authority()
	if err != nil || n.offered == a.Fingerprint() {
		return err
	}
	if open, err := beyondLoopback("peer", n.peerAddr); err != nil || open {
		return err
	}
	file, err := localTokenFile(n.peerAddr)
	if err != nil {
		n.log.Debug("no place for a local join token", "error", err)
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return fmt.Errorf("offer a local join token: %w", err)
	}
	if err := writeSecret(file, []byte(n.creds.accept(a.Fingerprint(), pki.AuthorityTTL)+"\n")); err != nil {
		return fmt.Errorf("offer a local join token: %w", err)
	}
	if n.offered == (pki.Fingerprint{}) {
		n.closeLater("local join token", func(context.Context) error { return os.Remove(file) })
	}
	n.offered = a.Fingerprint()
	return nil
}

// forgetLocalToken removes the token of an earlier node at this address that was killed: whoever joins would take it for ours.
func (n *Node) forgetLocalToken() error {
	file, err := localTokenFile(n.peerAddr)
	if err != nil {
		return nil // then there is none
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the join token of an earlier node: %w", err)
	}
	return nil
}

func localTokenFile(addr string) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "pollux", "join", strings.NewReplacer(":", "_", "[", "", "]", "").Replace(addr)), nil
}

// localToken finds the token of a node of the same user on this machine.
func localToken(addr string) (string, error) {
	wants := fmt.Errorf("a join token is needed: make one with \"pollux cluster token\" and give it as --join-token")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if host == "localhost" {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	if open, err := beyondLoopback("join", addr); err != nil || open {
		return "", errors.Join(err, wants)
	}
	file, err := localTokenFile(addr)
	if err != nil {
		return "", errors.Join(err, wants)
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("no node of this user has its --peer address there (%s is missing): %w; %w", file, errNobody, wants)
	}
	return strings.TrimSpace(string(data)), err
}

// writeSecret replaces a file that only the user may read.
func writeSecret(name string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.tmp") // made with mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), name)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
