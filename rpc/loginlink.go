package rpc

import (
	"errors"
	"html/template"
	"net"
	"net/http"
	"net/netip"
)

// A login link is opened by more than people: previews in chats and scanners of mail fetch it as well. So reading it
// from elsewhere spends nothing. The page posts its code by itself, which only a browser does; without scripts it has a
// button. A link to this very machine reaches nobody else, and signs in as it is opened.

// loginPage answers GET /login?code=…: on this machine it signs in, elsewhere a page does; or it says what is wrong.
func (s *Server) loginPage(w http.ResponseWriter, r *http.Request) {
	secretPage(w)
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, "open this link in a browser", http.StatusMethodNotAllowed)
		return
	}
	code := r.URL.Query().Get("code")
	if _, _, err := s.o.Keys.loginCode(code); err != nil {
		s.loginRefused(w, r, err)
		return
	}
	if onThisMachine(r) {
		s.spendCode(w, r, code)
		return
	}
	s.page(w, r, http.StatusOK, signIn, code)
}

// onThisMachine says whether a request was made here, to an address that means this machine alone, by nobody's proxy, and not
// by a browser that only guesses what will be opened.
func onThisMachine(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || !from.Addr().Unmap().IsLoopback() {
		return false
	}
	for _, h := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-Ip", "Via", "Sec-Purpose", "Purpose"} {
		if r.Header.Get(h) != "" {
			return false
		}
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = r.Host
	}
	if host == "localhost" {
		return true
	}
	to, err := netip.ParseAddr(host)
	return err == nil && to.IsLoopback()
}

// loginByCode takes the form of the link's page: it sets the session's cookie and goes to the console.
func (s *Server) loginByCode(w http.ResponseWriter, r *http.Request) {
	// Browsers name where a form comes from. What does not is a program, which no other site's page can make send this.
	browser := r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != ""
	if browser && sameOrigin(r.Method, r.Host, r.Header) != nil {
		s.loginRefused(w, r, errLoginElsewhere)
		return
	}
	if err := r.ParseForm(); err != nil {
		s.writeError(w, r, invalid("body", err.Error()))
		return
	}
	s.spendCode(w, r, r.PostForm.Get("code"))
}

// spendCode signs in, once.
func (s *Server) spendCode(w http.ResponseWriter, r *http.Request, code string) {
	var cookie string
	err := s.guard.quorum()
	if err == nil {
		cookie, err = s.o.Keys.redeem(r.Context(), code)
	}
	if err != nil {
		s.loginRefused(w, r, err)
		return
	}
	setSession(w, r, cookie)
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

var errLoginElsewhere = errors.New("the page of another site sent this login")

func (s *Server) loginRefused(w http.ResponseWriter, r *http.Request, err error) {
	s.refused.door.Inc()
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, errLoginUsed):
		status = http.StatusUnauthorized
	case errors.Is(err, errLoginElsewhere):
		status = http.StatusForbidden
	case errors.Is(err, ErrNoQuorum):
		status = http.StatusServiceUnavailable
	}
	s.page(w, r, status, loginFailed, err.Error())
}

func (s *Server) page(w http.ResponseWriter, r *http.Request, status int, t *template.Template, data string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	// Nobody else's page may show this one and have its button clicked.
	w.Header().Set("X-Frame-Options", "DENY")
	w.WriteHeader(status)
	if err := t.Execute(w, data); err != nil {
		s.log.Debug("answer not taken", "path", r.URL.Path, "error", err)
	}
}

const pageHead = `<!doctype html><meta charset="utf-8"><title>Pollux</title>
<body style="font-family:sans-serif;max-width:40em;margin:4em auto">`

var signIn = template.Must(template.New("sign in").Parse(pageHead + `<h1>Pollux</h1>
<form method="post" action="/login"><input type="hidden" name="code" value="{{.}}"><button>Sign in</button></form>
<script>addEventListener("load", () => setTimeout(() => document.forms[0].submit()))</script>
`))

var loginFailed = template.Must(template.New("not signed in").Parse(pageHead + `<h1>Not signed in</h1><p>{{.}}.</p>
<p>Get a new link on the node's machine: <code>pollux login</code></p>
`))
