// Package history keeps the samples of twins' properties in VictoriaMetrics: in one that runs in this process
// (Embedded), or in a server elsewhere (Remote). A Feeder brings them there from the committed log, and a Pusher the
// node's own metrics.
//
// The package knows samples and series. It does not know the log's format, raft or twins: the log is an interface here
// (Source), which the store implements. What the log has acknowledged is in history after kill -9, because the feeder's
// durable cursor only passes what history itself has made durable.
package history

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/polluxhq/pollux/storage"
)

// Metric is the name of the series that hold twins' properties. Their labels are project, twin, model and property.
const Metric = "pollux_property"

// Prefix is the path below which Handler serves.
const Prefix = "/victoria/"

// Limits of queries.
const (
	// DefaultLimit is the number of points where a query names none.
	DefaultLimit = 10_000
	// MaxLimit is the highest number of points of one query.
	MaxLimit = 100_000
)

var (
	// ErrQuery: the query itself is wrong. The error names the field.
	ErrQuery = errors.New("invalid history query")
	// ErrOpen: this process already holds an embedded VictoriaMetrics. It has one set of flags and one storage.
	ErrOpen = errors.New("history is open already in this process")
	// ErrClosed: the history is closed.
	ErrClosed = errors.New("history closed")
	// ErrUnavailable: the external server does not answer. The samples wait in the queue meanwhile.
	ErrUnavailable = errors.New("history unavailable")
)

// History answers queries. Embedded and Remote implement it, and Sink and MetricSink with it. All methods may be called
// concurrently.
type History interface {
	// Query blocks until the answer is complete or ctx ends. Its errors wrap ErrQuery, ErrClosed or ErrUnavailable.
	Query(ctx context.Context, q Query) (Result, error)
	// Series is Query in steps of several twins at once, side by side. Errors are as Query's.
	Series(ctx context.Context, q SeriesQuery) ([]Series, error)
	// Walk calls fn with the raw samples of a project that the query chooses, series by series, some thousand of one property of
	// one twin at a time; they belong to fn during its call. It stops at fn's error and returns it. Other errors are as Query's.
	Walk(ctx context.Context, q WalkQuery, fn func(storage.TwinSamples) error) error
	// Handler serves everything under Prefix: the pages of vmui and the reading half of the Prometheus API. Nothing that
	// it serves writes or deletes. Who may come here is the caller's to check.
	Handler() http.Handler
	// Close flushes and closes. Calls that run are waited for; later ones get ErrClosed or status 503.
	Close() error
}

// Sink takes samples from a Feeder.
type Sink interface {
	// Insert takes the samples of log entries up to index, in the order of the log. It blocks until they are taken and
	// keeps no reference to samples. It may be called again with what it was given before: samples of the same series and
	// time are one. After an error nothing is promised of that batch and the same batch is offered again.
	Insert(ctx context.Context, index uint64, samples []storage.TwinSamples) error
	// Durable returns the highest index given to Insert such that it and all before it survive kill -9 and power loss;
	// 0 if there is none yet.
	Durable() uint64
}

// MetricSink takes metrics in the Prometheus text format.
type MetricSink interface {
	// InsertMetrics adds every line of text as a sample at time at, with the label node. It blocks until they are taken.
	InsertMetrics(ctx context.Context, text, node string, at time.Time) error
}

// Query asks for one property of one twin.
type Query struct {
	Project, Twin, Property string
	// Start and End bound the time of samples, both included. Milliseconds count, less does not.
	Start, End time.Time
	// Step, where not 0, asks for one point per step instead of raw samples, at End, End-Step and so on, each of the
	// samples in the step that ends there. Steps without samples have no point. At least a millisecond.
	Step time.Duration
	// Aggregate says what a step's point is: avg (where empty) or another one (see Aggregates). Only with Step.
	Aggregate string
	// Limit is the highest number of points, 0 for DefaultLimit, at most MaxLimit. The newest are kept.
	Limit int
}

// Point is a value at a time.
type Point struct {
	// Time is in milliseconds since 1970.
	Time  int64
	Value float64
}

// Result of a query, oldest point first.
type Result struct {
	Points []Point
	// Truncated: the range holds more than Limit points (with Step: samples before the newest Limit steps); these are the newest.
	Truncated bool
}

// check fills defaults and refuses what makes no sense, naming the field.
func (q *Query) check() error {
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	switch {
	case q.Project == "":
		return fmt.Errorf("%w: project is empty", ErrQuery)
	case q.Twin == "":
		return fmt.Errorf("%w: twin is empty", ErrQuery)
	case q.Property == "":
		return fmt.Errorf("%w: property is empty", ErrQuery)
	case q.Start.IsZero() || q.End.IsZero():
		return fmt.Errorf("%w: start and end must be set", ErrQuery)
	case q.End.Before(q.Start):
		return fmt.Errorf("%w: end %s is before start %s", ErrQuery, q.End.Format(time.RFC3339Nano), q.Start.Format(time.RFC3339Nano))
	case q.Start.UnixMilli() < 0:
		return fmt.Errorf("%w: start %s is before 1970", ErrQuery, q.Start.Format(time.RFC3339Nano))
	case q.Limit < 0 || q.Limit > MaxLimit:
		return fmt.Errorf("%w: limit %d is not in 1..%d", ErrQuery, q.Limit, MaxLimit)
	case q.Step < 0 || q.Step > 0 && q.Step < time.Millisecond:
		return fmt.Errorf("%w: step %s is below a millisecond", ErrQuery, q.Step)
	case q.Step == 0 && q.Aggregate != "":
		return fmt.Errorf("%w: aggregate %q without a step", ErrQuery, q.Aggregate)
	}
	if q.Step > 0 && q.Aggregate == "" {
		q.Aggregate = "avg"
	}
	if q.Step == 0 {
		return nil
	}
	_, err := aggregateOf(q.Aggregate)
	return err
}
