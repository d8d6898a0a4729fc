package model

import (
	"strings"
	"testing"
)

// TestCheck: what is wrong with a new model is named, with its place.
func TestCheck(t *testing.T) {
	with := func(rest string) string {
		return `{"@context":"https://www.w3.org/2022/wot/td/v1.1","@type":"tm:ThingModel",` + rest + `}`
	}
	if err := Check([]byte(with(`"title":"x","acme:seen":[1e400,{"a":1},{"a":1}],"properties":{"p":{"type":"number","minimum":1,"maximum":1},"q":{"type":"string","enum":[null]},"o":{"type":"object","default":{"tm:ref":"x","unit":"flibbles"}},
		"a":{"type":"array","items":[{"type":"number","unit":"deg"},{"type":"string"},true],"acme:says":{"unit":"flibbles"}},"u":{"type":"object","properties":{"unit":{"type":"string"}}}},
		"events":{"e":{"data":{"type":"array","items":[]}}}`))); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		with(`"title":"x","properties":{"p":{"type":"number"},"p":{"type":"string"}}`):                                                              "/properties/p: is there twice",
		with(`"title":"x","acme:a":[{},{"b":{"c":1,"c":2}}]`):                                                                                       "/acme:a/1/b/c: is there twice",
		with(`"title":"x","properties":{"p":{"type":"number","minimum":5,"maximum":1}}`):                                                            "/properties/p/minimum: 5 is above the maximum, 1",
		with(`"title":"x","properties":{"p":{"type":"string","enum":[]}}`):                                                                          "/properties/p/enum: is empty",
		with(`"title":"x","actions":{"go":{"tm:ref":"base.tm.json#/actions/go"}}`):                                                                  "/actions/go/tm:ref: is not followed",
		with(`"title":"x","events":{"e":{"data":{"type":"object","properties":{"default":{"tm:ref":"base.tm.json#/x"}}}}}`):                         "/events/e/data/properties/default/tm:ref: is not followed",
		with(`"title":"x","properties":{"p":{"type":"number","oneOf":[{"minimum":1},{"tm:ref":"base.tm.json#/properties/p"}]}}`):                    "/properties/p/oneOf/1/tm:ref: is not followed",
		with(`"title":"x","properties":{"p":{"type":"array","items":[{"type":"number"},{"type":"number","unit":"flibbles"}]}}`):                     `/properties/p/items/1/unit: "flibbles" is no unit`,
		with(`"title":"x","properties":{"p":{"type":"object","properties":{"unit":{"type":"array","items":{"minimum":2,"maximum":1e0}}}}}`):         "/properties/p/properties/unit/items/minimum: 2 is above the maximum, 1e0",
		with(`"title":"x","properties":{"p":{"type":"array","items":[{"type":"array","items":[{"type":"number"},{"tm:ref":"base.tm.json#/x"}]}]}}`): "/properties/p/items/0/items/1/tm:ref: is not followed",
		with(`"title":"x","properties":{"p":{"type":"array","items":[{"type":"number"},{"type":"place"}]}}`):                                        "/properties/p: is no JSON Schema: /items/1/type: ",
		with(`"title":"x","actions":{"go":{"input":{"type":"array","items":[{"enum":[]}]}}}`):                                                       "/actions/go/input/items/0/enum: is empty",
		with(`"title":"x","events":{"e":{"data":{"type":"object","properties":{"a":{"unit":"flibbles"}}}}}`):                                        "/events/e/data/properties/a/unit: ",
		with(`"title":5`):                   "/title: a text is wanted, not this number",
		with(`"title":"x","properties":[]`): "/properties: an object is wanted, not this array",
		with(`"title":"x","properties":{"p":{"type":"number","pollux:flap":{"changes":"2"}}}`): "/properties/p/pollux:flap/changes: a whole number is wanted, not this string",
		with(`"title":"x","properties":{"p":{"type":"number","pollux:deadband":true}}`):        "/properties/p/pollux:deadband: a number is wanted, not this bool",
		`[]`: "/: an object is wanted, not this array",
		`x`:  "/: is no Thing Model: invalid character",
	} {
		if err := Check([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
}
