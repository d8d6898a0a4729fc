package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/polluxhq/pollux/rpc"
)

// foundNode is this machine's node as its data directory names it.
type foundNode struct {
	data, url string
	// named: the directory was given by flag.
	named bool
}

// gone says what an error of a node that does not run means; "" where the error says something else. The node may have
// been killed, and then its directory still names its address.
func (f *foundNode) gone(err error) string {
	if f == nil {
		return ""
	}
	for _, is := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, is) {
			start := "pollux serve"
			if f.named {
				start += " --data " + f.data
			}
			return fmt.Sprintf("the node of %s does not answer at %s; start it with: %s", f.data, f.url, start)
		}
	}
	return ""
}

// nodeURLs are the addresses of the flag, those of the variable, what this machine's node wrote into its data directory, or
// the default. There is at least one.
func (a *app) nodeURLs() ([]*url.URL, error) {
	raw, from := a.url, "--url"
	if raw == "" {
		raw, from = a.getenv("POLLUX_URL"), "POLLUX_URL"
	}
	if raw == "" {
		file := filepath.Join(a.dataDir(), urlFile)
		if b, err := os.ReadFile(file); err == nil {
			raw, from = strings.TrimSpace(string(b)), file
			a.found = &foundNode{data: a.dataDir(), named: a.data != ""}
		}
	}
	if raw == "" {
		raw = defaultURL
	}
	var all []*url.URL
	for one := range strings.SplitSeq(raw, ",") {
		u, err := parseURL(strings.TrimSpace(one))
		if err != nil {
			return nil, usagef("%s %q: want http://HOST:PORT or https://HOST:PORT, or several with commas between", from, one)
		}
		all = append(all, u)
	}
	if a.found != nil {
		a.found.url = all[0].String()
	}
	return all, nil
}

func parseURL(raw string) (*url.URL, error) {
	if !strings.Contains(raw, "://") {
		raw = "http://" + raw
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, err
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("no address of a node")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	// A node that listens on every address is reached here by loopback.
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		port := u.Port()
		if u.Host = "127.0.0.1"; port != "" {
			u.Host += ":" + port
		}
	}
	return u, nil
}

// apiKey is the flag, the variable, or the administrator's key of this machine's node. The latter is only ever sent to
// this machine.
func (a *app) apiKey(bases []*url.URL) (string, error) {
	if a.key != "" {
		return a.key, nil
	}
	if key := a.getenv("POLLUX_API_KEY"); key != "" {
		return key, nil
	}
	if slices.ContainsFunc(bases, func(u *url.URL) bool { return !isLoopback(u) }) {
		return "", nil
	}
	path := filepath.Join(a.dataDir(), rpc.AdminKeyFile)
	key, err := rpc.ReadKeyFile(path)
	switch {
	case err == nil || errors.Is(err, fs.ErrNotExist):
		return key, nil
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w\n  the node belongs to another user: run as that user, or set POLLUX_API_KEY", err)
	}
	return "", err
}

func isLoopback(u *url.URL) bool {
	host := u.Hostname()
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// tlsConfig trusts what this machine trusts and, where the address is that of this machine's node, exactly the
// certificate that the node wrote into its data directory, whoever signed it and whatever names are in it.
func (a *app) tlsConfig(base *url.URL) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: a.insecure} //nolint:gosec // asked for by flag
	if a.insecure || base.Scheme != "https" || a.found == nil && !isLoopback(base) {
		return c, nil
	}
	own, err := readCertificate(filepath.Join(a.dataDir(), certFile))
	if err != nil || own == nil {
		return c, err
	}
	// VerifyConnection runs instead of the usual check, and does it for every other certificate.
	c.InsecureSkipVerify = true
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if s.PeerCertificates[0].Equal(own) {
			return nil
		}
		o := x509.VerifyOptions{DNSName: base.Hostname(), Intermediates: x509.NewCertPool()}
		for _, cert := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(cert)
		}
		_, err := s.PeerCertificates[0].Verify(o)
		return err
	}
	return c, nil
}

// readCertificate gives nil where there is no such file, or where it is another user's.
func readCertificate(path string) (*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s: no certificate in it", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}
