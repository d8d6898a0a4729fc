package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asProgram makes this test's binary be the program: a node that a test may kill needs a process of its own.
const asProgram = "POLLUX_TEST_AS_PROGRAM"

// serveProcess starts `pollux serve` and waits until it is ready. kill ends it as a power cut does.
func serveProcess(t *testing.T, args ...string) (kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"serve"}, args...)...)
	cmd.Env = append(os.Environ(), asProgram+"=1", "POLLUX_GOSSIP=127.0.0.1:0", "POLLUX_PEER=127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	t.Cleanup(kill)
	late := time.AfterFunc(patience, kill)
	defer late.Stop()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "ready ") {
			return kill
		}
	}
	t.Fatalf("the node was never ready: %v", lines.Err())
	return nil
}

// selfSigned writes a certificate for a name that is not this machine's, and its key.
func selfSigned(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "pollux"}, DNSNames: []string{"pollux.example"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestNodeOfThisMachine: a self-signed node is trusted by its own data directory and by nothing else, and one that was
// killed is told by what it left.
func TestNodeOfThisMachine(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	data := filepath.Join(t.TempDir(), "data")
	cert, key := selfSigned(t)
	// On every address, so that what the node writes is no address to dial.
	kill := serveProcess(t, "--data", data, "--http", "0.0.0.0:0", "--mqtt", "off", "--tls-cert", cert, "--tls-key", key, "--log-level", "error")
	env := []string{"POLLUX_DATA=" + data}
	if r := cli(ctx, env, "status"); r.code != 0 || !strings.Contains(r.out, "Answered by") {
		t.Fatalf("status: %d %s%s", r.code, r.out, r.err)
	}
	a := &app{data: data, getenv: func(string) string { return "" }}
	bases, err := a.nodeURLs()
	if err != nil {
		t.Fatal(err)
	}
	if r := cli(ctx, env, "login"); r.code != 0 || !strings.HasPrefix(r.out, "https://127.0.0.1:") {
		t.Errorf("login: %d %s%s", r.code, r.out, r.err)
	}
	if r := cli(ctx, env, "status", "--url", bases[0].String()); r.code != 0 {
		t.Errorf("status of the same address: %d %s", r.code, r.err)
	}
	own := filepath.Join(data, certFile)
	saved, err := os.ReadFile(own)
	if err != nil {
		t.Fatal(err)
	}
	another, _ := selfSigned(t)
	wrong, err := os.ReadFile(another)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"another certificate": string(wrong), "damaged": "nonsense"} {
		if err := os.WriteFile(own, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := cli(ctx, env, "status"); r.code != exitFailed || !strings.Contains(r.err, "certificate") {
			t.Errorf("%s: %d %s%s", name, r.code, r.out, r.err)
		}
	}
	if err := os.Remove(own); err != nil {
		t.Fatal(err)
	}
	if r := cli(ctx, env, "status"); r.code != exitFailed || !strings.Contains(r.err, "certificate") || !strings.Contains(r.err, "--insecure") {
		t.Errorf("no certificate: %d %s%s", r.code, r.out, r.err)
	}
	if err := os.WriteFile(own, saved, 0o600); err != nil {
		t.Fatal(err)
	}

	kill()
	gone := "pollux: the node of " + data + " does not answer at " + bases[0].String() + "; start it with: pollux serve"
	if r := cli(ctx, env, "status"); r.code != exitFailed || r.err != gone+"\n" {
		t.Errorf("after it was killed: %d %s%s", r.code, r.out, r.err)
	}
	if r := cli(ctx, nil, "status", "--data", data); r.code != exitFailed || r.err != gone+" --data "+data+"\n" {
		t.Errorf("with --data: %d %s%s", r.code, r.out, r.err)
	}
	// Without TLS the former certificate goes.
	kill = serveProcess(t, "--data", data, "--http", "127.0.0.1:0", "--mqtt", "off", "--log-level", "error")
	defer kill()
	if _, err := os.Stat(own); !os.IsNotExist(err) {
		t.Errorf("the certificate is still there: %v", err)
	}
	if r := cli(ctx, env, "status"); r.code != 0 {
		t.Errorf("started again: %d %s", r.code, r.err)
	}
}
