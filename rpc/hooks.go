package rpc

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/cluster"
	"github.com/polluxhq/pollux/drivers"
)

// hooksPath is where devices and services call in: /hooks/PROJECT/TWIN, and whatever path behind it.
const hooksPath = "/hooks/{project}/{name}"

// maxHooks bounds the webhooks that a node answers at a time.
const maxHooks = 256

// hookRetry is after how long a caller may try again, where the driver does not say later.
const hookRetry = 2 * time.Second

// hook gives a twin's driver an HTTP request that came for it, wherever the twin lives, and answers with what the driver
// says. Who may call is said by the twin's address and its driver's manifest: an address, a token, or both. Callers that
// may not all get the same answer, so that they learn of no twin.
func (s *Server) hook(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("project") + "/" + r.PathValue("name")
	token := takeToken(r)
	if why := s.mayCall(id, r, token); why != "" {
		s.refused.hooks.Inc()
		s.log.Debug("webhook refused", "twin", id, "from", r.RemoteAddr, "why", why)
		http.Error(w, "there is no webhook for you here", http.StatusNotFound)
		return
	}
	in, err := hookInput(r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out, err := s.o.Client.Webhook(r.Context(), id, in)
	if err != nil {
		s.hookFailed(w, err)
		return
	}
	for name, value := range out.Headers {
		switch http.CanonicalHeaderKey(name) {
		case "Connection", "Content-Length", "Transfer-Encoding", "Upgrade", "Trailer",
			// These are about all of this node's pages, its console among them.
			"Set-Cookie", "Clear-Site-Data", "Strict-Transport-Security", "Alt-Svc", "Service-Worker-Allowed", "Nel", "Report-To":
		default:
			if !strings.ContainsAny(name+value, "\r\n\x00") {
				w.Header().Set(name, value)
			}
		}
	}
	// What a driver says is no page of this node's.
	w.Header().Set("Content-Security-Policy", "sandbox; default-src 'none'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(out.Status)
	if len(out.BodyBase64) > 0 {
		_, _ = w.Write(out.BodyBase64)
		return
	}
	_, _ = io.WriteString(w, out.Body) // the caller takes it or not
}

func (s *Server) mayCall(id string, r *http.Request, token string) string {
	callers, err := s.o.Registry.Hook(id)
	if err != nil {
		return err.Error()
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return "its address cannot be read"
	}
	return callers.Why(from.Addr(), token)
}

// takeToken takes the caller's token off the request, so that it goes nowhere else.
func takeToken(r *http.Request) string {
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		r.Header.Del("Authorization")
		return bearer
	}
	q := r.URL.Query()
	token := q.Get("token")
	if token != "" {
		q.Del("token")
		r.URL.RawQuery = q.Encode()
	}
	return token
}

func hookInput(r *http.Request) (drivers.WebhookInput, error) {
	in := drivers.WebhookInput{Method: r.Method, Path: "/" + r.PathValue("rest"), Query: map[string]string{}, Headers: map[string]string{}}
	for name, values := range r.URL.Query() {
		in.Query[name] = strings.Join(values, ",")
	}
	r.Header.Del("Cookie") // a browser that follows a link to a webhook brings its session: it is not for drivers
	for name, values := range r.Header {
		in.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return in, fmt.Errorf("webhook: %w", err)
	}
	if utf8.Valid(body) {
		in.Body = string(body)
	} else {
		in.BodyBase64 = body
	}
	return in, nil
}

// hookFailed tells a caller whether it makes sense to come again.
func (s *Server) hookFailed(w http.ResponseWriter, err error) {
	var refusal *drivers.DriverError
	switch {
	case errors.As(err, &refusal) && refusal.Code > 0 && refusal.Retryable:
		w.Header().Set("Retry-After", strconv.FormatInt(int64(max(hookRetry, refusal.After+time.Second-1)/time.Second), 10))
		http.Error(w, refusal.Message, http.StatusServiceUnavailable)
	case errors.As(err, &refusal) && refusal.Code > 0:
		http.Error(w, refusal.Message, http.StatusUnprocessableEntity)
	case errors.As(err, &refusal):
		http.Error(w, "the twin's driver did not handle this", http.StatusBadGateway)
	case errors.Is(err, cluster.ErrDeadline):
		http.Error(w, "the twin did not answer in time", http.StatusGatewayTimeout)
	case errors.Is(err, actors.ErrStopped):
		http.Error(w, "the twin is stopped", http.StatusServiceUnavailable)
	default:
		w.Header().Set("Retry-After", strconv.Itoa(int(hookRetry/time.Second)))
		http.Error(w, "the twin cannot be reached now", http.StatusServiceUnavailable)
	}
}
