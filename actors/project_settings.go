package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
	"google.golang.org/protobuf/proto"
)

// maxKnown is how many projects' settings a node keeps read.
const maxKnown = 1000

// knownProjects keeps settings as long as no project's change: they are asked for each message. Safe for concurrent use.
type knownProjects struct {
	mu   sync.Mutex // of who writes
	read atomic.Pointer[readProjects]
}

// readProjects are not changed any more.
type readProjects struct {
	version uint64 // of the table of projects
	of      map[string]*pb.ProjectSettings
}

// projectSettings gives a project's settings; those of one that has none are all defaults. The caller must not change them.
func (r *Registry) projectSettings(project string) (*pb.ProjectSettings, error) {
	known, version := &r.projects, r.store.Version(tableProjects)
	if k := known.read.Load(); k != nil && k.version == version {
		if s := k.of[project]; s != nil {
			return s, nil
		}
	}
	s, err := get(r.store, tableProjects, project, &pb.ProjectSettings{})
	if errors.Is(err, ErrNotFound) {
		s, err = &pb.ProjectSettings{Project: project}, nil
	}
	if err != nil {
		return nil, err
	}
	known.mu.Lock()
	defer known.mu.Unlock()
	next := &readProjects{version, map[string]*pb.ProjectSettings{}}
	if k := known.read.Load(); k != nil && k.version == version && len(k.of) < maxKnown {
		next.of = maps.Clone(k.of)
	}
	next.of[project] = s
	known.read.Store(next)
	return s, nil
}

// ProjectSettings says what a project does with messages. A project without settings has the defaults, at revision 0.
func (r *Registry) ProjectSettings(project string) (*pb.ProjectSettings, error) {
	s, err := r.projectSettings(project)
	if err != nil {
		return nil, err
	}
	s = proto.Clone(s).(*pb.ProjectSettings)
	if s.UnknownSenders == pb.UnknownSenders_UNKNOWN_SENDERS_UNSPECIFIED {
		s.UnknownSenders = pb.UnknownSenders_UNKNOWN_SENDERS_INBOX
	}
	return s, nil
}

// PutProjectSettings replaces a project's settings; the revision is the one that was read, 0 where there are none. What a
// rule names must exist.
func (r *Registry) PutProjectSettings(ctx context.Context, s *pb.ProjectSettings) (*pb.ProjectSettings, error) {
	if !namePattern.MatchString(s.GetProject()) {
		return nil, invalid("/settings/project", "%q is no name of a project", s.GetProject())
	}
	s, err := r.wholeProjectSettings(proto.Clone(s).(*pb.ProjectSettings))
	if err != nil {
		return nil, err
	}
	return put(ctx, r, "settings of project", tableProjects, s.Project, s, func() ([]storage.Guard, []storage.Write, error) {
		return nil, nil, nil
	})
}

// wholeProjectSettings checks settings, and completes the ids in them.
func (r *Registry) wholeProjectSettings(s *pb.ProjectSettings) (*pb.ProjectSettings, error) {
	for i, rule := range s.Rules {
		if err := r.checkRule(s.Project, rule, fmt.Sprintf("/settings/rules/%d", i)); err != nil {
			return nil, err
		}
	}
	if s.UnknownSenders == pb.UnknownSenders_UNKNOWN_SENDERS_PROVISION && len(s.Rules) == 0 {
		return nil, invalid("/settings/rules", "twins can be made by rules only: at least one is needed")
	}
	if age, history := timesOf(s).Age, timesOf(s).History; age > history {
		return nil, invalid("/settings/maxAge", "%s is more than history takes, %s: give maxHistoryAge, too", days(age), days(history))
	}
	if err := checkPush(s.PubsubPush); err != nil {
		return nil, err
	}
	if err := CheckJournalRetention("/settings/journalRetention", s.JournalRetention); err != nil {
		return nil, err
	}
	if err := r.freeTopics(s.Project); err != nil {
		return nil, err
	}
	return s, CheckSampleRetention("/settings/sampleRetention", s.SampleRetention)
}

