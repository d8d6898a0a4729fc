package history

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// WalkQuery chooses raw samples of a project.
type WalkQuery struct {
	Project string
	// Twins and Properties by name; empty: all.
	Twins, Properties []string
	// Start and End bound the time of samples, both included.
	Start, End time.Time
}

func (q *WalkQuery) check() error {
	switch {
	case q.Project == "":
		return fmt.Errorf("%w: project is empty", ErrQuery)
	case q.Start.IsZero() || q.End.IsZero() || q.End.Before(q.Start):
		return fmt.Errorf("%w: end %s is before start %s", ErrQuery, q.End.Format(time.RFC3339), q.Start.Format(time.RFC3339))
	case len(q.Twins) > MaxTwins:
		return fmt.Errorf("%w: %d twins, %d are allowed", ErrQuery, len(q.Twins), MaxTwins)
	}
	return nil
}

// oneOf writes a filter of a label; nothing where there is no list.
func oneOf(label string, values []string) string {
	if len(values) == 0 {
		return ""
	}
	return "," + label + "=~" + quote(pattern(values))
}

// pattern is a regular expression for any of the values.
func pattern(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return strings.Join(quoted, "|")
}

func (s *querier) walk(ctx context.Context, q WalkQuery, fn func(storage.TwinSamples) error) error {
	first, last := max(0, q.Start.UnixMilli()), q.End.UnixMilli()
	match := Metric + "{project=" + quote(q.Project) + oneOf("twin", q.Twins) + oneOf("property", q.Properties)
	return s.walkMatch(ctx, match+"}", first, last, fn)
}

// walkMatch is walk over the series that a selector chooses, from first to last, both included.
func (s *querier) walkMatch(ctx context.Context, match string, first, last int64, fn func(storage.TwinSamples) error) error {
	body, err := s.fetch(ctx, request("/api/v1/export", url.Values{
		"match[]": {match},
		// A millisecond more on each side: the server's parser of times rounds.
		"start":             {seconds(max(0, first-1))},
		"end":               {seconds(last + 1)},
		"max_rows_per_line": {strconv.Itoa(rowsPerLine)},
	}))
	if err != nil {
		return err
	}
	defer body.Close()
	defer context.AfterFunc(ctx, func() { _ = body.Close() })()
	var samples []storage.Sample
	for lines := bufio.NewReaderSize(body, 64<<10); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(bytes.TrimSpace(line)) == 0 {
			return ctx.Err()
		} else if err != nil {
			return answerBroken(ctx, err)
		}
		var t storage.TwinSamples
		var property string
		samples = samples[:0]
		var wrong error
		err = exportLine(line, func(series []byte) func(at int64, v float64) {
			var labels struct {
				Metric struct{ Project, Twin, Model, Property string } `json:"metric"`
			}
			wrong = json.Unmarshal(append(series, '}'), &labels)
			m := labels.Metric
			t.Project, t.Twin, t.Model, property = m.Project, m.Twin, m.Model, m.Property
			return func(at int64, v float64) {
				if at >= first && at <= last {
					samples = append(samples, storage.Sample{Property: property, Time: at, Value: v})
				}
			}
		})
		if err = errors.Join(err, wrong); err != nil {
			return answerBroken(ctx, err)
		}
		if t.Samples = samples; len(samples) == 0 {
			continue
		}
		if err := fn(t); err != nil {
			return err
		}
	}
}

// Walk implements History.
func (e *Embedded) Walk(ctx context.Context, q WalkQuery, fn func(storage.TwinSamples) error) error {
	if err := q.check(); err != nil {
		return err
	}
	if err := e.enter(); err != nil {
		return err
	}
	defer e.leave()
	e.moving.RLock()
	defer e.moving.RUnlock()
	ctx, cancel := e.lasting(ctx)
	defer cancel()
	e.freshen()
	return e.query.walk(ctx, q, fn)
}

// Walk implements History.
func (r *Remote) Walk(ctx context.Context, q WalkQuery, fn func(storage.TwinSamples) error) error {
	if err := q.check(); err != nil {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	defer r.leave()
	return r.query.walk(ctx, q, fn)
}
