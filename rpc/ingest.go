package rpc

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

const (
	// maxLines of a request.
	maxLines = 10_000
	// maxKeyed messages of one twin may share an Idempotency-Key: a twin remembers as many ids.
	maxKeyed = 256
	// maxPush is what Pub/Sub pushes at most, 10 MB as base64: it is heard out, so that it does not come for ever.
	maxPush = 16 << 20
	// maxIngests are the requests of messages that are answered at a time. Each waits for a commit.
	maxIngests = 1024
)

// ingestDoors are the plain HTTP doors for messages:
//
//	POST /v1/ingest/{project}                          lines that each name their twin or alias
//	POST /v1/ingest/{project}/write                    InfluxDB line protocol
//	POST /v1/ingest/{project}/pubsub                   one message that Google Pub/Sub pushes
//	POST /v1/ingest/{project}/{twin}                   data of one twin
//	POST /v1/ingest/{project}/{network}/{key}/{value}  data of the twin that has the alias
func (s *Server) ingestDoors() {
	for _, d := range []struct {
		path, door string
		size       int64
		fn         http.HandlerFunc
	}{
		{"/v1/ingest/{project}", "http", maxRequest, s.ingestBatch},
		{"/v1/ingest/{project}/write", "influx", maxRequest, s.ingestInflux},
		{"/v1/ingest/{project}/pubsub", "pubsub", maxPush, s.ingestPubSub},
		{"/v1/ingest/{project}/{twin}", "http", maxRequest, s.ingestOne},
		{"/v1/ingest/{project}/{network}/{key}/{value}", "http", maxRequest, s.ingestOne},
		{"/v1/ingest/{project}/{network}/{key}/{value}/{rest...}", "http", maxRequest, s.ingestOne},
	} {
		b := s.bounds()
		b.size = d.size
		b.refuse = func(w http.ResponseWriter, r *http.Request, err error) { s.refuseIngest(w, r, d.door, err) }
		s.mux.Handle("POST "+d.path, limited(atMost(d.fn, maxIngests, s.ingestFailed), b))
	}
	s.mux.HandleFunc("/v1/ingest/", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			noRoute(w, r)
		} else {
			notAllowed(http.MethodPost).ServeHTTP(w, r)
		}
	})
}

// ingestCall is one request of messages.
type ingestCall struct {
	s        *Server
	p        *Principal
	like     actors.Ingest // what all of its messages have in common
	atomic   bool
	accepted bool
	// envelope says what an object with "data" is: yes, no, or (empty) what it looks like.
	envelope string
	key      string
	lines    []intakeLine
}

// ingestCall reads who sends, and what the request says of all of its messages.
func (s *Server) ingestCall(r *http.Request, door string) (*ingestCall, error) {
	p, err := s.ingestPrincipal(r)
	if err != nil {
		return nil, err
	}
	return s.ingestCallBy(p, r, door)
}

// ingestCallBy is a request of somebody who is known.
func (s *Server) ingestCallBy(p *Principal, r *http.Request, door string) (c *ingestCall, err error) {
	c = &ingestCall{s: s, p: p, like: actors.Ingest{Door: door, Project: r.PathValue("project"), JSON: true}}
	if !validProject(c.like.Project) {
		return nil, invalid("project", fmt.Sprintf("%.80q is no project's name", c.like.Project))
	}
	if c.like.Twin = r.PathValue("twin"); r.PathValue("network") != "" {
		c.like.Alias = &pb.Alias{Network: r.PathValue("network"), Key: r.PathValue("key"), Value: r.PathValue("value")}
	}
	if err := c.authorize(r); err != nil {
		return nil, err
	}
	if err := c.options(r); err != nil {
		return nil, err
	}
	for _, name := range []string{"Idempotency-Key", "X-Message-Id"} {
		if c.key == "" {
			c.key = r.Header.Get(name)
		}
	}
	if len(c.key) > actors.MaxMessageID-8 {
		return nil, invalid("header.Idempotency-Key", fmt.Sprintf("%d bytes, %d are allowed", len(c.key), actors.MaxMessageID-8))
	}
	return c, s.guard.quorum()
}

