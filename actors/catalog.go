package actors

import (
	"cmp"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/polluxhq/pollux/actors/model"
	"github.com/polluxhq/pollux/actors/pool"
	"github.com/polluxhq/pollux/drivers"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
)

// spec is a driver's version as its record describes it, parsed. Immutable but for key, the pool's queue of its
// calls, and complaints.
type spec struct {
	name, version, digest string
	manifest              drivers.Manifest
	model                 *drivers.Model
	// thing is what a twin without a driver has in place of one; nil: there is a driver.
	thing      *model.Model
	title      string
	key        pool.Key
	complaints complaints
	// meter measures what all twins of the version use of the driver's quotas.
	meter meter
	// asking counts the calls that wait for another twin.
	asking atomic.Int32
	// tally counts what this node's twins of the version do; nil in a spec that is only looked at.
	tally *tally
	// traceSecrets match what the driver computes from secrets.
	traceSecrets []*regexp.Regexp
}

func parseSpec(d *pb.Driver) (*spec, error) {
	m, err := drivers.DecodeManifest([]byte(d.ManifestJson))
	if err != nil {
		return nil, fmt.Errorf("driver %s %s: manifest: %w", d.Name, d.Version, err)
	}
	s := &spec{name: d.Name, version: d.Version, digest: d.Digest, manifest: *m}
	var thing struct {
		Title string `json:"title"`
	}
	if err := json.Unmarshal(s.manifest.Model, &thing); err != nil {
		return nil, fmt.Errorf("driver %s %s: model: %w", d.Name, d.Version, err)
	}
	s.title = cmp.Or(thing.Title, s.manifest.Title)
	for _, t := range s.manifest.Transports {
		for _, text := range t.TraceSecrets {
			re, err := regexp.Compile(text)
			if err != nil {
				return nil, fmt.Errorf("driver %s %s: trace secrets: %w", d.Name, d.Version, err)
			}
			s.traceSecrets = append(s.traceSecrets, re)
		}
	}
	if s.model, err = drivers.NewModel(&s.manifest); err != nil {
		return nil, fmt.Errorf("driver %s %s: %w", d.Name, d.Version, err)
	}
	return s, nil
}

// via gives the transport that a twin's address picks; nil: none.
func (s *spec) via(uri string) *drivers.TransportOptions { return s.manifest.TransportOf(uri) }

// ownBroker says whether a twin of that address speaks through the node's own MQTT broker.
func (s *spec) ownBroker(uri string) bool { return s.via(uri).OwnBroker(uri) }

// dials says whether a twin of that address holds a connection of its own: it is activated when its slot is gained.
func (s *spec) dials(uri string) bool { return s.via(uri).Dials(uri) }

// catalog resolves what twins ask for (`NAME` or `NAME@VERSION`) to driver versions. What it parsed it keeps until the
// driver records change.
type catalog struct {
	store *storage.Store

	mu       sync.Mutex
	change   uint64           // counts changes of the driver records
	resolved map[string]*spec // by reference
	specs    map[string]*spec // by digest: one spec per version, so that its models are shared
	patches  map[string]weak.Pointer[drivers.Model]
	releases map[string]*pb.Release // by driver; nil: it has none
	tallies  map[string]*tally      // by NAME@VERSION, for as long as the engine lives
}

func newCatalog(s *storage.Store) *catalog {
	return &catalog{store: s, resolved: map[string]*spec{}, specs: map[string]*spec{}, patches: map[string]weak.Pointer[drivers.Model]{},
		releases: map[string]*pb.Release{}, tallies: map[string]*tally{}}
}

// parseRef takes a reference apart; version is "" for the newest.
func parseRef(ref string) (name, version string, err error) {
	name, version, pinned := strings.Cut(ref, "@")
	if !namePattern.MatchString(name) || pinned && !versionPattern.MatchString(version) {
		return "", "", invalid("/driver", "%q is not NAME or NAME@VERSION", ref)
	}
	return name, version, nil
}

// resolve gives the version that a reference means now, or ErrNotFound.
func (c *catalog) resolve(ref string) (*spec, error) {
	c.mu.Lock()
	s, change := c.resolved[ref], c.change
	c.mu.Unlock()
	if s != nil {
		return s, nil
	}
	if strings.HasPrefix(ref, modelRef) {
		return c.resolveModel(ref)
	}
	name, version, err := parseRef(ref)
	if err != nil {
		return nil, err
	}
	if version == "" {
		if version, err = c.meant(name); err != nil {
			return nil, err
		}
	}
	d, err := findDriver(c.store, name, version)
	if err != nil {
		return nil, err
	}
	parsed, err := parseSpec(d)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s = c.specs[d.Digest]; s == nil {
		s = parsed
		s.tally = c.tallyLocked(d.Name, d.Version)
		c.specs[d.Digest] = s
	}
	if c.change == change {
		c.resolved[ref] = s
	}
	return s, nil
}

// changed forgets what references mean, after a change of the driver records.
func (c *catalog) changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.change++
	keep := make(map[string]*spec, len(c.resolved))
	for _, s := range c.resolved {
		keep[s.digest] = s
	}
	clear(c.resolved)
	clear(c.releases)
	// Versions that nobody resolved since the last change are parsed anew if they come back.
	c.specs = keep
}

// patched gives a version's model with a twin's patch applied. Twins with the same patch share the model for as long as
// one of them is in memory.
func (c *catalog) patched(s *spec, patch []byte) (*drivers.Model, error) {
	key := s.digest + string(patch)
	c.mu.Lock()
	if p, ok := c.patches[key]; ok {
		if m := p.Value(); m != nil {
			c.mu.Unlock()
			return m, nil
		}
	}
	c.mu.Unlock()
	m, err := s.model.Patch(patch)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.patches) >= maxPatched {
		for k, p := range c.patches {
			if p.Value() == nil {
				delete(c.patches, k)
			}
		}
	}
	if len(c.patches) < maxPatched {
		c.patches[key] = weak.Make(m)
	}
	return m, nil
}

// maxPatched bounds the patched models that are shared; others are a twin's own.
const maxPatched = 4096

// findDriver reads a driver's record; version "" means the newest release, or pre-release where there is no release.
func findDriver(s *storage.Store, name, version string) (*pb.Driver, error) {
	if version != "" {
		rec, ok, err := s.Get(tableDrivers, driverKey(name, version))
		if err != nil {
			return nil, fmt.Errorf("read driver %s@%s: %w", name, version, err)
		}
		if !ok {
			return nil, fmt.Errorf("driver %s@%s: %w", name, version, ErrNotFound)
		}
		return decodeDriver(rec)
	}
	var newest storage.Record
	best := ""
	for rec, err := range s.Scan(tableDrivers, name+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("read drivers %s: %w", name, err)
		}
		v := strings.TrimPrefix(rec.Key, name+"/")
		if newer(v, best) {
			best, newest = v, rec
		}
	}
	if best == "" {
		return nil, fmt.Errorf("driver %s: %w", name, ErrNotFound)
	}
	return decodeDriver(newest)
}

func decodeDriver(rec storage.Record) (*pb.Driver, error) {
	d := &pb.Driver{}
	if err := proto.Unmarshal(rec.Value, d); err != nil {
		return nil, fmt.Errorf("driver record %s: %w", rec.Key, err)
	}
	d.Revision = rec.Revision
	return d, nil
}
