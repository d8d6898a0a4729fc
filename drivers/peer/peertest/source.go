package peertest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/drivertest"
	"github.com/polluxhq/pollux/drivers/mqtt"
	"github.com/polluxhq/pollux/storage/storagetest"
)

// LoadSource loads a driver in JavaScript into a sandbox that lives as long as the test. It skips the test where the engine
// was not built.
func LoadSource(tb testing.TB, path string) drivers.Runner {
	tb.Helper()
	drivertest.NeedEngine(tb)
	file, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return LoadFile(tb, file)
}

// LoadFile loads a driver's file into a sandbox that lives as long as the test.
func LoadFile(tb testing.TB, file []byte) drivers.Runner {
	tb.Helper()
	box, err := drivers.NewSandbox(drivers.SandboxOptions{CacheDir: drivertest.CacheDir(tb)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := box.Close(); err != nil {
			tb.Error(err)
		}
	})
	r, err := box.Load(tb.Context(), file)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = r.Close() })
	return r
}

// broker gives a twin the messages of its filters, as a node does.
type broker struct {
	ready   chan struct{} // the twin is there
	twin    *Twin
	filters []string
	will    *drivers.Will
}

func (*broker) Authenticate(string, string, []byte) (mqtt.Grant, error) {
	return mqtt.Grant{}, errors.New("anonymous only")
}

func (b *broker) Deliver(m *mqtt.Message, done func(error)) {
	defer done(nil)
	<-b.ready
	if b.will != nil && m.Topic == b.will.Topic {
		if string(m.Payload) == b.will.Online {
			b.twin.Connected()
		} else {
			b.twin.Disconnected(errors.New("offline"))
		}
		return
	}
	for _, filter := range b.filters {
		if covers(strings.Split(filter, "/"), strings.Split(m.Topic, "/")) {
			b.twin.Received(append(append([]byte(m.Topic), 0), m.Payload...))
			return
		}
	}
}

func covers(filter, topic []string) bool {
	for i, level := range filter {
		if level == "#" {
			return true
		}
		if i >= len(topic) || level != "+" && level != topic[i] {
			return false
		}
	}
	return len(filter) == len(topic)
}

// Broker opens an MQTT broker with one twin of a driver behind it, and returns its address. Values stand for the settings in
// the driver's topics.
func Broker(tb testing.TB, r drivers.Runner, settings string, values map[string]string) (twin *Twin, addr string) {
	tb.Helper()
	fill := func(text string) string {
		for name, value := range values {
			text = strings.ReplaceAll(text, "{"+name+"}", value)
		}
		return text
	}
	t := r.Manifest().TransportFor(drivers.SchemeMQTT)
	b := &broker{ready: make(chan struct{})}
	for _, filter := range t.Subscribe {
		b.filters = append(b.filters, fill(filter))
	}
	if t.Will != nil {
		will := *t.Will
		will.Topic = fill(will.Topic)
		b.will = &will
	}
	node, err := mqtt.Open(mqtt.Options{Addr: "127.0.0.1:0", Store: storagetest.OpenSingle(tb, "data", vfs.NewMem()), Handler: b, AllowAnonymous: true})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = node.Close() })
	b.twin = NewPublisher(tb, r, settings, node.Publish)
	close(b.ready)
	if b.will == nil {
		b.twin.Connected()
	}
	return b.twin, node.Addr().String()
}

// Running runs a simulator until the test ends.
func Running(tb testing.TB, run func(context.Context) error) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	tb.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
}

// HTTP lets the driver make requests by a client, which is closed with the test. Set it before the first event that needs it.
func (t *Twin) HTTP(c drivers.HTTPClient) {
	t.mu.Lock()
	t.http = c
	t.mu.Unlock()
	t.tb.Cleanup(func() { _ = c.Close() })
}

func (h host) HTTP(ctx context.Context, request drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	h.t.mu.Lock()
	c := h.t.http
	h.t.mu.Unlock()
	if c == nil {
		return drivers.HTTPResponse{}, drivers.ErrDenied
	}
	return c.Do(ctx, request)
}

// ServeHTTP brings requests to the twin, as webhooks.
func (t *Twin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	input := drivers.WebhookInput{Method: r.Method, Path: r.URL.Path, Query: map[string]string{}, Headers: map[string]string{}, Body: string(body)}
	for name := range r.URL.Query() {
		input.Query[name] = r.URL.Query().Get(name)
	}
	for name := range r.Header {
		input.Headers[strings.ToLower(name)] = r.Header.Get(name)
	}
	text, err := json.Marshal(input)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	answer := make(chan []byte, 1)
	t.do(func() { answer <- t.call(drivers.EventWebhook, text) })
	out := drivers.WebhookOutput{Status: http.StatusNoContent}
	select {
	case b := <-answer:
		if b != nil && json.Unmarshal(b, &out) != nil {
			out.Status = http.StatusInternalServerError
		}
	case <-r.Context().Done():
		return
	}
	w.WriteHeader(out.Status)
	_, _ = io.WriteString(w, out.Body)
}
