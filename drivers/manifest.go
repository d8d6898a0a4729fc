package drivers

import "encoding/json"

// KindLogic is the kind of a file that speaks to no device: it reacts to twins, topics, timers and messages, and commands twins.
const KindLogic = "logic"

// Manifest describes a driver. It is JSON in the WASM custom section `driver.manifest`.
type Manifest struct {
	// Contract is "twin1".
	Contract string `json:"contract"`
	// Name is [a-z0-9][a-z0-9_-]{0,63}.
	Name string `json:"name"`
	// Version is a semantic version, without v.
	Version string `json:"version"`
	// Kind is empty for a driver of devices, or KindLogic.
	Kind        string `json:"kind,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// MemoryMB caps the guest's memory, 1 to 256; 0 means 32.
	MemoryMB int `json:"memory_mb,omitempty"`
	// Capabilities are the twin1 imports that the file may use; they must cover its import list.
	Capabilities []string `json:"capabilities"`
	// Transports are the ways in which devices are reached; the scheme of a twin's address picks one. None: the driver
	// needs no device.
	Transports []TransportOptions `json:"transports,omitempty"`
	// OneTransport is the short form of a list of one. ParseManifest and DecodeManifest make it Transports.
	OneTransport *TransportOptions `json:"transport,omitempty"`
	// HTTP says what the capability http reaches besides the twin's own address.
	HTTP *HTTPReach `json:"http,omitempty"`
	// Scan says how the driver finds devices in a network; nil: it does not.
	Scan *ScanOptions `json:"scan,omitempty"`
	// Interfaces are the standard interfaces that the model implements, such as Powerable (see package interfaces).
	Interfaces []string `json:"interfaces,omitempty"`
	// Model is a W3C Thing Model 1.1: properties, actions, events.
	Model json.RawMessage `json:"model"`
	// Settings is a JSON Schema (2020-12) of an object. `"writeOnly": true` marks a secret.
	Settings json.RawMessage `json:"settings,omitempty"`
}
