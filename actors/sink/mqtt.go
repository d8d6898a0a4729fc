package sink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"golang.org/x/net/proxy"
)

func checkMQTT(u *place) error {
	if err := checkHost(u); err != nil {
		return err
	}
	if strings.ContainsAny(u.Path, "+#\x00") {
		return wrong("the topic %q has a wildcard", u.Path)
	}
	_, err := qosOf(u)
	return err
}

func qosOf(u *place) (byte, error) {
	switch q := u.Query().Get("qos"); q {
	case "", "1":
		return 1, nil
	case "0":
		return 0, nil
	case "2":
		return 2, nil
	default:
		return 0, wrong("qos is 0, 1 or 2")
	}
}

// broker publishes each message to PREFIX/KEY, with QoS 1 where nothing else is said. The broker's acknowledgement is the delivery.
type broker struct {
	c      mqtt.Client
	prefix string
	qos    byte
}

// maxUnacked is how many publications wait for their acknowledgement: fewer than brokers allow a client (MQTT's receive maximum).
const maxUnacked = 16

func openMQTT(ctx context.Context, u *place, o *Options, id string) (Target, error) {
	qos, err := qosOf(u)
	if err != nil {
		return nil, err
	}
	// The id is new with each run: a broker ends the connection of a client when another one of its name comes, such as a sink of another cluster.
	client := fmt.Sprintf("pollux-%s-%s-%08x", strings.ReplaceAll(id, "/", "-"), o.Node, rand.Uint32())
	opts := mqtt.NewClientOptions().SetClientID(client).SetCleanSession(true).
		SetUsername(u.Query().Get("user")).SetPassword(u.secret).SetAutoReconnect(false).SetConnectTimeout(brokerWait).SetWriteTimeout(30 * time.Second).
		SetOrderMatters(true)
	opts.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return dialBroker(u, o) })
	b := &broker{c: mqtt.NewClient(opts.AddBroker("tcp://" + u.Host)), prefix: strings.Trim(u.Path, "/"), qos: qos}
	return b, b.connect(ctx)
}

// brokerWait is how long a connection to a broker, and its TLS, may take each.
const brokerWait = 15 * time.Second

func dialBroker(u *place, o *Options) (net.Conn, error) {
	conn, err := proxy.FromEnvironmentUsing(&net.Dialer{Timeout: brokerWait}).Dial("tcp", u.Host)
	if err != nil {
		return nil, err
	}
	conn = o.Outgoing.Keep(conn)
	if u.Scheme != "mqtts" {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), brokerWait)
	defer cancel()
	sealed := tls.Client(conn, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname()})
	if err := sealed.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("tls: %w", err)
	}
	return sealed, nil
}

func (b *broker) connect(ctx context.Context) error {
	if b.c.IsConnectionOpen() {
		return nil
	}
	if err := wait(ctx, b.c.Connect()); err != nil {
		return fmt.Errorf("mqtt: connect: %w", err)
	}
	return nil
}

func wait(ctx context.Context, t mqtt.Token) error {
	select {
	case <-t.Done():
		return t.Error()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *broker) Deliver(ctx context.Context, batch *Batch) error {
	if err := b.connect(ctx); err != nil {
		return err
	}
	tokens := make([]mqtt.Token, 0, maxUnacked)
	settle := func(n int) error {
		for len(tokens) > n {
			if err := wait(ctx, tokens[0]); err != nil {
				b.c.Disconnect(0) // what was not acknowledged comes again on a new connection
				return fmt.Errorf("mqtt: publish: %w", err)
			}
			tokens = tokens[1:]
		}
		return nil
	}
	for _, m := range batch.Messages {
		topic := strings.Trim(b.prefix+"/"+strings.NewReplacer("+", "_", "#", "_", "\x00", "_").Replace(m.Key), "/")
		if topic == "" || len(topic) > 65_535 {
			return fmt.Errorf("mqtt: %w: a message without a key, and a URL without a prefix", ErrRefused)
		}
		tokens = append(tokens, b.c.Publish(topic, b.qos, false, m.Payload))
		if err := settle(maxUnacked - 1); err != nil {
			return err
		}
	}
	if err := settle(0); err != nil {
		return err
	}
	if b.qos == 0 && !b.c.IsConnectionOpen() {
		return errors.New("mqtt: the connection was lost")
	}
	return nil
}

func (b *broker) Close() { b.c.Disconnect(100) }
