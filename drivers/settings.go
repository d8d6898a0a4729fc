package drivers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
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
	tree, err := m.settingTree("settings", "", m.settings, 0)
	if err != nil {
		return err
	}
	slices.Sort(m.secrets)
	m.settingsSchema, m.settingsTree = schema, tree
	return nil
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
	if err := checkValue("settings", m.settingsSchema, object); err != nil {
		return nil, err
	}
	out, err := json.Marshal(object)
	if err != nil {
		return nil, fmt.Errorf("settings: %w", err)
	}
	return out, nil
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