// authorize says whether the sender may send to the project. What is sent to a foreign project is listed in the sender's own.
func (c *ingestCall) authorize(r *http.Request) error {
	err := Authorize(c.p, ActionIngest, Resource{Project: c.like.Project, Kind: "message"})
	if err == nil {
		c.like.Device = c.p.Device
		return nil
	}
	if c.p.strays(c.like.Project) {
		m := &actors.Ingest{Door: c.like.Door}
		m.Payload, _, _ = unpacked(r) // what can be read of it
		c.s.foreign(c.p, m, c.like.Project)
	}
	return err
}

// strays says whether what somebody sends to a project is to be listed in the sender's own.
func (p *Principal) strays(project string) bool {
	return p.Project != "" && p.Project != project && p.mayIngest()
}

// foreign lists a message that is for another project than its sender's, in the sender's.
func (s *Server) foreign(p *Principal, m *actors.Ingest, project string) {
	if !p.strays(project) {
		return
	}
	m.Project = p.Project
	if p.Device != "" {
		m.Twin = actors.NameOf(p.Device)
	}
	s.o.Client.RefuseIngest(m, actors.CodeForeignProject, fmt.Sprintf("key %s of project %s may not send to project %s", p.Name, p.Project, project),
		func(actors.IngestResult) {})
}

// ingestPrincipal also takes a key as the password of HTTP's basic authentication, and as InfluxDB's clients send it.
func (s *Server) ingestPrincipal(r *http.Request) (*Principal, error) {
	if _, password, ok := r.BasicAuth(); ok {
		return s.o.Keys.Authenticate(password)
	}
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "token") {
		return s.o.Keys.Authenticate(strings.TrimSpace(token))
	}
	return s.o.Keys.principalOf(r.Method, r.Host, r.Header)
}

// body reads the whole body, unpacked. What cannot be read is listed as refused.
func (c *ingestCall) body(r *http.Request) ([]byte, error) {
	b, code, err := unpacked(r)
	if code != "" {
		return nil, c.unread(b, code, err)
	}
	return b, err
}

// unpacked is the whole body. Where it is to be refused for what it is, code says why, and b is what was read of it.
func unpacked(r *http.Request) (b []byte, code string, err error) {
	var in io.Reader = r.Body
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		if in, err = gzip.NewReader(r.Body); err != nil {
			return nil, actors.CodeMalformed, fmt.Errorf("no gzip: %w", err)
		}
	default:
		return nil, actors.CodeMalformed, fmt.Errorf("encoding %.40q: want gzip or none", encoding)
	}
	b, err = io.ReadAll(io.LimitReader(in, maxRequest+1))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge), connect.CodeOf(err) == connect.CodeResourceExhausted && err != nil, err == nil && len(b) > maxRequest:
		return b, actors.CodeTooLarge, &http.MaxBytesError{Limit: maxRequest}
	case err != nil && in != r.Body:
		return b, actors.CodeMalformed, fmt.Errorf("body: %w", err)
	}
	return b, "", err
}

// unread lists a request that cannot be read at all, and gives the error to answer.
func (c *ingestCall) unread(b []byte, code string, err error) error {
	if errors.Is(err, errLines) {
		code = actors.CodeTooLarge
	}
	m := c.like
	m.Payload = b
	c.s.o.Client.RefuseIngest(&m, code, err.Error(), func(actors.IngestResult) {})
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return err
	}
	return invalid("body", err.Error())
}

// errLines: a request has more lines than one may have.
var errLines = fmt.Errorf("it has more than %d lines", maxLines)

// add takes a line. The error is errLines.
func (c *ingestCall) add(l intakeLine) error {
	if len(c.lines) == maxLines {
		return errLines
	}
	c.lines = append(c.lines, l)
	return nil
}

// ingestOne takes data of the sender that the path names.
func (s *Server) ingestOne(w http.ResponseWriter, r *http.Request) {
	c, err := s.ingestCall(r, "http")
	if err != nil {
		s.ingestFailed(w, r, err)
		return
	}
	if c.like.Alias != nil {
		c.like.Topic = strings.TrimPrefix(r.URL.Path, "/v1/ingest/")
	}
	body, err := c.body(r)
	if err == nil {
		err = c.oneSender(r, body)
	}
	if err != nil {
		s.ingestFailed(w, r, err)
		return
	}
	c.answer(w, r)
}

func (c *ingestCall) oneSender(r *http.Request, body []byte) error {
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t == "application/octet-stream" {
		m := c.like
		m.Payload, m.JSON = body, false
		return c.add(intakeLine{m: &m})
	}
	err := eachJSON(body, func(value []byte) error { return c.add(dataLine(value, &c.like, c.envelope)) })
	if err == nil && len(c.lines) == 0 {
		err = errors.New("it holds no message")
	}
	if err != nil {
		return c.unread(body, actors.CodeMalformed, err)
	}
	return nil
}

