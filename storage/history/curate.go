package history

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/app/vmstorage"
	vm "github.com/VictoriaMetrics/VictoriaMetrics/lib/storage"
	"github.com/VictoriaMetrics/metrics"
)

const (
	// countedAtOnce is how many twins' samples are counted by one query.
	countedAtOnce = 30
	// rewriteAtOnce is about how many samples are written anew while inserts and queries wait; a single series may have more.
	rewriteAtOnce = 100_000
	// curateRest, times what the step before took, is the pause after it in this process: devices and people go first.
	curateRest = 3
	// minSlack and maxSlack bound how much older than its rule a sample may become before its series is written anew.
	minSlack = 10 * time.Minute
	maxSlack = 7 * 24 * time.Hour
)

// Curation is what a run of Curate did, or one of Expired would do.
type Curation struct {
	// Seen are the series that were looked at, Series those with samples that went.
	Seen, Series uint64
	// Samples that went; Rolled of them are in aggregates. Kept are those that were written anew.
	Samples, Rolled, Kept uint64
	// Properties gives the samples that went by property.
	Properties map[string]uint64
}

// curated is the file that says up to which time what was curated, by project, model and property.
const curatedFile = "curated.json"

type curated struct {
	Version int                         `json:"version"`
	Cutoffs map[string]map[string]int64 `json:"cutoffs"`
}

// Expired counts, by property, what the rules would let go now, at most what is older than they say; nothing is deleted. It looks at
// each series of the project that has samples so old.
func (e *Embedded) Expired(ctx context.Context, project string, rules SampleRules, now time.Time) (Curation, error) {
	return e.curation(ctx, project, rules, now, false, nil)
}

// Curate lets go what is older than the rules of a project say, by writing series anew: VictoriaMetrics deletes whole series only. It
// does so where a quarter more than a rule's age has come together (at least 10 minutes, at most a week), so that a sample is written
// a few times in its life and not each time. It blocks for as long as that takes, with pauses; what is done when ctx ends stays done.
// Series are handled in small groups, for which inserts and queries wait. After a crash the group is finished by the next start. progress,
// where not nil, is told with each property what was done by then.
func (e *Embedded) Curate(ctx context.Context, project string, rules SampleRules, now time.Time, progress func(property string, c Curation)) (Curation, error) {
	return e.curation(ctx, project, rules, now, true, progress)
}

func (e *Embedded) curation(ctx context.Context, project string, rules SampleRules, now time.Time, do bool, progress func(string, Curation)) (Curation, error) {
	if err := e.enter(); err != nil {
		return Curation{}, err
	}
	defer e.leave()
	ctx, cancel := e.lasting(ctx)
	defer cancel()
	if !do { // series that are written anew just now would not be counted
		e.moving.RLock()
		defer e.moving.RUnlock()
	}
	e.freshen()
	c := &curator{dir: e.o.Dir, retention: e.o.Retention, query: &e.query, rewrite: e.rewrite, reclaim: e.reclaim, rest: curateRest,
		rewritten: e.o.Metrics.GetOrCreateCounter("pollux_history_curated_series_total"),
		labels: func(_ context.Context, name string, before int64, of ...string) ([]string, error) {
			return e.labels(name, filters(of...), before)
		}}
	return c.run(ctx, project, rules, now, do, progress)
}

// kindOfSeries are the series of a project of one property and one model.
type kindOfSeries struct{ project, model, property string }

func (k kindOfSeries) key() string { return k.model + "\x00" + k.property }

// curator is what retention is made of, for both kinds of history.
type curator struct {
	dir       string
	retention time.Duration
	query     *querier
	rewritten *metrics.Counter
	// rest, times what a group of series took, is the pause after it.
	rest time.Duration
	// labels gives the values, sorted, that a label has in series with samples from before a time and with the labels given, which come with
	// their values one after the other.
	labels func(ctx context.Context, name string, before int64, of ...string) ([]string, error)
	// rewrite lets the samples of some twins' series from before a time go.
	rewrite func(ctx context.Context, k kindOfSeries, twins []string, cutoff int64, step time.Duration, c *Curation) error
	// reclaim, where not nil, frees the disk of months.
	reclaim func(ctx context.Context, months map[string]bool)
}

func (w *curator) run(ctx context.Context, project string, rules SampleRules, now time.Time, do bool, progress func(string, Curation)) (c Curation, err error) {
	c.Properties = map[string]uint64{}
	if len(rules.List) == 0 {
		return c, nil
	}
	state, err := w.readCurated()
	if err != nil {
		return c, err
	}
	kinds, err := w.kindsOf(ctx, project, now)
	if err != nil {
		return c, err
	}
	months := map[string]bool{}
	for _, k := range kinds {
		age, step, ok := rules.ageOf(k.model, k.property)
		if !ok {
			continue
		}
		cutoff := now.Add(-age).UnixMilli()
		if step > 0 {
			cutoff -= cutoff%step.Milliseconds() - 1 // whole steps go, and the end of one is its own
		}
		before := state.Cutoffs[project][k.key()]
		if slack := min(max(age/4, minSlack), maxSlack); do && cutoff-before < slack.Milliseconds() && cutoff >= before {
			continue
		}
		if progress != nil {
			progress(k.property, c)
		}
		went := c.Samples
		if err := w.curateKind(ctx, k, cutoff, step, do, &c); err != nil {
			return c, fmt.Errorf("curate %s of %s: %w", k.property, project, err)
		}
		if !do {
			continue
		}
		if c.Samples > went {
			for at := max(before, cutoff-62*24*time.Hour.Milliseconds()); at <= cutoff; at += 24 * time.Hour.Milliseconds() {
				months[time.UnixMilli(at).UTC().Format("2006_01")] = true
			}
		}
		if state.Cutoffs[project] == nil {
			state.Cutoffs[project] = map[string]int64{}
		}
		state.Cutoffs[project][k.key()] = cutoff
		if err := w.writeCurated(state); err != nil {
			return c, err
		}
	}
	delete(months, now.UTC().Format("2006_01")) // of this month VictoriaMetrics makes new parts all the time
	if w.reclaim != nil {
		w.reclaim(ctx, months)
	}
	return c, nil
}

