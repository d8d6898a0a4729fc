package rpc_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/structpb"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/transport"
	"github.com/polluxhq/pollux/drivers/transport/contract"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	rpcv1 "github.com/polluxhq/pollux/proto/pollux/v1/polluxv1connect"
)

// hooked is a driver whose device comes by webhook: it posts what it has to say, and asks for what was said to it.
const hooked = `export default driver({
  name: 'hooked', version: '1.0.0', title: 'Hooked',
  transports: [{ scheme: 'webhook' }],
  properties: { heard: { type: 'array', items: { type: 'string' } } },
  actions: { say: { input: { frame: 'string' }, queue: { no_answer: true }, run: (twin, { frame }) => { (twin.memory.out ??= []).push(frame); } } },
  webhook(twin, { method, body }) {
    if (method === 'POST') {
      (twin.memory.in ??= []).push(body);
      twin.report('heard', twin.memory.in);
      return;
    }
    if (method === 'DELETE') throw new Refusal('no DELETE here');
    if (method === 'LINK') throw new Refusal('not now', { retryable: true, after: '90s' });
    if (method === 'UNLINK') throw new Refusal('busy', { retryable: true });
    if (method === 'PUT') return { status: 42 };
    if (method === 'PATCH') return twin.nothing.here;
    const frame = (twin.memory.out ??= []).shift();
    return frame === undefined ? undefined : { body: frame };
  },
});
`

// hookPeer is that device.
type hookPeer struct {
	t   *testing.T
	url string
}

func (p *hookPeer) URI() string { return "webhook:?from=127.0.0.1" }

// Greeting implements contract.Greeter.
func (p *hookPeer) Greeting() []byte { return []byte("here I am\n") }

func (p *hookPeer) ask(method string, body []byte) (int, []byte) {
	p.t.Helper()
	status, said, _ := p.asked(method, body)
	return status, said
}

func (p *hookPeer) asked(method string, body []byte) (int, []byte, http.Header) {
	p.t.Helper()
	r, err := http.NewRequest(method, p.url, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	said, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return res.StatusCode, said, res.Header
}

func (p *hookPeer) Send(frame []byte) {
	p.t.Helper()
	if status, said := p.ask(http.MethodPost, frame); status != http.StatusNoContent {
		p.t.Errorf("the device is answered %d %q", status, said)
	}
}

func (p *hookPeer) Received() []byte {
	p.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if status, said := p.ask(http.MethodGet, nil); status == http.StatusOK {
			return said
		}
	}
	p.t.Fatal("the device is told nothing")
	return nil
}

// What is not there cannot be lost, nor be away.
func (p *hookPeer) Drop() {}
func (p *hookPeer) Down() {}
func (p *hookPeer) Up()   {}

