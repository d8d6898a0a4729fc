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
	if err := m.checkTransport(model); err != nil {
		return nil, nil, err
	}
	if err := m.checkInterfaces(); err != nil {
		return nil, nil, err
	}
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

func (m *Manifest) checkTransport(model *Model) error {
	t := m.Transport
	if t == nil {
		return nil
	}
	switch t.Scheme {
	case "tcp":
		if len(t.Subscribe)+len(t.Publish)+len(t.DeviceSubscribe)+len(t.DevicePublish) > 0 || t.Will != nil {
			return bad("transport", "subscribe, publish, device_subscribe, device_publish and will belong to scheme mqtt")
		}
	case "mqtt":
		if t.Tokenizer != nil || t.DefaultPort != 0 || t.IdleTimeoutMS != 0 {
			return bad("transport", "tokenizer, default_port and idle_timeout_ms belong to scheme tcp")
		}
	default:
		return bad("transport/scheme", "%q is not offered; there are tcp and mqtt", t.Scheme)
	}
	switch {
	case t.DefaultPort < 0 || t.DefaultPort > 65535:
		return bad("transport/default_port", "%d is no port", t.DefaultPort)
	case t.IdleTimeoutMS < 0:
		return bad("transport/idle_timeout_ms", "%d is negative", t.IdleTimeoutMS)
	}
	if err := checkTokenizer(t.Tokenizer); err != nil {
		return err
	}
	if err := checkTraceSecrets(t.TraceSecrets); err != nil {
		return err
	}
	return t.checkTopics(model)
}

func checkTraceSecrets(list []string) error {
	if len(list) > maxTraceSecrets {
		return bad("transport/trace_secrets", "%d expressions, more than %d", len(list), maxTraceSecrets)
	}
	for i, text := range list {
		path := fmt.Sprintf("transport/trace_secrets/%d", i)
		if len(text) > maxTraceSecret {
			return bad(path, "longer than %d bytes", maxTraceSecret)
		}
		re, err := regexp.Compile(text)
		if err != nil {
			return bad(path, "%s", err)
		}
		if re.MatchString("") {
			return bad(path, "%q matches nothing at all", text)
		}
	}
	return nil
}

func checkTokenizer(t *Tokenizer) error {
	const path = "transport/tokenizer"
	switch {
	case t == nil:
		return nil
	case (t.Delimiter == "") == (t.LengthBytes == 0):
		return bad(path, "exactly one of delimiter and length_bytes is to be set")
	case len(t.Delimiter) > 16:
		return bad(path+"/delimiter", "longer than 16 bytes")
	case !slices.Contains([]int{0, 1, 2, 4}, t.LengthBytes):
		return bad(path+"/length_bytes", "%d is not 1, 2 or 4", t.LengthBytes)
	case t.LengthOffset < 0 || t.LengthOffset > 1024:
		return bad(path+"/length_offset", "%d is not between 0 and 1024", t.LengthOffset)
	case t.MaxFrame < 0 || t.MaxFrame > maxFrameBytes:
		return bad(path+"/max_frame", "%d is not between 1 and %d", t.MaxFrame, maxFrameBytes)
	}
	return nil
}

func (t *TransportOptions) checkTopics(model *Model) error {
	for _, list := range []struct {
		path    string
		filters []string
	}{
		{"transport/subscribe", t.Subscribe}, {"transport/publish", t.Publish},
		{"transport/device_subscribe", t.DeviceSubscribe}, {"transport/device_publish", t.DevicePublish},
	} {
		if len(list.filters) > maxFilters {
			return bad(list.path, "%d filters, more than %d", len(list.filters), maxFilters)
		}
		for i, filter := range list.filters {
			path := fmt.Sprintf("%s/%d", list.path, i)
			if err := checkFilter(path, filter, model, true); err != nil {
				return err
			}
			if strings.HasPrefix(list.path, "transport/device_") && !placeholder.MatchString(filter) {
				return bad(path, "%q is the same for all devices: it holds no {SETTING}", filter)
			}
		}
	}
	if t.Will == nil {
		return nil
	}
	if t.Will.Online == t.Will.Offline {
		return bad("transport/will", "online and offline are the same payload")
	}
	return checkFilter("transport/will/topic", t.Will.Topic, model, false)
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
	if levels[0] == "#" || strings.HasPrefix(plain, "$") {
		return bad(path, "%q reaches beyond a device's topics", filter)
	}
	return nil
}
