package test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/test/harness"
)

// These tests run the drivers that need only settings, on a node, against programs that are not ours.

const pumpValues = `values={"temperature":{"topic":"state","path":"sensors[0].t","unit":"Cel","scale":0.1},` +
	`"running":{"topic":"state","path":"run","type":"boolean","on":1,"off":0,"write":{"topic":"cmd","payload":{"run":"{value}"}}}}`

// broker is an MQTT broker as Mosquitto's clients see it.
type broker struct{ host, port string }

func brokerAt(address string) broker {
	host, port, _ := strings.Cut(address, ":")
	return broker{host, port}
}

// publish says something by mosquitto_pub.
func (b broker) publish(t *testing.T, topic, payload string, more ...string) {
	t.Helper()
	cmd := exec.Command("mosquitto_pub", append([]string{"-h", b.host, "-p", b.port, "-q", "1", "-t", topic, "-m", payload}, more...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v: %s", err, out)
	}
}

// listen has mosquitto_sub hear a topic, and returns when it does: a retained message tells. Its lines are TOPIC PAYLOAD.
func (b broker) listen(t *testing.T, topic string) <-chan string {
	t.Helper()
	b.publish(t, topic, "listening", "-r")
	sub := exec.Command("mosquitto_sub", "-h", b.host, "-p", b.port, "-q", "1", "-t", topic, "-v")
	out, err := sub.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sub.Start(); err != nil {
		t.Fatalf("mosquitto_sub (Debian's mosquitto-clients): %v", err)
	}
	t.Cleanup(func() { _ = sub.Process.Kill(); _ = sub.Wait() })
	heard := make(chan string, 64)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); {
			heard <- lines.Text()
		}
	}()
	hears(t, heard, topic+" listening")
	return heard
}

// hears waits for a line.
func hears(t *testing.T, heard <-chan string, line string) {
	t.Helper()
	for late := time.After(30 * time.Second); ; {
		select {
		case got := <-heard:
			if got == line {
				return
			}
		case <-late:
			t.Fatalf("nobody said %q", line)
		}
	}
}

// knows waits until a twin is connected and its property has that value.
func knows(t *testing.T, n *harness.Node, twin, property string, value any) {
	t.Helper()
	harness.Until(t, 30*time.Second, fmt.Sprintf("%s of %s is %v", property, twin, value), func() bool {
		s := at(curl(t, n, "TwinService/GetTwin", `{"id":"`+twin+`"}`), "twin", "state")
		return at(s, "status", "connection") == "CONNECTION_CONNECTED" && at(s, "properties", property, "value") == value
	})
}

func happened(t *testing.T, n *harness.Node, twin, event, detail string) {
	t.Helper()
	harness.Until(t, 30*time.Second, event+" of "+twin+" with "+detail, func() bool {
		return strings.Contains(n.Must("history", "journal", "--twin", twin, "--kind", "event", "--name", event, "-o", "json"), detail)
	})
}

// TestMQTTBySettings: a device that only settings describe, at the node's own broker.
func TestMQTTBySettings(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	drivertest.NeedEngine(t)
	n.Must("driver", "add", "mqtt-json")
	b := brokerAt(n.MQTT)
	device := b.listen(t, "plant/pump1/cmd")
	n.Must("twin", "create", "pump", "--driver", "mqtt-json", "--setting", "topic=plant/pump1", "--setting", pumpValues,
		"--setting", `events={"fault":"errors/+"}`, "--setting", `read=[{"topic":"cmd","payload":"tell"}]`)
	b.publish(t, "plant/pump1/state", `{"sensors":[{"t":215}],"run":0}`)
	hears(t, device, "plant/pump1/cmd tell") // the driver asks as its twin wakes
	knows(t, n, "pump", "temperature", 21.5)
	knows(t, n, "pump", "running", false)

	curl(t, n, "TwinService/SetDesired", `{"id":"pump","property":"running","value":true}`)
	hears(t, device, `plant/pump1/cmd {"run":1}`)
	b.publish(t, "plant/pump1/state", `{"run":1}`)
	knows(t, n, "pump", "running", true)
	harness.Until(t, 30*time.Second, "what the device says confirms what was asked", func() bool {
		return at(curl(t, n, "TwinService/GetTwin", `{"id":"pump"}`), "twin", "state", "desired", "running", "progress") == "PROGRESS_CONFIRMED"
	})

	for _, bad := range []string{"{", "", "[]", `{"sensors":5,"run":"perhaps"}`, "\xff\xfe"} {
		b.publish(t, "plant/pump1/state", bad)
	}
	b.publish(t, "plant/pump1/errors/motor", "too hot")
	happened(t, n, "pump", "message", "too hot")
	b.publish(t, "plant/pump1/state", `{"sensors":[{"t":220}]}`)
	knows(t, n, "pump", "temperature", 22.0)
	if fault := at(curl(t, n, "TwinService/GetTwin", `{"id":"pump"}`), "twin", "state", "status", "fault"); fault != nil {
		t.Errorf("what makes no sense is a fault: %v", fault)
	}
}

