package rpc

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/polluxhq/pollux/actors"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// pubsubPush is the body of a push subscription of Google Pub/Sub
// (https://cloud.google.com/pubsub/docs/push#receive_push). Data arrives unpacked from base64.
type pubsubPush struct {
	Message *struct {
		Data        []byte            `json:"data"`
		Attributes  map[string]string `json:"attributes"`
		MessageID   string            `json:"messageId"`
		PublishTime string            `json:"publishTime"`
	} `json:"message"`
	Subscription string `json:"subscription"`
}

// ingestPubSub takes one pushed message. The attribute `twin` names the twin; else the alias is (query.network or pubsub,
// query.attribute or deviceId, value of that attribute). Whatever has been decided for good is acknowledged, a refusal too
// once it is listed: Pub/Sub would bring it again for ever. Who it is proves Google's token, where the project names who may push, or
// a key: as the query's `token`, since Pub/Sub sends no header of ours.
func (s *Server) ingestPubSub(w http.ResponseWriter, r *http.Request) {
	p, err := s.pushPrincipal(r)
	var c *ingestCall
	if err == nil {
		c, err = s.ingestCallBy(p, r, "pubsub")
	}
	var body []byte
	var code string
	if err == nil {
		body, code, err = unpacked(r)
	}
	switch {
	case code != "":
		_, _ = io.Copy(io.Discard, r.Body) // else the sender may not hear the answer
		m := c.like
		m.Payload = body
		c.lines = []intakeLine{{m: &m, code: code, reason: err.Error()}}
	case err != nil:
		s.ingestFailed(w, r, err)
		return
	default:
		c.lines = []intakeLine{pushedLine(body, &c.like, r.URL.Query().Get("network"), r.URL.Query().Get("attribute"))}
	}
	res, err := s.takeIn(r.Context(), c.lines, false)
	if err == nil && res.Retry > 0 {
		err = errors.New(res.Results[0].Reason)
		w.Header().Set("Retry-After", "1")
		writeProblem(w, r, http.StatusServiceUnavailable, &problem{Code: "unavailable", Reason: "retry", Detail: err.Error()})
		return
	}
	if err != nil {
		s.ingestFailed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(plainResponse(res)) // Pub/Sub looks at the status only
}

// pushedLine reads the envelope.
func pushedLine(body []byte, like *actors.Ingest, network, attribute string) intakeLine {
	m := *like
	m.Payload = body
	l := intakeLine{m: &m}
	if l.code, l.reason = actors.CheckJSON(body); l.code != "" {
		return l
	}
	var p pubsubPush
	if err := json.Unmarshal(body, &p); err != nil || p.Message == nil {
		l.bad("no message of Pub/Sub: want {\"message\": {\"data\", \"attributes\", \"messageId\", \"publishTime\"}}")
		return l
	}
	if network == "" {
		network = "pubsub"
	}
	if attribute == "" {
		attribute = "deviceId"
	}
	attributes := p.Message.Attributes
	switch {
	case attributes["twin"] != "":
		m.Twin = attributes["twin"]
	case attributes[attribute] != "":
		m.Alias = &pb.Alias{Network: network, Key: attribute, Value: attributes[attribute]}
	default:
		l.bad("no attribute says whose it is: neither twin nor %.80s", attribute)
		return l
	}
	// What the data is, JSON or a driver's own, its twin knows.
	m.Payload, m.JSON = p.Message.Data, false
	if p.Message.MessageID != "" {
		m.ID = p.Subscription[strings.LastIndexByte(p.Subscription, '/')+1:] + "/" + p.Message.MessageID
	}
	if p.Message.PublishTime != "" {
		at, err := parseTime(p.Message.PublishTime)
		if err != nil {
			l.bad("publishTime: %v", err)
			return l
		}
		m.Time = at
	}
	return l
}