// hookConn is a twin whose device comes by webhook, as a connection of the contract's.
type hookConn struct {
	h       *house
	id      string
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

func (h *house) openHook(id string, o transport.Options) (drivers.Conn, error) {
	c := &hookConn{h: h, id: id}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	twin := &pb.Twin{Id: id, Driver: "hooked", Uri: o.Binding.URI}
	if _, err := h.twins(h.admin).CreateTwin(c.ctx, req(&pb.CreateTwinRequest{Twin: twin})); err != nil {
		c.cancel()
		return nil, err
	}
	if o.Trace != nil {
		c.traced(o.Trace)
	}
	c.running.Go(func() { c.listen(o.Sink) })
	return c, nil
}

// traced has the twin's trace in place; it asks the twin until that shows.
func (c *hookConn) traced(trace transport.TraceFunc) {
	there := make(chan struct{})
	c.running.Go(func() {
		s, err := c.h.twins(c.h.admin).TraceTwin(c.ctx, req(&pb.TraceTwinRequest{Id: c.id}))
		if err != nil {
			return // by the end of the test
		}
		defer s.Close()
		for first := true; s.Receive(); first = false {
			if first {
				close(there)
			}
			switch m := s.Msg(); m.Direction {
			case pb.TraceTwinResponse_DIRECTION_SENT:
				trace(transport.Sent, m.Data)
			case pb.TraceTwinResponse_DIRECTION_RECEIVED:
				trace(transport.Received, m.Data)
			}
		}
	})
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if res, err := http.Get(c.h.url + "/hooks/" + c.id); err == nil {
			res.Body.Close()
		}
		select {
		case <-there:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// listen tells the sink what the twin shows.
func (c *hookConn) listen(sink drivers.Sink) {
	connected, told := false, 0
	for ; c.ctx.Err() == nil; time.Sleep(2 * time.Millisecond) {
		state := c.state()
		if !connected && state.GetStatus().GetConnection() == pb.Connection_CONNECTION_CONNECTED {
			connected = true
			sink.Connected()
		}
		if heard := state.GetProperties()["heard"].GetValue().GetListValue().GetValues(); connected {
			for ; told < len(heard); told++ {
				sink.Received([]byte(heard[told].GetStringValue()))
			}
		}
	}
}

func (c *hookConn) state() *pb.TwinState {
	res, err := c.h.twins(c.h.admin).GetTwin(c.ctx, req(&pb.GetTwinRequest{Id: c.id}))
	if err != nil {
		return nil // by the end of the test
	}
	return res.Msg.Twin.State
}

// Send implements drivers.Conn.
func (c *hookConn) Send(ctx context.Context, frame []byte) error {
	in, err := structpb.NewValue(map[string]any{"frame": string(frame)})
	if err != nil {
		return err
	}
	res, err := c.h.twins(c.h.admin).Invoke(ctx, req(&pb.InvokeRequest{Id: c.id, Action: "say", Input: in}))
	if err == nil && res.Msg.Outcome != pb.Outcome_OUTCOME_DONE {
		err = fmt.Errorf("say: %v", res.Msg)
	}
	return err
}

// Stats implements drivers.Reporter.
func (c *hookConn) Stats() drivers.Stats {
	s := c.state().GetStatus()
	t := s.GetTraffic()
	return drivers.Stats{Connected: s.GetConnection() == pb.Connection_CONNECTION_CONNECTED, LastSeen: s.GetLastSeen().AsTime(),
		BytesIn: t.GetReceivedBytes(), BytesOut: t.GetSentBytes(), FramesIn: t.GetReceivedFrames(), FramesOut: t.GetSentFrames(),
		Errors: t.GetErrors(), LastError: t.GetLastError()}
}

// Close implements drivers.Conn.
func (c *hookConn) Close() error {
	if c.ctx.Err() != nil {
		return nil
	}
	c.cancel()
	c.running.Wait()
	_, err := c.h.twins(c.h.admin).DeleteTwin(context.Background(), req(&pb.DeleteTwinRequest{Id: c.id}))
	return err
}

// A webhook is a transport as the others are: the suite's clauses that mean something to it hold of a real node.
func TestContractOfWebhooks(t *testing.T) {
	h := openHouse(t)
	if _, err := rpcv1.NewDriverServiceClient(h.http(h.admin), h.url).UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: []byte(hooked)})); err != nil {
		t.Fatalf("upload: %v", err)
	}
	project := fresh("hooked")
	id := ""
	contract.Run(t, contract.Transport{
		Open:    func(o transport.Options) (drivers.Conn, error) { return h.openHook(id, o) },
		Options: drivers.TransportOptions{Scheme: drivers.SchemeWebhook},
		Metrics: func(w io.Writer) {
			_, text, _ := h.get(t, "/metrics", h.admin)
			io.WriteString(w, text)
		},
		Is: []contract.Kind{contract.Messages, contract.Requests, contract.Inbound, contract.Nameless, contract.Routed},
		NewPeer: func(t *testing.T) contract.Peer {
			id = project + "/" + fresh("twin")
			return &hookPeer{t: t, url: h.url + "/hooks/" + id}
		},
	})
}

// What the driver refuses is the caller's to mend, and he reads why; of what went wrong on this side he reads no more than that it
// did.
func TestRefusedWebhooks(t *testing.T) {
	h := openHouse(t)
	if _, err := rpcv1.NewDriverServiceClient(h.http(h.admin), h.url).UploadDriver(t.Context(), req(&pb.UploadDriverRequest{File: []byte(hooked)})); err != nil {
		t.Fatalf("upload: %v", err)
	}
	id := fresh("hooked") + "/" + fresh("twin")
	twin := &pb.Twin{Id: id, Driver: "hooked", Uri: "webhook:?from=127.0.0.1"}
	if _, err := h.twins(h.admin).CreateTwin(t.Context(), req(&pb.CreateTwinRequest{Twin: twin})); err != nil {
		t.Fatal(err)
	}
	p := &hookPeer{t: t, url: h.url + "/hooks/" + id}
	for _, c := range []struct {
		method, says string
		status       int
		after        string
	}{
		{http.MethodDelete, "no DELETE here", http.StatusUnprocessableEntity, ""},
		{"LINK", "not now", http.StatusServiceUnavailable, "90"},
		{"UNLINK", "busy", http.StatusServiceUnavailable, "2"},
		{http.MethodPut, "the twin's driver did not handle this", http.StatusBadGateway, ""},
		{http.MethodPatch, "the twin cannot be reached now", http.StatusServiceUnavailable, "2"},
	} {
		status, said, header := p.asked(c.method, nil)
		if status != c.status || string(bytes.TrimSpace(said)) != c.says || header.Get("Retry-After") != c.after {
			t.Errorf("%s: %d %q, again after %q, want %d %q, %q", c.method, status, said, header.Get("Retry-After"), c.status, c.says, c.after)
		}
	}
}
