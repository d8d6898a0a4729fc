package peer

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/net/http2"

	"github.com/polluxhq/pollux/cluster/pki"
	peerv1 "github.com/polluxhq/pollux/proto/pollux/peer/v1"
	"github.com/polluxhq/pollux/proto/pollux/peer/v1/peerv1connect"
)

// EnrollRequest is what a new node asks with.
type EnrollRequest struct {
	// TokenID (hex) and Secret are the join token's; whoever serves the request checks them (pki.TokenRecord).
	TokenID string
	Secret  []byte
	// Node is the new node's id, Name is for operators.
	Node, Name string
	// CSR is the certificate request, as PEM.
	CSR []byte
	// Remote is the address that asks.
	Remote string
}

// EnrollResponse is what a new node begins with.
type EnrollResponse struct {
	// Cert is the node's certificate, CA the trusted authorities, as PEM.
	Cert, CA  []byte
	ClusterID string
	// GossipKeys: the first is used to send.
	GossipKeys [][]byte
	// Gossip and Peers are addresses of nodes.
	Gossip, Peers []string
}

// errNoPeerPort: something else listens where a node is to be joined.
var errNoPeerPort = errors.New("what listens there is no node's --peer address (by default port 7947)")

// enrollTimeout is for the whole enrolment.
const enrollTimeout = 15 * time.Second

// Enroll asks the node at joinAddr (host:port of a peer port) for a certificate. It talks only to a node whose certificate the
// token's authority signed. It blocks. Errors: ErrUnreachable, pki.ErrToken, pki.ErrTokenExpired, pki.ErrWrongCluster, pki.ErrUntrusted.
func Enroll(ctx context.Context, joinAddr string, token pki.Token, node, name string, csr []byte) (EnrollResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, enrollTimeout)
	defer cancel()
	fail := func(err error) (EnrollResponse, error) {
		return EnrollResponse{}, fmt.Errorf("enroll at %s: %w", joinAddr, err)
	}
	plain, err := (&net.Dialer{}).DialContext(ctx, "tcp", joinAddr)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", ErrUnreachable, err))
	}
	conn := tls.Client(plain, token.JoinTLS(protoH2))
	defer conn.Close()
	if err := conn.HandshakeContext(ctx); err != nil {
		var noTLS tls.RecordHeaderError
		if errors.Is(err, io.EOF) || errors.As(err, &noTLS) {
			return fail(fmt.Errorf("%w: %w", errNoPeerPort, err))
		}
		return fail(err)
	}
	if conn.ConnectionState().NegotiatedProtocol != protoH2 {
		return fail(fmt.Errorf("%w: %w", errNoPeerPort, ErrRefused))
	}
	cc, err := (&http2.Transport{DisableCompression: true}).NewClientConn(conn)
	if err != nil {
		return fail(err)
	}
	defer cc.Close()
	client := peerv1connect.NewPeerServiceClient(doFunc(cc.RoundTrip), "https://"+joinAddr, connect.WithReadMaxBytes(1<<20))
	res, err := client.Enroll(ctx, connect.NewRequest(&peerv1.EnrollRequest{TokenId: hex.EncodeToString(token.ID[:]),
		Secret: token.Secret[:], Node: node, Name: name, Csr: csr}))
	if err != nil {
		return fail(enrollError(err))
	}
	m := res.Msg
	return EnrollResponse{Cert: m.GetCertificate(), CA: m.GetAuthorities(), ClusterID: m.GetClusterId(), GossipKeys: m.GetGossipKeys(),
		Gossip: m.GetGossip(), Peers: m.GetPeers()}, nil
}

type doFunc func(*http.Request) (*http.Response, error)

func (f doFunc) Do(r *http.Request) (*http.Response, error) { return f(r) }

// enrollError gives the sentinels of tokens back.
func enrollError(err error) error {
	var c *connect.Error
	if !errors.As(err, &c) {
		return err
	}
	switch c.Code() {
	case connect.CodeUnauthenticated:
		return &remoteError{text: c.Message(), wraps: []error{pki.ErrToken}}
	case connect.CodeFailedPrecondition:
		return &remoteError{text: c.Message(), wraps: []error{pki.ErrTokenExpired}}
	}
	return fromCode(err)
}

// enroll serves Enroll.
func (c *serverConn) enroll(ctx context.Context, r *peerv1.EnrollRequest) (*peerv1.EnrollResponse, error) {
	p := c.p
	if p.o.Enroll == nil {
		return nil, connect.NewError(connect.CodeUnavailable, errors.New("this node enrolls nobody now"))
	}
	remote := c.conn.RemoteAddr().String()
	res, err := p.o.Enroll(ctx, EnrollRequest{TokenID: r.GetTokenId(), Secret: r.GetSecret(), Node: r.GetNode(), Name: r.GetName(),
		CSR: r.GetCsr(), Remote: remote})
	if err != nil {
		p.m.refused("enroll").Inc()
		p.o.Logger.Warn("enrolment refused", "node", r.GetNode(), "name", r.GetName(), "remote", remote, "error", err)
		slowly(ctx)
		switch {
		case errors.Is(err, pki.ErrTokenExpired):
			return nil, connect.NewError(connect.CodeFailedPrecondition, err)
		case errors.Is(err, pki.ErrToken):
			return nil, connect.NewError(connect.CodeUnauthenticated, err)
		}
		return nil, toCode(err)
	}
	p.m.enrolled.Inc()
	p.o.Logger.Info("node enrolled", "node", r.GetNode(), "name", r.GetName(), "remote", remote)
	return &peerv1.EnrollResponse{Certificate: res.Cert, Authorities: res.CA, ClusterId: res.ClusterID, GossipKeys: res.GossipKeys,
		Gossip: res.Gossip, Peers: res.Peers}, nil
}

// slowly makes guessing slow; maxStrangers bounds how many may guess at a time.
func slowly(ctx context.Context) {
	select {
	case <-time.After(200 * time.Millisecond):
	case <-ctx.Done():
	}
}
