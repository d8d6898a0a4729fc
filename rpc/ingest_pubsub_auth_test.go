package rpc_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// issuer gives out a key set over HTTP, and signs tokens as Google does for push subscriptions.
type issuer struct {
	*httptest.Server
	key     *rsa.PrivateKey
	fetched atomic.Int32
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{}
	var err error
	if i.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		i.fetched.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: i.key.Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"}}})
	}))
	t.Cleanup(i.Close)
	return i
}

// token signs claims; change makes them other than right.
func (i *issuer) token(t *testing.T, alg jose.SignatureAlgorithm, key crypto.PrivateKey, kid string, change map[string]any) string {
	t.Helper()
	claims := map[string]any{"iss": "https://accounts.google.com", "aud": "https://twins.example/push", "sub": "1", "email": "push@plant.iam.gserviceaccount.com",
		"email_verified": true, "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}
	for k, v := range change {
		claims[k] = v
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestPubSubToken: a push subscription that proves itself by Google's token is let in where the project says so, and nobody else is.
func TestPubSubToken(t *testing.T) {
	h := openHouse(t)
	p := fresh("oidc")
	h.echo(t, p+"/lamp")
	i := newIssuer(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	const body = `{"message":{"data":"eyJsZXZlbCI6N30=","attributes":{"twin":"lamp"}},"subscription":"projects/x/subscriptions/s"}`
	push := func(token string) int {
		status, _ := h.ingest(t, "", p+"/pubsub", body, "Authorization", "Bearer "+token)
		return status
	}
	good := i.token(t, jose.RS256, i.key, "k1", nil)
	if status := push(good); status != http.StatusUnauthorized {
		t.Errorf("before the project says who may push: %d", status)
	}
	put := func(push *pb.PubSubPush) error {
		c := rpcv1.NewIngestServiceClient(h.h2c(h.admin), h.url)
		old, err := c.GetProjectSettings(t.Context(), connect.NewRequest(&pb.GetProjectSettingsRequest{Project: p}))
		if err != nil {
			t.Fatal(err)
		}
		s := old.Msg.Settings
		s.PubsubPush = push
		_, err = c.PutProjectSettings(t.Context(), connect.NewRequest(&pb.PutProjectSettingsRequest{Settings: s}))
		return err
	}
	may := &pb.PubSubPush{Audience: "https://twins.example/push", Senders: []string{"push@plant.iam.gserviceaccount.com"}, KeysUrl: i.URL}
	if err := put(may); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, token string
		status      int
	}{
		{"as it should be", good, 200},
		{"another audience", i.token(t, jose.RS256, i.key, "k1", map[string]any{"aud": "https://other.example"}), 401},
		{"another issuer", i.token(t, jose.RS256, i.key, "k1", map[string]any{"iss": "https://evil.example"}), 401},
		{"another sender", i.token(t, jose.RS256, i.key, "k1", map[string]any{"email": "evil@plant.iam.gserviceaccount.com"}), 401},
		{"an address that nobody verified", i.token(t, jose.RS256, i.key, "k1", map[string]any{"email_verified": false}), 401},
		{"over", i.token(t, jose.RS256, i.key, "k1", map[string]any{"exp": time.Now().Add(-time.Minute).Unix()}), 401},
		{"another's signature", i.token(t, jose.RS256, other, "k1", nil), 401},
		{"a key that is not there", i.token(t, jose.RS256, other, "k2", nil), 401},
		{"the public key as a secret", i.token(t, jose.HS256, i.key.N.Bytes(), "k1", nil), 401},
		{"no token", "a.b.c", 401},
		{"nobody", "", 401},
		{"again as it should be", good, 200},
	} {
		if status := push(c.token); status != c.status {
			t.Errorf("%s: status %d, want %d", c.name, status, c.status)
		}
	}
	if n := i.fetched.Load(); n > 3 {
		t.Errorf("the keys were fetched %d times", n)
	}
	if c := h.counted(t, p, "pubsub"); c.Stored != 2 || c.Received != 2 {
		t.Errorf("counted %v", c)
	}
	// A sender of one project is a stranger to another.
	foreign := fresh("oidc2")
	h.echo(t, foreign+"/lamp")
	if status, _ := h.ingest(t, "", foreign+"/pubsub", body, "Authorization", "Bearer "+good); status != http.StatusUnauthorized {
		t.Errorf("in another project: %d", status)
	}
	for _, url := range []string{"http://keys.example/certs", "ftp://x/y", "certs", "http://10.0.0.7/certs"} {
		if err := put(&pb.PubSubPush{Audience: "a", Senders: []string{"a@b"}, KeysUrl: url}); connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("keys at %s: %v", url, err)
		}
	}
	if err := put(nil); err != nil {
		t.Fatal(err)
	}
	if status := push(good); status != http.StatusUnauthorized {
		t.Errorf("when nobody may any more: %d", status)
	}
}
