package drivers

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/polluxhq/pollux/drivers/sdk/wire"
)

// What a call asks of the world outside and waits for: http, call, connection. The instance is parked meanwhile.

// askTimeout bounds an http request or a call that names no timeout, maxAsk one that does.
const (
	askTimeout = 5 * time.Second
	maxAsk     = time.Minute
)

// parked runs ask while the instance waits, and gives its place among the running ones to another.
func (h *hostCall) parked(ask func(ctx context.Context) error) code {
	ctx := h.in.Context()
	h.clock(false)
	defer h.clock(true)
	if err := h.in.Park(ctx); err != nil {
		return codeTimeout
	}
	err := ask(ctx)
	h.in.Unpark(ctx)
	return codeOf(err)
}

// timeout reads the member of that name, in milliseconds.
func timeout(doc wire.Value) (time.Duration, bool) {
	v := doc.Get("timeout")
	if v == nil {
		return askTimeout, true
	}
	ms, ok := v.Int()
	if ms == 0 {
		return askTimeout, ok
	}
	return min(time.Duration(ms)*time.Millisecond, maxAsk), ok && ms > 0 && ms <= 1<<40
}

var (
	methodName  = regexp.MustCompile(`^[A-Z]{1,16}$`)
	headerToken = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$")
)

// http takes {"method","url","headers":{NAME:TEXT|[TEXT…]},"timeout":MS}, then optionally a zero byte and the body.
func (h *hostCall) http(b []byte) code {
	if len(b) > h.limits.SendBytes {
		return h.tooLarge()
	}
	h.https++
	if h.https > h.limits.HTTPs || !h.call.Budget.take(QuotaSends) {
		return h.over()
	}
	req, ok := httpRequest(bytes.Clone(b))
	if !ok {
		return codeInvalid
	}
	req.MaxBytes = h.limits.HTTPBytes
	var res HTTPResponse
	var err error
	if c := h.parked(func(ctx context.Context) error {
		res, err = h.host.HTTP(ctx, req)
		return err
	}); c < 0 {
		if c == codeDenied || c == codeInvalid { // the author's to mend, and the code alone does not tell
			h.logLine("warn", []byte(err.Error()))
		}
		return c
	}
	if len(res.Body) > h.limits.HTTPBytes {
		return h.tooLarge()
	}
	return h.answer(renderHTTP(res))
}

// httpRequest reads a request. It keeps b.
func httpRequest(b []byte) (HTTPRequest, bool) {
	head, body := b, []byte(nil)
	if zero := bytes.IndexByte(b, 0); zero >= 0 {
		head, body = b[:zero], b[zero+1:]
	}
	doc, err := wire.Parse(head)
	if err != nil || doc.Kind() != wire.Object {
		return HTTPRequest{}, false
	}
	req := HTTPRequest{Method: http.MethodGet, Headers: http.Header{}, Body: body}
	if v := doc.Get("method"); v != nil {
		req.Method, _ = v.Text()
	}
	var inTime, hasURL bool
	req.URL, hasURL = doc.Get("url").Text()
	req.Timeout, inTime = timeout(doc)
	if !methodName.MatchString(req.Method) || !hasURL || len(req.URL) > 8<<10 || !inTime {
		return HTTPRequest{}, false
	}
	headers, ok := doc.Get("headers"), true
	if headers.Exists() && headers.Kind() != wire.Object {
		return HTTPRequest{}, false
	}
	headers.Each(func(name string, v wire.Value) bool {
		ok = headerToken.MatchString(name) && addHeader(req.Headers, name, v)
		return ok
	})
	return req, ok
}

// addHeader takes a text, or a list of them.
func addHeader(to http.Header, name string, v wire.Value) bool {
	var values []string
	if v.Kind() == wire.Array {
		if v.Decode(&values) != nil {
			return false
		}
	} else {
		text, ok := v.Text()
		if !ok {
			return false
		}
		values = []string{text}
	}
	for _, text := range values {
		if strings.ContainsAny(text, "\r\n\x00") {
			return false
		}
		to.Add(name, text)
	}
	return true
}

