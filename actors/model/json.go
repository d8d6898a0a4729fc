package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// ValidJSON says what is wrong with a text that is no JSON, and where; nil: it is JSON.
func ValidJSON(b []byte) error {
	if len(b) == 0 {
		return errors.New("no JSON: it is empty")
	}
	if json.Valid(b) {
		if !utf8.Valid(b) {
			return errors.New("no JSON: broken UTF-8")
		}
		return nil
	}
	var any json.RawMessage
	err := json.Unmarshal(b, &any)
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("no JSON: %w at byte %d", err, syntax.Offset)
	}
	return fmt.Errorf("no JSON: %w", err)
}
