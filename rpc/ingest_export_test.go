package rpc

import (
	"bytes"
	"encoding/json"

	"github.com/polluxhq/pollux/actors"
)

// ReadIngest reads a body in all ways. It panics where what was read cannot be right.
func ReadIngest(body []byte) {
	like := &actors.Ingest{Project: "p", JSON: true}
	size := 0
	_ = eachJSON(body, func(value []byte) error {
		size += len(value)
		batchLine(value, like)
		dataLine(value, like, "")
		dataLine(value, like, "true")
		return nil
	})
	if size > len(body) {
		panic("more was read than there is")
	}
	x := &influx{network: "n", key: "device", unit: 1}
	for line := range bytes.Lines(body) {
		if l, ok := x.line(line, like); ok && l.code == "" && !json.Valid(l.m.Payload) {
			panic("fields are no JSON: " + string(l.m.Payload))
		}
	}
	pushedLine(body, like, "", "")
}
