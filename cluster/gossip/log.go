package gossip

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// counters are gossip's metrics.
type counters struct {
	set                                       *metrics.Set
	key, label, garbage, queueFull, conflicts *metrics.Counter
	names                                     []string
}

func newCounters(set *metrics.Set) *counters {
	return &counters{set: set,
		key:       set.GetOrCreateCounter(`pollux_gossip_refused_total{reason="key"}`),
		label:     set.GetOrCreateCounter(`pollux_gossip_refused_total{reason="cluster"}`),
		garbage:   set.GetOrCreateCounter(`pollux_gossip_refused_total{reason="garbage"}`),
		queueFull: set.GetOrCreateCounter("pollux_gossip_dropped_messages_total"),
		conflicts: set.GetOrCreateCounter("pollux_gossip_name_conflicts_total"),
	}
}

func (c *counters) gauges(g *Gossip) {
	for _, s := range []State{Alive, Dead, Left} {
		name := `pollux_gossip_members{state="` + string(s) + `"}`
		c.names = append(c.names, name)
		c.set.GetOrCreateGauge(name, func() float64 {
			n := 0
			for _, m := range g.Members() {
				if m.State == s {
					n++
				}
			}
			return float64(n)
		})
	}
}

func (c *counters) close() {
	for _, name := range c.names {
		c.set.UnregisterMetric(name)
	}
}

// joinError says in words of ours why a Join failed. Memberlist gives texts only.
func joinError(addr, cluster string, err error) error {
	text := err.Error()
	switch {
	case has(text, "no installed keys", "encryption is configured", "encryption is not configured"):
		return fmt.Errorf("join by gossip at %s: %w: give this node the cluster's key: %w", addr, ErrKey, err)
	case has(text, "EOF", "connection reset", "invalid msgType"):
		return fmt.Errorf("join by gossip at %s: %w: it hung up without an answer, so it is no gossip address or not of cluster %s: %w",
			addr, ErrCluster, cluster, err)
	}
	return fmt.Errorf("join by gossip at %s: %w", addr, err)
}

func has(text string, any ...string) bool {
	for _, a := range any {
		if strings.Contains(text, a) {
			return true
		}
	}
	return false
}

// logger takes memberlist's lines: what it refuses is counted and, once in a while, a warning; the rest is debug.
type logger struct{ g *Gossip }

func newLogger(g *Gossip) *log.Logger { return log.New(&logger{g: g}, "", 0) }

var refusals = []struct {
	reason string
	texts  []string
	what   string
}{
	{"key", []string{"no installed keys", "encryption is configured", "encryption is not configured"}, "refused a stranger: its gossip key is not ours"},
	{"cluster", []string{"unacceptable label"}, "refused a stranger: it is of another cluster"},
	{"name", []string{"the name is taken"}, "refused a node: its name is taken"},
	{"full", []string{"handler queue full", "Too many pending push/pull"}, "more messages come than are handled; some are dropped"},
	{"garbage", []string{"unsupported encryption version", "too small to decrypt", "empty payload", "label", "missing message type",
		"not supported", "Failed to decode", "invalid checksum", "invalid msgType", "failed to receive", "Failed to receive",
		"too short", "truncated", "Failed to decompress", "Failed to read remote state", "not readable"},
		"refused what is no gossip message"},
}

// Write implements io.Writer for one line.
func (l *logger) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level, text := cutLevel(text)
	at := slog.LevelDebug
	attrs := []any(nil)
	if level >= slog.LevelWarn {
		for _, r := range refusals {
			if !has(text, r.texts...) {
				continue
			}
			l.g.m.count(r.reason)
			if !l.g.quiet(r.reason) {
				at, attrs, text = slog.LevelWarn, []any{"reason", text}, r.what
			}
			break
		}
	}
	l.g.log.Log(context.Background(), at, "gossip: "+text, attrs...)
	return len(line), nil
}

func cutLevel(text string) (slog.Level, string) {
	level := slog.LevelDebug
	if strings.HasPrefix(text, "[") {
		if word, rest, ok := strings.Cut(text[1:], "] "); ok {
			text = rest
			if word == "ERR" || word == "ERROR" || word == "WARN" {
				level = slog.LevelWarn
			}
		}
	}
	return level, strings.TrimPrefix(text, "memberlist: ")
}

func (c *counters) count(reason string) {
	switch reason {
	case "key":
		c.key.Inc()
	case "cluster":
		c.label.Inc()
	case "full":
		c.queueFull.Inc()
	case "garbage":
		c.garbage.Inc()
	}
}

// quiet says whether a warning of this kind was given within 10 s.
func (g *Gossip) quiet(kind string) bool {
	now := time.Now()
	g.saidMu.Lock()
	defer g.saidMu.Unlock()
	if at, ok := g.said[kind]; ok && now.Sub(at) < 10*time.Second {
		return true
	}
	if g.said == nil || len(g.said) > 64 {
		g.said = map[string]time.Time{}
	}
	g.said[kind] = now
	return false
}
