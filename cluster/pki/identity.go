package pki

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrWrongCluster: a certificate is of another cluster.
	ErrWrongCluster = errors.New("wrong cluster")
	// ErrWrongNode: a certificate is of another node than the one that was meant.
	ErrWrongNode = errors.New("wrong node")
	// ErrUntrusted: a certificate was signed by no authority of this cluster.
	ErrUntrusted = errors.New("certificate is not trusted")
	// ErrExpired: a certificate is not valid now.
	ErrExpired = errors.New("certificate is not valid now")
	// ErrNoCertificate: the other side showed none.
	ErrNoCertificate = errors.New("no certificate")
)

// Identity is who this node is: key, certificate, and the authorities it trusts. All of it can be replaced while
// connections stand. Its methods may be called concurrently.
type Identity struct {
	node, cluster string
	cur           atomic.Pointer[state]

	mu      sync.Mutex // one change at a time
	watches map[int]func()
	next    int
}

// state is replaced as a whole, so that a handshake sees key, certificate and authorities that belong together.
type state struct {
	key    crypto.Signer
	leaf   *x509.Certificate
	cert   tls.Certificate
	bundle []*x509.Certificate
	pool   *x509.CertPool
}

// NewIdentity joins key, certificate and bundle of authorities (PEM). The certificate must be signed by one of the bundle.
// One that is not valid now is taken, so that a node that was off for long can renew it; other nodes refuse it until then.
func NewIdentity(key crypto.Signer, cert, bundle []byte) (*Identity, error) {
	s, err := newState(key, cert, bundle)
	if err != nil {
		return nil, fmt.Errorf("node identity: %w", err)
	}
	clusterID, node, err := subject(s.leaf)
	if err != nil {
		return nil, fmt.Errorf("node identity: %w", err)
	}
	i := &Identity{node: node, cluster: clusterID, watches: map[int]func(){}}
	if err := i.check(s); err != nil && !errors.Is(err, ErrExpired) {
		return nil, fmt.Errorf("node identity: %w", err)
	}
	i.cur.Store(s)
	return i, nil
}

func newState(key crypto.Signer, cert, bundle []byte) (*state, error) {
	certs, err := parseCertificates(cert)
	if err != nil {
		return nil, err
	}
	if !samePublic(certs[0].PublicKey, key.Public()) {
		return nil, errors.New("key and certificate are not a pair")
	}
	authorities, err := parseCertificates(bundle)
	if err != nil {
		return nil, fmt.Errorf("authorities: %w", err)
	}
	s := &state{key: key, leaf: certs[0], bundle: authorities, pool: x509.NewCertPool()}
	s.cert = tls.Certificate{Certificate: [][]byte{s.leaf.Raw}, PrivateKey: key, Leaf: s.leaf}
	for _, a := range authorities {
		if !a.IsCA {
			return nil, fmt.Errorf("authorities: %q is none", a.Subject.CommonName)
		}
		s.pool.AddCert(a)
		// The signer goes along: a joining node knows only its fingerprint.
		if bytes.Equal(a.RawSubject, s.leaf.RawIssuer) && s.leaf.CheckSignatureFrom(a) == nil {
			s.cert.Certificate = append(s.cert.Certificate, a.Raw)
		}
	}
	return s, nil
}

// check is the same judgement that other nodes will make of us.
func (i *Identity) check(s *state) error {
	_, err := judge(s.leaf, s.pool, i.cluster, i.node)
	return err
}

// judge says whose certificate it is, and why it is refused.
func judge(leaf *x509.Certificate, pool *x509.CertPool, clusterID, want string) (string, error) {
	of, node, err := subject(leaf)
	if err != nil {
		return "", fmt.Errorf("%w: %w", err, ErrUntrusted)
	}
	if of != clusterID {
		return node, fmt.Errorf("certificate is of cluster %s, this is %s: %w", of, clusterID, ErrWrongCluster)
	}
	_, err = leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	switch invalid := (x509.CertificateInvalidError{}); {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return node, fmt.Errorf("certificate of node %s is valid from %s to %s, now it is %s: %w", node, stamp(leaf.NotBefore),
			stamp(leaf.NotAfter), stamp(time.Now()), ErrExpired)
	case err != nil:
		return node, fmt.Errorf("certificate of node %s is signed by no authority of this cluster: %w", node, ErrUntrusted)
	case want != "" && node != want:
		return node, fmt.Errorf("certificate is of node %s, %s was meant: %w", node, want, ErrWrongNode)
	}
	return node, nil
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Node is this node's id.
func (i *Identity) Node() string { return i.node }

// ClusterID is the cluster that this node is of.
func (i *Identity) ClusterID() string { return i.cluster }

// Expires says until when the certificate is valid.
func (i *Identity) Expires() time.Time { return i.cur.Load().leaf.NotAfter }

// RenewAt is when two thirds of the certificate's time have passed.
func (i *Identity) RenewAt() time.Time {
	leaf := i.cur.Load().leaf
	return leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore) / 3 * 2)
}

// Bundle gives the trusted authorities, as PEM.
func (i *Identity) Bundle() []byte {
	var out []byte
	for _, a := range i.cur.Load().bundle {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: a.Raw})...)
	}
	return out
}

// SignedBy tells whether the certificate was signed by the authority with this fingerprint.
func (i *Identity) SignedBy(f Fingerprint) bool {
	chain := i.cur.Load().cert.Certificate
	return len(chain) > 1 && sha256.Sum256(chain[1]) == f
}

// Replace puts another key and certificate (PEM) in place, of the same node. Connections that stand are not touched; those
// who watch are told.
func (i *Identity) Replace(key crypto.Signer, cert []byte) error {
	return i.swap(func(old *state) (*state, error) { return newState(key, cert, i.Bundle()) })
}

// SetBundle replaces the trusted authorities (PEM). The own certificate must have been signed by one of them: when an
// authority is to go, certificates are replaced first.
func (i *Identity) SetBundle(bundle []byte) error {
	return i.swap(func(old *state) (*state, error) {
		cert := pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: old.leaf.Raw})
		return newState(old.key, cert, bundle)
	})
}

func (i *Identity) swap(next func(old *state) (*state, error)) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	s, err := next(i.cur.Load())
	if err == nil {
		err = i.check(s)
	}
	if err != nil && (!errors.Is(err, ErrExpired) || time.Now().Before(i.Expires())) {
		return fmt.Errorf("replace identity of node %s: %w", i.node, err)
	}
	i.cur.Store(s)
	for _, fn := range i.watches {
		fn()
	}
	return nil
}

// Watch calls fn after each change, from the goroutine that made it; fn must not block or change the identity.
func (i *Identity) Watch(fn func()) (stop func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := i.next
	i.next++
	i.watches[n] = fn
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.watches, n)
	}
}
