package actors

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/polluxhq/pollux/actors/analytics"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

const (
	// tableDetectors: id → pb.Detector.
	tableDetectors storage.Table = "detector"
	// tableTraining: twin, zero, what stands for the detector (detector.who) → output, one, property, zero, what changes with each reading; and with a
	// zero behind it → what rarely changes.
	tableTraining storage.Table = "training"

	// maxDetectors of a project, and maxJudges of a twin.
	maxDetectors = 1000
	maxJudges    = 16
	// sweepPause gathers changes of detectors; settlePause is how long a node that starts leaves twins of detectors that are gone.
	sweepPause  = 50 * time.Millisecond
	settlePause = 10 * time.Second
	// sweepRate is how many twins a second are woken because of a change.
	sweepRate = 2000
)

// detector is a record, ready to judge.
type detector struct {
	*pb.Detector
	// who stands for it in what is kept for it: its name, and when it was made, so that one that is made anew under its id has nothing of it.
	who      string
	settings analytics.Settings
	output   string
	names    []string // of its properties, as the outputs of its kind
	broken   error
}

// detectors are the records of all detectors. Safe for concurrent use.
type detectors struct {
	e *Engine
	// generation rises with each change; without detectors a reading costs an atomic load.
	generation atomic.Uint64
	count      atomic.Int64
	wake       chan struct{}

	loading   sync.Mutex // whoever reads later keeps what it read
	mu        sync.Mutex
	byProject map[string][]*detector // sorted by id
	dirty     map[string]bool        // since the last sweep: ids, and whether they have changed, or only who is where
}

func newDetectors(e *Engine) *detectors {
	return &detectors{e: e, wake: make(chan struct{}, 1), byProject: map[string][]*detector{}, dirty: map[string]bool{}}
}

// compileDetector makes a detector ready. What is wrong with it is an *analytics.FieldError.
func compileDetector(m *pb.Detector) (*detector, error) {
	d := &detector{Detector: m, who: NameOf(m.Id), output: m.Output}
	if m.CreateTime != nil {
		d.who += fmt.Sprintf("@%x", m.CreateTime.AsTime().UnixNano())
	}
	s := analytics.Settings{Kind: analytics.Kind(m.Kind), Threshold: m.Threshold, Window: m.Window.AsDuration(), Readings: int(m.Readings), Tolerance: m.Tolerance}
	if m.TimeZone != "" {
		zone, err := time.LoadLocation(m.TimeZone)
		if err != nil || m.TimeZone == "Local" {
			return d, &analytics.FieldError{Field: "time_zone", Reason: fmt.Sprintf("%q is none of the IANA's, such as Europe/Berlin", m.TimeZone)}
		}
		s.Zone = zone
	}
	s, err := s.Complete()
	if err != nil {
		return d, err
	}
	d.settings = s
	switch module := s.Kind == analytics.Module; {
	case module && m.Logic == "":
		return d, &analytics.FieldError{Field: "logic", Reason: "is missing: whose run judges?"}
	case !module && m.Logic != "":
		return d, &analytics.FieldError{Field: "logic", Reason: "is of kind module: " + s.Kind.String() + " judges by itself"}
	}
	if d.output == "" {
		d.output = wordOf(m.Property) + "_" + s.Kind.String()
		if s.Kind == analytics.Module {
			d.output = wordOf(m.Property) + "_" + wordOf(NameOf(m.Logic))
		}
	}
	for _, o := range s.Kind.Outputs() {
		d.names = append(d.names, d.output+"_"+string(o))
	}
	if n := len(d.output) + len("_expected"); n > 128 {
		return d, &analytics.FieldError{Field: "output", Reason: fmt.Sprintf("its properties would have names of %d bytes, 128 are allowed; give a shorter one", n)}
	}
	if slices.Contains(d.names, m.Property) {
		return d, &analytics.FieldError{Field: "output", Reason: fmt.Sprintf("it would write %s, which it reads", m.Property)}
	}
	return d, nil
}

// wordOf makes a property's name the beginning of one that expressions can say without brackets.
func wordOf(property string) string {
	word := strings.Map(func(r rune) rune {
		if r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return '_'
	}, property)
	if word[0] >= '0' && word[0] <= '9' {
		return "_" + word
	}
	return word
}

// load reads all detectors. They are few, and read anew whenever one changes.
func (x *detectors) load() error {
	x.loading.Lock()
	defer x.loading.Unlock()
	all, n := map[string][]*detector{}, 0
	for rec, err := range x.e.store.Scan(tableDetectors, "", "") {
		if err != nil {
			return fmt.Errorf("read detectors: %w", err)
		}
		m, err := decode(rec, &pb.Detector{})
		if err != nil {
			return err
		}
		d, err := compileDetector(m)
		d.broken = err
		all[ProjectOf(rec.Key)] = append(all[ProjectOf(rec.Key)], d)
		n++
	}
	x.mu.Lock()
	x.byProject = all
	x.mu.Unlock()
	x.count.Store(int64(n))
	x.generation.Add(1)
	return nil
}

// lost reads all anew, and has all twins that it may concern look.
func (x *detectors) lost() {
	if err := x.load(); err != nil {
		x.e.log.Error("detectors", "err", err)
	}
	x.mark("", true)
}

