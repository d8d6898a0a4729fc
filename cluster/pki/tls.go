package pki

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
)

// ServerTLS is the configuration of a listener: TLS 1.3, always the current certificate. A client may come without a
// certificate or with a bad one and is not refused here: the server calls Verify after the handshake, so that it can answer
// with the reason instead of a bare alert, and decide what strangers may do.
func (i *Identity) ServerTLS(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		NextProtos:                  protocols,
		ClientAuth:                  tls.RequestClientCert,
		DynamicRecordSizingDisabled: true, // batches, not pages for a browser
		SessionTicketsDisabled:      true, // a resumed session would outlive what it was verified with
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			return &i.cur.Load().cert, nil
		},
	}
}

// Verify says which node is at the other end of a connection that came in. Errors: ErrNoCertificate, ErrWrongCluster,
// ErrUntrusted; the id is given with an error too where it could be read.
func (i *Identity) Verify(cs *tls.ConnectionState) (node string, err error) {
	if len(cs.PeerCertificates) == 0 {
		return "", ErrNoCertificate
	}
	return judge(cs.PeerCertificates[0], i.cur.Load().pool, i.cluster, "")
}

// ClientTLS is the configuration to dial a node: the handshake fails unless the other side has a certificate of this
// cluster and of that node; node "" means any node of the cluster. The server name tells the other side who was meant, see
// Meant.
func (i *Identity) ClientTLS(node string, protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		NextProtos:                  protocols,
		ServerName:                  serverName(node, i.cluster),
		InsecureSkipVerify:          true, // names of hosts mean nothing here; VerifyConnection checks chain, cluster and node
		DynamicRecordSizingDisabled: true,
		SessionTicketsDisabled:      true,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &i.cur.Load().cert, nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return ErrNoCertificate
			}
			_, err := judge(cs.PeerCertificates[0], i.cur.Load().pool, i.cluster, node)
			return err
		},
	}
}

// anyNode stands in a server name where any node of the cluster will do.
const anyNode = "any"

func serverName(node, clusterID string) string {
	if node == "" {
		node = anyNode
	}
	return node + "." + clusterID + ".pollux"
}

// Meant explains a handshake that the client gave up: whom it wanted, where that is not this node. It gives nil where the
// client meant this node or did not say.
func (i *Identity) Meant(cs *tls.ConnectionState) error {
	name, ok := strings.CutSuffix(cs.ServerName, ".pollux")
	node, clusterID, dotted := strings.Cut(name, ".")
	switch {
	case !ok || !dotted:
		return nil
	case clusterID != i.cluster:
		return fmt.Errorf("it wanted cluster %s, this is %s: %w", clusterID, i.cluster, ErrWrongCluster)
	case node != anyNode && node != i.node:
		return fmt.Errorf("it wanted node %s, this is %s: %w", node, i.node, ErrWrongNode)
	}
	return nil
}

// JoinTLS is the configuration to dial the node at a join address: no certificate yet, and the only one trusted is a
// certificate that the token's authority signed.
func (t Token) JoinTLS(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         protocols,
		InsecureSkipVerify: true, // VerifyConnection checks against the token's fingerprint
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return ErrNoCertificate
			}
			for _, c := range cs.PeerCertificates[1:] {
				if sha256.Sum256(c.Raw) != t.Authority {
					continue
				}
				pool := x509.NewCertPool()
				pool.AddCert(c)
				of, _, err := subject(c0(cs))
				if err != nil {
					return fmt.Errorf("%w: %w", err, ErrUntrusted)
				}
				_, err = judge(c0(cs), pool, of, "")
				return err
			}
			of, _, err := subject(c0(cs))
			if err != nil {
				return fmt.Errorf("the node at this address is no node of a Pollux cluster: %w", errors.Join(err, ErrUntrusted))
			}
			return fmt.Errorf("the node at this address is of cluster %s, whose authority did not make the join token: %w", of, ErrWrongCluster)
		},
	}
}

func c0(cs tls.ConnectionState) *x509.Certificate { return cs.PeerCertificates[0] }
