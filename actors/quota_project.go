package actors

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/polluxhq/pollux/actors/automation"
	"github.com/polluxhq/pollux/actors/topic"
	actorv1 "github.com/polluxhq/pollux/proto/pollux/actor/v1"
	pb "github.com/polluxhq/pollux/proto/pollux/v1"
	"github.com/polluxhq/pollux/storage"
)

// What a project's quotas are of; see pb.ProjectQuotas.
const (
	QuotaTwins        = "twins"
	QuotaSeries       = "series"
	QuotaJournalBytes = "journal_bytes"
	QuotaTopicBytes   = "topic_bytes"
)

// ErrQuota: the project has as many as its quota allows.
var ErrQuota = errors.New("the project's quota is used up")

const (
	// quotaWarn is the part of a quota, in per cent, at which an alarm is raised, and quotaCalm the one below which it is cleared.
	quotaWarn = 80
	quotaCalm = 75
)

// QuotaLimits are a project's quotas by resource; those that it has not are not there.
func QuotaLimits(q *pb.ProjectQuotas) map[string]uint64 {
	all := map[string]uint64{QuotaTwins: q.GetTwins(), QuotaSeries: q.GetSeries(), QuotaJournalBytes: q.GetJournalBytes(), QuotaTopicBytes: q.GetTopicBytes()}
	for resource, limit := range all {
		if limit == 0 {
			delete(all, resource)
		}
	}
	return all
}

// ProjectTwins counts the twins of a project; with very many the figure may be some seconds old.
func (r *Registry) ProjectTwins(project string) (uint64, error) {
	c, err := r.count("twins of "+project, false, func() (map[string]uint64, error) {
		n, err := r.store.Count(tableTwins, project+"/")
		return map[string]uint64{"": uint64(n)}, err
	})
	return c[""], err
}

// ProjectTopicBytes adds up what a project's topics hold.
func (r *Registry) ProjectTopicBytes(project string) (uint64, error) {
	c, err := r.topicBytes(project)
	return c[topicsAll], err
}

// A count of a project's topics is of what all hold together, and of the most that one may hold so that they keep to the quota.
const (
	topicsAll  = ""
	topicsEach = "each"
)

// topicBytes is how much a project's topics hold, and may hold, at one moment, which may be some past.
func (r *Registry) topicBytes(project string) (map[string]uint64, error) {
	return r.count("topics of "+project, false, func() (map[string]uint64, error) {
		c := map[string]uint64{}
		var sizes []uint64
		for rec, err := range r.store.Scan(topic.TableTails, project+"/", "") {
			if err != nil {
				return nil, fmt.Errorf("read topics: %w", err)
			}
			tail := &actorv1.TopicRecord{}
			if err := proto.Unmarshal(rec.Value, tail); err != nil {
				return nil, fmt.Errorf("topic %s: %w", rec.Key, err)
			}
			sizes = append(sizes, tail.Bytes)
			c[topicsAll] += tail.Bytes
		}
		s, err := r.projectSettings(project)
		if err != nil {
			return nil, err
		}
		c[topicsEach] = ^uint64(0)
		if limit := s.GetQuotas().GetTopicBytes(); limit > 0 {
			c[topicsEach] = evenShare(sizes, limit)
		}
		return c, nil
	})
}

// evenShare is the most that one may have so that all together have no more than limit: what those leave that have less than an even part,
// the others share (max-min fairness). To hold all to it, in any order and again, changes it no more. It sorts the sizes.
func evenShare(sizes []uint64, limit uint64) uint64 {
	slices.Sort(sizes)
	for i, size := range sizes {
		even := limit / uint64(len(sizes)-i)
		if size > even {
			return even
		}
		limit -= size
	}
	return ^uint64(0)
}

// checkTwinQuota says whether a project may have one more twin, beside so many that are made with it. Those that others make at the same moment
// are not seen.
func (r *Registry) checkTwinQuota(project string, more uint64) error {
	s, err := r.projectSettings(project)
	if err != nil || s.GetQuotas().GetTwins() == 0 {
		return err
	}
	limit := s.Quotas.Twins
	n, err := r.ProjectTwins(project)
	if err == nil && n+limit/8+1000 >= limit { // that figure may be some moments old, which does where there is room
		var exact int
		exact, err = r.store.Count(tableTwins, project+"/")
		n = uint64(exact)
	}
	if err != nil {
		return fmt.Errorf("count the twins of %s: %w", project, err)
	}
	if n += more; n >= limit {
		return fmt.Errorf("project %s has %d twins of %d: %w", project, n, limit, ErrQuota)
	}
	return nil
}