// TestMQTTOfAnotherBroker: the same device at Debian's Mosquitto, to which the node goes as a client; also when that was away.
func TestMQTTOfAnotherBroker(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("mosquitto")
	if err != nil {
		drivertest.Missing(t, "mosquitto is not installed: apt-get install mosquitto")
	}
	drivertest.NeedEngine(t)
	address := harness.FreeAddr(t)
	b := brokerAt(address)
	conf := filepath.Join(t.TempDir(), "mosquitto.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "listener %s %s\nallow_anonymous true\npersistence false\n", b.port, b.host), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func() *exec.Cmd {
		cmd := exec.Command(program, "-c", conf)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		harness.Until(t, 30*time.Second, "mosquitto listens", func() bool {
			return exec.Command("mosquitto_pub", "-h", b.host, "-p", b.port, "-t", "probe", "-n").Run() == nil
		})
		return cmd
	}
	mosquitto := start()
	t.Cleanup(func() { _ = mosquitto.Process.Kill(); _ = mosquitto.Wait() })

	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "mqtt-json")
	device := b.listen(t, "plant/pump1/cmd")
	n.Must("twin", "create", "pump", "--driver", "mqtt-json", "--uri", "mqtt://"+address, "--setting", "topic=plant/pump1", "--setting", pumpValues,
		"--setting", `read=[{"topic":"cmd","payload":"tell"}]`)
	hears(t, device, "plant/pump1/cmd tell")
	b.publish(t, "plant/pump1/state", `{"sensors":[{"t":215}],"run":0}`, "-r")
	knows(t, n, "pump", "temperature", 21.5)
	curl(t, n, "TwinService/SetDesired", `{"id":"pump","property":"running","value":true}`)
	hears(t, device, `plant/pump1/cmd {"run":1}`)

	_ = mosquitto.Process.Kill()
	_ = mosquitto.Wait()
	harness.Until(t, 30*time.Second, "the twin knows that its broker is away", func() bool {
		return at(curl(t, n, "TwinService/GetTwin", `{"id":"pump"}`), "twin", "state", "status", "connection") != "CONNECTION_CONNECTED"
	})
	mosquitto = start()
	b.publish(t, "plant/pump1/state", `{"sensors":[{"t":230}]}`, "-r")
	knows(t, n, "pump", "temperature", 23.0)
}

// TestNodeMonitor: a twin of the node itself, which reads its own figures.
func TestNodeMonitor(t *testing.T) {
	t.Parallel()
	drivertest.NeedEngine(t)
	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "node-monitor")
	key := strings.Fields(n.Must("key", "create", "--role", "viewer"))
	n.Must("twin", "create", "node-a", "--driver", "node-monitor", "--uri", n.URL, "--setting", "token="+key[len(key)-1],
		"--setting", "poll_s=1", "--setting", `alarms={"memory":1}`)
	knows(t, n, "node-a", "healthy", true)
	knows(t, n, "node-a", "members", 1.0)
	number := func(property string) float64 {
		v, _ := at(curl(t, n, "TwinService/GetTwin", `{"id":"node-a"}`), "twin", "state", "properties", property, "value").(float64)
		return v
	}
	harness.Until(t, 30*time.Second, "rates are there", func() bool { return number("calls") > 0 && number("processor") > 0 })
	if got, told := number("memory")*(1<<20), counted(t, n, "process_resident_memory_bytes "); got < told/3 || got > told*3 {
		t.Errorf("memory %.0f; /metrics says %.0f", got, told)
	}
	happened(t, n, "node-a", "alarm", `"memory"`)
	if secret := key[len(key)-1]; strings.Contains(n.Must("twin", "get", "node-a", "-o", "json"), secret) {
		t.Error("the key is shown")
	}
	n.Must("twin", "create", "node-b", "--driver", "node-monitor", "--uri", n.URL, "--setting", "token=plx_wrong_key", "--setting", "poll_s=1")
	harness.Until(t, 30*time.Second, "without a key it is not healthy", func() bool {
		return at(curl(t, n, "TwinService/GetTwin", `{"id":"node-b"}`), "twin", "state", "properties", "healthy", "value") == false
	})
}
