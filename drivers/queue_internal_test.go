package drivers

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// A model says how commands queue; what makes no sense is refused where the driver is uploaded.
func TestQueueOfAnAffordance(t *testing.T) {
	model := func(queue string) (*Model, error) {
		return NewModel(&Manifest{Model: json.RawMessage(`{"title":"x","actions":{"off":{` + queue + `}},"properties":{"input":{"type":"string",` +
			`"pollux:queue":{"name":"input","pause_ms":200}}}}`)})
	}
	m, err := model(`"pollux:queue":{"priority":99,"name":"power","retries":0,"timeout_ms":20000,"no_answer":true,"clear":true}`)
	if err != nil {
		t.Fatal(err)
	}
	q := m.Action("off").Queue
	if q == nil || q.Priority != 99 || q.Name != "power" || q.Retries == nil || *q.Retries != 0 || q.Timeout != 20*time.Second || !q.NoAnswer || !q.Clear {
		t.Errorf("the action queues by %+v", q)
	}
	if q := m.Property("input").Queue; q == nil || q.Name != "input" || q.Pause != 200*time.Millisecond || q.Retries != nil {
		t.Errorf("the property queues by %+v", q)
	}
	if m, err := model(`"idempotent":true`); err != nil || m.Action("off").Queue != nil {
		t.Errorf("without a queue: %v", err)
	}
	for _, bad := range []string{`{"priority":0}`, `{"priority":101}`, `{"retries":-1}`, `{"retries":101}`, `{"timeout_ms":-1}`, `{"pause_ms":3600001}`,
		`{"pause":1}`, `7`, `{"name":"` + strings.Repeat("x", 129) + `"}`} {
		if _, err := model(`"pollux:queue":` + bad); err == nil || !strings.Contains(err.Error(), "pollux:queue") {
			t.Errorf("%.40s: %v", bad, err)
		}
	}
}