// topicShare is how many bytes a topic may hold for the project's quota.
func (r *Registry) topicShare(id string) uint64 {
	s, err := r.projectSettings(ProjectOf(id))
	if err != nil || s.GetQuotas().GetTopicBytes() == 0 {
		return ^uint64(0)
	}
	held, err := r.topicBytes(ProjectOf(id))
	if err != nil {
		return ^uint64(0)
	}
	return held[topicsEach]
}

// Settled calls fn with the settings of each project that has some.
func (r *Registry) Settled(fn func(*pb.ProjectSettings) error) error {
	for rec, err := range r.store.Scan(tableProjects, "", "") {
		if err != nil {
			return fmt.Errorf("read settings of projects: %w", err)
		}
		s, err := decode(rec, &pb.ProjectSettings{})
		if err != nil {
			return err
		}
		s.Project = rec.Key
		if err := fn(s); err != nil {
			return err
		}
	}
	return nil
}

// TellQuota raises the alarm PROJECT/quota-RESOURCE at 80 % of a quota, a graver one when it is reached, and clears it below 75 %.
// The journal has an entry of kind quota each time. Where all is as it was it does nothing. One node does so at a time.
func (r *Registry) TellQuota(ctx context.Context, project, resource string, used, limit uint64) error {
	id := project + "/quota-" + strings.ReplaceAll(resource, "_", "-")
	alarm, err := get(r.store, automation.TableAlarms, id, &pb.Alarm{})
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	severity, said := pb.AlarmSeverity_ALARM_SEVERITY_UNSPECIFIED, "cleared"
	switch part := float64(used) / float64(max(1, limit)) * 100; {
	case limit > 0 && part >= 100:
		severity, said = pb.AlarmSeverity_ALARM_SEVERITY_ERROR, "reached"
	case limit > 0 && part >= quotaWarn:
		severity, said = pb.AlarmSeverity_ALARM_SEVERITY_WARNING, "warning"
	case limit > 0 && part >= quotaCalm && alarm.GetActive():
		return nil
	}
	text := fmt.Sprintf("the project takes %s of its quota of %s", quotaText(resource, used), quotaText(resource, limit))
	if limit == 0 {
		text = "the project has no quota of " + strings.ReplaceAll(resource, "_", " ") + " any more"
	}
	switch {
	case said == "cleared" && !alarm.GetActive(), alarm.GetActive() && alarm.Severity == severity:
		return nil
	case said == "cleared":
		_, err = r.e.automation.ClearAlarm(ctx, id, "quota", text)
	default:
		_, err = r.e.automation.RaiseAlarm(ctx, automation.Raise{ID: id, Text: text, By: "quota", Severity: severity})
	}
	if err != nil {
		return fmt.Errorf("alarm %s: %w", id, err)
	}
	if !r.e.cluster.JournalRead() {
		return nil
	}
	data, err := json.Marshal(map[string]any{"state": said, "used": used, "limit": limit})
	if err != nil {
		return err
	}
	_, err = r.store.Commit(ctx, &storage.Txn{Journal: []storage.JournalEntry{{Project: project, Kind: journalQuota, Name: resource, Time: r.e.nowMS(), Data: data}}})
	return err
}

// quotaText writes a number of a resource, bytes in a unit for eyes.
func quotaText(resource string, n uint64) string {
	what, bytes := map[string]string{QuotaJournalBytes: "journal", QuotaTopicBytes: "topics"}[resource]
	if !bytes {
		return fmt.Sprintf("%d %s", n, resource)
	}
	unit := 0
	for ; n >= 10<<10 && unit < 3; unit++ {
		n >>= 10
	}
	return fmt.Sprintf("%d %s of %s", n, []string{"B", "KiB", "MiB", "GiB"}[unit], what)
}

// QuotaWarnings are the texts of the quotas' alarms whose reason is there, of the projects that the caller may see.
func (r *Registry) QuotaWarnings(projects func(string) bool) (texts []string, err error) {
	err = r.Settled(func(s *pb.ProjectSettings) error {
		if projects != nil && !projects(s.Project) {
			return nil
		}
		for resource := range QuotaLimits(s.Quotas) {
			m, err := get(r.store, automation.TableAlarms, s.Project+"/quota-"+strings.ReplaceAll(resource, "_", "-"), &pb.Alarm{})
			if err == nil && m.Active {
				texts = append(texts, s.Project+": "+m.Text)
			}
		}
		return nil
	})
	return texts, err
}
