package main

import (
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
)

// Commands, and the types of internal messages, of the serial protocol 2.x
// (https://www.mysensors.org/download/serial_api_20).
const (
	presentation = 0
	set          = 1
	request      = 2
	internal     = 3
	stream       = 4

	iBattery      = 0
	iTime         = 1
	iVersion      = 2
	iIDRequest    = 3
	iIDResponse   = 4
	iConfig       = 6
	iSketch       = 11
	iSketchOf     = 12
	iReboot       = 13
	iReady        = 14
	iHeartbeat    = 22
	iPresentation = 19
	iPreSleep     = 32
	iPostSleep    = 33

	// whole is the child that stands for its node, and the node that has no id yet.
	whole = 255
	// maxPayload of a message in bytes.
	maxPayload = 25
)

// line is a message: node;child;command;ack;type;payload.
type line struct {
	node, child, command, kind int
	ack                        bool
	payload                    string
}

// where is what an echo has in common with what was set.
func (m line) where() string {
	return strconv.Itoa(m.node) + ";" + strconv.Itoa(m.child) + ";" + strconv.Itoa(m.kind)
}

// head are the five numbers, with something between them.
func (m line) head(between string) string {
	ack := "0"
	if m.ack {
		ack = "1"
	}
	return strings.Join([]string{strconv.Itoa(m.node), strconv.Itoa(m.child), strconv.Itoa(m.command), ack, strconv.Itoa(m.kind)}, between)
}

// read takes a frame apart. What is no message, such as a log line of the gateway, is passed over.
func read(t *Twin, frame []byte) (m line, ok bool) {
	topic, payload := twin.SplitMessage(frame)
	if payload == nil {
		parts := strings.SplitN(strings.TrimRight(string(frame), "\r"), ";", 6)
		if len(parts) != 6 {
			return m, false
		}
		m, ok = numbers(parts[:5])
		m.payload = parts[5]
		return m, ok
	}
	parts := strings.Split(topic, "/")
	if len(parts) < 6 {
		return m, false
	}
	if !t.Memory().MQTT {
		t.Memory().MQTT = true
	}
	m, ok = numbers(parts[len(parts)-5:])
	m.payload = string(payload)
	return m, ok
}

func numbers(parts []string) (m line, ok bool) {
	var n [5]int
	for i, p := range parts {
		v, err := strconv.Atoi(p)
		if err != nil || v < 0 || v > 255 {
			return m, false
		}
		n[i] = v
	}
	return line{node: n[0], child: n[1], command: n[2], ack: n[3] == 1, kind: n[4]}, true
}

// write sends a message the way the gateway is reached.
func write(t *Twin, m line) error {
	if t.Memory().MQTT {
		return t.Publish(t.Settings().In+"/"+m.head("/"), []byte(m.payload), 0, false)
	}
	return t.Send([]byte(m.head(";") + ";" + m.payload + "\n"))
}
