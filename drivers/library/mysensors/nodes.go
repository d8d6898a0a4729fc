package main

import (
	"strconv"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

func property(node int) string { return "node_" + strconv.Itoa(node) }

// node reads what is known of a node.
func node(t *Twin, id int) (n Node, known bool) {
	v := t.Property(property(id))
	if !v.Exists() || v.Decode(&n) != nil {
		return Node{}, false
	}
	return n, true
}

// hear takes a message.
func hear(t *Twin, m line) error {
	if m.command == internal && m.kind == iIDRequest {
		return assign(t)
	}
	if m.node == whole {
		return nil
	}
	if m.node == 0 {
		return gateway(t, m)
	}
	n, known := node(t, m.node)
	before := n.text()
	learn(&n, m)
	if err := answer(t, m, n); err != nil {
		return err
	}
	if m.command == stream {
		load(t, m, &n)
	}
	if !known || n.text() != before {
		t.Report(property(m.node), &n)
	}
	if !known {
		describe(t, m.node)
	}
	if m.command == internal && m.kind == iSketch || m.command == presentation && m.child == whole {
		return found(t, m.node, n)
	}
	return nil
}

// gateway takes what the gateway says of itself.
func gateway(t *Twin, m line) error {
	switch {
	case m.command == internal && m.kind == iVersion, m.command == presentation && m.child == whole:
		t.Report("version", m.payload)
	case m.command == internal && m.kind == iReady:
		// It tells so to each client that connects, over TCP.
		return write(t, line{command: internal, kind: iVersion})
	}
	return answer(t, m, Node{})
}

// learn keeps what a message says of its node.
func learn(n *Node, m line) {
	child := strconv.Itoa(m.child)
	switch {
	case m.command == presentation && m.child == whole:
		n.Library = m.payload
	case m.command == presentation:
		if n.Children == nil {
			n.Children, n.Titles = map[string]int{}, map[string]string{}
		}
		n.Children[child] = m.kind
		if m.payload != "" && n.Titles != nil {
			n.Titles[child] = m.payload
		}
	case m.command == set:
		if n.Values == nil {
			n.Values = map[string]string{}
		}
		n.Values[child+"/"+strconv.Itoa(m.kind)] = m.payload
	case m.command != internal:
	case m.kind == iBattery:
		n.Battery = m.payload
	case m.kind == iSketch:
		n.Name = m.payload
	case m.kind == iSketchOf:
		n.Version = m.payload
	case m.kind == iPreSleep: // it listens for a moment before it sleeps
		n.Sleeps, n.Awake = true, true
	case m.kind == iPostSleep:
		n.Sleeps, n.Awake = true, false
	}
}

// answer gives a node what it asks for.
func answer(t *Twin, m line, n Node) error {
	reply := line{node: m.node, child: m.child, command: m.command, kind: m.kind}
	switch {
	case m.command == request:
		value, ok := n.Values[strconv.Itoa(m.child)+"/"+strconv.Itoa(m.kind)]
		if !ok {
			return nil
		}
		reply.command, reply.payload = set, value
	case m.command == internal && m.kind == iConfig:
		if reply.payload = "I"; t.Settings().Metric {
			reply.payload = "M"
		}
	case m.command == internal && m.kind == iTime:
		reply.payload = now(t)
	default:
		return nil
	}
	return write(t, reply)
}

// assign gives the next id that nobody has to a node that asks for one.
func assign(t *Twin) error {
	if !t.Settings().AssignIDs {
		return nil
	}
	for id := 1; id < whole; id++ {
		if _, used := node(t, id); used {
			continue
		}
		t.Report(property(id), &Node{})
		describe(t, id)
		return write(t, line{node: whole, child: whole, command: internal, kind: iIDResponse, payload: strconv.Itoa(id)})
	}
	t.Log("warn", "a node asks for an id, and none is left")
	return nil
}

// describe tells of a node in the twin's model.
func describe(t *Twin, id int) {
	t.Memory().Nodes = append(t.Memory().Nodes, id)
	t.Report("nodes", len(t.Memory().Nodes))
	patch := `{"properties":{"` + property(id) + `":{"type":"object","title":"Node ` + strconv.Itoa(id) + `","readOnly":true}}}`
	if err := t.Describe(wire.Value(patch)); err != nil {
		t.Log("warn", "describe node "+strconv.Itoa(id)+": "+err.Error())
	}
}

// found puts a node into the inbox.
func found(t *Twin, id int, n Node) error {
	name := n.Name
	if name == "" {
		name = "MySensors node " + strconv.Itoa(id)
	}
	settings := wire.AppendString([]byte(`{"gateway":`), t.Settings().Twin)
	settings = append(append(settings, `,"node":`...), strconv.Itoa(id)...)
	return t.Discover(twin.Discovery{Network: "mysensors", Key: t.Settings().Twin, Value: strconv.Itoa(id), Name: name,
		Driver: "mysensors-node", Settings: wire.Value(append(settings, '}'))})
}

// text is a node as it is reported, to see whether something changed.
func (n *Node) text() string {
	b, err := wire.Append(nil, n)
	if err != nil {
		return ""
	}
	return string(b)
}
