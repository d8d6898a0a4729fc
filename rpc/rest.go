package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// The plain REST API: for curl, for browsers, and for the forms of Thing Descriptions. Every route is a call of a procedure of
// the Connect API by another name: the same gate, the same Authorize, the same rules, the same counters. The table of routes
// (rest_routes.go) is what the mux and /openapi.json are both built from.

const (
	jsonType    = "application/json"
	problemType = "application/problem+json"
	streamType  = "text/event-stream"
)

// restRoute is a line of the table.
type restRoute struct {
	// method and path, as http.ServeMux writes patterns. GET serves HEAD too.
	method, path string
	// id names the operation in /openapi.json; summary says in a line what it does, text more.
	id, summary, text string
	// procedure is the one that the route calls; who may not call it is refused before the body is read.
	procedure string
	// params are those of the query and of the headers; those of the path are read out of it.
	params []restParam
	// body and answers are for /openapi.json; a route without body takes none.
	body    *restContent
	answers []restAnswer
	serve   func(*restCall) error
}

// restParam is a parameter of the query, or a header.
type restParam struct {
	name, text string
	schema     map[string]any
	header     bool
	// many: it may be given several times; needed: it has to be given.
	many, needed bool
}

// restContent is a body: its type and schema, and what else it can be.
type restContent struct {
	text   string
	schema map[string]any
	// needed: a request without it is refused.
	needed bool
	// kind is the media type; empty: JSON.
	kind string
	// stream: also given as server-sent events, each with this schema.
	stream map[string]any
	// message that the schema names; nil: none.
	message protoreflect.MessageDescriptor
	// also are further messages that the schema names.
	also []proto.Message
}

// restAnswer is a response that is no problem.
type restAnswer struct {
	status  int
	text    string
	content *restContent
	headers map[string]string
}

// restCall is one request.
type restCall struct {
	s     *Server
	route *restRoute
	w     http.ResponseWriter
	r     *http.Request
	ctx   context.Context
	p     *Principal
	query url.Values
	// bad is the first parameter that could not be read.
	bad error
}

// rest mounts the table. A path with another method is answered by what it allows.
func (s *Server) rest(mount func(pattern string, h http.Handler)) {
	allowed := map[string][]string{}
	routes := restRoutes()
	for i := range routes {
		route := &routes[i]
		mount(route.method+" "+route.path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveRest(route, w, r) }))
		allowed[route.path] = append(allowed[route.path], route.method)
	}
	for path, methods := range allowed {
		slices.Sort(methods)
		mount(path, notAllowed(methods...))
	}
	mount("/v1/", http.HandlerFunc(noRoute))
}

// noRoute answers whatever comes for a path that there is not.
func noRoute(w http.ResponseWriter, r *http.Request) {
	writeProblem(w, r, http.StatusNotFound, &problem{Code: connect.CodeNotFound.String(), Reason: "no_route",
		Detail: "there is no " + r.URL.Path, Hint: "GET /openapi.json lists the paths"})
}

// notAllowed answers whatever comes with another method than those that a path has.
func notAllowed(methods ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		writeProblem(w, r, http.StatusMethodNotAllowed, &problem{Code: "unimplemented", Reason: "method",
			Detail: fmt.Sprintf("%s is not for %s; there is %s", r.Method, r.URL.Path, strings.Join(methods, ", "))})
	})
}

func (s *Server) serveRest(route *restRoute, w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	c := &restCall{s: s, route: route, w: w, r: r, ctx: r.Context()}
	if err := c.enter(); err != nil {
		c.fail(s.guard.refuse(route.procedure, err))
		return
	}
	err := c.known()
	if err == nil {
		err = route.serve(c)
	}
	if err != nil {
		c.fail(err)
	}
}

// enter is what the gate is to a procedure: who is it, and may such a one call this at all?
func (c *restCall) enter() error {
	p, err := c.s.o.Keys.principalOf(c.r.Method, c.r.Host, c.r.Header)
	if err != nil {
		return err
	}
	action := c.s.guard.table[c.route.procedure].action
	if p.Role <= RoleDevice || p.Role < rights[action].least {
		return forbidden(p, action, Resource{Project: scopeOf(p), Kind: "api"})
	}
	c.p, c.ctx = p, context.WithValue(c.ctx, principalKey{}, p)
	return nil
}

