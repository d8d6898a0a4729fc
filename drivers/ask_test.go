package drivers_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// outside is a host that has an outside.
type outside struct {
	host
	request  drivers.HTTPRequest
	response drivers.HTTPResponse
	call     drivers.TwinCall
	answer   drivers.TwinAnswer
	did      []drivers.ConnectionOp
	err      error
}

func (o *outside) HTTP(_ context.Context, r drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	o.request = r
	return o.response, o.err
}

func (o *outside) Call(_ context.Context, c drivers.TwinCall) (drivers.TwinAnswer, error) {
	o.call = c
	return o.answer, o.err
}

func (o *outside) Connection(_ context.Context, do drivers.ConnectionOp) error {
	o.did = append(o.did, do)
	return o.err
}

func TestWhatIsAskedOfTheOutsideIsRefusedWithItsCode(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{Limits: drivers.CallLimits{HTTPs: 2, TwinCalls: 2, Connections: 2, Subscriptions: 2, SendBytes: 300, HTTPBytes: 10}})
	long := strings.Repeat("x", 400)
	for _, c := range []struct {
		capability, input string
		times             int
		code              int32 // 0: done
	}{
		{"http", `{"url":"/a"}`, 3, 5}, {"http", `{"url":"` + long + `"}`, 1, 4}, {"http", `{}`, 1, 6},
		{"http", `{"url":5}`, 1, 6}, {"http", `{"url":"/","method":"get"}`, 1, 6}, {"http", `{"url":"/","method":"GET /"}`, 1, 6},
		{"http", `{"url":"/","headers":{"a b":"x"}}`, 1, 6}, {"http", `{"url":"/","headers":{"a":"x\r\ny: z"}}`, 1, 6},
		{"http", `{"url":"/","headers":{"a":[1]}}`, 1, 6}, {"http", `{"url":"/","headers":[]}`, 1, 6}, {"http", `{"url":"/","timeout":-1}`, 1, 6}, {"http", `no`, 1, 6},
		{"call", `{"twin":"a","get":true}`, 2, 0}, {"call", `{"twin":"a","get":true}`, 3, 5}, {"call", `{"twin":"a","action":"` + long + `"}`, 1, 4},
		{"call", `{"twin":"a"}`, 1, 6}, {"call", `{"get":true}`, 1, 6}, {"call", `{"twin":"a","get":true,"action":"b"}`, 1, 6},
		{"call", `{"twin":"a","property":"b"}`, 1, 6}, {"call", `{"twin":"a","action":""}`, 1, 6}, {"call", `{"twin":"a","system":5,"get":true}`, 1, 6}, {"call", `[]`, 1, 6},
		{"connection", `{"do":"close"}`, 2, 0}, {"connection", `{"do":"close"}`, 3, 5}, {"connection", `{"do":"fly"}`, 1, 6}, {"connection", `{`, 1, 6},
		{"subscribe", `{"twin":"a","property":"p"}`, 2, 0}, {"subscribe", `{"twin":"a","property":"p"}`, 3, 5}, {"subscribe", `{"twin":"a"}`, 1, 6},
		{"subscribe", `{"property":"p"}`, 1, 6},
		{"schedule", `{"name":"t","at":1}`, 1, 0}, {"schedule", `{"name":"t","at":-1}`, 1, 6}, {"schedule", `{"name":"t","at":9e15}`, 1, 6},
		{"schedule", `{"name":"t","at":1,"after":1}`, 1, 6}, {"schedule", `{"name":"t","cron":"0 7 * * mon-fri","zone":"Europe/Berlin"}`, 1, 0},
		{"schedule", `{"name":"t","cron":"0 25 * * *"}`, 1, 6}, {"schedule", `{"name":"t","cron":"* * * * *","zone":"Moon/Base"}`, 1, 6},
		{"schedule", `{"name":"t","cron":"* * * * *","every":5}`, 1, 6}, {"schedule", `{"name":"t","zone":"UTC"}`, 1, 6},
	} {
		r := load(t, s, forwarder(c.capability, c.times))
		e, err := r.Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Input: []byte(c.input)}, &outside{})
		var refusal *drivers.DriverError
		switch {
		case c.code == 0 && err != nil:
			t.Errorf("%s %.40q %d times: %v", c.capability, c.input, c.times, err)
		case c.code != 0 && (!errors.As(err, &refusal) || refusal.Code != c.code):
			t.Errorf("%s %.40q %d times: got %v, want code -%d", c.capability, c.input, c.times, err, c.code)
		case c.code != 0 && (e.Timers != nil || e.Subscriptions != nil):
			t.Errorf("%s: effects of a call that failed", c.capability)
		}
	}
	for err, code := range map[error]int32{drivers.ErrDenied: 1, drivers.ErrTimeout: 2, drivers.ErrDisconnected: 3, drivers.ErrTooLarge: 4} {
		for _, capability := range []string{"http", "call", "connection"} {
			input := `{"url":"/","twin":"a","get":true,"do":"close"}`
			_, got := load(t, s, forwarder(capability, 1)).Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Input: []byte(input)},
				&outside{err: fmt.Errorf("far away: %w", err)})
			var refusal *drivers.DriverError
			if !errors.As(got, &refusal) || refusal.Code != code {
				t.Errorf("%s where the host says %v: %v", capability, err, got)
			}
		}
	}
	big := &outside{response: drivers.HTTPResponse{Status: 200, Body: make([]byte, 11)}}
	_, err := load(t, s, forwarder("http", 1)).Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Input: []byte(`{"url":"/"}`)}, big)
	var refusal *drivers.DriverError
	if !errors.As(err, &refusal) || refusal.Code != 4 {
		t.Errorf("an answer that is too large: %v", err)
	}
}

