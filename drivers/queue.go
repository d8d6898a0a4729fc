package drivers

import (
	"bytes"
	"encoding/json"
	"time"
)

// QueueMember is the member of an action or a property of the model that says how its commands queue.
const QueueMember = "pollux:queue"

// Queue is how the commands of an action or a property queue where their callers do not say otherwise. The zero Queue
// leaves all to the twin's defaults.
type Queue struct {
	// Priority is 1 to 100, higher first; 0: the twin's default.
	Priority uint8
	// Name: a newer command of that name replaces the one that waits.
	Name string
	// Retries after the first try; nil: the twin's default.
	Retries *uint32
	// Timeout of the driver's call and the device's answer; 0: the twin's default.
	Timeout time.Duration
	// Pause after the command, before the next one begins.
	Pause time.Duration
	// NoAnswer: it is done when it is sent. Clear: when it has ended, what waits is rejected.
	NoAnswer, Clear bool
}

// queueOf reads an affordance's queue, nil where it has none.
func queueOf(path string, affordance json.RawMessage) (*Queue, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(affordance, &members); err != nil {
		return nil, bad(path, "%s", err)
	}
	raw, ok := members[QueueMember]
	if !ok {
		return nil, nil
	}
	path += "/" + QueueMember
	var text struct {
		Priority *int    `json:"priority"`
		Name     string  `json:"name"`
		Retries  *uint32 `json:"retries"`
		Timeout  int64   `json:"timeout_ms"`
		Pause    int64   `json:"pause_ms"`
		NoAnswer bool    `json:"no_answer"`
		Clear    bool    `json:"clear"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&text); err != nil {
		return nil, bad(path, "%s", err)
	}
	const hour = int64(time.Hour / time.Millisecond)
	q := &Queue{Name: text.Name, Retries: text.Retries, Timeout: time.Duration(text.Timeout) * time.Millisecond,
		Pause: time.Duration(text.Pause) * time.Millisecond, NoAnswer: text.NoAnswer, Clear: text.Clear}
	switch {
	case text.Priority != nil && (*text.Priority < 1 || *text.Priority > 100):
		return nil, bad(path+"/priority", "%d is not 1 to 100", *text.Priority)
	case len(text.Name) > 128:
		return nil, bad(path+"/name", "%d bytes, 128 are allowed", len(text.Name))
	case text.Retries != nil && *text.Retries > 100:
		return nil, bad(path+"/retries", "%d is more than 100", *text.Retries)
	case text.Timeout < 0 || text.Timeout > hour:
		return nil, bad(path+"/timeout_ms", "%d is not 0 to %d", text.Timeout, hour)
	case text.Pause < 0 || text.Pause > hour:
		return nil, bad(path+"/pause_ms", "%d is not 0 to %d", text.Pause, hour)
	}
	if text.Priority != nil {
		q.Priority = uint8(*text.Priority)
	}
	return q, nil
}
