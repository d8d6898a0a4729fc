package transport

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/polluxhq/pollux/drivers"
)

// TLSConfig makes a client's configuration of a binding's options (nil: the defaults) for a host. Verification is on unless the
// options say otherwise.
func TLSConfig(o *drivers.TLSOptions, host string) (*tls.Config, error) {
	if o == nil {
		o = &drivers.TLSOptions{}
	}
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if o.ServerName != "" {
		conf.ServerName = o.ServerName
	}
	switch o.MinVersion {
	case "1.0":
		conf.MinVersion = tls.VersionTLS10
	case "1.1":
		conf.MinVersion = tls.VersionTLS11
	case "1.3":
		conf.MinVersion = tls.VersionTLS13
	}
	if o.CA != "" {
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(o.CA)) {
			return nil, errors.New("tls/ca: no certificate in PEM")
		}
	}
	if o.Certificate != "" || o.Key != "" {
		pair, err := tls.X509KeyPair([]byte(o.Certificate), []byte(o.Key))
		if err != nil {
			return nil, fmt.Errorf("tls/certificate and key: %w", err)
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	switch {
	case o.Fingerprint != "":
		return conf, pin(conf, o.Fingerprint)
	case o.Insecure == "true":
		conf.InsecureSkipVerify = true
	case o.Insecure != "" && o.Insecure != "false":
		return nil, fmt.Errorf("tls/insecure: %q is neither true nor false", o.Insecure)
	}
	return conf, nil
}

// pin trusts one certificate alone.
func pin(conf *tls.Config, fingerprint string) error {
	want, err := hex.DecodeString(strings.ReplaceAll(strings.TrimPrefix(strings.ToLower(fingerprint), "sha256:"), ":", ""))
	if err != nil || len(want) != sha256.Size {
		return errors.New("tls/fingerprint: not the 64 hexadecimal digits of a SHA-256")
	}
	conf.InsecureSkipVerify = true // in place of the usual verification
	conf.VerifyConnection = func(state tls.ConnectionState) error {
		if len(state.PeerCertificates) == 0 {
			return errors.New("the device shows no certificate")
		}
		got := sha256.Sum256(state.PeerCertificates[0].Raw)
		if subtle.ConstantTimeCompare(got[:], want) != 1 {
			return fmt.Errorf("the device's certificate has the fingerprint %x, not the one that is pinned", got)
		}
		return nil
	}
	return nil
}
