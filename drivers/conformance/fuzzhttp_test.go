package conformance_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers/conformance"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/script"
)

// A driver that believes what it is answered, or what it is called with, is found by its own tests' answers with something wrong.
func TestWhoBelievesAnswersFails(t *testing.T) {
	drivertest.NeedEngine(t)
	const head = `export default driver({ name: 'believer', version: '1.0.0', properties: { on: { type: 'boolean' } }, `
	for _, c := range []struct{ name, source, steps string }{
		{"an answer", head + `transport: { scheme: 'http' }, actions: { look: async (twin) => {
			const r = await twin.fetch('/state'); let s; try { s = r.json(); } catch { return; } twin.report('on', s.relays[0].ison === true); } } })`,
			"[{respond: {http: {method: GET, url: /state}}, with: {json: {relays: [{ison: true}]}}}, {call: look}, {state: {on: true}}]"},
		{"a webhook", head + `transport: { scheme: 'webhook' }, webhook(twin, { body }) {
			let s; try { s = JSON.parse(body); } catch { return { status: 400 }; } twin.report('on', s.relays[0].ison === true); } })`,
			"[{webhook: {method: POST, path: /, json: {relays: [{ison: true}]}}, answer: {status: 204}}, {state: {on: true}}]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, err := script.Parse("believer.test.yaml", []byte("tests: [{name: looks, steps: "+c.steps+"}]"))
			if err != nil {
				t.Fatal(err)
			}
			r, err := conformance.Run(t.Context(), sandbox(t), []byte(c.source), conformance.Options{Scripts: []*script.File{file}})
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(r.Probes, func(p conformance.Probe) bool { return p.Name == "garbage answers" })
			if i < 0 || r.Probes[i].Outcome != conformance.Failed || !strings.Contains(r.Probes[i].Detail, "TypeError") {
				t.Fatalf("%+v", r.Probes)
			}
		})
	}
}
