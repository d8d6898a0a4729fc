package drivers

import (
	"encoding/json"
)

// HasSetting says whether the settings' schema names a setting at its top.
func (m *Model) HasSetting(name string) bool { return m.hasSetting(name) }

// ValidateSetting checks the value of one setting, JSON, by its own part of the schema. What belongs to several settings
// together is checked by ValidateSettings. Errors: ErrUnknown; *SchemaError.
func (m *Model) ValidateSetting(name string, value []byte) error {
	var text settingText
	if m.settings != nil {
		if err := json.Unmarshal(m.settings, &text); err != nil {
			return bad("settings", "%s", err)
		}
	}
	raw, ok := text.Properties[name]
	if !ok {
		return unknown(name, names(m.settingsTree.children))
	}
	subject := "setting " + name
	decoded, err := decodeValue(subject, value)
	if err != nil {
		return err
	}
	schema, err := compileSchema("settings/properties/"+name, raw)
	if err != nil {
		return nil //nolint:nilerr // it refers to other parts of the schema, and is checked with the whole
	}
	return m.concealed("/"+name, checkValue(subject, schema, decoded))
}

// SettingTitles gives the titles of the settings at the schema's top, by name; those without one are missing.
func (m *Model) SettingTitles() map[string]string {
	var text struct {
		Properties map[string]json.RawMessage `json:"properties"`
	}
	titles := map[string]string{}
	if m.settings == nil || json.Unmarshal(m.settings, &text) != nil {
		return titles
	}
	for name, raw := range text.Properties {
		var one struct {
			Title string `json:"title"`
		}
		if json.Unmarshal(raw, &one) == nil && one.Title != "" {
			titles[name] = one.Title
		}
	}
	return titles
}
