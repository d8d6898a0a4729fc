package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

const (
	// NodeTTL is how long a node's certificate is valid. It is renewed after two thirds of it.
	NodeTTL = 90 * 24 * time.Hour
	// AuthorityTTL is how long an authority is valid. Rotation replaces it long before.
	AuthorityTTL = 10 * 365 * 24 * time.Hour
	// skew is how far back a certificate begins, so that a node whose clock is behind accepts it.
	skew = time.Hour
)

// Fingerprint is the SHA-256 of an authority's certificate.
type Fingerprint [sha256.Size]byte

// Authority signs node certificates of one cluster. Its methods may be called concurrently.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

// NewAuthority makes an authority for a cluster, with a fresh key.
func NewAuthority(clusterID string) (*Authority, error) {
	if err := checkName("cluster id", clusterID); err != nil {
		return nil, err
	}
	key, err := NewKey()
	if err != nil {
		return nil, err
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Pollux cluster " + clusterID, Organization: []string{"Pollux"}},
		URIs:                  []*url.URL{{Scheme: scheme, Host: clusterID, Path: "/authority"}},
		NotBefore:             now.Add(-skew),
		NotAfter:              now.Add(AuthorityTTL),
		IsCA:                  true,
		MaxPathLenZero:        true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	return &Authority{cert: cert, key: key}, nil
}

// ParseAuthority reads what Marshal wrote.
func ParseAuthority(data []byte) (*Authority, error) {
	certs, err := parseCertificates(data)
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	key, err := parseKey(data)
	if err != nil {
		return nil, fmt.Errorf("read authority: %w", err)
	}
	if len(certs) != 1 || !certs[0].IsCA {
		return nil, errors.New("read authority: not one certificate of an authority")
	}
	if !samePublic(certs[0].PublicKey, key.Public()) {
		return nil, errors.New("read authority: key and certificate are not a pair")
	}
	return &Authority{cert: certs[0], key: key}, nil
}

// Marshal gives certificate and private key as PEM. It is a secret.
func (a *Authority) Marshal() ([]byte, error) {
	key, err := marshalKey(a.key)
	if err != nil {
		return nil, err
	}
	return append(a.PEM(), key...), nil
}

// PEM gives the certificate alone, as it goes into bundles.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: a.cert.Raw})
}

// Fingerprint of the authority's certificate, as join tokens carry it.
func (a *Authority) Fingerprint() Fingerprint { return sha256.Sum256(a.cert.Raw) }

// Expires says until when the authority is valid.
func (a *Authority) Expires() time.Time { return a.cert.NotAfter }

// ClusterID is the cluster that the authority was made for.
func (a *Authority) ClusterID() string {
	if len(a.cert.URIs) == 1 {
		return a.cert.URIs[0].Host
	}
	return ""
}

// Sign gives a node its certificate, as PEM. The request proves possession of the key; id, cluster and time are the
// caller's to decide, nothing else of the request is taken over.
func (a *Authority) Sign(csr []byte, node, clusterID string, ttl time.Duration) ([]byte, error) {
	if err := errors.Join(checkName("node id", node), checkName("cluster id", clusterID)); err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	if of := a.ClusterID(); of != clusterID {
		return nil, fmt.Errorf("sign certificate: authority is of cluster %s, this is %s: %w", of, clusterID, ErrWrongCluster)
	}
	block, _ := pem.Decode(csr)
	if block == nil || block.Type != pemRequest {
		return nil, errors.New("sign certificate: no certificate request")
	}
	req, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: read request: %w", err)
	}
	if err := req.CheckSignature(); err != nil {
		return nil, fmt.Errorf("sign certificate: request: %w", err)
	}
	if k, ok := req.PublicKey.(*ecdsa.PublicKey); !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("sign certificate: request: the key is not on the curve P-256")
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: node, Organization: []string{"Pollux"}},
		URIs:         []*url.URL{nodeURI(clusterID, node)},
		NotBefore:    now.Add(-skew),
		NotAfter:     now.Add(ttl),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, a.cert, req.PublicKey, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der}), nil
}

// serial is random: authorities share no counter.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f // positive
	b[0] |= 0x40 // never zero, always the same length
	return new(big.Int).SetBytes(b[:])
}