// ingestBatch takes lines that each name their sender.
func (s *Server) ingestBatch(w http.ResponseWriter, r *http.Request) {
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t == "text/plain" {
		s.ingestInflux(w, r)
		return
	}
	c, err := s.ingestCall(r, "http")
	var body []byte
	if err == nil {
		body, err = c.body(r)
	}
	if err == nil {
		err = eachJSON(body, func(value []byte) error { return c.add(batchLine(value, &c.like)) })
		if err == nil && len(c.lines) == 0 {
			err = errors.New("it holds no message")
		}
		if err != nil {
			err = c.unread(body, actors.CodeMalformed, err)
		}
	}
	if err != nil {
		s.ingestFailed(w, r, err)
		return
	}
	c.answer(w, r)
}

// ingestInflux takes lines of InfluxDB's protocol.
func (s *Server) ingestInflux(w http.ResponseWriter, r *http.Request) {
	c, err := s.ingestCall(r, "influx")
	var body []byte
	if err == nil {
		body, err = c.body(r)
	}
	if err == nil {
		q := r.URL.Query() // which options has read
		x := &influx{network: q.Get("network"), key: q.Get("tag")}
		if x.network == "" {
			x.network = "influx"
		}
		if x.key == "" {
			x.key = "device"
		}
		var ok bool
		if x.unit, ok = influxUnits[q.Get("precision")]; !ok {
			err = invalid("query.precision", "want ns, us, ms or s")
		}
		for line := range bytes.Lines(body) {
			if l, ok := x.line(line, &c.like); ok && err == nil {
				if err = c.add(l); err != nil {
					err = c.unread(body, actors.CodeTooLarge, err)
				}
			}
		}
		if err == nil && len(c.lines) == 0 {
			err = c.unread(body, actors.CodeMalformed, errors.New("it holds no line"))
		}
	}
	if err != nil {
		s.ingestFailed(w, r, err)
		return
	}
	c.answer(w, r)
}

// keyed gives the messages of a request with an Idempotency-Key ids of their own.
func (c *ingestCall) keyed() error {
	if c.key == "" {
		return nil
	}
	perSender := map[string]int{}
	for i := range c.lines {
		m := c.lines[i].m
		if m.ID != "" {
			continue
		}
		if m.ID = c.key; len(c.lines) > 1 {
			m.ID = fmt.Sprintf("%s/%d", c.key, i)
		}
		who := m.Twin + "\x00" + m.Alias.GetNetwork() + "\x00" + m.Alias.GetKey() + "\x00" + m.Alias.GetValue()
		if perSender[who]++; perSender[who] > maxKeyed {
			return invalid("header.Idempotency-Key", fmt.Sprintf("more than %d messages of one sender: send them in several requests", maxKeyed))
		}
	}
	return nil
}

