package model

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
)

// instance are the members of a Thing Description that are of the one thing, and not of all of its kind.
var instance = []string{"id", "base", "forms", "security", "securityDefinitions", "created", "modified", "profile"}

// FromDescription gives the Thing Model of a Thing Description 1.1: all that it says but how its one thing is reached. Any other text is given
// back as it is. Errors are *Error.
func FromDescription(text []byte) ([]byte, error) {
	var doc map[string]json.RawMessage
	if json.Unmarshal(text, &doc) != nil || holds(doc["@type"], kind) || !holds(doc["@context"], context) || doc["security"] == nil && doc["securityDefinitions"] == nil {
		return text, nil
	}
	for _, name := range []string{"title", "security", "securityDefinitions"} {
		if doc[name] == nil {
			return nil, bad("/"+name, "is missing: a Thing Description has it")
		}
	}
	for _, what := range []string{"properties", "actions", "events"} {
		if doc[what] == nil {
			continue
		}
		var err error
		if doc[what], err = unbound("/"+what, doc[what]); err != nil {
			return nil, err
		}
	}
	for _, name := range instance {
		delete(doc, name)
	}
	var err error
	if doc["@type"], err = typesOf(doc["@type"]); err != nil {
		return nil, err
	}
	if err := general(doc); err != nil {
		return nil, err
	}
	return plainJSON(doc), nil
}

// general leaves of links and version what is not of the one thing: relative links lead on from where its description was.
func general(doc map[string]json.RawMessage) error {
	if raw := doc["links"]; raw != nil {
		var links []map[string]any
		if err := json.Unmarshal(raw, &links); err != nil {
			return mistyped("/links", err)
		}
		links = slices.DeleteFunc(links, func(l map[string]any) bool {
			href, _ := l["href"].(string)
			u, err := url.Parse(href)
			return err != nil || !u.IsAbs() || l["rel"] == "type" || l["rel"] == "self"
		})
		if doc["links"] = plainJSON(links); len(links) == 0 {
			delete(doc, "links")
		}
	}
	if raw := doc["version"]; raw != nil {
		var version map[string]json.RawMessage
		if err := json.Unmarshal(raw, &version); err != nil {
			return mistyped("/version", err)
		}
		delete(version, "instance")
		if doc["version"] = plainJSON(version); len(version) == 0 {
			delete(doc, "version")
		}
	}
	return nil
}

// plainJSON writes what was read, with signs such as < as they are.
func plainJSON(x any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(x) // it was JSON
	return bytes.TrimSpace(b.Bytes())
}

// unbound takes the forms from properties, actions or events.
func unbound(path string, text json.RawMessage) (json.RawMessage, error) {
	var all map[string]map[string]json.RawMessage
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, mistyped(path, err)
	}
	for name, x := range all {
		var forms []json.RawMessage
		if err := json.Unmarshal(x["forms"], &forms); err != nil || len(forms) == 0 {
			return nil, bad(path+"/"+name+"/forms", "is no list of forms: a Thing Description says how each thing is reached")
		}
		delete(x, "forms")
	}
	return plainJSON(all), nil
}

func typesOf(raw json.RawMessage) (json.RawMessage, error) {
	types := []any{kind}
	var one string
	var list []any
	switch {
	case raw == nil:
		return plainJSON(kind), nil
	case json.Unmarshal(raw, &one) == nil:
		types = append(types, one)
	case json.Unmarshal(raw, &list) == nil:
		types = append(types, list...)
	default:
		return nil, bad("/@type", "a text or a list of texts is wanted")
	}
	return plainJSON(types), nil
}
