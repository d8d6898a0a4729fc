package bench

import (
	"context"
	"maps"
	"net/url"
	"unicode/utf8"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
)

// http takes an HTTP request of the driver and answers it.
func (r *rig) http(s *script.Step) *Failure {
	var q *asked[drivers.HTTPRequest, script.Answer]
	fits := false
	if f := r.waits(s, func() (bool, error) {
		q, fits = firstOf(r.out, &r.out.http, func(got *drivers.HTTPRequest) bool { return len(requestDiff(s.Request, got)) == 0 })
		return q != nil, nil
	}); f != nil {
		return f
	}
	switch {
	case q == nil:
		return &Failure{Text: "the driver made no HTTP request" + within(s), Expected: s.Request.String(), Got: "none"}
	case !fits:
		return &Failure{Text: "the driver made another HTTP request", Expected: s.Request.String(),
			Got: q.question.Method + " " + q.question.URL, Diff: requestDiff(s.Request, &q.question)}
	}
	r.out.mu.Lock()
	if !q.answered {
		q.give(*s.Answer)
	}
	r.out.mu.Unlock()
	return failed(r.rest())
}

// called takes what the driver asked of another twin, and answers it.
func (r *rig) called(s *script.Step) *Failure {
	var q *asked[script.Asked, script.Outcome]
	fits := false
	if f := r.waits(s, func() (bool, error) {
		q, fits = firstOf(r.out, &r.out.called, func(got *script.Asked) bool { return len(askedDiff(s.Called, got)) == 0 })
		return q != nil, nil
	}); f != nil {
		return f
	}
	switch {
	case q == nil:
		return &Failure{Text: "the driver did not ask twin " + s.Called.Twin + within(s), Expected: s.Called.String(), Got: "nothing"}
	case !fits:
		return &Failure{Text: "the driver asked something else", Expected: s.Called.String(), Got: q.question.String(), Diff: askedDiff(s.Called, &q.question)}
	}
	r.out.mu.Lock()
	if !q.answered {
		q.give(*s.Outcome)
	}
	r.out.mu.Unlock()
	return failed(r.rest())
}

// webhook makes an HTTP request to the twin.
func (r *rig) webhook(ctx context.Context, s *script.Step) *Failure {
	in := drivers.WebhookInput{Method: s.Request.Method, Path: s.Request.URL, Query: map[string]string{}, Headers: map[string]string{}}
	if in.Method == "" {
		in.Method = "GET"
	}
	if u, err := url.Parse(s.Request.URL); err == nil && u.RawQuery != "" {
		in.Path = u.Path
		for k := range u.Query() {
			in.Query[k] = u.Query().Get(k)
		}
	}
	maps.Copy(in.Query, s.Request.Query)
	maps.Copy(in.Headers, s.Request.Headers)
	var body []byte
	if s.Request.HasJSON {
		body = []byte(script.JSON(s.Request.JSON))
		in.Headers["content-type"] = "application/json"
	} else if s.Request.Body != nil {
		body = s.Request.Body.Data
	}
	if utf8.Valid(body) {
		in.Body = string(body)
	} else {
		in.BodyBase64 = body
	}
	r.note("webhook " + in.Method + " " + in.Path + " " + string(body))
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out, err := r.node.engine.Client().Webhook(ctx, r.id, in)
	if err != nil {
		return &Failure{Text: "the webhook was not answered", Got: err.Error()}
	}
	if s.Answer == nil {
		return failed(r.rest())
	}
	return answered(s.Answer, &out)
}

// answered compares the answer to a webhook.
func answered(want *script.Answer, out *drivers.WebhookOutput) *Failure {
	got := map[string]any{"status": out.Status}
	wants := map[string]any{"status": want.Status}
	for k, v := range want.Headers {
		wants["header "+k], got["header "+k] = v, out.Headers[k]
	}
	body := []byte(out.Body)
	if out.BodyBase64 != nil {
		body = out.BodyBase64
	}
	switch {
	case want.HasJSON:
		f := script.JSONFrame(want.JSON)
		if _, ok := f.Matches("", body); !ok {
			wants["json"], got["json"] = want.JSON, string(body)
		}
	case want.Body != nil:
		wants["body"], got["body"] = script.Show(want.Body), script.Show(body)
	}
	if script.Equal(wants, got) {
		return nil
	}
	return &Failure{Text: "the webhook was answered otherwise", Expected: script.JSON(wants), Got: script.JSON(got), Diff: script.Diff(wants, got, false)}
}
