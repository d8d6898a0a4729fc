package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

const (
	pemCertificate = "CERTIFICATE"
	pemRequest     = "CERTIFICATE REQUEST"
	pemKey         = "PRIVATE KEY"

	scheme = "pollux"
	// maxName bounds ids, in bytes: node and cluster id together are a TLS server name, which has 255 at most.
	maxName = 100
)

// NewKey makes a private key for a node or an authority: ECDSA on P-256.
func NewKey() (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	return key, nil
}

// NewRequest makes a certificate request, as PEM. It proves possession of the key; the id in it is for operators only.
func NewRequest(key crypto.Signer, node string) ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: node}}, key)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemRequest, Bytes: der}), nil
}

// checkName admits ids that can stand in a URI and in a TLS server name as they are.
func checkName(what, name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("%s %q: not 1 to %d characters", what, name, maxName)
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return fmt.Errorf("%s %q: only a-z, 0-9, - and _ are allowed", what, name)
		}
	}
	return nil
}

func nodeURI(clusterID, node string) *url.URL {
	return &url.URL{Scheme: scheme, Host: clusterID, Path: "/node/" + node}
}

// subject reads cluster and node id out of a node's certificate.
func subject(c *x509.Certificate) (clusterID, node string, err error) {
	for _, u := range c.URIs {
		if id, ok := strings.CutPrefix(u.Path, "/node/"); ok && u.Scheme == scheme {
			if err := errors.Join(checkName("cluster id", u.Host), checkName("node id", id)); err != nil {
				return "", "", fmt.Errorf("certificate: %w", err)
			}
			if c.Subject.CommonName != id {
				return "", "", fmt.Errorf("certificate names node %q and node %q", c.Subject.CommonName, id)
			}
			return u.Host, id, nil
		}
	}
	return "", "", fmt.Errorf("certificate %q is not of a node", c.Subject.CommonName)
}

func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemCertificate {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, errors.New("no certificate")
	}
	return all, nil
}

func marshalKey(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: der}), nil
}

func parseKey(data []byte) (crypto.Signer, error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != pemKey {
			continue
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("private key: %w", err)
		}
		if s, ok := key.(crypto.Signer); ok {
			return s, nil
		}
		return nil, errors.New("private key: cannot sign")
	}
	return nil, errors.New("no private key")
}

func samePublic(a, b crypto.PublicKey) bool {
	e, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && e.Equal(b)
}
