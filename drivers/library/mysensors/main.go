// The mysensors driver speaks with a gateway of a MySensors 2.x network: over TCP or a serial line in its lines, over MQTT in
// its topics. What a node says it reports as a property of its own, which the node's twin follows (driver mysensors-node).
// See README.md.
package main

import (
	"strconv"
	"time"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
)

// Settings of a gateway's twin.
type Settings struct {
	Twin      string     `json:"twin"`
	Out       string     `json:"out"`
	In        string     `json:"in"`
	Metric    bool       `json:"metric"`
	AssignIDs bool       `json:"assign_ids"`
	Offset    int        `json:"utc_offset_minutes"`
	Firmwares []Firmware `json:"firmwares"`
}

// Memory is what is kept between calls.
type Memory struct {
	// Await is the beginning of the line that answers the pending command.
	Await string `json:"await,omitempty"`
	// MQTT: the gateway was heard over MQTT.
	MQTT bool `json:"mqtt,omitempty"`
	// Nodes that the model tells of.
	Nodes []int `json:"nodes,omitempty"`
}

// Twin is a gateway's twin.
type Twin = twin.Twin[Settings, Memory]

// Node is what is known of a node; the property node_N.
type Node struct {
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"`
	Library string `json:"library,omitempty"`
	Battery string `json:"battery,omitempty"`
	// Sleeps: it says when it goes to sleep; Awake: it listens now.
	Sleeps bool `json:"sleeps,omitempty"`
	Awake  bool `json:"awake,omitempty"`
	// Children have the kind (S_…) of each child, Values by CHILD/TYPE what it said last.
	Children map[string]int    `json:"children,omitempty"`
	Titles   map[string]string `json:"titles,omitempty"`
	Values   map[string]string `json:"values,omitempty"`
	// Update is how far a firmware is that the node loads.
	Update string `json:"update,omitempty"`
}

type toNode struct {
	Node  int    `json:"node"`
	Child int    `json:"child"`
	Type  int    `json:"type"`
	Value string `json:"value"`
}

func newDriver() *twin.Driver[Settings, Memory] {
	d := twin.New[Settings, Memory]()
	d.OnReceived(func(t *Twin, frame []byte) error {
		m, ok := read(t, frame)
		if !ok {
			return nil
		}
		return hear(t, m)
	})
	d.OnAnswer(func(t *Twin, frame []byte) (any, error) {
		m, ok := read(t, frame)
		if !ok {
			return nil, twin.ErrPending
		}
		if err := hear(t, m); err != nil {
			t.Log("warn", err.Error())
		}
		if m.command == set && m.where() == t.Memory().Await {
			t.Memory().Await = ""
			return nil, nil
		}
		return nil, twin.ErrPending
	})
	twin.Command(d, "send", func(t *Twin, in toNode) (twin.None, error) {
		m := line{node: in.Node, child: in.Child, command: set, ack: true, kind: in.Type, payload: in.Value}
		if len(in.Value) > maxPayload {
			return twin.None{}, &twin.Error{Code: 2, Message: "a value has " + strconv.Itoa(maxPayload) + " bytes at most"}
		}
		t.Memory().Await = m.where()
		if err := write(t, m); err != nil {
			return twin.None{}, err
		}
		return twin.None{}, twin.ErrPending
	})
	twin.Command(d, "reboot", func(t *Twin, in toNode) (twin.None, error) {
		return twin.None{}, write(t, line{node: in.Node, child: whole, command: internal, kind: iReboot})
	})
	twin.Command(d, "present", func(t *Twin, in toNode) (twin.None, error) {
		return twin.None{}, write(t, line{node: in.Node, child: whole, command: internal, kind: iPresentation})
	})
	return d
}

// now is the nodes' clock: seconds since 1970 by the wall.
func now(t *Twin) string {
	return strconv.FormatInt(time.Now().Unix()+int64(t.Settings().Offset)*60, 10)
}

func init() { twin.Serve(newDriver()) }

func main() {}