// answer takes the lines in and says what became of them.
func (c *ingestCall) answer(w http.ResponseWriter, r *http.Request) {
	err := c.keyed()
	var res *pb.IngestResponse
	if err == nil {
		res, err = c.s.takeIn(r.Context(), c.lines, c.atomic)
	}
	if err != nil {
		c.s.ingestFailed(w, r, err)
		return
	}
	status := http.StatusOK
	switch {
	case res.Retry > 0 && !refusedWhole(c.atomic, res):
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	case res.Refused > 0 && res.Stored+res.Inbox+res.Duplicate == 0:
		status = http.StatusUnprocessableEntity
	case c.accepted:
		status = http.StatusAccepted
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(plainResponse(res)) // the sender takes it or sends again
}

func refusedWhole(atomic bool, res *pb.IngestResponse) bool {
	return atomic && res.Refused > 0 && res.Stored+res.Inbox+res.Duplicate == 0
}

// plainIngest is an answer as plain JSON has it.
type plainIngest struct {
	Stored    uint64        `json:"stored"`
	Refused   uint64        `json:"refused"`
	Inbox     uint64        `json:"inbox"`
	Duplicate uint64        `json:"duplicate"`
	Retry     uint64        `json:"retry"`
	Results   []plainResult `json:"results,omitempty"`
}

type plainResult struct {
	Line    uint32 `json:"line"`
	Outcome string `json:"outcome"`
	Code    string `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func plainResponse(res *pb.IngestResponse) *plainIngest {
	out := &plainIngest{Stored: res.Stored, Refused: res.Refused, Inbox: res.Inbox, Duplicate: res.Duplicate, Retry: res.Retry}
	for _, x := range res.Results {
		out.Results = append(out.Results, plainResult{x.Index, wordOf(x.Outcome.String(), "INGEST_OUTCOME_"), x.Code, x.Reason})
	}
	return out
}

// takeIn takes lines in and waits until each has its result. Where whole is set and one is refused at the door, none is.
func (s *Server) takeIn(ctx context.Context, lines []intakeLine, whole bool) (*pb.IngestResponse, error) {
	spoiled := false
	if whole {
		for i := range lines {
			l := &lines[i]
			if l.code == "" {
				l.code, l.reason = s.o.Client.CheckIngest(l.m)
			}
			spoiled = spoiled || l.code != ""
		}
	}
	results := make([]actors.IngestResult, len(lines))
	var left atomic.Int64
	left.Store(int64(len(lines)) + 1)
	finished := make(chan struct{})
	one := func() {
		if left.Add(-1) == 0 {
			close(finished)
		}
	}
	done := func(i int, r actors.IngestResult) {
		results[i] = r
		one()
	}
	messages := make([]*actors.Ingest, len(lines))
	for i := range lines {
		switch l := &lines[i]; {
		case l.code != "":
			s.o.Client.RefuseIngest(l.m, l.code, l.reason, func(r actors.IngestResult) { done(i, r) })
		case spoiled:
			done(i, actors.IngestResult{Outcome: pb.IngestOutcome_INGEST_OUTCOME_RETRY, Err: errSpoiled})
		default:
			messages[i] = l.m
		}
	}
	s.o.Client.IngestAll(messages, done)
	one()
	select {
	case <-finished:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return sumUp(results), nil
}

var errSpoiled = errors.New("not taken: another message of the request was refused, and it is atomic")

// sumUp counts results, and lists those that are not stored.
func sumUp(results []actors.IngestResult) *pb.IngestResponse {
	res := &pb.IngestResponse{}
	for i, r := range results {
		switch r.Outcome { //nolint:exhaustive // the rest is to be sent again
		case pb.IngestOutcome_INGEST_OUTCOME_STORED:
			res.Stored++
			continue
		case pb.IngestOutcome_INGEST_OUTCOME_REFUSED:
			res.Refused++
		case pb.IngestOutcome_INGEST_OUTCOME_INBOX:
			res.Inbox++
		case pb.IngestOutcome_INGEST_OUTCOME_DUPLICATE:
			res.Duplicate++
		default:
			res.Retry++
		}
		x := &pb.IngestResult{Index: uint32(i), Outcome: r.Outcome, Code: r.Code, Reason: r.Reason}
		if r.Err != nil {
			x.Reason = plainText(translate(r.Err))
		}
		res.Results = append(res.Results, x)
	}
	return res
}

// refuseIngest answers a request that a limit stopped, and lists it where it is known whose it is.
func (s *Server) refuseIngest(w http.ResponseWriter, r *http.Request, door string, err error) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		s.refused.body.Inc()
		if c, cerr := s.ingestCall(r, door); cerr != nil {
			err = cerr
		} else {
			c.like.Size = r.ContentLength
			err = c.unread(firstOf(w, r), actors.CodeTooLarge, err)
		}
	}
	w.Header().Set("Connection", "close") // what the client still sends is not read
	s.ingestFailed(w, r, err)
}

// firstOf reads what a list shows of a body that is not read. Of a client that asked whether to send it there is nothing.
func firstOf(w http.ResponseWriter, r *http.Request) []byte {
	if r.Header.Get("Expect") != "" {
		return nil
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(restTimeout))
	in := io.Reader(r.Body)
	if packed(r.Header) {
		unpacking, err := gzip.NewReader(in)
		if err != nil {
			return nil
		}
		in = unpacking
	}
	b := make([]byte, actors.MaxHead)
	n, _ := io.ReadFull(in, b) // what came before an error is what there is
	return b[:n]
}

func (s *Server) ingestFailed(w http.ResponseWriter, r *http.Request, err error) {
	s.refused.call(translate(err))
	status, p := problemOf(err)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		status, p.Detail = http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit)
	}
	writeProblem(w, r, status, p)
}
