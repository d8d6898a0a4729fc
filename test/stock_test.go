package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/test/harness"
)

// curl calls the JSON API as a stranger would.
func curl(t *testing.T, n *harness.Node, method, body string) map[string]any {
	t.Helper()
	cmd := exec.Command("curl", "-sS", "-H", "Authorization: Bearer "+n.Key, "-H", "Content-Type: application/json", "-d", body,
		n.URL+"/pollux.v1."+method)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("curl %s: %v", method, err)
	}
	var answer map[string]any
	if err := json.Unmarshal(out, &answer); err != nil {
		t.Fatalf("curl %s answered %q: %v", method, out, err)
	}
	return answer
}

// at walks nested objects; nil where a key is missing.
func at(v any, path ...string) any {
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

// TestStockClients drives a twin with programs that are not ours: mosquitto speaks Tasmota's topics, curl the JSON API.
func TestStockClients(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "tasmota")
	n.Must("twin", "create", "lamp", "--driver", "tasmota", "--setting", "topic=lamp")
	host, port, _ := strings.Cut(n.MQTT, ":")

	told := make(chan string, 16)
	sub := exec.Command("mosquitto_sub", "-h", host, "-p", port, "-q", "1", "-t", "cmnd/lamp/#", "-v")
	out, err := sub.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Start(); err != nil {
		t.Fatalf("mosquitto_sub (Debian's mosquitto-clients): %v", err)
	}
	t.Cleanup(func() { sub.Process.Kill(); sub.Wait() })
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			told <- lines.Text()
		}
	}()
	publish := func(topic, payload string) {
		t.Helper()
		cmd := exec.Command("mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", topic, "-m", payload)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("mosquitto_pub: %v: %s", err, out)
		}
	}
	publish("tele/lamp/LWT", "Online")
	publish("tele/lamp/STATE", `{"Time":"2026-01-01T00:00:00","UptimeSec":11,"POWER":"OFF","Wifi":{"RSSI":44,"Signal":-78}}`)
	publish("tele/lamp/SENSOR", `{"Time":"2026-01-01T00:00:00","AM2301":{"Temperature":21.4,"Humidity":48.1},"TempUnit":"C"}`)

	state := func() any { return at(curl(t, n, "TwinService/GetTwin", `{"id":"lamp"}`), "twin", "state") }
	harness.Until(t, 30*time.Second, "the twin knows what mosquitto said", func() bool {
		s := state()
		return at(s, "status", "connection") == "CONNECTION_CONNECTED" && at(s, "properties", "power1", "value") == false &&
			at(s, "properties", "am2301_temperature", "value") == 21.4
	})

	answer := curl(t, n, "TwinService/SetDesired", `{"id":"lamp","property":"power1","value":true}`)
	if got := at(answer, "desired", "progress"); got != "PROGRESS_ASKED" && got != "PROGRESS_SENT" {
		t.Errorf("SetDesired answered %v", answer)
	}
	wait := time.After(30 * time.Second)
	for heard := ""; !strings.HasPrefix(strings.ToLower(heard), "cmnd/lamp/power"); {
		select {
		case heard = <-told:
		case <-wait:
			t.Fatal("the device was never told")
		}
	}
	publish("stat/lamp/RESULT", `{"POWER1":"ON"}`)
	harness.Until(t, 30*time.Second, "the device's answer confirms what was asked", func() bool {
		return at(state(), "desired", "power1", "progress") == "PROGRESS_CONFIRMED"
	})
}

// TestHistoryAsGrafanaAsks queries the Prometheus API that Grafana uses as a data source.
func TestHistoryAsGrafanaAsks(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "tasmota")
	n.Must("twin", "create", "meter", "--driver", "tasmota", "--setting", "topic=meter")
	host, port, _ := strings.Cut(n.MQTT, ":")
	cmd := exec.Command("mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", "tele/meter/SENSOR", "-m",
		`{"ENERGY":{"Total":3.18,"Power":7,"Voltage":230}}`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
	harness.Until(t, 30*time.Second, "the sample is in VictoriaMetrics", func() bool {
		r, err := n.Get("/victoria/api/v1/query?query=pollux_property%7Btwin%3D%22meter%22%2Cproperty%3D%22voltage%22%7D")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		var body bytes.Buffer
		body.ReadFrom(r.Body)
		return strings.Contains(body.String(), `"230"`)
	})
	out := n.Must("twin", "history", "meter", "voltage", "--since", "5m", "-o", "json")
	if !strings.Contains(out, "230") {
		t.Errorf("twin history printed %s", out)
	}
}

// publishOnce publishes with QoS 1 by mosquitto and returns when it is acknowledged.
func publishOnce(t *testing.T, n *harness.Node, topic, payload string) {
	t.Helper()
	host, port, _ := strings.Cut(n.MQTT, ":")
	cmd := exec.Command("mosquitto_pub", "-h", host, "-p", port, "-q", "1", "-t", topic, "-s")
	cmd.Stdin = strings.NewReader(payload)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
}
