// Package wot writes W3C Web of Things documents: Thing Descriptions 1.1 of twins, whose forms are the plain REST API, the
// description of the directory of them, and Thing Models 1.1 as they are handed out.
//
// It is pure: models and addresses go in, documents come out. It copies every member of a model that it does not know, so that
// extensions survive. Sources: https://www.w3.org/TR/wot-thing-description11/ and https://www.w3.org/TR/wot-discovery/.
package wot

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// Context of Thing Descriptions and Thing Models 1.1.
	Context = "https://www.w3.org/2022/wot/td/v1.1"
	// Namespace of the prefix `pollux:`.
	Namespace = "https://pollux.dev/ns#"
	// DirectoryContext has the terms of a directory.
	DirectoryContext = "https://www.w3.org/2022/wot/discovery"
	// DescriptionType and ModelType are the media types.
	DescriptionType = "application/td+json"
	ModelType       = "application/tm+json"

	thingModel = "tm:ThingModel"
	// security names the one definition: an API key as a bearer token.
	security = "key"
)

// object is a JSON object whose members are left as they are.
type object = map[string]any

// Thing is what a Thing Description is made of.
type Thing struct {
	// ID is the twin's, `project/name`.
	ID string
	// Title for people; empty: the twin's name.
	Title string
	// Base is the URL of the twin on the REST API, without a slash at its end.
	Base string
	// Model is the twin's Thing Model, as refined by what the device really has; empty: it has nothing.
	Model json.RawMessage
	// Instance is the version of what runs it; empty: unknown.
	Instance string
	// Links are those to other things, beside the ones of the model.
	Links []Link
	// Created and Modified may be zero.
	Created, Modified time.Time
}

// Link leads from a twin to another thing.
type Link struct {
	// Rel is what the one is to the other.
	Rel string
	// Href is the other's address, such as that of its Thing Description; relative ones begin at the twin's base.
	Href string
	// Type is the content type of what is there; empty: unknown.
	Type string
}

// Describe writes the Thing Description of a twin. Its forms are relative to its base. The error says what is wrong with the
// model.
func (t *Thing) Describe() (json.RawMessage, error) {
	doc, err := members(t.Model)
	if err != nil {
		return nil, fmt.Errorf("describe %s: model: %w", t.ID, err)
	}
	dropModelTerms(doc)
	doc["@context"] = contextOf(doc)
	doc["id"] = "urn:pollux:" + strings.ReplaceAll(t.ID, "/", ":")
	modelTitle, _ := doc["title"].(string)
	_, name, _ := strings.Cut(t.ID, "/")
	doc["title"] = name
	if t.Title != "" {
		doc["title"] = t.Title
	}
	delete(doc, "titles") // they are its kind's, too
	if doc["description"] == nil && doc["descriptions"] == nil && modelTitle != "" {
		doc["description"] = modelTitle
	}
	doc["base"] = t.Base + "/"
	doc["securityDefinitions"], doc["security"] = securityDefinitions(), []string{security}
	links := append(modelLinks(doc["links"]), object{"rel": "type", "href": "tm", "type": ModelType})
	for _, l := range t.Links {
		link := object{"rel": l.Rel, "href": l.Href}
		if l.Type != "" {
			link["type"] = l.Type
		}
		links = append(links, link)
	}
	doc["links"] = links
	if v := versionOf(doc["version"], t.Instance); v != nil {
		doc["version"] = v
	} else {
		delete(doc, "version")
	}
	for name, at := range map[string]time.Time{"created": t.Created, "modified": t.Modified} {
		if !at.IsZero() {
			doc[name] = at.UTC().Format(time.RFC3339)
		}
	}
	if err := affordances(doc); err != nil {
		return nil, fmt.Errorf("describe %s: model: %w", t.ID, err)
	}
	return json.Marshal(doc)
}

// members gives a document's members; numbers keep their digits.
func members(text json.RawMessage) (object, error) {
	doc := object{}
	if len(text) == 0 {
		return doc, nil
	}
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil {
		return nil, err
	}
	return doc, nil
}

// dropModelTerms takes away what only a Thing Model may say.
func dropModelTerms(doc object) {
	for name := range doc {
		if strings.HasPrefix(name, "tm:") {
			delete(doc, name)
		}
	}
	var kinds []any
	switch t := doc["@type"].(type) {
	case string:
		kinds = []any{t}
	case []any:
		kinds = t
	}
	kinds = slices.DeleteFunc(kinds, func(k any) bool { return k == thingModel })
	if doc["@type"] = kinds; len(kinds) == 0 {
		delete(doc, "@type")
	}
}

// contextOf gives the context that the document has, with ours: that of 1.1 stands first, and the prefix `pollux:` has a meaning.
func contextOf(doc object) []any {
	var given []any
	switch c := doc["@context"].(type) {
	case []any:
		given = c
	case nil:
	default:
		given = []any{c}
	}
	out := []any{Context}
	prefixed := false
	for _, c := range given {
		if c == Context {
			continue
		}
		if terms, ok := c.(object); ok && terms["pollux"] != nil {
			prefixed = true
		}
		out = append(out, c)
	}
	if !prefixed {
		out = append(out, object{"pollux": Namespace})
	}
	return out
}

func securityDefinitions() object {
	return object{security: object{"scheme": "bearer", "in": "header", "name": "Authorization", "format": "plx",
		"description": "An API key of Pollux"}}
}

