package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/drivers/sdk/wire"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// options reads what the request says of all of its messages. What is mistyped must not be lost in silence; clients of InfluxDB and Pub/Sub bring
// parameters of their own along.
func (c *ingestCall) options(r *http.Request) error {
	query, err := readQuery(r)
	if err != nil {
		return err
	}
	if c.like.Door == "http" {
		if err := only(query, []string{"ack", "atomic", "historical", "envelope", "time"}); err != nil {
			return err
		}
	}
	q := &restCall{r: r, query: query}
	ack := q.text("ack")
	if ack == "" {
		ack = r.Header.Get("Pollux-Ack")
	}
	switch ack {
	case "", "committed":
		c.like.Commit = true
	case "accepted":
		c.accepted = true
	default:
		return invalid("query.ack", "want committed or accepted")
	}
	c.atomic, c.like.Historical = q.boolean("atomic"), q.boolean("historical")
	if q.text("envelope") != "" {
		c.envelope = strconv.FormatBool(q.boolean("envelope"))
	}
	if t := q.text("time"); t != "" {
		if c.like.Time, err = timeOf(t); err != nil {
			return invalid("query.time", err.Error())
		}
	}
	return q.bad
}

// intakeLine is one message of a request: what is to be taken in, or why it cannot be read.
type intakeLine struct {
	m            *actors.Ingest
	code, reason string
}

func (l *intakeLine) bad(format string, args ...any) {
	l.code, l.reason = actors.CodeMalformed, fmt.Sprintf(format, args...)
}

// eachJSON cuts a body into its values: the elements of an array, or values one after the other (one, or NDJSON). It looks
// for ends only, so that a value that is wrong in itself spoils no other; what follows an end that never comes is one value.
func eachJSON(body []byte, fn func(value []byte) error) error {
	body = bytes.TrimLeft(body, jsonSpace)
	array := len(body) > 0 && body[0] == '['
	if array {
		body = bytes.TrimLeft(body[1:], jsonSpace)
		if end := bytes.TrimRight(body, jsonSpace); len(end) == 1 && end[0] == ']' {
			return nil
		}
	}
	for len(body) > 0 {
		n := jsonEnd(body)
		if !array {
			n = max(n, 1) // what begins with an end is a value, though a wrong one
		}
		value := bytes.TrimRight(body[:n], jsonSpace)
		body = bytes.TrimLeft(body[n:], jsonSpace)
		if err := fn(value); err != nil {
			return err
		}
		if !array {
			continue
		}
		switch {
		case len(body) == 0:
			return errors.New("the array has no end")
		case body[0] == ']':
			if body = bytes.TrimLeft(body[1:], jsonSpace); len(body) > 0 {
				return errors.New("there is something behind the array")
			}
		case body[0] != ',':
			return fmt.Errorf("a comma is missing before %.20q", body)
		default:
			if body = bytes.TrimLeft(body[1:], jsonSpace); len(body) == 0 {
				return errors.New("the array has no end")
			}
		}
	}
	return nil
}

const jsonSpace = " \t\r\n"

// jsonEnd is where the first value of b ends.
func jsonEnd(b []byte) int {
	depth, text := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			if text = !text; !text && depth == 0 {
				return i + 1
			}
		case text:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				return i + 1
			}
			if depth < 0 {
				return i
			}
		case depth == 0 && (c == ',' || c == '\n' || c == ' ' || c == '\t' || c == '\r'):
			return i
		}
	}
	return len(b)
}

// wireMessage is a message as the plain HTTP door takes it, where it says more than its data.
type wireMessage struct {
	Twin  string `json:"twin"`
	Alias *struct {
		Network string `json:"network"`
		Key     string `json:"key"`
		Value   string `json:"value"`
	} `json:"alias"`
	Data       json.RawMessage `json:"data"`
	Time       json.RawMessage `json:"time"`
	ID         string          `json:"id"`
	Historical *bool           `json:"historical"`
}

// batchLine reads a message of the batch door: {"twin" or "alias", "data", "time", "id", "historical"}.
func batchLine(value []byte, like *actors.Ingest) intakeLine {
	m := *like
	m.Payload = value
	l := intakeLine{m: &m}
	if l.code, l.reason = actors.CheckJSON(value); l.code != "" {
		return l
	}
	m.JSON = false
	var w wireMessage
	switch err := w.read(value); {
	case err != nil:
		l.bad(`want {"twin": NAME or "alias": {"network", "key", "value"}, "data": …, "time", "id", "historical"}: %v`, err)
	case w.Data == nil:
		l.bad(`"data" is missing`)
	case (w.Twin == "") == (w.Alias == nil):
		l.bad(`either "twin" or "alias" is needed`)
	default:
		m.Twin = w.Twin
		if w.Alias != nil {
			m.Alias = &pb.Alias{Network: w.Alias.Network, Key: w.Alias.Key, Value: w.Alias.Value}
		}
		w.into(&l)
	}
	return l
}