// readQuery reads a request's query. What is no query is refused: url.URL's own would leave it out, in silence.
func readQuery(r *http.Request) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, invalid("query", err.Error())
	}
	for name, values := range query {
		for _, v := range append(values, name) {
			if !utf8.ValidString(v) {
				return nil, invalid("query."+strings.ToValidUTF8(name, "?"), "is no text in UTF-8")
			}
		}
	}
	return query, nil
}

// only refuses parameters beside those of these names, and more than one of a name that does not stand in many.
func only(query url.Values, names []string, many ...string) error {
	for name, values := range query {
		switch {
		case !slices.Contains(names, name):
			return invalid("query."+name, "is no parameter; there are "+strings.Join(names, ", "))
		case len(values) > 1 && !slices.Contains(many, name):
			return invalid("query."+name, "is given more than once")
		}
	}
	return nil
}

// known refuses what cannot be read, and parameters that the route has not: what is mistyped must not be lost in silence.
func (c *restCall) known() (err error) {
	if c.query, err = readQuery(c.r); err != nil {
		return err
	}
	if !utf8.ValidString(c.r.URL.Path) {
		return invalid("path", "is no text in UTF-8")
	}
	for _, p := range c.route.params {
		if p.header && !utf8.ValidString(c.r.Header.Get(p.name)) {
			return invalid("header."+p.name, "is no text in UTF-8")
		}
	}
	for name, values := range c.query {
		i := slices.IndexFunc(c.route.params, func(p restParam) bool { return !p.header && p.name == name })
		if i < 0 {
			var names []string
			for _, p := range c.route.params {
				if !p.header {
					names = append(names, p.name)
				}
			}
			have := "there is none here"
			if len(names) > 0 {
				have = "there are " + strings.Join(names, ", ")
			}
			return invalid("query."+name, "is no parameter; "+have)
		}
		if len(values) > 1 && !c.route.params[i].many {
			return invalid("query."+name, "is given more than once")
		}
	}
	return nil
}

// calls admits a request message as the procedure's, serves it, and counts it: what the guard does around a unary procedure.
func calls[Req, Res any](c *restCall, procedure string, m *Req, serve func(context.Context, *connect.Request[Req]) (*connect.Response[Res], error)) (*Res, error) {
	if c.bad != nil {
		return nil, c.bad
	}
	g := c.s.guard
	start := time.Now()
	err := g.admit(c.ctx, procedure, m)
	var res *connect.Response[Res]
	if err == nil {
		res, err = serve(c.ctx, connect.NewRequest(m))
	}
	err = translate(err)
	g.done(c.ctx, procedure, start, err)
	if err != nil {
		return nil, err
	}
	g.logChange(c.ctx, m, res.Msg)
	return res.Msg, nil
}

// id of the twin in the path.
func (c *restCall) id() string { return c.r.PathValue("project") + "/" + c.r.PathValue("name") }

func (c *restCall) wrong(name, text string) {
	if c.bad == nil {
		c.bad = invalid("query."+name, text)
	}
}

func (c *restCall) text(name string) string { return c.query.Get(name) }

func (c *restCall) boolean(name string) bool {
	switch c.text(name) {
	case "", "false", "0":
		return false
	case "true", "1":
		return true
	}
	c.wrong(name, "want true or false")
	return false
}

func (c *restCall) number(name string) uint32 {
	text := c.text(name)
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		c.wrong(name, "want a whole number, 0 or more")
	}
	return uint32(n)
}

// duration such as 1500ms or 2h; nil where it is not given. A bare number means seconds.
func (c *restCall) duration(name string) *durationpb.Duration {
	text := c.text(name)
	if text == "" {
		return nil
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		text += "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		c.wrong(name, "want a duration such as 500ms, 10s or 2h")
		return nil
	}
	return durationpb.New(d)
}

// moment is a time by RFC 3339, or a duration before now such as -2h; nil where it is not given.
func (c *restCall) moment(name string) *timestamppb.Timestamp {
	text := c.text(name)
	if text == "" {
		return nil
	}
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return timestamppb.New(t)
	}
	if d, err := time.ParseDuration(text); err == nil && d <= 0 {
		return timestamppb.New(time.Now().Add(d))
	}
	c.wrong(name, "want a time such as 2026-01-31T08:00:00Z, or how long ago, such as -2h")
	return nil
}

