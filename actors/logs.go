package actors

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"unicode/utf8"

	"github.com/polluxhq/pollux/actors/state"
	"github.com/polluxhq/pollux/cluster"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
)

// logLines is how many of a twin's last lines are kept while it is in memory.
const logLines = 32

var (
	takenMessage = &actorv1.Taken{}
	takenReply   = cluster.Reply{Message: takenMessage}
)

// logRing keeps the last lines.
type logRing struct {
	lines []*pb.LogLine
	next  int
}

func (r *logRing) add(l *pb.LogLine) {
	if len(r.lines) < logLines {
		r.lines = append(r.lines, l)
		return
	}
	r.lines[r.next] = l
	r.next = (r.next + 1) % logLines
}

// each gives the lines, oldest first.
func (r *logRing) each(fn func(*pb.LogLine)) {
	if r == nil {
		return
	}
	for i := range r.lines {
		fn(r.lines[(r.next+i)%len(r.lines)])
	}
}

// logged is a line that a driver wrote.
type logged struct {
	level, text string
	time        int64
}

func (m *logged) run(t *twin) {
	if t.mode == modeLive {
		t.line(m.level, m.text, m.time)
	}
}

// note writes a line of the twin's own.
func (t *twin) note(level, text string) { t.line(level, text, t.stamp()) }

func (t *twin) line(level, text string, at int64) {
	l := &pb.LogLine{Time: state.Timestamp(at), Level: level, Text: t.cfg.veil(text)}
	if t.logs == nil {
		t.logs = &logRing{}
	}
	t.logs.add(l)
	t.e.stats.logLines.Add(1)
	t.emitLog(l)
}

// veil replaces the settings' secrets in a text that is shown. A driver that computes something of them is not found out.
func (c *config) veil(text string) string {
	if c != nil {
		for _, secret := range c.secrets {
			text = strings.ReplaceAll(text, secret, secretMask)
		}
	}
	return text
}

// clip shortens a text to n bytes of whole characters. What is no UTF-8 cannot be sent: it is replaced.
func clip(text string, n int) string {
	if len(text) > n {
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

func quote(s string) []byte {
	b, _ := json.Marshal(s) // a string always marshals
	return b
}

// quieter hands on what a library tells at info as debug: nothing that an operator asked for.
type quieter struct{ slog.Handler }

func (q quieter) level(l slog.Level) slog.Level {
	if l == slog.LevelInfo {
		return slog.LevelDebug
	}
	return l
}

func (q quieter) Enabled(ctx context.Context, l slog.Level) bool {
	return q.Handler.Enabled(ctx, q.level(l))
}

func (q quieter) Handle(ctx context.Context, r slog.Record) error {
	r.Level = q.level(r.Level)
	return q.Handler.Handle(ctx, r)
}

func (q quieter) WithAttrs(a []slog.Attr) slog.Handler { return quieter{q.Handler.WithAttrs(a)} }
func (q quieter) WithGroup(name string) slog.Handler   { return quieter{q.Handler.WithGroup(name)} }
