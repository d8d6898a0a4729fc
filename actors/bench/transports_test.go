package bench_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
)

// overSource is a driver over TRANSPORT; greeting and answers are the same over all.
const overSource = `export default driver({
  name: 'over', version: '1.0.0',
  transport: TRANSPORT,
  properties: { heard: 'string', ups: 'integer' },
  actions: {
    say: { input: 'string', queue: { no_answer: true }, run: (twin, text) => { SAY; } },
  },
  connected(twin) { twin.report('ups', (twin.state.ups ?? 0) + 1); },
  received(twin, frame) { twin.report('heard', frame); },
  message(twin, topic, payload) { twin.report('heard', topic + ' ' + payload); },
  webhook(twin, { method, body }) { twin.report('heard', body); return { status: 202, body: method }; },
});
`

const (
	sayFrame   = `twin.send(text)`
	sayMessage = `twin.publish('cmd/x/go', text)`
	// overFrames is a device that sends and gets frames.
	overFrames = `      - call: say
        input: "hello\n"
      - expect: "hello\n"
      - result
      - send: "21.5\n"
      - state: {heard: HEARD, ups: 1}
      - disconnect: gone
      - status: {connection: disconnected}
      - call: say
        input: lost
        outcome: rejected
      - connect
      - status: {connection: connected}
        within: 1m
      - state: {ups: 2}
`
)

// A script plays the device over each transport that there is.
func TestEveryTransport(t *testing.T) {
	drivertest.NeedEngine(t)
	stream := `tokenizer: { delimiter: '\n' }`
	lines, messages := strings.ReplaceAll(overFrames, "HEARD", `"21.5"`), strings.ReplaceAll(overFrames, "HEARD", `"21.5\n"`)
	web := `      - call: say
        input: /state
        retries: 0
      - http: {method: GET, url: /state}
        with: {status: 200, body: "on"}
      - result
      - state: {heard: "on"}
`
	broker := strings.NewReplacer(`expect: "hello\n"`, `expect: {topic: cmd/x/go, text: "hello\n"}`, `send: "21.5\n"`, `send: {topic: dev/x, text: "21.5"}`,
		"HEARD", `"dev/x 21.5"`).Replace(overFrames)
	topics := `subscribe: ['dev/+'], publish: ['cmd/x/+']`
	ask := `return twin.fetch(text).then((r) => { twin.report('heard', r.text()); })`
	all := map[string]struct{ options, say, uri, steps string }{
		drivers.SchemeTCP:     {stream, sayFrame, "tcp://10.0.0.9:23", lines},
		drivers.SchemeTLS:     {stream, sayFrame, "tls://10.0.0.9:23", lines},
		drivers.SchemeSSH:     {stream + `, ssh: { user: 'u', password: 'p', host_key: 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGk5vGGCd0cbmhqmMvUSQ5pCwSFlkzGSOxyhyEWHZ4wv' }`, sayFrame, "ssh://10.0.0.9", lines},
		drivers.SchemeSerial:  {stream + `, serial: { baud: '9600' }`, sayFrame, "serial:///dev/ttyUSB0", lines},
		drivers.SchemeTCPIn:   {stream, sayFrame, "tcp-in://:5000?from=10.0.0.9", lines},
		drivers.SchemeUDP:     {``, sayFrame, "udp://10.0.0.9:99", messages},
		drivers.SchemeUDPIn:   {``, sayFrame, "udp-in://:5000?from=10.0.0.9", messages},
		drivers.SchemeWS:      {``, sayFrame, "ws://10.0.0.9/x", messages},
		drivers.SchemeWSS:     {``, sayFrame, "wss://10.0.0.9/x", messages},
		drivers.SchemeHTTP:    {``, ask, "http://10.0.0.9", web},
		drivers.SchemeHTTPS:   {``, ask, "https://10.0.0.9", web},
		drivers.SchemeMQTT:    {topics, sayMessage, "mqtt://10.0.0.9", broker},
		drivers.SchemeMQTTS:   {topics, sayMessage, "mqtts://10.0.0.9", broker},
		"the node's broker":   {topics, sayMessage, "", "      - send: {topic: dev/x, text: \"21.5\"}\n      - state: {heard: dev/x 21.5, ups: 1}\n      - call: say\n        input: hello\n      - expect: {topic: cmd/x/go, text: hello}\n      - result\n"},
		drivers.SchemeWebhook: {``, `twin.report('heard', text)`, "", "      - webhook: {method: POST, path: /, body: \"21.5\"}\n        answer: {status: 202, body: POST}\n      - state: {heard: \"21.5\", ups: 1}\n"},
	}
	for _, scheme := range drivers.Schemes() {
		if _, ok := all[scheme]; !ok {
			t.Errorf("no device is played over %s", scheme)
		}
	}
	for scheme, over := range all {
		t.Run(scheme, func(t *testing.T) {
			name := scheme
			if over.uri == "" && scheme != drivers.SchemeWebhook {
				name = drivers.SchemeMQTT
			}
			source := strings.NewReplacer("TRANSPORT", fmt.Sprintf("{ scheme: '%s', %s }", name, over.options), "SAY", over.say).Replace(overSource)
			passes(t, run(t, open(t, []byte(source), false), fmt.Sprintf("tests:\n  - name: a\n    uri: %q\n    steps:\n", over.uri)+over.steps))
		})
	}
}
