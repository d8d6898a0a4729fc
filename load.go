package pollux

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// Origin says where a setting's value came from: "default", "file PATH:LINE", "variable NAME" or "flag --NAME".
type Origin map[string]string

// LoadConfig puts a configuration together: flags over variables over the file over the defaults. flags holds, by
// key, only what was given on the command line; env looks a variable up; file is "" for none. Errors name the
// setting, its value and where it was given.
func LoadConfig(file string, env func(string) (string, bool), flags map[string]string) (Config, Origin, error) {
	c, origin := DefaultConfig(), Origin{}
	inFile := map[string]fileValue{}
	if file != "" {
		var err error
		if inFile, err = readFile(file); err != nil {
			return c, nil, err
		}
	}
	for _, s := range Settings() {
		value, from, given := "", "default", false
		if v, ok := inFile[s.Key]; ok {
			value, from, given = v.text, fmt.Sprintf("file %s:%d", file, v.line), true
			delete(inFile, s.Key)
		}
		if v, ok := env(s.Variable()); ok {
			value, from, given = v, "variable "+s.Variable(), true
		}
		if v, ok := flags[s.Key]; ok {
			value, from, given = v, "flag --"+s.Flag(), true
		}
		origin[s.Key] = from
		if !given {
			continue
		}
		if err := s.Set(&c, value); err != nil {
			return c, nil, fmt.Errorf("%s = %q (%s): %w", s.Key, value, from, err)
		}
	}
	if err := unknownKeys(file, inFile); err != nil {
		return c, nil, err
	}
	if err := c.Check(); err != nil {
		key, _, _ := strings.Cut(err.Error(), " ")
		if from, ok := origin[key]; ok && from != "default" {
			return c, nil, fmt.Errorf("%w (%s)", err, from)
		}
		return c, nil, err
	}
	return c, origin, nil
}

type fileValue struct {
	text string
	line int
}

func readFile(file string) (map[string]fileValue, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(data, &doc); err != nil {
		return nil, fmt.Errorf("read configuration %s: %w", file, err)
	}
	values := map[string]fileValue{}
	if len(doc.Content) == 0 {
		return values, nil
	}
	return values, flatten(file, "", doc.Content[0], values)
}

func flatten(file, prefix string, node *yaml.Node, into map[string]fileValue) error {
	if node.Kind != yaml.MappingNode {
		return fmt.Errorf("configuration %s:%d: %s: want a mapping of settings", file, node.Line, strings.TrimSuffix(prefix, "."))
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := prefix+node.Content[i].Value, node.Content[i+1]
		switch value.Kind {
		case yaml.ScalarNode:
			if _, twice := into[key]; twice {
				return fmt.Errorf("configuration %s:%d: %s is given twice", file, value.Line, key)
			}
			into[key] = fileValue{value.Value, value.Line}
		case yaml.MappingNode:
			if err := flatten(file, key+".", value, into); err != nil {
				return err
			}
		default:
			return fmt.Errorf("configuration %s:%d: %s: want one value", file, value.Line, key)
		}
	}
	return nil
}

func unknownKeys(file string, left map[string]fileValue) error {
	var faults []error
	for key, v := range left {
		faults = append(faults, fmt.Errorf("configuration %s:%d: %s is no setting (pollux config lists them)", file, v.line, key))
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(faults...)
}