// TestDeniedRequestIsExplained: the code of a denied request says little, so the twin's log has the sentence.
func TestDeniedRequestIsExplained(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{})
	r := load(t, s, forwarder("http", 1))
	for _, c := range []struct {
		err   error
		lines string
	}{
		{fmt.Errorf("http: evil.example:443 is not among the hosts of the twin: %w", drivers.ErrDenied),
			"warn http: evil.example:443 is not among the hosts of the twin: " + drivers.ErrDenied.Error()},
		{fmt.Errorf("http: a user does not belong into the url: %w", drivers.ErrInvalid),
			"warn http: a user does not belong into the url: " + drivers.ErrInvalid.Error()},
		{errors.New("connection refused"), ""}, // the device's, not the author's
	} {
		o := &outside{err: c.err}
		if _, err := r.Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Input: []byte(`{"url":"/"}`)}, o); err == nil {
			t.Errorf("%v: no error", c.err)
		}
		if got := strings.Join(o.logs, "\n"); got != c.lines {
			t.Errorf("%v: the log says %q", c.err, got)
		}
	}
}

// TestTimersAreBoundedByTheDriversClock: how far ahead a time may be counts from the time that the driver sees.
func TestTimersAreBoundedByTheDriversClock(t *testing.T) {
	then := time.Date(2400, 1, 1, 0, 0, 0, 0, time.UTC)
	s := newSandbox(t, drivers.SandboxOptions{Now: func() time.Time { return then }})
	r := load(t, s, forwarder("schedule", 1))
	for ahead, code := range map[time.Duration]int32{time.Hour: 0, 200 * 365 * 24 * time.Hour: 6} {
		input := fmt.Appendf(nil, `{"name":"t","at":%d}`, then.Add(ahead).UnixMilli())
		_, err := r.Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Input: input}, &host{})
		var refusal *drivers.DriverError
		if refused := errors.As(err, &refusal); refused != (code > 0) || refused && refusal.Code != code {
			t.Errorf("%s ahead: %v", ahead, err)
		}
	}
}

