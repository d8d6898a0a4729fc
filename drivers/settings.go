package drivers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// settingNode is a setting, or the object of all of them, as far as defaults and secrets go.
type settingNode struct {
	def      json.RawMessage
	secret   bool
	children map[string]*settingNode
}

type settingText struct {
	Type       any                        `json:"type"`
	Default    json.RawMessage            `json:"default"`
	WriteOnly  bool                       `json:"writeOnly"`
	Properties map[string]json.RawMessage `json:"properties"`
}

func (m *Model) compileSettings() error {
	if len(m.settings) == 0 {
		m.settings = nil
		m.settingsTree = &settingNode{}
		return nil
	}
	schema, err := compileSchema("settings", m.settings)
	if err != nil {
		return err
	}
	var top settingText
	if err := json.Unmarshal(m.settings, &top); err != nil || top.Type != "object" {
		return bad("settings/type", "settings are an object: \"type\": \"object\"")
	}
	if path := straySecret("settings", m.settings, true); path != "" {
		return bad(path+"/writeOnly", "a secret is a property of the settings, or of an object in them: nothing else is sealed")
	}
	tree, err := m.settingTree("settings", "", m.settings, 0)
	if err != nil {
		return err
	}
	slices.Sort(m.secrets)
	m.settingsSchema, m.settingsTree = schema, tree
	return nil
}

// straySecret looks for a schema that says writeOnly where settingTree does not look: it is known is true where that does.
func straySecret(path string, schema any, known bool) string {
	switch s := schema.(type) {
	case json.RawMessage:
		var decoded any
		if json.Unmarshal(s, &decoded) == nil {
			return straySecret(path, decoded, known)
		}
	case []any:
		for i, sub := range s {
			if found := straySecret(fmt.Sprintf("%s/%d", path, i), sub, false); found != "" {
				return found
			}
		}
	case map[string]any:
		if s["writeOnly"] == true && !known {
			return path
		}
		for keyword, sub := range s {
			children, ok := sub.(map[string]any)
			switch {
			case keyword == "default", keyword == "const", keyword == "enum", keyword == "examples":
			case keyword != "properties" || !ok:
				if found := straySecret(path+"/"+keyword, sub, false); found != "" {
					return found
				}
			default:
				for name, child := range children {
					if found := straySecret(path+"/properties/"+name, child, known); found != "" {
						return found
					}
				}
			}
		}
	}
	return ""
}

func (m *Model) settingTree(path, name string, raw json.RawMessage, depth int) (*settingNode, error) {
	if depth > 16 {
		return nil, bad(path, "nests deeper than 16 levels")
	}
	var text settingText
	if len(raw) > 0 && raw[0] != '{' { // true and false are schemas, too
		return &settingNode{}, nil
	}
	if err := json.Unmarshal(raw, &text); err != nil {
		return nil, bad(path, "%s", err)
	}
	node := &settingNode{def: text.Default, secret: text.WriteOnly}
	if text.WriteOnly {
		m.secrets = append(m.secrets, name)
	}
	if len(text.Properties) > 0 {
		node.children = make(map[string]*settingNode, len(text.Properties))
	}
	for child, raw := range text.Properties {
		full := child
		if name != "" {
			full = name + "/" + child
		}
		sub, err := m.settingTree(path+"/properties/"+child, full, raw, depth+1)
		if err != nil {
			return nil, err
		}
		node.children[child] = sub
	}
	return node, nil
}

func (m *Model) hasSetting(name string) bool { return m.settingsTree.children[name] != nil }

// ValidateSettings checks settings, a JSON object or nothing, and returns them with the schema's defaults applied, keys
// sorted. The error is a *SchemaError.
func (m *Model) ValidateSettings(settings []byte) ([]byte, error) {
	if len(bytes.TrimSpace(settings)) == 0 || string(bytes.TrimSpace(settings)) == "null" {
		settings = []byte("{}")
	}
	value, err := decodeValue("settings", settings)
	if err != nil {
		return nil, err
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, &SchemaError{Subject: "settings", Reason: "want an object"}
	}
	if m.settings == nil && len(object) > 0 {
		return nil, &SchemaError{Subject: "settings", Reason: "the driver has no settings"}
	}
	m.settingsTree.apply(object)
	if err := m.concealed("", checkValue("settings", m.settingsSchema, object)); err != nil {
		return nil, err
	}
	out, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return out, nil
}

// concealed takes a secret's value out of an error; path leads to what was checked.
func (m *Model) concealed(path string, err error) error {
	var e *SchemaError
	if !errors.As(err, &e) {
		return err
	}
	for _, name := range m.secrets {
		if strings.HasPrefix(path+e.Path+"/", "/"+name+"/") {
			return e.concealed()
		}
	}
	return err
}

// apply fills in what is missing and has a default, also within objects that are there.
func (n *settingNode) apply(object map[string]any) {
	for name, child := range n.children {
		value, there := object[name]
		if !there && len(child.def) > 0 {
			if decoded, err := decodeValue("default", child.def); err == nil {
				object[name], value = decoded, decoded
			}
		}
		if inner, ok := value.(map[string]any); ok {
			child.apply(inner)
		}
	}
}

// MergePatch applies a JSON merge patch (RFC 7396) to a document.
func MergePatch(doc, patch []byte) ([]byte, error) {
	base, err := decodeValue("document", doc)
	if err != nil {
		return nil, err
	}
	change, err := decodeValue("patch", patch)
	if err != nil {
		return nil, err
	}
	out, err := json.Marshal(mergePatch(base, change))
	if err != nil {
		return nil, fmt.Errorf("merge patch: %w", err)
	}
	return out, nil
}

func mergePatch(doc, patch any) any {
	change, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := doc.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, value := range change {
		if value == nil {
			delete(object, name)
		} else {
			object[name] = mergePatch(object[name], value)
		}
	}
	return object
}
