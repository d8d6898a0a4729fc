// Package kafka reads the URLs by which sinks and sources name a topic of Kafka: kafka://HOST:PORT,HOST:PORT/TOPIC with the
// parameters user, sasl and tls. The client is franz-go.
package kafka

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Timeout bounds what a client tries by itself, so that a failure shows.
const Timeout = 20 * time.Second

// Params are the parameters that every URL may have.
var Params = []string{"user", "sasl", "tls"}

var topicPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,249}$`)

// Topic that a URL names.
func Topic(u *url.URL) string { return strings.TrimPrefix(u.Path, "/") }

// Check says what is wrong with a URL; more are parameters that it may have besides Params.
func Check(u *url.URL, more ...string) error {
	if u.Scheme != "kafka" {
		return errors.New("want kafka://HOST:PORT,HOST:PORT/TOPIC")
	}
	for _, b := range strings.Split(u.Host, ",") {
		if _, _, err := net.SplitHostPort(b); err != nil {
			return fmt.Errorf("want kafka://HOST:PORT,HOST:PORT/TOPIC: %q is no HOST:PORT", b)
		}
	}
	if !topicPattern.MatchString(Topic(u)) {
		return fmt.Errorf("want kafka://HOST:PORT/TOPIC: %q is no topic of Kafka", u.Path)
	}
	if _, has := u.User.Password(); has {
		return errors.New("a password does not belong in the URL: give it as the secret")
	}
	for name := range u.Query() {
		if !slices.Contains(Params, name) && !slices.Contains(more, name) {
			return fmt.Errorf("kafka has no parameter %q; it may have: %s", name, strings.Join(append(slices.Clone(Params), more...), ", "))
		}
	}
	_, err := Options(u, "")
	return err
}

// Options are those of the connection.
func Options(u *url.URL, secret string) ([]kgo.Opt, error) {
	o := []kgo.Opt{kgo.SeedBrokers(strings.Split(u.Host, ",")...), kgo.ClientID("pollux"), kgo.RetryTimeout(Timeout)}
	q := u.Query()
	switch q.Get("tls") {
	case "", "false":
	case "true":
		o = append(o, kgo.DialTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12}))
	default:
		return nil, errors.New("tls is true or false")
	}
	user := q.Get("user")
	switch q.Get("sasl") {
	case "":
		if user != "" {
			return nil, errors.New("user without sasl: want plain, scram-sha-256 or scram-sha-512")
		}
	case "plain":
		o = append(o, kgo.SASL(plain.Auth{User: user, Pass: secret}.AsMechanism()))
	case "scram-sha-256":
		o = append(o, kgo.SASL(scram.Auth{User: user, Pass: secret}.AsSha256Mechanism()))
	case "scram-sha-512":
		o = append(o, kgo.SASL(scram.Auth{User: user, Pass: secret}.AsSha512Mechanism()))
	default:
		return nil, errors.New("sasl is plain, scram-sha-256 or scram-sha-512")
	}
	return o, nil
}
