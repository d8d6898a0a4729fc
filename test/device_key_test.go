package test

import (
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
)

// deviceKey makes a key for a twin's device and gives its id and secret.
func deviceKey(t *testing.T, n *harness.Node, twin string) (id, secret string) {
	t.Helper()
	var made struct {
		Key    struct{ ID string }
		Secret string
	}
	out := n.Must("key", "create", "--device", twin, "-o", "json")
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Key.ID == "" || made.Secret == "" {
		t.Fatalf("key create printed %s (%v)", out, err)
	}
	return made.Key.ID, made.Secret
}

// background runs a program until the test ends, and tells when it ended by itself.
func background(t *testing.T, name string, args ...string) (ended <-chan struct{}) {
	t.Helper()
	cmd := exec.Command(name, args...)
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		cmd.Wait()
	}()
	t.Cleanup(func() { cmd.Process.Kill(); <-over })
	return over
}

// counter reads one of the node's metrics; 0 where it is not there yet.
func counter(t *testing.T, n *harness.Node, series string) int {
	t.Helper()
	r, err := n.Get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(series) + ` (\d+)$`).FindSubmatch(text)
	if m == nil {
		return 0
	}
	v, _ := strconv.Atoi(string(m[1]))
	return v
}

const notAuthorized = `pollux_mqtt_refused_total{reason="not_authorized"}`

// mosquitto gives the arguments of mosquitto's programs for a user.
func mosquitto(n *harness.Node, user, password string, more ...string) []string {
	host, port, _ := strings.Cut(n.MQTT, ":")
	return append([]string{"-h", host, "-p", port, "-u", user, "-P", password, "-q", "1"}, more...)
}

// TestDeviceKey is a device with a key of its own, as firmware is configured: it subscribes to more than the driver
// sends, and says things where it may not.
func TestDeviceKey(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "tasmota")
	n.Must("twin", "create", "lamp1", "--driver", "tasmota", "--setting", "topic=lamp1")
	n.Must("twin", "create", "lamp2", "--driver", "tasmota", "--setting", "topic=lamp2")
	_, secret := deviceKey(t, n, "lamp1")
	background(t, harness.Binary(t), "sim", "tasmota", "--kind", "plug", "--broker", n.MQTT, "--user", "lamp1", "--password", secret, "--topic", "lamp1")

	state := func(twin string) any {
		return at(curl(t, n, "TwinService/GetTwin", `{"id":"`+twin+`"}`), "twin", "state")
	}
	harness.Until(t, 30*time.Second, "the device is connected and known", func() bool {
		s := state("lamp1")
		return at(s, "status", "connection") == "CONNECTION_CONNECTED" && at(s, "properties", "power1") != nil &&
			at(s, "properties", "mac") != nil // of the answer to a command
	})
	for _, on := range []string{"true", "false"} {
		n.Must("twin", "set", "lamp1", "power1", on)
		harness.Until(t, 30*time.Second, "the command arrives", func() bool {
			return strconv.FormatBool(at(state("lamp1"), "properties", "power1", "value") == true) == on
		})
	}
	n.Must("twin", "call", "lamp1", "toggle") // without input: nothing of it is required
	harness.Until(t, 30*time.Second, "toggled", func() bool { return at(state("lamp1"), "properties", "power1", "value") == true })

	// It announces itself where all devices do: refused and counted, and its connection stays.
	if counter(t, n, notAuthorized) == 0 {
		t.Error("no refusal is counted")
	}
	if out := n.Must("twin", "get", "lamp1", "-o", "json"); !strings.Contains(out, "CONNECTION_CONNECTED") {
		t.Errorf("after its refusals: %s", out)
	}

	before := counter(t, n, notAuthorized)
	for i, c := range []struct{ version, topic string }{{"mqttv311", "tele/lamp2/LWT"}, {"mqttv311", "stat/lamp2/RESULT"}, {"mqttv5", "tele/lamp2/LWT"}} {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		out, err := exec.CommandContext(ctx, "mosquitto_pub", mosquitto(n, "lamp1", secret, "-V", c.version, "-t", c.topic, "-m", "Online")...).CombinedOutput()
		cancel()
		if c.version == "mqttv311" && err != nil {
			t.Errorf("%s on %s: %v: %s", c.version, c.topic, err, out)
		}
		if c.version == "mqttv5" && !strings.Contains(strings.ToLower(string(out)), "authori") {
			t.Errorf("%s on %s is not told: %s", c.version, c.topic, out)
		}
		if got := counter(t, n, notAuthorized); got != before+i+1 {
			t.Errorf("%s on %s: counted %d refusals, then %d", c.version, c.topic, before+i, got)
		}
	}
	if got := at(state("lamp2"), "status", "connection"); got == "CONNECTION_CONNECTED" {
		t.Error("another device's twin believed it")
	}
	out, _ := exec.Command("mosquitto_sub", mosquitto(n, "lamp1", secret, "-t", "cmnd/lamp2/#", "-W", "5", "-v")...).CombinedOutput()
	if !strings.Contains(strings.ToLower(string(out)), "denied") {
		t.Errorf("another device's commands: mosquitto_sub printed %q", out)
	}
}

// TestDeviceBeforeItsTwin: a device that is powered before its twin is made comes in when it is.
func TestDeviceBeforeItsTwin(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "tasmota")
	_, secret := deviceKey(t, n, "lamp1")
	background(t, harness.Binary(t), "sim", "tasmota", "--kind", "plug", "--broker", n.MQTT, "--user", "lamp1", "--password", secret, "--topic", "lamp1")
	harness.Until(t, 30*time.Second, "turned away", func() bool { return counter(t, n, `pollux_mqtt_turned_away_total{reason="credentials"}`) > 0 })
	n.Must("twin", "create", "lamp1", "--driver", "tasmota", "--setting", "topic=lamp1")
	harness.Until(t, 30*time.Second, "let in", func() bool {
		s := at(curl(t, n, "TwinService/GetTwin", `{"id":"lamp1"}`), "twin", "state")
		return at(s, "status", "connection") == "CONNECTION_CONNECTED" && at(s, "properties", "power1") != nil
	})
}

// TestRevokedKey: with a device's key go its MQTT connections, and no others.
func TestRevokedKey(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "tasmota")
	n.Must("twin", "create", "lamp1", "--driver", "tasmota", "--setting", "topic=lamp1")
	id, secret := deviceKey(t, n, "lamp1")
	_, other := deviceKey(t, n, "lamp1")
	listen := func(password string) <-chan struct{} {
		return background(t, "mosquitto_sub", mosquitto(n, "lamp1", password, "-t", "cmnd/lamp1/#")...)
	}
	ended, keptEnded := listen(secret), listen(other)
	harness.Until(t, 30*time.Second, "both have subscribed", func() bool { return counter(t, n, "pollux_mqtt_subscriptions") == 2 })
	n.Must("key", "rm", id)
	// mosquitto_sub tries again, and ends where its password is refused.
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Fatal("the connection of the revoked key goes on")
	}
	if n := counter(t, n, `pollux_mqtt_closed_total{reason="administrative"}`); n != 1 {
		t.Errorf("%d connections were closed", n)
	}
	select {
	case <-keptEnded:
		t.Error("the connection of the other key is gone, too")
	default:
	}
	if out, err := exec.Command("mosquitto_pub", mosquitto(n, "lamp1", secret, "-t", "tele/lamp1/STATE", "-m", "{}")...).CombinedOutput(); err == nil {
		t.Errorf("the revoked key is taken: %s", out)
	}
}
