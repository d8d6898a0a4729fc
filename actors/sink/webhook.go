package sink

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// webhook posts batches as JSON arrays. With a secret each is signed (HMAC-SHA-256 over the body, header Pollux-Signature). What is
// answered with 2xx is delivered; answerOf says what comes again.
type webhook struct {
	url    string
	secret string
	http   *http.Client
}

// hooked is a message as a webhook gets it.
type hooked struct {
	Offset  uint64            `json:"offset"`
	ID      string            `json:"id"`
	Key     string            `json:"key,omitempty"`
	Time    time.Time         `json:"time"`
	Type    string            `json:"type,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Payload json.RawMessage   `json:"payload"`
	// Encoding of a payload that is no JSON: text or base64.
	Encoding string `json:"encoding,omitempty"`
}

func openWebhook(_ context.Context, u *place, _ *Options, _ string) (Target, error) {
	return &webhook{url: u.String(), secret: u.secret, http: newClient()}, nil
}

// newClient follows no redirect: most become a GET without the batch, whose answer is no delivery, and others bring it, and what authorizes
// it, to another host.
func newClient() *http.Client {
	return &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		ResponseHeaderTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

func (w *webhook) Deliver(ctx context.Context, b *Batch) error {
	all := make([]hooked, len(b.Messages))
	for i, m := range b.Messages {
		all[i] = hooked{Offset: m.Offset, ID: m.Id, Key: m.Key, Time: timeOf(m), Type: m.ContentType, Headers: m.Headers}
		all[i].Payload, all[i].Encoding = jsonOf(m)
	}
	body, err := json.Marshal(all)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Pollux-Sink", b.Sink)
	r.Header.Set("Pollux-Topic", b.Topic)
	r.Header.Set("Idempotency-Key", fmt.Sprintf("%s/%d-%d-%s", b.Sink, b.first(), b.last(), b.origin()))
	if w.secret != "" {
		mac := hmac.New(sha256.New, []byte(w.secret))
		mac.Write(body)
		r.Header.Set("Pollux-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
	return answerOf(w.http.Do(r))
}

// laterError: the other system says when it may be tried again.
type laterError struct {
	after time.Duration
	error
}

func (e *laterError) Unwrap() error { return e.error }

// statusError is an answer other than 2xx, with its beginning.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %.300s", e.status, e.text) }

// answerOf reads what an HTTP server said to a batch.
func answerOf(res *http.Response, err error) error {
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 300))
	err = &statusError{res.StatusCode, string(bytes.TrimSpace(text))}
	switch {
	case res.StatusCode/100 == 2:
		_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<20)) // so that the connection can be used again
		return nil
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusServiceUnavailable:
		if s, bad := strconv.Atoi(res.Header.Get("Retry-After")); bad == nil && s > 0 {
			return &laterError{time.Duration(s) * time.Second, err}
		}
		return err
	case res.StatusCode/100 == 3:
		return fmt.Errorf("status %d: it is elsewhere, at %.300q: redirects are not followed", res.StatusCode, res.Header.Get("Location"))
	case res.StatusCode/100 != 4, res.StatusCode == http.StatusRequestTimeout,
		// It may be mended there: a wrong key or address is no fault of the messages.
		res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden, res.StatusCode == http.StatusNotFound:
		return err
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

func (w *webhook) Close() { w.http.CloseIdleConnections() }
