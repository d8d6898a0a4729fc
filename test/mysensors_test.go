package test

import (
	"strings"
	"testing"
	"time"

	mysensors "github.com/polluxhq/pollux/drivers/library/mysensors/sim"
	"github.com/polluxhq/pollux/drivers/peer/peertest"
	"github.com/polluxhq/pollux/test/harness"
)

// A gateway's twin puts the nodes behind it into the inbox, and each becomes a twin of its own. What is asked of the one that sleeps
// survives the end of the node, waits until the device wakes, and is done; what was asked for a moment only is given up.
func TestSensorsBehindAGateway(t *testing.T) {
	t.Parallel()
	gateway, err := mysensors.New(mysensors.Options{Listen: "127.0.0.1:0", Period: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	peertest.Running(t, gateway.Run)
	n := harness.Start(t, harness.Options{})
	n.Must("driver", "add", "mysensors")
	n.Must("driver", "add", "mysensors-node")
	n.Must("twin", "create", "mysensors", "--driver", "mysensors", "--uri", "tcp://"+gateway.Addr())
	shows := func(what, twin string, parts ...string) {
		t.Helper()
		out := ""
		defer func() {
			if t.Failed() {
				t.Logf("%s shows %s", twin, out)
			}
		}()
		harness.Until(t, time.Minute, what, func() bool {
			out = strings.Join(strings.Fields(n.Must("twin", "get", twin, "-o", "json")), "")
			for _, part := range parts {
				if !strings.Contains(out, part) {
					return false
				}
			}
			return true
		})
	}
	harness.Until(t, time.Minute, "the nodes are in the inbox", func() bool {
		list := n.Must("inbox", "list")
		return strings.Contains(list, "mysensors/mysensors/1") && strings.Contains(list, "mysensors/mysensors/3")
	})
	for name, node := range map[string]string{"thermometer": "1", "relay": "2", "valve": "3"} {
		n.Must("inbox", "claim", "mysensors/mysensors/"+node, name)
	}
	gateway.Say("1;1;1;0;0;19.25")
	shows("the thermometer's value", "thermometer", `"temperature_1":{`, "19.25")

	shows("the relay's model", "relay", `"status_1":{`)
	n.Must("twin", "set", "relay", "status_1", "true")
	if !gateway.On(mysensors.Relay) {
		t.Error("the relay was told to be on, and is off")
	}
	shows("the valve sleeps", "valve", "CONNECTION_SLEEPING", `"status_1":{`)
	n.Must("twin", "call", "valve", "reboot", "--no-wait", "--valid-for", "1s")
	n.Must("twin", "call", "valve", "set", `{"child":1,"type":2,"value":"1"}`, "--no-wait")
	shows("the short one is given up", "valve", "OUTCOME_TIMED_OUT", `"queued":1`)
	n.Kill()
	for len(gateway.Heard()) > 0 {
		<-gateway.Heard()
	}
	n.Run()
	harness.Until(t, time.Minute, "the gateway's twin is connected again", func() bool { return len(gateway.Heard()) > 0 })
	shows("the valve sleeps on, and its command waits", "valve", "CONNECTION_SLEEPING", `"queued":1`)
	if gateway.On(mysensors.Sleeper) {
		t.Error("a device that sleeps was switched")
	}
	gateway.Wake(true)
	harness.Until(t, time.Minute, "the valve is on", func() bool { return gateway.On(mysensors.Sleeper) })
	gateway.Wake(false)
	shows("the valve's value", "valve", "CONNECTION_SLEEPING", `"status_1":{"value":true`)
	for len(gateway.Heard()) > 0 {
		if line := <-gateway.Heard(); strings.HasPrefix(line, "3;255;3;0;13;") {
			t.Errorf("what was given up was sent: %s", line)
		}
	}
}
