package drivers

import "encoding/json"

// Manifest describes a driver. It is JSON in the WASM custom section `driver.manifest`.
type Manifest struct {
	// Contract is "twin1".
	Contract string `json:"contract"`
	// Name is [a-z0-9][a-z0-9_-]{0,63}.
	Name string `json:"name"`
	// Version is a semantic version, without v.
	Version     string `json:"version"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// MemoryMB caps the guest's memory, 1 to 256; 0 means 32.
	MemoryMB int `json:"memory_mb,omitempty"`
	// Capabilities are the twin1 imports that the file may use; they must cover its import list.
	Capabilities []string `json:"capabilities"`
	// Transport says how devices are reached; nil: the driver has none.
	Transport *TransportOptions `json:"transport,omitempty"`
	// Interfaces are the standard interfaces that the model implements, such as Powerable (see package interfaces).
	Interfaces []string `json:"interfaces,omitempty"`
	// Model is a W3C Thing Model 1.1: properties, actions, events.
	Model json.RawMessage `json:"model"`
	// Settings is a JSON Schema (2020-12) of an object. `"writeOnly": true` marks a secret.
	Settings json.RawMessage `json:"settings,omitempty"`
}

// TransportOptions are one transport of a manifest.
type TransportOptions struct {
	// Scheme: tcp or mqtt.
	Scheme string `json:"scheme"`
	// DefaultPort completes a URI without one (tcp).
	DefaultPort int `json:"default_port,omitempty"`
	// Tokenizer cuts the received bytes into frames (tcp). Its default is raw: chunks as they come.
	Tokenizer *Tokenizer `json:"tokenizer,omitempty"`
	// IdleTimeoutMS: reconnect where nothing was received for so long; 0: never (tcp).
	IdleTimeoutMS int `json:"idle_timeout_ms,omitempty"`
	// TraceSecrets are regular expressions (RE2) of what the driver computes from a secret and sends, such as a digest of a
	// password: what they match in a frame that is sent shows as *** in a trace. The secrets themselves never show.
	TraceSecrets []string `json:"trace_secrets,omitempty"`
	// Subscribe are the MQTT topic filters of the twin's device; {NAME} stands for a setting (mqtt).
	Subscribe []string `json:"subscribe,omitempty"`
	// Publish are the MQTT topic filters that the driver may publish to (mqtt).
	Publish []string `json:"publish,omitempty"`
	// DeviceSubscribe and DevicePublish are the MQTT topic filters that a device with a key of its own may use besides:
	// subscribe to more than what the driver publishes, publish more than what the twin listens to. {NAME} stands for a
	// setting, so that they stay the device's own (mqtt).
	DeviceSubscribe []string `json:"device_subscribe,omitempty"`
	DevicePublish   []string `json:"device_publish,omitempty"`
	// Will is a topic whose message tells whether the device is connected, with the payloads that say so (mqtt).
	Will *Will `json:"will,omitempty"`
}

// Will tells a device's presence on MQTT.
type Will struct {
	Topic   string `json:"topic"`
	Online  string `json:"online"`
	Offline string `json:"offline"`
}

// Tokenizer cuts a stream of bytes into frames. Exactly one of Delimiter and LengthBytes is set.
type Tokenizer struct {
	// Delimiter ends a frame; it is not part of it. Go string escapes of JSON apply, such as "\r".
	Delimiter string `json:"delimiter,omitempty"`
	// LengthBytes (1, 2 or 4, big-endian) at LengthOffset give the number of bytes after them.
	LengthBytes  int `json:"length_bytes,omitempty"`
	LengthOffset int `json:"length_offset,omitempty"`
	// MaxFrame in bytes; a longer frame closes the connection. 0 means 65,536.
	MaxFrame int `json:"max_frame,omitempty"`
}
