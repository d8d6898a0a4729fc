package notify

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// web sends HTTP requests.
type web struct{ http *http.Client }

func newWeb() web {
	return web{&http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		ResponseHeaderTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second},
		// A redirect would bring the message, and what authorizes it, to another host.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (w web) close() { w.http.CloseIdleConnections() }

// post sends a request, and gives the answer to one that was taken.
func (w web) post(ctx context.Context, url, kind string, body []byte, headers http.Header) (answer []byte, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, all := range headers {
		r.Header[name] = all
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("User-Agent", "Pollux")
	res, err := w.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err = io.ReadAll(io.LimitReader(res.Body, 64<<10))
	switch {
	case res.StatusCode/100 == 2:
		return answer, nil // what it says beside that is not worth a second message
	case err != nil:
		return nil, fmt.Errorf("status %d: %w", res.StatusCode, err)
	}
	err = fmt.Errorf("status %d: %.300s", res.StatusCode, bytes.TrimSpace(answer))
	switch {
	case res.StatusCode == http.StatusTooManyRequests, res.StatusCode == http.StatusServiceUnavailable:
		if s, bad := strconv.Atoi(res.Header.Get("Retry-After")); bad == nil && s > 0 {
			err = &laterError{time.Duration(s) * time.Second, err}
		}
		return answer, err
	case res.StatusCode/100 != 4, res.StatusCode == http.StatusRequestTimeout,
		// It may be mended there, or here: a wrong key or address is no fault of the message.
		res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden, res.StatusCode == http.StatusNotFound:
		return answer, err
	}
	return answer, fmt.Errorf("%w: %w", errRefused, err)
}

// cut shortens a text to what a provider takes, in characters.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	all := []rune(text)
	if len(all) <= most {
		return text
	}
	return string(all[:most-1]) + "…"
}