// renderHTTP writes {"status":N,"headers":{NAME:TEXT}}, a zero byte, the body. Names are in lower case and sorted;
// several values are joined by ", ", those of set-cookie by a line feed.
func renderHTTP(res HTTPResponse) []byte {
	names := make([]string, 0, len(res.Headers))
	for name := range res.Headers {
		names = append(names, name)
	}
	slices.Sort(names)
	out, _ := wire.Append([]byte(`{"status":`), res.Status)
	out = append(out, `,"headers":{`...)
	for i, name := range names {
		if i > 0 {
			out = append(out, ',')
		}
		name, between := strings.ToLower(name), ", "
		if name == "set-cookie" {
			between = "\n"
		}
		out = append(wire.AppendString(out, name), ':')
		text := strings.Join(res.Headers.Values(names[i]), between)
		out = wire.AppendString(out, strings.ToValidUTF8(text, "\uFFFD"))
	}
	return append(append(out, "}}\x00"...), res.Body...)
}

// twinCall takes {"twin":NAME,"system":ID,"timeout":MS} with "action" and "input", "property" and "value", or "get".
func (h *hostCall) twinCall(b []byte) code {
	if len(b) > h.limits.SendBytes {
		return h.tooLarge()
	}
	h.twinCalls++
	if h.twinCalls > h.limits.TwinCalls || !h.call.Budget.take(QuotaSends) {
		return h.over()
	}
	call, ok := twinCall(bytes.Clone(b))
	if !ok {
		return codeInvalid
	}
	var answer TwinAnswer
	if c := h.parked(func(ctx context.Context) (err error) {
		answer, err = h.host.Call(ctx, call)
		return err
	}); c < 0 {
		return c
	}
	return h.answer(renderAnswer(answer))
}

func twinCall(b []byte) (TwinCall, bool) {
	doc, err := wire.Parse(b)
	if err != nil || doc.Kind() != wire.Object {
		return TwinCall{}, false
	}
	c := TwinCall{}
	var ok bool
	if c.Twin, c.System, ok = whom(doc); !ok {
		return TwinCall{}, false
	}
	if c.Timeout, ok = timeout(doc); !ok {
		return TwinCall{}, false
	}
	asked := 0
	if v := doc.Get("action"); v != nil {
		asked++
		c.Action, ok = shortText(v)
		c.Input = json.RawMessage(doc.Get("input"))
	}
	if v := doc.Get("property"); v != nil && ok {
		asked++
		c.Property, ok = shortText(v)
		c.Value = json.RawMessage(doc.Get("value"))
		ok = ok && c.Value != nil
	}
	if c.Get, _ = doc.Get("get").Bool(); c.Get {
		asked++
	}
	if v := doc.Get("notify"); v != nil {
		asked++
		c.Notify = json.RawMessage(v)
		ok = ok && v.Kind() == wire.Object && c.System == ""
	}
	return c, ok && asked == 1
}

func renderAnswer(a TwinAnswer) []byte {
	if a.Error != nil {
		out := wire.AppendString([]byte(`{"error":{"code":`), a.Error.Code)
		out = wire.AppendString(append(out, `,"message":`...), strings.ToValidUTF8(a.Error.Message, "\uFFFD"))
		return append(out, "}}"...)
	}
	if len(a.Output) == 0 || !utf8.Valid(a.Output) {
		a.Output = json.RawMessage("null")
	}
	return append(append([]byte(`{"output":`), a.Output...), '}')
}

// connection takes {"do":"starttls"|"close"|"sleep"|"wake"}.
func (h *hostCall) connection(b []byte) code {
	h.connections++
	if h.connections > h.limits.Connections {
		return h.over()
	}
	doc, err := wire.Parse(bytes.Clone(b))
	if err != nil {
		return codeInvalid
	}
	text, _ := doc.Get("do").Text()
	do := ConnectionOp(text)
	switch do {
	case StartTLS, CloseConnection, Sleep, Wake:
	default:
		return codeInvalid
	}
	return h.parked(func(ctx context.Context) error { return h.host.Connection(ctx, do) })
}