// modelLinks keeps the links of a model that a Thing Description may have.
func modelLinks(links any) []any {
	list, _ := links.([]any)
	return slices.DeleteFunc(slices.Clone(list), func(l any) bool {
		link, ok := l.(object)
		rel, _ := link["rel"].(string)
		return !ok || strings.HasPrefix(rel, "tm:") || rel == "type"
	})
}

// versionOf says which version of the model this is an instance of. A Thing Description's needs both words or none.
func versionOf(given any, instance string) any {
	v, ok := given.(object)
	if !ok {
		v = object{}
	}
	if instance == "" {
		instance, _ = v["model"].(string)
	}
	if instance == "" {
		return nil
	}
	v["instance"] = instance
	return v
}

// affordances gives everything that the thing has its forms.
func affordances(doc object) error {
	root := []any{
		object{"href": "properties", "op": []string{"readallproperties"}, "contentType": "application/json", "htv:methodName": "GET"},
		sse("properties", "observeallproperties", "unobserveallproperties"),
		sse("events", "subscribeallevents", "unsubscribeallevents"),
	}
	doc["forms"] = root
	for kind, forms := range map[string]func(name string, a object) []any{"properties": propertyForms, "actions": actionForms, "events": eventForms} {
		all, ok := doc[kind].(object)
		if !ok {
			if doc[kind] != nil {
				return fmt.Errorf("%s is no object", kind)
			}
			continue
		}
		for name, x := range all {
			a, ok := x.(object)
			if !ok {
				return fmt.Errorf("%s/%s is no object", kind, name)
			}
			for term := range a {
				if strings.HasPrefix(term, "tm:") {
					delete(a, term)
				}
			}
			dataSchemas(a)
			a["forms"] = forms(name, a)
		}
	}
	return nil
}

// sse is a form of server-sent events. Its content type is that of the data of each.
func sse(href string, ops ...string) object {
	return object{"href": href, "op": ops, "subprotocol": "sse", "contentType": "application/json", "htv:methodName": "GET"}
}

func propertyForms(name string, a object) []any {
	href := "properties/" + name
	var forms []any
	if a["writeOnly"] != true {
		a["observable"] = true
		forms = append(forms,
			object{"href": href, "op": []string{"readproperty"}, "contentType": "application/json", "htv:methodName": "GET"},
			sse(href, "observeproperty", "unobserveproperty"))
	}
	if a["readOnly"] != true {
		forms = append(forms, object{"href": href, "op": []string{"writeproperty"}, "contentType": "application/json", "htv:methodName": "PUT"})
	}
	return forms
}

func actionForms(name string, a object) []any {
	a["synchronous"] = true
	return []any{object{"href": "actions/" + name, "op": []string{"invokeaction"}, "contentType": "application/json", "htv:methodName": "POST"}}
}

func eventForms(name string, _ object) []any {
	return []any{sse("events/"+name, "subscribeevent", "unsubscribeevent")}
}

// Model writes a Thing Model as it is handed out: every member as it came, but for what data schemas of 1.1 say otherwise, and marked as what it is.
func Model(text json.RawMessage) (json.RawMessage, error) {
	doc, err := members(text)
	if err != nil {
		return nil, fmt.Errorf("thing model: %w", err)
	}
	for _, kind := range []string{"properties", "actions", "events"} {
		all, _ := doc[kind].(object)
		for _, a := range all {
			dataSchemas(a)
		}
	}
	if !usesPrefix(doc) {
		if doc["@context"] == nil {
			doc["@context"] = Context
		}
	} else {
		doc["@context"] = contextOf(doc)
	}
	switch t := doc["@type"].(type) {
	case nil:
		doc["@type"] = thingModel
	case string:
		if t != thingModel {
			doc["@type"] = []any{thingModel, t}
		}
	case []any:
		if !slices.Contains(t, any(thingModel)) {
			doc["@type"] = append([]any{thingModel}, t...)
		}
	}
	return json.Marshal(doc)
}

// usesPrefix says whether a term of ours is somewhere in the document.
func usesPrefix(x any) bool {
	switch x := x.(type) {
	case object:
		for name, v := range x {
			if strings.HasPrefix(name, "pollux:") || usesPrefix(v) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(x, usesPrefix)
	}
	return false
}

// Directory writes the description of the directory itself: a thing whose property `things` is the list of all descriptions.
// base is the URL of the API, without a slash at its end.
func Directory(base string) (json.RawMessage, error) {
	return json.Marshal(object{
		"@context": []any{Context, DirectoryContext},
		"@type":    "ThingDirectory",
		"id":       "urn:pollux:directory",
		"title":    "Pollux", "description": "The directory of the twins that the key may read",
		"base":                base + "/",
		"securityDefinitions": securityDefinitions(), "security": []string{security},
		"links": []any{object{"rel": "service-desc", "href": "openapi.json", "type": "application/openapi+json"}},
		"properties": object{"things": object{
			"title": "All Thing Descriptions, by pages", "type": "array", "items": object{"type": "object"}, "readOnly": true,
			"forms": []any{object{"href": "v1/things", "op": []string{"readproperty"}, "htv:methodName": "GET",
				"contentType": "application/ld+json", "response": object{"contentType": "application/ld+json"}}},
		}},
	})
}