// CheckJournalRetention says what is wrong with rules for the journal; field is where they are in their request.
func CheckJournalRetention(field string, rules []*pb.RetentionRule) error {
	seen := map[[2]string]bool{}
	for i, rule := range rules {
		path, key := fmt.Sprintf("%s/%d", field, i), [2]string{rule.Kind, rule.Name}
		switch {
		case rule.Kind != "" && !slices.Contains(journalKinds, rule.Kind):
			return invalid(path+"/kind", "the journal has no kind %q, but %s", rule.Kind, strings.Join(journalKinds, ", "))
		case rule.Name != "" && rule.Kind == "":
			return invalid(path+"/kind", "is missing: a name is of a kind")
		case rule.MaxAge.AsDuration() <= 0:
			return invalid(path+"/maxAge", "must be more than 0")
		case seen[key]:
			return invalid(path, "there is another rule for kind %q and name %q", rule.Kind, rule.Name)
		}
		seen[key] = true
	}
	return nil
}

// CheckSampleRetention says what is wrong with rules for samples; field is where they are in their request.
func CheckSampleRetention(field string, rules []*pb.SampleRetention) error {
	seen := map[[2]string]bool{}
	for i, rule := range rules {
		path, key := fmt.Sprintf("%s/%d", field, i), [2]string{rule.Model, rule.Property}
		age, step, longer := rule.MaxAge.AsDuration(), rule.Downsample.AsDuration(), rule.DownsampleMaxAge.AsDuration()
		switch {
		case age < time.Hour:
			return invalid(path+"/maxAge", "must be an hour or more")
		case seen[key]:
			return invalid(path, "there is another rule for model %q and property %q", rule.Model, rule.Property)
		case rule.Downsample != nil && (step < time.Second || step > age || step%time.Second != 0):
			return invalid(path+"/downsample", "must be whole seconds, and at most maxAge")
		case rule.Downsample == nil && rule.DownsampleMaxAge != nil:
			return invalid(path+"/downsample", "is missing: downsampleMaxAge is of what it makes")
		case rule.DownsampleMaxAge != nil && longer <= age:
			return invalid(path+"/downsampleMaxAge", "must be more than maxAge")
		}
		seen[key] = true
	}
	return nil
}

// checkPush checks where the keys are of those who push.
func checkPush(p *pb.PubSubPush) error {
	if p.GetKeysUrl() == "" {
		return nil
	}
	u, err := url.Parse(p.KeysUrl)
	if err != nil || u.Host == "" {
		return invalid("/settings/pubsubPush/keysUrl", "%q is no URL", p.KeysUrl)
	}
	ip := net.ParseIP(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return invalid("/settings/pubsubPush/keysUrl", "%q: want https, or http on loopback: who gives the keys decides who may push", p.KeysUrl)
	}
	return nil
}

func (r *Registry) checkRule(project string, rule *pb.ProvisionRule, path string) error {
	if (rule.Driver == "") == (rule.Model == "") {
		return invalid(path, "either a driver or a model is needed")
	}
	if rule.Driver != "" {
		if _, err := r.e.catalog.resolve(rule.Driver); err != nil {
			return invalid(path+"/driver", "there is no driver %q", rule.Driver)
		}
	}
	if rule.Model = withinOrNone(project, rule.Model); rule.Model != "" {
		if _, ok, err := r.store.Get(tableThings, rule.Model); err != nil || !ok || ProjectOf(rule.Model) != project {
			return invalid(path+"/model", "there is no model %s in the project", rule.Model)
		}
	}
	if rule.Zone != "" {
		rule.Zone = within(project, rule.Zone)
		if _, ok, err := r.store.Get(tableZones, rule.Zone); err != nil || !ok || ProjectOf(rule.Zone) != project {
			return invalid(path+"/zone", "there is no zone %s in the project", rule.Zone)
		}
	}
	return checkLabels(rule.Labels)
}
