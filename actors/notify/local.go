package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// mqttWay publishes by the cluster's broker.
type mqttWay struct {
	conf    *pb.MqttNotifier
	project string
	publish func(project, topic string, payload []byte, qos byte, retain bool) error
}

func (w *mqttWay) deliver(_ context.Context, x *letter) (string, error) {
	topic := x.fill(w.conf.Topic)
	if topic == "" || strings.ContainsAny(topic, "#+\x00") {
		return "", fmt.Errorf("%w: %q is no topic", errRefused, topic)
	}
	err := w.publish(w.project, topic, []byte(x.text()), byte(w.conf.Qos), w.conf.Retain)
	if errors.Is(err, drivers.ErrDenied) {
		err = fmt.Errorf("%w: %w", errRefused, err)
	}
	return "", err
}

func (w *mqttWay) close() {}

// logWay writes to the node's log.
type logWay struct {
	log *slog.Logger
	id  string
}

func (w *logWay) deliver(_ context.Context, x *letter) (string, error) {
	w.log.Info("notification", "notifier", w.id, "subject", x.subject, "body", x.body, "by", x.n.By, "twin", x.n.Twin, "id", x.key)
	return "", nil
}

func (w *logWay) close() {}
