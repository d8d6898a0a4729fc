package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/polluxhq/pollux/actors"
	"github.com/polluxhq/pollux/actors/state"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// influx says how lines of InfluxDB's protocol are read (https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol):
// a line is a message, its fields are the payload. The tag `twin` names the twin; else the alias is (network, key, value of the
// tag that is called key).
type influx struct {
	network, key string
	// unit of the timestamps, in nanoseconds.
	unit int64
}

var influxUnits = map[string]int64{"": 1, "ns": 1, "n": 1, "us": 1e3, "u": 1e3, "ms": 1e6, "s": 1e9}

// line reads one line; ok is false for an empty one and a comment.
func (x *influx) line(text []byte, like *actors.Ingest) (l intakeLine, ok bool) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 || text[0] == '#' {
		return l, false
	}
	m := *like
	m.Payload = text
	l.m = &m
	r := influxReader{b: text}
	tags, err := r.head()
	var payload []byte
	if err == nil {
		payload, err = r.fields()
	}
	var at int64
	if err == nil {
		at, err = r.time(x.unit)
	}
	if err != nil {
		l.bad("line protocol, at byte %d: %v", r.i, err)
		return l, true
	}
	switch {
	case tags["twin"] != "":
		m.Twin = tags["twin"]
	case tags[x.key] != "":
		m.Alias = &pb.Alias{Network: x.network, Key: x.key, Value: tags[x.key]}
	default:
		l.bad("no tag says whose it is: neither twin nor %s", x.key)
		return l, true
	}
	m.Payload, m.JSON = payload, true
	if at != 0 {
		m.Time = at
	}
	return l, true
}

type influxReader struct {
	b []byte
	i int
}

// word reads up to one of the ends, which a backslash escapes.
func (r *influxReader) word(ends string) string {
	var w []byte
	for ; r.i < len(r.b); r.i++ {
		c := r.b[r.i]
		if c == '\\' && r.i+1 < len(r.b) && strings.IndexByte(ends+`\`, r.b[r.i+1]) >= 0 {
			r.i++
			w = append(w, r.b[r.i])
			continue
		}
		if strings.IndexByte(ends, c) >= 0 {
			break
		}
		w = append(w, c)
	}
	return string(w)
}

// take reads a character, if it is there.
func (r *influxReader) take(c byte) bool {
	if r.i < len(r.b) && r.b[r.i] == c {
		r.i++
		return true
	}
	return false
}

// head reads measurement and tags.
func (r *influxReader) head() (map[string]string, error) {
	if r.word(", ") == "" {
		return nil, errors.New("no measurement")
	}
	tags := map[string]string{}
	for r.take(',') {
		key := r.word(",= ")
		if key == "" || !r.take('=') {
			return nil, errors.New("a tag is KEY=VALUE")
		}
		if tags[key] = r.word(",= "); tags[key] == "" {
			return nil, fmt.Errorf("tag %s has no value", key)
		}
	}
	if !r.take(' ') {
		return nil, errors.New("fields are missing")
	}
	return tags, nil
}

// fields reads the fields as a JSON object.
func (r *influxReader) fields() ([]byte, error) {
	out := []byte{'{'}
	for {
		for r.take(' ') {
		}
		key := r.word(",= ")
		if key == "" || !r.take('=') {
			return nil, errors.New("a field is KEY=VALUE")
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(state.AppendString(out, key), ':')
		var err error
		if out, err = r.value(out); err != nil {
			return nil, fmt.Errorf("field %s: %w", key, err)
		}
		if !r.take(',') {
			return append(out, '}'), nil
		}
	}
}

func (r *influxReader) value(out []byte) ([]byte, error) {
	if r.take('"') {
		var text []byte
		for ; r.i < len(r.b) && r.b[r.i] != '"'; r.i++ {
			if r.b[r.i] == '\\' && r.i+1 < len(r.b) && (r.b[r.i+1] == '"' || r.b[r.i+1] == '\\') {
				r.i++
			}
			text = append(text, r.b[r.i])
		}
		if !r.take('"') {
			return nil, errors.New("the text has no end")
		}
		return state.AppendString(out, string(text)), nil
	}
	word := r.word(", ")
	switch word {
	case "t", "T", "true", "True", "TRUE":
		return append(out, "true"...), nil
	case "f", "F", "false", "False", "FALSE":
		return append(out, "false"...), nil
	case "":
		return nil, errors.New("no value")
	}
	switch last := word[len(word)-1]; last {
	case 'i':
		if n, err := strconv.ParseInt(word[:len(word)-1], 10, 64); err == nil {
			return strconv.AppendInt(out, n, 10), nil
		}
	case 'u':
		if n, err := strconv.ParseUint(word[:len(word)-1], 10, 64); err == nil {
			return strconv.AppendUint(out, n, 10), nil
		}
	default:
		if x, err := strconv.ParseFloat(word, 64); err == nil && !math.IsInf(x, 0) && !math.IsNaN(x) {
			return strconv.AppendFloat(out, x, 'g', -1, 64), nil
		}
	}
	return nil, fmt.Errorf("%.40q is no number, text or boolean", word)
}

// time reads the timestamp, if there is one, in milliseconds.
func (r *influxReader) time(unit int64) (int64, error) {
	rest := strings.TrimSpace(string(r.b[r.i:]))
	r.i = len(r.b)
	if rest == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(rest, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("%.40q is no timestamp", rest)
	}
	return max(1, n*unit/1e6), nil
}
