package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/polluxhq/pollux/storage"
)

const (
	// remoteCaughtUp is what the queue may hold for a server of which series are written anew: the server is there, and takes what comes.
	remoteCaughtUp = 64 << 10
	// remoteCatchUp bounds the wait for that.
	remoteCatchUp = time.Minute
	// rolledAgain is how long a project is known to have no aggregates: another node may have made some.
	rolledAgain = 5 * time.Second
	// rewriteWithin bounds the time from the claim of the server's series to their deletion: who was stopped for longer deletes nothing.
	rewriteWithin = 5 * time.Minute
	// deleteWithin bounds the wait for a deletion's answer; servers themselves give up before. deleteAtEnd bounds it when this node stops.
	deleteWithin = 6 * time.Minute
	deleteAtEnd  = 10 * time.Second
	// longLabels bounds an answer that lists labels.
	longLabels = 64 << 20
)

// ErrCurate: a server elsewhere does not let samples be deleted. The error says what to do about it.
var ErrCurate = errors.New("the metrics server does not let retention rules delete samples")

// ErrOtherRules is the cause with which the caller of Curate ends its context where the rules were replaced: what was begun is done as carefully
// as else.
var ErrOtherRules = errors.New("the rules of retention are others now")

// Expired counts, by property, what the rules would let go now, as Embedded's does.
func (r *Remote) Expired(ctx context.Context, project string, rules SampleRules, now time.Time) (Curation, error) {
	return r.curation(ctx, project, rules, now, false, nil, nil)
}

// Curate lets go on the server what is older than the rules of a project say, as Embedded's does on the node: by writing series anew. One
// node at a time may do so, the one that pushes. What stays of a group of series is put into the queue, which is on the disk, then the
// series are deleted, then the queue goes on to the server; nothing else is sent meanwhile, and queries find less for that moment. Where
// several nodes share the server, Shared's Curate does so. It needs
// /internal/force_flush and /api/v1/admin/tsdb/delete_series of a VictoriaMetrics of one node: else ErrCurate, and nothing is changed.
func (r *Remote) Curate(ctx context.Context, project string, rules SampleRules, now time.Time, progress func(property string, c Curation)) (Curation, error) {
	return r.curation(ctx, project, rules, now, true, progress, func(context.Context) error { return nil })
}

// curation asks claim before each group of series that is written anew.
func (r *Remote) curation(ctx context.Context, project string, rules SampleRules, now time.Time, do bool, progress func(string, Curation), claim func(context.Context) error) (Curation, error) {
	if err := r.enter(); err != nil {
		return Curation{}, err
	}
	defer r.leave()
	if do && len(rules.List) > 0 {
		if err := r.caughtUp(ctx); err != nil {
			return Curation{}, err
		}
		if err := r.flushServer(ctx); err != nil {
			return Curation{}, err
		}
	}
	c := &curator{dir: r.o.Dir, retention: r.o.Retention, query: &r.query, labels: r.labels,
		rewrite: func(ctx context.Context, k kindOfSeries, twins []string, cutoff int64, step time.Duration, c *Curation) error {
			began := time.Now()
			if err := claim(ctx); err != nil {
				return err
			}
			return r.rewrite(ctx, k, twins, cutoff, step, began, c)
		},
		rewritten: r.o.Metrics.GetOrCreateCounter("pollux_history_curated_series_total")}
	return c.run(ctx, project, rules, now, do, progress)
}

// rewrite lets the samples of some twins' series from before a time go. began is when these were claimed.
func (r *Remote) rewrite(ctx context.Context, k kindOfSeries, twins []string, cutoff int64, step time.Duration, began time.Time, c *Curation) error {
	if err := r.caughtUp(ctx); err != nil {
		return err
	}
	// The right to delete is asked for before anything is done: of series that there are none of.
	none := kindOfSeries{k.project, k.model, k.property + "/none"}
	if err := r.deleteSeries(ctx, none.match(twins)); err != nil {
		return err
	}
	r.sender.hold.Lock() // what comes at the server from here on would be deleted with the series
	defer r.sender.hold.Unlock()
	if err := r.flushServer(ctx); err != nil {
		return err
	}
	stays, kept, err := r.staying(ctx, k, twins, cutoff)
	if err != nil {
		return err
	}
	rolled, n, err := r.query.roll(ctx, k, twins, boundsAt(time.Now(), r.o.Retention).min, cutoff, step)
	if err != nil {
		return err
	}
	if err := r.enqueue(slices.Concat(rolled, stays)); err != nil {
		return err
	}
	if err := r.queue.settle(ctx); err != nil {
		return err
	}
	if n > 0 {
		c.Rolled += n
		r.rolled.add(k.project)
	}
	c.Kept += kept
	if took := time.Since(began); took > rewriteWithin {
		return fmt.Errorf("%w: to read %d samples took %s, series are deleted within %s only", ErrUnavailable, kept+n, took, rewriteWithin)
	}
	// What stays is not sent before the answer has come: a deletion that is done after that would take it along.
	deleting, cancel := context.WithTimeout(context.WithoutCancel(ctx), deleteWithin)
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		if !errors.Is(context.Cause(ctx), ErrOtherRules) { // the node stops
			time.AfterFunc(deleteAtEnd, cancel)
		}
	})()
	return r.deleteSeries(deleting, k.match(twins))
}

