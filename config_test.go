package pollux

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func noEnv(string) (string, bool) { return "", false }

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pollux.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestLoadConfigPrecedence(t *testing.T) {
	file := writeFile(t, "name: from-file\nhttp: 127.0.0.1:1\nmqtt: 127.0.0.1:2\nmetrics:\n  retention: 30d\n  memory: 64MiB\n")
	env := func(name string) (string, bool) {
		v, ok := map[string]string{"POLLUX_HTTP": "127.0.0.1:3", "POLLUX_MQTT": "127.0.0.1:4", "POLLUX_METRICS_MEMORY": "128MiB"}[name]
		return v, ok
	}
	c, origin, err := LoadConfig(file, env, map[string]string{"mqtt": "127.0.0.1:5"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "from-file" || c.HTTP != "127.0.0.1:3" || c.MQTT != "127.0.0.1:5" || c.MetricsRetention != 30*24*time.Hour || c.MetricsMemory != 128<<20 {
		t.Errorf("got %+v", c)
	}
	for key, want := range map[string]string{
		"name": "file " + file + ":1", "http": "variable POLLUX_HTTP", "mqtt": "flag --mqtt", "log.level": "default",
		"metrics.retention": "file " + file + ":5",
	} {
		if origin[key] != want {
			t.Errorf("%s came from %q, want %q", key, origin[key], want)
		}
	}
}

func TestLoadConfigNamesWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name  string
		yaml  string
		flags map[string]string
		want  string
	}{
		{"bad value", "", map[string]string{"log.level": "loud"}, `log.level = "loud" (flag --log-level): want debug, info, warn or error`},
		{"unknown key", "metrics:\n  urll: x\n", nil, ":2: metrics.urll is no setting"},
		{"list", "name: [a]\n", nil, ":1: name: want one value"},
		{"not yaml", "{", nil, "read configuration"},
		{"no port", "", map[string]string{"http": "localhost"}, `http = "localhost": want HOST:PORT`},
		{"open HTTP", "", map[string]string{"http": "0.0.0.0:8080"}, "--tls-cert and --tls-key, or --insecure"},
		{"open MQTT", "", map[string]string{"mqtt": ":1883", "mqtt-anonymous": "true"}, "drop --mqtt-anonymous"},
		{"even voters", "", map[string]string{"bootstrap-expect": "2"}, "want 1, 3 or 5"},
		{"join and found", "", map[string]string{"bootstrap-expect": "3", "join": "127.0.0.1:1"}, "never founds a cluster"},
		{"join where", "", map[string]string{"join": "somewhere"}, "--peer address of a node"},
		{"join from loopback", "", map[string]string{"join": "10.0.0.5:7947"}, "cannot reach this address: give --peer"},
		{"token alone", "", map[string]string{"join-token": "x"}, "--join says where"},
		{"labels", "", map[string]string{"label": "a"}, "want KEY=VALUE"},
		{"half TLS", "", map[string]string{"tls-cert": "x"}, "go together"},
		{"size", "", map[string]string{"metrics.memory": "much"}, "want a size"},
		{"retention", "", map[string]string{"metrics.retention": "1h"}, `metrics.retention = "1h0m0s": want 1d`},
		{"url", "", map[string]string{"metrics.url": "victoria:8428"}, `metrics.url = "victoria:8428": want http://`},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := ""
			if test.yaml != "" {
				file = writeFile(t, test.yaml)
			}
			_, _, err := LoadConfig(file, noEnv, test.flags)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// Every setting's printed value reads back as itself, so that `pollux config` can be used as a file.
func TestSettingsRoundTrip(t *testing.T) {
	want := DefaultConfig()
	want.Join, want.Labels = []string{"10.0.0.5:7947", "10.0.0.6:7947"}, map[string]string{"floor": "2", "rack": "b"}
	var got Config
	for _, s := range Settings() {
		if err := s.Set(&got, s.Get(&want)); err != nil {
			t.Errorf("%s: %v", s.Key, err)
		}
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestAnonymousMQTTOnlyOnLoopback(t *testing.T) {
	c := DefaultConfig()
	if !c.allowAnonymousMQTT() {
		t.Error("refused on loopback")
	}
	c.MQTT = "0.0.0.0:1883"
	if c.allowAnonymousMQTT() {
		t.Error("allowed beyond loopback")
	}
	c.Insecure = true
	if !c.allowAnonymousMQTT() {
		t.Error("refused with --insecure")
	}
}