// read takes a message apart. The value is valid JSON.
func (w *wireMessage) read(value []byte) error {
	plain := w.quick(value)
	if plain {
		return nil
	}
	*w = wireMessage{}
	d := json.NewDecoder(bytes.NewReader(value))
	d.DisallowUnknownFields()
	return d.Decode(w)
}

// quick reads what is as it should be, in place; the rest, and what is wrong, is left to encoding/json.
func (w *wireMessage) quick(value []byte) bool {
	ok := len(value) > 0 && value[0] == '{'
	wire.Value(value).Members(func(key []byte, v wire.Value) bool {
		switch string(key) {
		case "twin":
			w.Twin, ok = v.Text()
		case "data":
			w.Data = json.RawMessage(v)
		case "time":
			w.Time = json.RawMessage(v)
		case "id":
			w.ID, ok = v.Text()
		case "historical":
			var yes bool
			yes, ok = v.Bool()
			w.Historical = &yes
		default: // an alias, too
			ok = false
		}
		return ok
	})
	return ok
}

// dataLine reads a message whose sender the path names. An object that has "data", and beside it nothing but "time", "id" and
// "historical", says more than its data; any other value is the data itself. Where envelope is true every message has to be such
// an object, and where it is false none is one.
func dataLine(value []byte, like *actors.Ingest, envelope string) intakeLine {
	m := *like
	m.Payload = value
	l := intakeLine{m: &m}
	if envelope == "false" || envelope == "" && !bytes.Contains(value, []byte(`"data"`)) || len(value) > actors.MaxPayload {
		return l // checked where all messages are
	}
	if l.code, l.reason = actors.CheckJSON(value); l.code != "" {
		return l
	}
	m.JSON = false
	if envelope == "" && !wrapped(value) {
		return l
	}
	var w wireMessage
	switch err := w.read(value); {
	case err != nil:
		l.bad(`want {"data": …, "time", "id", "historical"}: %v`, err)
	case w.Data == nil:
		l.bad(`"data" is missing`)
	case w.Twin != "" || w.Alias != nil:
		l.bad(`the path names the sender: neither "twin" nor "alias" may be here`)
	default:
		w.into(&l)
	}
	return l
}

// wrapped says whether a value looks like a message that says more than its data. It is valid JSON.
func wrapped(value []byte) bool {
	data, others := false, false
	wire.Value(value).Members(func(key []byte, _ wire.Value) bool {
		switch string(key) {
		case "data":
			data = true
		case "time", "id", "historical":
		default:
			others = true
		}
		return !others
	})
	return data && !others
}

// into completes a message by what it says of itself.
func (w *wireMessage) into(l *intakeLine) {
	m := l.m
	m.Payload = w.Data
	if w.ID != "" {
		m.ID = w.ID
	}
	if w.Historical != nil {
		m.Historical = *w.Historical
	}
	if len(w.Time) > 0 {
		at, err := readTime(w.Time)
		if err != nil {
			l.bad(`"time": %v`, err)
			return
		}
		m.Time = at
	}
}

// readTime reads milliseconds since 1970, or a time as RFC 3339 has it.
func readTime(v json.RawMessage) (int64, error) {
	if string(v) == "null" {
		return 0, nil
	}
	if v[0] != '"' {
		return parseMillis(string(v))
	}
	var text string
	if err := json.Unmarshal(v, &text); err != nil {
		return 0, err
	}
	return parseTime(text)
}

// timeOf is readTime of what stands in a query, where nothing tells numbers from texts.
func timeOf(text string) (int64, error) {
	if strings.Trim(text, "0123456789") == "" {
		return parseMillis(text)
	}
	return parseTime(text)
}

func parseMillis(text string) (int64, error) {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil || ms <= 0 {
		return 0, fmt.Errorf("%.40s is no number of milliseconds since 1970", text)
	}
	return ms, nil
}

func parseTime(text string) (int64, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return 0, fmt.Errorf("%.40q is no time such as 2026-01-31T12:00:00Z", text)
	}
	return max(1, t.UnixMilli()), nil
}
