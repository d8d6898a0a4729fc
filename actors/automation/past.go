package automation

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

const (
	// pastKept is how long an answer of the history counts: a rule that is evaluated a thousand times a second asks once in so long.
	pastKept = 5 * time.Second
	// pastPatience is how long an evaluation waits for the history; without an answer the condition cannot be told.
	pastPatience = 3 * time.Second
	// maxPast bounds the answers that are kept.
	maxPast = 10_000
	// maxPastSpan is how far back a condition may look.
	maxPastSpan = 366 * 24 * time.Hour
)

var pastAggregate = regexp.MustCompile(`^(avg|min|max|sum|count|dev|first|last|delta|rate|p[0-9]{1,3}([.][0-9]{1,3})?)$`)

// Past asks the history for an aggregate of a property over the time before at. ok is false where there are no samples.
type Past func(ctx context.Context, twin, property, aggregate string, span time.Duration, at time.Time) (v float64, ok bool, err error)

// pastMacro makes of history("avg", "temperature", "1h") the place of its value in what asks the history. used is set where a text has one.
func pastMacro(used *bool) cel.Macro {
	return cel.GlobalMacro("history", 3, func(mef cel.MacroExprFactory, _ celast.Expr, args []celast.Expr) (celast.Expr, *common.Error) {
		parts := make([]string, len(args))
		for i, x := range args {
			s, ok := "", false
			if x.Kind() == celast.LiteralKind {
				var lit types.String
				lit, ok = x.AsLiteral().(types.String)
				s = string(lit)
			}
			if !ok || s == "" {
				return nil, mef.NewError(x.ID(), `want texts as they are written, such as history("avg", "temperature", "1h")`)
			}
			parts[i] = s
		}
		if !pastAggregate.MatchString(parts[0]) {
			return nil, mef.NewError(args[0].ID(), fmt.Sprintf("%q is no aggregate: want avg, min, max, sum, count, dev, first, last, delta, rate, or a percentile such as p95", parts[0]))
		}
		if d, err := time.ParseDuration(parts[2]); err != nil || d < time.Second || d > maxPastSpan {
			return nil, mef.NewError(args[2].ID(), fmt.Sprintf("%q is no time from 1s to 8784h, such as 90s, 15m or 24h", parts[2]))
		}
		*used = true
		return mef.NewCall("_[_]", mef.NewIdent(pastWord), mef.NewLiteral(types.String(strings.Join(parts, "\x00")))), nil
	})
}

// past answers history(…): of a property of the twin that it is about, or of TWIN.PROPERTY.
func (s *scope) past(key string) (any, bool) {
	parts := strings.Split(key, "\x00")
	if len(parts) != 3 {
		return nil, false
	}
	span, err := time.ParseDuration(parts[2])
	if err != nil {
		return nil, false
	}
	twin, property := s.subject, parts[1]
	if i := strings.IndexByte(property, '.'); i > 0 {
		twin, property = inProject(s.project, property[:i]), property[i+1:]
	}
	note := func(text string) {
		if s.read != nil {
			s.read[fmt.Sprintf("history(%q, %q, %q)", parts[0], parts[1], parts[2])] = text
		}
	}
	if twin == "" || !strings.HasPrefix(twin, s.project+"/") {
		note("there is no twin that it is about")
		return nil, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), pastPatience)
	defer cancel()
	v, ok, err := s.world.Past(ctx, twin, property, parts[0], span, s.now)
	switch {
	case err != nil:
		note(err.Error())
		return nil, false
	case !ok:
		note("no samples")
		return nil, false
	}
	note(jsonOf(v))
	return v, true
}

// Pasts keeps answers of the history for a moment, so that conditions that are evaluated often ask seldom. The zero value is ready; it is safe for
// concurrent use.
type Pasts struct {
	mu   sync.Mutex
	kept map[string]keptPast
}

type keptPast struct {
	v  float64
	ok bool
	at time.Time
}

// Ask gives a kept answer that is not older than 5 s, or asks.
func (p *Pasts) Ask(ctx context.Context, ask Past, twin, property, aggregate string, span time.Duration, at time.Time) (float64, bool, error) {
	key := strings.Join([]string{twin, property, aggregate, span.String()}, "\x00")
	p.mu.Lock()
	k, known := p.kept[key]
	p.mu.Unlock()
	if age := at.Sub(k.at); known && age >= 0 && age < pastKept {
		return k.v, k.ok, nil
	}
	v, ok, err := ask(ctx, twin, property, aggregate, span, at)
	if err != nil {
		return 0, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept == nil || len(p.kept) >= maxPast {
		p.kept = map[string]keptPast{}
	}
	p.kept[key] = keptPast{v, ok, at}
	return v, ok, nil
}
