package drivers_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
)

const transportsManifest = `{"contract":"twin1","name":"x","version":"1.0.0","capabilities":["send","discover","http"],"model":{},
	"settings":{"type":"object","properties":{"user":{"type":"string"},"host":{"type":"string"},"list":{"type":"array"}}},%s}`

func TestTransportsAreChecked(t *testing.T) {
	for part, want := range map[string]string{
		`"transports":[{"scheme":"tcp"},{"scheme":"udp","udp":{"peers":["{host}"]}},{"scheme":"https","http":{"auth":"basic","user":"{user}"}}]`: "",
		`"transport":{"scheme":"ssh","ssh":{"host_key":"{host}"}}`:                                                                               "",
		`"http":{"hosts":["api.example.com","*.example.org:8443","{host}"],"auth":"bearer","token":"{user}"}`:                                    "",
		`"scan":{"over":"udp","port":47808}`:                            "",
		`"transport":{"scheme":"tcp"},"transports":[{"scheme":"udp"}]`:  "transport: is the short form",
		`"transports":[{"scheme":"tcp"},{"scheme":"tcp"}]`:              `transports/1/scheme: "tcp" is there twice`,
		`"transports":[{"scheme":"tcp","udp":{}}]`:                      "transports/0: udp belongs to scheme udp, udp-in",
		`"transport":{"scheme":"ssh"}`:                                  "transport/ssh/host_key: is missing",
		`"transport":{"scheme":"tls","tls":{"certificate":"x"}}`:        "transport/tls: certificate and key go together",
		`"transport":{"scheme":"tls","tls":{"ca":"{nothing}"}}`:         "transport/tls/ca: {nothing} is no setting",
		`"transport":{"scheme":"http","http":{"headers":{"Host":"x"}}}`: "transport/http/headers: Host is the host's own",
		`"transport":{"scheme":"http","http":{"auth":"magic"}}`:         `transport/http/auth: "magic" is not one of`,
		`"transport":{"scheme":"serial","serial":{"parity":"often"}}`:   `transport/serial/parity: "often"`,
		`"transport":{"scheme":"udp","per_command":true}`:               "per_command belongs to scheme tcp, ssh",
		`"http":{"hosts":["http://x/"]}`:                                `http/hosts/0: "http://x/" is not HOST`,
		`"http":{"hosts":["x"],"auth":"magic"}`:                         `http/auth: "magic"`,
		`"http":{"hosts":["x"],"token":"{nothing}"}`:                    "http/token: {nothing} is no setting",
		`"scan":{"over":"smoke","port":1}`:                              "scan/over",
		`"scan":{"over":"udp","port":1,"group":"10.0.0.1"}`:             "scan/group",
		`"scan":{"over":"tcp","port":0}`:                                "scan/port",
	} {
		_, err := drivers.ParseManifest(fmt.Appendf(nil, transportsManifest, part))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: got %v, want %q", part, err, want)
		}
	}
}

func TestTheSchemeOfTheAddressPicksTheTransport(t *testing.T) {
	m, err := drivers.ParseManifest(fmt.Appendf(nil, transportsManifest,
		`"transports":[{"scheme":"tcp","default_port":1},{"scheme":"mqtt","subscribe":["a/{user}"]},{"scheme":"webhook"}]`))
	if err != nil {
		t.Fatal(err)
	}
	for uri, want := range map[string]string{
		"tcp://10.0.0.7": "tcp", "mqtt://broker": "mqtt", "": "mqtt", "webhook:?from=10.0.0.7": "webhook", "udp://x": "", "nonsense": "",
	} {
		got := m.TransportOf(uri)
		if (got == nil) != (want == "") || got != nil && got.Scheme != want {
			t.Errorf("%q picks %+v, want %q", uri, got, want)
		}
	}
	if tr := m.TransportOf(""); tr.Dials("") || !tr.OwnBroker("") || !tr.Dials("mqtt://broker") {
		t.Error("mqtt without an address is the node's own broker, and another's with one")
	}
}

func TestResolveFillsSettingsIn(t *testing.T) {
	tr := &drivers.TransportOptions{Scheme: "https", HTTP: &drivers.HTTPOptions{User: "{user}", Headers: map[string]string{"X-Key": "k={user}{absent}"}},
		TLS: &drivers.TLSOptions{Insecure: "{trust}"}}
	full, err := tr.Resolve([]byte(`{"user":"ann {user}","trust":true}`))
	if err != nil || full.HTTP.User != "ann {user}" || full.HTTP.Headers["X-Key"] != "k=ann {user}" || full.TLS.Insecure != "true" {
		t.Fatalf("got %+v, %v", full, err)
	}
	if tr.HTTP.User != "{user}" || full.Equal(tr) {
		t.Fatal("the manifest's own options were changed")
	}
	if again, err := tr.Resolve([]byte(`{"user":"ann {user}","trust":true}`)); err != nil || !again.Equal(full) {
		t.Fatalf("not the same again: %v", err)
	}
	if _, err := tr.Resolve([]byte(`{"user":[1]}`)); err == nil || !strings.Contains(err.Error(), "user is not a plain value") {
		t.Fatalf("a list: %v", err)
	}
	plain := &drivers.TransportOptions{Scheme: "tcp"}
	if same, err := plain.Resolve(nil); err != nil || same != plain {
		t.Fatal("options without settings are not shared")
	}
}