func TestWhatIsAskedOfTheOutsideArrives(t *testing.T) {
	s := newSandbox(t, drivers.SandboxOptions{})
	o := &outside{response: drivers.HTTPResponse{Status: 201, Headers: http.Header{"X-A": {"1", "2"}, "Set-Cookie": {"a=b", "c=d"}}, Body: []byte("hello\x00")},
		answer: drivers.TwinAnswer{Output: json.RawMessage(`{"a":1}`)}}
	ask := func(capability, input string) drivers.Effects {
		t.Helper()
		e, err := load(t, s, forwarder(capability, 1)).Handle(t.Context(), drivers.Call{Event: drivers.EventReceived, Input: []byte(input)}, o)
		if err != nil {
			t.Fatalf("%s: %v", capability, err)
		}
		return e
	}
	// The answer of http is no JSON: the forwarder's output is refused after the request was made.
	_, _ = load(t, s, forwarder("http", 1)).Handle(t.Context(), drivers.Call{Event: drivers.EventReceived,
		Input: []byte("{\"method\":\"POST\",\"url\":\"/a?b\",\"headers\":{\"Accept\":[\"x\",\"y\"],\"B\":\"z\"},\"timeout\":90000}\x00body\x00")}, o)
	if r := o.request; r.Method != "POST" || r.URL != "/a?b" || fmt.Sprint(r.Headers) != "map[Accept:[x y] B:[z]]" || string(r.Body) != "body\x00" ||
		r.Timeout != time.Minute || r.MaxBytes != 1<<20 {
		t.Errorf("http: %+v", r)
	}
	if got, want := string(drivers.RenderHTTP(o.response)), "{\"status\":201,\"headers\":{\"set-cookie\":\"a=b\\nc=d\",\"x-a\":\"1, 2\"}}\x00hello\x00"; got != want {
		t.Errorf("http's answer: %q, want %q", got, want)
	}
	if e := ask("call", `{"twin":"lamp","system":"room","action":"flash","input":{"times":2}}`); string(e.Output) != `{"output":{"a":1}}` {
		t.Errorf("call: %s", e.Output)
	}
	if c := o.call; c.Twin != "lamp" || c.System != "room" || c.Action != "flash" || string(c.Input) != `{"times":2}` || c.Timeout != 5*time.Second {
		t.Errorf("call: %+v", c)
	}
	o.answer = drivers.TwinAnswer{Error: &drivers.TwinError{Code: drivers.CallNotFound, Message: "no \"lamp\""}}
	if e := ask("call", `{"twin":"lamp","property":"on","value":null,"timeout":100}`); string(e.Output) != `{"error":{"code":"not_found","message":"no \"lamp\""}}` {
		t.Errorf("call: %s", e.Output)
	}
	if c := o.call; c.Property != "on" || string(c.Value) != "null" || c.Timeout != 100*time.Millisecond {
		t.Errorf("call: %+v", c)
	}
	for _, do := range []string{"starttls", "close", "sleep", "wake"} {
		ask("connection", `{"do":"`+do+`"}`)
	}
	if fmt.Sprint(o.did) != "[starttls close sleep wake]" {
		t.Errorf("connection: %v", o.did)
	}
	e := ask("subscribe", `{"twin":"a","system":"s","property":"p","cancel":true}`)
	if fmt.Sprint(e.Subscriptions) != "[{a s p true}]" {
		t.Errorf("subscribe: %v", e.Subscriptions)
	}
	if e = ask("schedule", `{"name":"t","cron":"0 7 * * *","zone":"Europe/Berlin","data":1}`); e.Timers[0].Cron != "0 7 * * *" || e.Timers[0].Zone != "Europe/Berlin" {
		t.Errorf("cron: %+v", e.Timers)
	}
	if e = ask("schedule", `{"name":"t","at":1768482000000}`); e.Timers[0].At != 1768482000000 {
		t.Errorf("at: %+v", e.Timers)
	}
}
