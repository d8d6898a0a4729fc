package httpclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/polluxhq/pollux/drivers"
)

// idempotent are the methods that may be made again (RFC 9110, 9.2.2).
var idempotent = []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete, http.MethodTrace}

// firstWait doubles from one retry to the next, where the device does not say how long to wait.
const firstWait = 250 * time.Millisecond

// attempts makes a request, and makes it again where that can do no harm: an idempotent one whose connection failed, or that was
// answered by 429, 502, 503 or 504. Retry-After is kept to; where it lies beyond the request's time, the answer is
// given as it is.
func (c *Client) attempts(ctx context.Context, s *side, u *url.URL, request *drivers.HTTPRequest) (drivers.HTTPResponse, error) {
	wait := firstWait
	for retry := 0; ; retry++ {
		res, err := c.once(ctx, s, u, request)
		if retry >= s.options.Retries || !slices.Contains(idempotent, request.Method) || ctx.Err() != nil || !passing(res, err) {
			return res, err
		}
		pause := wait
		wait *= 2
		if err == nil {
			if after, ok := retryAfter(res.Headers.Get("Retry-After"), time.Now()); ok {
				pause = after
			}
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
			return res, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return res, err
		}
	}
}

// passing says whether a failure may pass.
func passing(res drivers.HTTPResponse, err error) bool {
	if err != nil {
		for _, final := range []error{drivers.ErrDenied, drivers.ErrInvalid, drivers.ErrTooLarge, drivers.ErrRateLimited} {
			if errors.Is(err, final) {
				return false
			}
		}
		return true
	}
	switch res.Status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3).
func retryAfter(text string, now time.Time) (time.Duration, bool) {
	if s, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(s) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0), true
	}
	return 0, false
}

// bucket bounds a rate: it holds up to burst requests, and gains perMinute of them each minute.
type bucket struct {
	mu    sync.Mutex
	every time.Duration // per request
	burst time.Duration // in time
	next  time.Time     // when the bucket would be full again
}

func newBucket(perMinute, burst int) *bucket {
	every := time.Minute / time.Duration(perMinute)
	return &bucket{every: every, burst: every * time.Duration(burst)}
}

// take waits for the turn of a request. What would wait beyond ctx is refused at once, and takes nothing.
func (b *bucket) take(ctx context.Context) error {
	b.mu.Lock()
	now := time.Now()
	next := b.next
	if next.Before(now) {
		next = now
	}
	next = next.Add(b.every)
	wait := next.Sub(now) - b.burst
	if deadline, ok := ctx.Deadline(); ok && wait > 0 && now.Add(wait).After(deadline) {
		b.mu.Unlock()
		return fmt.Errorf("more requests than the driver's per_minute allows: %w", drivers.ErrRateLimited)
	}
	b.next = next
	b.mu.Unlock()
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
