package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"connectrpc.com/grpchealth"
)

// healthz says that the process answers; nothing more.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte("ok\n"))
}

// readyz says whether the node serves, and if not, what it waits for.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if err := s.o.Cluster.Ready(); err != nil {
		http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ready\n"))
}

// metrics writes the node's metrics, and those of this package's set where nothing else is given.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	if s.o.WriteMetrics != nil {
		s.o.WriteMetrics(w)
		return
	}
	s.o.Metrics.WritePrometheus(w)
}

// closed lets in who may read the metrics of all projects: by key, as bearer or as the password of HTTP's basic
// authentication (Grafana, Prometheus), or by cookie. Nothing behind it changes anything, so it does no harm that a
// browser sends a password that it remembers unasked.
func (s *Server) closed(next http.Handler) http.Handler {
	return s.closedFor(ActionMetricsRead, func(*http.Request) Resource { return Resource{Project: Everywhere, Kind: "metrics"} }, next)
}

// closedFor serves who may do the action on what the request names.
func (s *Server) closedFor(action Action, of func(*http.Request) Resource, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var p *Principal
		var err error
		if _, password, ok := r.BasicAuth(); ok {
			p, err = s.o.Keys.Authenticate(password)
		} else {
			p, err = s.o.Keys.principalOf(r.Method, r.Host, r.Header)
		}
		if err == nil {
			err = Authorize(p, action, of(r))
		}
		switch {
		case err == nil:
			next.ServeHTTP(w, r)
		case errors.Is(err, ErrUnauthenticated):
			s.refused.door.Inc()
			w.Header().Add("WWW-Authenticate", `Bearer realm="pollux"`)
			// Not to the console's own requests: the browser would ask for a password over its page.
			if mode := r.Header.Get("Sec-Fetch-Mode"); mode == "" || mode == "navigate" {
				w.Header().Add("WWW-Authenticate", `Basic realm="pollux: any user, an API key as password", charset="UTF-8"`)
			}
			http.Error(w, err.Error(), http.StatusUnauthorized)
		case errors.Is(err, ErrForbidden):
			s.refused.door.Inc()
			http.Error(w, err.Error(), http.StatusForbidden)
		default:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
}

// login takes {"key":"plx_…"} from the console's own page, or the code of a link from the page of that link.
func (s *Server) login(w http.ResponseWriter, r *http.Request) {
	secretPage(w)
	// A form of another site cannot send JSON without asking first.
	switch t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t {
	case "application/json":
		s.loginByKey(w, r)
	case "application/x-www-form-urlencoded":
		s.loginByCode(w, r)
	default:
		s.writeError(w, r, invalid("Content-Type", "want application/json"))
	}
}

// loginByKey sets the session's cookie where the key is right.
func (s *Server) loginByKey(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Key string `json:"key"`
	}
	err := sameOrigin(r.Method, r.Host, r.Header)
	if err == nil {
		if derr := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxKeyFile)).Decode(&in); derr != nil {
			err = invalid("body", derr.Error())
		}
	}
	var cookie string
	if err == nil {
		err = s.guard.quorum()
	}
	if err == nil {
		cookie, err = s.sessionFor(r.Context(), strings.TrimSpace(in.Key))
	}
	if err != nil {
		s.refused.door.Inc()
		s.writeError(w, r, err)
		return
	}
	setSession(w, r, cookie)
	w.WriteHeader(http.StatusNoContent)
}

func (s *Server) sessionFor(ctx context.Context, key string) (string, error) {
	p, err := s.o.Keys.Authenticate(key)
	if err != nil {
		return "", err
	}
	if err := Authorize(p, ActionSessionCreate, Resource{Project: Everywhere, Kind: "session"}); err != nil {
		return "", err
	}
	return s.o.Keys.newSession(ctx, p.ID, nil)
}

// logout ends the session of the cookie, also on the server.
func (s *Server) logout(w http.ResponseWriter, r *http.Request) {
	secretPage(w)
	if err := sameOrigin(r.Method, r.Host, r.Header); err != nil {
		s.writeError(w, r, err)
		return
	}
	if cookie := cookieOf(r.Header); cookie != "" && len(cookie) <= maxToken {
		err := s.guard.quorum()
		if err == nil {
			err = s.o.Keys.endSession(r.Context(), cookie)
		}
		if err != nil {
			s.writeError(w, r, err)
			return
		}
	}
	http.SetCookie(w, sessionCookie(r, "", -1))
	w.WriteHeader(http.StatusNoContent)
}

// secretPage keeps codes out of caches and out of the next page's Referer. With no-referrer a browser would hide the
// page's own origin too, which loginByCode asks for.
func secretPage(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "strict-origin")
}

func setSession(w http.ResponseWriter, r *http.Request, cookie string) {
	http.SetCookie(w, sessionCookie(r, cookie, int(SessionLife.Seconds())))
}

func sessionCookie(r *http.Request, value string, age int) *http.Cookie {
	return &http.Cookie{Name: SessionCookie, Value: value, Path: "/", MaxAge: age,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteLaxMode}
}

// health answers gRPC's health check: the node as a whole, and each service with it.
type health struct {
	s     *Server
	names []string
}

// Check implements grpchealth.Checker.
func (h *health) Check(_ context.Context, r *grpchealth.CheckRequest) (*grpchealth.CheckResponse, error) {
	if r.Service != "" && !slices.Contains(h.names, r.Service) {
		return nil, fmt.Errorf("service %.100q: %w", r.Service, errNoSuchService)
	}
	if h.s.o.Cluster.Ready() != nil {
		return &grpchealth.CheckResponse{Status: grpchealth.StatusNotServing}, nil
	}
	return &grpchealth.CheckResponse{Status: grpchealth.StatusServing}, nil
}

var errNoSuchService = errors.New("no such service")
