package test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/test/harness"
)

// ruleModel is a room whose values come by HTTP.
const ruleModel = `{"@context":["https://www.w3.org/2022/wot/td/v1.1",{"pollux":"https://pollux.dev/ns#"}],"@type":"tm:ThingModel","title":"Room",
	"properties":{"temperature":{"type":"number"},"leak":{"type":"boolean"},"mode":{"type":"string"},"said":{"type":"string","pollux:virtual":true}}}`

// TestRuleDoors has rules act on what is posted to them, on a topic, on a template's word and on the history, and live through what was recorded, all
// by the program's command line and doors.
func TestRuleDoors(t *testing.T) {
	n := harness.Start(t, harness.Options{})
	model := filepath.Join(t.TempDir(), "room.json")
	if err := os.WriteFile(model, []byte(ruleModel), 0o600); err != nil {
		t.Fatal(err)
	}
	n.Must("model", "create", "room", "--file", model)
	n.Must("twin", "create", "hall", "--model", "room")
	n.Must("twin", "create", "out", "--model", "room")
	said := func(want string) {
		t.Helper()
		until(t, "out says "+want, func() bool { return strings.Contains(n.Must("twin", "get", "out", "-o", "json"), want) })
	}

	const secret = "sesame-open-0123456789"
	n.Must("rule", "put", "door", "--on-webhook", secret, "--if", "value.open == true", "--set", "out.said=opened")
	if text := n.Must("rule", "get", "door", "-o", "yaml"); strings.Contains(text, secret) {
		t.Errorf("the secret is kept: %s", text)
	}
	post := func(token, body string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.URL+"/hooks/default/@rule/door", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		return res.StatusCode
	}
	if a, b, c := post("wrong", `{"open":true}`), post(secret, strings.Repeat("x", 70_000)), post(secret, `{"open":false}`); a != 404 || b != 413 || c != 202 {
		t.Errorf("answers %d, %d, %d", a, b, c)
	}
	if why := n.Must("rule", "why", "door"); !strings.Contains(why, "does not hold") || !strings.Contains(why, `"open":false`) {
		t.Errorf("why it did not act: %s", why)
	}
	if code := post(secret, `{"open":true}`); code != 202 {
		t.Errorf("answer %d", code)
	}
	said("opened")

	n.Must("topic", "create", "orders")
	n.Must("rule", "put", "order", "--on-topic", "orders", "--if", "value.n > 1", "--set", "out.said=ordered")
	n.Must("topic", "publish", "orders", `{"n":2}`)
	said("ordered")

	if text := n.Must("rule", "templates"); !strings.Contains(text, "frost") || !strings.Contains(text, "energy-peak") {
		t.Errorf("templates: %s", text)
	}
	n.Must("rule", "create", "--template", "leak", "--set", "twin=hall")
	n.Must("rule", "put", "warm", "--on", "hall.temperature", "--if", `history("max", "temperature", "1h") > 24.0 && value > 20.0`, "--until", "value < 15.0", "--raise", "warm")
	send := func(value string) {
		t.Helper()
		n.Must("ingest", "send", "hall", value)
	}
	send(`{"temperature": 25, "mode": "day"}`)
	cool := 22.0
	until(t, "the past is warm enough", func() bool {
		cool = 43 - cool // each is a change: the rule looks again
		send(fmt.Sprintf(`{"temperature": %g}`, cool))
		return strings.Contains(n.Must("alarm", "list"), "warm.hall")
	})
	send(`{"leak": true, "temperature": 12}`)
	until(t, "water", func() bool { return strings.Contains(n.Must("alarm", "list"), "water at") })

	// What was recorded, as a rule that is not there would have seen it. Booleans are true and false again.
	file := filepath.Join(t.TempDir(), "rule.yaml")
	if err := os.WriteFile(file, []byte(`rule: {id: wet, when: [{property: {of: {twins: [hall]}}}], if: "twin.properties.leak == true && twin.properties.mode == 'day'",
  then: [{set: {to: {twin: out}, property: said, expr: "'wet at ' + string(twin.properties.temperature)"}}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var res struct {
		Firings []struct {
			Subject string
			Actions []string
		}
		State struct{ Evaluations string }
	}
	until(t, "the dry run finds the leak", func() bool {
		if err := json.Unmarshal([]byte(n.Must("rule", "dry-run", "-f", file, "--since", "1h", "-o", "json")), &res); err != nil {
			t.Fatal(err)
		}
		return len(res.Firings) > 0
	})
	if len(res.Firings) != 1 || res.Firings[0].Subject != "default/hall" || !strings.Contains(res.Firings[0].Actions[0], "wet at 12") && !strings.Contains(res.Firings[0].Actions[0], fmt.Sprintf("wet at %g", cool)) {
		t.Errorf("dry run: %+v", res)
	}
	if text := n.Must("rule", "dry-run", "warm", "--since", "1h"); !strings.Contains(text, "firings") {
		t.Errorf("dry run: %s", text)
	}
	if strings.Contains(n.Must("twin", "get", "out", "-o", "json"), "wet at") {
		t.Error("a dry run did something")
	}
}
