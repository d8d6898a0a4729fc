//go:build !wasip1

package twin_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/sdk/twin"
)

type schemaSettings struct {
	PollS int               `json:"poll_s" schema:"title=Poll interval,minimum=1,default=30"`
	Pin   string            `json:"pin,omitempty" schema:"secret,maxLength=8"`
	Mode  string            `json:"mode" schema:"enum=eco|1"`
	Names map[string]uint16 `json:"names" schema:"optional"`
	_     int
}

type schemaInput struct {
	Percent float64  `json:"percent" schema:"maximum=100,unit=%"`
	After   *int     `json:"after"`
	Rooms   []string `json:"rooms,omitempty"`
}

func TestSchemasAreThoseOfTheTypes(t *testing.T) {
	d := twin.New[schemaSettings, struct{}]()
	twin.Command(d, "dim", func(*twin.Twin[schemaSettings, struct{}], schemaInput) (bool, error) { return true, nil })
	twin.Command(d, "stop", func(*twin.Twin[schemaSettings, struct{}], twin.None) (twin.None, error) { return twin.None{}, nil })
	twin.Property(d, "level", func(*twin.Twin[schemaSettings, struct{}], uint8) error { return nil })
	got, err := d.Schemas()
	if err != nil {
		t.Fatal(err)
	}
	want := `{"settings": {"type": "object", "additionalProperties": false, "required": ["mode"], "properties": {
			"poll_s": {"type": "integer", "title": "Poll interval", "minimum": 1, "default": 30}, "pin": {"type": "string", "writeOnly": true, "maxLength": 8},
			"mode": {"type": "string", "enum": ["eco", "1"]}, "names": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}}},
		"actions": {"dim": {"output": {"type": "boolean"}, "input": {"type": "object", "required": ["percent"], "properties": {
			"percent": {"type": "number", "maximum": 100, "unit": "%"}, "after": {"type": "integer"}, "rooms": {"type": "array", "items": {"type": "string"}}}}}, "stop": {}},
		"properties": {"level": {"type": "integer", "minimum": 0}}}`
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("got %s", got)
	}
}

type selfish struct {
	Next *selfish `json:"next"`
}

func TestTypesWithoutASchemaAreNamed(t *testing.T) {
	for _, c := range []struct {
		says string
		d    interface{ Schemas() ([]byte, error) }
	}{
		{"settings: next: type twin_test.selfish holds itself", twin.New[selfish, struct{}]()},
		{"settings: c: type chan int has no JSON", twin.New[struct {
			C chan int `json:"c"`
		}, struct{}]()},
		{`settings: a: tag schema: "maximum": want KEYWORD=VALUE`, twin.New[struct {
			A int `json:"a" schema:"maximum"`
		}, struct{}]()},
	} {
		if _, err := c.d.Schemas(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v, want %s", err, c.says)
		}
	}
}
