package actors_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// porterLogic tells by a notifier what comes by webhook, by command and by a route.
const porterLogic = `export default logic({
  name: 'porter', version: '1.0.0',
  properties: { rung: 'integer' },
  actions: {
    page: { input: { id: 'string' }, run: (twin, { id }) => twin.notify('oncall', { subject: 'page ' + id, body: ' ', id }) },
    shout: (twin) => twin.notify('nobody', 'hello'),
    mumble: (twin) => twin.notify('oncall', {}),
  },
  async webhook(twin, { body, headers }) {
    twin.report('rung', (twin.state.rung ?? 0) + 1);
    await twin.notify('oncall', { subject: body + (headers.authorization ?? ''), body: ' ' });
    return { status: 202, body: 'told' };
  },
  async run(message, context) { await context.notify('oncall', { subject: 'value ' + message.value, body: ' ' }); },
});`

// TestLogicTells: a logic tells by notifiers of its project, what it names once; it is reached by webhook with its token.
func TestLogicTells(t *testing.T) {
	n := newNode(t)
	n.source(porterLogic)
	n.twin(`{"id":"porter","driver":"porter","settings":{"token":"sesame"}}`)
	n.twin(`{"id":"deaf","driver":"porter"}`)
	n.notifier(&pb.Notifier{Id: "oncall", Kind: &pb.Notifier_Mqtt{Mqtt: &pb.MqttNotifier{Topic: "oncall"}}, Body: " "})
	told := func(want ...string) {
		t.Helper()
		until(t, "it was told "+strings.Join(want, ", "), func() bool {
			n.mu.Lock()
			defer n.mu.Unlock()
			return slices.EqualFunc(n.published, want, func(got, want string) bool { return strings.TrimSpace(got) == "oncall "+want })
		})
	}
	for _, id := range []string{"a", "a", "b"} {
		n.must("porter", "page", `{"id":"`+id+`"}`)
	}
	told("page a", "page b")
	for action, why := range map[string]string{"shout": "notifier default/nobody", "mumble": "neither a subject nor a body"} {
		if _, err := n.invoke("porter", action, ""); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", action, err)
		}
	}
	if _, err := n.client.Logic(ctx(t), &pb.RunLogicRequest{Id: "porter", Message: value(t, `{"value":7}`)}, "test"); err != nil {
		t.Fatal(err)
	}
	told("page a", "page b", "value 7")

	who, err := n.reg.Hook("porter")
	if err != nil || who.Token != "sesame" {
		t.Fatalf("its callers: %v, %v", who, err)
	}
	for _, id := range []string{"deaf", "none"} {
		if _, err := n.reg.Hook(id); !errors.Is(err, actors.ErrNotFound) {
			t.Errorf("the callers of %s: %v", id, err)
		}
	}
	out, err := n.client.Webhook(ctx(t), "porter", drivers.WebhookInput{Method: "POST", Path: "/", Headers: map[string]string{}, Body: "ding"})
	if err != nil || out.Status != 202 || out.Body != "told" {
		t.Fatalf("its answer: %v, %v", out, err)
	}
	told("page a", "page b", "value 7", "ding")
	n.wait("porter", "rung", "1")

	n.source(`export default driver({ name: 'lamp', version: '1.0.0', capabilities: ['call'],
		actions: { page: (twin) => twin.notify('oncall', 'hello') } });`)
	n.twin(`{"id":"lamp","driver":"lamp"}`)
	if _, err := n.invoke("lamp", "page", ""); err == nil || !strings.Contains(err.Error(), "lamp is no logic") {
		t.Errorf("a driver: %v", err)
	}
}
