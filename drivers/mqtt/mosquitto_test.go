package mqtt

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// tool gives the path of one of mosquitto's clients; they are not ours, and that is the point.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed (Debian: mosquitto-clients)", name)
	}
	return path
}

func address(b *Broker) []string {
	host, port, _ := net.SplitHostPort(b.Addr().String())
	return []string{"-h", host, "-p", port}
}

func pub(t *testing.T, b *Broker, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, tool(t, "mosquitto_pub"), append(address(b), args...)...).CombinedOutput()
	return string(out), err
}

var nextID atomic.Uint64

// sub starts a mosquitto_sub, waits until it has subscribed, and gives its output when it is done.
func sub(t *testing.T, b *Broker, args ...string) (*exec.Cmd, func() string) {
	t.Helper()
	var out bytes.Buffer
	id := "sub" + strconv.FormatUint(nextID.Add(1), 10)
	cmd := exec.Command(tool(t, "mosquitto_sub"), append(append(address(b), "-i", id), args...)...)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	eventually(t, "mosquitto_sub has subscribed", func() bool {
		return subscribed(b, id) || len(ended) > 0
	})
	return cmd, func() string {
		t.Helper()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-ended
			t.Fatalf("mosquitto_sub does not end; it printed %q", out.String())
		}
		return out.String()
	}
}

// subscribed says whether a client has a subscription.
func subscribed(b *Broker, id string) bool {
	b.clients.mu.RLock()
	defer b.clients.mu.RUnlock()
	c := b.clients.byID[id]
	return c != nil && len(c.subs) > 0
}

func TestStockClients(t *testing.T) {
	for name, version := range map[string]string{"3.1": "mqttv31", "3.1.1": "mqttv311", "5": "mqttv5"} {
		t.Run(name, func(t *testing.T) {
			d := &desk{}
			b := start(t, d, nil)
			_, output := sub(t, b, "-V", version, "-t", "tele/#", "-q", "2", "-C", "3", "-F", "%t %p %q")
			for _, qos := range []string{"0", "1", "2"} {
				if out, err := pub(t, b, "-V", version, "-t", "tele/lamp/STATE", "-m", `{"POWER":"ON","q":`+qos+`}`, "-q", qos); err != nil {
					t.Fatalf("mosquitto_pub -q %s: %v: %s", qos, err, out)
				}
			}
			want := "tele/lamp/STATE {\"POWER\":\"ON\",\"q\":0} 0\ntele/lamp/STATE {\"POWER\":\"ON\",\"q\":1} 1\ntele/lamp/STATE {\"POWER\":\"ON\",\"q\":2} 2\n"
			if got := output(); got != want {
				t.Fatalf("mosquitto_sub printed %q", got)
			}
			eventually(t, "three messages", func() bool { return d.count() == 3 })
			for i, m := range d.messages() {
				if m.Topic != "tele/lamp/STATE" || int(m.QoS) != i {
					t.Fatalf("message %d: %+v", i, m)
				}
			}
			// Retained, then a late subscriber.
			if out, err := pub(t, b, "-V", version, "-t", "stat/lamp", "-m", "kept", "-q", "1", "-r"); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			_, output = sub(t, b, "-V", version, "-t", "stat/+", "-C", "1", "-F", "%p %r")
			if got := output(); got != "kept 1\n" {
				t.Fatalf("the late subscriber printed %q", got)
			}
			// A command from the node.
			_, output = sub(t, b, "-V", version, "-t", "cmnd/lamp/#", "-q", "1", "-C", "1", "-v")
			if err := b.Publish("cmnd/lamp/POWER", []byte("OFF"), 1, false); err != nil {
				t.Fatal(err)
			}
			if got := output(); got != "cmnd/lamp/POWER OFF\n" {
				t.Fatalf("the device printed %q", got)
			}
			// The will of a client that is killed.
			cmd, output := sub(t, b, "-V", version, "-t", "x", "--will-topic", "tele/lamp/LWT", "--will-payload", "Offline", "--will-qos", "1")
			_ = cmd.Process.Signal(syscall.SIGKILL)
			output()
			eventually(t, "the will", func() bool {
				all := d.messages()
				m := all[len(all)-1]
				return m.Will && m.Topic == "tele/lamp/LWT" && string(m.Payload) == "Offline"
			})
			if n := b.Stats(); n.In != [3]uint64{1, 2, 1} || n.Wills != 1 {
				t.Fatalf("stats %+v", n)
			}
		})
	}
}

func TestStockClientsAreRefused(t *testing.T) {
	d := &desk{grants: map[string]Grant{"lamp": {Topics: []string{"tele/lamp/#"}}}}
	b := start(t, d, func(o *Options) { o.AllowAnonymous = false })
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, who := range [][]string{nil, {"-u", "lamp", "-P", "wrong"}, {"-u", "nobody", "-P", "secret"}} {
			out, err := pub(t, b, append([]string{"-V", version, "-t", "tele/lamp/x", "-m", "x", "-q", "1"}, who...)...)
			if err == nil || !strings.Contains(strings.ToLower(out), "not authori") && !strings.Contains(strings.ToLower(out), "bad user name or password") &&
				!strings.Contains(strings.ToLower(out), "bad username or password") {
				t.Errorf("%s %v: %v, printed %q", version, who, err, out)
			}
		}
		if out, err := pub(t, b, "-V", version, "-u", "lamp", "-P", "secret", "-t", "tele/lamp/x", "-m", "x", "-q", "1"); err != nil {
			t.Errorf("%s with the right password: %v, printed %q", version, err, out)
		}
	}
	if out, _ := pub(t, b, "-V", "mqttv5", "-u", "lamp", "-P", "secret", "-t", "tele/other/x", "-m", "x", "-q", "1"); !strings.Contains(out, "authori") {
		t.Errorf("on another's topic mosquitto_pub printed %q", out)
	}
	if d.count() != 2 {
		t.Fatalf("%d delivered", d.count())
	}
	if n := b.Stats(); n.TurnedAway["anonymous"] != 2 || n.TurnedAway["credentials"] != 4 || n.Refused["not_authorized"] != 1 {
		t.Fatalf("stats %+v", n)
	}
}

func TestTLS(t *testing.T) {
	cert, file := certificate(t)
	d := &desk{}
	b := start(t, d, func(o *Options) {
		o.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
		o.Limits.ConnectTimeout = 2 * time.Second
	})
	for _, version := range []string{"mqttv311", "mqttv5"} {
		if out, err := pub(t, b, "-V", version, "--cafile", file, "-t", "a", "-m", "sealed", "-q", "2"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if d.count() != 2 || string(d.messages()[0].Payload) != "sealed" {
		t.Fatalf("%d delivered", d.count())
	}
	p := plug(t, b) // without TLS
	p.raw([]byte{0x10, 0x0c, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 0, 0, 0})
	if _, err := p.conn.Read(make([]byte, 100)); err == nil {
		_, err = p.conn.Read(make([]byte, 100)) // an alert, then the end
		if err == nil {
			t.Fatal("the connection stays open")
		}
	}
	eventually(t, "the count", func() bool { return b.Stats().Closed["tls"] == 1 })
}

// certificate for 127.0.0.1, signed by itself, also as a file for clients.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, file
}