// caughtUp waits until little waits for the server.
func (r *Remote) caughtUp(ctx context.Context) error {
	for end := time.Now().Add(remoteCatchUp); r.queue.bytes() > remoteCaughtUp || r.sender.outage.Load(); sleep(ctx, 100*time.Millisecond) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			return fmt.Errorf("%w: %d bytes of samples wait for the server; retention waits for them", ErrUnavailable, r.queue.bytes())
		}
	}
	return nil
}

// staying gives the samples of series from a time on, each once, and their number.
func (r *Remote) staying(ctx context.Context, k kindOfSeries, twins []string, cutoff int64) (all []storage.TwinSamples, n uint64, err error) {
	last := time.Now().Add(futureRetention).UnixMilli()
	err = r.query.walkMatch(ctx, k.match(twins), cutoff, last, func(t storage.TwinSamples) error {
		t.Samples = slices.Compact(slices.Clone(t.Samples)) // a server without de-duplication may have some twice
		n += uint64(len(t.Samples))
		all = append(all, t)
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("read what stays: %w", err)
	}
	return all, n, nil
}

// enqueue puts samples into the queue, as they are.
func (r *Remote) enqueue(all []storage.TwinSamples) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	b := boundsAt(time.Now(), r.o.Retention)
	r.req.reset()
	for i := range all {
		if err := r.put(&all[i], b); err != nil {
			return err
		}
	}
	return r.flush(1, 0)
}

// flushServer has the server show all samples that it has taken.
func (r *Remote) flushServer(ctx context.Context) error {
	return r.command(ctx, "/internal/force_flush", nil)
}

func (r *Remote) deleteSeries(ctx context.Context, match string) error {
	return r.command(ctx, "/api/v1/admin/tsdb/delete_series", url.Values{"match[]": {match}})
}

// command asks the server for something that not each server does.
func (r *Remote) command(ctx context.Context, path string, args url.Values) error {
	body, err := r.ask(ctx, r.patient, request(path, args))
	if err == nil {
		_, err = io.Copy(io.Discard, io.LimitReader(body, 1<<20))
		_ = body.Close()
		return err
	}
	var status *statusError
	if !errors.As(err, &status) || status.code >= 500 && status.code != 501 {
		return fmt.Errorf("retention on the metrics server: %w", err)
	}
	return fmt.Errorf("%w (%s: status %d: %s): let --metrics-url reach a VictoriaMetrics of one node, without -deleteAuthKey and -forceFlushAuthKey or by a vmauth that adds them; or take the rules for samples away (pollux retention set) and set the server's own -retentionPeriod",
		ErrCurate, path, status.code, status.text)
}

// labels gives the values of a label in the server's series.
func (r *Remote) labels(ctx context.Context, name string, before int64, of ...string) ([]string, error) {
	match := Metric + "{"
	for i := 0; i < len(of); i += 2 {
		match += of[i] + "=" + quote(of[i+1]) + ","
	}
	return r.labelsOf(ctx, name, before, match+"}")
}

func (r *Remote) labelsOf(ctx context.Context, name string, before int64, match string) ([]string, error) {
	body, err := r.fetch(ctx, request("/api/v1/label/"+name+"/values", url.Values{"match[]": {match},
		"start": {seconds(max(0, boundsAt(time.Now(), r.o.Retention).min))}, "end": {seconds(before)}}))
	if err != nil {
		return nil, fmt.Errorf("list series: %w", err)
	}
	defer body.Close()
	var answer struct{ Data []string }
	if err := json.NewDecoder(io.LimitReader(body, longLabels)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("list series: %w", answerBroken(ctx, err))
	}
	slices.Sort(answer.Data)
	return answer.Data, nil
}

// hasRolled says whether the server may have aggregates of a project.
func (r *Remote) hasRolled(project string) bool {
	return r.rolled.ask(project, rolledAgain, func() (bool, error) {
		ctx, cancel := context.WithTimeout(context.Background(), probeWait)
		defer cancel()
		found, err := r.labelsOf(ctx, "project", time.Now().UnixMilli(), Metric+"{project="+quote(project)+",property=~"+quote(withAggregates)+"}")
		return len(found) > 0, err
	})
}
