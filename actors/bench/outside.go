package bench

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/polluxhq/pollux/drivers"
	"github.com/polluxhq/pollux/drivers/script"
)

// outside is what the driver asks and waits for, but for its own device: HTTP servers and other twins, as the script
// plays them. What a rule answers is answered at once; the rest waits for its step.
type outside struct {
	clock *clock
	park  func() (wake func())
	// note hears what is asked and answered.
	note func(text string)

	mu     sync.Mutex
	rules  []*rule
	http   []*asked[drivers.HTTPRequest, script.Answer]
	called []*asked[script.Asked, script.Outcome]
	ended  bool
}

// asked is a question that waits for its answer, or was answered by a rule and may yet be looked at.
type asked[Q, A any] struct {
	question Q
	answered bool
	late     bool // its time was over first
	wake     func()
	answer   chan A
}

func (a *asked[Q, A]) give(answer A) {
	a.answered = true
	a.wake()
	a.answer <- answer
}

var errEnded = errors.New("the test is over")

// request answers an HTTP request of the driver.
func (o *outside) request(ctx context.Context, req drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	o.note("-> " + req.Method + " " + req.URL + " " + string(req.Body))
	o.mu.Lock()
	q := &asked[drivers.HTTPRequest, script.Answer]{question: req, wake: func() {}, answer: make(chan script.Answer, 1)}
	for _, r := range o.rules {
		if r.Request != nil && !r.spent() && len(requestDiff(r.Request, &req)) == 0 {
			r.used++
			q.give(*r.Answer)
			break
		}
	}
	o.http = append(o.http, q)
	if !q.answered {
		q.wake = o.park()
	}
	ended := o.ended
	o.mu.Unlock()
	if ended {
		return drivers.HTTPResponse{}, errEnded
	}
	defer q.wake()
	defer o.clock.AfterFunc(req.Timeout, func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		if !q.answered {
			q.late = true
			q.give(script.Answer{})
		}
	})()
	select {
	case a := <-q.answer:
		if q.late {
			return drivers.HTTPResponse{}, context.DeadlineExceeded
		}
		return response(&a)
	case <-ctx.Done():
		return drivers.HTTPResponse{}, ctx.Err()
	}
}

func response(a *script.Answer) (drivers.HTTPResponse, error) {
	if a.Fail != "" {
		return drivers.HTTPResponse{}, fmt.Errorf("%s: %w", a.Fail, drivers.ErrDisconnected)
	}
	res := drivers.HTTPResponse{Status: a.Status, Headers: http.Header{}, Body: a.Body}
	if a.HasJSON {
		res.Body = []byte(script.JSON(a.JSON))
		res.Headers.Set("content-type", "application/json")
	}
	for k, v := range a.Headers {
		res.Headers.Set(k, v)
	}
	return res, nil
}

// requestDiff shows in what a request differs from the one that is expected.
func requestDiff(want *script.Request, got *drivers.HTTPRequest) []string {
	var out []string
	differ := func(what, want, got string) {
		if want != got {
			out = append(out, "- "+what+": "+want, "+ "+what+": "+got)
		}
	}
	if want.Method != "" {
		differ("method", want.Method, got.Method)
	}
	if want.URL != "" && !sameURL(want.URL, got.URL) {
		differ("url", want.URL, got.URL)
	}
	for k, v := range want.Headers {
		differ("header "+k, v, got.Headers.Get(k))
	}
	if u, err := url.Parse(got.URL); err == nil {
		for k, v := range want.Query {
			differ("query "+k, v, u.Query().Get(k))
		}
	}
	if want.HasJSON {
		f := script.JSONFrame(want.JSON)
		if _, ok := f.Matches("", got.Body); !ok {
			differ("json", script.JSON(want.JSON), string(got.Body))
		}
	}
	if want.Body != nil {
		if _, ok := want.Body.Matches("", got.Body); !ok {
			differ("body", want.Body.String(), script.Show(got.Body))
		}
	}
	return out
}

// sameURL: an expected URL may be a path alone, and leave out the query.
func sameURL(want, got string) bool {
	if want == got {
		return true
	}
	u, err := url.Parse(got)
	if err != nil {
		return false
	}
	if strings.HasPrefix(want, "/") {
		return want == u.Path || want == u.RequestURI()
	}
	u.RawQuery = ""
	return want == u.String()
}

// firstOf gives the first question that nobody answered, or an earlier one that was answered and fits. Those before it stay: what is asked of
// several at once comes in any order.
func firstOf[Q, A any](o *outside, list *[]*asked[Q, A], fits func(*Q) bool) (q *asked[Q, A], ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, a := range *list {
		if fits(&a.question) {
			*list = slices.Delete(*list, i, i+1)
			return a, true
		}
		if !a.answered {
			return a, false
		}
	}
	return nil, false
}

// end lets everybody go who waits.
func (o *outside) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	for _, q := range o.http {
		if !q.answered {
			q.give(script.Answer{Fail: errEnded.Error()})
		}
	}
	for _, q := range o.called {
		if !q.answered {
			q.give(script.Outcome{Name: "rejected", Message: errEnded.Error()})
		}
	}
}