// value is the body, one value of JSON; nil where it is empty.
func (c *restCall) value() *structpb.Value {
	if c.bad != nil {
		return nil
	}
	data, err := c.body()
	if err != nil {
		c.bad = err
		return nil
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil
	}
	kind, _, err := mime.ParseMediaType(c.r.Header.Get("Content-Type"))
	if err != nil || kind != jsonType {
		c.bad = &mediaError{"Content-Type", c.r.Header.Get("Content-Type"), jsonType + " (curl: --json)"}
		return nil
	}
	v := &structpb.Value{}
	err = checkShape(data)
	if err == nil {
		err = protojson.Unmarshal(data, v)
	}
	if err != nil {
		c.s.refused.message.Inc()
		c.bad = invalid("body", plainJSON(err))
	}
	return v
}

// body is the whole body, unpacked where it came as gzip. It is bounded as one that is not packed.
func (c *restCall) body() ([]byte, error) {
	switch encoding := c.r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return io.ReadAll(c.r.Body)
	case "gzip":
		in := &boundedGzip{limit: maxRequest, bombs: c.s.refused.bomb}
		err := in.Reset(c.r.Body)
		var data []byte
		if err == nil {
			data, err = io.ReadAll(in)
		}
		if err != nil && connect.CodeOf(err) == connect.CodeUnknown {
			err = invalid("body", "is no gzip: "+err.Error()) // other errors say what they are
		}
		return data, err
	default:
		return nil, &mediaError{"Content-Encoding", encoding, "gzip, or none"}
	}
}

// mediaError is a body of a type, or packed in a way, that is not taken.
type mediaError struct{ header, got, want string }

func (e *mediaError) Error() string {
	return fmt.Sprintf("%s is %.100q; want %s", e.header, e.got, e.want)
}

// plainJSON says what is wrong with a text of JSON, without protobuf's own words for it.
func plainJSON(err error) string {
	text := err.Error()
	if _, after, ok := strings.Cut(text, "(line "); ok {
		return "is no JSON: (line " + after
	}
	return text
}

// accepts says whether the client asks for this media type by name.
func (c *restCall) accepts(kind string) bool {
	for _, line := range c.r.Header.Values("Accept") {
		for part := range strings.SplitSeq(line, ",") {
			if t, _, err := mime.ParseMediaType(part); err == nil && t == kind {
				return true
			}
		}
	}
	return false
}

// message answers with a message of the API.
func (c *restCall) message(status int, m proto.Message) error {
	text, err := protojson.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	return c.json(status, json.RawMessage(text))
}

// json answers with anything.
func (c *restCall) json(status int, v any) error {
	return c.write(status, jsonType, v)
}

func (c *restCall) write(status int, kind string, v any) error {
	var out bytes.Buffer
	e := json.NewEncoder(&out) // compacts what is JSON already
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	c.w.Header().Set("Content-Type", kind)
	c.w.WriteHeader(status)
	_, _ = c.w.Write(out.Bytes())
	return nil
}

// raw gives a value as JSON; nil as null.
func raw(v *structpb.Value) (json.RawMessage, error) {
	if v == nil {
		return json.RawMessage("null"), nil
	}
	return v.MarshalJSON()
}

// base is the URL of this API as the client knows it.
func (c *restCall) base() string {
	scheme := "http"
	if c.r.TLS != nil || c.r.Header.Get("X-Forwarded-Proto") == "https" {
		scheme = "https"
	}
	return scheme + "://" + c.r.Host
}

// nextPage tells of the page after this one, as RFC 8288 does.
func (c *restCall) nextPage(token string) {
	if token == "" {
		return
	}
	q := c.r.URL.Query()
	q.Set("page_token", token)
	c.w.Header().Set("Link", fmt.Sprintf("<%s?%s>; rel=\"next\"", c.r.URL.Path, q.Encode()))
}

func (c *restCall) fail(err error) {
	var media *mediaError
	if errors.As(err, &media) {
		writeProblem(c.w, c.r, http.StatusUnsupportedMediaType, &problem{Code: connect.CodeInvalidArgument.String(),
			Reason: "media_type", Detail: err.Error(), Path: "header." + media.header})
		return
	}
	status, p := problemOf(err)
	writeProblem(c.w, c.r, status, p)
}
