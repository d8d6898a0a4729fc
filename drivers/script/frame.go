package script

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Message is what a device sends. Topic, QoS and Retain are MQTT's.
type Message struct {
	Topic  string
	QoS    int
	Retain bool
	Data   []byte
}

// Frame is what a driver is expected to send.
type Frame struct {
	Topic string
	// Exactly one of these is set.
	Data     []byte
	JSON     any
	Pattern  *regexp.Regexp
	Contains []byte
	kind     string
}

// Matches says whether a message is what is expected, and where a pattern matched, its groups.
func (f *Frame) Matches(topic string, data []byte) (groups [][]byte, ok bool) {
	if f.Topic != topic {
		return nil, false
	}
	switch f.kind {
	case "json":
		var got any
		return nil, json.Unmarshal(data, &got) == nil && Equal(f.JSON, got)
	case "match":
		groups = f.Pattern.FindSubmatch(data)
		return groups, groups != nil && len(groups[0]) == len(data)
	case "contains":
		return nil, bytes.Contains(data, f.Contains)
	}
	return nil, bytes.Equal(f.Data, data)
}

// String shows what is expected.
func (f *Frame) String() string {
	var text string
	switch f.kind {
	case "json":
		text = JSON(f.JSON)
	case "match":
		text = "what matches " + f.Pattern.String()
	case "contains":
		text = "what contains " + Show(f.Contains)
	default:
		text = Show(f.Data)
	}
	return onTopic(f.Topic, text)
}

// ShowMessage shows a message.
func ShowMessage(topic string, data []byte) string { return onTopic(topic, Show(data)) }

func onTopic(topic, text string) string {
	if topic == "" {
		return text
	}
	return topic + " " + text
}

// Show shows bytes: as a quoted text where they are one, else in hex.
func Show(data []byte) string {
	if utf8.Valid(data) {
		text := strconv.Quote(string(data))
		if strings.Count(text, `\x`)+strings.Count(text, `\u`) <= len(data)/4 {
			return text
		}
	}
	return "hex " + spaced(data)
}

func spaced(data []byte) string {
	var b strings.Builder
	for i, c := range data {
		if i > 0 {
			b.WriteByte(' ')
		}
		fmt.Fprintf(&b, "%02x", c)
	}
	return b.String()
}

// data reads bytes: a text, a mapping with one of text, hex, base64 and json, or a list of such pieces.
func (p *parser) data(n node) []byte {
	switch {
	case n.isText():
		return []byte(n.text())
	case n.isList():
		var all []byte
		for _, piece := range n.list() {
			all = append(all, p.data(piece)...)
		}
		return all
	}
	m := p.mapping(n, "bytes")
	data := p.dataOf(m, n)
	m.end()
	return data
}

func (p *parser) dataOf(m *mapping, n node) []byte {
	if v, ok := m.take("text"); ok {
		return []byte(p.text(v))
	}
	if v, ok := m.take("hex"); ok {
		data, err := hex.DecodeString(strings.Join(strings.Fields(p.text(v)), ""))
		if err != nil {
			p.fail(v, "hex %q: %v", v.text(), err)
		}
		return data
	}
	if v, ok := m.take("base64"); ok {
		data, err := base64.StdEncoding.DecodeString(p.text(v))
		if err != nil {
			p.fail(v, "base64: %v", err)
		}
		return data
	}
	if v, ok := m.take("json"); ok {
		return []byte(JSON(p.value(v)))
	}
	p.fail(n, "want a text, or one of text, hex, base64, json")
	return nil
}

// message reads what a device sends.
func (p *parser) message(n node) Message {
	if !n.isMap() {
		return Message{Data: p.data(n)}
	}
	m := p.mapping(n, "message")
	out := Message{Topic: m.string("topic"), QoS: int(m.number("qos")), Retain: m.bool("retain")}
	out.Data = p.dataOf(m, n)
	m.end()
	return out
}

// frame reads what a driver is expected to send.
func (p *parser) frame(n node) Frame {
	if !n.isMap() {
		return Frame{Data: p.data(n)}
	}
	m := p.mapping(n, "frame")
	f := Frame{Topic: m.string("topic")}
	if v, ok := m.take("match"); ok {
		re, err := regexp.Compile("(?s)" + p.text(v))
		if err != nil {
			p.fail(v, "match %q: %v", v.text(), err)
		}
		f.Pattern, f.kind = re, "match"
	} else if v, ok := m.take("contains"); ok {
		f.Contains, f.kind = p.data(v), "contains"
	} else if v, ok := m.take("json"); ok {
		f.JSON, f.kind = p.value(v), "json"
	} else {
		f.Data = p.dataOf(m, n)
	}
	m.end()
	return f
}

// JSONFrame expects that JSON.
func JSONFrame(v any) Frame { return Frame{JSON: v, kind: "json"} }

// Expand puts what the groups of a match hold where the answer has \1 to \9. It may return data itself.
func Expand(data []byte, groups [][]byte) []byte {
	if len(groups) < 2 {
		return data
	}
	var out []byte
	for i := 0; i < len(data); i++ {
		if data[i] == '\\' && i+1 < len(data) && data[i+1] >= '1' && data[i+1] <= '9' && int(data[i+1]-'0') < len(groups) {
			out = append(out, groups[data[i+1]-'0']...)
			i++
			continue
		}
		out = append(out, data[i])
	}
	return out
}
