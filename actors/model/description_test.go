package model

import (
	"strings"
	"testing"
)

const lampThing = `{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"saref":"https://w3id.org/saref#"}],"id":"urn:lamp:1","title":"Lamp","@type":"saref:Light",
	"version":{"instance":"1.2.1","model":"2.0.0"},"created":"2026-01-31T08:00:00Z","profile":"https://www.w3.org/2022/wot/profile/http-basic/v1","base":"https://lamp.example/","saref:maker":{"n":1.50,"x":"a<b"},
	"securityDefinitions":{"nosec_sc":{"scheme":"nosec"}},"security":"nosec_sc","links":[{"rel":"type","href":"https://x.example/tm"},{"rel":"feeds","href":"../b/td"},{"rel":"license","href":"https://x.example/l"}],
	"properties":{"on":{"@type":"saref:OnOffState","type":"boolean","saref:k":[1],"forms":[{"href":"on"}]}},
	"actions":{"blink":{"input":{"type":"integer"},"forms":[{"href":"blink"}]}},"events":{"hot":{"data":{"type":"string"},"forms":[{"href":"hot"}]}}}`

// TestFromDescription: a Thing Description becomes the model of its kind, with what other vocabularies say.
func TestFromDescription(t *testing.T) {
	got, err := FromDescription([]byte(lampThing))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"saref":"https://w3id.org/saref#"}],"@type":["tm:ThingModel","saref:Light"],` +
		`"actions":{"blink":{"input":{"type":"integer"}}},"events":{"hot":{"data":{"type":"string"}}},"links":[{"href":"https://x.example/l","rel":"license"}],` +
		`"properties":{"on":{"@type":"saref:OnOffState","saref:k":[1],"type":"boolean"}},"saref:maker":{"n":1.50,"x":"a<b"},"title":"Lamp","version":{"model":"2.0.0"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if err := Check(got); err != nil {
		t.Error(err)
	}
	if again, err := FromDescription(got); err != nil || string(again) != want {
		t.Errorf("a model became %s, %v", again, err)
	}
	for old, cut := range map[string][2]string{
		"/title":                 {`"title":"Lamp",`, ""},
		"/security":              {`"security":"nosec_sc",`, ""},
		"/securityDefinitions":   {`"securityDefinitions":{"nosec_sc":{"scheme":"nosec"}},`, ""},
		"/properties/on/forms":   {`,"forms":[{"href":"on"}]`, ""},
		"/actions/blink/forms":   {`[{"href":"blink"}]`, "[]"},
		"/events: an object is":  {`"events":{"hot":{"data":{"type":"string"},"forms":[{"href":"hot"}]}}`, `"events":[]`},
		"/links: ":               {`"links":[`, `"links":[5,`},
		"/version: an object is": {`"version":{"instance":"1.2.1","model":"2.0.0"}`, `"version":"1"`},
		"/@type: ":               {`"@type":"saref:Light"`, `"@type":{}`},
	} {
		text := strings.Replace(lampThing, cut[0], cut[1], 1)
		if _, err := FromDescription([]byte(text)); text == lampThing || err == nil || !strings.HasPrefix(err.Error(), old) {
			t.Errorf("%s: %v", old, err)
		}
	}
}