// curateKind looks at the series of one property and model.
func (w *curator) curateKind(ctx context.Context, k kindOfSeries, cutoff int64, step time.Duration, do bool, c *Curation) error {
	twins, err := w.labels(ctx, "twin", cutoff, "project", k.project, "model", k.model, "property", k.property)
	if err != nil {
		return err
	}
	first := boundsAt(time.Now(), w.retention).min
	for some := range slices.Chunk(twins, countedAtOnce) {
		began := time.Now()
		c.Seen += uint64(len(some))
		match := k.match(some)
		old, err := w.counts(ctx, match, first, cutoff-1)
		if err != nil {
			return err
		}
		all := old
		if do && len(old) > 0 {
			if all, err = w.counts(ctx, match, first, time.Now().Add(futureRetention).UnixMilli()); err != nil {
				return err
			}
		}
		var group []string
		size := 0.
		for i, twin := range some {
			if n := old[twin]; n > 0 {
				group = append(group, twin)
				size += all[twin]
				c.Series++
				c.Samples += uint64(n)
				c.Properties[k.property] += uint64(n)
			}
			if !do || len(group) == 0 || size < rewriteAtOnce && i < len(some)-1 {
				continue
			}
			at := time.Now()
			if err := w.rewrite(ctx, k, group, cutoff, step, c); err != nil {
				return err
			}
			w.rewritten.Add(len(group))
			if sleep(ctx, w.rest*time.Since(at)); ctx.Err() != nil {
				return ctx.Err()
			}
			group, size = nil, 0
		}
		if do {
			sleep(ctx, time.Since(began)/4)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// match selects the series of twins.
func (k *kindOfSeries) match(twins []string) string {
	return Metric + "{project=" + quote(k.project) + ",model=" + quote(k.model) + ",property=" + quote(k.property) + oneOf("twin", twins) + "}"
}

// counts gives how many samples each twin has from first to last, both included.
func (w *curator) counts(ctx context.Context, match string, first, last int64) (map[string]float64, error) {
	all, _, err := w.query.matrix(ctx, "sum(count_over_time(%s)) by (twin)", match, last, last-first+1, 1)
	if err != nil {
		return nil, err
	}
	out := make(map[string]float64, len(all))
	for twin, v := range all {
		if len(v) > 0 && !math.IsNaN(v[0]) {
			out[twin] = v[0]
		}
	}
	return out, nil
}

// filters of labels, which come with their values one after the other.
func filters(labels ...string) []vm.TagFilter {
	out := []vm.TagFilter{{Value: []byte(Metric)}}
	for i := 0; i < len(labels); i += 2 {
		out = append(out, vm.TagFilter{Key: []byte(labels[i]), Value: []byte(labels[i+1])})
	}
	return out
}

// maxSeries is no limit.
const maxSeries = 1 << 30

// labels gives the values that a label has in series with samples from before a time.
func (e *Embedded) labels(name string, of []vm.TagFilter, before int64) (values []string, err error) {
	q := vm.NewSearchQuery(boundsAt(time.Now(), e.o.Retention).min, before, [][]vm.TagFilter{of}, maxSeries)
	if gerr := guarded("list series", func() {
		values, err = vmstorage.VMSelectAPI.LabelValues(nil, q, name, maxSeries, uint64(time.Now().Add(time.Minute).Unix()))
	}); gerr != nil {
		err = gerr
	}
	if err != nil {
		return nil, fmt.Errorf("list series: %w", err)
	}
	slices.Sort(values)
	return values, nil
}

// kindsOf gives the properties and models of a project.
func (w *curator) kindsOf(ctx context.Context, project string, now time.Time) (kinds []kindOfSeries, err error) {
	properties, err := w.labels(ctx, "property", now.UnixMilli(), "project", project)
	if err != nil {
		return nil, err
	}
	for _, p := range properties {
		models, err := w.labels(ctx, "model", now.UnixMilli(), "project", project, "property", p)
		if err != nil {
			return nil, err
		}
		for _, m := range append(models, "") {
			kinds = append(kinds, kindOfSeries{project, m, p})
		}
	}
	return kinds, nil
}

func (w *curator) readCurated() (*curated, error) {
	s := &curated{Version: 1, Cutoffs: map[string]map[string]int64{}}
	text, err := os.ReadFile(filepath.Join(w.dir, curatedFile))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, s)
	}
	if err == nil && s.Version != 1 {
		err = ErrNewer
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", curatedFile, err)
	}
	return s, nil
}

func (w *curator) writeCurated(s *curated) error {
	text, err := json.Marshal(s)
	if err == nil {
		err = writeSynced(filepath.Join(w.dir, curatedFile), text)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", curatedFile, err)
	}
	return nil
}
