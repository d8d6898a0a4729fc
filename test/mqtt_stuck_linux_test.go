package test

import (
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	paho "github.com/eclipse/paho.mqtt.golang"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/test/harness"
)

// TestMQTTReaderThatDoesNotRead: what a reader of a channel with QoS 0 was not sent, as it reads nothing from its socket, another reader gets.
func TestMQTTReaderThatDoesNotRead(t *testing.T) {
	t.Parallel()
	n := harness.Start(t, harness.Options{})
	n.Must("topic", "create", "orders")
	n.Must("topic", "channel", "put", "orders", "work", "--ack", "hand")
	const all, each = 5000, 100 // more than what sockets take
	pad := strings.Repeat("x", 2000)
	for first := 0; first < all; first += each {
		r := &pb.PublishRequest{Topic: "default/orders"}
		for i := first; i < first+each; i++ {
			r.Messages = append(r.Messages, &pb.TopicMessage{Payload: fmt.Appendf(nil, "%s no=%d;", pad, i)})
		}
		if _, err := n.Topics().Publish(t.Context(), connect.NewRequest(r)); err != nil {
			t.Fatal(err)
		}
	}
	stuck := mqttNeverReads(t, n, "$share/work/topics/default/orders/#")
	readers := func(want uint32) func() bool {
		return func() bool {
			res, err := n.Topics().ListChannels(t.Context(), connect.NewRequest(&pb.ListChannelsRequest{Topic: "default/orders"}))
			return err == nil && len(res.Msg.Channels) == 1 && res.Msg.Channels[0].Readers == want
		}
	}
	harness.Until(t, time.Minute, "the channel has a reader", readers(1))
	harness.Until(t, time.Minute, "the reader is given up", readers(0))

	had := map[string]bool{}
	var mu sync.Mutex
	number := regexp.MustCompile(`no=\d+;`)
	note := func(b []byte) {
		mu.Lock()
		defer mu.Unlock()
		for _, s := range number.FindAll(b, -1) {
			had[string(s)] = true
		}
	}
	_ = stuck.SetReadDeadline(time.Now().Add(time.Minute))
	sent, _ := io.ReadAll(stuck) // what was on its way
	note(sent)
	before := len(had)
	c := paho.NewClient(paho.NewClientOptions().AddBroker("tcp://" + n.MQTT).SetClientID("other").SetUsername("admin").SetPassword(n.Key))
	if w := c.Connect(); w.Wait() && w.Error() != nil {
		t.Fatal(w.Error())
	}
	defer c.Disconnect(0)
	c.Subscribe("$share/work/topics/default/orders/#", 1, func(_ paho.Client, m paho.Message) { note(m.Payload()) })
	var count int
	for end := time.Now().Add(30 * time.Second); count < all && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		mu.Lock()
		count = len(had)
		mu.Unlock()
	}
	if before == 0 || before == all || count < all {
		t.Errorf("of %d messages the one was sent %d, and both together %d", all, before, count)
	}
}

// mqttNeverReads subscribes with QoS 0, and reads nothing.
func mqttNeverReads(t *testing.T, n *harness.Node, filter string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if outer := c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) }); outer != nil {
			return outer
		}
		return err
	}}
	conn, err := d.Dial("tcp", n.MQTT)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	text := func(s string) string { return string([]byte{byte(len(s) >> 8), byte(len(s))}) + s }
	for _, p := range []struct {
		kind byte
		body string
	}{
		{0x10, text("MQTT") + "\x04\xc2\x00\x00" + text("stuck") + text("admin") + text(n.Key)},
		{0x82, "\x00\x01" + text(filter) + "\x00"},
	} {
		if _, err := conn.Write(append([]byte{p.kind, byte(len(p.body))}, p.body...)); err != nil {
			t.Fatal(err)
		}
	}
	return conn
}