// regrouped: a zone or a system of a project is another one, and so may be whom detectors are for.
func (x *detectors) regrouped(project string) {
	for _, d := range x.of(project) {
		if d.Of.GetZone() != "" || d.Of.GetSystem() != "" {
			x.mark(d.Id, false)
		}
	}
}

// trained says whether a twin has learned for a detector.
func (x *detectors) trained(twin string) bool {
	if x.count.Load() == 0 {
		return false // what is left is swept
	}
	for range x.e.store.Scan(tableTraining, twin+"\x00", "") {
		return true
	}
	return false
}

func (x *detectors) changed(c storage.Change) {
	if err := x.load(); err != nil {
		x.e.log.Error("detectors", "err", err)
	}
	x.mark(c.Key, true)
}

func (x *detectors) mark(id string, changed bool) {
	x.mu.Lock()
	x.dirty[id] = x.dirty[id] || changed
	x.mu.Unlock()
	signal(x.wake)
}

// of gives a project's detectors.
func (x *detectors) of(project string) []*detector {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.byProject[project]
}

// find gives a detector, or nil.
func (x *detectors) find(id string) *detector {
	all := x.of(ProjectOf(id))
	if i := slices.IndexFunc(all, func(d *detector) bool { return d.Id == id }); i >= 0 && all[i].broken == nil {
		return all[i]
	}
	return nil
}

// key changes with whatever decides which detectors a twin has: each part only ever rises.
func (x *detectors) key(c *config) uint64 {
	return x.generation.Load() + c.revision + x.e.store.Version(tableZones) + x.e.store.Version(tableSystems)
}

// run wakes twins for which a change matters although nothing is read: those that have learned for a detector that is gone, and those
// whose silence is to be judged.
func (x *detectors) run() {
	settled := time.After(settlePause) // what a node that died had yet to look at
	for {
		select {
		case <-x.e.ctx.Done():
			return
		case <-settled:
		case <-x.wake:
		}
		if !x.e.pause(sweepPause) {
			return
		}
		x.mu.Lock()
		dirty := x.dirty
		x.dirty = map[string]bool{}
		x.mu.Unlock()
		if !x.sweepTraining() {
			return
		}
		x.sweepCells()
		for id, changed := range dirty {
			if id != "" && !x.sweepTwins(id, changed) {
				return
			}
		}
	}
}

// sweepTraining wakes the twins of this node with training that is nobody's any more, or of a detector that is paused or not for them. It says
// whether the engine lives.
func (x *detectors) sweepTraining() bool {
	last, n := "", 0
	for rec, err := range x.e.store.Scan(tableTraining, "", "") {
		if err != nil {
			x.e.log.Error("training", "err", err)
			break
		}
		twin, who := splitTraining(rec.Key)
		if twin == last || x.e.owned[x.e.slotOf(twin)].Load() == nil {
			continue
		}
		all := x.of(ProjectOf(twin))
		if i := slices.IndexFunc(all, func(d *detector) bool { return d.who == who }); i >= 0 && !all[i].Paused &&
			(all[i].Of == nil || x.e.world.Matches(ProjectOf(twin), all[i].Of, twin)) {
			continue
		}
		last = twin
		x.e.activate(twin, &redetect{})
		if n++; n%(sweepRate/10) == 0 && !x.e.pause(100*time.Millisecond) {
			return false
		}
	}
	return x.e.ctx.Err() == nil
}

// sweepTwins wakes the twins of this node that a detector of silence is for; where it has not changed those that have learned nothing for it yet. It
// says whether the engine lives.
func (x *detectors) sweepTwins(id string, changed bool) bool {
	project := ProjectOf(id)
	all := x.of(project)
	i := slices.IndexFunc(all, func(d *detector) bool { return d.Id == id })
	if i < 0 || all[i].settings.Kind != analytics.Missing || all[i].Paused {
		return x.e.ctx.Err() == nil
	}
	n := 0
	for rec, err := range x.e.store.Scan(tableTwins, project+"/", "") {
		if err != nil {
			x.e.log.Error("detectors", "err", err)
			break
		}
		if x.e.owned[x.e.slotOf(rec.Key)].Load() == nil {
			continue
		}
		t, err := decodeTwin(rec)
		if err != nil || !x.e.world.matches(project, all[i].Of, t) {
			continue
		}
		if _, there, _ := x.e.store.Get(tableTraining, trainingKey(rec.Key, all[i].who)); there && !changed {
			continue
		}
		x.e.activate(rec.Key, &redetect{})
		if n++; n%(sweepRate/10) == 0 && !x.e.pause(100*time.Millisecond) {
			return false
		}
	}
	return x.e.ctx.Err() == nil
}

// splitTraining gives the twin of a record of training, and who stands for the detector.
func splitTraining(key string) (twin, who string) {
	twin, who, _ = strings.Cut(key, "\x00")
	return twin, strings.TrimSuffix(who, "\x00")
}

// scope is for whom alone a logic keeps what it keeps for the detector.
func (d *detector) scope() string { return detectorScope + ProjectOf(d.Id) + "/" + d.who }

// detectorScope begins the scopes of detectors.
const detectorScope = "detector/"
