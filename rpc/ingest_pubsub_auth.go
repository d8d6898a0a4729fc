package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// googleIssuer and googleKeys are of the tokens of Google's push subscriptions
	// (https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions).
	googleIssuer = "https://accounts.google.com"
	googleKeys   = "https://www.googleapis.com/oauth2/v3/certs"
	// keysPause between two fetches of a key set: a token names its key, so anybody could have the keys fetched again and again.
	keysPause = 5 * time.Second
	// keysWait is how long a key set may take, and maxKeySet its size in bytes.
	keysWait  = 5 * time.Second
	maxKeySet = 256 << 10
	// maxKeySets are kept.
	maxKeySets = 100
)

// pushers know the issuers of those who push. Safe for concurrent use; the zero value is ready.
type pushers struct {
	mu   sync.Mutex
	sets map[string]*oidc.RemoteKeySet
}

// pushPrincipal is who pushes: by the query's `token`, a key; by another key; or by an OIDC token, where the project's settings name who
// may push so.
func (s *Server) pushPrincipal(r *http.Request) (*Principal, error) {
	project := r.PathValue("project")
	if r.URL.Query().Get("token") != "" {
		r.Header.Del("Authorization") // Google's own proof of who it is, which is not asked for here
		r.Header.Set("Authorization", "Bearer "+takeToken(r))
		return s.ingestPrincipal(r)
	}
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if strings.Count(bearer, ".") != 2 || !validProject(project) {
		return s.ingestPrincipal(r)
	}
	settings, err := s.o.Registry.ProjectSettings(project)
	if err != nil {
		return nil, err
	}
	if settings.PubsubPush == nil {
		return nil, fmt.Errorf("project %s: nobody may push by a token of an issuer: %w", project, ErrUnauthenticated)
	}
	email, err := s.pushers.sender(r.Context(), settings.PubsubPush, bearer)
	if err != nil {
		return nil, fmt.Errorf("project %s: token of who pushes: %w: %w", project, err, ErrUnauthenticated)
	}
	return &Principal{Name: "pubsub:" + email, Role: RoleOperator, Project: project}, nil
}

// sender verifies a token: RS256 by a key of the issuer's, issuer, audience, not over, and of one of the senders named.
func (p *pushers) sender(ctx context.Context, push *pb.PubSubPush, token string) (email string, err error) {
	issuer, keys := push.Issuer, push.KeysUrl
	if issuer == "" {
		issuer = googleIssuer
	}
	if keys == "" {
		keys = googleKeys
	}
	verifier := oidc.NewVerifier(issuer, p.keys(keys), &oidc.Config{ClientID: push.Audience, SupportedSigningAlgs: []string{oidc.RS256}})
	t, err := verifier.Verify(ctx, token)
	if err != nil {
		return "", err
	}
	var claims struct {
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
	}
	if err := t.Claims(&claims); err != nil {
		return "", fmt.Errorf("claims: %w", err)
	}
	if !claims.Verified || !slices.Contains(push.Senders, claims.Email) {
		return "", fmt.Errorf("%.254q is none of those who may push", claims.Email)
	}
	return claims.Email, nil
}

// keys gives a key set, which fetches itself when it meets a key that it does not know.
func (p *pushers) keys(url string) *oidc.RemoteKeySet {
	p.mu.Lock()
	defer p.mu.Unlock()
	if set := p.sets[url]; set != nil {
		return set
	}
	if p.sets == nil || len(p.sets) >= maxKeySets {
		p.sets = map[string]*oidc.RemoteKeySet{}
	}
	client := &http.Client{Timeout: keysWait, Transport: &seldom{}}
	// The set outlives the request that asked for it first.
	set := oidc.NewRemoteKeySet(oidc.ClientContext(context.Background(), client), url)
	p.sets[url] = set
	return set
}

// seldom fetches a key set at most once in a while, and no more of it than a key set has.
type seldom struct {
	mu   sync.Mutex
	last time.Time
}

var errSeldom = errors.New("the issuer's keys were fetched a moment ago, and the token's is not among them")

// RoundTrip implements http.RoundTripper.
func (s *seldom) RoundTrip(r *http.Request) (*http.Response, error) {
	s.mu.Lock()
	soon := time.Since(s.last) < keysPause
	if !soon {
		s.last = time.Now()
	}
	s.mu.Unlock()
	if soon {
		return nil, errSeldom
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		res.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(res.Body, maxKeySet), res.Body}
	}
	return res, err
}
