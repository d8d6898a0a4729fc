package drivers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
)

// Contract is the version of the contract between node and driver, and the name of the module that drivers import.
const Contract = "twin1"

// Bounds of a manifest.
const (
	DefaultMemoryMB = 32
	MaxMemoryMB     = 256
	maxFilters      = 32
	maxTopicBytes   = 512
	maxFrameBytes   = 4 << 20
	maxTextBytes    = 4096
	maxTraceSecrets = 8
	maxTraceSecret  = 200 // bytes
)

// offered are the capabilities of the contract.
var offered = []string{"send", "request", "publish", "http", "call", "subscribe", "connection", "state_get", "state_set",
	"schedule", "emit", "log", "setting", "describe", "discover"}

// Offered returns the capabilities that a driver may ask for.
func Offered() []string { return slices.Clone(offered) }

var (
	driverName  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`)
	semver      = regexp.MustCompile(`^(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})(-[0-9A-Za-z.-]{1,64})?(\+[0-9A-Za-z.-]{1,64})?$`)
	placeholder = regexp.MustCompile(`\{([^{}]*)\}`)
)

// ManifestError says what is wrong with a manifest, and where.
type ManifestError struct {
	// Path of the field, such as transport/scheme.
	Path   string
	Reason string
}

func (e *ManifestError) Error() string { return "manifest: " + e.Path + ": " + e.Reason }

func bad(path, format string, args ...any) error {
	return &ManifestError{Path: path, Reason: fmt.Sprintf(format, args...)}
}

// ParseManifest reads and checks a manifest: its fields, its Thing Model and its settings' schema. The capabilities are
// checked against a file's imports by Sandbox.Verify. Errors are *ManifestError.
func ParseManifest(text []byte) (*Manifest, error) {
	m, _, err := parseManifest(text)
	return m, err
}

func parseManifest(text []byte) (*Manifest, *Model, error) {
	if len(text) > MaxManifest {
		return nil, nil, bad("(whole)", "%d bytes, more than %d", len(text), MaxManifest)
	}
	m := &Manifest{}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(m); err != nil {
		return nil, nil, bad("(whole)", "%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, nil, bad("(whole)", "there is more behind the object")
	}
	if err := m.check(); err != nil {
		return nil, nil, err
	}
	model, err := NewModel(m)
	if err != nil {
		return nil, nil, err
	}
	if err := m.checkTransports(model); err != nil {
		return nil, nil, err
	}
	if err := m.checkInterfaces(); err != nil {
		return nil, nil, err
	}
	if err := m.checkHTTP(model); err != nil {
		return nil, nil, err
	}
	if err := m.checkScan(); err != nil {
		return nil, nil, err
	}
	if err := m.checkLogic(); err != nil {
		return nil, nil, err
	}
	m.normalise()
	return m, model, nil
}

func (m *Manifest) check() error {
	switch {
	case m.Contract != Contract:
		return bad("contract", "%q is not known; this version speaks %q", m.Contract, Contract)
	case !driverName.MatchString(m.Name):
		return bad("name", "%q is not of [a-z0-9][a-z0-9_-]{0,63}", m.Name)
	case !semver.MatchString(m.Version):
		return bad("version", "%q is no semantic version such as 1.2.0", m.Version)
	case m.MemoryMB < 0 || m.MemoryMB > MaxMemoryMB:
		return bad("memory_mb", "%d is not between 1 and %d", m.MemoryMB, MaxMemoryMB)
	case len(m.Title) > maxTextBytes:
		return bad("title", "longer than %d bytes", maxTextBytes)
	case len(m.Description) > maxTextBytes:
		return bad("description", "longer than %d bytes", maxTextBytes)
	case len(m.Model) == 0:
		return bad("model", "is missing")
	}
	for i, name := range m.Capabilities {
		path := fmt.Sprintf("capabilities/%d", i)
		switch {
		case !slices.Contains(offered, name):
			return bad(path, "%q is unknown; there are %s", name, strings.Join(offered, ", "))
		case slices.Index(m.Capabilities, name) != i:
			return bad(path, "%q is there twice", name)
		}
	}
	return nil
}

// memoryMB is the cap with its default.
func (m *Manifest) memoryMB() int {
	if m.MemoryMB == 0 {
		return DefaultMemoryMB
	}
	return m.MemoryMB
}

// checkFilter checks an MQTT topic filter whose placeholders name settings.
func checkFilter(path, filter string, model *Model, wildcards bool) error {
	if filter == "" || len(filter) > maxTopicBytes || strings.ContainsRune(filter, 0) {
		return bad(path, "a topic has 1 to %d bytes and no zero byte", maxTopicBytes)
	}
	for _, found := range placeholder.FindAllStringSubmatch(filter, -1) {
		if !model.hasSetting(found[1]) {
			return bad(path, "{%s} is no setting", found[1])
		}
	}
	plain := placeholder.ReplaceAllString(filter, "x")
	if strings.ContainsAny(plain, "{}") {
		return bad(path, "%q has an unpaired brace", filter)
	}
	levels := strings.Split(plain, "/")
	for i, level := range levels {
		switch {
		case !strings.ContainsAny(level, "+#"):
		case !wildcards:
			return bad(path, "%q holds a wildcard", filter)
		case level == "+", level == "#" && i == len(levels)-1:
		default:
			return bad(path, "%q is no topic filter: a wildcard stands alone in its level, # at the end", filter)
		}
	}
	if strings.Trim(plain, "+#/") == "" || strings.HasPrefix(plain, "$") {
		return bad(path, "%q reaches beyond a device's topics", filter)
	}
	return nil
}
